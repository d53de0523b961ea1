//! The growing log: entries go in by the commit, rows come out.
//!
//! Staging is pure. [`LogWriter::stage`] computes the rows of one commit and the state after it;
//! [`LogWriter::accept`] installs that state once the store has the rows. A failed commit leaves no trace.

use thiserror::Error;

use crate::limits::{ENTRY_BYTES_MAX, LOG_ENTRIES_MAX, PAGE_ENTRIES_MAX, TILE_HASHES};

use super::nodes::{Nodes, TILE_HEIGHT};
use super::tree::{Hash, LeafHash, Tree, TreeHead};
use super::{LogFault, LogSource, Origin, head, page};

/// The end of a log, ready to grow: the tree's frontier and, per level, the hashes since the last full tile.
#[derive(Debug)]
pub struct LogWriter {
    origin: Origin,
    tree: Tree,
    head: TreeHead,
    open: OpenTiles,
}

/// The rows of one commit and, in `next`, the state after it.
///
/// Write `page`, `tiles` and `head` in one transaction, then hand `next` to [`LogWriter::accept`].
#[derive(Debug)]
pub struct Staged {
    /// The index of the first entry.
    pub first_index: u64,
    /// The page: its key (the index after its last entry; stored big-endian) and its bytes.
    pub page: (u64, Vec<u8>),
    /// The tiles that became full; each is written once and never changes.
    pub tiles: Vec<FullTile>,
    /// The head row after this commit; replaces the one before.
    pub head: Vec<u8>,
    /// The state after this commit.
    pub next: Next,
}

/// A full tile: 256 hashes of one level (C2SP tlog-tiles).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FullTile {
    /// 0 for leaf hashes; level n + 1 holds the root hashes of the full tiles of level n.
    pub level: u8,
    /// The tile's place in its level: it begins at hash 256 × index.
    pub index: u64,
    /// 8,192 bytes.
    pub bytes: Vec<u8>,
}

/// The state of a [`LogWriter`] after a staged commit. Holds only what the commit changes.
#[derive(Debug)]
pub struct Next {
    from: TreeHead,
    tree: Tree,
    head: TreeHead,
    growth: Vec<LevelGrowth>,
}

/// Why entries cannot be staged: a defect of the caller.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum StageError {
    /// No entry at all.
    #[error("a page has at least one entry")]
    Empty,
    /// More entries than a page can have.
    #[error("a page has at most 4096 entries")]
    TooMany,
    /// An entry without bytes or longer than an entry can be.
    #[error("an entry has 1 to 1024 bytes")]
    EntryLength,
    /// The log is as long as a log can be.
    #[error("the log is full")]
    LogFull,
}

/// The state was not staged from the one it should follow: a defect of the caller.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the staged state does not follow the current one")]
pub struct Stale;

impl LogWriter {
    /// The writer of a log without entries.
    pub fn create(origin: Origin) -> Self {
        let tree = Tree::empty();
        Self { origin, head: tree.head(), tree, open: OpenTiles::default() }
    }

    /// The writer of a log whose head row is `head`: its open tiles are rebuilt from pages and full tiles.
    ///
    /// # Errors
    /// [`LogFault::Corrupt`] when the head row is malformed, a row it needs is missing or malformed, what
    /// they add up to is not the head's root, or entries are stored beyond the head.
    pub fn restore(head: &[u8], source: &dyn LogSource) -> Result<Self, LogFault> {
        let (origin, tree) = head::decode(head)?;
        let open = OpenTiles::rebuild(source, tree.size())?;
        if open.frontier() != tree.frontier() {
            return Err(LogFault::Corrupt("the audit log does not add up to its head"));
        }
        if source.page_after(tree.size())?.is_some() {
            return Err(LogFault::Corrupt("the audit log has entries beyond its head"));
        }
        Ok(Self { origin, head: tree.head(), tree, open })
    }

    /// The rows that append `entries`, each with its leaf hash, and the state after it.
    ///
    /// The leaf hashes are taken as given: they are computed where the entry is encoded, on another thread.
    ///
    /// # Errors
    /// [`StageError`] when there is no entry, too many or one too long.
    pub fn stage(&self, entries: &[(Vec<u8>, LeafHash)]) -> Result<Staged, StageError> {
        self.check(entries)?;
        let mut growing = Growing::from(self);
        for (_, leaf) in entries {
            growing.append(*leaf);
        }
        let Growing { tree, growth, tiles, .. } = growing;
        let bytes = page::encode(self.head.size, entries.iter().map(|(entry, _)| entry.as_slice()));
        let head = tree.head();
        Ok(Staged {
            first_index: self.head.size,
            page: (head.size, bytes),
            tiles,
            head: head::encode(&self.origin, &tree, &head.root),
            next: Next { from: self.head, tree, head, growth },
        })
    }

    fn check(&self, entries: &[(Vec<u8>, LeafHash)]) -> Result<(), StageError> {
        if entries.is_empty() {
            return Err(StageError::Empty);
        }
        if entries.len() > PAGE_ENTRIES_MAX {
            return Err(StageError::TooMany);
        }
        if !entries.iter().all(|(entry, _)| (1..=ENTRY_BYTES_MAX).contains(&entry.len())) {
            return Err(StageError::EntryLength);
        }
        if self.head.size + entries.len() as u64 > LOG_ENTRIES_MAX {
            return Err(StageError::LogFull);
        }
        Ok(())
    }

    /// Installs the state after a staged commit, once the store has its rows.
    ///
    /// # Errors
    /// [`Stale`], and no change, when `next` was not staged from the current state.
    pub fn accept(&mut self, next: Next) -> Result<(), Stale> {
        if next.from != self.head {
            return Err(Stale);
        }
        self.open.grow(next.growth);
        self.tree = next.tree;
        self.head = next.head;
        Ok(())
    }

    /// The log's name: the first line of its checkpoints.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Size and root of the log as accepted so far.
    pub const fn head(&self) -> TreeHead {
        self.head
    }

    /// The head row of the log as accepted so far: what `init` writes for an empty log.
    pub fn head_row(&self) -> Vec<u8> {
        head::encode(&self.origin, &self.tree, &self.head.root)
    }

    /// A copy of the tiles that are not full yet (at most 8 KiB a level): with it, proofs need no rebuilding.
    pub fn open_tiles(&self) -> OpenTiles {
        self.open.clone()
    }
}

/// The hashes of each level since its last full tile, at most 255 a level.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OpenTiles {
    // INVARIANT: level n holds (size >> 8n) mod 256 hashes.
    levels: Vec<OpenTile>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct OpenTile {
    index: u64,
    hashes: Vec<Hash>,
}

impl OpenTiles {
    fn rebuild(source: &dyn LogSource, size: u64) -> Result<Self, LogFault> {
        let mut nodes = Nodes::new(source, size);
        let mut levels = Vec::new();
        for height in (0..u64::BITS).step_by(TILE_HEIGHT as usize).take_while(|height| size >> height > 0) {
            let count = size >> height;
            let index = count / TILE_HASHES as u64;
            let open = index * TILE_HASHES as u64..count;
            let hashes = open.map(|place| nodes.node(height, place)).collect::<Result<_, _>>()?;
            levels.push(OpenTile { index, hashes });
        }
        Ok(Self { levels })
    }

    /// The roots of the complete subtrees, the largest first: what the tree's frontier must be.
    fn frontier(&self) -> Vec<Hash> {
        let highest_first = self.levels.iter().rev();
        highest_first.flat_map(|tile| subtree(&tile.hashes).frontier().to_vec()).collect()
    }

    fn grow(&mut self, growth: Vec<LevelGrowth>) {
        self.levels.resize_with(growth.len().max(self.levels.len()), OpenTile::default);
        for (open, grown) in self.levels.iter_mut().zip(growth) {
            if grown.filled > 0 {
                open.hashes.clear();
                open.index += grown.filled;
            }
            open.hashes.extend_from_slice(&grown.hashes);
        }
    }

    /// This copy over a source: full tiles and pages come from the source, open tiles from here.
    pub const fn over<'a>(&'a self, source: &'a dyn LogSource) -> WithOpenTiles<'a> {
        WithOpenTiles { open: self, source }
    }

    fn tile(&self, level: u8, index: u64) -> Option<Vec<u8>> {
        let open = self.levels.get(usize::from(level)).filter(|open| open.index == index)?;
        Some(open.hashes.as_flattened().to_vec())
    }
}

fn subtree(hashes: &[Hash]) -> Tree {
    let mut tree = Tree::empty();
    hashes.iter().for_each(|hash| tree.append(*hash));
    tree
}

/// A source together with the tiles that are not full yet.
#[derive(Clone, Copy)]
pub struct WithOpenTiles<'a> {
    open: &'a OpenTiles,
    source: &'a dyn LogSource,
}

impl LogSource for WithOpenTiles<'_> {
    fn tile(&self, level: u8, index: u64) -> Result<Option<Vec<u8>>, LogFault> {
        self.open.tile(level, index).map_or_else(|| self.source.tile(level, index), |tile| Ok(Some(tile)))
    }

    fn pages_after(&self, index: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, LogFault> {
        self.source.pages_after(index, limit)
    }
}

/// What a commit adds to one level: full tiles, then hashes of the tile that is open after it.
#[derive(Debug, Default)]
struct LevelGrowth {
    filled: u64,
    hashes: Vec<Hash>,
}

/// A tree growing by one commit over open tiles it only reads.
struct Growing<'a> {
    open: &'a OpenTiles,
    tree: Tree,
    growth: Vec<LevelGrowth>,
    tiles: Vec<FullTile>,
}

impl<'a> From<&'a LogWriter> for Growing<'a> {
    fn from(writer: &'a LogWriter) -> Self {
        Self { open: &writer.open, tree: writer.tree.clone(), growth: Vec::new(), tiles: Vec::new() }
    }
}

impl Growing<'_> {
    fn append(&mut self, leaf: LeafHash) {
        let Self { open, tree, growth, tiles } = self;
        tree.append_noting(leaf, |height, hash| {
            if height.is_multiple_of(TILE_HEIGHT) {
                let level = (height / TILE_HEIGHT) as usize;
                tiles.extend(add_to_level(open, growth, level, hash));
            }
        });
    }
}

/// Adds a hash to a level; gives the level's tile if this fills it.
fn add_to_level(
    open: &OpenTiles,
    growth: &mut Vec<LevelGrowth>,
    level: usize,
    hash: Hash,
) -> Option<FullTile> {
    growth.resize_with(growth.len().max(level + 1), LevelGrowth::default);
    let grown = growth.get_mut(level)?;
    grown.hashes.push(hash);
    let begun = open.levels.get(level);
    let before = begun.filter(|_| grown.filled == 0).map_or(&[][..], |open| &open.hashes);
    if before.len() + grown.hashes.len() < TILE_HASHES {
        return None;
    }
    let index = begun.map_or(0, |open| open.index) + grown.filled;
    let bytes = [before.as_flattened(), grown.hashes.as_flattened()].concat();
    grown.filled += 1;
    grown.hashes.clear();
    Some(FullTile { level: u8::try_from(level).ok()?, index, bytes })
}
