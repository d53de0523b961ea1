//! fjall's journal, as far as it takes to tell a commit that a power cut tore from a damaged one.
//!
//! ```text
//! batch   = start, items, end
//! start 13 = 1 ‖ count of items 4 LE ‖ sequence number 8 LE
//! item     = 2 ‖ kind 1 ‖ compression 1 ‖ keyspace 8 LE ‖ key length 2 LE ‖ length 4 LE
//!            ‖ length on disk 4 LE ‖ key ‖ value
//! end 13   = 3 ‖ XXH3-64 of the items 8 LE ‖ "FJL" 3
//! ```
//!
//! fjall drops a last batch whose end is missing. When a power cut wrote the end of a batch but not its
//! middle, which a disk may do with any write that was not synced, fjall 3.1 refuses to open at all, although
//! every acknowledged commit is there. Commits are synced one by one, so at most the last batch is torn.
//!
//! Stated limit: a bit that flips in the last batch after its sync cannot be told from a torn one.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::Fault;
use super::folder::away;

const START: u8 = 1;
const START_BYTES: usize = 13;
const ITEM: u8 = 2;
const ITEM_HEADER_BYTES: usize = 21;
const END: u8 = 3;
const END_BYTES: usize = 13;
const END_MARK: &[u8] = b"FJL\x03";

/// Cuts a torn last batch off the newest journal in this folder and syncs it; whether there was one. A broken
/// batch with anything behind it is damage and stays.
pub(super) fn discard_torn_tail(folder: &Path) -> Result<bool, Fault> {
    let Some(path) = newest(folder)? else { return Ok(false) };
    let journal = fs::read(&path).map_err(away)?;
    let Some(length) = torn_at(&journal) else { return Ok(false) };
    let file = OpenOptions::new().write(true).open(&path).map_err(away)?;
    file.set_len(length as u64).and_then(|()| file.sync_all()).map_err(away)?;
    Ok(true)
}

/// The journal that is written to: the one with the highest number.
fn newest(folder: &Path) -> Result<Option<PathBuf>, Fault> {
    let mut newest: Option<(u64, PathBuf)> = None;
    for entry in fs::read_dir(folder).map_err(away)? {
        let path = entry.map_err(away)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jnl"));
        let Some(number) = name.and_then(|number| number.parse().ok()) else { continue };
        if newest.as_ref().is_none_or(|(other, _)| number > *other) {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Where the first broken batch begins, if only zeros follow it.
fn torn_at(journal: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = journal.get(at..)?;
        let (length, whole) = batch(rest)?;
        if !whole {
            let zeros = rest.get(length..)?.iter().all(|byte| *byte == 0);
            return zeros.then_some(at);
        }
        at += length;
    }
}

/// The length of the batch that begins here and whether its checksum holds; `None` when none ends.
fn batch(bytes: &[u8]) -> Option<(usize, bool)> {
    if bytes.first() != Some(&START) {
        return None;
    }
    let mut at = START_BYTES;
    loop {
        match *bytes.get(at)? {
            ITEM => {
                let header = bytes.get(at..at + ITEM_HEADER_BYTES)?;
                let key = u16::from_le_bytes(*header.get(11..)?.first_chunk()?);
                let value = u32::from_le_bytes(*header.get(17..)?.first_chunk()?);
                at += ITEM_HEADER_BYTES + usize::from(key) + usize::try_from(value).ok()?;
            }
            END => {
                let checksum = u64::from_le_bytes(*bytes.get(at + 1..)?.first_chunk()?);
                let ended = bytes.get(at + 9..at + END_BYTES)? == END_MARK;
                let whole = xxh3_64(bytes.get(START_BYTES..at)?) == checksum;
                return ended.then_some((at + END_BYTES, whole));
            }
            _ => return None,
        }
    }
}
