//! The token: what everyone outside the vault stores in place of the value.
//!
//! `tok_pan_` or `tok_ssn_`, then 40 letters `a`–`p`: 128 random bits and a 32-bit tag, four bits a letter.
//! No digit can appear, so no card-number scanner ever fires on a token and no token can be taken for a PAN.
//! The full format is `docs/format/token.md`; the tag is made and checked by the keys room.

use std::fmt;

use crate::data::Class;
use crate::error::Invalid;
use crate::limits::TOKEN_LETTERS;

const BITS: usize = 16;
const TAG: usize = 4;
const BYTES: usize = 1 + BITS + TAG;
const PREFIX: usize = 8;

// The letters carry exactly the bits and the tag.
const _: () = assert!(TOKEN_LETTERS == 2 * (BITS + TAG));

/// A token, well formed but not necessarily one of this vault's: only its tag and the store can tell.
///
/// Not secret, yet enough to ask for the value: it has no `Display`, and `Debug` shows its first letters
/// only.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Token {
    class: Class,
    bits: [u8; BITS],
    tag: [u8; TAG],
}

impl Token {
    /// Bytes of [`Token::to_bytes`].
    pub const BYTES: usize = BYTES;
    /// Characters of [`Token::to_text`].
    pub const TEXT_BYTES: usize = PREFIX + TOKEN_LETTERS;

    /// From its parts: the class, 128 random bits and the first 32 bits of their HMAC.
    pub const fn from_parts(class: Class, bits: [u8; BITS], tag: [u8; TAG]) -> Self {
        Self { class, bits, tag }
    }

    /// Reads the text form, exactly as [`Token::to_text`] writes it.
    ///
    /// # Errors
    /// [`Invalid::TokenMalformed`] on any other prefix, length or letter, upper case included.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (prefix, letters) = text.as_bytes().split_at_checked(PREFIX).ok_or(Invalid::TokenMalformed)?;
        let class = class_of(prefix).ok_or(Invalid::TokenMalformed)?;
        let (pairs, _) = letters.as_chunks::<2>();
        if letters.len() != TOKEN_LETTERS {
            return Err(Invalid::TokenMalformed);
        }
        let mut bytes = [0; BYTES];
        let (code, body) = bytes.split_at_mut(1);
        code.fill(class.code());
        for (byte, [high, low]) in body.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Self::from_bytes(&bytes)
    }

    /// The text form: 48 characters, its class, then the bits and the tag as letters.
    pub fn to_text(self) -> String {
        let mut text = String::with_capacity(Self::TEXT_BYTES);
        text.push_str(prefix_of(self.class));
        text.extend(
            self.bits.iter().chain(&self.tag).flat_map(|byte| [letter(byte >> 4), letter(byte & 0xf)]),
        );
        text
    }

    /// Reads the binary form: class code, 16 bytes, 4 bytes of tag.
    ///
    /// # Errors
    /// [`Invalid::TokenMalformed`] on any other length or class code.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Invalid> {
        let malformed = Invalid::TokenMalformed;
        let (code, rest) = bytes.split_first().ok_or(malformed)?;
        let (bits, tag) = rest.split_first_chunk::<BITS>().ok_or(malformed)?;
        let tag = <[u8; TAG]>::try_from(tag).map_err(|_| malformed)?;
        let class = Class::from_code(*code).ok_or(malformed)?;
        Ok(Self { class, bits: *bits, tag })
    }

    /// The binary form used in keys, rows and entries: class code ‖ bits ‖ tag.
    pub fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let parts = [self.class.code()].into_iter().chain(self.bits).chain(self.tag);
        bytes.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
        bytes
    }

    /// The class of the value behind it.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// The 128 random bits.
    pub const fn bits(&self) -> &[u8; BITS] {
        &self.bits
    }

    /// The tag: the first four bytes of an HMAC over environment, vault id, class and bits.
    pub const fn tag(&self) -> &[u8; TAG] {
        &self.tag
    }
}

impl fmt::Debug for Token {
    /// The class and the first four letters: enough to tell two tokens apart, useless to ask with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, ..] = self.bits;
        f.write_str(prefix_of(self.class))?;
        for byte in [first, second] {
            write!(f, "{}{}", letter(byte >> 4), letter(byte & 0xf))?;
        }
        f.write_str("…")
    }
}

const fn prefix_of(class: Class) -> &'static str {
    match class {
        Class::Pan => "tok_pan_",
        Class::Ssn => "tok_ssn_",
    }
}

fn class_of(prefix: &[u8]) -> Option<Class> {
    Class::ALL.into_iter().find(|class| prefix_of(*class).as_bytes() == prefix)
}

const fn letter(nibble: u8) -> char {
    (b'a' + (nibble & 0xf)) as char
}

const fn nibble(letter: u8) -> Result<u8, Invalid> {
    match letter {
        b'a'..=b'p' => Ok(letter - b'a'),
        _ => Err(Invalid::TokenMalformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::{Pan, Ssn, sensitive};

    const TEXT: &str = "tok_pan_aaabacadaeafagahaiajakalamanaoapppnopkji";

    fn example() -> Token {
        Token::from_parts(Class::Pan, std::array::from_fn(|at| at as u8), [0xff, 0xde, 0xfa, 0x98])
    }

    #[test]
    fn the_text_form_is_the_documented_one() {
        assert_eq!(example().to_text(), TEXT);
        assert_eq!(Token::parse(TEXT), Ok(example()));
        assert_eq!(TEXT.len(), Token::TEXT_BYTES);
    }

    #[test]
    fn every_other_byte_in_every_place_is_refused_or_another_token() {
        for at in 0..TEXT.len() {
            for byte in 0..=0x7f_u8 {
                let mut changed = TEXT.as_bytes().to_vec();
                changed[at] = byte;
                let changed = String::from_utf8(changed).unwrap();
                let letter = at >= PREFIX && (b'a'..=b'p').contains(&byte);
                match Token::parse(&changed) {
                    Ok(token) => assert!(token.to_text() == changed && (letter || changed == TEXT)),
                    Err(invalid) => assert!(invalid == Invalid::TokenMalformed && !letter, "{changed}"),
                }
            }
        }
    }

    #[test]
    fn other_lengths_prefixes_and_letters_are_refused() {
        let upper = TEXT.to_uppercase();
        let wide = TEXT.replacen('a', "ａ", 1);
        let bad = [
            "",
            "tok_",
            "tok_pan_",
            "tok_pan",
            "tok_crd_",
            &TEXT[..47],
            &TEXT[1..],
            &format!("{TEXT}a"),
            &format!("{TEXT} "),
            &format!(" {TEXT}"),
            &upper,
            &wide,
            "é",
            &TEXT.replace("pan", "PAN"),
        ];
        for text in bad {
            assert_eq!(Token::parse(text), Err(Invalid::TokenMalformed), "{text}");
        }
    }

    #[test]
    fn debug_shows_four_letters_and_no_more() {
        assert_eq!(format!("{:?}", example()), "tok_pan_aaab…");
    }

    #[test]
    fn the_binary_form_refuses_other_lengths_and_classes() {
        let bytes = example().to_bytes();
        assert_eq!(Token::from_bytes(&bytes), Ok(example()));
        let long = [&bytes[..], &[0]].concat();
        for length in 0..bytes.len() {
            assert_eq!(Token::from_bytes(&bytes[..length]), Err(Invalid::TokenMalformed));
        }
        assert_eq!(Token::from_bytes(&long), Err(Invalid::TokenMalformed));
        for code in (3..=u8::MAX).chain([0]) {
            let foreign = [&[code], &bytes[1..]].concat();
            assert_eq!(Token::from_bytes(&foreign), Err(Invalid::TokenMalformed));
        }
    }

    fn any_token() -> impl Strategy<Value = Token> {
        (prop::sample::select(&Class::ALL[..]), any::<[u8; BITS]>(), any::<[u8; TAG]>())
            .prop_map(|(class, bits, tag)| Token::from_parts(class, bits, tag))
    }

    proptest! {
        #[test]
        fn both_forms_lead_back_to_the_token(token in any_token()) {
            prop_assert_eq!(Token::parse(&token.to_text()), Ok(token));
            prop_assert_eq!(Token::from_bytes(&token.to_bytes()), Ok(token));
        }

        #[test]
        fn no_token_can_be_taken_for_a_card_number_or_ssn(token in any_token()) {
            let text = token.to_text();
            prop_assert!(text.is_ascii() && !text.bytes().any(|byte| byte.is_ascii_digit()));
            prop_assert_eq!(Pan::parse(text.as_bytes()).err(), Some(Invalid::PanLength));
            prop_assert_eq!(Ssn::parse(text.as_bytes()).err(), Some(Invalid::SsnLength));
            prop_assert!(!sensitive::pan_like(&text) && !sensitive::ssn_like(&text));
            prop_assert!(!sensitive::track_data(text.as_bytes()));
        }

        #[test]
        fn distinct_tokens_have_distinct_texts(one in any_token(), other in any_token()) {
            prop_assert_eq!(one == other, one.to_text() == other.to_text());
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}") {
            if let Ok(token) = Token::parse(&text) {
                prop_assert_eq!(token.to_text(), text);
            }
        }
    }
}
