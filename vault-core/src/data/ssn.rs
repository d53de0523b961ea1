//! The United States social security number.

use subtle::ConstantTimeEq;

use crate::data::{Secret, sensitive};
use crate::error::Invalid;
use crate::limits::{SSN_DIGITS, VALUE_INPUT_BYTES_MAX};

/// Where hyphens stand in `ddd-dd-dddd`.
const HYPHENS: [usize; 2] = [3, 6];
const HYPHENATED: usize = SSN_DIGITS + HYPHENS.len();

/// A social security number that the SSA may have issued: nine digits, without hyphens.
pub struct Ssn(Secret<[u8; SSN_DIGITS]>);

impl Ssn {
    /// Reads nine ASCII digits, plain or as `ddd-dd-dddd`.
    ///
    /// # Errors
    /// [`Invalid::SensitiveAuthenticationData`] for track data, [`Invalid::SsnLength`] for any other
    /// character, length or place of a hyphen, [`Invalid::SsnNeverIssued`] for area 000, 666 or 900–999,
    /// group 00 or serial 0000 (SSA, POMS RM 10201.035).
    pub fn parse(input: &[u8]) -> Result<Self, Invalid> {
        if sensitive::track_data(input.get(..VALUE_INPUT_BYTES_MAX).unwrap_or(input)) {
            return Err(Invalid::SensitiveAuthenticationData);
        }
        let mut read = Ok(());
        let ssn = Self(Secret::init_with(|digits: &mut [u8; SSN_DIGITS]| read = copy_digits(input, digits)));
        read?;
        if ssn.may_be_issued() { Ok(ssn) } else { Err(Invalid::SsnNeverIssued) }
    }

    /// The nine ASCII digits.
    pub fn expose_digits(&self) -> &[u8] {
        self.0.expose()
    }

    /// The last four ASCII digits: the serial.
    pub fn last_four(&self) -> [u8; 4] {
        self.expose_digits().last_chunk::<4>().copied().unwrap_or_default()
    }

    /// Whether the last four digits are these, in a time that does not depend on them.
    pub fn same_last_four(&self, last_four: &[u8; 4]) -> bool {
        self.last_four().ct_eq(last_four).into()
    }

    fn may_be_issued(&self) -> bool {
        let [a1, a2, a3, g1, g2, serial @ ..] = self.0.expose();
        let area_issued = !matches!([a1, a2, a3], [b'0', b'0', b'0'] | [b'6', b'6', b'6'] | [b'9', ..]);
        area_issued && [g1, g2] != [&b'0', &b'0'] && serial != b"0000"
    }
}

fn copy_digits(input: &[u8], digits: &mut [u8; SSN_DIGITS]) -> Result<(), Invalid> {
    let hyphenated = match input.len() {
        SSN_DIGITS => false,
        HYPHENATED => true,
        _ => return Err(Invalid::SsnLength),
    };
    let mut places = digits.iter_mut();
    for (at, byte) in input.iter().enumerate() {
        if hyphenated && HYPHENS.contains(&at) {
            if *byte != b'-' {
                return Err(Invalid::SsnLength);
            }
        } else if byte.is_ascii_digit() {
            *places.next().ok_or(Invalid::SsnLength)? = *byte;
        } else {
            return Err(Invalid::SsnLength);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(input: &str) -> Option<Invalid> {
        Ssn::parse(input.as_bytes()).err()
    }

    #[test]
    fn every_area_is_judged_by_the_published_rule() {
        for area in 0..=999 {
            let never = area == 0 || area == 666 || area >= 900;
            for rest in ["010001", "999999", "450001"] {
                let expected = never.then_some(Invalid::SsnNeverIssued);
                assert_eq!(refusal(&format!("{area:03}{rest}")), expected, "{area}");
            }
        }
    }

    #[test]
    fn every_group_and_serial_is_judged_by_the_published_rule() {
        for group in 0..=99 {
            let expected = (group == 0).then_some(Invalid::SsnNeverIssued);
            assert_eq!(refusal(&format!("123{group:02}6789")), expected, "{group}");
        }
        for serial in 0..=9999 {
            let expected = (serial == 0).then_some(Invalid::SsnNeverIssued);
            assert_eq!(refusal(&format!("12345{serial:04}")), expected, "{serial}");
        }
    }

    #[test]
    fn the_edges_meet() {
        let edges = [("001010001", true), ("665999999", true), ("667010001", true), ("899999999", true)];
        let beyond = [("000010001", false), ("666010001", false), ("900010001", false), ("999999999", false)];
        for (ssn, issued) in
            edges.into_iter().chain(beyond).chain([("001000001", false), ("001010000", false)])
        {
            assert_eq!(refusal(ssn).is_none(), issued, "{ssn}");
        }
    }

    #[test]
    fn hyphens_stand_after_the_third_and_fifth_digit_or_nowhere() {
        let ssn = Ssn::parse(b"123-45-6789").unwrap();
        assert_eq!(ssn.expose_digits(), b"123456789");
        assert_eq!(ssn.last_four(), *b"6789");
        assert!(ssn.same_last_four(b"6789") && !ssn.same_last_four(b"6780"));
        let bad = [
            "",
            "12345678",
            "1234567890",
            "123 45 6789",
            "123-456789",
            "12345-6789",
            "12-345-6789",
            "123-45-678",
            "123-45-67890",
            "-123456789-",
            "123--456789",
            "123-45 6789",
            "123_45_6789",
            "12a456789",
            " 123456789",
            "123456789 ",
            "123456789\n",
            "１２３４５６７８９",
            "--123456789",
            "123-4-56789",
        ];
        for text in bad {
            assert_eq!(refusal(text), Some(Invalid::SsnLength), "{text:?}");
        }
    }

    #[test]
    fn track_data_in_the_wrong_field_is_named_as_such() {
        assert_eq!(refusal(";4111111111111111=2512101?"), Some(Invalid::SensitiveAuthenticationData));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(input in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(ssn) = Ssn::parse(&input) {
                let kept: Vec<u8> = input.iter().copied().filter(|byte| *byte != b'-').collect();
                prop_assert_eq!(ssn.expose_digits(), &kept[..]);
            }
        }

        #[test]
        fn both_ways_of_writing_agree(digits in "[0-9]{9}") {
            let hyphenated = format!("{}-{}-{}", &digits[..3], &digits[3..5], &digits[5..]);
            prop_assert_eq!(refusal(&digits), refusal(&hyphenated));
        }
    }
}
