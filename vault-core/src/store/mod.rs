//! What is on disk: rows under keys, written in atomic, durable, conditional commits.
//!
//! ```text
//! vault ──▶ Store ──┬── memory   tests and simulation; injects faults
//!                   ├── fjall    the embedded default
//!                   └── sled     the prescribed alternative, behind a barrier
//! ```
//!
//! Engines know no policy, no clock and no cipher. They promise exactly this:
//!
//! - [`Store::read`] and [`Store::scan`] see one snapshot of durable commits, never half a commit.
//! - [`Store::commit`] writes everything or nothing, and has survived a power cut when it returns
//!   [`Commit::Done`]. [`Commit::Conflict`] means that a precondition failed and nothing was written.
//! - After [`Fault::Unknown`] or a lost engine the handle is **poisoned**: every call answers
//!   [`Fault::Unavailable`] until [`Store::reopen`] succeeds. After that the unknown commit is there as
//!   a whole or not at all.
//! - No engine is trusted to notice a flipped bit: records are authenticated, all other rows that are
//!   not log carry a MAC ([`rows`]).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use thiserror::Error;

use crate::data::TenantId;
use crate::limits::{COMMIT_ROWS_MAX, ROW_KEY_BYTES_MAX, ROW_VALUE_BYTES_MAX};

#[doc(hidden)]
pub mod conformance;
pub mod fjall;
mod folder;
mod journal;
pub mod memory;
pub mod rows;
pub mod sled;

/// The kinds of rows. A closed set: the codes are on disk and never change their meaning.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Space {
    /// Token → envelope.
    Record = 1,
    /// Blind index → token.
    Index = 2,
    /// Principal, RPC and idempotency key → stored outcome.
    Idempotency = 3,
    /// Quota windows and their counts.
    Quota = 4,
    /// Tokens already counted in a distinct-token window.
    Seen = 5,
    /// Pages of the audit log: the entries of one commit.
    LogPage = 6,
    /// Full tiles of the audit log.
    LogTile = 7,
    /// The head of each audit log.
    LogHead = 8,
    /// Facts about the vault itself.
    Meta = 9,
}

impl Space {
    /// Every space, by code.
    pub const ALL: [Self; 9] = [
        Self::Record,
        Self::Index,
        Self::Idempotency,
        Self::Quota,
        Self::Seen,
        Self::LogPage,
        Self::LogTile,
        Self::LogHead,
        Self::Meta,
    ];

    /// The byte that stands for this space on disk.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The space of a byte from disk.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|space| space.code() == code)
    }

    /// The name of this space where an engine names things.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Index => "index",
            Self::Idempotency => "idempotency",
            Self::Quota => "quota",
            Self::Seen => "seen",
            Self::LogPage => "log-page",
            Self::LogTile => "log-tile",
            Self::LogHead => "log-head",
            Self::Meta => "meta",
        }
    }
}

/// The place of a row: space, tenant (or none) and bytes.
///
/// Held as one buffer in its encoded form, `space 1 ‖ tenant length 1 ‖ tenant ‖ bytes`, so that
/// engines need not build it again.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Key {
    space: Space,
    encoded: Box<[u8]>,
}

impl Key {
    /// Bytes before the tenant: space and tenant length.
    const HEADER: usize = 2;

    /// The key of a row. `tenant` is `None` for rows that belong to the vault as a whole.
    pub fn new(space: Space, tenant: Option<&TenantId>, bytes: &[u8]) -> Self {
        let prefix = Self::prefix(space, tenant);
        let mut encoded = Vec::with_capacity(prefix.len() + bytes.len());
        encoded.extend_from_slice(&prefix);
        encoded.extend_from_slice(bytes);
        Self { space, encoded: encoded.into_boxed_slice() }
    }

    /// What all encoded keys of one space and tenant begin with.
    pub(crate) fn prefix(space: Space, tenant: Option<&TenantId>) -> Vec<u8> {
        let tenant = tenant.map_or("", TenantId::as_str);
        let mut prefix = Vec::with_capacity(Self::HEADER + tenant.len());
        prefix.push(space.code());
        // A tenant's name has at most limits::NAME_BYTES_MAX = 32 bytes.
        prefix.push(u8::try_from(tenant.len()).unwrap_or(u8::MAX));
        prefix.extend_from_slice(tenant.as_bytes());
        prefix
    }

    /// Reads an encoded key back; `None` when the bytes are no key.
    pub fn from_encoded(encoded: &[u8]) -> Option<Self> {
        let (&[space, tenant], rest) = encoded.split_first_chunk()?;
        let tenant = rest.get(..usize::from(tenant))?;
        let named = std::str::from_utf8(tenant).is_ok_and(|text| TenantId::parse(text).is_ok());
        let space = Space::from_code(space)?;
        (tenant.is_empty() || named).then(|| Self { space, encoded: encoded.into() })
    }

    /// The kind of row.
    pub const fn space(&self) -> Space {
        self.space
    }

    /// The tenant's name, empty for rows of the vault as a whole.
    pub fn tenant(&self) -> &str {
        let end = Self::HEADER + self.tenant_length();
        self.encoded.get(Self::HEADER..end).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or("")
    }

    /// The part that is unique within space and tenant.
    pub fn bytes(&self) -> &[u8] {
        self.encoded.get(Self::HEADER + self.tenant_length()..).unwrap_or_default()
    }

    /// `space 1 ‖ tenant length 1 ‖ tenant ‖ bytes`: no two keys have the same encoding, and within
    /// one space and tenant the encodings sort as the keys do.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    fn tenant_length(&self) -> usize {
        self.encoded.get(1).copied().map_or(0, usize::from)
    }
}

/// As encoded: rows of one space and tenant stand together, in the order of their bytes.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.encoded.cmp(&other.encoded)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Shows where the row lies, but not its bytes, which may be a token.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{} bytes", self.space.as_str(), self.tenant(), self.bytes().len())
    }
}

/// A stored value and how often it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    /// 1 when inserted, one more with each replacement.
    pub version: u64,
    /// What was written, byte for byte.
    pub value: Vec<u8>,
}

/// What a commit does to one row, and what must hold before.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// There must be no row; it begins at version 1.
    Insert(Vec<u8>),
    /// The row must have this version; it gets the next.
    Replace {
        /// The version that was read.
        version: u64,
        /// The new value.
        value: Vec<u8>,
    },
    /// The row must have this version; it goes.
    Delete {
        /// The version that was read.
        version: u64,
    },
}

impl Change {
    /// The version that the row must have now; `None` when there must be no row.
    pub const fn expected(&self) -> Option<u64> {
        match self {
            Self::Insert(_) => None,
            Self::Replace { version, .. } | Self::Delete { version } => Some(*version),
        }
    }

    /// The version and value that the row has afterwards; `None` when it is gone.
    pub fn after(&self) -> Option<(u64, &[u8])> {
        match self {
            Self::Insert(value) => Some((1, value)),
            Self::Replace { version, value } => Some((version.saturating_add(1), value)),
            Self::Delete { .. } => None,
        }
    }
}

/// A point in the history of one handle; see [`Store::mark`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark(u64);

/// The changes of one commit: at most one for each key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Writes {
    changes: Vec<(Key, Change)>,
    /// The preconditions of the first so many changes were read since this mark.
    read: Option<(Mark, usize)>,
}

impl Writes {
    /// No change yet.
    pub const fn new() -> Self {
        Self { changes: Vec::new(), read: None }
    }

    /// Changes of rows that were all read since `mark`, and whose preconditions are what was read: while the
    /// store stands at that mark they hold and are not looked up again.
    pub fn of_read(mark: Option<Mark>, changes: Vec<(Key, Change)>) -> Self {
        Self { read: mark.map(|mark| (mark, changes.len())), changes }
    }

    /// The changes whose preconditions must be looked up by a store that stands at `now`.
    fn unproven(&self, now: Mark) -> &[(Key, Change)] {
        let proven = self.read.filter(|(mark, _)| *mark == now).map_or(0, |(_, count)| count);
        self.changes.get(proven..).unwrap_or_default()
    }

    /// Adds a change. A second change to the same key is found by the commit, which then refuses all.
    pub fn push(&mut self, key: Key, change: Change) {
        self.changes.push((key, change));
    }

    /// The changes, in the order they were added.
    pub fn iter(&self) -> std::slice::Iter<'_, (Key, Change)> {
        self.changes.iter()
    }

    /// How many rows change.
    pub const fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing changes.
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> u64 {
        let row = |(key, change): &(Key, Change)| {
            key.encoded().len() + change.after().map_or(0, |(_, value)| value.len())
        };
        self.changes.iter().map(row).sum::<usize>() as u64
    }

    /// What every engine asks before it reads or writes anything.
    ///
    /// # Errors
    /// [`Fault::Misuse`] for a key changed twice, or rows or commits beyond their bounds.
    pub fn check(&self) -> Result<(), Fault> {
        if self.changes.len() > COMMIT_ROWS_MAX {
            return Err(Fault::Misuse("a commit changes more rows than allowed".into()));
        }
        let value = |change: &Change| change.after().map_or(0, |(_, value)| value.len());
        if self.changes.iter().any(|(key, change)| {
            key.encoded().len() > ROW_KEY_BYTES_MAX || value(change) > ROW_VALUE_BYTES_MAX
        }) {
            return Err(Fault::Misuse("a row is larger than allowed".into()));
        }
        let mut keys: Vec<&[u8]> = self.changes.iter().map(|(key, _)| key.encoded()).collect();
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Fault::Misuse("a commit changes one row twice".into()));
        }
        Ok(())
    }
}

impl<'a> IntoIterator for &'a Writes {
    type Item = &'a (Key, Change);
    type IntoIter = std::slice::Iter<'a, (Key, Change)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromIterator<(Key, Change)> for Writes {
    fn from_iter<I: IntoIterator<Item = (Key, Change)>>(changes: I) -> Self {
        Self { changes: changes.into_iter().collect(), read: None }
    }
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Commit {
    /// Everything is written and survives a power cut.
    Done,
    /// A precondition did not hold; nothing was written. Read again and plan anew.
    Conflict,
}

/// Why the store could not answer. The text is for logs; it never repeats a key or a value.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Fault {
    /// Nothing was written; the store is away, full or poisoned.
    #[error("the store is unavailable: {0}")]
    Unavailable(Cow<'static, str>),
    /// The commit is written as a whole or not at all, and which is not known. The handle is poisoned.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(Cow<'static, str>),
    /// What lies on disk is damaged. The handle stays usable if it was.
    #[error("the store is damaged: {0}")]
    Corrupt(Cow<'static, str>),
    /// The caller broke the contract (a key twice, a row too large). Nothing was written.
    #[error("the store was misused: {0}")]
    Misuse(Cow<'static, str>),
}

/// Where the rows are. One handle serves any number of threads; commits are ordered inside.
pub trait Store: Send + Sync {
    /// Reads rows, in the order of `keys`, from one snapshot.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when poisoned, [`Fault::Corrupt`] when a row cannot be decoded.
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, Fault>;

    /// Where the handle stands: taken before rows are read, it lets [`Writes::of_read`] say what was read. It
    /// changes with every commit. `None`: this engine looks every precondition up.
    fn mark(&self) -> Option<Mark> {
        None
    }

    /// Reads the rows of one space and tenant in key order, beginning after the key bytes `after`.
    ///
    /// Returns at most `limit` rows, never more than [`crate::limits::SCAN_ROWS_MAX`] rows or about
    /// [`crate::limits::SCAN_BYTES_MAX`] bytes. **Only an empty answer is the end**: a short one is not. To
    /// go on, pass the last key's bytes.
    ///
    /// # Errors
    /// As [`Store::read`].
    fn scan(
        &self,
        space: Space,
        tenant: Option<&TenantId>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Row)>, Fault>;

    /// Writes all changes or none, durably. An empty commit is `Done` and writes nothing.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] and [`Fault::Misuse`]: nothing was written. [`Fault::Unknown`]: see there.
    fn commit(&self, writes: &Writes) -> Result<Commit, Fault>;

    /// Brings a poisoned handle back by opening what is on disk anew; at once `Ok` on a healthy one.
    ///
    /// # Errors
    /// The fault that keeps the store away. The handle stays poisoned and may be reopened later.
    fn reopen(&self) -> Result<(), Fault>;

    /// Whether free space is below the floor, where commits are refused, or was and is not yet clearly above.
    fn free_space_low(&self) -> bool;

    /// Whether others may commit to the same rows. Never changes: an engine that has its rows to itself is
    /// spared what several daemons need.
    fn is_shared(&self) -> bool {
        false
    }

    /// The engine's name: `memory`, `fjall`, `sled`.
    fn kind(&self) -> &'static str;

    /// Bytes that the store takes on disk.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when the folder cannot be read.
    fn disk_bytes(&self) -> Result<u64, Fault>;
}

impl<S: Store + ?Sized> Store for Arc<S> {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, Fault> {
        (**self).read(keys)
    }

    fn mark(&self) -> Option<Mark> {
        (**self).mark()
    }

    fn scan(
        &self,
        space: Space,
        tenant: Option<&TenantId>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Row)>, Fault> {
        (**self).scan(space, tenant, after, limit)
    }

    fn commit(&self, writes: &Writes) -> Result<Commit, Fault> {
        (**self).commit(writes)
    }

    fn reopen(&self) -> Result<(), Fault> {
        (**self).reopen()
    }

    fn free_space_low(&self) -> bool {
        (**self).free_space_low()
    }

    fn is_shared(&self) -> bool {
        (**self).is_shared()
    }

    fn kind(&self) -> &'static str {
        (**self).kind()
    }

    fn disk_bytes(&self) -> Result<u64, Fault> {
        (**self).disk_bytes()
    }
}

/// A row as the embedded engines hold it: `version 8 BE ‖ value`.
fn row_to_bytes(version: u64, value: &[u8]) -> Vec<u8> {
    [&version.to_be_bytes(), value].concat()
}

/// The version and value of a row as the embedded engines hold it.
fn row_from_bytes(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (version, value) = bytes.split_first_chunk()?;
    Some((u64::from_be_bytes(*version), value))
}

/// Turns a panic of an engine into a fault, where panics unwind. Where they abort, damaged files stop the
/// process.
fn unwinding<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(Fault::Corrupt("the engine panicked".into())))
}
