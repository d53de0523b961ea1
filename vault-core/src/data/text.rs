//! Text that callers give and the log keeps for ever.

use std::fmt;
use std::sync::Arc;

use crate::data::sensitive;
use crate::error::Invalid;
use crate::limits::CALLER_TEXT_BYTES_MAX;

/// A reference, idempotency key or case number: 1–64 of `A-Z a-z 0-9 . _ : / -`, screened so that neither
/// a card number nor an SSN enters the audit log by this way.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallerText(Arc<str>);

impl CallerText {
    /// Checks and takes a text.
    ///
    /// # Errors
    /// [`Invalid::SensitiveAuthenticationData`] for track data, [`Invalid::TextMalformed`] for any other
    /// character or length, [`Invalid::SensitiveText`] for what reads like a card number or SSN.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let seen = text.as_bytes().get(..4 * CALLER_TEXT_BYTES_MAX).unwrap_or(text.as_bytes());
        if sensitive::track_data(seen) {
            return Err(Invalid::SensitiveAuthenticationData);
        }
        let taken = Self::of_stored(text).ok_or(Invalid::TextMalformed)?;
        if sensitive::pan_like(text) || sensitive::ssn_like(text) {
            return Err(Invalid::SensitiveText);
        }
        Ok(taken)
    }

    /// A text that was checked when it was stored. Only its form is looked at: what is known of card numbers
    /// changes, and what an earlier release took must stay readable.
    pub(crate) fn of_stored(text: &str) -> Option<Self> {
        let fits = (1..=CALLER_TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed);
        fits.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CallerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'/' | b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::samples::{PUBLISHED, grouped, with_check_digit};

    #[test]
    fn ordinary_references_pass() {
        let ordinary = [
            "a",
            "order-2024-11-22-000417",
            "INV/2025/03/0001",
            "case:7f3c9e21-5b0d-4c1e-9a77-0d2f4c1b8e55",
            "1234567890123456",
            "4111111111111112",
            "2024-11-22T10:15:30.123456Z",
            "batch_20241122.0001/item-0999",
            "123-456-789",
            "12-34-5678",
            "1123-45-6789",
            "123-45-67890",
            "555-123-4567",
            "1700000000000000",
            "411111111111",
            "order-1234567890123-part-2-of-3",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        ];
        for text in ordinary {
            assert_eq!(CallerText::parse(text).map(|parsed| parsed.as_str().to_owned()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn numbers_of_no_known_brand_pass_even_with_a_right_check_digit() {
        for payload in ["999999999999999", "100000000000000", "70000000000000000"] {
            assert!(CallerText::parse(&with_check_digit(payload)).is_ok());
        }
    }

    #[test]
    fn other_characters_and_lengths_are_refused() {
        let long = "a".repeat(65);
        for text in ["", " ", "a b", "a\n", "ä", "a,b", "a=b", "a@b", "a+b", "a#b", "a\0", &long] {
            assert_eq!(CallerText::parse(text), Err(Invalid::TextMalformed), "{text:?}");
        }
        for byte in (0..=0x7f_u8).filter(|byte| !allowed(*byte)) {
            assert!(CallerText::parse(&format!("a{}b", char::from(byte))).is_err(), "{byte}");
        }
    }

    #[test]
    fn published_card_numbers_are_refused_however_they_are_written() {
        for (digits, _) in PUBLISHED {
            let pieces = [4, 4, 4, digits.len() - 12];
            let ways = [
                digits.to_owned(),
                format!("order-{digits}"),
                format!("{digits}-2024"),
                format!("x{digits}x"),
                format!("2024/{digits}/1"),
                grouped(digits, &pieces, "-"),
                grouped(digits, &pieces, "."),
                grouped(digits, &pieces, "_"),
                grouped(digits, &pieces, ":"),
                grouped(digits, &pieces, "/"),
                grouped(digits, &vec![1; digits.len()], "-"),
                format!("ref:{}", grouped(digits, &pieces, "-")),
            ];
            for text in ways {
                assert_eq!(CallerText::parse(&text), Err(Invalid::SensitiveText), "{text}");
            }
        }
    }

    #[test]
    fn what_was_stored_under_an_earlier_rule_stays_readable() {
        for text in ["4111111111111111", "123-45-6789"] {
            assert_eq!(
                CallerText::of_stored(text).map(|read| read.as_str().to_owned()),
                Some(text.to_owned())
            );
        }
        for text in ["", "a b", "4111 1111", &"a".repeat(65)] {
            assert_eq!(CallerText::of_stored(text), None, "{text:?}");
        }
    }

    #[test]
    fn social_security_numbers_are_refused() {
        for text in ["123-45-6789", "ssn:123-45-6789", "case-123-45-6789", "1-123-45-6789", "x123-45-6789x"] {
            assert_eq!(CallerText::parse(text), Err(Invalid::SensitiveText), "{text}");
        }
    }

    #[test]
    fn track_data_is_named_as_such() {
        for text in [";4111111111111111=25121010000012300000?", "4111111111111111D2512101"] {
            assert_eq!(CallerText::parse(text), Err(Invalid::SensitiveAuthenticationData), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_as_it_stands_or_refused(text in ".{0,300}") {
            if let Ok(parsed) = CallerText::parse(&text) {
                prop_assert_eq!(parsed.as_str(), &text);
            }
        }

        #[test]
        fn a_card_number_of_a_known_brand_never_passes(
            brand in prop::sample::select(vec!["4", "51", "2221", "34", "6011", "36", "3530", "62", "6304"]),
            digits in "[0-9]{14}",
            length in 13_usize..=19,
            before in "([a-z]{1,8}[-:/._])?",
            after in "([-:/._][a-z]{1,8})?",
        ) {
            let pan = with_check_digit(&format!("{brand}{digits}0000")[..length - 1]);
            let refused = CallerText::parse(&format!("{before}{pan}{after}"));
            prop_assert_eq!(refused, Err(Invalid::SensitiveText));
        }
    }
}
