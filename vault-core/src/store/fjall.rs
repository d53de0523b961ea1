//! The embedded default: fjall, a log-structured merge tree with one journal.
//!
//! One keyspace for each space, so that rows with random keys (records, indexes) do not share a memtable
//! with the append-only pages and tiles of the log: the search for a random key's place is what an insert
//! costs, and it grows with the memtable. A row's physical value is `version 8 BE ‖ value`.
//!
//! A commit is one fjall write batch over all keyspaces: one journal entry with a checksum, one `fdatasync`
//! of the journal, and only then visible to readers. Preconditions are read before, under a lock that orders
//! commits. What fjall itself would not notice or would wait for without end is checked here:
//!
//! - a folder that lacks files of a complete store is refused instead of being filled with an empty one;
//! - a commit that a power cut tore in the middle, on which fjall would refuse to open, is dropped;
//! - a full disk is refused early: below the floor no commit begins;
//! - a stalled background thread is waited for with a bound, before anything is written.
//!
//! Stated limit: some damaged version files end the process while fjall opens them (a panic, or memory beyond
//! measure); no answer is given from them.

use std::fs;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::Duration;

use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, LsmError, OwnedWriteBatch, PersistMode,
    Readable, UserValue,
};

use super::folder::{Floor, Folder};
use super::journal::discard_torn_tail;
use super::{
    Change, Commit, Fault, Key, Mark, Row, Space, Store, Writes, row_from_bytes, row_to_bytes, unwinding,
};
use crate::data::TenantId;
use crate::limits::{SCAN_BYTES_MAX, SCAN_ROWS_MAX};

const MEBIBYTE: u64 = 1024 * 1024;
/// fjall allocates and rotates its journal in pieces of this size; its own lower bound.
const JOURNAL_PIECE_BYTES: u64 = 64 * MEBIBYTE;
/// Written bytes after which free space is looked at again.
const SPACE_CHECK_BYTES: u64 = 4 * MEBIBYTE;
/// fjall waits without end at 4 memtables that are not yet flushed, or 30 runs in level 0.
const SEALED_MEMTABLES_MAX: usize = 2;
const LEVEL_ZERO_TABLES_MAX: usize = 24;
const STALL_PAUSE: Duration = Duration::from_millis(5);
const STALL_PAUSES_MAX: usize = 6_000; // 30 s: a disk that slow is away

/// Sizes of a fjall store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FjallOptions {
    /// Bytes of the block cache.
    pub cache_bytes: u64,
    /// Bytes of all journals together, at least 64 MiB: bounds the disk they take and the time to reopen.
    pub journal_bytes_max: u64,
    /// Bytes of one space's memtable before it is flushed into a table.
    pub memtable_bytes: u64,
    /// Threads that flush and compact, at least one.
    pub worker_threads: usize,
    /// Free bytes below which commits are refused: journals and memtables must still find room.
    pub free_floor_bytes: u64,
}

impl Default for FjallOptions {
    fn default() -> Self {
        let (journal_bytes_max, memtable_bytes) = (256 * MEBIBYTE, 16 * MEBIBYTE);
        Self {
            cache_bytes: 256 * MEBIBYTE,
            journal_bytes_max,
            memtable_bytes,
            // With more, the first of them takes each request for a compaction and puts it back, over and
            // over, as long as another one compacts: a processor that does nothing (fjall 3.1).
            worker_threads: 1,
            free_floor_bytes: journal_bytes_max + Space::ALL.len() as u64 * memtable_bytes,
        }
    }
}

/// A store on fjall.
pub struct FjallStore {
    folder: Folder,
    floor: Floor,
    options: FjallOptions,
    engine: RwLock<Option<Engine>>,
    poisoned: AtomicBool,
    /// Orders commits: preconditions must not change between their check and the write.
    turn: Mutex<()>,
    /// Grows after each commit that may have written, and with each reopening.
    mark: AtomicU64,
    /// Bytes written since free space was last found above the floor.
    since_space_check: AtomicU64,
}

impl FjallStore {
    /// Opens the store in this folder, creating both if absent.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when another process uses the folder or it cannot be read, [`Fault::Corrupt`]
    /// when what lies there is damaged.
    pub fn open(path: &Path, options: FjallOptions) -> Result<Self, Fault> {
        let folder = Folder::open(path, "fjall")?;
        if !folder.is_born() {
            folder.bear(|unborn| Engine::create(unborn, &options))?;
        }
        let engine = unwinding(|| Engine::open(&folder.data(), &options))?;
        folder.sync_all()?;
        Ok(Self {
            folder,
            floor: Floor::new(options.free_floor_bytes),
            options,
            engine: RwLock::new(Some(engine)),
            poisoned: AtomicBool::new(false),
            turn: Mutex::new(()),
            mark: AtomicU64::new(0),
            since_space_check: AtomicU64::new(SPACE_CHECK_BYTES),
        })
    }

    fn at(&self) -> Mark {
        Mark(self.mark.load(Ordering::Acquire))
    }

    /// What was read before counts no more. After a commit, not before it: whoever took the mark in between
    /// may have read what the commit replaced.
    fn move_on(&self) {
        self.mark.fetch_add(1, Ordering::AcqRel);
    }

    fn healthy(&self) -> Result<Healthy<'_>, Fault> {
        let guard = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        if self.poisoned.load(Ordering::Acquire) || guard.is_none() {
            return Err(Fault::Unavailable("the handle is poisoned".into()));
        }
        Ok(Healthy(guard))
    }

    fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
    }

    /// A failed read poisons too, unless it is a damaged row, which leaves all others as they were.
    fn reading<T>(&self, outcome: fjall::Result<T>) -> Result<T, Fault> {
        outcome.map_err(|error| {
            let fault = fault(&error);
            if matches!(fault, Fault::Unavailable(_)) {
                self.poison();
            }
            fault
        })
    }

    /// Refuses a commit of so many bytes while free space is below the floor.
    fn admit(&self, bytes: u64) -> Result<(), Fault> {
        let written = self.since_space_check.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if written < SPACE_CHECK_BYTES {
            return Ok(());
        }
        if self.free_space_low() {
            return Err(Fault::Unavailable("free space is below the floor".into()));
        }
        self.since_space_check.store(0, Ordering::Relaxed);
        Ok(())
    }
}

impl Store for FjallStore {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, Fault> {
        let healthy = self.healthy()?;
        let engine = healthy.engine()?;
        // One row is one snapshot in itself, and is seen only after its sync.
        if let [key] = keys {
            let value = self.reading(engine.keyspace(key.space())?.get(physical(key)))?;
            return Ok(vec![value.map(|value| row(&value)).transpose()?]);
        }
        let snapshot = engine.database.snapshot();
        keys.iter()
            .map(|key| {
                let value = self.reading(snapshot.get(engine.keyspace(key.space())?, physical(key)))?;
                value.map(|value| row(&value)).transpose()
            })
            .collect()
    }

    fn mark(&self) -> Option<Mark> {
        Some(self.at())
    }

    fn scan(
        &self,
        space: Space,
        tenant: Option<&TenantId>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Row)>, Fault> {
        let healthy = self.healthy()?;
        let engine = healthy.engine()?;
        let first = Key::new(space, tenant, after.unwrap_or_default());
        let prefix = Key::prefix(space, tenant);
        let from = physical(&first);
        let from = if after.is_some() { Bound::Excluded(from) } else { Bound::Included(from) };
        let mut found = Vec::new();
        let mut bytes = 0;
        let range = (from, Bound::Unbounded);
        for pair in engine.database.snapshot().range::<&[u8], _>(engine.keyspace(space)?, range) {
            let (key, value) = self.reading(pair.into_inner())?;
            let outside = !key.starts_with(prefix.get(1..).unwrap_or_default());
            if outside || found.len() >= limit.min(SCAN_ROWS_MAX) || bytes >= SCAN_BYTES_MAX {
                break;
            }
            bytes += value.len();
            found.push((logical(space, &key)?, row(&value)?));
        }
        Ok(found)
    }

    fn commit(&self, writes: &Writes) -> Result<Commit, Fault> {
        writes.check()?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let healthy = self.healthy()?;
        let engine = healthy.engine()?;
        if writes.is_empty() {
            return Ok(Commit::Done);
        }
        self.admit(writes.bytes())?;
        if !engine.holds(writes.unproven(self.at())).or_else(|error| self.reading(Err(error)))? {
            return Ok(Commit::Conflict);
        }
        engine.wait_for_room(writes).inspect_err(|_| self.poison())?;
        let written = engine.write(writes).inspect_err(|_| self.poison());
        self.move_on();
        written.map(|()| Commit::Done)
    }

    fn reopen(&self) -> Result<(), Fault> {
        let mut slot = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() && !self.poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        // The old engine must be gone, threads and lock and all, before a new one may read its files.
        drop(slot.take());
        self.folder.forget_cached()?;
        let engine = unwinding(|| Engine::open(&self.folder.data(), &self.options))?;
        self.folder.sync_all()?;
        *slot = Some(engine);
        self.move_on();
        self.since_space_check.store(SPACE_CHECK_BYTES, Ordering::Relaxed);
        self.poisoned.store(false, Ordering::Release);
        Ok(())
    }

    fn free_space_low(&self) -> bool {
        self.folder.free_bytes().is_ok_and(|free| self.floor.lacks(free))
    }

    fn kind(&self) -> &'static str {
        "fjall"
    }

    fn disk_bytes(&self) -> Result<u64, Fault> {
        self.folder.disk_bytes()
    }
}

/// Proof that the engine is open while the value lives.
struct Healthy<'a>(RwLockReadGuard<'a, Option<Engine>>);

impl Healthy<'_> {
    fn engine(&self) -> Result<&Engine, Fault> {
        self.0.as_ref().ok_or_else(|| Fault::Unavailable("the handle is poisoned".into()))
    }
}

/// An open database. The keyspaces are dropped before it.
struct Engine {
    keyspaces: Vec<Keyspace>,
    database: Database,
}

impl Engine {
    /// Creates all keyspaces and closes again.
    fn create(path: &Path, options: &FjallOptions) -> Result<(), Fault> {
        let database = database(path, options).map_err(|error| fault(&error))?;
        for space in Space::ALL {
            keyspace(&database, space, options)?;
        }
        Ok(())
    }

    /// Opens what was created completely.
    fn open(path: &Path, options: &FjallOptions) -> Result<Self, Fault> {
        complete(path)?;
        let database = match database(path, options) {
            // Never acknowledged: its sync did not return.
            Err(fjall::Error::JournalRecovery(_)) if discard_torn_tail(path)? => database(path, options),
            opened => opened,
        }
        .map_err(|error| fault(&error))?;
        let keyspaces: Result<Vec<_>, Fault> = Space::ALL
            .into_iter()
            .map(|space| {
                if !database.keyspace_exists(space.as_str()) {
                    return Err(Fault::Corrupt("a keyspace is missing".into()));
                }
                keyspace(&database, space, options)
            })
            .collect();
        Ok(Self { keyspaces: keyspaces?, database })
    }

    fn keyspace(&self, space: Space) -> Result<&Keyspace, Fault> {
        let index = usize::from(space.code()).saturating_sub(1);
        self.keyspaces.get(index).ok_or_else(|| Fault::Corrupt("a keyspace is missing".into()))
    }

    fn holds(&self, changes: &[(Key, Change)]) -> fjall::Result<bool> {
        for (key, change) in changes {
            let Ok(keyspace) = self.keyspace(key.space()) else { return Ok(false) };
            let holds = match change {
                Change::Insert(_) => !keyspace.contains_key(physical(key))?,
                Change::Replace { version, .. } | Change::Delete { version } => keyspace
                    .get(physical(key))?
                    .and_then(|value| row_from_bytes(&value).map(|(found, _)| found))
                    .is_some_and(|found| found == *version),
            };
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits while fjall's background threads are behind, as fjall would, but neither without end nor
    /// after the journal is written.
    fn wait_for_room(&self, writes: &Writes) -> Result<(), Fault> {
        let mut spaces: Vec<Space> = writes.iter().map(|(key, _)| key.space()).collect();
        spaces.sort_unstable();
        spaces.dedup();
        for _ in 0..STALL_PAUSES_MAX {
            let behind = spaces.iter().filter_map(|space| self.keyspace(*space).ok()).any(|keyspace| {
                keyspace.sealed_memtable_count() > SEALED_MEMTABLES_MAX
                    || keyspace.l0_table_count() > LEVEL_ZERO_TABLES_MAX
            });
            if !behind {
                return Ok(());
            }
            // Fails when a background thread has died, which then never catches up.
            self.database.persist(PersistMode::Buffer).map_err(|error| fault(&error))?;
            thread::sleep(STALL_PAUSE);
        }
        Err(Fault::Unavailable("the engine cannot keep up with the writes".into()))
    }

    fn write(&self, writes: &Writes) -> Result<(), Fault> {
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), writes.len())
            .durability(Some(PersistMode::SyncData));
        for (key, change) in writes {
            let keyspace = self.keyspace(key.space())?;
            match change.after() {
                Some((version, value)) => batch.insert(keyspace, physical(key), row_to_bytes(version, value)),
                None => batch.remove(keyspace, physical(key)),
            }
        }
        batch.commit().map_err(|error| match error {
            // Found before the journal was touched: a background thread had died.
            fjall::Error::Poisoned => Fault::Unavailable("a background thread of the engine failed".into()),
            error => Fault::Unknown(error.to_string().into()),
        })
    }
}

fn database(path: &Path, options: &FjallOptions) -> fjall::Result<Database> {
    Database::builder(path)
        .cache_size(options.cache_bytes)
        .worker_threads(options.worker_threads.max(1))
        .max_journaling_size(options.journal_bytes_max.max(JOURNAL_PIECE_BYTES))
        // Envelopes and hashes do not compress.
        .journal_compression(CompressionType::None)
        .manual_journal_persist(true)
        .open()
}

fn keyspace(database: &Database, space: Space, options: &FjallOptions) -> Result<Keyspace, Fault> {
    let create = || KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes);
    database.keyspace(space.as_str(), create).map_err(|error| fault(&error))
}

/// Refuses a folder that fjall would silently complete, and with it forget what was there: without the
/// version marker it begins a new database, without a `current` file it deletes a keyspace.
fn complete(path: &Path) -> Result<(), Fault> {
    let present = |name: &Path| fs::metadata(path.join(name)).is_ok_and(|meta| meta.is_file());
    let keyspaces = Path::new("keyspaces");
    // 0 is fjall's own.
    let all = (0..=Space::ALL.len())
        .map(|id| keyspaces.join(id.to_string()).join("current"))
        .chain(std::iter::once("version".into()));
    if all.into_iter().all(|name| present(&name)) {
        return Ok(());
    }
    Err(Fault::Corrupt("files of the engine are missing".into()))
}

/// The key within its keyspace: the space is the keyspace's name.
fn physical(key: &Key) -> &[u8] {
    key.encoded().get(1..).unwrap_or_default()
}

fn logical(space: Space, physical: &[u8]) -> Result<Key, Fault> {
    let encoded = [&[space.code()], physical].concat();
    Key::from_encoded(&encoded).ok_or_else(|| Fault::Corrupt("a key cannot be decoded".into()))
}

fn row(value: &UserValue) -> Result<Row, Fault> {
    row_from_bytes(value)
        .map(|(version, value)| Row { version, value: value.to_vec() })
        .ok_or_else(|| Fault::Corrupt("a row cannot be decoded".into()))
}

/// What an error outside a commit means.
fn fault(error: &fjall::Error) -> Fault {
    let text = error.to_string().into();
    match error {
        fjall::Error::Io(io) | fjall::Error::Storage(LsmError::Io(io)) => match io.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::NotFound => {
                Fault::Corrupt(text)
            }
            _ => Fault::Unavailable(text),
        },
        fjall::Error::Poisoned | fjall::Error::Locked => Fault::Unavailable(text),
        _ => Fault::Corrupt(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "tests may stop loudly"
    )]

    use tempfile::TempDir;

    use super::*;
    use crate::store::conformance::{Place, suite};

    /// Small enough that the suite flushes and compacts.
    fn small() -> FjallOptions {
        FjallOptions {
            cache_bytes: MEBIBYTE,
            journal_bytes_max: JOURNAL_PIECE_BYTES,
            memtable_bytes: 64 * 1024,
            worker_threads: 1,
            free_floor_bytes: MEBIBYTE,
        }
    }

    impl Place for TempDir {
        fn open(&self) -> Box<dyn Store> {
            Box::new(FjallStore::open(self.path(), small()).unwrap())
        }
    }

    #[test]
    fn conforms() {
        suite(&|| Box::new(TempDir::new().unwrap()));
    }

    /// The journal of a store with these commits, one large row each.
    fn journal_of(folder: &Path, rows: &[(&[u8], u8)]) -> (std::path::PathBuf, Vec<u8>) {
        let store = FjallStore::open(folder, small()).unwrap();
        for (name, byte) in rows {
            let key = Key::new(Space::LogPage, None, name);
            let writes = [(key, Change::Insert(vec![*byte; 9_000]))].into_iter().collect();
            assert_eq!(store.commit(&writes), Ok(Commit::Done));
        }
        drop(store);
        let path = folder.join("fjall/0.jnl");
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    }

    fn position(journal: &[u8], byte: u8) -> usize {
        journal.windows(100).position(|window| window.iter().all(|found| *found == byte)).unwrap()
    }

    fn found(folder: &Path, name: &[u8]) -> Result<bool, Fault> {
        let store = FjallStore::open(folder, small())?;
        Ok(store.read(&[Key::new(Space::LogPage, None, name)])?[0].is_some())
    }

    #[test]
    fn a_torn_last_commit_is_dropped_and_the_store_opens() {
        let folder = TempDir::new().unwrap();
        let (path, mut journal) = journal_of(folder.path(), &[(b"whole", 0x55), (b"torn", 0xaa)]);
        let middle = position(&journal, 0xaa) + 2_000;
        journal[middle..middle + 512].fill(0);
        fs::write(&path, &journal).unwrap();
        assert_eq!(found(folder.path(), b"whole"), Ok(true));
        assert_eq!(found(folder.path(), b"torn"), Ok(false));
    }

    #[test]
    fn a_damaged_commit_before_the_last_is_refused_and_nothing_is_cut_off() {
        let folder = TempDir::new().unwrap();
        let (path, mut journal) = journal_of(folder.path(), &[(b"damaged", 0x55), (b"whole", 0xaa)]);
        let middle = position(&journal, 0x55) + 2_000;
        journal[middle] ^= 1;
        fs::write(&path, &journal).unwrap();
        assert!(matches!(found(folder.path(), b"whole"), Err(Fault::Corrupt(_))));
        assert_eq!(fs::read(&path).unwrap(), journal);
    }
}
