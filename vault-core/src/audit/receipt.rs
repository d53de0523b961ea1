//! Receipts: what a caller keeps to prove later that its call stands in the log.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::limits::LOG_ENTRIES_MAX;

use super::Origin;
use super::proof::verify_inclusion;
use super::tree::{Hash, LeafHash, TreeHead};

/// Where an entry stands: which log, at which index, with which leaf hash. Written before the answer leaves.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Receipt {
    /// The log.
    pub origin: Origin,
    /// The entry's index in it.
    pub index: u64,
    /// The entry's leaf hash; whoever shows it may ask for the proof.
    pub leaf_hash: LeafHash,
}

/// A text that is no receipt.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a receipt is an origin, an index and a base64 leaf hash with single spaces between them")]
pub struct ReceiptError;

impl Receipt {
    /// Reads the text form, exactly as `Display` writes it: `origin index base64`.
    ///
    /// # Errors
    /// [`ReceiptError`] on anything else.
    pub fn parse(text: &str) -> Result<Self, ReceiptError> {
        let receipt = Self::parts(text).ok_or(ReceiptError)?;
        if receipt.to_string() == text { Ok(receipt) } else { Err(ReceiptError) }
    }

    fn parts(text: &str) -> Option<Self> {
        let (origin, rest) = text.split_once(' ')?;
        let (index, leaf_hash) = rest.split_once(' ')?;
        let index = index.parse().ok().filter(|index| *index < LOG_ENTRIES_MAX)?;
        let leaf_hash = STANDARD.decode(leaf_hash).ok()?.try_into().ok()?;
        Some(Self { origin: Origin::parse(origin).ok()?, index, leaf_hash })
    }

    /// Whether `path` proves that the entry is in the log of this head. The caller has verified that the
    /// head is of the receipt's origin.
    pub fn verify(&self, head: &TreeHead, path: &[Hash]) -> bool {
        verify_inclusion(head, self.index, &self.leaf_hash, path)
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.origin, self.index, STANDARD.encode(self.leaf_hash))
    }
}
