//! The system calls that change files, and those that could without the record seeing it.

use libc::c_long;

/// Relative paths begin at the working folder.
pub(crate) const HERE: i32 = libc::AT_FDCWD;

/// A place in the child's memory where a path stands, and the folder from which it is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct PathAt {
    pub(crate) folder: i32,
    pub(crate) text: u64,
}

/// A call that the record must see. Calls of this kind run one at a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Call {
    /// One run of bytes; without a place it goes where the descriptor stands.
    Write {
        file: i32,
        bytes: u64,
        at: Option<u64>,
    },
    /// Several runs of bytes.
    WriteMany {
        file: i32,
        runs: u64,
        count: u64,
        at: Option<u64>,
    },
    Resize {
        file: i32,
        size: u64,
    },
    /// `fallocate` that grows the file.
    Grow {
        file: i32,
        to: u64,
    },
    Sync {
        file: i32,
    },
    Open {
        path: PathAt,
        flags: i32,
    },
    Rename {
        from: PathAt,
        to: PathAt,
    },
    Remove {
        path: PathAt,
    },
    MakeFolder {
        path: PathAt,
    },
    /// Links, devices, shortening by name: refused below the recorded folder.
    RefusedAt {
        path: PathAt,
    },
    /// Shared mappings, copies inside the kernel, holes: refused on recorded files.
    RefusedOn {
        file: i32,
    },
    /// Refused wherever it points.
    Refused,
    /// The end of the process: nothing else may be on its way.
    End,
}

/// What a call means to the record; `None` when it changes no file.
pub(crate) fn call(number: i64, arguments: [u64; 6]) -> Option<Call> {
    let number = c_long::from(number);
    writing(number, arguments).or_else(|| naming(number, arguments)).or_else(|| older(number, arguments))
}

fn writing(number: c_long, [a, b, c, d, e, _]: [u64; 6]) -> Option<Call> {
    let file = descriptor(a);
    Some(match number {
        libc::SYS_write => Call::Write { file, bytes: b, at: None },
        libc::SYS_pwrite64 => Call::Write { file, bytes: b, at: Some(d) },
        libc::SYS_writev => Call::WriteMany { file, runs: b, count: c, at: None },
        libc::SYS_pwritev => Call::WriteMany { file, runs: b, count: c, at: Some(d) },
        libc::SYS_ftruncate => Call::Resize { file, size: b },
        libc::SYS_fallocate => match descriptor(b) {
            0 => Call::Grow { file, to: c.saturating_add(d) },
            libc::FALLOC_FL_KEEP_SIZE => return None,
            _ => Call::RefusedOn { file },
        },
        libc::SYS_fsync | libc::SYS_fdatasync => Call::Sync { file },
        // `sync_file_range` and `msync` promise nothing that outlasts a power cut.
        libc::SYS_sync | libc::SYS_syncfs => Call::Refused,
        libc::SYS_mmap if d & libc::MAP_SHARED as u64 != 0 && descriptor(e) >= 0 => {
            Call::RefusedOn { file: descriptor(e) }
        }
        libc::SYS_sendfile | libc::SYS_pwritev2 => Call::RefusedOn { file },
        libc::SYS_copy_file_range | libc::SYS_splice => Call::RefusedOn { file: descriptor(c) },
        libc::SYS_ioctl if clones(b) => Call::RefusedOn { file },
        libc::SYS_io_uring_setup | libc::SYS_io_setup => Call::Refused,
        libc::SYS_exit_group => Call::End,
        _ => return None,
    })
}

fn naming(number: c_long, [a, b, c, d, e, _]: [u64; 6]) -> Option<Call> {
    let path = PathAt { folder: descriptor(a), text: b };
    let target = PathAt { folder: descriptor(c), text: d };
    Some(match number {
        libc::SYS_openat => Call::Open { path, flags: descriptor(c) },
        libc::SYS_renameat => Call::Rename { from: path, to: target },
        // RENAME_NOREPLACE (1) is a renaming like any other once it has succeeded.
        libc::SYS_renameat2 if e & !1 == 0 => Call::Rename { from: path, to: target },
        libc::SYS_renameat2 | libc::SYS_linkat => Call::RefusedAt { path: target },
        libc::SYS_symlinkat => Call::RefusedAt { path: PathAt { folder: descriptor(b), text: c } },
        libc::SYS_unlinkat => Call::Remove { path },
        libc::SYS_mkdirat => Call::MakeFolder { path },
        libc::SYS_openat2 | libc::SYS_mknodat => Call::RefusedAt { path },
        libc::SYS_truncate => Call::RefusedAt { path: here(a) },
        _ => return None,
    })
}

/// Calls that younger architectures no longer have.
#[cfg(target_arch = "x86_64")]
fn older(number: c_long, [a, b, ..]: [u64; 6]) -> Option<Call> {
    Some(match number {
        libc::SYS_open => Call::Open { path: here(a), flags: descriptor(b) },
        libc::SYS_creat => {
            Call::Open { path: here(a), flags: libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC }
        }
        libc::SYS_rename => Call::Rename { from: here(a), to: here(b) },
        libc::SYS_unlink | libc::SYS_rmdir => Call::Remove { path: here(a) },
        libc::SYS_mkdir => Call::MakeFolder { path: here(a) },
        libc::SYS_link | libc::SYS_symlink => Call::RefusedAt { path: here(b) },
        libc::SYS_mknod => Call::RefusedAt { path: here(a) },
        _ => return None,
    })
}

#[cfg(not(target_arch = "x86_64"))]
const fn older(_number: c_long, _arguments: [u64; 6]) -> Option<Call> {
    None
}

const fn here(text: u64) -> PathAt {
    PathAt { folder: HERE, text }
}

/// Whether an `ioctl` lets two files share their blocks.
fn clones(request: u64) -> bool {
    request == libc::FICLONE || request == libc::FICLONERANGE
}

/// The kernel looks at the lower half of a descriptor or of flags only.
const fn descriptor(argument: u64) -> i32 {
    argument as i32
}
