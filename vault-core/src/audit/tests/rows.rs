//! A log's rows in memory, and the tree by its definition.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::super::tree::node_hash;
use super::super::{
    Hash, LeafHash, LogFault, LogSource, LogWriter, StageError, Staged, Tree, TreeHead, leaf_hash,
};
use super::origin;
use crate::limits::PAGE_ENTRIES_MAX;

/// The rows of one log as a store would hold them.
#[derive(Clone, Default)]
pub(super) struct Rows {
    pub(super) pages: BTreeMap<u64, Vec<u8>>,
    pub(super) tiles: BTreeMap<(u8, u64), Vec<u8>>,
    pub(super) head: Vec<u8>,
    pub(super) tile_reads: Cell<usize>,
    pub(super) page_reads: Cell<usize>,
}

impl Rows {
    /// Writes a commit's rows, as the store would.
    pub(super) fn write(&mut self, staged: &Staged) {
        let (end, page) = staged.page.clone();
        assert!(self.pages.insert(end, page).is_none(), "a page is written once");
        for tile in &staged.tiles {
            let before = self.tiles.insert((tile.level, tile.index), tile.bytes.clone());
            assert!(before.is_none(), "a tile is written once");
        }
        self.head = staged.head.clone();
    }
}

impl LogSource for Rows {
    fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, LogFault> {
        self.tile_reads.set(self.tile_reads.get() + 1);
        Ok(self.tiles.get(&(level, index)).cloned())
    }

    fn pages_after(&self, index: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, LogFault> {
        self.page_reads.set(self.page_reads.get() + 1);
        let pages = self.pages.range(index + 1..).take(limit);
        Ok(pages.map(|(end, page)| (*end, page.clone())).collect())
    }
}

/// A log that is written and remembered: its writer, its rows and all its leaf hashes.
pub(super) struct Log {
    pub(super) writer: LogWriter,
    pub(super) rows: Rows,
    pub(super) leaves: Vec<LeafHash>,
}

impl Log {
    pub(super) fn empty() -> Self {
        let writer = LogWriter::create(origin());
        let rows = Rows { head: writer.head_row(), ..Rows::default() };
        Self { writer, rows, leaves: Vec::new() }
    }

    /// A log of short made-up entries, written in commits of the given sizes.
    pub(super) fn of(commits: &[usize]) -> Self {
        let mut log = Self::empty();
        commits.iter().for_each(|count| log.grow(*count));
        log
    }

    pub(super) fn grow(&mut self, count: usize) {
        let first = self.leaves.len();
        let entries = (first..first + count).map(|index| format!("entry {index}").into_bytes());
        self.commit(entries.collect()).unwrap();
    }

    /// Grows by any count, in commits of as many entries as a page can have.
    pub(super) fn grow_in_pages(&mut self, count: usize) {
        for start in (0..count).step_by(PAGE_ENTRIES_MAX) {
            self.grow((count - start).min(PAGE_ENTRIES_MAX));
        }
    }

    pub(super) fn commit(&mut self, entries: Vec<Vec<u8>>) -> Result<(), StageError> {
        let entries: Vec<_> = entries.into_iter().map(hashed).collect();
        let staged = self.writer.stage(&entries)?;
        assert_eq!(staged.first_index, self.leaves.len() as u64);
        self.rows.write(&staged);
        self.writer.accept(staged.next).unwrap();
        self.leaves.extend(entries.iter().map(|(_, leaf)| leaf));
        Ok(())
    }

    /// The head this log had at some size.
    pub(super) fn head_at(&self, size: usize) -> TreeHead {
        TreeHead { size: size as u64, root: naive_root(&self.leaves[..size]) }
    }
}

pub(super) fn hashed(entry: Vec<u8>) -> (Vec<u8>, LeafHash) {
    let leaf = leaf_hash(&entry);
    (entry, leaf)
}

/// MTH(D[n]) as RFC 6962 section 2.1 defines it.
pub(super) fn naive_root(leaves: &[LeafHash]) -> Hash {
    match leaves {
        [] => Tree::empty().root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(largest_power_below(leaves.len()));
            node_hash(&naive_root(left), &naive_root(right))
        }
    }
}

/// PATH(m, D[n]) as RFC 6962 section 2.1.1 defines it.
pub(super) fn naive_path(index: usize, leaves: &[LeafHash]) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let middle = largest_power_below(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut path, sibling) = if index < middle {
        (naive_path(index, left), naive_root(right))
    } else {
        (naive_path(index - middle, right), naive_root(left))
    };
    path.push(sibling);
    path
}

/// SUBPROOF(m, D[n], b) as RFC 6962 section 2.1.2 defines it.
pub(super) fn naive_subproof(old: usize, leaves: &[LeafHash], known: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if known { Vec::new() } else { vec![naive_root(leaves)] };
    }
    let middle = largest_power_below(leaves.len());
    let (left, right) = leaves.split_at(middle);
    let (mut proof, sibling) = if old <= middle {
        (naive_subproof(old, left, known), naive_root(right))
    } else {
        (naive_subproof(old - middle, right, false), naive_root(left))
    };
    proof.push(sibling);
    proof
}

fn largest_power_below(count: usize) -> usize {
    count.next_power_of_two() / 2
}
