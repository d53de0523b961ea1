//! The root key: the only key-encrypting key.

use crate::crypto::kdf::{Label, subkey};
use crate::crypto::{Entropy, EntropyFault, Key32};

/// Wraps the keyring and authenticates the anchor, both through subkeys of their own; encrypts no record. In
/// memory only while the vault is unsealed, on disk only wrapped.
pub struct RootKey(Key32);

impl RootKey {
    /// Draws the root key of a new vault.
    ///
    /// # Errors
    /// [`EntropyFault`] when the source of randomness fails.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, EntropyFault> {
        Key32::generate(entropy).map(Self)
    }

    pub(super) const fn from_key(key: Key32) -> Self {
        Self(key)
    }

    pub(super) const fn key(&self) -> &Key32 {
        &self.0
    }

    /// The subkey for one use, bound to `info`.
    pub(super) fn subkey(&self, label: Label, info: &[u8]) -> Key32 {
        subkey(&self.0, label, info)
    }
}
