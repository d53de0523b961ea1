//! Reading a log back: single entries for listings, all of it for checks.

use crate::limits::AUDIT_ENTRIES_MAX;

use super::log::{FullTile, LogWriter, Staged};
use super::page::Page;
use super::tree::{LeafHash, TreeHead, leaf_hash};
use super::{Entry, LogFault, LogSource, Origin};

/// An entry as it stands in the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoggedEntry {
    /// Its index.
    pub index: u64,
    /// Its leaf hash, which asks for its proof.
    pub leaf_hash: LeafHash,
    /// What it says.
    pub entry: Entry,
}

/// The entries of a log of `head`'s size from the index `from` on: at most `limit`, at most 500.
///
/// They are what the store holds. An inclusion proof, or [`check`], shows that they are what was logged.
///
/// # Errors
/// [`LogFault::OutOfRange`] when `from` is beyond the head, else [`LogFault`] when a row cannot be read.
pub fn read_entries(
    source: &dyn LogSource,
    head: &TreeHead,
    from: u64,
    limit: usize,
) -> Result<Vec<LoggedEntry>, LogFault> {
    if from > head.size {
        return Err(LogFault::OutOfRange);
    }
    let to = from.saturating_add(limit.min(AUDIT_ENTRIES_MAX) as u64).min(head.size);
    let mut entries = Vec::new();
    each_entry(source, from, to, |index, bytes| {
        entries.push(LoggedEntry { index, leaf_hash: leaf_hash(bytes), entry: Entry::from_bytes(bytes)? });
        Ok::<_, LogFault>(())
    })?;
    Ok(entries)
}

/// Proves all stored rows of a log against its head: every entry is well formed, the tree over the entries
/// has the head's root, and every full tile is there and holds the tree's hashes. Reads everything.
///
/// # Errors
/// [`LogFault::Corrupt`] naming the first kind of row that is wrong.
pub fn check(source: &dyn LogSource, head: &TreeHead) -> Result<(), LogFault> {
    // Growing the log once more gives every row it should have; its name is in none of those compared.
    let origin = Origin::parse("check").map_err(|_| LogFault::OutOfRange)?;
    let mut again = LogWriter::create(origin);
    while again.head().size < head.size {
        let staged = stage_next_page(source, &again, head.size)?;
        for tile in &staged.tiles {
            check_tile(source, tile)?;
        }
        again.accept(staged.next).map_err(|_| LogFault::OutOfRange)?;
    }
    if again.head() == *head {
        Ok(())
    } else {
        Err(LogFault::Corrupt("the entries do not add up to the head"))
    }
}

fn stage_next_page(source: &dyn LogSource, log: &LogWriter, size: u64) -> Result<Staged, LogFault> {
    let (end, bytes) = page_of(source, log.head().size)?;
    let mut entries = Vec::new();
    for (index, entry) in Page::parse(end, &bytes)?.entries_from(log.head().size) {
        Entry::from_bytes(entry)?;
        if index < size {
            entries.push((entry.to_vec(), leaf_hash(entry)));
        }
    }
    log.stage(&entries).map_err(|_| LogFault::Corrupt("a page of the audit log is malformed"))
}

fn check_tile(source: &dyn LogSource, tile: &FullTile) -> Result<(), LogFault> {
    match source.tile(tile.level, tile.index)? {
        Some(stored) if stored == tile.bytes => Ok(()),
        Some(_) => Err(LogFault::Corrupt("a tile of the audit log does not hold the tree's hashes")),
        None => Err(LogFault::Corrupt("a full tile of the audit log is missing")),
    }
}

/// Gives the encoded entries `from..to` in order.
pub(super) fn each_entry<E: From<LogFault>>(
    source: &dyn LogSource,
    from: u64,
    to: u64,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut next = from;
    while next < to {
        let (end, bytes) = page_of(source, next)?;
        let page = Page::parse(end, &bytes)?;
        for (index, entry) in page.entries_from(next).take_while(|(index, _)| *index < to) {
            visit(index, entry)?;
        }
        next = end;
    }
    Ok(())
}

/// The page that holds the entry `index`.
fn page_of(source: &dyn LogSource, index: u64) -> Result<(u64, Vec<u8>), LogFault> {
    let missing = LogFault::Corrupt("a page of the audit log is missing");
    let (end, bytes) = source.page_after(index)?.ok_or(missing)?;
    if end <= index || Page::parse(end, &bytes)?.first() > index { Err(missing) } else { Ok((end, bytes)) }
}
