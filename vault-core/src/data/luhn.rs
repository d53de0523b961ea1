//! The check digit of ISO/IEC 7812-1, annex B.

/// Whether ASCII digits end in the right check digit. Anything but digits, and nothing at all, is wrong.
pub(crate) fn luhn_holds(digits: &[u8]) -> bool {
    let mut sum = 0_u32;
    for (place, digit) in digits.iter().rev().enumerate() {
        if !digit.is_ascii_digit() {
            return false;
        }
        let weighted = u32::from(digit - b'0') << (place % 2);
        // The digit sum of a two-digit product is the product less nine.
        sum += if weighted > 9 { weighted - 9 } else { weighted };
    }
    !digits.is_empty() && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_s_own_examples_hold() {
        assert!(luhn_holds(b"79927398713"), "the worked example of the algorithm's description");
        let others = (b'0'..=b'9').filter(|check| *check != b'3');
        assert!(others.into_iter().all(|check| !luhn_holds(&[b"7992739871", &[check][..]].concat())));
    }

    #[test]
    fn nothing_and_non_digits_are_wrong() {
        assert_eq!([&b""[..], b"7992739871 3", b"a", b"\xff0"].map(luhn_holds), [false; 4]);
    }
}
