//! XAES-256-GCM (C2SP), the one AEAD of the vault.
//!
//! A 192-bit nonce chosen at random never needs counting: 2^80 messages under one key collide with
//! probability 2^-32. The first half of the nonce derives a fresh AES-256 key (SP 800-108r1 with one-block
//! CMAC), the second half is the nonce of AES-256-GCM under it. It neither survives a repeated nonce nor
//! commits to its key: nonces come from [`Entropy`](super::Entropy), and where keys are *tried* a commitment
//! is checked first.

use aes::Aes256;
use aes::cipher::{BlockCipherEncrypt, KeyInit};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use thiserror::Error;
use vault_guard::Locked;
use zeroize::{Zeroize, Zeroizing};

use super::key::Key32;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 24;
/// Bytes that encryption adds.
pub const TAG_BYTES: usize = 16;

/// Wrong key, nonce, associated data or ciphertext. It does not say which: that would be an oracle.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the ciphertext does not authenticate")]
pub struct DecryptFailed;

/// A 256-bit XAES-256-GCM key, ready to use: the AES key schedule and the CMAC subkey are computed once.
pub struct RecordKey(Locked<Schedule>);

struct Schedule {
    block_cipher: Aes256,
    cmac_subkey: Zeroizing<[u8; 16]>,
}

impl RecordKey {
    /// Prepares the key (C2SP XAES-256-GCM, steps 1 and 2).
    pub fn new(key: &Key32) -> Self {
        let block_cipher = Aes256::new(key.expose().into());
        let mut zero_block = aes::Block::default();
        block_cipher.encrypt_block(&mut zero_block);
        let cmac_subkey = Zeroizing::new(doubled(zero_block.into()));
        zero_block.as_mut_slice().zeroize();
        Self(Locked::new(Schedule { block_cipher, cmac_subkey }))
    }

    /// Encrypts: ciphertext ‖ tag, [`TAG_BYTES`] longer than the plaintext. A nonce must never be used twice.
    pub fn encrypt(&self, nonce: &[u8; NONCE_BYTES], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let (cipher, gcm_nonce) = self.derived(nonce);
        gcm_encrypt(&cipher, &gcm_nonce, aad, plaintext)
    }

    /// Decrypts what [`encrypt`](Self::encrypt) made with the same nonce and associated data.
    ///
    /// # Errors
    /// [`DecryptFailed`] when any input differs by a bit; nothing of the plaintext is returned then.
    pub fn decrypt(
        &self,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        ciphertext_and_tag: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DecryptFailed> {
        let (cipher, gcm_nonce) = self.derived(nonce);
        gcm_decrypt(&cipher, &gcm_nonce, aad, ciphertext_and_tag)
    }

    /// AES-256-GCM for one message, and its nonce (steps 3 to 6).
    fn derived(&self, nonce: &[u8; NONCE_BYTES]) -> (Aes256Gcm, [u8; 12]) {
        let (context, gcm_nonce) = halves(nonce);
        (gcm(&self.derived_key(&context)), gcm_nonce)
    }

    fn derived_key(&self, context: &[u8; 12]) -> Zeroizing<[u8; 32]> {
        let mut blocks = [self.kdf_block(1, context), self.kdf_block(2, context)];
        self.0.block_cipher.encrypt_blocks(&mut blocks);
        let mut key = Zeroizing::new([0; 32]);
        key.chunks_exact_mut(16).zip(&blocks).for_each(|(half, block)| half.copy_from_slice(block));
        blocks.iter_mut().for_each(|block| block.as_mut_slice().zeroize());
        key
    }

    /// CMAC input of one counter value: counter (2 bytes) ‖ "X" ‖ 0 ‖ context, already masked with the
    /// subkey.
    fn kdf_block(&self, counter: u8, context: &[u8; 12]) -> aes::Block {
        let head = [0, counter, b'X', 0];
        let message = head.iter().chain(context);
        let mut block = aes::Block::default();
        let masked = message.zip(self.0.cmac_subkey.iter()).map(|(byte, mask)| byte ^ mask);
        block.iter_mut().zip(masked).for_each(|(out, byte)| *out = byte);
        block
    }
}

/// Doubling in GF(2^128) (SP 800-38B, 6.1), without a branch on the secret top bit.
fn doubled(block: [u8; 16]) -> [u8; 16] {
    let value = u128::from_be_bytes(block);
    let reduction = (value >> 127).wrapping_neg() & 0b1000_0111;
    ((value << 1) ^ reduction).to_be_bytes()
}

fn halves(nonce: &[u8; NONCE_BYTES]) -> ([u8; 12], [u8; 12]) {
    let (mut context, mut gcm_nonce) = ([0; 12], [0; 12]);
    let (front, back) = nonce.split_at(12);
    context.copy_from_slice(front);
    gcm_nonce.copy_from_slice(back);
    (context, gcm_nonce)
}

/// AES-256-GCM (SP 800-38D) under a raw key: inside XAES, and for the public attack vectors.
pub(crate) fn gcm(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(key.into())
}

/// AES-256-GCM: ciphertext ‖ 16-byte tag, in one allocation.
pub(crate) fn gcm_encrypt(cipher: &Aes256Gcm, nonce: &[u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(plaintext.len() + TAG_BYTES);
    out.extend_from_slice(plaintext);
    match cipher.encrypt_inout_detached(&Nonce::from(*nonce), aad, out.as_mut_slice().into()) {
        Ok(tag) => out.extend_from_slice(&tag),
        Err(_) => unreachable!("no message or file of the vault reaches the 64 GiB of AES-GCM"),
    }
    out
}

/// AES-256-GCM: checks the tag, then decrypts.
pub(crate) fn gcm_decrypt(
    cipher: &Aes256Gcm,
    nonce: &[u8; 12],
    aad: &[u8],
    ciphertext_and_tag: &[u8],
) -> Result<Zeroizing<Vec<u8>>, DecryptFailed> {
    let (ciphertext, tag) = ciphertext_and_tag.split_last_chunk::<TAG_BYTES>().ok_or(DecryptFailed)?;
    let mut out = Zeroizing::new(ciphertext.to_vec());
    cipher
        .decrypt_inout_detached(&Nonce::from(*nonce), aad, out.as_mut_slice().into(), &Tag::from(*tag))
        .map_err(|_| DecryptFailed)?;
    Ok(out)
}

/// What AES-GCM does not prevent: one ciphertext for two keys.
#[cfg(test)]
pub(crate) mod collision {
    use super::*;

    /// A ciphertext of 32 bytes and its tag that authenticate under both keys.
    ///
    /// The tag is linear in each ciphertext block: with the second block zero it is T1 under one key and T2
    /// under the other; the block b that makes them equal solves b·H1² + T1 = b·H2² + T2.
    pub(crate) fn of(keys: [&RecordKey; 2], nonce: &[u8; NONCE_BYTES], aad: &[u8]) -> Vec<u8> {
        let first_block = [7; 16];
        let [(h1, t1), (h2, t2)] = keys.map(|key| {
            let keystream = key.encrypt(nonce, aad, &[0; 32]);
            let mut plaintext = keystream[..32].to_vec();
            plaintext.iter_mut().zip(first_block).for_each(|(byte, wanted)| *byte ^= wanted);
            let encrypted = key.encrypt(nonce, aad, &plaintext);
            assert_eq!(encrypted[..32], [first_block, [0; 16]].concat());
            (hash_key(key, nonce), u128::from_be_bytes(encrypted[32..].try_into().unwrap()))
        });
        let block = times(t1 ^ t2, inverse(times(h1, h1) ^ times(h2, h2)));
        let tag = t1 ^ times(block, times(h1, h1));
        [&first_block[..], &block.to_be_bytes(), &tag.to_be_bytes()].concat()
    }

    fn hash_key(key: &RecordKey, nonce: &[u8; NONCE_BYTES]) -> u128 {
        let mut zero_block = aes::Block::default();
        Aes256::new((&*key.derived_key(&halves(nonce).0)).into()).encrypt_block(&mut zero_block);
        u128::from_be_bytes(zero_block.into())
    }

    /// Multiplication in GCM's field (SP 800-38D, 6.3).
    fn times(x: u128, mut y: u128) -> u128 {
        let mut product = 0;
        for bit in (0..128).rev() {
            product ^= if x >> bit & 1 == 1 { y } else { 0 };
            y = y >> 1 ^ if y & 1 == 1 { 0xe1 << 120 } else { 0 };
        }
        product
    }

    /// x^(2^128 - 2).
    fn inverse(x: u128) -> u128 {
        (1..128)
            .fold((1 << 127, x), |(product, power), _| {
                let power = times(power, power);
                (times(product, power), power)
            })
            .0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ciphertext_can_open_under_two_keys() {
        // Why trying keys needs a commitment.
        let forged = collision::of([&key(1), &key(2)], &NONCE, b"aad");
        let opened = [1, 2].map(|byte| key(byte).decrypt(&NONCE, b"aad", &forged).unwrap());
        assert_ne!(*opened[0], *opened[1]);
    }

    fn key(byte: u8) -> RecordKey {
        RecordKey::new(&Key32::from_bytes(Zeroizing::new([byte; 32])))
    }

    const NONCE: [u8; NONCE_BYTES] = *b"ABCDEFGHIJKLMNOPQRSTUVWX";

    #[test]
    fn what_was_encrypted_decrypts() {
        for length in [0, 1, 15, 16, 17, 96, 1000] {
            let plaintext = vec![5; length];
            let sealed = key(1).encrypt(&NONCE, b"aad", &plaintext);
            assert_eq!(sealed.len(), length + TAG_BYTES);
            assert_eq!(*key(1).decrypt(&NONCE, b"aad", &sealed).unwrap(), plaintext);
        }
    }

    #[test]
    fn every_input_is_authenticated() {
        let sealed = key(1).encrypt(&NONCE, b"aad", b"plaintext");
        assert!(key(2).decrypt(&NONCE, b"aad", &sealed).is_err());
        assert!(key(1).decrypt(&NONCE, b"aae", &sealed).is_err());
        for byte in 0..NONCE_BYTES {
            let mut nonce = NONCE;
            nonce[byte] ^= 1;
            assert!(key(1).decrypt(&nonce, b"aad", &sealed).is_err(), "nonce byte {byte}");
        }
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(key(1).decrypt(&NONCE, b"aad", &flipped).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(key(1).decrypt(&NONCE, b"aad", &sealed[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn doubling_reduces_only_when_the_top_bit_falls_out() {
        assert_eq!(doubled([0x40; 16]), [0x80; 16]);
        // 0x80…80 shifted left is 0x01…0100 with the top bit lost: reduced by 0x87.
        let mut expected = [0x01; 16];
        expected[15] = 0x87;
        assert_eq!(doubled([0x80; 16]), expected);
    }
}
