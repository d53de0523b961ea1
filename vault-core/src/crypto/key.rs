//! Thirty-two secret bytes.

use zeroize::Zeroizing;

use super::random::{Entropy, EntropyFault};
use crate::data::Secret;

/// A 256-bit key before it is given to an algorithm. Lives on the heap, is wiped on drop, and cannot be
/// printed, cloned, compared or serialised.
pub struct Key32(Secret<[u8; 32]>);

impl Key32 {
    /// Draws a fresh key.
    ///
    /// # Errors
    /// [`EntropyFault`] when the source of randomness fails; there is no weaker fallback.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, EntropyFault> {
        let mut bytes = Box::new([0; 32]);
        entropy.fill(bytes.as_mut_slice())?;
        Ok(Self(Secret::new(bytes)))
    }

    /// Takes bytes that already are a key; the given copy is wiped.
    #[expect(clippy::needless_pass_by_value, reason = "taken, so that the caller's copy is wiped here")]
    pub fn from_bytes(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(Secret::init_with(|key: &mut [u8; 32]| key.copy_from_slice(bytes.as_slice())))
    }

    /// The bytes, for `crypto` and `keys` only.
    pub(crate) fn expose(&self) -> &[u8; 32] {
        self.0.expose()
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
