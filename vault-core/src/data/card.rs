//! What may be kept beside a card number: the expiry and the cardholder's name.

use zeroize::Zeroize;

use crate::data::{Pan, Secret, sensitive};
use crate::error::Invalid;
use crate::limits::{CARDHOLDER_NAME_BYTES_MAX, PAN_DIGITS_MIN};

/// Bytes of a name's input that are looked at for track data: a whole track 1 and what stands around it.
const SCREENED_BYTES_MAX: usize = 256;

/// A card: its number and what a payment may need beside it. There is no field for a verification code, track
/// data or a PIN (PCI DSS 3.3.1).
pub struct Card {
    /// The card number.
    pub pan: Pan,
    /// Until when the card is valid.
    pub expiry: Option<Expiry>,
    /// The name on the card.
    pub cardholder_name: Option<CardholderName>,
}

/// The month until whose end a card is valid.
pub struct Expiry(Secret<Month>);

#[derive(Default, Zeroize)]
struct Month {
    year: u16,
    month: u8,
}

impl Expiry {
    /// Takes a month from 1 to 12 of a year from 2000 to 2099.
    ///
    /// # Errors
    /// [`Invalid::ExpiryInvalid`] outside these bounds. A date in the past is accepted: refunds need it.
    pub fn new(month: u32, year: u32) -> Result<Self, Invalid> {
        let month = u8::try_from(month).ok().filter(|month| (1..=12).contains(month));
        let year = u16::try_from(year).ok().filter(|year| (2000..=2099).contains(year));
        let (month, year) = month.zip(year).ok_or(Invalid::ExpiryInvalid)?;
        Ok(Self(Secret::init_with(|expiry: &mut Month| *expiry = Month { year, month })))
    }

    /// The month, 1–12.
    pub fn expose_month(&self) -> u32 {
        self.0.expose().month.into()
    }

    /// The year, 2000–2099.
    pub fn expose_year(&self) -> u32 {
        self.0.expose().year.into()
    }
}

/// The name on a card: 1–64 bytes of UTF-8 without control characters.
pub struct CardholderName(Secret<NameBytes>);

#[derive(Zeroize)]
struct NameBytes {
    /// UTF-8, zero bytes after the last.
    places: [u8; CARDHOLDER_NAME_BYTES_MAX],
    count: usize,
}

impl Default for NameBytes {
    fn default() -> Self {
        Self { places: [0; CARDHOLDER_NAME_BYTES_MAX], count: 0 }
    }
}

impl CardholderName {
    /// Takes a name as it stands.
    ///
    /// # Errors
    /// [`Invalid::SensitiveAuthenticationData`] for track data; [`Invalid::NameInvalid`] when empty, blank,
    /// longer than 64 bytes, not UTF-8, or with characters that control a terminal or the direction of text;
    /// [`Invalid::SensitiveText`] when it holds what reads like a card number or SSN.
    pub fn parse(input: &[u8]) -> Result<Self, Invalid> {
        if sensitive::track_data(input.get(..SCREENED_BYTES_MAX).unwrap_or(input)) {
            return Err(Invalid::SensitiveAuthenticationData);
        }
        let name = str::from_utf8(input).map_err(|_| Invalid::NameInvalid)?;
        let fits = name.len() <= CARDHOLDER_NAME_BYTES_MAX && !name.trim().is_empty();
        if !fits || name.chars().any(controls_text) {
            return Err(Invalid::NameInvalid);
        }
        if carries_number(name) {
            return Err(Invalid::SensitiveText);
        }
        Ok(Self(Secret::init_with(|bytes: &mut NameBytes| bytes.copy(input))))
    }

    /// The name as UTF-8.
    pub fn expose_bytes(&self) -> &[u8] {
        let name = self.0.expose();
        name.places.get(..name.count).unwrap_or_default()
    }
}

impl NameBytes {
    fn copy(&mut self, name: &[u8]) {
        self.places.iter_mut().zip(name).for_each(|(place, byte)| *place = *byte);
        self.count = name.len().min(self.places.len());
    }
}

/// As many digits as the shortest PAN are no name, in whatever script and however they are set apart.
fn carries_number(name: &str) -> bool {
    name.chars().filter(|c| c.is_numeric()).count() >= PAN_DIGITS_MIN || sensitive::ssn_like(name)
}

/// Control characters, line and paragraph separators, and the marks that turn the direction of text (UAX #9):
/// a name that shows as something else is an attack on the clerk who reads it.
fn controls_text(character: char) -> bool {
    let turns_direction = matches!(character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() || turns_direction
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::samples::PUBLISHED;

    fn refusal(name: &str) -> Option<Invalid> {
        CardholderName::parse(name.as_bytes()).err()
    }

    #[test]
    fn expiries_have_a_month_and_a_year_of_this_century() {
        for month in 0..=300 {
            for year in (1990..=2110).chain([0, 27, 65_536 + 2027, u32::MAX]) {
                let expiry = Expiry::new(month, year);
                let valid = (1..=12).contains(&month) && (2000..=2099).contains(&year);
                assert_eq!(expiry.is_ok(), valid, "{month}/{year}");
                if let Ok(expiry) = expiry {
                    assert_eq!((expiry.expose_month(), expiry.expose_year()), (month, year));
                }
            }
        }
        assert_eq!(Expiry::new(256 + 1, 2027).err(), Some(Invalid::ExpiryInvalid));
    }

    #[test]
    fn names_of_people_and_companies_pass() {
        let long = "é".repeat(32);
        let names = [
            "J",
            "JANE DOE",
            "Doe/Jane",
            "Ngũgĩ wa Thiong'o",
            "Jean-Luc d'Ünköy",
            "张伟",
            "مريم",
            "ACME 2024 GmbH",
            "Fleet Card 00123",
            "O",
            "Henry VIII",
            &long,
        ];
        for name in names {
            assert_eq!(CardholderName::parse(name.as_bytes()).unwrap().expose_bytes(), name.as_bytes());
        }
    }

    #[test]
    fn empty_long_broken_and_controlling_names_are_refused() {
        let long = format!("{}a", "é".repeat(32));
        let names = [
            "",
            " ",
            "\u{a0}",
            &long,
            "a\n",
            "a\tb",
            "\0",
            "a\u{7f}",
            "a\u{85}b",
            "\u{1b}[2Ja",
            "evil\u{202e}liam",
            "a\u{2028}b",
            "\u{2066}a\u{2069}",
            "\u{200f}a",
        ];
        for name in names {
            assert_eq!(refusal(name), Some(Invalid::NameInvalid), "{name:?}");
        }
        assert_eq!(CardholderName::parse(b"JANE\xff").err(), Some(Invalid::NameInvalid));
    }

    #[test]
    fn numbers_in_a_name_are_refused() {
        for (digits, _) in PUBLISHED {
            for name in [digits.to_owned(), format!("JANE DOE {digits}"), format!("{digits} JANE")] {
                assert_eq!(refusal(&name), Some(Invalid::SensitiveText), "{name}");
            }
        }
        for name in [
            "4111 1111 1111 1111",
            "JANE 123-45-6789",
            "123 45 6789",
            "４１１１１１１１１１１１１１１１",
            "1234567890123",
        ] {
            assert_eq!(refusal(name), Some(Invalid::SensitiveText), "{name}");
        }
    }

    #[test]
    fn track_data_in_a_name_is_named_as_such_at_any_length() {
        let track = "%B4111111111111111^DOE/JANE^25121011234567890123456789012345678901234567890?";
        for name in [track, &format!("JANE DOE {track}"), "JANE ;4111111111111111=2512101?"] {
            assert_eq!(refusal(name), Some(Invalid::SensitiveAuthenticationData), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_as_they_stand_or_refused(input in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(name) = CardholderName::parse(&input) {
                prop_assert_eq!(name.expose_bytes(), &input[..]);
            }
        }
    }
}
