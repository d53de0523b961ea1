//! How often the disk syncs: the bound of everything durable, measured where the store lies.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Done;

const APPENDED: [u8; 4_096] = [0x5a; 4_096];
/// Linux's `TMPFS_MAGIC` (statfs(2)).
const IN_MEMORY: i64 = 0x0102_1994;

/// Appends of 4 KiB, each followed by `fdatasync`, in a second.
pub(crate) fn syncs_per_second(folder: &Path, lasting: Duration) -> Done<f64> {
    let path = folder.join("synced");
    let mut file = File::create(&path)?;
    let begun = Instant::now();
    let mut syncs = 0_u32;
    while begun.elapsed() < lasting {
        file.write_all(&APPENDED)?;
        file.sync_data()?;
        syncs += 1;
    }
    let rate = f64::from(syncs) / begun.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

/// Whether the folder's file system is gone with the power, and syncs cost nothing.
pub(crate) fn is_in_memory(folder: &Path) -> Done<bool> {
    Ok(rustix::fs::statfs(folder)?.f_type as i64 == IN_MEMORY)
}
