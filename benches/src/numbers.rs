//! Random card numbers, made while the bench runs, so that none stands in a file.

/// Digits of a number.
pub(crate) const DIGITS: usize = 16;

/// Card numbers that begin with 9, which no card network issues, from a seed (SplitMix64).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, with its check digit.
    pub(crate) fn draw(&mut self) -> [u8; DIGITS] {
        let mut rest = self.random();
        let mut digits = [b'9'; DIGITS];
        for digit in digits.iter_mut().take(DIGITS - 1).skip(1) {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        if let Some((check, others)) = digits.split_last_mut() {
            *check = check_digit(others);
        }
        digits
    }

    /// A text as clients choose for their idempotency keys: letters only, so that no digits resemble a
    /// number.
    pub(crate) fn key(&mut self) -> String {
        let random = self.random();
        (0..u64::BITS).step_by(4).map(|shift| char::from(b'a' + (random >> shift & 0xf) as u8)).collect()
    }

    fn random(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Luhn (ISO/IEC 7812-1): every second digit from the right is doubled, beginning beside the check digit.
fn check_digit(others: &[u8]) -> u8 {
    let worth = |(place, digit): (usize, &u8)| match (place % 2, digit - b'0') {
        (0, digit @ 5..) => digit * 2 - 9,
        (0, digit) => digit * 2,
        (_, digit) => digit,
    };
    let sum: u8 = others.iter().rev().enumerate().map(worth).sum();
    b'0' + (10 - sum % 10) % 10
}

#[cfg(test)]
mod tests {
    use vault_core::data::Pan;

    use super::*;

    #[test]
    fn the_vault_takes_every_number_and_a_seed_gives_the_same_ones() {
        let mut numbers = Numbers::new(7);
        let mut again = Numbers::new(7);
        for _ in 0..1_000 {
            let number = numbers.draw();
            assert_eq!(Pan::parse(&number).unwrap().expose_digits(), number);
            assert_eq!(number, again.draw());
        }
        assert_ne!(Numbers::new(8).draw(), Numbers::new(7).draw());
    }

    #[test]
    fn the_check_digit_is_that_of_a_published_test_number() {
        assert_eq!(check_digit(b"411111111111111"), b'1');
        assert_eq!(check_digit(b"601111111111111"), b'7');
    }
}
