//! The protected value and its plaintext layout.
//!
//! Before encryption every value of a class is padded to one length, so that sizes tell nothing. All bytes
//! that carry nothing are zero, and reading refuses every other byte there: one value has exactly one layout.
//! `docs/format/values.md` shows both layouts with an example.
//!
//! ```text
//! PAN, 96 bytes                                    SSN, 16 bytes
//!   0   1  layout, 1                                 0   1  layout, 1
//!   1   1  digits of the PAN, 12–19                  1   9  ASCII digits
//!   2  19  ASCII digits, then zeros                 10   6  zeros
//!  21   1  month of the expiry, 1–12, or 0
//!  22   2  year of the expiry, big-endian, or 0
//!  24   1  bytes of the cardholder's name, 1–64, or 0
//!  25  64  the name, UTF-8, then zeros
//!  89   7  zeros
//! ```

use thiserror::Error;
use zeroize::Zeroizing;

use crate::data::{Card, CardholderName, Class, Expiry, Masked, Pan, Ssn, Truncation};
use crate::limits::{
    CARDHOLDER_NAME_BYTES_MAX, PAN_DIGITS_MAX, PAN_PADDED_BYTES, SSN_DIGITS, SSN_PADDED_BYTES,
};

/// The only layout so far. Reading checks every rule of parsing again: a rule made stricter needs a new
/// layout, or values stored under the old rule would count as damaged.
const LAYOUT: u8 = 1;

const CARD_BYTES: usize = 1 + (1 + PAN_DIGITS_MAX) + 1 + 2 + (1 + CARDHOLDER_NAME_BYTES_MAX);
const SSN_BYTES: usize = 1 + SSN_DIGITS;
const _: () = assert!(CARD_BYTES <= PAN_PADDED_BYTES && SSN_BYTES <= SSN_PADDED_BYTES);

/// What a token stands for.
pub enum Value {
    /// A card number with what is kept beside it.
    Pan(Card),
    /// A social security number.
    Ssn(Ssn),
}

/// A decrypted plaintext that no release of the vault can have written.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a stored value does not have the layout of its class")]
pub struct MalformedValue;

impl Value {
    /// The class of the value.
    pub const fn class(&self) -> Class {
        match self {
            Self::Pan(_) => Class::Pan,
            Self::Ssn(_) => Class::Ssn,
        }
    }

    /// All ASCII digits of the value without separators: what blind indexes are computed over.
    pub fn expose_digits(&self) -> &[u8] {
        match self {
            Self::Pan(card) => card.pan.expose_digits(),
            Self::Ssn(ssn) => ssn.expose_digits(),
        }
    }

    /// The value with all but a few digits hidden.
    pub fn mask(&self, truncation: Truncation) -> Masked {
        match self {
            Self::Pan(card) => Masked::of_pan(&card.pan, truncation),
            Self::Ssn(ssn) => Masked::of_ssn(ssn),
        }
    }

    /// Whether the last four digits are these, in a time that does not depend on them.
    pub fn same_last_four(&self, last_four: &[u8; 4]) -> bool {
        match self {
            Self::Pan(card) => card.pan.same_last_four(last_four),
            Self::Ssn(ssn) => ssn.same_last_four(last_four),
        }
    }

    /// The plaintext as it is encrypted: 96 bytes for a PAN, 16 for an SSN.
    pub fn to_padded(&self) -> Zeroizing<Vec<u8>> {
        let size = padded_bytes(self.class());
        // The full length from the start: a growing buffer would leave copies behind.
        let mut padded = Zeroizing::new(Vec::with_capacity(size));
        padded.push(LAYOUT);
        match self {
            Self::Pan(card) => write_card(&mut padded, card),
            Self::Ssn(ssn) => padded.extend_from_slice(ssn.expose_digits()),
        }
        padded.resize(size, 0);
        padded
    }

    /// Reads a decrypted plaintext, checking it as if it came from outside.
    ///
    /// # Errors
    /// [`MalformedValue`] for any byte that [`Value::to_padded`] would not have written.
    pub fn from_padded(class: Class, padded: &[u8]) -> Result<Self, MalformedValue> {
        if padded.len() != padded_bytes(class) {
            return Err(MalformedValue);
        }
        let mut rest = Rest(padded);
        if rest.byte()? != LAYOUT {
            return Err(MalformedValue);
        }
        let value = match class {
            Class::Pan => Self::Pan(read_card(&mut rest)?),
            Class::Ssn => Self::Ssn(Ssn::parse(rest.take(SSN_DIGITS)?).map_err(|_| MalformedValue)?),
        };
        rest.only_zeros()?;
        Ok(value)
    }
}

const fn padded_bytes(class: Class) -> usize {
    match class {
        Class::Pan => PAN_PADDED_BYTES,
        Class::Ssn => SSN_PADDED_BYTES,
    }
}

fn write_card(padded: &mut Vec<u8>, card: &Card) {
    write_counted(padded, card.pan.expose_digits(), PAN_DIGITS_MAX);
    let (month, year) =
        card.expiry.as_ref().map_or((0, 0), |expiry| (expiry.expose_month(), expiry.expose_year()));
    let [.., month] = month.to_be_bytes();
    let [_, _, year @ ..] = year.to_be_bytes();
    padded.push(month);
    padded.extend_from_slice(&year);
    let name = card.cardholder_name.as_ref().map_or(&[][..], CardholderName::expose_bytes);
    write_counted(padded, name, CARDHOLDER_NAME_BYTES_MAX);
}

fn read_card(rest: &mut Rest<'_>) -> Result<Card, MalformedValue> {
    let digits = rest.counted(PAN_DIGITS_MAX)?;
    let pan = Pan::parse(digits).map_err(|_| MalformedValue)?;
    // Parsing leaves out separators, which stored digits never have.
    if pan.expose_digits().len() != digits.len() {
        return Err(MalformedValue);
    }
    let month = u32::from(rest.byte()?);
    let year = u32::from(rest.byte()?) << 8 | u32::from(rest.byte()?);
    let expiry = match (month, year) {
        (0, 0) => None,
        (month, year) => Some(Expiry::new(month, year).map_err(|_| MalformedValue)?),
    };
    let cardholder_name = match rest.counted(CARDHOLDER_NAME_BYTES_MAX)? {
        [] => None,
        name => Some(CardholderName::parse(name).map_err(|_| MalformedValue)?),
    };
    Ok(Card { pan, expiry, cardholder_name })
}

/// One byte of length, the content, zeros up to the room it has.
fn write_counted(padded: &mut Vec<u8>, content: &[u8], room: usize) {
    let [.., count] = content.len().to_be_bytes();
    padded.push(count);
    padded.extend_from_slice(content);
    padded.resize(padded.len() + room.saturating_sub(content.len()), 0);
}

/// What of a plaintext is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], MalformedValue> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(MalformedValue)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, MalformedValue> {
        self.take(1)?.first().copied().ok_or(MalformedValue)
    }

    /// The counterpart of [`write_counted`].
    fn counted(&mut self, room: usize) -> Result<&'a [u8], MalformedValue> {
        let count = usize::from(self.byte()?);
        let (content, padding) = self.take(room)?.split_at_checked(count).ok_or(MalformedValue)?;
        Rest(padding).only_zeros()?;
        Ok(content)
    }

    fn only_zeros(&self) -> Result<(), MalformedValue> {
        if self.0.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(MalformedValue) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::samples::{card, ssn, with_check_digit};

    const PAN: &str = "4111111111111111";

    /// The example of `docs/format/values.md`.
    fn documented() -> Vec<u8> {
        let mut bytes = vec![1, 16];
        bytes.extend_from_slice(PAN.as_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 12, 0x07, 0xeb, 8]);
        bytes.extend_from_slice(b"JANE DOE");
        bytes.resize(96, 0);
        bytes
    }

    #[test]
    fn the_layouts_are_the_documented_ones() {
        let full = card(PAN, Some((12, 2027)), Some("JANE DOE"));
        assert_eq!(*full.to_padded(), documented());
        assert_eq!(*ssn("123456789").to_padded(), b"\x01123456789\0\0\0\0\0\0");
        crate::data::documents::shows("values.md", &documented());
        crate::data::documents::shows("values.md", &ssn("123456789").to_padded());
    }

    #[test]
    fn every_value_of_a_class_has_one_length() {
        let longest = "é".repeat(32);
        for length in 12..=19 {
            let pan = with_check_digit(&"9081726354908172635"[..length - 1]);
            for expiry in [None, Some((1, 2000)), Some((12, 2099))] {
                for name in [None, Some("J"), Some(longest.as_str())] {
                    let value = card(&pan, expiry, name);
                    let padded = value.to_padded();
                    assert_eq!(padded.len(), PAN_PADDED_BYTES);
                    assert_eq!(padded.capacity(), PAN_PADDED_BYTES, "the buffer never grew");
                    same(&Value::from_padded(Class::Pan, &padded).unwrap_or_else(|e| panic!("{e}")), &value);
                }
            }
        }
        assert_eq!(ssn("123456789").to_padded().len(), SSN_PADDED_BYTES);
    }

    fn same(one: &Value, other: &Value) {
        assert_eq!(*one.to_padded(), *other.to_padded());
        assert_eq!(one.expose_digits(), other.expose_digits());
        assert_eq!(one.class(), other.class());
    }

    /// Every other byte in every place: refused, unless the place holds content that has other valid values,
    /// and then it is read as exactly that.
    fn every_changed_byte(class: Class, padded: &[u8], content: impl Fn(usize) -> bool) {
        for at in 0..padded.len() {
            for byte in (0..=u8::MAX).filter(|byte| *byte != padded[at]) {
                let mut changed = padded.to_vec();
                changed[at] = byte;
                match Value::from_padded(class, &changed) {
                    Ok(value) => {
                        assert!(content(at), "byte {at} = {byte} was accepted");
                        assert_eq!(*value.to_padded(), changed, "byte {at} = {byte} was not kept");
                    }
                    Err(malformed) => assert_eq!(malformed, MalformedValue),
                }
            }
        }
    }

    #[test]
    fn every_malformed_byte_of_a_card_is_refused() {
        let month_year_and_name = |at: usize| matches!(at, 21..=23 | 25..=32);
        every_changed_byte(Class::Pan, &documented(), month_year_and_name);
        every_changed_byte(Class::Pan, &card(PAN, None, None).to_padded(), |_| false);
    }

    #[test]
    fn every_malformed_byte_of_an_ssn_is_refused() {
        every_changed_byte(Class::Ssn, &ssn("123456789").to_padded(), |at| (1..=9).contains(&at));
    }

    #[test]
    fn other_lengths_and_classes_are_refused() {
        let padded = documented();
        let long = [&padded[..], &[0]].concat();
        for length in 0..padded.len() {
            assert_eq!(Value::from_padded(Class::Pan, &padded[..length]).err(), Some(MalformedValue));
            assert_eq!(Value::from_padded(Class::Ssn, &padded[..length]).err(), Some(MalformedValue));
        }
        assert_eq!(Value::from_padded(Class::Pan, &long).err(), Some(MalformedValue));
        assert_eq!(Value::from_padded(Class::Pan, &ssn("123456789").to_padded()).err(), Some(MalformedValue));
    }

    #[test]
    fn separators_have_no_place_in_a_stored_number() {
        let mut padded = documented();
        padded[1] = 19;
        padded[2..21].copy_from_slice(b"4111-1111-1111-1111");
        assert_eq!(Value::from_padded(Class::Pan, &padded).err(), Some(MalformedValue));
    }

    proptest! {
        #[test]
        fn any_card_leads_back_to_itself(
            payload in "[0-9]{11,18}",
            expiry in prop::option::of((1_u32..=12, 2000_u32..=2099)),
            name in prop::option::of("[A-Z][A-Za-z '-]{0,60}"),
        ) {
            let value = card(&with_check_digit(&payload), expiry, name.as_deref());
            let padded = value.to_padded();
            same(&Value::from_padded(Class::Pan, &padded).unwrap_or_else(|e| panic!("{e}")), &value);
        }

        #[test]
        fn any_bytes_are_refused_or_lead_back_to_themselves(
            class in prop::sample::select(&Class::ALL[..]),
            bytes in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            if let Ok(value) = Value::from_padded(class, &bytes) {
                prop_assert_eq!(&*value.to_padded(), &bytes);
            }
        }
    }
}
