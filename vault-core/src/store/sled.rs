//! The prescribed alternative: sled 0.34, behind the barrier that makes its commits durable.
//!
//! sled's own `flush()` ends in `sync_file_range`, which leaves the disk's cache and the file's metadata
//! behind: as it stands it loses acknowledged commits in a power cut. **The barrier**: at open, every file of
//! the folder, the folder and its parent are synced; after every `flush()` an `fdatasync` on a descriptor of
//! our own to `db`. Values longer than a piece are kept in pieces, since sled would put what does not
//! fit a quarter of a segment into files of their own (`blobs/`), which it never syncs.
//!
//! ```text
//! encoded key                       version 8 BE ‖ following pieces 2 BE ‖ first piece
//! 0xff ‖ encoded key ‖ index 2 BE   the pieces 1, 2, …
//! ```
//!
//! sled has no snapshot: reads and commits exclude one another, so that a read sees whole, durable commits.
//! Stated limits: after a failed `fdatasync` only a new process can open the store again; where sled itself
//! panics on damaged files, a build that aborts on panic stops.

use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::Duration;

use sled::{Batch, Db, IVec};

use super::folder::{Floor, Folder, away};
use super::{Commit, Fault, Key, Row, Space, Store, Writes, unwinding};
use crate::data::TenantId;
use crate::limits::{SCAN_BYTES_MAX, SCAN_ROWS_MAX};

const MEBIBYTE: u64 = 1024 * 1024;
/// Longest value in one sled value. sled keeps up to about twenty pairs in a node, and a node of more than
/// 128 KiB becomes a blob.
const PIECE_BYTES: usize = 4_000;
/// Begins the keys of following pieces: no space has this code.
const PIECE_MARK: u8 = 0xff;
/// sled's `drop` can return before its lock on `db` is free.
const LOCK_PAUSE: Duration = Duration::from_millis(5);
const LOCK_PAUSES_MAX: usize = 2_000; // 10 s

/// Sizes of a sled store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SledOptions {
    /// Bytes of sled's page cache.
    pub cache_bytes: u64,
    /// Free bytes below which commits are refused.
    pub free_floor_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 * MEBIBYTE, free_floor_bytes: 256 * MEBIBYTE }
    }
}

/// A store on sled.
pub struct SledStore {
    folder: Folder,
    floor: Floor,
    options: SledOptions,
    barrier: bool,
    engine: RwLock<Option<Engine>>,
    poisoned: AtomicBool,
    /// A sync behind sled's back has failed: sled would panic when it is dropped, and its lock stays.
    lost: AtomicBool,
}

impl SledStore {
    /// Opens the store in this folder, creating both if absent.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when another process uses the folder or it cannot be read, [`Fault::Corrupt`]
    /// when what lies there is damaged.
    pub fn open(path: &Path, options: SledOptions) -> Result<Self, Fault> {
        Self::open_with(path, options, true)
    }

    /// Opens a store that trusts sled's own `flush()`. **It loses acknowledged commits in a power cut**; the
    /// power-cut harness proves on it that it is not blind.
    ///
    /// # Errors
    /// As [`SledStore::open`].
    #[doc(hidden)]
    pub fn danger_without_barrier(path: &Path, options: SledOptions) -> Result<Self, Fault> {
        Self::open_with(path, options, false)
    }

    fn open_with(path: &Path, options: SledOptions, barrier: bool) -> Result<Self, Fault> {
        let folder = Folder::open(path, "sled")?;
        if !folder.is_born() {
            folder.bear(|unborn| Engine::create(unborn, &options))?;
        }
        let engine = Engine::open(&folder, &options, barrier)?;
        Ok(Self {
            folder,
            floor: Floor::new(options.free_floor_bytes),
            options,
            barrier,
            engine: RwLock::new(Some(engine)),
            poisoned: AtomicBool::new(false),
            lost: AtomicBool::new(false),
        })
    }

    fn healthy(&self) -> Result<RwLockReadGuard<'_, Option<Engine>>, Fault> {
        let guard = self.engine.read().unwrap_or_else(PoisonError::into_inner);
        if self.poisoned.load(Ordering::Acquire) { Err(poisoned()) } else { Ok(guard) }
    }

    /// Runs a read. What fails for the whole store poisons the handle, a damaged row does not.
    fn reading<T>(&self, read: impl FnOnce(&Engine) -> Result<T, Fault>) -> Result<T, Fault> {
        let guard = self.healthy()?;
        let engine = guard.as_ref().ok_or_else(poisoned)?;
        unwinding(|| read(engine)).inspect_err(|fault| {
            if matches!(fault, Fault::Unavailable(_)) {
                self.poisoned.store(true, Ordering::Release);
            }
        })
    }
}

impl Store for SledStore {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, Fault> {
        self.reading(|engine| keys.iter().map(|key| engine.row(key)).collect())
    }

    fn scan(
        &self,
        space: Space,
        tenant: Option<&TenantId>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Row)>, Fault> {
        let first = Key::new(space, tenant, after.unwrap_or_default());
        let prefix = Key::prefix(space, tenant);
        let from = first.encoded();
        let from = if after.is_some() { Bound::Excluded(from) } else { Bound::Included(from) };
        self.reading(|engine| {
            let mut found = Vec::new();
            let mut bytes = 0;
            for pair in engine.tree.range::<&[u8], _>((from, Bound::Unbounded)) {
                let (key, head) = pair.map_err(|error| fault(&error))?;
                let full = found.len() >= limit.min(SCAN_ROWS_MAX) || bytes >= SCAN_BYTES_MAX;
                if full || !key.starts_with(&prefix) {
                    break;
                }
                let key = Key::from_encoded(&key)
                    .ok_or_else(|| Fault::Corrupt("a key cannot be decoded".into()))?;
                let row = engine.assemble(&key, &head)?;
                bytes += row.value.len();
                found.push((key, row));
            }
            Ok(found)
        })
    }

    fn commit(&self, writes: &Writes) -> Result<Commit, Fault> {
        writes.check()?;
        let guard = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        if self.poisoned.load(Ordering::Acquire) {
            return Err(poisoned());
        }
        let engine = guard.as_ref().ok_or_else(poisoned)?;
        if writes.is_empty() {
            return Ok(Commit::Done);
        }
        if self.free_space_low() {
            return Err(Fault::Unavailable("free space is below the floor".into()));
        }
        let poison = |_: &Fault| self.poisoned.store(true, Ordering::Release);
        let Some(batch) = unwinding(|| engine.plan(writes)).inspect_err(poison)? else {
            return Ok(Commit::Conflict);
        };
        unwinding(|| engine.write(batch)).inspect_err(poison)?;
        engine.sync().inspect_err(|fault| {
            self.lost.store(true, Ordering::Release);
            poison(fault);
        })?;
        Ok(Commit::Done)
    }

    fn reopen(&self) -> Result<(), Fault> {
        let mut slot = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        if slot.is_some() && !self.poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.lost.load(Ordering::Acquire) {
            return Err(Fault::Unavailable(
                "a sync has failed under sled: only a new process can open this store".into(),
            ));
        }
        let old = slot.take();
        unwinding(|| {
            drop(old);
            Ok(())
        })?;
        wait_for_lock(&self.folder.data())?;
        self.folder.forget_cached()?;
        *slot = Some(Engine::open(&self.folder, &self.options, self.barrier)?);
        self.poisoned.store(false, Ordering::Release);
        Ok(())
    }

    fn free_space_low(&self) -> bool {
        self.folder.free_bytes().is_ok_and(|free| self.floor.lacks(free))
    }

    fn kind(&self) -> &'static str {
        "sled"
    }

    fn disk_bytes(&self) -> Result<u64, Fault> {
        self.folder.disk_bytes()
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let slot = self.engine.get_mut().unwrap_or_else(PoisonError::into_inner);
        if self.lost.load(Ordering::Acquire) {
            // sled syncs when dropped and panics when that fails, as it would now.
            std::mem::forget(slot.take());
        } else if slot.take().is_some() {
            // Whoever opens this folder next must not find it locked.
            let _ = wait_for_lock(&self.folder.data());
        }
    }
}

struct Engine {
    tree: Db,
    /// `db` on a descriptor of our own; `None` only without the barrier.
    db: Option<File>,
}

impl Engine {
    fn create(path: &Path, options: &SledOptions) -> Result<(), Fault> {
        let tree = unwinding(|| config(path, options).open().map_err(|error| fault(&error)))?;
        tree.flush().map_err(|error| fault(&error))?;
        drop(tree);
        wait_for_lock(path)
    }

    fn open(folder: &Folder, options: &SledOptions, barrier: bool) -> Result<Self, Fault> {
        let path = folder.data();
        complete(&path)?;
        remove_unfinished_snapshots(&path)?;
        let tree = unwinding(|| config(&path, options).open().map_err(|error| fault(&error)))?;
        if !barrier {
            return Ok(Self { tree, db: None });
        }
        folder.sync_all()?;
        let db = File::open(path.join("db")).map_err(away)?;
        Ok(Self { tree, db: Some(db) })
    }

    fn row(&self, key: &Key) -> Result<Option<Row>, Fault> {
        let head = self.tree.get(key.encoded()).map_err(|error| fault(&error))?;
        head.map(|head| self.assemble(key, &head)).transpose()
    }

    fn assemble(&self, key: &Key, head: &IVec) -> Result<Row, Fault> {
        let Head { version, pieces, first } = Head::from_bytes(head)?;
        let mut value = first.to_vec();
        for index in 1..=pieces {
            let piece = self.tree.get(piece_key(key, index)).map_err(|error| fault(&error))?;
            let piece = piece.ok_or_else(|| Fault::Corrupt("a piece of a row is missing".into()))?;
            value.extend_from_slice(&piece);
        }
        Ok(Row { version, value })
    }

    /// The batch that does all changes, or `None` when a precondition does not hold.
    fn plan(&self, writes: &Writes) -> Result<Option<Batch>, Fault> {
        let mut batch = Batch::default();
        for (key, change) in writes {
            let head = self.tree.get(key.encoded()).map_err(|error| fault(&error))?;
            let old = head.as_ref().map(|head| Head::from_bytes(head)).transpose()?;
            if old.as_ref().map(|old| old.version) != change.expected() {
                return Ok(None);
            }
            let old_pieces = old.map_or(0, |old| old.pieces);
            let new_pieces = match change.after() {
                Some((version, value)) => insert(&mut batch, key, version, value)?,
                None => {
                    batch.remove(key.encoded());
                    0
                }
            };
            (new_pieces + 1..=old_pieces).for_each(|index| batch.remove(piece_key(key, index)));
        }
        Ok(Some(batch))
    }

    fn write(&self, batch: Batch) -> Result<(), Fault> {
        self.tree
            .apply_batch(batch)
            .and_then(|()| self.tree.flush())
            .map(|_| ())
            .map_err(|error| Fault::Unknown(error.to_string().into()))
    }

    /// The barrier.
    fn sync(&self) -> Result<(), Fault> {
        let synced = self.db.as_ref().map_or(Ok(()), File::sync_data);
        synced.map_err(|error| Fault::Unknown(error.to_string().into()))
    }
}

/// The value under a row's own key.
struct Head<'a> {
    version: u64,
    pieces: u16,
    first: &'a [u8],
}

impl<'a> Head<'a> {
    fn from_bytes(bytes: &'a [u8]) -> Result<Self, Fault> {
        let damaged = || Fault::Corrupt("a row cannot be decoded".into());
        let (version, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
        let (pieces, first) = rest.split_first_chunk().ok_or_else(damaged)?;
        Ok(Self { version: u64::from_be_bytes(*version), pieces: u16::from_be_bytes(*pieces), first })
    }
}

/// Adds a row to the batch; returns how many pieces follow its first.
fn insert(batch: &mut Batch, key: &Key, version: u64, value: &[u8]) -> Result<u16, Fault> {
    let (first, rest) = value.split_at(value.len().min(PIECE_BYTES));
    let pieces = u16::try_from(rest.len().div_ceil(PIECE_BYTES))
        .map_err(|_| Fault::Misuse("a row is larger than allowed".into()))?;
    batch.insert(key.encoded(), [&version.to_be_bytes()[..], &pieces.to_be_bytes(), first].concat());
    for (index, piece) in (1..=pieces).zip(rest.chunks(PIECE_BYTES)) {
        batch.insert(piece_key(key, index), piece);
    }
    Ok(pieces)
}

fn piece_key(key: &Key, index: u16) -> Vec<u8> {
    [&[PIECE_MARK], key.encoded(), &index.to_be_bytes()].concat()
}

fn config(path: &Path, options: &SledOptions) -> sled::Config {
    sled::Config::new().path(path).cache_capacity(options.cache_bytes).mode(sled::Mode::HighThroughput)
}

/// Refuses a folder that sled would silently complete, and with it forget what was there.
fn complete(path: &Path) -> Result<(), Fault> {
    let present = |name: &str| fs::metadata(path.join(name)).is_ok_and(|meta| meta.is_file());
    if present("conf") && present("db") {
        return Ok(());
    }
    Err(Fault::Corrupt("files of the engine are missing".into()))
}

/// sled takes a snapshot that a crash left unfinished for its newest and refuses to open.
fn remove_unfinished_snapshots(path: &Path) -> Result<(), Fault> {
    for entry in fs::read_dir(path).map_err(away)? {
        let path = entry.map_err(away)?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path).map_err(away)?;
        }
    }
    Ok(())
}

/// Waits until no thread of a dropped sled holds the lock on `db` any more.
fn wait_for_lock(path: &Path) -> Result<(), Fault> {
    let db = File::open(path.join("db")).map_err(away)?;
    for _ in 0..LOCK_PAUSES_MAX {
        match db.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(away(error)),
        }
    }
    Err(Fault::Unavailable("the engine does not let go of its lock".into()))
}

fn poisoned() -> Fault {
    Fault::Unavailable("the handle is poisoned".into())
}

/// What an error outside a commit means.
fn fault(error: &sled::Error) -> Fault {
    let text = error.to_string().into();
    match error {
        sled::Error::Io(io) if io.kind() == io::ErrorKind::UnexpectedEof => Fault::Corrupt(text),
        sled::Error::Io(_) => Fault::Unavailable(text),
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
    use crate::store::Change;
    use crate::store::conformance::{Place, suite};

    const SMALL: SledOptions = SledOptions { cache_bytes: MEBIBYTE, free_floor_bytes: MEBIBYTE };

    struct Sled(TempDir);

    impl Place for Sled {
        fn open(&self) -> Box<dyn Store> {
            Box::new(SledStore::open(self.0.path(), SMALL).unwrap())
        }
    }

    #[test]
    fn conforms() {
        suite(&|| Box::new(Sled(TempDir::new().unwrap())));
    }

    #[test]
    fn leaves_no_piece_behind() {
        let folder = TempDir::new().unwrap();
        let store = SledStore::open(folder.path(), SMALL).unwrap();
        let key = Key::new(Space::LogPage, None, b"page");
        let lengths = [10 * PIECE_BYTES, 3 * PIECE_BYTES + 1, 0, 7 * PIECE_BYTES, PIECE_BYTES];
        for (version, length) in (0_u64..).zip(lengths) {
            let value = vec![u8::try_from(version).unwrap(); length];
            let change = match version {
                0 => Change::Insert(value.clone()),
                version => Change::Replace { version, value: value.clone() },
            };
            let writes = [(key.clone(), change)].into_iter().collect();
            assert_eq!(store.commit(&writes), Ok(Commit::Done));
            assert_eq!(store.read(std::slice::from_ref(&key)).unwrap()[0].as_ref().unwrap().value, value);
            assert_eq!(pairs(&store), 1 + length.saturating_sub(1) / PIECE_BYTES);
        }
        let delete = Change::Delete { version: lengths.len() as u64 };
        assert_eq!(store.commit(&[(key, delete)].into_iter().collect()), Ok(Commit::Done));
        assert_eq!(pairs(&store), 0);
        let blobs = fs::read_dir(folder.path().join("sled/blobs")).unwrap().count();
        assert_eq!(blobs, 0, "sled never syncs its blobs");
    }

    fn pairs(store: &SledStore) -> usize {
        store.engine.read().unwrap().as_ref().unwrap().tree.len()
    }
}
