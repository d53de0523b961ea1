//! Where the log's rows are read from.

use thiserror::Error;

/// The rows of one log, as its daemon's store holds them: pages and full tiles.
///
/// Nothing read from a source is trusted: whatever is built from it is checked against a tree head.
pub trait LogSource {
    /// The tile of 256 hashes (8,192 bytes) at this level and index; `None` where no full tile is stored.
    ///
    /// A source may also give a tile that is not full yet, as many whole hashes as it has.
    ///
    /// # Errors
    /// [`LogFault`] when the row cannot be read.
    fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, LogFault>;

    /// The first pages whose key (the index after their last entry) is greater than `index`, each with its
    /// key, in order: at most `limit`, and none only where there is none.
    ///
    /// # Errors
    /// [`LogFault`] when a row cannot be read.
    fn pages_after(&self, index: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, LogFault>;

    /// The first of them.
    ///
    /// # Errors
    /// [`LogFault`] when the row cannot be read.
    fn page_after(&self, index: u64) -> Result<Option<(u64, Vec<u8>)>, LogFault> {
        Ok(self.pages_after(index, 1)?.into_iter().next())
    }
}

/// Why the log could not answer.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum LogFault {
    /// The store is away; nothing is known about the log.
    #[error("the audit log cannot be read")]
    Unavailable,
    /// Stored rows contradict the tree head or their own format.
    #[error("{0}")]
    Corrupt(&'static str),
    /// An index or size beyond the head that was asked about.
    #[error("the index or size lies outside the log")]
    OutOfRange,
}
