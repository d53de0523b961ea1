//! The keyring as plaintext bytes: what the root key wraps. Specified in `docs/format/keyring.md`.

use zeroize::Zeroizing;

use super::keyring::{ClassMaterial, KeyVersion, KeyVersionInfo, Keyring, VaultMaterial};
use super::seal::VaultName;
use super::state::KeyState;
use crate::clock::Timestamp;
use crate::crypto::Key32;
use crate::crypto::codec::{Reader, put_short_text};
use crate::data::{Class, TenantId};

const FORMAT: u16 = 1;

/// The plaintext, in one allocation of exactly its size: growing would leave copies of keys behind.
pub(super) fn encode(keyring: &Keyring) -> Zeroizing<Vec<u8>> {
    let capacity = encoded_len(keyring);
    let mut out = Zeroizing::new(Vec::with_capacity(capacity));
    out.extend_from_slice(&FORMAT.to_be_bytes());
    out.extend_from_slice(&keyring.created_at().micros().to_be_bytes());
    let vault = keyring.material();
    for key in [&vault.token_tag, &vault.row_mac, &vault.signing_seed, &vault.transfer] {
        out.extend_from_slice(key.expose());
    }
    // Far below 2^32 tenants and versions: KEYRING_BYTES_MAX refuses them long before.
    out.extend_from_slice(&(keyring.stored().count() as u32).to_be_bytes());
    for (tenant, class, versions) in keyring.stored() {
        put_short_text(&mut out, tenant.as_str());
        out.push(class.code());
        out.extend_from_slice(&(versions.len() as u32).to_be_bytes());
        versions.iter().for_each(|version| put_version(&mut out, version));
    }
    debug_assert_eq!(out.len(), capacity, "one allocation, exactly used");
    out
}

impl Keyring {
    /// What tells two keyrings apart without telling a key: keyrings with the same keys in the same states
    /// have the same, whatever their generations are.
    pub fn digest(&self) -> [u8; 32] {
        self.row_mac().mac(&[DIGEST_LABEL, &encode(self)])
    }
}

const DIGEST_LABEL: &[u8] = b"vault keyring v1";
const FIXED_BYTES: usize = 2 + 8 + 4 * 32 + 4;
const VERSION_BYTES: usize = 4 + 1 + 8 + 8;
const MATERIAL_BYTES: usize = 3 * 32;

fn encoded_len(keyring: &Keyring) -> usize {
    let of_class = |(tenant, _, versions): (&TenantId, Class, &[KeyVersion])| {
        let materials = versions.iter().filter(|version| version.material().is_some()).count();
        1 + tenant.as_str().len() + 1 + 4 + versions.len() * VERSION_BYTES + materials * MATERIAL_BYTES
    };
    FIXED_BYTES + keyring.stored().map(of_class).sum::<usize>()
}

fn put_version(out: &mut Vec<u8>, version: &KeyVersion) {
    let info = version.info();
    out.extend_from_slice(&info.version.to_be_bytes());
    out.push(info.state.code());
    out.extend_from_slice(&info.created_at.micros().to_be_bytes());
    // Zero while only introduced; the state tells the difference.
    out.extend_from_slice(&info.enabled_at.map_or(0, Timestamp::micros).to_be_bytes());
    if let Some(material) = version.material() {
        for key in [&material.data, &material.blind_index, &material.idempotency] {
            out.extend_from_slice(key.expose());
        }
    }
}

/// Reads what [`encode`] wrote, and nothing else.
pub(super) fn decode(vault: VaultName, generation: u64, bytes: &[u8]) -> Option<Keyring> {
    let mut reader = Reader::new(bytes);
    (reader.u16()? == FORMAT).then_some(())?;
    let created_at = Timestamp::from_micros(reader.u64()?);
    let material = VaultMaterial {
        token_tag: read_key(&mut reader)?,
        row_mac: read_key(&mut reader)?,
        signing_seed: read_key(&mut reader)?,
        transfer: read_key(&mut reader)?,
    };
    let VaultName { environment, vault_id } = vault;
    let mut keyring = Keyring::assemble(environment, vault_id, generation, created_at, material);
    let mut previous = None;
    for _ in 0..reader.u32()? {
        let tenant = TenantId::parse(reader.short_text()?).ok()?;
        let class = Class::from_code(reader.u8()?)?;
        let place = Some((tenant.clone(), class));
        (previous < place).then_some(())?; // ascending: one canonical order, no repetition
        previous = place;
        keyring.restore(tenant, class, read_versions(&mut reader)?);
    }
    reader.finish()?;
    Some(keyring)
}

fn read_versions(reader: &mut Reader<'_>) -> Option<Vec<KeyVersion>> {
    let count = reader.u32()?;
    let mut versions: Vec<KeyVersion> = Vec::new(); // grown as read: the count alone is not believed
    for _ in 0..count {
        versions.push(read_version(reader)?);
    }
    let ascending = versions.is_sorted_by(|a, b| a.info().version < b.info().version);
    let enabled = versions.iter().filter(|version| version.info().state.encrypts()).count();
    (ascending && enabled <= 1 && !versions.is_empty()).then_some(versions)
}

fn read_version(reader: &mut Reader<'_>) -> Option<KeyVersion> {
    let version = reader.u32()?;
    let state = KeyState::from_code(reader.u8()?)?;
    let created_at = Timestamp::from_micros(reader.u64()?);
    let enabled_at = match (state, reader.u64()?) {
        (state, 0) if state.is_to_come() => None,
        (state, _) if state.is_to_come() => return None,
        (_, micros) => Some(Timestamp::from_micros(micros)),
    };
    let material = match state {
        KeyState::Destroyed => None,
        _ => Some(ClassMaterial {
            data: read_key(reader)?,
            blind_index: read_key(reader)?,
            idempotency: read_key(reader)?,
        }),
    };
    KeyVersion::assemble(KeyVersionInfo { version, state, created_at, enabled_at }, material)
}

fn read_key(reader: &mut Reader<'_>) -> Option<Key32> {
    reader.array().map(|bytes| Key32::from_bytes(Zeroizing::new(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SeededEntropy;
    use crate::data::Environment;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    /// Two tenants; every state.
    fn keyring() -> Keyring {
        let mut entropy = SeededEntropy::new(5);
        let environment = Environment::parse("test").unwrap();
        let mut keyring = Keyring::create(environment, &mut entropy, NOW).unwrap();
        let [acme, initech] = ["acme", "initech"].map(|name| TenantId::parse(name).unwrap());
        for (tenant, class) in [(&initech, Class::Ssn), (&acme, Class::Pan), (&acme, Class::Ssn)] {
            keyring.ensure_class(tenant, class, &mut entropy, NOW).unwrap();
        }
        for version in [2, 3] {
            keyring.introduce(&acme, Class::Pan, &mut entropy, NOW).unwrap();
            keyring.enable(&acme, Class::Pan, version, NOW.plus_seconds(version.into())).unwrap();
        }
        keyring.introduce(&acme, Class::Pan, &mut entropy, NOW).unwrap();
        keyring.destroy(&acme, Class::Pan, 1).unwrap();
        keyring
    }

    fn vault() -> VaultName {
        let of = keyring();
        VaultName { environment: of.environment().clone(), vault_id: *of.vault_id() }
    }

    fn read(bytes: &[u8]) -> Option<Keyring> {
        decode(vault(), keyring().generation(), bytes)
    }

    #[test]
    fn what_was_written_is_read_the_same() {
        let (keyring, bytes) = (keyring(), encode(&keyring()));
        let read = read(&bytes).unwrap();
        assert_eq!(*encode(&read), *bytes);
        assert_eq!(read.inventory(), keyring.inventory());
        assert_eq!(read.created_at(), NOW);
        assert_eq!(bytes.capacity(), bytes.len());
        // The keys do the same work.
        let token = keyring.mint(Class::Pan, &mut SeededEntropy::new(1)).unwrap();
        assert!(read.verify_tag(&token));
        assert_eq!(read.row_mac().mac(&[b"row"]), keyring.row_mac().mac(&[b"row"]));
        assert_eq!(read.signing_key().verifying_key(), keyring.signing_key().verifying_key());
        let acme = TenantId::parse("acme").unwrap();
        let both = [&read, &keyring].map(|keyring| keyring.decrypting(&acme, Class::Pan, 2).unwrap());
        let work = both.map(|keys| {
            let encrypted = keys.data().encrypt(&[1; 24], b"", b"x");
            (encrypted, keys.blind_index().mac(&[b"x"]), keys.idempotency().mac(&[b"x"]))
        });
        assert_eq!(work[0], work[1]);
    }

    #[test]
    fn truncated_and_extended_bytes_are_refused() {
        let bytes = encode(&keyring());
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_none(), "{length} bytes");
        }
        assert!(read(&[&bytes[..], &[0]].concat()).is_none());
    }

    #[test]
    fn whatever_is_read_is_written_the_same() {
        let bytes = encode(&keyring());
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Some(read) = read(&flipped) {
                assert_eq!(*encode(&read), *flipped, "bit {bit}");
            }
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let bytes = encode(&keyring());
        // acme's PAN keys come first: 1 destroyed, 2 decrypt-only, 3 enabled, 4 introduced.
        let first = FIXED_BYTES + 1 + "acme".len() + 1 + 4;
        let second = first + VERSION_BYTES;
        let third = second + VERSION_BYTES + MATERIAL_BYTES;
        let changed = |at: usize, byte: u8| {
            let mut changed = bytes.clone();
            changed[at] = byte;
            read(&changed).is_some()
        };
        assert!(changed(first + 3, 1), "unchanged");
        assert!(!changed(0, 1), "another format");
        assert!(!changed(first + 3, 0), "version 0");
        assert!(!changed(first + 3, 2), "version 2 twice");
        assert!(!changed(second + 4, KeyState::Enabled.code()), "two enabled");
        assert!(!changed(third + 4, KeyState::Introduced.code()), "introduced with a date of enabling");
        assert!(!changed(second + 4, KeyState::Destroyed.code()), "destroyed with keys");
        assert!(!changed(first + 4, KeyState::DecryptOnly.code()), "without keys");
        assert!(!changed(FIXED_BYTES + 1, b'z'), "tenants out of order");
        assert!(!changed(first - 1, 0), "no versions");
    }
}
