//! A page: the entries of one commit in one row.
//!
//! ```text
//! version 1 | first index 8 | count 4 | (length 2 | entry)*
//! ```
//! All numbers are big-endian. The row's key is the index after its last entry, so that the page of entry
//! `i` is the first one whose key is greater than `i`.

use crate::limits::{ENTRY_BYTES_MAX, LOG_ENTRIES_MAX, PAGE_ENTRIES_MAX};

use super::LogFault;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 13;
const LENGTH_BYTES: usize = 2;

/// The page of `entries`, of which the first has the index `first`.
///
/// The caller has checked the bounds: 1 to [`PAGE_ENTRIES_MAX`] entries of at most [`ENTRY_BYTES_MAX`].
pub(super) fn encode<'a>(first: u64, entries: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let (count, bytes) = entries.clone().fold((0u32, HEADER_BYTES), |(count, bytes), entry| {
        (count.saturating_add(1), bytes + LENGTH_BYTES + entry.len())
    });
    let mut page = Vec::with_capacity(bytes);
    page.push(VERSION);
    page.extend_from_slice(&first.to_be_bytes());
    page.extend_from_slice(&count.to_be_bytes());
    for entry in entries {
        // An entry is at most 1,024 bytes long, so its length fits.
        page.extend_from_slice(&u16::try_from(entry.len()).unwrap_or(u16::MAX).to_be_bytes());
        page.extend_from_slice(entry);
    }
    page
}

/// A page whose framing is checked; its entries are not read yet.
#[derive(Debug)]
pub(super) struct Page<'a> {
    first: u64,
    entries: Vec<&'a [u8]>,
}

impl<'a> Page<'a> {
    /// Checks the framing of a page found under the key `end`.
    pub(super) fn parse(end: u64, page: &'a [u8]) -> Result<Self, LogFault> {
        Self::framed(end, page).ok_or(LogFault::Corrupt("a page of the audit log is malformed"))
    }

    fn framed(end: u64, page: &'a [u8]) -> Option<Self> {
        let (version, rest) = page.split_first()?;
        let (first, rest) = rest.split_first_chunk()?;
        let (count, mut rest) = rest.split_first_chunk()?;
        let first = u64::from_be_bytes(*first);
        let count = u32::from_be_bytes(*count);
        let bounded = (1..=PAGE_ENTRIES_MAX).contains(&(count as usize)) && end <= LOG_ENTRIES_MAX;
        if *version != VERSION || !bounded || end.checked_sub(u64::from(count)) != Some(first) {
            return None;
        }
        let mut entries = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk()?;
            let (entry, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            if entry.is_empty() || entry.len() > ENTRY_BYTES_MAX {
                return None;
            }
            entries.push(entry);
            rest = after;
        }
        rest.is_empty().then_some(Self { first, entries })
    }

    /// The index of the first entry.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// The encoded entries with their indexes, from the index `from` on.
    pub(super) fn entries_from(&self, from: u64) -> impl Iterator<Item = (u64, &'a [u8])> {
        (self.first..).zip(self.entries.iter().copied()).filter(move |(index, _)| *index >= from)
    }
}
