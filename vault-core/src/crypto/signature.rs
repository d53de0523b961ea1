//! Ed25519 (RFC 8032), for the checkpoints of the audit log. A signature costs about 30 µs: checkpoints, not
//! calls.

use ring::signature::{self, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use vault_guard::Locked;

use super::key::Key32;

/// A private signing key.
pub struct SigningKey(Locked<Ed25519KeyPair>);

impl SigningKey {
    /// The key pair of a 32-byte seed (RFC 8032, 5.1.5).
    pub fn from_seed(seed: &Key32) -> Self {
        match Ed25519KeyPair::from_seed_unchecked(seed.expose()) {
            Ok(pair) => Self(Locked::new(pair)),
            Err(_) => unreachable!("every 32-byte seed is an Ed25519 key"),
        }
    }

    /// Signs a message; deterministic.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut out = [0; 64];
        out.copy_from_slice(self.0.sign(message).as_ref());
        out
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.public_key().as_ref());
        VerifyingKey(out)
    }
}

/// A public key: 32 bytes as RFC 8032 encodes a point.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// From its 32 bytes. Bytes that are no point on the curve verify nothing.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether the signature is this key's over the message. Malleable encodings (S not reduced) are refused.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&signature::ED25519, &self.0).verify(message, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(&Key32::from_bytes(Zeroizing::new([byte; 32])))
    }

    #[test]
    fn only_the_right_key_message_and_signature_verify() {
        let signature = key(1).sign(b"head");
        assert!(key(1).verifying_key().verify(b"head", &signature));
        assert!(!key(1).verifying_key().verify(b"heap", &signature));
        assert!(!key(2).verifying_key().verify(b"head", &signature));
        for byte in 0..64 {
            let mut flipped = signature;
            flipped[byte] ^= 1;
            assert!(!key(1).verifying_key().verify(b"head", &flipped), "byte {byte}");
        }
    }
}
