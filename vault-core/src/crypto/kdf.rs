//! One key, one use: subkeys by HKDF-SHA-256 (RFC 5869) under a closed set of labels.

use ring::hkdf;
use zeroize::Zeroizing;

use super::key::Key32;

/// What a subkey is for. Closed, so that no two uses can share a label by accident.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Label {
    /// From the root key: encrypts the body of the keyring.
    KeyringWrap,
    /// From the root key: authenticates the anchor's slots.
    AnchorMac,
    /// From the key a seal opens to: encrypts the root key.
    SealWrap,
    /// From the key a seal opens to: commits to that key before anything is decrypted with it.
    SealCommit,
    /// From the two keys of a seal that asks for both: the key it opens to.
    SealJoin,
    /// From the transfer key of a keyring: encrypts the keyring that was made from it, for other daemons.
    KeyringTransfer,
}

impl Label {
    /// All labels.
    pub const ALL: [Self; 6] = [
        Self::KeyringWrap,
        Self::AnchorMac,
        Self::SealWrap,
        Self::SealCommit,
        Self::SealJoin,
        Self::KeyringTransfer,
    ];

    /// The label's bytes in the derivation; part of the on-disk formats.
    pub const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::KeyringWrap => b"vault/keyring-wrap/1",
            Self::AnchorMac => b"vault/anchor-mac/1",
            Self::SealWrap => b"vault/seal-wrap/1",
            Self::SealCommit => b"vault/seal-commit/1",
            Self::SealJoin => b"vault/seal-join/1",
            Self::KeyringTransfer => b"vault/keyring-transfer/1",
        }
    }
}

/// Derives the subkey of `key` for one use: HKDF-SHA-256 with an empty salt and the info `label length (1
/// byte) ‖ label ‖ info`, 32 bytes. `info` binds what the subkey belongs to, such as a vault id.
pub fn subkey(key: &Key32, label: Label, info: &[u8]) -> Key32 {
    derived(key.expose(), label, info)
}

/// The key that two keys make, neither of which says anything of it without the other: as [`subkey`], from
/// one behind the other.
pub fn joined(one: &Key32, other: &Key32, label: Label) -> Key32 {
    let mut both = Zeroizing::new([0; 64]);
    let (front, back) = both.split_at_mut(32);
    front.copy_from_slice(one.expose());
    back.copy_from_slice(other.expose());
    derived(both.as_slice(), label, b"")
}

fn derived(secret: &[u8], label: Label, info: &[u8]) -> Key32 {
    let label = label.as_bytes();
    let mut out = Zeroizing::new([0; 32]);
    // One byte holds the length: the longest label is far shorter than 255 bytes (tested).
    let derived = hkdf_sha256(&[], secret, &[&[label.len() as u8], label, info], out.as_mut_slice());
    match derived {
        Ok(()) => Key32::from_bytes(out),
        Err(TooLong) => unreachable!("HKDF-SHA-256 gives up to 8,160 bytes"),
    }
}

/// More than 255 hash outputs were asked for (RFC 5869, 2.3).
#[derive(Debug)]
pub(crate) struct TooLong;

struct OutputBytes(usize);

impl hkdf::KeyType for OutputBytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// Plain HKDF-SHA-256, as in RFC 5869: extract, then expand into all of `out`.
pub(crate) fn hkdf_sha256(salt: &[u8], secret: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), TooLong> {
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, OutputBytes(out.len()))
        .and_then(|derived| derived.fill(out))
        .map_err(|_| TooLong)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn key(byte: u8) -> Key32 {
        Key32::from_bytes(Zeroizing::new([byte; 32]))
    }

    #[test]
    fn no_two_uses_share_a_label() {
        let labels: HashSet<_> = Label::ALL.iter().map(|label| label.as_bytes()).collect();
        assert_eq!(labels.len(), Label::ALL.len());
        assert!(Label::ALL.iter().all(|label| label.as_bytes().len() < 256));
        // `ALL` is complete: the last variant's number is its length.
        assert_eq!(Label::KeyringTransfer as usize + 1, Label::ALL.len());
    }

    #[test]
    fn key_label_and_info_each_change_the_subkey() {
        let mut seen = HashSet::new();
        for byte in [1, 2] {
            for label in Label::ALL {
                for info in [&b""[..], b"a", b"ab"] {
                    assert!(seen.insert(*subkey(&key(byte), label, info).expose()));
                }
            }
        }
    }

    #[test]
    fn both_keys_and_their_order_make_the_joined_one() {
        let joined = |one, other| *joined(&key(one), &key(other), Label::SealJoin).expose();
        let all: HashSet<_> = [(1, 2), (2, 1), (1, 1), (1, 3), (3, 2)].map(|(a, b)| joined(a, b)).into();
        assert_eq!(all.len(), 5);
        assert_eq!(joined(1, 2), joined(1, 2));
    }

    #[test]
    fn asking_for_too_much_is_refused() {
        let mut longest = vec![0; 255 * 32];
        assert!(hkdf_sha256(&[], &[1; 32], &[], &mut longest).is_ok());
        longest.push(0);
        assert!(hkdf_sha256(&[], &[1; 32], &[], &mut longest).is_err());
    }
}
