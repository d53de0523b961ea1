//! Reading a log back: single entries for listings, all of it for checks.

use std::vec;

use crate::limits::{AUDIT_ENTRIES_MAX, LOG_PAGES_AHEAD_MAX};

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
    let mut pages = Pages::of(source, head.size);
    while again.head().size < head.size {
        let staged = stage_next_page(&mut pages, &again, head.size)?;
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

fn stage_next_page(pages: &mut Pages<'_>, log: &LogWriter, size: u64) -> Result<Staged, LogFault> {
    let (end, bytes) = pages.holding(log.head().size)?;
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
    let mut pages = Pages::of(source, to);
    while next < to {
        let (end, bytes) = pages.holding(next)?;
        let page = Page::parse(end, &bytes)?;
        for (index, entry) in page.entries_from(next).take_while(|(index, _)| *index < to) {
            visit(index, entry)?;
        }
        next = end;
    }
    Ok(())
}

/// Pages read one after another, several at a time: a store across the network is asked seldom.
struct Pages<'a> {
    source: &'a dyn LogSource,
    /// The entry before which reading ends.
    to: u64,
    ahead: vec::IntoIter<(u64, Vec<u8>)>,
    /// Entries of the last page, by which the next ones are reckoned.
    entries: u64,
}

impl<'a> Pages<'a> {
    fn of(source: &'a dyn LogSource, to: u64) -> Self {
        // As if pages were long: the first one tells how long they are.
        Self { source, to, ahead: Vec::new().into_iter(), entries: u64::MAX }
    }

    /// The page that holds the entry `index`, which is the first one asked for or follows the last page.
    fn holding(&mut self, index: u64) -> Result<(u64, Vec<u8>), LogFault> {
        let missing = LogFault::Corrupt("a page of the audit log is missing");
        let (end, bytes) = match self.ahead.next() {
            Some(page) => page,
            None => {
                let wanted = self.to.saturating_sub(index).div_ceil(self.entries.max(1));
                let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).clamp(1, LOG_PAGES_AHEAD_MAX);
                self.ahead = self.source.pages_after(index, wanted)?.into_iter();
                self.ahead.next().ok_or(missing)?
            }
        };
        let first = Page::parse(end, &bytes)?.first();
        if end <= index || first > index {
            return Err(missing);
        }
        self.entries = end - first;
        Ok((end, bytes))
    }
}
