//! Thirty-two secret bytes.

use vault_guard::Locked;
use zeroize::Zeroizing;

use super::random::{Entropy, EntropyFault};

/// A 256-bit key before it is given to an algorithm. Lives in locked memory, is wiped on drop, and cannot be
/// printed, cloned, compared or serialised.
pub struct Key32(Locked<[u8; 32]>);

impl Key32 {
    /// Draws a fresh key.
    ///
    /// # Errors
    /// [`EntropyFault`] when the source of randomness fails; there is no weaker fallback.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, EntropyFault> {
        let mut bytes = Locked::new([0; 32]);
        entropy.fill(bytes.as_mut_slice())?;
        Ok(Self(bytes))
    }

    /// Takes bytes that already are a key; the given copy is wiped.
    #[expect(clippy::needless_pass_by_value, reason = "taken, so that the caller's copy is wiped here")]
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        let mut key = Locked::new([0; 32]);
        key.copy_from_slice(bytes.as_slice());
        Self(key)
    }

    /// The bytes, for `crypto` and `keys` only.
    pub(crate) fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SeededEntropy;

    #[test]
    fn generated_keys_come_from_the_given_entropy() {
        let first = Key32::generate(&mut SeededEntropy::new(1)).unwrap();
        let again = Key32::generate(&mut SeededEntropy::new(1)).unwrap();
        let other = Key32::generate(&mut SeededEntropy::new(2)).unwrap();
        assert_eq!(first.expose(), again.expose());
        assert_ne!(first.expose(), other.expose());
    }

    #[test]
    fn given_bytes_are_the_key() {
        assert_eq!(Key32::from_bytes(Zeroizing::new([7; 32])).expose(), &[7; 32]);
    }
}
