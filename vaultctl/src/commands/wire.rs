//! Parts of the vault's answers as they are shown.

use vault_core::audit::{LeafHash, Origin, Receipt};
use vault_proto::v1::{self, MaskedValue, RecordState, Value, value::Kind};
use zeroize::Zeroizing;

use crate::output::{Record, mask};
use crate::values::Class;

/// A value as it may be shown. Without leave to reveal, nothing of a card but the last four digits.
#[derive(Default)]
pub(super) struct Shown {
    /// The number.
    pub(super) value: Zeroizing<String>,
    /// `MM/YYYY`, or nothing.
    pub(super) expiry: Zeroizing<String>,
    /// The name, or nothing.
    pub(super) cardholder_name: Zeroizing<String>,
}

impl Shown {
    /// A value in full or masked.
    pub(super) fn of(value: Option<&Value>, reveal: bool) -> Self {
        let number = |digits: &[u8]| if reveal { text(digits) } else { Zeroizing::new(mask(digits)) };
        match value.and_then(|value| value.kind.as_ref()) {
            Some(Kind::Card(card)) if reveal => Self {
                value: number(&card.pan),
                expiry: card.expiry.map(|expiry| expiry_text(&expiry)).unwrap_or_default(),
                cardholder_name: card.cardholder_name.as_deref().map(text).unwrap_or_default(),
            },
            Some(Kind::Card(card)) => Self { value: number(&card.pan), ..Self::default() },
            Some(Kind::Ssn(ssn)) => Self { value: number(&ssn.number), ..Self::default() },
            None => Self::default(),
        }
    }
}

fn text(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(String::from_utf8_lossy(bytes).into_owned())
}

fn expiry_text(expiry: &v1::Expiry) -> Zeroizing<String> {
    Zeroizing::new(format!("{:02}/{}", expiry.month, expiry.year))
}

/// Adds what the vault shows of a value.
pub(super) fn masked(record: Record, masked: Option<MaskedValue>) -> Record {
    let masked = masked.unwrap_or_default();
    let (class, brand) = (class(masked.class()), brand(masked.brand()));
    record.text("masked", masked.text).text("class", class).text("brand", brand).text("bin", masked.bin)
}

/// The class that was asked for.
pub(super) const fn class_of(class: Class) -> v1::Class {
    match class {
        Class::Pan => v1::Class::Pan,
        Class::Ssn => v1::Class::Ssn,
    }
}

/// The class, as policies name it.
pub(super) const fn class(class: v1::Class) -> &'static str {
    match class {
        v1::Class::Unspecified => "",
        v1::Class::Pan => "pan",
        v1::Class::Ssn => "ssn",
    }
}

fn brand(brand: v1::Brand) -> String {
    match brand {
        v1::Brand::Unspecified => String::new(),
        brand => brand.as_str_name().trim_start_matches("BRAND_").to_lowercase(),
    }
}

/// The state of a record.
pub(super) const fn state(state: RecordState) -> &'static str {
    match state {
        RecordState::Unspecified => "",
        RecordState::Active => "active",
        RecordState::Inactive => "inactive",
    }
}

/// A receipt in its text form, `origin index hash`: what `audit prove` takes. Nothing if there is none.
pub(super) fn receipt(receipt: Option<&v1::Receipt>) -> String {
    receipt.and_then(checked_receipt).map(|receipt| receipt.to_string()).unwrap_or_default()
}

/// The receipt, if it is one.
pub(super) fn checked_receipt(receipt: &v1::Receipt) -> Option<Receipt> {
    Some(Receipt {
        origin: Origin::parse(&receipt.origin).ok()?,
        index: receipt.index,
        leaf_hash: LeafHash::try_from(receipt.leaf_hash.as_slice()).ok()?,
    })
}

/// A point in time by RFC 3339, UTC.
pub(super) fn time(at: Option<impl ToString>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::card;

    fn shown(reveal: bool) -> [String; 3] {
        let value = card(b"4111111111111111", b"12/2030", b"Test Card").unwrap();
        let shown = Shown::of(Some(&value), reveal);
        [&shown.value, &shown.expiry, &shown.cardholder_name].map(|text| text.to_string())
    }

    #[test]
    fn a_masked_card_shows_neither_expiry_nor_name() {
        assert_eq!(shown(false), ["************1111", "", ""]);
    }

    #[test]
    fn a_revealed_card_is_whole() {
        assert_eq!(shown(true), ["4111111111111111", "12/2030", "Test Card"]);
    }

    #[test]
    fn a_receipt_of_the_wire_reads_as_one() {
        let wire = v1::Receipt { origin: "vault.example/log".to_owned(), index: 7, leaf_hash: vec![1; 32] };
        let text = receipt(Some(&wire));
        assert_eq!(Receipt::parse(&text).unwrap().index, 7);
        assert_eq!(receipt(Some(&v1::Receipt { leaf_hash: vec![1; 31], ..wire })), "");
    }
}
