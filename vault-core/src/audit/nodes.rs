//! Inner nodes of the tree, read from tiles where they are stored and computed from below where not.

use std::collections::HashMap;

use crate::limits::TILE_HASHES;

use super::page::Page;
use super::tree::{Hash, leaf_hash, node_hash, root_of};
use super::{LogFault, LogSource};

/// Levels of a tree that one tile spans: 2^8 = 256 hashes.
pub(super) const TILE_HEIGHT: u32 = 8;

// A tile holds the hashes of a complete subtree of its height.
const _: () = assert!(TILE_HASHES == 1 << TILE_HEIGHT);

/// The complete subtrees of a log of `size` entries. Keeps what it has read, so it serves one question.
pub(super) struct Nodes<'a> {
    source: &'a dyn LogSource,
    size: u64,
    tiles: HashMap<(u8, u64), Option<Vec<u8>>>,
    leaves: HashMap<u64, Hash>,
}

impl<'a> Nodes<'a> {
    pub(super) fn new(source: &'a dyn LogSource, size: u64) -> Self {
        Self { source, size, tiles: HashMap::new(), leaves: HashMap::new() }
    }

    /// The root over the entries `from..to`, a range as it stands in proofs: it begins at a multiple of the
    /// largest power of two that it has room for.
    pub(super) fn range(&mut self, from: u64, to: u64) -> Result<Hash, LogFault> {
        let mut peaks = Vec::new();
        let mut start = from;
        while start < to {
            let height = (to - start).ilog2();
            peaks.push(self.node(height, start >> height)?);
            start += 1 << height;
        }
        let smallest_first = peaks.into_iter().rev();
        smallest_first.reduce(|right, left| node_hash(&left, &right)).ok_or(LogFault::OutOfRange)
    }

    /// The hash of the complete subtree over the entries `index << height .. (index + 1) << height`.
    pub(super) fn node(&mut self, height: u32, index: u64) -> Result<Hash, LogFault> {
        let end = index.checked_add(1).and_then(|next| next.checked_mul(1 << height));
        if end.is_none_or(|end| end > self.size) {
            return Err(LogFault::OutOfRange);
        }
        let (level, within) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
        if let Some(hashes) = self.stored(level, index << within, 1 << within)? {
            return Ok(root_of(&hashes));
        }
        match (level, within) {
            (0, 0) => self.leaf(index),
            (_, 0) => self.below(level, index),
            _ => Ok(node_hash(&self.node(height - 1, 2 * index)?, &self.node(height - 1, 2 * index + 1)?)),
        }
    }

    /// A hash of one level, as the root of the full tile one level down.
    fn below(&mut self, level: u32, index: u64) -> Result<Hash, LogFault> {
        let all = self.stored(level - 1, index << TILE_HEIGHT, TILE_HASHES)?;
        all.map(|hashes| root_of(&hashes)).ok_or(LogFault::Corrupt("a full tile of the audit log is missing"))
    }

    /// `count` hashes of one tile, from the hash `first` of its level on; `None` where no tile holds them.
    fn stored(&mut self, level: u32, first: u64, count: usize) -> Result<Option<Vec<Hash>>, LogFault> {
        let malformed = LogFault::Corrupt("a tile of the audit log is malformed");
        let level = u8::try_from(level).map_err(|_| LogFault::OutOfRange)?;
        let index = first >> TILE_HEIGHT;
        if !self.tiles.contains_key(&(level, index)) {
            let tile = self.source.tile(level, index)?;
            self.tiles.insert((level, index), tile);
        }
        let Some(tile) = self.tiles.get(&(level, index)).and_then(Option::as_ref) else { return Ok(None) };
        let (hashes, rest) = tile.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() > TILE_HASHES {
            return Err(malformed);
        }
        let offset = (first % TILE_HASHES as u64) as usize;
        // A tile that is not full may end before: then the hashes are computed from below.
        Ok(hashes.get(offset..offset + count).map(<[Hash]>::to_vec))
    }

    fn leaf(&mut self, index: u64) -> Result<Hash, LogFault> {
        let missing = LogFault::Corrupt("a page of the audit log is missing");
        if !self.leaves.contains_key(&index) {
            let (end, bytes) = self.source.page_after(index)?.ok_or(missing)?;
            let page = Page::parse(end, &bytes)?;
            self.leaves.extend(page.entries_from(0).map(|(index, entry)| (index, leaf_hash(entry))));
        }
        self.leaves.get(&index).copied().ok_or(missing)
    }
}
