//! What only one person is to read: encrypted to that person's public key, as a text in the format of
//! [age](https://age-encryption.org/v1), which `age --decrypt` and its other implementations open.
//!
//! X25519, HKDF-SHA-256 and ChaCha20-Poly1305, for one recipient and one chunk: a share is a line of text.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::rand::SystemRandom;
use thiserror::Error;
use zeroize::Zeroizing;

use super::kdf::{TooLong, hkdf_sha256};
use super::mac::MacKey;
use super::random::{Entropy, EntropyFault};

/// Bytes of a public key, and of the keys derived on the way.
const KEY_BYTES: usize = 32;
/// Bytes of the key of one file.
const FILE_KEY_BYTES: usize = 16;
/// Bytes that make the key of the content.
const CONTENT_NONCE_BYTES: usize = 16;
/// Bytes of a chunk's nonce.
const NONCE_BYTES: usize = 12;
/// Bytes of the one chunk; the format's own bound.
const SECRET_BYTES_MAX: usize = 64 * 1024;
/// Before the 58 characters of a recipient's text that are the key and its checksum.
const PREFIX: &str = "age1";
const TEXT_BYTES: usize = 62;
/// Bech32's 32 letters, by the five bits that each stands for.
const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
/// Width of an armored line.
const LINE_BYTES: usize = 64;

/// Whose public key a text is encrypted to; not secret.
#[derive(Clone, Eq, PartialEq)]
pub struct Recipient([u8; KEY_BYTES]);

/// Why nothing was encrypted.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum RecipientError {
    /// The text is no recipient, or a mistyped one.
    #[error("is no age recipient: age1 and 58 more letters and digits, as age-keygen prints it")]
    Malformed,
    /// Its key is one of the few that would make every secret readable to everybody.
    #[error("has a public key that keeps nothing secret")]
    Weak,
    /// The secret is too long.
    #[error("the secret is longer than {SECRET_BYTES_MAX} bytes")]
    TooLong,
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyFault),
}

impl From<TooLong> for RecipientError {
    fn from(_: TooLong) -> Self {
        Self::TooLong
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recipient")
    }
}

impl Recipient {
    /// Reads `age1…`, in small letters as `age-keygen` prints it.
    ///
    /// # Errors
    /// [`RecipientError::Malformed`]: a changed letter is noticed by the checksum.
    pub fn parse(text: &str) -> Result<Self, RecipientError> {
        let letters = text.strip_prefix(PREFIX).filter(|_| text.len() == TEXT_BYTES);
        let fives = letters.ok_or(RecipientError::Malformed)?.bytes();
        let fives = fives.map(|letter| LETTERS.iter().position(|known| *known == letter).map(|at| at as u8));
        let fives: Vec<u8> = fives.collect::<Option<_>>().ok_or(RecipientError::Malformed)?;
        let (key, checksum) = fives.split_last_chunk::<6>().ok_or(RecipientError::Malformed)?;
        if checksum_of(key) != *checksum {
            return Err(RecipientError::Malformed);
        }
        bytes_of(key).map(Self).ok_or(RecipientError::Malformed)
    }

    /// The secret as an armored text that the recipient alone can read.
    ///
    /// # Errors
    /// [`RecipientError`].
    pub fn encrypt(&self, secret: &[u8], entropy: &mut dyn Entropy) -> Result<String, RecipientError> {
        if secret.len() > SECRET_BYTES_MAX {
            return Err(RecipientError::TooLong);
        }
        let mut file_key = Zeroizing::new([0; FILE_KEY_BYTES]);
        entropy.fill(file_key.as_mut_slice())?;
        let mut file = self.header(&file_key)?.into_bytes();
        let mut nonce = [0; CONTENT_NONCE_BYTES];
        entropy.fill(&mut nonce)?;
        file.extend_from_slice(&nonce);
        let key = derived(&nonce, file_key.as_slice(), b"payload")?;
        // The first chunk is the last.
        let mut place = [0; NONCE_BYTES];
        *place.last_mut().unwrap_or(&mut 0) = 1;
        file.extend_from_slice(&sealed(&key, place, secret)?);
        Ok(armored(&file))
    }

    /// The key of the file for this recipient, and a MAC over that.
    fn header(&self, file_key: &Zeroizing<[u8; FILE_KEY_BYTES]>) -> Result<String, RecipientError> {
        let system = SystemRandom::new();
        let ours = EphemeralPrivateKey::generate(&X25519, &system).map_err(|_| EntropyFault)?;
        let share = ours.compute_public_key().map_err(|_| EntropyFault)?;
        let salt = [share.as_ref(), &self.0].concat();
        let theirs = UnparsedPublicKey::new(&X25519, self.0);
        let wrapping =
            agree_ephemeral(ours, &theirs, |shared| derived(&salt, shared, b"age-encryption.org/v1/X25519"));
        let wrapping = wrapping.map_err(|_| RecipientError::Weak)??;
        // The key is used once.
        let body = sealed(&wrapping, [0; NONCE_BYTES], file_key.as_slice())?;
        let share = STANDARD_NO_PAD.encode(share.as_ref());
        let body = STANDARD_NO_PAD.encode(body);
        let header = format!("age-encryption.org/v1\n-> X25519 {share}\n{body}\n---");
        let mac_key = derived(&[], file_key.as_slice(), b"header")?;
        let mac = MacKey::from_slice(mac_key.as_slice()).mac(&[header.as_bytes()]);
        Ok(format!("{header} {}\n", STANDARD_NO_PAD.encode(mac)))
    }
}

fn derived(salt: &[u8], secret: &[u8], info: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, TooLong> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    hkdf_sha256(salt, secret, &[info], key.as_mut_slice())?;
    Ok(key)
}

/// ChaCha20-Poly1305, the tag behind.
fn sealed(
    key: &Zeroizing<[u8; KEY_BYTES]>,
    nonce: [u8; NONCE_BYTES],
    secret: &[u8],
) -> Result<Vec<u8>, RecipientError> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_slice()).map_err(|_| RecipientError::TooLong)?;
    // With room for the tag: growing would leave the secret behind.
    let mut sealed = Vec::with_capacity(secret.len() + CHACHA20_POLY1305.tag_len());
    sealed.extend_from_slice(secret);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let done = LessSafeKey::new(key).seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed);
    done.map_err(|_| RecipientError::TooLong)?;
    Ok(sealed)
}

fn armored(file: &[u8]) -> String {
    let text = STANDARD.encode(file);
    let mut armored = String::from("-----BEGIN AGE ENCRYPTED FILE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(LINE_BYTES.min(rest.len()));
        armored.extend([line, "\n"]);
        rest = behind;
    }
    armored.push_str("-----END AGE ENCRYPTED FILE-----\n");
    armored
}

/// 52 groups of five bits: 256 bits, and four that are zero.
fn bytes_of(fives: &[u8]) -> Option<[u8; KEY_BYTES]> {
    let mut bytes = Vec::with_capacity(KEY_BYTES);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for five in fives {
        held = held << 5 | u32::from(*five);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    if held == 0 { bytes.try_into().ok() } else { None }
}

/// Bech32's checksum (BIP 173) behind the human part `age`.
fn checksum_of(fives: &[u8]) -> [u8; 6] {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let human = b"age";
    let spelled = human.iter().map(|c| c >> 5).chain([0]).chain(human.iter().map(|c| c & 31));
    let mut sum = 1_u32;
    for five in spelled.chain(fives.iter().copied()).chain([0; 6]) {
        let top = sum >> 25;
        sum = (sum & 0x01ff_ffff) << 5 ^ u32::from(five);
        for (bit, generator) in GENERATOR.iter().enumerate() {
            if top >> bit & 1 == 1 {
                sum ^= generator;
            }
        }
    }
    sum ^= 1;
    std::array::from_fn(|at| (sum >> (5 * (5 - at)) & 31) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SystemEntropy;

    /// Of the format's own documentation.
    const RECIPIENT: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    /// The file behind an armored text.
    fn dearmored(text: &str) -> Vec<u8> {
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "-----BEGIN AGE ENCRYPTED FILE-----");
        assert_eq!(lines[lines.len() - 1], "-----END AGE ENCRYPTED FILE-----");
        assert!(lines[1..lines.len() - 2].iter().all(|line| line.len() == 64));
        STANDARD.decode(lines[1..lines.len() - 1].concat()).unwrap()
    }

    /// What the holder of the other half of this key reads.
    fn decrypted(text: &str, ours: EphemeralPrivateKey) -> Option<Vec<u8>> {
        let file = dearmored(text);
        let end = file.windows(4).position(|four| four == b"\n---").unwrap();
        let line_end = end + 4 + file[end + 4..].iter().position(|byte| *byte == b'\n').unwrap();
        let header = std::str::from_utf8(&file[..line_end]).unwrap();
        let lines: Vec<&str> = header.lines().collect();
        let share = STANDARD_NO_PAD.decode(lines[1].strip_prefix("-> X25519 ").unwrap()).unwrap();
        let body = STANDARD_NO_PAD.decode(lines[2]).unwrap();
        let own = ours.compute_public_key().unwrap();
        let salt = [&share[..], own.as_ref()].concat();
        let theirs = UnparsedPublicKey::new(&X25519, &share);
        let wrapping = agree_ephemeral(ours, &theirs, |shared| {
            derived(&salt, shared, b"age-encryption.org/v1/X25519").unwrap()
        });
        let file_key = opened(&wrapping.unwrap(), [0; 12], &body)?;
        let mac = MacKey::from_slice(derived(&[], &file_key, b"header").unwrap().as_slice());
        let shown = lines[3].strip_prefix("--- ").unwrap();
        assert_eq!(STANDARD_NO_PAD.encode(mac.mac(&[&file[..end + 4]])), shown);
        let (nonce, chunk) = file[line_end + 1..].split_at(16);
        let last = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        opened(&derived(nonce, &file_key, b"payload").unwrap(), last, chunk)
    }

    fn opened(key: &[u8; 32], nonce: [u8; 12], text: &[u8]) -> Option<Vec<u8>> {
        let key = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.open_in_place(nonce, Aad::empty(), &mut text).ok().map(|opened| opened.to_vec())
    }

    #[test]
    fn the_recipient_reads_it_and_nobody_else() {
        for secret in [&b""[..], b"vaultshare1_prod", &[7; 300]] {
            let [ours, other] =
                [(); 2].map(|()| EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).unwrap());
            let key = ours.compute_public_key().unwrap();
            let recipient = Recipient(key.as_ref().try_into().unwrap());
            let text = recipient.encrypt(secret, &mut SystemEntropy::new()).unwrap();
            assert_ne!(text, recipient.encrypt(secret, &mut SystemEntropy::new()).unwrap());
            assert_eq!(decrypted(&text, other), None);
            assert_eq!(decrypted(&text, ours).unwrap(), secret);
        }
    }

    #[test]
    fn a_recipient_is_read_as_it_is_printed_and_every_changed_letter_is_noticed() {
        let Recipient(key) = Recipient::parse(RECIPIENT).unwrap();
        assert_eq!(key[..4], [0x07, 0xe2, 0x2f, 0x5e]);
        for at in 0..RECIPIENT.len() {
            for letter in LETTERS.iter().filter(|letter| **letter != RECIPIENT.as_bytes()[at]) {
                let mut changed = RECIPIENT.as_bytes().to_vec();
                changed[at] = *letter;
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(Recipient::parse(&changed), Err(RecipientError::Malformed), "{changed}");
            }
        }
        let longer = format!("{RECIPIENT}q");
        for text in ["", "age1", &RECIPIENT[..61], &longer, &RECIPIENT.to_uppercase(), "ssh-ed25519 AAAA"] {
            assert_eq!(Recipient::parse(text), Err(RecipientError::Malformed), "{text}");
        }
    }

    #[test]
    fn a_key_that_keeps_nothing_secret_and_a_secret_that_is_too_long_are_refused() {
        let weak = Recipient([0; 32]).encrypt(b"secret", &mut SystemEntropy::new());
        assert_eq!(weak, Err(RecipientError::Weak));
        let recipient = Recipient::parse(RECIPIENT).unwrap();
        let long = vec![0; SECRET_BYTES_MAX + 1];
        assert!(recipient.encrypt(&long[1..], &mut SystemEntropy::new()).is_ok());
        assert_eq!(recipient.encrypt(&long, &mut SystemEntropy::new()), Err(RecipientError::TooLong));
    }
}
