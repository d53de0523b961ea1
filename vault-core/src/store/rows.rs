//! What binds a row to its place: every row that is neither record nor log ends in a MAC.
//!
//! ```text
//! value ‖ HMAC-SHA-256(row-MAC key, parts) 32
//! parts = label ‖ vault id 16 ‖ length 8 BE ‖ encoded key ‖ length 8 BE ‖ value
//! ```
//!
//! A row moved to another key, tenant, space or vault, or changed by one bit, is refused. A whole row put
//! back as it once was is not: that shows in the log.

use thiserror::Error;

use super::Key;
use crate::crypto::MacKey;
use crate::data::VaultId;

/// Bytes that the guard adds to a value.
pub const GUARD_BYTES: usize = 32;

const LABEL: &[u8] = b"vault row v1";

/// A guarded row that does not verify.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a stored row does not authenticate")]
pub struct Corrupt;

/// The value with its MAC appended, bound to this vault and key.
pub fn guarded(mac: &MacKey, vault: &VaultId, key: &Key, value: &[u8]) -> Vec<u8> {
    let tag = with_parts(vault, key, value, |parts| mac.mac(parts));
    [value, &tag].concat()
}

/// The value without its MAC, if that is the one of this vault, key and value.
///
/// # Errors
/// [`Corrupt`] when the row is too short or its MAC is another.
pub fn unguard<'a>(mac: &MacKey, vault: &VaultId, key: &Key, row: &'a [u8]) -> Result<&'a [u8], Corrupt> {
    let (value, tag) = row.split_last_chunk::<GUARD_BYTES>().ok_or(Corrupt)?;
    if with_parts(vault, key, value, |parts| mac.verify(parts, tag)) { Ok(value) } else { Err(Corrupt) }
}

fn with_parts<T>(vault: &VaultId, key: &Key, value: &[u8], use_parts: impl FnOnce(&[&[u8]]) -> T) -> T {
    let length = |bytes: &[u8]| (bytes.len() as u64).to_be_bytes();
    let place = key.encoded();
    use_parts(&[LABEL, vault.as_bytes(), &length(place), place, &length(value), value])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests may stop loudly")]

    use zeroize::Zeroizing;

    use super::*;
    use crate::crypto::Key32;
    use crate::data::TenantId;
    use crate::store::Space;

    fn mac(byte: u8) -> MacKey {
        MacKey::new(&Key32::from_bytes(Zeroizing::new([byte; 32])))
    }

    fn key(space: Space, tenant: &str, bytes: &[u8]) -> Key {
        Key::new(space, TenantId::parse(tenant).ok().as_ref(), bytes)
    }

    const VAULT: VaultId = VaultId::from_bytes([7; 16]);

    #[test]
    fn a_guarded_row_opens_where_it_was_made() {
        let key = key(Space::Quota, "acme", b"k");
        for value in [&b""[..], b"v", &[0; 1000]] {
            let row = guarded(&mac(1), &VAULT, &key, value);
            assert_eq!(row.len(), value.len() + GUARD_BYTES);
            assert_eq!(unguard(&mac(1), &VAULT, &key, &row), Ok(value));
        }
    }

    #[test]
    fn it_opens_nowhere_else() {
        let home = key(Space::Quota, "acme", b"k");
        let row = guarded(&mac(1), &VAULT, &home, b"value");
        let elsewhere = [
            key(Space::Seen, "acme", b"k"),
            key(Space::Quota, "acm", b"ek"),
            key(Space::Quota, "", b"k"),
            key(Space::Quota, "acme", b"l"),
            key(Space::Quota, "acme", b""),
        ];
        for key in &elsewhere {
            assert_eq!(unguard(&mac(1), &VAULT, key, &row), Err(Corrupt), "{key:?}");
        }
        assert_eq!(unguard(&mac(2), &VAULT, &home, &row), Err(Corrupt), "another key");
        let other = VaultId::from_bytes([8; 16]);
        assert_eq!(unguard(&mac(1), &other, &home, &row), Err(Corrupt), "another vault");
    }

    #[test]
    fn every_bit_and_length_is_checked() {
        let key = key(Space::Index, "acme", b"k");
        let row = guarded(&mac(1), &VAULT, &key, b"value");
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(unguard(&mac(1), &VAULT, &key, &flipped), Err(Corrupt), "bit {bit}");
        }
        for length in 0..row.len() {
            assert_eq!(unguard(&mac(1), &VAULT, &key, &row[..length]), Err(Corrupt), "{length} bytes");
        }
    }

    #[test]
    fn the_format_never_changes() {
        let row = guarded(&mac(1), &VAULT, &key(Space::Meta, "", b"name"), b"value");
        let hex: String = row.iter().map(|byte| format!("{byte:02x}")).collect();
        // Computed with another implementation of HMAC-SHA-256 (Python's hmac).
        assert_eq!(hex, "76616c7565ba045dcd8da9d796cd2957feb2606d500ddafad623f6401fe816f7cfbd7b54f5");
        crate::data::documents::shows("store-rows.md", &row);
    }
}
