//! Checkpoints: signed tree heads that any C2SP tool can verify (tlog-checkpoint, signed-note).
//!
//! ```text
//! vault.example/log/1
//! 20852163
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — vault.example/log/1 Az3grlgtzPICa5OS…xeMcTOAYQ8=
//! ```

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::crypto::{SigningKey, VerifyingKey, sha256};
use crate::limits::{CHECKPOINT_BYTES_MAX, CHECKPOINT_SIGNATURES_MAX, LOG_ENTRIES_MAX, ORIGIN_BYTES_MAX};

use super::TreeHead;

/// The signature type of Ed25519 in a signed note's key (C2SP signed-note).
const ED25519: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const SIGNATURE_BYTES: usize = 64;
/// What every signature line begins with: an em dash and a space.
const SIGNATURE_MARK: &str = "— ";

/// The name of a log, unique for ever: one daemon's log of one vault. First line of its checkpoints and name
/// of its key, so a host name and path by C2SP's advice.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Origin(Arc<str>);

/// A text that cannot name a log.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the origin of a log has 1 to 80 visible ASCII characters other than plus")]
pub struct OriginError;

impl Origin {
    /// Checks and takes a name: 1–80 visible ASCII characters, no space, no `+`.
    ///
    /// # Errors
    /// [`OriginError`] when the text is anything else.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let fits = (1..=ORIGIN_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+');
        if fits { Ok(Self(text.into())) } else { Err(OriginError) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a checkpoint, or the text of a verifier key, is not accepted.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum CheckpointError {
    /// Not the text of a checkpoint.
    #[error("the checkpoint is malformed")]
    Malformed,
    /// A checkpoint of another log.
    #[error("the checkpoint is of another log")]
    OtherOrigin,
    /// No signature by this key, or one that does not verify.
    #[error("the checkpoint is not signed by this key")]
    Unsigned,
    /// Not the text of a verifier key.
    #[error("the verifier key is malformed")]
    KeyMalformed,
}

/// A log's name and public key: all that a verifier needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifierKey {
    origin: Origin,
    key: VerifyingKey,
}

impl VerifierKey {
    /// The verifier key of a log.
    pub const fn new(origin: Origin, key: VerifyingKey) -> Self {
        Self { origin, key }
    }

    /// Reads the text form, exactly as `Display` writes it: `name+key id+base64`.
    ///
    /// # Errors
    /// [`CheckpointError::KeyMalformed`] on anything else, a key id of another key included.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let verifier = Self::parts(text).ok_or(CheckpointError::KeyMalformed)?;
        // The only text of a key is the one it gives: upper-case digits or a foreign key id end here.
        if verifier.to_string() == text { Ok(verifier) } else { Err(CheckpointError::KeyMalformed) }
    }

    fn parts(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('+')?;
        let (_, key) = rest.split_once('+')?;
        let bytes = STANDARD.decode(key).ok()?;
        let (kind, key) = bytes.split_first()?;
        let key = <[u8; 32]>::try_from(key).ok().filter(|_| *kind == ED25519)?;
        Some(Self { origin: Origin::parse(name).ok()?, key: VerifyingKey::from_bytes(key) })
    }

    /// The log's name.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The public key.
    pub const fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// The tree head of a checkpoint of this log.
    ///
    /// # Errors
    /// As [`Checkpoint::parse_and_verify`].
    pub fn verify(&self, checkpoint: &str) -> Result<TreeHead, CheckpointError> {
        Checkpoint::parse_and_verify(checkpoint, &self.origin, &self.key)
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(key_id(&self.origin, &self.key));
        write!(f, "{}+{id:08x}+{}", self.origin, STANDARD.encode(typed(&self.key)))
    }
}

/// A tree head and the log it belongs to: what the signature covers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    origin: Origin,
    head: TreeHead,
}

impl Checkpoint {
    /// The signed checkpoint of a head, ready to publish.
    pub fn sign(origin: &Origin, head: &TreeHead, key: &SigningKey) -> String {
        let note = Self { origin: origin.clone(), head: *head }.to_string();
        let id = key_id(origin, &key.verifying_key());
        let signature = STANDARD.encode([&id[..], &key.sign(note.as_bytes())].concat());
        format!("{note}\n{SIGNATURE_MARK}{origin} {signature}\n")
    }

    /// The head of a checkpoint that `key` signed for the log `origin`.
    ///
    /// Signatures by other keys (witnesses) are passed over, as C2SP asks; there may be up to 16.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`] on any other text, extension lines included, since this vault's logs
    /// write none; [`CheckpointError::OtherOrigin`] and [`CheckpointError::Unsigned`] as they say.
    pub fn parse_and_verify(
        text: &str,
        origin: &Origin,
        key: &VerifyingKey,
    ) -> Result<TreeHead, CheckpointError> {
        if text.len() > CHECKPOINT_BYTES_MAX {
            return Err(CheckpointError::Malformed);
        }
        let (body, signatures) = text.split_once("\n\n").ok_or(CheckpointError::Malformed)?;
        let note = Self::parse(body).ok_or(CheckpointError::Malformed)?;
        if note.origin != *origin {
            return Err(CheckpointError::OtherOrigin);
        }
        let ours = signature_of(signatures, origin, key)?;
        let signed = key.verify(note.to_string().as_bytes(), &ours);
        if signed { Ok(note.head) } else { Err(CheckpointError::Unsigned) }
    }

    /// The three lines of a note, without the last line's end.
    fn parse(body: &str) -> Option<Self> {
        let mut lines = body.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        if lines.next().is_some() {
            return None;
        }
        let head = TreeHead { size: decimal(size)?, root: STANDARD.decode(root).ok()?.try_into().ok()? };
        Some(Self { origin: Origin::parse(origin).ok()?, head })
    }
}

impl fmt::Display for Checkpoint {
    /// The note's text: what is signed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = STANDARD.encode(self.head.root);
        write!(f, "{}\n{}\n{root}\n", self.origin, self.head.size)
    }
}

/// A size without sign or leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let size = text.parse::<u64>().ok().filter(|size| *size <= LOG_ENTRIES_MAX)?;
    (size.to_string() == text).then_some(size)
}

/// The one signature of `key` among the signature lines.
fn signature_of(
    lines: &str,
    origin: &Origin,
    key: &VerifyingKey,
) -> Result<[u8; SIGNATURE_BYTES], CheckpointError> {
    let lines = lines.strip_suffix('\n').ok_or(CheckpointError::Malformed)?;
    let id = key_id(origin, key);
    let mut ours = None;
    for (count, line) in lines.split('\n').enumerate() {
        let (name, signature) = signature_line(line).ok_or(CheckpointError::Malformed)?;
        if count >= CHECKPOINT_SIGNATURES_MAX {
            return Err(CheckpointError::Malformed);
        }
        if name == *origin && signature.starts_with(&id) && ours.replace(signature).is_some() {
            return Err(CheckpointError::Malformed);
        }
    }
    let ours = ours.ok_or(CheckpointError::Unsigned)?;
    ours.get(KEY_ID_BYTES..).and_then(|ours| ours.try_into().ok()).ok_or(CheckpointError::Malformed)
}

/// The key name, and the key id followed by the signature.
fn signature_line(line: &str) -> Option<(Origin, Vec<u8>)> {
    let (name, signature) = line.strip_prefix(SIGNATURE_MARK)?.split_once(' ')?;
    let signature = STANDARD.decode(signature).ok().filter(|bytes| bytes.len() > KEY_ID_BYTES)?;
    Some((Origin::parse(name).ok()?, signature))
}

/// The key id of a signed note: the first bytes of SHA-256(name ‖ 0x0A ‖ type ‖ public key).
fn key_id(origin: &Origin, key: &VerifyingKey) -> [u8; KEY_ID_BYTES] {
    let [a, b, c, d, ..] = sha256(&[origin.as_str().as_bytes(), b"\n", &typed(key)]);
    [a, b, c, d]
}

/// The public key after its signature type.
fn typed(key: &VerifyingKey) -> Vec<u8> {
    [&[ED25519][..], key.as_bytes()].concat()
}
