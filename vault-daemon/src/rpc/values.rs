//! Wire values into the core's and back. What is parsed here is the last place where plaintext has another
//! form than the core's.

use prost_types::Timestamp as WireTime;
use vault_core::audit::Receipt;
use vault_core::clock::Timestamp;
use vault_core::crypto::{Purposes, RecordState};
use vault_core::data::{
    Brand, CallerText, Card, CardholderName, Class, Expiry, Masked, Pan, PurposeId, Ssn, TenantId, Value,
};
use vault_core::error::Invalid;
use vault_core::limits::RECORD_PURPOSES_MAX;
use vault_core::vault::NewValue;
use vault_proto::v1 as wire;

/// A wire value, checked.
pub(super) fn value(value: Option<&wire::Value>) -> Result<Value, Invalid> {
    match value.and_then(|value| value.kind.as_ref()).ok_or(Invalid::FieldMissing)? {
        wire::value::Kind::Card(card) => card_value(card).map(Value::Pan),
        wire::value::Kind::Ssn(ssn) => Ssn::parse(&ssn.number).map(Value::Ssn),
    }
}

fn card_value(card: &wire::Card) -> Result<Card, Invalid> {
    let pan = Pan::parse(&card.pan)?;
    let expiry = card.expiry.as_ref().map(expiry).transpose()?;
    let cardholder_name = card.cardholder_name.as_deref().map(CardholderName::parse).transpose()?;
    Ok(Card { pan, expiry, cardholder_name })
}

fn expiry(expiry: &wire::Expiry) -> Result<Expiry, Invalid> {
    Expiry::new(expiry.month, expiry.year)
}

/// A value to look for: the number alone.
pub(super) fn bare_value(wire_value: Option<&wire::Value>) -> Result<Value, Invalid> {
    let value = value(wire_value)?;
    match &value {
        Value::Pan(card) if card.expiry.is_some() || card.cardholder_name.is_some() => {
            Err(Invalid::WrongClass)
        }
        _ => Ok(value),
    }
}

/// One item to be tokenized.
pub(super) fn new_value(
    wire_value: Option<&wire::Value>,
    purposes: &[String],
    reference: &str,
) -> Result<NewValue, Invalid> {
    let purposes = purposes
        .iter()
        .take(RECORD_PURPOSES_MAX + 1)
        .map(|name| PurposeId::parse(name).map_err(|_| Invalid::PurposesInvalid))
        .collect::<Result<_, _>>()?;
    let purposes = Purposes::new(purposes)?;
    Ok(NewValue { value: value(wire_value)?, purposes, reference: text(reference)? })
}

/// Caller-given text; empty means none, as proto3 has it.
pub(super) fn text(text: &str) -> Result<Option<CallerText>, Invalid> {
    if text.is_empty() { Ok(None) } else { CallerText::parse(text).map(Some) }
}

/// The name of a tenant.
pub(super) fn tenant(name: &str) -> Result<TenantId, Invalid> {
    // As any other text first: what reads like a card number gets nowhere.
    let name = text(name)?.ok_or(Invalid::FieldMissing)?;
    TenantId::parse(name.as_str()).map_err(|_| Invalid::TextMalformed)
}

/// A released value.
pub(super) fn wire_value(value: &Value) -> wire::Value {
    let kind = match value {
        Value::Pan(card) => wire::value::Kind::Card(wire::Card {
            pan: card.pan.expose_digits().to_vec(),
            expiry: card
                .expiry
                .as_ref()
                .map(|expiry| wire::Expiry { month: expiry.expose_month(), year: expiry.expose_year() }),
            cardholder_name: card.cardholder_name.as_ref().map(|name| name.expose_bytes().to_vec()),
        }),
        Value::Ssn(ssn) => wire::value::Kind::Ssn(wire::Ssn { number: ssn.expose_digits().to_vec() }),
    };
    wire::Value { kind: Some(kind) }
}

/// A masked view.
pub(super) fn wire_masked(class: Class, brand: Option<Brand>, masked: &Masked) -> wire::MaskedValue {
    wire::MaskedValue {
        class: wire_class(class).into(),
        brand: brand.map_or(wire::Brand::Unspecified, wire_brand).into(),
        text: masked.to_string(),
        last_four: masked.last_four().to_owned(),
        bin: masked.bin().unwrap_or_default().to_owned(),
    }
}

/// The class of a value.
pub(super) const fn wire_class(class: Class) -> wire::Class {
    match class {
        Class::Pan => wire::Class::Pan,
        Class::Ssn => wire::Class::Ssn,
    }
}

const fn wire_brand(brand: Brand) -> wire::Brand {
    match brand {
        Brand::Amex => wire::Brand::Amex,
        Brand::Diners => wire::Brand::Diners,
        Brand::Discover => wire::Brand::Discover,
        Brand::Jcb => wire::Brand::Jcb,
        Brand::Maestro => wire::Brand::Maestro,
        Brand::Mastercard => wire::Brand::Mastercard,
        Brand::Unionpay => wire::Brand::Unionpay,
        Brand::Unknown => wire::Brand::Unknown,
        Brand::Visa => wire::Brand::Visa,
    }
}

/// A record's state.
pub(super) const fn wire_state(state: RecordState) -> wire::RecordState {
    match state {
        RecordState::Active => wire::RecordState::Active,
        RecordState::Inactive => wire::RecordState::Inactive,
    }
}

/// A point in time.
pub(super) fn wire_time(at: Timestamp) -> WireTime {
    WireTime {
        seconds: i64::try_from(at.seconds()).unwrap_or(i64::MAX),
        nanos: i32::try_from(at.micros() % 1_000_000 * 1_000).unwrap_or(0),
    }
}

/// A receipt.
pub(super) fn wire_receipt(receipt: &Receipt) -> wire::Receipt {
    wire::Receipt {
        origin: receipt.origin.as_str().to_owned(),
        index: receipt.index,
        leaf_hash: receipt.leaf_hash.to_vec(),
    }
}
