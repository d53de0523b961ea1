//! The tag in every token: it turns guesses away before any store is read. It grants nothing.

use crate::crypto::{Entropy, EntropyFault, Key32, MacKey};
use crate::data::{Class, Environment, Token, VaultId};

/// Mints tokens of one vault and recognises them. Its key never changes, since tokens live in other people's
/// systems.
pub struct TokenTag {
    key: MacKey,
    environment: Environment,
    vault_id: VaultId,
}

impl TokenTag {
    pub(super) fn new(key: &Key32, environment: Environment, vault_id: VaultId) -> Self {
        Self { key: MacKey::new(key), environment, vault_id }
    }

    /// A new token: 128 random bits and their tag.
    ///
    /// # Errors
    /// [`EntropyFault`] when the source of randomness fails.
    pub fn mint(&self, class: Class, entropy: &mut dyn Entropy) -> Result<Token, EntropyFault> {
        let mut bits = [0; 16];
        entropy.fill(&mut bits)?;
        Ok(self.tagged(class, bits))
    }

    /// Whether this vault minted the token, but for one guess in 2^32. Constant time in the tag.
    pub fn verify(&self, token: &Token) -> bool {
        self.over(token.class(), token.bits(), |parts| self.key.verify(parts, token.tag()))
    }

    fn tagged(&self, class: Class, bits: [u8; 16]) -> Token {
        let [a, b, c, d, ..] = self.over(class, &bits, |parts| self.key.mac(parts));
        Token::from_parts(class, bits, [a, b, c, d])
    }

    /// The tagged bytes: environment behind its length in one byte, vault id, class code, bits.
    fn over<R>(&self, class: Class, bits: &[u8; 16], act: impl FnOnce(&[&[u8]]) -> R) -> R {
        let environment = self.environment.as_str().as_bytes();
        // A name has at most 32 bytes.
        act(&[&[environment.len() as u8], environment, self.vault_id.as_bytes(), &[class.code()], bits])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use zeroize::Zeroizing;

    use super::*;
    use crate::crypto::SeededEntropy;

    fn tag(key: u8, environment: &str, vault_id: u8) -> TokenTag {
        let key = Key32::from_bytes(Zeroizing::new([key; 32]));
        TokenTag::new(&key, Environment::parse(environment).unwrap(), VaultId::from_bytes([vault_id; 16]))
    }

    #[test]
    fn minted_tokens_verify_and_differ() {
        let (tag, mut entropy) = (tag(1, "test", 2), SeededEntropy::new(1));
        let tokens: HashSet<_> = (0..500).map(|_| tag.mint(Class::Pan, &mut entropy).unwrap()).collect();
        assert_eq!(tokens.len(), 500);
        assert!(tokens.iter().all(|token| token.class() == Class::Pan && tag.verify(token)));
    }

    #[test]
    fn every_changed_bit_of_a_token_is_refused() {
        let tag = tag(1, "test", 2);
        let token = tag.mint(Class::Pan, &mut SeededEntropy::new(1)).unwrap();
        for bit in 0..160 {
            let (mut bits, mut end) = (*token.bits(), *token.tag());
            if bit < 128 {
                bits[bit / 8] ^= 1 << (bit % 8);
            } else {
                end[bit / 8 - 16] ^= 1 << (bit % 8);
            }
            assert!(!tag.verify(&Token::from_parts(Class::Pan, bits, end)), "bit {bit}");
        }
        assert!(!tag.verify(&Token::from_parts(Class::Ssn, *token.bits(), *token.tag())), "class");
    }

    #[test]
    fn tokens_of_another_key_environment_or_vault_are_refused() {
        let token = tag(1, "test", 2).mint(Class::Ssn, &mut SeededEntropy::new(1)).unwrap();
        assert!(tag(1, "test", 2).verify(&token));
        for other in [tag(9, "test", 2), tag(1, "prod", 2), tag(1, "test", 3)] {
            assert!(!other.verify(&token));
        }
    }

    #[test]
    fn the_token_is_the_documented_one() {
        let bits = std::array::from_fn(|at| at as u8);
        let token = tag(1, "test", 2).tagged(Class::Pan, bits);
        assert_eq!(token.to_text(), "tok_pan_aaabacadaeafagahaiajakalamanaoapgoipgpaj");
        crate::data::documents::says("token.md", &token.to_text());
        crate::data::documents::shows("token.md", &token.to_bytes());
    }

    #[test]
    fn neighbouring_parts_are_not_confused() {
        // "ab" before a vault id beginning with c, "abc" before one that begins a byte later.
        let key = Key32::from_bytes(Zeroizing::new([1; 32]));
        let with = |environment, vault_id| {
            TokenTag::new(&key, Environment::parse(environment).unwrap(), VaultId::from_bytes(vault_id))
        };
        let token = with("ab", *b"cdefghijklmnopqr").mint(Class::Pan, &mut SeededEntropy::new(1)).unwrap();
        assert!(!with("abc", *b"defghijklmnopqr\x01").verify(&token));
    }
}
