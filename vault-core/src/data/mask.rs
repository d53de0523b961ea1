//! What of a value may be shown (PCI DSS 3.4.1).

use std::fmt;

use crate::data::{Class, Pan, Ssn};
use crate::error::Invalid;

/// How much of a value is shown. One format per tenant: two different truncations of one PAN together show
/// more than either (PCI SSC FAQ 1091).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Truncation {
    /// The last four digits.
    LastFour,
    /// The BIN and the last four digits of a PAN; the last four of an SSN.
    BinLastFour,
}

impl Truncation {
    /// The name used in policy files: `last-four` or `bin-last-four`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LastFour => "last-four",
            Self::BinLastFour => "bin-last-four",
        }
    }

    /// The truncation of a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::LastFour, Self::BinLastFour].into_iter().find(|truncation| truncation.as_str() == name)
    }
}

/// A value with all but a few digits hidden: `************1111`, `41111111****1111`, `*****6789`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Masked {
    class: Class,
    /// ASCII, as many characters as the value has digits.
    text: String,
    bin_digits: usize,
}

impl Masked {
    pub(crate) fn of_pan(pan: &Pan, truncation: Truncation) -> Self {
        let digits = pan.expose_digits();
        let bin_digits = match truncation {
            Truncation::LastFour => 0,
            Truncation::BinLastFour => bin_digits_of(digits.len()),
        };
        Self { class: Class::Pan, text: masked(digits, bin_digits), bin_digits }
    }

    pub(crate) fn of_ssn(ssn: &Ssn) -> Self {
        Self { class: Class::Ssn, text: masked(ssn.expose_digits(), 0), bin_digits: 0 }
    }

    /// The class of the value.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// The whole masked text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The last four digits.
    pub fn last_four(&self) -> &str {
        self.text.get(self.text.len().saturating_sub(SHOWN_LAST)..).unwrap_or_default()
    }

    /// The BIN, 6 or 8 digits, where the truncation shows one and the PAN is long enough.
    pub fn bin(&self) -> Option<&str> {
        self.text.get(..self.bin_digits).filter(|bin| !bin.is_empty())
    }
}

impl fmt::Display for Masked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads the four digits that a customer is asked for.
///
/// # Errors
/// [`Invalid::LastFourMalformed`] for anything but exactly four ASCII digits.
pub fn parse_last_four(input: &[u8]) -> Result<[u8; 4], Invalid> {
    let four = <[u8; SHOWN_LAST]>::try_from(input).map_err(|_| Invalid::LastFourMalformed)?;
    if four.iter().all(u8::is_ascii_digit) { Ok(four) } else { Err(Invalid::LastFourMalformed) }
}

const SHOWN_LAST: usize = 4;

/// Digits of the BIN that may be shown beside the last four: at least 4 stay hidden, 5 of 15 (FAQ 1091).
const fn bin_digits_of(digits: usize) -> usize {
    match digits {
        16.. => 8,
        14 | 15 => 6,
        _ => 0,
    }
}

fn masked(digits: &[u8], bin_digits: usize) -> String {
    let last = digits.len().saturating_sub(SHOWN_LAST);
    let shown = |at: usize| at < bin_digits || at >= last;
    digits.iter().enumerate().map(|(at, digit)| if shown(at) { char::from(*digit) } else { '*' }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::samples::with_check_digit;

    fn pan_mask(digits: &str, truncation: Truncation) -> Masked {
        Masked::of_pan(&Pan::parse(digits.as_bytes()).unwrap(), truncation)
    }

    #[test]
    fn the_documented_examples() {
        let pan = "4111111111111111";
        assert_eq!(pan_mask(pan, Truncation::LastFour).to_string(), "************1111");
        assert_eq!(pan_mask(pan, Truncation::BinLastFour).to_string(), "41111111****1111");
        assert_eq!(pan_mask("378282246310005", Truncation::BinLastFour).to_string(), "378282*****0005");
        assert_eq!(pan_mask("30569309025904", Truncation::BinLastFour).to_string(), "305693****5904");
        assert_eq!(pan_mask("4222222222222", Truncation::BinLastFour).to_string(), "*********2222");
        let ssn = Masked::of_ssn(&Ssn::parse(b"123-45-6789").unwrap());
        assert_eq!((ssn.to_string().as_str(), ssn.last_four(), ssn.bin()), ("*****6789", "6789", None));
    }

    #[test]
    fn names_lead_back_to_their_truncation() {
        for truncation in [Truncation::LastFour, Truncation::BinLastFour] {
            assert_eq!(Truncation::parse(truncation.as_str()), Some(truncation));
        }
        assert_eq!(Truncation::parse("first-six"), None);
    }

    #[test]
    fn last_four_are_four_digits() {
        assert_eq!(parse_last_four(b"0123"), Ok(*b"0123"));
        for bad in [&b""[..], b"123", b"12345", b"12a4", b" 123", b"\xff123"] {
            assert_eq!(parse_last_four(bad), Err(Invalid::LastFourMalformed));
        }
    }

    /// What PCI SSC FAQ 1091 allows, written apart from the code: how many digits of each length may show.
    fn bin_allowed(length: usize) -> usize {
        match length {
            12 | 13 => 0,
            14 | 15 => 6,
            _ => 8,
        }
    }

    proptest! {
        #[test]
        fn a_mask_never_shows_more_than_allowed(payload in "[0-9]{11,18}") {
            let pan = with_check_digit(&payload);
            let allowed = [(Truncation::LastFour, 0), (Truncation::BinLastFour, bin_allowed(pan.len()))];
            for (truncation, bin) in allowed {
                let masked = pan_mask(&pan, truncation);
                let text = masked.as_str();
                let last = pan.len() - 4;
                prop_assert_eq!(text.len(), pan.len());
                prop_assert_eq!(&text[..bin], &pan[..bin]);
                prop_assert!(text[bin..last].bytes().all(|byte| byte == b'*'));
                prop_assert_eq!(&text[last..], &pan[last..]);
                let hidden_min = if pan.len() == 15 { 5 } else { 4 };
                prop_assert!(last - bin >= hidden_min);
                prop_assert_eq!(masked.bin(), (bin > 0).then_some(&pan[..bin]));
                prop_assert_eq!(masked.last_four(), &pan[last..]);
                let longest_run = text.split('*').map(str::len).max().unwrap_or_default();
                prop_assert!(longest_run <= 8, "nine digits in a row would be more than any BIN");
            }
        }

        #[test]
        fn an_ssn_shows_its_serial_at_most(digits in "[1-5][0-9]{2}[1-9]{2}[1-9]{4}") {
            let masked = Masked::of_ssn(&Ssn::parse(digits.as_bytes()).unwrap());
            prop_assert_eq!(masked.as_str(), format!("*****{}", &digits[5..]));
        }
    }
}
