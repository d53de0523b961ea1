//! The Merkle tree of RFC 6962 (section 2.1; the same hashes as RFC 9162): an append-only tree in a few
//! hundred bytes.

use crate::crypto::sha256;
use crate::limits::LOG_ENTRIES_MAX;

/// A SHA-256 hash of the tree: of a leaf, an inner node or a root.
pub type Hash = [u8; 32];

/// The hash of one entry: SHA-256(0x00 ‖ entry).
pub type LeafHash = Hash;

// One prefix for leaves and another for nodes, so that no entry can be passed off as an inner node.
const LEAF: &[u8] = &[0];
const NODE: &[u8] = &[1];

/// The leaf hash of an encoded entry: SHA-256(0x00 ‖ entry), RFC 6962 section 2.1.
pub fn leaf_hash(entry: &[u8]) -> LeafHash {
    sha256(&[LEAF, entry])
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right), RFC 6962 section 2.1.
pub(super) fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[NODE, left, right])
}

/// The root over some hashes that stand for equally high, complete subtrees.
pub(super) fn root_of(hashes: &[Hash]) -> Hash {
    let mut tree = Tree::empty();
    for hash in hashes {
        tree.append(*hash);
    }
    tree.root()
}

/// How many entries a log has and the root hash over them: all that a checkpoint signs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TreeHead {
    /// Entries in the log.
    pub size: u64,
    /// The root hash over them; SHA-256 of nothing for an empty log.
    pub root: Hash,
}

/// A tree that can grow but not answer for single leaves: its size and the roots of its complete subtrees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tree {
    size: u64,
    // INVARIANT: one hash per set bit of `size`, the largest subtree first.
    frontier: Vec<Hash>,
}

impl Tree {
    /// The tree without leaves.
    pub const fn empty() -> Self {
        Self { size: 0, frontier: Vec::new() }
    }

    /// A tree from its size and frontier; `None` unless there is one hash per set bit of a possible size.
    pub fn from_frontier(size: u64, frontier: Vec<Hash>) -> Option<Self> {
        let fits = size <= LOG_ENTRIES_MAX && frontier.len() == size.count_ones() as usize;
        fits.then_some(Self { size, frontier })
    }

    /// Adds a leaf: one node hash on average, at most 48.
    pub fn append(&mut self, leaf: LeafHash) {
        self.append_noting(leaf, |_, _| ());
    }

    /// Adds a leaf and names every complete subtree this ends, as (height, hash), the leaf itself first.
    pub(super) fn append_noting(&mut self, leaf: LeafHash, mut complete: impl FnMut(u32, Hash)) {
        let mut node = leaf;
        complete(0, node);
        for height in 1..=self.size.trailing_ones() {
            let Some(left) = self.frontier.pop() else { break };
            node = node_hash(&left, &node);
            complete(height, node);
        }
        self.frontier.push(node);
        self.size = self.size.saturating_add(1);
    }

    /// Leaves in the tree.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, the largest first: one per set bit of the size.
    pub fn frontier(&self) -> &[Hash] {
        &self.frontier
    }

    /// The root hash, from the frontier alone.
    pub fn root(&self) -> Hash {
        let smallest_first = self.frontier.iter().rev().copied();
        smallest_first.reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(|| sha256(&[]))
    }

    /// Size and root.
    pub fn head(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root() }
    }
}
