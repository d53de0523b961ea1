//! How the root key is wrapped: by a passphrase. Shares of custodians and HSMs will be further kinds.

use zeroize::Zeroizing;

use super::root::RootKey;
use crate::crypto::codec::{Reader, put_short_text};
use crate::crypto::commitment::{COMMITMENT_BYTES, commit, is_committed};
use crate::crypto::kdf::{Label, subkey};
use crate::crypto::passphrase::{self, Params, PassphraseError, SALT_BYTES};
use crate::crypto::{Entropy, EntropyFault, Key32, NONCE_BYTES, RecordKey, TAG_BYTES};
use crate::data::{Environment, VaultId};

/// First bytes of everything a seal binds.
const FORMAT: &[u8] = b"vault/seal/1";
const WRAPPED_BYTES: usize = 32 + TAG_BYTES;

/// How to seal a new keyring.
#[derive(Clone, Copy)]
pub enum Seal<'a> {
    /// Opened by whoever knows the passphrase. One person alone: this is not dual control (PCI DSS 3.7.6).
    Passphrase {
        /// 15 to 1,024 bytes.
        passphrase: &'a [u8],
        /// Not below [`Params::FLOOR`].
        params: Params,
    },
}

/// The kind of a seal, readable without opening it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SealKind {
    /// A passphrase, hashed at this cost.
    Passphrase(Params),
}

impl SealKind {
    const fn code(self) -> u8 {
        match self {
            Self::Passphrase(_) => 1,
        }
    }
}

/// The vault that a seal belongs to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct VaultName {
    pub(super) environment: Environment,
    pub(super) vault_id: VaultId,
}

impl VaultName {
    /// Environment behind its length in one byte, vault id.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_short_text(&mut out, self.environment.as_str());
        out.extend_from_slice(self.vault_id.as_bytes());
        out
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let environment = Environment::parse(reader.short_text()?).ok()?;
        Some(Self { environment, vault_id: VaultId::from_bytes(reader.array()?) })
    }
}

/// The root key as it is stored: wrapped, with everything needed to unwrap it but the passphrase.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SealedRoot {
    params: Params,
    salt: [u8; SALT_BYTES],
    commitment: [u8; COMMITMENT_BYTES],
    nonce: [u8; NONCE_BYTES],
    wrapped: [u8; WRAPPED_BYTES],
}

/// Why a sealed root key does not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum UnsealFault {
    /// The commitment is to another key.
    OtherKey,
    /// The key is the right one, but what it wraps does not authenticate.
    Damaged,
}

impl SealedRoot {
    /// Seals the root key of a vault; takes as long as the parameters ask for.
    pub(super) fn make(
        root: &RootKey,
        vault: &VaultName,
        seal: Seal<'_>,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, SealFault> {
        let Seal::Passphrase { passphrase, params } = seal;
        let mut salt = [0; SALT_BYTES];
        entropy.fill(&mut salt)?;
        let seal_key = passphrase::derive(passphrase, &salt, params)?;
        Ok(Self::wrap(root, vault, &seal_key, (params, salt), entropy)?)
    }

    /// Wraps under a key that is already derived.
    pub(super) fn wrap(
        root: &RootKey,
        vault: &VaultName,
        seal_key: &Key32,
        (params, salt): (Params, [u8; SALT_BYTES]),
        entropy: &mut dyn Entropy,
    ) -> Result<Self, EntropyFault> {
        let mut sealed = Self {
            params,
            salt,
            commitment: [0; COMMITMENT_BYTES],
            nonce: [0; NONCE_BYTES],
            wrapped: [0; WRAPPED_BYTES],
        };
        entropy.fill(&mut sealed.nonce)?;
        let bound = sealed.bound(vault);
        sealed.commitment = commit(seal_key, &bound);
        let wrapped = wrapping_key(seal_key).encrypt(&sealed.nonce, &bound, root.key().expose());
        sealed.wrapped.copy_from_slice(&wrapped);
        Ok(sealed)
    }

    pub(super) const fn kind(&self) -> SealKind {
        SealKind::Passphrase(self.params)
    }

    /// The key a passphrase gives for this seal: the right one only if [`unwrap`](Self::unwrap) says so.
    pub(super) fn derive(&self, passphrase: &[u8]) -> Result<Key32, PassphraseError> {
        passphrase::derive(passphrase, &self.salt, self.params)
    }

    /// Checks the commitment, then unwraps: a wrong key never decrypts anything.
    pub(super) fn unwrap(&self, vault: &VaultName, seal_key: &Key32) -> Result<RootKey, UnsealFault> {
        let bound = self.bound(vault);
        if !is_committed(seal_key, &bound, &self.commitment) {
            return Err(UnsealFault::OtherKey);
        }
        let opened = wrapping_key(seal_key).decrypt(&self.nonce, &bound, &self.wrapped);
        let opened = opened.map_err(|_| UnsealFault::Damaged)?;
        let mut root = Zeroizing::new([0; 32]);
        root.copy_from_slice(&opened);
        Ok(RootKey::from_key(Key32::from_bytes(root)))
    }

    /// What commitment and wrapping are bound to: format, vault, kind, parameters, salt.
    fn bound(&self, vault: &VaultName) -> Vec<u8> {
        let mut out = FORMAT.to_vec();
        out.extend_from_slice(&vault.to_bytes());
        self.put_descriptor(&mut out);
        out
    }

    fn put_descriptor(&self, out: &mut Vec<u8>) {
        out.push(self.kind().code());
        for cost in [self.params.memory_kib, self.params.passes, self.params.lanes] {
            out.extend_from_slice(&cost.to_be_bytes());
        }
        out.extend_from_slice(&self.salt);
    }

    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        self.put_descriptor(out);
        out.extend_from_slice(&self.commitment);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.wrapped);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let code = reader.u8()?;
        let params = Params { memory_kib: reader.u32()?, passes: reader.u32()?, lanes: reader.u32()? };
        (code == SealKind::Passphrase(params).code()).then_some(())?;
        Some(Self {
            params,
            salt: reader.array()?,
            commitment: reader.array()?,
            nonce: reader.array()?,
            wrapped: reader.array()?,
        })
    }
}

/// Why nothing was sealed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SealFault {
    Passphrase(PassphraseError),
    Entropy(EntropyFault),
}

impl From<PassphraseError> for SealFault {
    fn from(error: PassphraseError) -> Self {
        Self::Passphrase(error)
    }
}

impl From<EntropyFault> for SealFault {
    fn from(fault: EntropyFault) -> Self {
        Self::Entropy(fault)
    }
}

fn wrapping_key(seal_key: &Key32) -> RecordKey {
    RecordKey::new(&subkey(seal_key, Label::SealWrap, b""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SeededEntropy;
    use crate::crypto::aead::collision;

    fn key(byte: u8) -> Key32 {
        Key32::from_bytes(Zeroizing::new([byte; 32]))
    }

    fn vault() -> VaultName {
        VaultName { environment: Environment::parse("test").unwrap(), vault_id: VaultId::from_bytes([3; 16]) }
    }

    fn sealed() -> SealedRoot {
        let root = RootKey::from_key(key(1));
        let at_cost = (Params::FLOOR, [5; SALT_BYTES]);
        SealedRoot::wrap(&root, &vault(), &key(2), at_cost, &mut SeededEntropy::new(1)).unwrap()
    }

    fn unwrapped(sealed: &SealedRoot, vault: &VaultName, seal_key: u8) -> Result<[u8; 32], UnsealFault> {
        sealed.unwrap(vault, &key(seal_key)).map(|root| *root.key().expose())
    }

    #[test]
    fn only_the_right_key_for_the_right_vault_unwraps() {
        assert_eq!(unwrapped(&sealed(), &vault(), 2), Ok([1; 32]));
        assert_eq!(unwrapped(&sealed(), &vault(), 3), Err(UnsealFault::OtherKey));
        let renamed = VaultName { environment: Environment::parse("prod").unwrap(), ..vault() };
        assert_eq!(unwrapped(&sealed(), &renamed, 2), Err(UnsealFault::OtherKey));
        let other = VaultName { vault_id: VaultId::from_bytes([4; 16]), ..vault() };
        assert_eq!(unwrapped(&sealed(), &other, 2), Err(UnsealFault::OtherKey));
    }

    #[test]
    fn what_was_written_is_read_and_every_flipped_bit_of_it_refused() {
        let mut bytes = Vec::new();
        sealed().encode_into(&mut bytes);
        assert_eq!(SealedRoot::read(&mut Reader::new(&bytes)), Some(sealed()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let opened =
                SealedRoot::read(&mut Reader::new(&flipped)).map(|seal| unwrapped(&seal, &vault(), 2));
            assert!(!matches!(opened, Some(Ok(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_root_key_wrapped_for_two_passphrases_at_once_is_refused() {
        // Both seal keys decrypt the forged wrapping; the commitment lets only one of them come that far.
        let mut forged = sealed();
        let wrapping_keys = [wrapping_key(&key(2)), wrapping_key(&key(3))];
        let collision =
            collision::of([&wrapping_keys[0], &wrapping_keys[1]], &forged.nonce, &forged.bound(&vault()));
        forged.wrapped.copy_from_slice(&collision);
        for key in &wrapping_keys {
            assert!(key.decrypt(&forged.nonce, &forged.bound(&vault()), &forged.wrapped).is_ok());
        }
        assert!(unwrapped(&forged, &vault(), 2).is_ok());
        assert_eq!(unwrapped(&forged, &vault(), 3), Err(UnsealFault::OtherKey));
    }
}
