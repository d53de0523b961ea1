//! Numbers and card data from a seed that is printed, so that a failure can be had again.

use vault_core::crypto::{Entropy as _, SystemEntropy};
use vault_proto::v1::value::Kind;
use vault_proto::v1::{Card, Ssn, Value};

/// A generator of numbers for tests: `SplitMix64`. Nothing secret may come from it.
pub struct Seeded(u64);

impl Seeded {
    /// The generator of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// A PAN of so many digits with a correct check digit, of a range given to no network (ISO/IEC 7812: a
    /// leading 9 is for national use), so that it is nobody's.
    pub fn pan(&mut self, digits: usize) -> String {
        self.pan_of("9", digits)
    }

    /// A PAN of so many digits that begins with these and has a correct check digit.
    pub fn pan_of(&mut self, first: &str, digits: usize) -> String {
        let mut pan = first.to_owned();
        while pan.len() + 1 < digits {
            pan.push(self.digit());
        }
        pan.push(check_digit(&pan));
        pan
    }

    /// Nine digits that the SSA may have issued.
    pub fn ssn(&mut self) -> String {
        let area = loop {
            let area = 1 + self.below(899);
            if area != 666 {
                break area;
            }
        };
        format!("{area:03}{:02}{:04}", 1 + self.below(99), 1 + self.below(9_999))
    }

    fn digit(&mut self) -> char {
        char::from(b'0' + u8::try_from(self.below(10)).expect("a digit"))
    }
}

/// The seed of this run: `VAULT_TESTS_SEED`, or a random one.
pub fn seed() -> u64 {
    std::env::var("VAULT_TESTS_SEED").map_or_else(
        |_| {
            let mut random = [0; 8];
            SystemEntropy::new().fill(&mut random).expect("randomness");
            u64::from_be_bytes(random)
        },
        |text| text.parse().expect("a seed"),
    )
}

/// The check digit of ISO/IEC 7812-1, written apart from the vault's own.
fn check_digit(payload: &str) -> char {
    let sum: u32 = payload
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            if place % 2 == 0 { digit * 2 / 10 + digit * 2 % 10 } else { digit }
        })
        .sum();
    char::from_digit((10 - sum % 10) % 10, 10).expect("a digit")
}

/// A PAN as a request carries it.
pub fn card(pan: &str) -> Value {
    Value {
        kind: Some(Kind::Card(Card { pan: pan.as_bytes().to_vec(), expiry: None, cardholder_name: None })),
    }
}

/// An SSN as a request carries it.
pub fn ssn(number: &str) -> Value {
    Value { kind: Some(Kind::Ssn(Ssn { number: number.as_bytes().to_vec() })) }
}

/// The digits of a value, whichever it is.
pub fn digits(value: Option<&Value>) -> &[u8] {
    match value.and_then(|value| value.kind.as_ref()) {
        Some(Kind::Card(card)) => &card.pan,
        Some(Kind::Ssn(ssn)) => &ssn.number,
        None => &[],
    }
}
