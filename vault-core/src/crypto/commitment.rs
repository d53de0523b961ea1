//! Commitment to a key, for the places where keys are *tried*.
//!
//! AES-GCM does not commit to its key: one ciphertext can be made that authenticates under two. Where a
//! passphrase or shares give a key that may be wrong, the commitment is checked before anything is decrypted
//! with it, so that a forged file cannot be opened to one root key with one passphrase and to another with
//! the next, nor serve as an oracle for many at once.

use super::kdf::{Label, subkey};
use super::key::Key32;
use super::mac::MacKey;

/// Bytes of a commitment.
pub const COMMITMENT_BYTES: usize = 32;

/// The commitment to `key`, bound to what stands beside it: HMAC-SHA-256 under a subkey of its own.
pub fn commit(key: &Key32, bound: &[u8]) -> [u8; COMMITMENT_BYTES] {
    committing_key(key).mac(&[bound])
}

/// Whether `commitment` is the one to `key`. Constant time.
pub fn is_committed(key: &Key32, bound: &[u8], commitment: &[u8; COMMITMENT_BYTES]) -> bool {
    committing_key(key).verify(&[bound], commitment)
}

fn committing_key(key: &Key32) -> MacKey {
    MacKey::new(&subkey(key, Label::SealCommit, b""))
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn key(byte: u8) -> Key32 {
        Key32::from_bytes(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn only_the_same_key_and_surroundings_are_committed_to() {
        let commitment = commit(&key(1), b"header");
        assert!(is_committed(&key(1), b"header", &commitment));
        assert!(!is_committed(&key(2), b"header", &commitment));
        assert!(!is_committed(&key(1), b"Header", &commitment));
        for byte in 0..COMMITMENT_BYTES {
            let mut flipped = commitment;
            flipped[byte] ^= 0x80;
            assert!(!is_committed(&key(1), b"header", &flipped));
        }
    }
}
