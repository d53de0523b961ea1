//! The key in the token: how it is made, found, and looked at before it is used.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use vault_core::error::HsmFault;
use vault_core::keys::HsmKeyId;

use super::fault::of;

const KEY_BYTES: u64 = 32;

/// What keeps a key inside: asked for when it is made, and looked at whenever it is used.
const INSIDE: [Attribute; 2] = [Attribute::Sensitive(true), Attribute::Extractable(false)];

/// What a token says of a key that it made itself and never let out.
const NEVER_OUTSIDE: [Attribute; 3] =
    [Attribute::AlwaysSensitive(true), Attribute::NeverExtractable(true), Attribute::Local(true)];

/// Makes the key, and looks at what was made.
pub(super) fn make(session: &Session, id: &HsmKeyId, label: &str) -> Result<(), HsmFault> {
    let asked = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::ValueLen(KEY_BYTES.into()),
        Attribute::Id(id.as_bytes().to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Modifiable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Derive(false),
    ];
    let template = [&asked[..], &INSIDE].concat();
    let made = session.generate_key(&Mechanism::AesKeyGen, &template).map_err(of)?;
    let promised =
        [&INSIDE[..], &NEVER_OUTSIDE, &[Attribute::Private(true), Attribute::Token(true)]].concat();
    check(session, made, &promised).inspect_err(|_| {
        // Nothing was encrypted under it; one that stays is of no use to anybody.
        let _ = session.destroy_object(made);
    })
}

/// The one key of this name, if it cannot leave the token.
pub(super) fn find(session: &Session, id: &HsmKeyId) -> Result<ObjectHandle, HsmFault> {
    let named = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Id(id.as_bytes().to_vec()),
    ];
    let [found] = session.find_objects(&named).map_err(of)?[..] else { return Err(HsmFault::NoKey) };
    check(session, found, &INSIDE)?;
    Ok(found)
}

/// Whether a key has each of these attributes.
fn check(session: &Session, key: ObjectHandle, promised: &[Attribute]) -> Result<(), HsmFault> {
    let types: Vec<AttributeType> = promised.iter().map(Attribute::attribute_type).collect();
    let told = session.get_attributes(key, &types).map_err(of)?;
    if promised.iter().all(|attribute| told.contains(attribute)) { Ok(()) } else { Err(HsmFault::KeyExposed) }
}
