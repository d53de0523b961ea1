//! The primary account number.

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::data::luhn::luhn_holds;
use crate::data::{Brand, Secret, sensitive};
use crate::error::Invalid;
use crate::limits::{PAN_DIGITS_MAX, PAN_DIGITS_MIN, VALUE_INPUT_BYTES_MAX};

/// A card number: 12–19 digits whose check digit holds (ISO/IEC 7812-1), without separators.
pub struct Pan(Secret<Digits>);

#[derive(Default, Zeroize)]
struct Digits {
    /// ASCII digits, zero bytes after the last.
    places: [u8; PAN_DIGITS_MAX],
    count: usize,
}

impl Pan {
    /// Reads a card number: ASCII digits with at most single spaces or hyphens between them.
    ///
    /// # Errors
    /// [`Invalid::SensitiveAuthenticationData`] for track data and for digits after the number, whatever else
    /// is wrong; then [`Invalid::PanLength`] for any other character or length; then [`Invalid::PanLuhn`].
    pub fn parse(input: &[u8]) -> Result<Self, Invalid> {
        let mut read = Ok(());
        let pan = Self(Secret::init_with(|digits: &mut Digits| read = digits.read(input)));
        let read = read.and_then(|()| pan.check_digit());
        // Digits alone, no more than a PAN holds, leave no room for anything beside it.
        let bare = pan.expose_digits().len() == input.len();
        if !(bare && read.is_ok()) && authentication_data(input) {
            return Err(Invalid::SensitiveAuthenticationData);
        }
        read.map(|()| pan)
    }

    /// The 12–19 ASCII digits.
    pub fn expose_digits(&self) -> &[u8] {
        let digits = self.0.expose();
        digits.places.get(..digits.count).unwrap_or_default()
    }

    /// The payment network, from the published ranges.
    pub fn brand(&self) -> Brand {
        Brand::of(self.expose_digits())
    }

    /// The last four ASCII digits, which a receipt may show.
    pub fn last_four(&self) -> [u8; 4] {
        self.expose_digits().last_chunk::<4>().copied().unwrap_or_default()
    }

    /// Whether the last four digits are these, in a time that does not depend on them.
    pub fn same_last_four(&self, last_four: &[u8; 4]) -> bool {
        self.last_four().ct_eq(last_four).into()
    }

    fn check_digit(&self) -> Result<(), Invalid> {
        if luhn_holds(self.expose_digits()) { Ok(()) } else { Err(Invalid::PanLuhn) }
    }
}

impl Digits {
    fn read(&mut self, input: &[u8]) -> Result<(), Invalid> {
        let mut after_digit = false;
        for byte in input {
            match byte {
                b'0'..=b'9' => {
                    *self.places.get_mut(self.count).ok_or(Invalid::PanLength)? = *byte;
                    self.count += 1;
                    after_digit = true;
                }
                b' ' | b'-' if after_digit => after_digit = false,
                _ => return Err(Invalid::PanLength),
            }
        }
        if after_digit && self.count >= PAN_DIGITS_MIN { Ok(()) } else { Err(Invalid::PanLength) }
    }
}

/// Whether the beginning of an input holds what must never be kept, even encrypted (PCI DSS 3.3.1).
fn authentication_data(input: &[u8]) -> bool {
    let seen = input.get(..VALUE_INPUT_BYTES_MAX).unwrap_or(input);
    sensitive::track_data(seen) || sensitive::digits_after_pan(seen)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::samples::{PUBLISHED, grouped, with_check_digit};

    fn refusal(input: &str) -> Option<Invalid> {
        Pan::parse(input.as_bytes()).err()
    }

    fn digits(input: &str) -> String {
        String::from_utf8(Pan::parse(input.as_bytes()).unwrap().expose_digits().to_vec()).unwrap()
    }

    /// A valid number of every length, of no known brand so that every length is in order.
    fn of_every_length() -> impl Iterator<Item = String> {
        (PAN_DIGITS_MIN..=PAN_DIGITS_MAX).map(|length| with_check_digit(&"9081726354908172635"[..length - 1]))
    }

    #[test]
    fn every_length_from_12_to_19_is_accepted_and_no_other() {
        for pan in of_every_length() {
            assert_eq!(digits(&pan), pan);
        }
        for length in (1..PAN_DIGITS_MIN).chain([PAN_DIGITS_MAX + 1, 21, 64, 65, 1000]) {
            let number = with_check_digit(&"9".repeat(length - 1));
            assert_eq!(refusal(&number), Some(Invalid::PanLength), "{length}");
        }
        assert_eq!(refusal(""), Some(Invalid::PanLength));
    }

    #[test]
    fn published_numbers_are_accepted_with_their_brand_and_last_four() {
        for (number, brand) in PUBLISHED {
            let pan = Pan::parse(number.as_bytes()).unwrap();
            let last: [u8; 4] = number.as_bytes()[number.len() - 4..].try_into().unwrap();
            assert_eq!((pan.brand().as_str(), pan.last_four()), (brand, last));
            assert!(pan.same_last_four(&last) && !pan.same_last_four(b"9876"));
        }
    }

    #[test]
    fn every_single_changed_digit_is_refused() {
        for pan in of_every_length() {
            for at in 0..pan.len() {
                for digit in ('0'..='9').filter(|digit| !pan[at..].starts_with(*digit)) {
                    let changed = format!("{}{digit}{}", &pan[..at], &pan[at + 1..]);
                    assert_eq!(refusal(&changed), Some(Invalid::PanLuhn), "{changed}");
                }
            }
        }
    }

    #[test]
    fn neighbours_exchanged_are_refused_but_for_0_and_9() {
        for pan in of_every_length() {
            for at in 1..pan.len() {
                let mut changed = pan.clone().into_bytes();
                changed.swap(at - 1, at);
                let blind = [changed[at - 1], changed[at]];
                let unseen = blind == *b"09" || blind == *b"90" || blind[0] == blind[1];
                assert_eq!(Pan::parse(&changed).is_ok(), unseen);
            }
        }
    }

    #[test]
    fn leading_zeros_stay() {
        let pan = with_check_digit("000000000012345");
        assert_eq!(digits(&pan), pan);
    }

    #[test]
    fn single_spaces_and_hyphens_are_left_out() {
        let all = vec![1; 16];
        for separator in [" ", "-"] {
            for widths in [&[4, 4, 4, 4][..], &[6, 10], &[4, 12], &all] {
                assert_eq!(digits(&grouped("4111111111111111", widths, separator)), "4111111111111111");
            }
            assert_eq!(digits(&grouped("378282246310005", &[4, 6, 5], separator)), "378282246310005");
        }
        assert_eq!(digits("4111-1111 1111-1111"), "4111111111111111");
    }

    #[test]
    fn every_other_character_or_place_of_a_separator_is_refused() {
        let bad = [
            " 4111111111111111",
            "4111111111111111 ",
            "-4111111111111111",
            "4111111111111111-",
            "4111  1111 1111 1111",
            "4111--1111-1111-1111",
            "4111 -1111 1111 1111",
            "4111.1111.1111.1111",
            "4111_1111_1111_1111",
            "4111\t1111 1111 1111",
            "4111111111111111\n",
            "+4111111111111111",
            "4111111111111111a",
            "４１１１１１１１１１１１１１１１",
            "4111\u{a0}1111\u{a0}1111\u{a0}1111",
            "411111111111111O",
            "0x4111111111111111",
            "4.111111111111111e15",
            "-",
            " ",
            "\0",
            "4111111111111111\0",
        ];
        for text in bad {
            assert_eq!(refusal(text), Some(Invalid::PanLength), "{text:?}");
        }
        for byte in (0..=u8::MAX).filter(|byte| !byte.is_ascii_digit() && !b" -=^".contains(byte)) {
            let input = [b"41111111", &[byte][..], b"11111111"].concat();
            assert_eq!(Pan::parse(&input).err(), Some(Invalid::PanLength), "{byte}");
        }
    }

    #[test]
    fn tracks_are_refused_as_authentication_data() {
        let tracks = [
            "%B4111111111111111^DOE/JANE^2512101123456789?",
            "%B4111 1111 1111 1111^DOE/JANE^2512101?",
            "%b378282246310005^MUSTERMANN/ERIKA           ^25121010000000000000000000000000?",
            "B4111111111111111^DOE/JANE^2512101",
            "4111111111111111^DOE/JANE^2512101123456789",
            ";4111111111111111=25121011234567890?",
            ";4111111111111111=2512?",
            "4111111111111111=2512",
            "4111111111111111=25121011234567890",
            ";378282246310005=2512101?",
            "4111-1111-1111-1111=2512",
            "%B4111111111111111^",
            ";4111111111111111=",
            ";014111111111111111=724724000000000030?",
            ";019999999999999999999=724724000000000030?",
            "4111111111111111D25121010000012300000F",
            "4111111111111111d2512101",
            "=4111111111111111=2512",
            "%B4111111111111112^DOE/JANE^2512101?",
            ";9999999999999999999=2512101?",
            "%B4111111111111111^DOE/JANE^2512101?;4111111111111111=2512101?",
        ];
        for track in tracks {
            assert_eq!(refusal(track), Some(Invalid::SensitiveAuthenticationData), "{track}");
        }
    }

    #[test]
    fn digits_after_the_number_are_refused_as_authentication_data() {
        for (number, _) in PUBLISHED {
            for code in ["123", "1234"] {
                let ways = [
                    format!("{number}  {code}"),
                    format!("{number}/{code}"),
                    format!("{number},{code}"),
                    format!("{number};{code}"),
                    format!("{number}|{code}"),
                    format!("{number}\t{code}"),
                    format!("{number}\n{code}"),
                    format!("{number} cvv {code}"),
                    format!("{number} CVC2: {code}"),
                    format!("{number} 12/27 {code}"),
                    format!("{number}:12:2027:{code}"),
                    format!("{}/{code}", grouped(number, &[4, 4, 4, number.len() - 12], " ")),
                ];
                for text in ways {
                    assert_eq!(refusal(&text), Some(Invalid::SensitiveAuthenticationData), "{text:?}");
                }
            }
        }
    }

    /// Whatever the code is, also where the check digit holds by chance for number and code together.
    #[test]
    fn a_code_one_space_or_hyphen_after_the_number_is_refused() {
        let longest = PUBLISHED.iter().filter(|(number, brand)| number.len() >= 14 && *brand != "maestro");
        for ((number, _), separator) in longest.flat_map(|sample| [(sample, ' '), (sample, '-')]) {
            let codes = (0..1000)
                .map(|code| format!("{code:03}"))
                .chain((0..10_000).map(|code| format!("{code:04}")));
            for code in codes {
                let text = format!("{number}{separator}{code}");
                assert_eq!(refusal(&text), Some(Invalid::SensitiveAuthenticationData), "{text}");
            }
        }
    }

    #[test]
    fn a_code_after_a_printed_number_is_refused_where_the_brand_has_no_longer_numbers() {
        let printed = [("5555 5555 5555 4444", 3), ("3782 822463 10005", 4), ("4111 1111 1111 1111", 4)];
        for (number, width) in printed {
            for code in 0..10_u32.pow(width) {
                let text = format!("{number} {code:0width$}", width = width as usize);
                assert_eq!(refusal(&text), Some(Invalid::SensitiveAuthenticationData), "{text}");
            }
        }
    }

    /// The open case of `digits_after_pan`: refused, or a 19-digit number of a brand that has such.
    #[test]
    fn three_digits_after_a_printed_visa_are_its_end_only_if_the_check_digit_holds() {
        for code in 0..1000 {
            let text = format!("4111 1111 1111 1111 {code:03}");
            let whole = luhn_holds(text.replace(' ', "").as_bytes());
            assert_eq!(refusal(&text), (!whole).then_some(Invalid::SensitiveAuthenticationData), "{text}");
        }
    }

    #[test]
    fn a_number_run_together_with_more_than_it_can_hold_is_refused_as_such() {
        for text in ["41111111111111111234", "411111111111111125121011234567890", "3782822463100051225123"] {
            assert_eq!(refusal(text), Some(Invalid::SensitiveAuthenticationData), "{text}");
        }
        assert_eq!(refusal(&"9".repeat(20)), Some(Invalid::PanLength));
    }

    /// A corpus as a stolen reader would give it: names, dates, service codes and discretionary data drawn
    /// freely.
    fn any_track() -> impl Strategy<Value = String> {
        let pan = (PAN_DIGITS_MIN..=PAN_DIGITS_MAX, "[0-9]{19}")
            .prop_map(|(length, digits)| digits[..length].to_owned());
        let name = "[A-Z][A-Z .'-]{0,12}/[A-Z][A-Z ]{0,9}";
        (pan, name, "[2-3][0-9](0[1-9]|1[0-2])", "[1-9][0-9]{2}", "[0-9]{0,13}", 0..4).prop_map(
            |(pan, name, expiry, service, rest, form)| match form {
                0 => format!("%B{pan}^{name}^{expiry}{service}{rest}?"),
                1 => format!(";{pan}={expiry}{service}{rest}?"),
                2 => format!("{pan}={expiry}{service}{rest}"),
                _ => format!("%B{pan}^{name}^{expiry}{service}{rest}?;{pan}={expiry}{service}{rest}?"),
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_track_is_ever_taken_for_a_number(track in any_track()) {
            prop_assert_eq!(refusal(&track), Some(Invalid::SensitiveAuthenticationData));
        }

        #[test]
        fn valid_numbers_are_accepted_in_printed_groups(
            payload in "[0-9]{11,18}", separator in prop::sample::select(vec!["", " ", "-"]),
        ) {
            let pan = with_check_digit(&payload);
            let widths: Vec<usize> = pan.as_bytes().chunks(4).map(<[u8]>::len).collect();
            let text = grouped(&pan, &widths, separator);
            let accepted = Pan::parse(text.as_bytes());
            // The one exception: the groups before the last are a whole number of a brand without longer
            // ones.
            let coded = !separator.is_empty() && sensitive::digits_after_pan(text.as_bytes());
            match accepted {
                Ok(parsed) => prop_assert!(!coded && parsed.expose_digits() == pan.as_bytes()),
                Err(invalid) => prop_assert!(coded && invalid == Invalid::SensitiveAuthenticationData),
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(input in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(pan) = Pan::parse(&input) {
                let kept: Vec<u8> = input.iter().copied().filter(u8::is_ascii_digit).collect();
                prop_assert_eq!(pan.expose_digits(), &kept[..]);
            }
        }

        #[test]
        fn a_wrong_check_digit_is_refused(payload in "[0-9]{11,18}", off in 1_u8..10) {
            let mut pan = with_check_digit(&payload).into_bytes();
            let check = pan.last_mut().unwrap();
            *check = b'0' + (*check - b'0' + off) % 10;
            prop_assert_eq!(Pan::parse(&pan).err(), Some(Invalid::PanLuhn));
        }
    }
}
