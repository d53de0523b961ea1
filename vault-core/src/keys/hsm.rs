//! A key in a device that never gives it out, as a seal uses it.
//!
//! The core speaks to no device. Whoever can reach one gives it to the vault as an [`Hsm`]; what the vault
//! asks of it is to encrypt one secret when it is sealed, and to decrypt it when it is opened.

use std::fmt;

use zeroize::Zeroizing;

use super::seal::{SealFault, VaultName};
use crate::crypto::codec::Reader;
use crate::crypto::{Entropy, EntropyFault, Key32};
use crate::error::HsmFault;

/// First bytes of what a device binds to the secret.
const FORMAT: &[u8] = b"vault/hsm-slot/1";
/// Bytes of the initialisation vector.
pub const HSM_IV_BYTES: usize = 12;
/// Bytes of what a device makes of a secret: as many, and a tag of 16.
pub const HSM_CIPHERTEXT_BYTES: usize = 48;

/// A device that encrypts and decrypts under keys which it keeps to itself.
///
/// It does so with AES-256-GCM (SP 800-38D): a vector of 96 bits, a tag of 128, `bound` as associated data.
/// The secret is one half of what opens the vault, made for this and used for nothing else; it is never a key
/// of the keyring. Whatever a device does wrong is found out before a seal is relied on, as the vault tries
/// it.
pub trait Hsm {
    /// Encrypts under the key of this name. The vector was drawn for this one use; a device that insists on
    /// its own says in its answer which it took.
    ///
    /// # Errors
    /// [`HsmFault`].
    fn encrypt(
        &self,
        key: &HsmKeyId,
        iv: [u8; HSM_IV_BYTES],
        bound: &[u8],
        secret: &[u8; 32],
    ) -> Result<HsmSecret, HsmFault>;

    /// Decrypts what [`encrypt`](Self::encrypt) made.
    ///
    /// # Errors
    /// [`HsmFault`]; [`HsmFault::OtherKey`] where it does not authenticate.
    fn decrypt(
        &self,
        key: &HsmKeyId,
        bound: &[u8],
        secret: &HsmSecret,
    ) -> Result<Zeroizing<[u8; 32]>, HsmFault>;
}

/// Names a key in a device: 128 random bits, not secret. In PKCS#11 it is the key's `CKA_ID`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HsmKeyId([u8; Self::BYTES]);

impl HsmKeyId {
    /// Bytes of a name.
    pub const BYTES: usize = 16;

    /// Draws the name of a key that is about to be made.
    ///
    /// # Errors
    /// [`EntropyFault`] when the source of randomness fails.
    pub fn draw(entropy: &mut dyn Entropy) -> Result<Self, EntropyFault> {
        let mut bytes = [0; Self::BYTES];
        entropy.fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Display for HsmKeyId {
    /// 32 hexadecimal digits, as PKCS#11 tools show a `CKA_ID`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A key in a device.
#[derive(Clone, Copy)]
pub struct HsmKey<'a> {
    /// The device.
    pub hsm: &'a dyn Hsm,
    /// Which of its keys.
    pub id: HsmKeyId,
}

/// A secret as a device encrypted it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HsmSecret {
    /// The initialisation vector that was used.
    pub iv: [u8; HSM_IV_BYTES],
    /// Ciphertext and tag.
    pub ciphertext: [u8; HSM_CIPHERTEXT_BYTES],
}

/// What a seal keeps of its HSM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct HsmSlot {
    key: HsmKeyId,
    secret: HsmSecret,
}

impl HsmSlot {
    /// Draws a secret and has the device encrypt it.
    pub(super) fn make(
        vault: &VaultName,
        key: HsmKey<'_>,
        entropy: &mut dyn Entropy,
    ) -> Result<(Self, Key32), SealFault> {
        let secret = Key32::generate(entropy)?;
        let mut iv = [0; HSM_IV_BYTES];
        entropy.fill(&mut iv)?;
        let encrypted = key.hsm.encrypt(&key.id, iv, &bound(vault, &key.id), secret.expose())?;
        Ok((Self { key: key.id, secret: encrypted }, secret))
    }

    /// The secret, which the device decrypts: the right one only if the seal's commitment says so.
    pub(super) fn open(&self, vault: &VaultName, hsm: &dyn Hsm) -> Result<Key32, HsmFault> {
        hsm.decrypt(&self.key, &bound(vault, &self.key), &self.secret).map(Key32::from_bytes)
    }

    pub(super) const fn key(&self) -> HsmKeyId {
        self.key
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.key.as_bytes());
        out.extend_from_slice(&self.secret.iv);
        out.extend_from_slice(&self.secret.ciphertext);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let key = HsmKeyId(reader.array()?);
        Some(Self { key, secret: HsmSecret { iv: reader.array()?, ciphertext: reader.array()? } })
    }
}

/// What the device binds to the secret: format, vault, key.
fn bound(vault: &VaultName, key: &HsmKeyId) -> Vec<u8> {
    let mut out = FORMAT.to_vec();
    out.extend_from_slice(&vault.to_bytes());
    out.extend_from_slice(key.as_bytes());
    out
}

/// A device for tests.
#[cfg(test)]
pub(super) mod double {
    use std::cell::Cell;

    use super::*;
    use crate::crypto::aead::{gcm, gcm_decrypt, gcm_encrypt};

    /// Holds one key under every name, and can misbehave.
    pub(crate) struct Device {
        pub(crate) key: [u8; 32],
        /// Answers with this instead.
        pub(crate) fault: Option<HsmFault>,
        /// Uses this vector, whatever it is given.
        pub(crate) own_iv: Option<[u8; HSM_IV_BYTES]>,
        /// Gives every secret back with this added to its first byte.
        pub(crate) off_by: u8,
        pub(crate) asked: Cell<usize>,
    }

    impl Device {
        pub(crate) fn with_key(byte: u8) -> Self {
            Self { key: [byte; 32], fault: None, own_iv: None, off_by: 0, asked: Cell::new(0) }
        }

        pub(crate) fn key(&self) -> HsmKey<'_> {
            HsmKey { hsm: self, id: HsmKeyId([0xab; HsmKeyId::BYTES]) }
        }

        fn answer(&self) -> Result<(), HsmFault> {
            self.asked.set(self.asked.get() + 1);
            self.fault.map_or(Ok(()), Err)
        }
    }

    impl Hsm for Device {
        fn encrypt(
            &self,
            _: &HsmKeyId,
            iv: [u8; HSM_IV_BYTES],
            bound: &[u8],
            secret: &[u8; 32],
        ) -> Result<HsmSecret, HsmFault> {
            self.answer()?;
            let iv = self.own_iv.unwrap_or(iv);
            let ciphertext = gcm_encrypt(&gcm(&self.key), &iv, bound, secret).try_into().unwrap();
            Ok(HsmSecret { iv, ciphertext })
        }

        fn decrypt(
            &self,
            _: &HsmKeyId,
            bound: &[u8],
            secret: &HsmSecret,
        ) -> Result<Zeroizing<[u8; 32]>, HsmFault> {
            self.answer()?;
            let opened = gcm_decrypt(&gcm(&self.key), &secret.iv, bound, &secret.ciphertext);
            let mut opened: [u8; 32] = opened.map_err(|_| HsmFault::OtherKey)?.as_slice().try_into().unwrap();
            opened[0] = opened[0].wrapping_add(self.off_by);
            Ok(Zeroizing::new(opened))
        }
    }
}
