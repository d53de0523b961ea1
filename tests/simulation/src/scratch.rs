//! Folders that live in memory where the system has such a place: thousands are filled and thrown away.

use std::path::Path;

use tempfile::TempDir;

const IN_MEMORY: &str = "/dev/shm";

/// A new empty folder, gone with the value.
///
/// # Panics
/// When none can be made.
pub fn folder() -> TempDir {
    let made = if Path::new(IN_MEMORY).is_dir() { TempDir::new_in(IN_MEMORY) } else { TempDir::new() };
    made.expect("a new folder")
}
