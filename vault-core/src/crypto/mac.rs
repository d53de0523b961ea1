//! HMAC-SHA-256 (FIPS 198-1), for row MACs, token tags, the blind index, idempotency keys and the anchor.

use ring::hmac;
use subtle::ConstantTimeEq;
use vault_guard::Locked;

use super::key::Key32;

/// Shortest tag that [`MacKey::verify`] accepts, bytes: the 32-bit tag of a token.
const TAG_BYTES_MIN: usize = 4;

/// A MAC key, ready to use: both padded-key hash states are computed once.
pub struct MacKey(Locked<hmac::Key>);

impl MacKey {
    /// Prepares the key.
    pub fn new(key: &Key32) -> Self {
        Self::from_slice(key.expose())
    }

    /// A key of any length, as the public vectors have them.
    pub(super) fn from_slice(key: &[u8]) -> Self {
        Self(Locked::new(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    /// HMAC-SHA-256 of the parts one after another, 32 bytes. Nothing separates the parts: whoever MACs more
    /// than one part of variable length puts the lengths in.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        parts.iter().for_each(|part| context.update(part));
        let mut out = [0; 32];
        out.copy_from_slice(context.sign().as_ref());
        out
    }

    /// Whether `tag` is the MAC of the parts, or its first 4 to 31 bytes. Constant time in the tag's value.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        let expected = self.mac(parts);
        tag.len() >= TAG_BYTES_MIN
            && expected.get(..tag.len()).is_some_and(|expected| bool::from(expected.ct_eq(tag)))
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn key(byte: u8) -> MacKey {
        MacKey::new(&Key32::from_bytes(Zeroizing::new([byte; 32])))
    }

    #[test]
    fn parts_are_concatenated() {
        assert_eq!(key(1).mac(&[b"ab", b"", b"c"]), key(1).mac(&[b"abc"]));
    }

    #[test]
    fn only_the_right_key_and_message_verify() {
        let tag = key(1).mac(&[b"message"]);
        assert!(key(1).verify(&[b"message"], &tag));
        assert!(!key(2).verify(&[b"message"], &tag));
        assert!(!key(1).verify(&[b"massage"], &tag));
    }

    #[test]
    fn truncated_tags_verify_down_to_four_bytes_and_no_further() {
        let tag = key(1).mac(&[b"message"]);
        for length in 0..=32 {
            assert_eq!(key(1).verify(&[b"message"], &tag[..length]), length >= 4, "{length} bytes");
        }
        let longer = [&tag[..], &[0]].concat();
        assert!(!key(1).verify(&[b"message"], &longer));
    }

    #[test]
    fn every_flipped_bit_of_a_tag_is_refused() {
        let tag = key(1).mac(&[b"message"]);
        for bit in 0..256 {
            let mut flipped = tag;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!key(1).verify(&[b"message"], &flipped), "bit {bit}");
        }
    }
}
