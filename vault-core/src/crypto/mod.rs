//! The only room that names a cipher.
//!
//! Everything above speaks of record keys, MAC keys, contexts and envelopes. What they are made of is decided
//! here, once:
//!
//! | use | algorithm | source |
//! |---|---|---|
//! | records, keyring body, wrapped root key | XAES-256-GCM, random nonces | C2SP XAES-256-GCM, SP 800-38D |
//! | token tags, blind index, row MACs, anchor, commitment | HMAC-SHA-256 | FIPS 198-1 |
//! | one key per use | HKDF-SHA-256 under a closed set of labels | RFC 5869 |
//! | passphrase seal | Argon2id, version 0x13 | RFC 9106 |
//! | checkpoints | Ed25519 | RFC 8032 |
//! | shares on their way to a custodian | X25519, ChaCha20-Poly1305 | age-encryption.org/v1 |
//! | randomness | the operating system's, in bulk on the hot path | SP 800-90A by way of getrandom(2) |
//!
//! Key bytes stay inside this room and `keys`: nothing here prints, clones or serialises them.

pub(crate) mod aead;
pub(crate) mod codec;
pub mod commitment;
mod context;
mod envelope;
mod hash;
pub mod kdf;
mod key;
mod mac;
pub mod passphrase;
mod random;
mod recipient;
mod signature;
#[cfg(test)]
mod vectors;

pub use aead::{DecryptFailed, NONCE_BYTES, RecordKey, TAG_BYTES};
pub use context::Context;
pub use envelope::{Envelope, Malformed, Purposes, RecordHeader, RecordState};
pub use hash::sha256;
pub use key::Key32;
pub use mac::MacKey;
pub use random::{BulkEntropy, Entropy, EntropyFault, SeededEntropy, SystemEntropy};
pub use recipient::{Recipient, RecipientError};
pub use signature::{SigningKey, VerifyingKey};
