//! The whole log in one file, and its verifier, which needs the public key and nothing else.
//!
//! ```text
//! vault audit export 1
//! <verifier key>
//! <checkpoint: three lines, an empty line, one signature line>
//! (length 2 | entry)*        as many entries as the checkpoint says, then the end of the file
//! ```
//! The file carries entries only: every hash is computed anew, so there is no byte that a verifier does not
//! check. A log is exported whole: entries of one tenant alone could be shown complete by nobody.

use std::io::{self, Read, Write};

use thiserror::Error;

use crate::clock::Timestamp;
use crate::limits::{CHECKPOINT_BYTES_MAX, ENTRY_BYTES_MAX};

use super::checkpoint::{CheckpointError, VerifierKey};
use super::reading::each_entry;
use super::tree::{Tree, TreeHead, leaf_hash};
use super::{Entry, LogFault, LogSource, Receipt};

const TITLE: &str = "vault audit export 1";
/// Lines of a checkpoint with one signature: origin, size, root, an empty line, the signature.
const CHECKPOINT_LINES: usize = 5;

/// Why an export is not written or not accepted.
#[derive(Debug, Error)]
pub enum ExportError {
    /// Reading or writing the file failed.
    #[error("the export cannot be read or written: {0}")]
    Io(#[from] io::Error),
    /// The log's rows cannot be read, or are not those of the checkpoint.
    #[error("{0}")]
    Log(#[from] LogFault),
    /// The checkpoint is not one of this log signed by this key.
    #[error("{0}")]
    Checkpoint(#[from] CheckpointError),
    /// The file does not begin as an export does, or its checkpoint has not exactly one signature.
    #[error("this is not an audit export")]
    Malformed,
    /// The export names another verifier key than the one to verify with.
    #[error("the export is of another log or key")]
    OtherKey,
    /// The file ends before the last entry that the checkpoint covers.
    #[error("the export ends before its last entry")]
    Truncated,
    /// The file goes on after the last entry that the checkpoint covers.
    #[error("the export goes on after its last entry")]
    TooLong,
    /// An entry is not well formed.
    #[error("entry {index} is malformed")]
    EntryMalformed {
        /// Its index.
        index: u64,
    },
    /// The entries are not those that the checkpoint was signed over.
    #[error("the entries do not add up to the signed checkpoint")]
    RootMismatch,
    /// A receipt is of another log, beyond this one's end, or of another entry.
    #[error("the log does not contain the entry of the receipt with index {index}")]
    ReceiptNotInLog {
        /// The receipt's index.
        index: u64,
    },
    /// A tree head seen earlier is not one that this log ever had.
    #[error("the log does not extend the earlier head of size {size}")]
    HeadNotExtended {
        /// The earlier head's size.
        size: u64,
    },
}

/// What a verifier already holds and wants to find in the export.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Receipts of calls: each must be in the log.
    pub receipts: Vec<Receipt>,
    /// Heads of checkpoints verified earlier: the log must extend each. Without one, a log cut back to an
    /// older checkpoint looks like what it once was.
    pub heads: Vec<TreeHead>,
}

/// What a verified export is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Report {
    /// Size and root that the checkpoint was signed over.
    pub head: TreeHead,
    /// Entries whose outcome released an answer.
    pub released: u64,
    /// The earliest and the latest time of an entry; none in an empty log.
    pub times: Option<(Timestamp, Timestamp)>,
}

/// Writes the log up to `checkpoint`, a checkpoint with one signature. Checks it all on the way.
///
/// # Errors
/// [`ExportError`]; after [`LogFault`] or [`ExportError::RootMismatch`] what was written is worthless.
pub fn write_export(
    source: &dyn LogSource,
    key: &VerifierKey,
    checkpoint: &str,
    out: &mut dyn Write,
) -> Result<TreeHead, ExportError> {
    let head = key.verify(checkpoint)?;
    if checkpoint.lines().count() != CHECKPOINT_LINES {
        return Err(ExportError::Malformed);
    }
    write!(out, "{TITLE}\n{key}\n{checkpoint}")?;
    let mut tree = Tree::empty();
    each_entry(source, 0, head.size, |_, entry| {
        tree.append(leaf_hash(entry));
        // A page has no entry longer than 1,024 bytes, so the length fits.
        out.write_all(&u16::try_from(entry.len()).unwrap_or(u16::MAX).to_be_bytes())?;
        out.write_all(entry).map_err(ExportError::Io)
    })?;
    out.flush()?;
    if tree.head() == head { Ok(head) } else { Err(ExportError::RootMismatch) }
}

/// Verifies an export: signature, every entry, the root over them, and that it has what the verifier holds.
///
/// `visit` is given each entry with its index on the way; nothing it sees is proven until this returns `Ok`.
/// Give a buffered reader: it is read in small pieces.
///
/// # Errors
/// [`ExportError`] naming the first thing that is wrong.
pub fn verify_export(
    export: &mut dyn Read,
    key: &VerifierKey,
    held: &Held,
    visit: &mut dyn FnMut(u64, &Entry),
) -> Result<Report, ExportError> {
    let head = read_heading(export, key)?;
    let mut check = Check::new(key, head, held)?;
    for index in 0..head.size {
        let bytes = read_entry(export)?;
        let entry = Entry::from_bytes(&bytes).map_err(|_| ExportError::EntryMalformed { index })?;
        check.take(index, &bytes, &entry)?;
        visit(index, &entry);
    }
    if export.read(&mut [0])? > 0 {
        return Err(ExportError::TooLong);
    }
    check.finish()
}

fn read_heading(export: &mut dyn Read, key: &VerifierKey) -> Result<TreeHead, ExportError> {
    if read_line(export)? != TITLE {
        return Err(ExportError::Malformed);
    }
    if read_line(export)? != key.to_string() {
        return Err(ExportError::OtherKey);
    }
    let mut checkpoint = String::new();
    for _ in 0..CHECKPOINT_LINES {
        checkpoint.push_str(&read_line(export)?);
        checkpoint.push('\n');
    }
    Ok(key.verify(&checkpoint)?)
}

/// A line without its end. No line of a heading is longer than a checkpoint.
fn read_line(export: &mut dyn Read) -> Result<String, ExportError> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() <= CHECKPOINT_BYTES_MAX {
        fill(export, &mut byte)?;
        if byte == *b"\n" {
            return String::from_utf8(line).map_err(|_| ExportError::Malformed);
        }
        line.extend_from_slice(&byte);
    }
    Err(ExportError::Malformed)
}

fn read_entry(export: &mut dyn Read) -> Result<Vec<u8>, ExportError> {
    let mut length = [0; 2];
    fill(export, &mut length)?;
    // A length no entry has is cut to one that cannot be read either.
    let mut entry = vec![0; usize::from(u16::from_be_bytes(length)).min(ENTRY_BYTES_MAX + 1)];
    fill(export, &mut entry)?;
    Ok(entry)
}

fn fill(export: &mut dyn Read, bytes: &mut [u8]) -> Result<(), ExportError> {
    export.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ExportError::Truncated,
        _ => ExportError::Io(error),
    })
}

/// A log seen entry by entry, and what has yet to be found in it.
struct Check<'a> {
    tree: Tree,
    head: TreeHead,
    // Both in the order in which the entries will answer them, the next one last.
    receipts: Vec<&'a Receipt>,
    heads: Vec<&'a TreeHead>,
    released: u64,
    times: Option<(Timestamp, Timestamp)>,
}

impl<'a> Check<'a> {
    fn new(key: &VerifierKey, head: TreeHead, held: &'a Held) -> Result<Self, ExportError> {
        let foreign = |receipt: &&Receipt| receipt.origin != *key.origin() || receipt.index >= head.size;
        if let Some(Receipt { index, .. }) = held.receipts.iter().find(foreign) {
            return Err(ExportError::ReceiptNotInLog { index: *index });
        }
        if let Some(TreeHead { size, .. }) = held.heads.iter().find(|earlier| earlier.size > head.size) {
            return Err(ExportError::HeadNotExtended { size: *size });
        }
        let mut receipts: Vec<_> = held.receipts.iter().collect();
        receipts.sort_by_key(|receipt| std::cmp::Reverse(receipt.index));
        let mut heads: Vec<_> = held.heads.iter().collect();
        heads.sort_by_key(|earlier| std::cmp::Reverse(earlier.size));
        let mut check = Self { tree: Tree::empty(), head, receipts, heads, released: 0, times: None };
        check.compare_heads()?;
        Ok(check)
    }

    fn take(&mut self, index: u64, bytes: &[u8], entry: &Entry) -> Result<(), ExportError> {
        let leaf = leaf_hash(bytes);
        while let Some(receipt) = self.receipts.pop_if(|receipt| receipt.index == index) {
            if receipt.leaf_hash != leaf {
                return Err(ExportError::ReceiptNotInLog { index });
            }
        }
        self.tree.append(leaf);
        self.released += u64::from(entry.outcome.released());
        let (first, last) = self.times.unwrap_or((entry.at, entry.at));
        self.times = Some((first.min(entry.at), last.max(entry.at)));
        self.compare_heads()
    }

    fn compare_heads(&mut self) -> Result<(), ExportError> {
        let size = self.tree.size();
        while let Some(earlier) = self.heads.pop_if(|earlier| earlier.size == size) {
            if earlier.root != self.tree.root() {
                return Err(ExportError::HeadNotExtended { size });
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Report, ExportError> {
        if self.tree.head() != self.head {
            return Err(ExportError::RootMismatch);
        }
        Ok(Report { head: self.head, released: self.released, times: self.times })
    }
}
