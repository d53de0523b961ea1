//! Small private files that survive a power cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Readable and writable by the owner only.
const PRIVATE_FILE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;
const GROUP_AND_OTHERS: u32 = 0o077;

/// Makes a folder for private files, durably; one that exists is left as it is.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(PRIVATE_FOLDER).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| sync_folder_of(path)),
    }
}

/// Whether anyone but the owner may read, write or enter.
pub(super) fn is_exposed(path: &Path) -> io::Result<bool> {
    Ok(fs::metadata(path)?.permissions().mode() & GROUP_AND_OTHERS != 0)
}

/// Holds a folder for one process at a time; released on drop.
pub(super) fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = File::open(path)?;
    folder.lock()?;
    Ok(folder)
}

/// All of a file; `None` when there is none. A file of more than `bytes_max` is given as its first
/// `bytes_max` + 1 bytes, which no format accepts.
pub(super) fn read(path: &Path, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Puts a file in place whole: after a crash either the old or the new one stands there.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = unfinished(path);
    remove_leftover(&unfinished)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    sync_folder_of(path)
}

/// Where [`replace`] writes before it renames.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

/// A crash can leave an unfinished file; opening it again would keep whatever permissions it has.
fn remove_leftover(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A file's name is durable only once its folder is synced.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_private_and_replaced_whole() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("keys");
        create_folder(&folder).unwrap();
        create_folder(&folder).unwrap();
        assert!(!is_exposed(&folder).unwrap());

        let path = folder.join("file.x");
        assert_eq!(read(&path, 10).unwrap(), None);
        for content in ["first", "second, longer", ""] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(read(&path, 100).unwrap().unwrap(), content.as_bytes());
            assert!(!is_exposed(&path).unwrap());
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing unfinished is left");
    }

    #[test]
    fn an_exposed_leftover_is_not_reused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(unfinished(&path), "left by a crash").unwrap();
        fs::set_permissions(unfinished(&path), fs::Permissions::from_mode(0o644)).unwrap();
        replace(&path, b"new").unwrap();
        assert!(!is_exposed(&path).unwrap());
        assert_eq!(read(&path, 10).unwrap().unwrap(), b"new");
    }

    #[test]
    fn oversize_files_are_read_to_just_beyond_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, &[7; 100]).unwrap();
        assert_eq!(read(&path, 10).unwrap().unwrap().len(), 11);
    }
}
