//! Which key, when, and who may open it.
//!
//! ```text
//! passphrase ───── Argon2id ──┐
//! k of n shares ── combined ──┼─> seal key ── wraps ──> root key ── wraps ──> keyring
//! a key in an HSM ─ decrypts ─┘                             └── authenticates ──> anchor
//! ```
//!
//! The [`Keyring`] holds, for each tenant and class, numbered versions of a data key and of the keys that map
//! digits to rows, and for the whole vault the token-tag key, the row-MAC key and the signing key of the
//! audit log. It lives in a [`KeyringFolder`] outside the data store, in two copies. The [`AnchorFile`]
//! remembers, elsewhere again, how far log and keyring had come. Nothing here gives out key bytes, but to an
//! [`Hsm`] the one secret that it encrypts for a seal.

mod anchor;
mod body;
mod disk;
mod file;
mod hsm;
mod journal;
mod keyring;
mod root;
mod seal;
mod shamir;
mod share;
mod share_set;
mod state;
mod token_tag;
mod transfer;

pub use anchor::{AnchorError, AnchorFile, AnchorState, AnchoredLog};
pub use file::{KeyringFolder, OpenError, SaveError, SealDescription};
pub use hsm::{HSM_CIPHERTEXT_BYTES, HSM_IV_BYTES, Hsm, HsmKey, HsmKeyId, HsmSecret};
pub use journal::{
    CeremonyId, CeremonyStep, JournalError, PendingAttempts, UnsealAttempt, UnsealJournal, UnsealOutcome,
};
pub use keyring::{ClassKeys, EncryptingKeys, KeyChangeError, KeyVersionInfo, Keyring};
pub use root::RootKey;
pub use seal::{Credential, Seal, SealKind};
pub use share::{Deal, DealError, Share, ShareLabel, ShareSetId, ShareTextError};
pub use share_set::{ShareFault, ShareSet};
pub use state::KeyState;
pub use token_tag::TokenTag;
