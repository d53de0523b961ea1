//! The HSM that opens the vault: one key of one PKCS#11 token, used through the module of its vendor.
//!
//! ```text
//! vault-core ── Hsm ──▶ Use ──▶ session ──▶ module ──▶ token
//!       one secret             one login       C code of the vendor, in this process
//! ```
//!
//! Every use begins anew: the module is initialised, the token found, the PIN read from its file and given,
//! one thing done, and the module finalised. So a token that was away is seen when it is back, whatever its
//! module remembers of its slots, and between the few uses of a daemon's life nobody is logged in. One use at
//! a time: a module can be initialised only once in a process.
//!
//! Tokens count wrong PINs and lock themselves. Without a person who asks for it, no PIN is given to a token
//! that has counted one since the last right one; and nobody gives one to a token that has a last try left.

mod fault;
mod key;
mod opener;
mod session;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cryptoki::context::Pkcs11;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::session::Session;
use vault_core::crypto::Entropy;
use vault_core::error::HsmFault;
use vault_core::keys::{HSM_CIPHERTEXT_BYTES, HSM_IV_BYTES, Hsm, HsmKeyId, HsmSecret};
use zeroize::Zeroizing;

use self::fault::{of, of_decryption};
use self::session::Access;
use crate::config::HsmConfig;

pub(crate) use self::opener::Opener;

/// Bits of the tag.
const TAG_BITS: u64 = 128;

/// The token that the configuration names, and the module it is reached by.
pub struct Token {
    config: HsmConfig,
    /// Once loaded it stays so: a module that is unloaded may leave threads behind.
    module: OnceLock<Pkcs11>,
    one: Mutex<()>,
}

/// Uses of the token, asked for by a person or not.
#[derive(Clone)]
pub struct Use {
    token: Arc<Token>,
    asked_for: bool,
}

impl Token {
    /// Names the token; loads nothing.
    pub fn new(config: HsmConfig) -> Arc<Self> {
        Arc::new(Self { config, module: OnceLock::new(), one: Mutex::new(()) })
    }

    /// For whoever asks for it, knowing that it takes the PIN.
    pub fn asked_for(self: &Arc<Self>) -> Use {
        Use { token: Arc::clone(self), asked_for: true }
    }

    /// For nobody in particular: a wrong PIN that the token has counted stops it.
    pub fn unasked(self: &Arc<Self>) -> Use {
        Use { token: Arc::clone(self), asked_for: false }
    }
}

impl Use {
    /// Whether the token is there and may be given its PIN. Gives none.
    ///
    /// # Errors
    /// [`HsmFault`].
    pub fn look(&self) -> Result<(), HsmFault> {
        let _one = self.token.one.lock().unwrap_or_else(PoisonError::into_inner);
        self.with_slot(|_, _| Ok(()))
    }

    /// Has the token make the key of a new seal: AES of 256 bits that never leaves it.
    ///
    /// # Errors
    /// [`HsmFault`]; [`HsmFault::KeyExposed`] where the token says of the new key that it could leave.
    pub fn make_key(&self, label: &str, entropy: &mut dyn Entropy) -> Result<HsmKeyId, HsmFault> {
        let id = HsmKeyId::draw(entropy).map_err(|_| HsmFault::Failed)?;
        self.with_session(Access::Write, |session| key::make(session, &id, label))?;
        Ok(id)
    }

    fn with_key<T>(
        &self,
        id: &HsmKeyId,
        work: impl FnOnce(&Session, cryptoki::object::ObjectHandle) -> Result<T, HsmFault>,
    ) -> Result<T, HsmFault> {
        self.with_session(Access::Read, |session| work(session, key::find(session, id)?))
    }
}

impl Hsm for Use {
    fn encrypt(
        &self,
        key: &HsmKeyId,
        mut iv: [u8; HSM_IV_BYTES],
        bound: &[u8],
        secret: &[u8; 32],
    ) -> Result<HsmSecret, HsmFault> {
        let encrypted = self.with_key(key, |session, key| {
            // Tokens that draw their own vector write it where this one stands.
            let parameters = GcmParams::new(&mut iv, bound, TAG_BITS.into()).map_err(of)?;
            session.encrypt(&Mechanism::AesGcm(parameters), key, secret).map_err(of)
        })?;
        let ciphertext: [u8; HSM_CIPHERTEXT_BYTES] = encrypted.try_into().map_err(|_| HsmFault::Unfit)?;
        Ok(HsmSecret { iv, ciphertext })
    }

    fn decrypt(
        &self,
        key: &HsmKeyId,
        bound: &[u8],
        secret: &HsmSecret,
    ) -> Result<Zeroizing<[u8; 32]>, HsmFault> {
        let mut iv = secret.iv;
        let opened = self.with_key(key, |session, key| {
            let parameters = GcmParams::new(&mut iv, bound, TAG_BITS.into()).map_err(of)?;
            let opened = session.decrypt(&Mechanism::AesGcm(parameters), key, &secret.ciphertext);
            opened.map(Zeroizing::new).map_err(of_decryption)
        })?;
        let mut plain = Zeroizing::new([0; 32]);
        if opened.len() != plain.len() {
            return Err(HsmFault::Unfit);
        }
        plain.copy_from_slice(&opened);
        Ok(plain)
    }
}
