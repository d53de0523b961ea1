//! The folder of an embedded store: locked by one process, born complete, synced, and forgotten by the
//! page cache when a sync has failed.
//!
//! ```text
//! <path>/lock         held by the one process that uses the store
//! <path>/<engine>     the engine's own files; exists only if it was created completely
//! <path>/<engine>.new a creation that did not finish: removed at the next open
//! ```

use std::fs::{self, DirBuilder, File, FileType, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, fadvise, statvfs};

use super::Fault;

/// The engines that own a folder. A store is opened with the engine that wrote it, or not at all.
const ENGINES: [&str; 2] = ["fjall", "sled"];

const OWNER_ONLY_FOLDER: u32 = 0o700;
const OWNER_ONLY_FILE: u32 = 0o600;

/// A locked store folder. The lock goes with the value.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    engine: &'static str,
    _lock: File,
}

impl Folder {
    /// Creates the folder if need be, locks it and makes its name durable.
    pub(super) fn open(path: &Path, engine: &'static str) -> Result<Self, Fault> {
        DirBuilder::new().recursive(true).mode(OWNER_ONLY_FOLDER).create(path).map_err(away)?;
        let path = path.canonicalize().map_err(away)?;
        let lock = lock(&path)?;
        let foreign = |other: &str| other != engine && path.join(other).exists();
        if ENGINES.iter().any(|other| foreign(other)) {
            return Err(Fault::Unavailable("this folder holds a store of another engine".into()));
        }
        sync(&path)?;
        path.parent().map_or(Ok(()), sync)?;
        Ok(Self { path, engine, _lock: lock })
    }

    /// Where the engine's own files are.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join(self.engine)
    }

    /// Whether the engine's files were ever created completely.
    pub(super) fn is_born(&self) -> bool {
        self.data().is_dir()
    }

    /// Creates the engine's files beside their place and moves them there when they are durable, so that
    /// no crash leaves half a store that looks like an empty one.
    pub(super) fn bear(&self, create: impl FnOnce(&Path) -> Result<(), Fault>) -> Result<(), Fault> {
        let unborn = self.path.join(format!("{}.new", self.engine));
        if unborn.exists() {
            fs::remove_dir_all(&unborn).map_err(away)?;
        }
        create(&unborn)?;
        sync_tree(&unborn)?;
        fs::rename(&unborn, self.data()).map_err(away)?;
        sync(&self.path)
    }

    /// Makes the engine's files, folders and the folder that names them durable.
    pub(super) fn sync_all(&self) -> Result<(), Fault> {
        sync_tree(&self.data())?;
        sync(&self.path)
    }

    /// Writes out what the page cache still holds of the engine's files and lets it forget them, so that
    /// what is read next is what the disk has.
    ///
    /// After a failed sync the kernel may keep pages that never reached the disk and call them clean: a
    /// recovery that reads them would believe in a commit that the next power cut takes away.
    pub(super) fn forget_cached(&self) -> Result<(), Fault> {
        each_below(&self.data(), &mut |path, kind| {
            if kind.is_dir() {
                return Ok(());
            }
            let file = File::open(path)?;
            file.sync_all()?;
            Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
        })
        .map_err(away)
    }

    /// Bytes that an ordinary user can still write on this file system.
    pub(super) fn free_bytes(&self) -> Result<u64, Fault> {
        let stat = statvfs(&self.path).map_err(|error| away(error.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Bytes that the store takes on disk: allocated blocks, not lengths.
    pub(super) fn disk_bytes(&self) -> Result<u64, Fault> {
        use std::os::unix::fs::MetadataExt;

        const BLOCK: u64 = 512;
        let mut bytes = 0;
        each_below(&self.path, &mut |path, kind| {
            if !kind.is_dir() {
                bytes += fs::metadata(path)?.blocks().saturating_mul(BLOCK);
            }
            Ok(())
        })
        .map_err(away)?;
        Ok(bytes)
    }
}

/// The free space that a store must find. Once there was less, it waits for an eighth more than that: at the
/// very edge it would come and go with every file that somebody else writes or removes.
#[derive(Debug)]
pub(super) struct Floor {
    bytes: u64,
    was_below: AtomicBool,
}

impl Floor {
    pub(super) const fn new(bytes: u64) -> Self {
        Self { bytes, was_below: AtomicBool::new(false) }
    }

    /// Whether so much free space is too little.
    pub(super) fn lacks(&self, free: u64) -> bool {
        let margin = if self.was_below.load(Ordering::Relaxed) { self.bytes / 8 } else { 0 };
        let below = free < self.bytes.saturating_add(margin);
        self.was_below.store(below, Ordering::Relaxed);
        below
    }
}

fn lock(path: &Path) -> Result<File, Fault> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(OWNER_ONLY_FILE);
    let file = options.open(path.join("lock")).map_err(away)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Fault::Unavailable("another process or handle uses this store".into()))
        }
        Err(TryLockError::Error(error)) => Err(away(error)),
    }
}

/// Makes one file or one folder's entries durable.
pub(super) fn sync(path: &Path) -> Result<(), Fault> {
    fsync(path).map_err(away)
}

fn fsync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a folder durable with all that lies in it.
fn sync_tree(path: &Path) -> Result<(), Fault> {
    each_below(path, &mut |entry, _| fsync(entry)).map_err(away)?;
    sync(path)
}

/// Calls `visit` for everything below `path`, for a folder after what lies in it. What the engine's threads
/// remove meanwhile is passed over: a file that is gone has nothing to keep.
fn each_below(path: &Path, visit: &mut impl FnMut(&Path, FileType) -> io::Result<()>) -> io::Result<()> {
    for entry in unless_gone(fs::read_dir(path))?.into_iter().flatten() {
        let entry = entry?;
        let Some(kind) = unless_gone(entry.file_type())? else { continue };
        if kind.is_dir() {
            each_below(&entry.path(), visit)?;
        }
        unless_gone(visit(&entry.path(), kind))?;
    }
    Ok(())
}

fn unless_gone<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// An I/O error before or outside a commit: nothing was written.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
pub(super) fn away(error: io::Error) -> Fault {
    Fault::Unavailable(error.to_string().into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop loudly")]

    use super::*;

    #[test]
    fn what_vanishes_while_the_folder_is_walked_is_passed_over_and_the_rest_is_visited() {
        let folder = tempfile::tempdir().unwrap();
        let within = folder.path().join("within");
        fs::create_dir(&within).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(within.join(name), name).unwrap();
        }
        let mut seen = Vec::new();
        let outcome = each_below(folder.path(), &mut |path, _| {
            // Another thread removes all but the file that is looked at first.
            if seen.is_empty() {
                let others = fs::read_dir(&within).unwrap().map(|entry| entry.unwrap().path());
                others.filter(|other| other != path).for_each(|other| fs::remove_file(other).unwrap());
            }
            fsync(path)?;
            seen.push(path.to_owned());
            Ok(())
        });
        outcome.unwrap();
        assert_eq!(seen.len(), 2, "one file and its folder: {seen:?}");
    }

    #[test]
    fn below_the_floor_an_eighth_more_is_waited_for() {
        let floor = Floor::new(800);
        let told = [900, 800, 799, 800, 899, 900, 850, 800, 0].map(|free| floor.lacks(free));
        assert_eq!(told, [false, false, true, true, true, false, false, false, true]);
    }

    #[test]
    fn a_folder_that_is_not_there_cannot_be_made_durable() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(sync_tree(&folder.path().join("absent")), Err(Fault::Unavailable(_))));
    }
}
