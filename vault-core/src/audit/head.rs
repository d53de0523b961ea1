//! The head row: where the log ends.
//!
//! ```text
//! version 1 | origin length 1 | origin | size 8 | root 32 | frontier: 32 per set bit of the size
//! ```

use super::tree::{Hash, Tree, TreeHead};
use super::{LogFault, Origin};

const VERSION: u8 = 1;

/// The head row of a tree with this root.
pub(super) fn encode(origin: &Origin, tree: &Tree, root: &Hash) -> Vec<u8> {
    let name = origin.as_str().as_bytes();
    let frontier = tree.frontier().as_flattened();
    let mut row = Vec::with_capacity(2 + name.len() + 8 + root.len() + frontier.len());
    // An origin is at most 80 bytes long, so its length fits.
    row.extend_from_slice(&[VERSION, u8::try_from(name.len()).unwrap_or(u8::MAX)]);
    row.extend_from_slice(name);
    row.extend_from_slice(&tree.size().to_be_bytes());
    row.extend_from_slice(root);
    row.extend_from_slice(frontier);
    row
}

/// Which log a head row is of, and where that log ends.
///
/// # Errors
/// [`LogFault::Corrupt`] when the row is malformed or contradicts itself.
pub fn head_of_row(row: &[u8]) -> Result<(Origin, TreeHead), LogFault> {
    decode(row).map(|(origin, tree)| (origin, tree.head()))
}

/// The origin and tree of a head row.
pub(super) fn decode(row: &[u8]) -> Result<(Origin, Tree), LogFault> {
    let (origin, tree, root) =
        parts(row).ok_or(LogFault::Corrupt("the head of the audit log is malformed"))?;
    if tree.root() != root {
        return Err(LogFault::Corrupt("the head of the audit log contradicts itself"));
    }
    Ok((origin, tree))
}

fn parts(row: &[u8]) -> Option<(Origin, Tree, Hash)> {
    let ([version, length], rest) = row.split_first_chunk()?;
    let (origin, rest) = rest.split_at_checked(usize::from(*length))?;
    let (size, rest) = rest.split_first_chunk()?;
    let (root, frontier) = rest.split_first_chunk()?;
    let (frontier, odd) = frontier.as_chunks();
    if *version != VERSION || !odd.is_empty() {
        return None;
    }
    let origin = Origin::parse(std::str::from_utf8(origin).ok()?).ok()?;
    let tree = Tree::from_frontier(u64::from_be_bytes(*size), frontier.to_vec())?;
    Some((origin, tree, *root))
}
