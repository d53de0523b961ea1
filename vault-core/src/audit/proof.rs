//! Proofs that an entry is in the log and that one log extends another, made from stored rows and checked
//! with nothing but hashes (RFC 6962 section 2.1, RFC 9162 section 2.1).

use super::nodes::Nodes;
use super::tree::{Hash, LeafHash, Tree, TreeHead, node_hash};
use super::{LogFault, LogSource};

/// Where an entry stands, and the hashes that lead from it to the root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InclusionProof {
    /// The entry's index.
    pub index: u64,
    /// The entry's leaf hash, as the log has it.
    pub leaf_hash: LeafHash,
    /// The sibling hashes from the leaf up, at most 48.
    pub path: Vec<Hash>,
}

/// The root of an older, shorter log and the hashes that lead from it to the newer root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConsistencyProof {
    /// The older log's size and the root this log had at that size.
    pub from: TreeHead,
    /// The hashes in the order of RFC 6962.
    pub path: Vec<Hash>,
}

/// How a log stands to an earlier head of it, such as the anchor's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extension {
    /// The log begins with exactly the entries of the earlier head.
    Extends,
    /// The log has fewer entries than the earlier head.
    Shorter,
    /// The log is long enough but has other entries.
    Diverges,
}

/// The proof that the entry `index` is in the log of this head. Checked against the head before it is given.
///
/// # Errors
/// [`LogFault::OutOfRange`] when the log has no such entry, [`LogFault::Corrupt`] when the stored hashes do
/// not lead to the head's root.
pub fn inclusion_proof(
    source: &dyn LogSource,
    head: &TreeHead,
    index: u64,
) -> Result<InclusionProof, LogFault> {
    if index >= head.size {
        return Err(LogFault::OutOfRange);
    }
    let mut nodes = Nodes::new(source, head.size);
    let leaf_hash = nodes.node(0, index)?;
    let path = hashes(&mut nodes, siblings(index, head.size))?;
    if !verify_inclusion(head, index, &leaf_hash, &path) {
        return Err(LogFault::Corrupt("a tile of the audit log does not lead to its root"));
    }
    Ok(InclusionProof { index, leaf_hash, path })
}

/// The proof that the log of the head `to` begins with the `from` entries it once had, and the root it had
/// then. Checked before it is given.
///
/// # Errors
/// [`LogFault::OutOfRange`] when `from` is beyond `to`, [`LogFault::Corrupt`] when the stored hashes do not
/// lead to the root of `to`.
pub fn consistency_proof(
    source: &dyn LogSource,
    from: u64,
    to: &TreeHead,
) -> Result<ConsistencyProof, LogFault> {
    if from > to.size {
        return Err(LogFault::OutOfRange);
    }
    let mut nodes = Nodes::new(source, to.size);
    let root = if from == 0 { Tree::empty().root() } else { nodes.range(0, from)? };
    let from = TreeHead { size: from, root };
    let path = hashes(&mut nodes, steps(from.size, to.size))?;
    if !verify_consistency(&from, to, &path) {
        return Err(LogFault::Corrupt("a tile of the audit log does not lead to its root"));
    }
    Ok(ConsistencyProof { from, path })
}

/// Whether the log of the head `current` extends the earlier head `anchored`.
///
/// # Errors
/// [`LogFault`] when the log's rows cannot be read or do not lead to `current`.
pub fn extends(
    source: &dyn LogSource,
    anchored: &TreeHead,
    current: &TreeHead,
) -> Result<Extension, LogFault> {
    if current.size < anchored.size {
        return Ok(Extension::Shorter);
    }
    let then = consistency_proof(source, anchored.size, current)?.from;
    Ok(if then == *anchored { Extension::Extends } else { Extension::Diverges })
}

/// Whether `path` leads from the leaf at `index` to the head's root (RFC 9162 section 2.1.3.2).
pub fn verify_inclusion(head: &TreeHead, index: u64, leaf: &LeafHash, path: &[Hash]) -> bool {
    if index >= head.size {
        return false;
    }
    let (mut place, mut last) = (index, head.size - 1);
    let mut root = *leaf;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if place % 2 == 1 || place == last {
            root = node_hash(sibling, &root);
            // A last node without a sibling rises to where it has one. Not zero, so this ends below 64.
            let unpaired = place.trailing_zeros();
            (place, last) = (place >> unpaired, last >> unpaired);
        } else {
            root = node_hash(&root, sibling);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && root == head.root
}

/// Whether `path` shows that the log of the head `to` begins with all entries of the head `from` (RFC 9162
/// section 2.1.4.2). Every log extends the empty one, by an empty path.
pub fn verify_consistency(from: &TreeHead, to: &TreeHead, path: &[Hash]) -> bool {
    if from.size == 0 {
        return path.is_empty() && from.root == Tree::empty().root();
    }
    if from.size >= to.size {
        return path.is_empty() && from == to;
    }
    // A complete older tree is itself the first node; RFC 6962 leaves it out of the path.
    let own = from.size.is_power_of_two().then_some(from.root);
    let mut path = own.into_iter().chain(path.iter().copied());
    let Some(first) = path.next() else { return false };
    let shared = (from.size - 1).trailing_ones();
    let (mut place, mut last) = ((from.size - 1) >> shared, (to.size - 1) >> shared);
    let (mut old, mut new) = (first, first);
    for hash in path {
        if last == 0 {
            return false;
        }
        if place % 2 == 1 || place == last {
            (old, new) = (node_hash(&hash, &old), node_hash(&hash, &new));
            let unpaired = place.trailing_zeros();
            (place, last) = (place >> unpaired, last >> unpaired);
        } else {
            new = node_hash(&new, &hash);
        }
        (place, last) = (place >> 1, last >> 1);
    }
    last == 0 && old == from.root && new == to.root
}

/// The ranges of entries whose roots make up an inclusion path, from the leaf up (RFC 6962 section 2.1.1).
fn siblings(index: u64, size: u64) -> Vec<(u64, u64)> {
    let (mut from, mut to) = (0, size);
    let mut ranges = Vec::new();
    while to - from > 1 {
        let middle = split(from, to);
        if index < middle {
            ranges.push((middle, to));
            to = middle;
        } else {
            ranges.push((from, middle));
            from = middle;
        }
    }
    ranges.reverse();
    ranges
}

/// The ranges of entries whose roots make up a consistency path (RFC 6962 section 2.1.2).
fn steps(old: u64, new: u64) -> Vec<(u64, u64)> {
    if old == 0 {
        return Vec::new();
    }
    let (mut from, mut to) = (0, new);
    let mut ranges = Vec::new();
    while old != to {
        let middle = split(from, to);
        if old <= middle {
            ranges.push((middle, to));
            to = middle;
        } else {
            ranges.push((from, middle));
            from = middle;
        }
    }
    // Whoever has the older root knows it where it is one node.
    if from > 0 {
        ranges.push((from, to));
    }
    ranges.reverse();
    ranges
}

/// Where RFC 6962 divides a range of two or more entries: after the largest power of two below its length.
const fn split(from: u64, to: u64) -> u64 {
    from + (1 << (to - from - 1).ilog2())
}

fn hashes(nodes: &mut Nodes<'_>, ranges: Vec<(u64, u64)>) -> Result<Vec<Hash>, LogFault> {
    ranges.into_iter().map(|(from, to)| nodes.range(from, to)).collect()
}
