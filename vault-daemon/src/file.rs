//! Small files that the daemon trusts: read whole, of bounded size, secrets closed to others.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use thiserror::Error;
use zeroize::Zeroizing;

/// Why a file could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The system refused.
    #[error("cannot be read: {0}")]
    System(#[from] io::Error),
    /// A folder, a pipe or a device.
    #[error("is no plain file")]
    NotAFile,
    /// A secret that others than its owner can reach.
    #[error("can be read or changed by its group or by others; chmod 600 it")]
    Exposed,
    /// Above its bound.
    #[error("is larger than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: u64,
    },
}

/// The whole content, wiped when dropped, and what the system says about the very file that was read.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<(Zeroizing<Vec<u8>>, Metadata), ReadError> {
    // Asked before opening too, because opening a pipe waits for its other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(ReadError::NotAFile);
    }
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(ReadError::NotAFile);
    }
    // With room for all of it: a growing buffer would leave copies of a secret behind.
    let expected = usize::try_from(meta.len().min(bytes_max)).unwrap_or(0);
    let mut content = Zeroizing::new(Vec::with_capacity(expected.saturating_add(64)));
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(ReadError::TooLarge { bytes_max });
    }
    Ok((content, meta))
}

/// A small secret, from a file that is its owner's alone.
///
/// # Errors
/// [`ReadError`].
pub fn read_secret(path: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let (content, meta) = read(path, bytes_max)?;
    if only_for_owner(&meta) { Ok(content) } else { Err(ReadError::Exposed) }
}

/// Whether a secret file is closed to group and others. The group may read if it is root's: a service manager
/// that hands out credentials by access list shows that list's mask in the place of the group.
pub(crate) fn only_for_owner(meta: &Metadata) -> bool {
    const GROUP_READ: u32 = 0o040;
    let beyond_owner = meta.mode() & 0o077;
    beyond_owner == 0 || (beyond_owner == GROUP_READ && meta.uid() == 0 && meta.gid() == 0)
}

/// Whether only the owner can change a file that others may read.
pub(crate) fn only_owner_writes(meta: &Metadata) -> bool {
    meta.mode() & 0o022 == 0
}

/// Whether nobody but root and this process's own user can change a file or folder.
pub(crate) fn only_trusted_write(meta: &Metadata) -> bool {
    let owners = [0, rustix::process::geteuid().as_raw()];
    only_owner_writes(meta) && owners.contains(&meta.uid())
}

/// Takes off the one line end that an editor or `echo` left behind a secret.
pub(crate) fn strip_line_end(content: &mut Vec<u8>) {
    if content.last() == Some(&b'\n') {
        content.pop();
        if content.last() == Some(&b'\r') {
            content.pop();
        }
    }
}
