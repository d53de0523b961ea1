//! Where keys stand: memory that no core file, no swap, no child process and, where the kernel has
//! `memfd_secret(2)`, no other process and not even the kernel's own map of memory can show.
//!
//! The arena is cut into chunks of one slot size each, with a page on either side that nothing may touch. A
//! slot is wiped when its key is dropped. Chunks are never given back: what a key once stood in stays locked.

use core::fmt;
use core::mem::{align_of, size_of};
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use rustix::{fs, mm};

use crate::zero::zero;

/// Bytes of a chunk.
const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of the smallest slot: a key.
const SLOT_BYTES_MIN: usize = 32;
/// Slot sizes, each twice the one before: the largest holds any key schedule there is.
const SLOT_SIZES: usize = 8;
/// Bytes of the arena: some ten thousand key versions, twice while a keyring changes.
pub const ARENA_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A guard page: as large as pages get where the vault runs.
const GUARD_BYTES: usize = 64 * 1024;

/// How the memory of keys is kept to this process, the strongest first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum KeyMemory {
    /// `memfd_secret(2)`: out of reach of other processes and of the kernel's own mappings.
    Secret,
    /// Locked against swapping, left out of core files and of child processes.
    Locked,
    /// Ordinary memory, wiped when dropped: the kernel, or `RLIMIT_MEMLOCK`, allowed no more.
    Ordinary,
}

impl fmt::Display for KeyMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret => "secret",
            Self::Locked => "locked",
            Self::Ordinary => "ordinary",
        })
    }
}

/// The weakest memory that any key of this process was put into so far; takes some if there is none yet.
pub fn key_memory() -> KeyMemory {
    drop(Locked::new([0_u8; SLOT_BYTES_MIN]));
    arena().kind
}

/// A value in the arena. Where the arena has no room left it stands in ordinary memory, which
/// [`key_memory`] tells. Wiped when dropped, whatever the value's own drop does.
pub struct Locked<T> {
    at: NonNull<T>,
    /// Its slot size; `None` in ordinary memory.
    size: Option<usize>,
}

// SAFETY: a `Locked` owns its value as a `Box` does.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: as for a `Box`: shared access gives shared access to the value and nothing else.
unsafe impl<T: Sync> Sync for Locked<T> {}

impl<T> Locked<T> {
    /// Moves a value into the arena. What the move leaves on the stack is the caller's to wipe
    /// ([`wipe_stack`](crate::wipe_stack)).
    pub fn new(value: T) -> Self {
        let place = slot_size(size_of::<T>().max(align_of::<T>()))
            .and_then(|size| Some((arena().take(size)?.cast::<T>(), size)));
        match place {
            Some((at, size)) => {
                // SAFETY: the slot is free, writable and as large as a `T`; slots are aligned to their size,
                // which is a power of two and at least the alignment of `T`.
                unsafe { at.write(value) };
                Self { at, size: Some(size) }
            }
            None => {
                arena().kind = KeyMemory::Ordinary;
                Self { at: NonNull::from(Box::leak(Box::new(value))), size: None }
            }
        }
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` initialised the value, and only `drop` ends it.
        unsafe { self.at.as_ref() }
    }
}

impl<T> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above; the exclusive borrow of `self` is one of the value.
        unsafe { self.at.as_mut() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: the value is initialised and dropped here, once. What its own drop leaves is overwritten
        // before anybody else gets the memory.
        unsafe {
            ptr::drop_in_place(self.at.as_ptr());
            zero(self.at.as_ptr().cast::<u8>(), size_of::<T>());
        }
        match self.size {
            Some(size) => arena().give_back(self.at.cast::<u8>(), size),
            // SAFETY: it came from a `Box<T>` in `new`. The value is gone: as `MaybeUninit` nothing of it is
            // dropped again.
            None => drop(unsafe { Box::from_raw(self.at.as_ptr().cast::<core::mem::MaybeUninit<T>>()) }),
        }
    }
}

/// The smallest slot, by its number, that holds so many bytes.
const fn slot_size(bytes: usize) -> Option<usize> {
    let mut size = 0;
    while size < SLOT_SIZES {
        if bytes <= SLOT_BYTES_MIN << size {
            return Some(size);
        }
        size += 1;
    }
    None
}

struct Arena {
    /// Free slots of each size.
    free: [Vec<Slot>; SLOT_SIZES],
    bytes: usize,
    kind: KeyMemory,
}

/// The address of a free slot.
struct Slot(NonNull<u8>);

// SAFETY: a free slot is memory that nobody uses; whoever takes it out of the arena owns it.
unsafe impl Send for Slot {}

static ARENA: Mutex<Arena> =
    Mutex::new(Arena { free: [const { Vec::new() }; SLOT_SIZES], bytes: 0, kind: KeyMemory::Secret });

fn arena() -> std::sync::MutexGuard<'static, Arena> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    /// A free slot of the size of this number.
    fn take(&mut self, size: usize) -> Option<NonNull<u8>> {
        if self.free.get(size)?.is_empty() {
            self.grow(size);
        }
        self.free.get_mut(size)?.pop().map(|slot| slot.0)
    }

    fn give_back(&mut self, at: NonNull<u8>, size: usize) {
        if let Some(free) = self.free.get_mut(size) {
            free.push(Slot(at));
        }
    }

    fn grow(&mut self, size: usize) {
        if self.bytes + CHUNK_BYTES > ARENA_BYTES_MAX {
            return;
        }
        let Some((chunk, kind)) = chunk() else { return };
        self.bytes += CHUNK_BYTES;
        self.kind = self.kind.max(kind);
        let Some(free) = self.free.get_mut(size) else { return };
        let slots = (0..CHUNK_BYTES).step_by(SLOT_BYTES_MIN << size);
        // SAFETY: every slot lies inside the chunk.
        free.extend(slots.map(|from| Slot(unsafe { chunk.add(from) })));
    }
}

/// A fresh chunk between two guards, of the strongest memory that is to be had.
fn chunk() -> Option<(NonNull<u8>, KeyMemory)> {
    let (chunk, kind) = secret_chunk()
        .map(|chunk| (chunk, KeyMemory::Secret))
        .or_else(|| locked_chunk().map(|chunk| (chunk, KeyMemory::Locked)))?;
    // Neither in core files nor in children. Secret memory is in no core file anyway.
    for advice in [Advice::LinuxDontDump, Advice::LinuxDontFork] {
        // SAFETY: advice about the mapping made just now; it changes no content.
        let _ = unsafe { mm::madvise(chunk.as_ptr().cast(), CHUNK_BYTES, advice) };
    }
    Some((chunk, kind))
}

/// Bytes of a reservation: a chunk and its guards.
const RESERVED_BYTES: usize = GUARD_BYTES + CHUNK_BYTES + GUARD_BYTES;

/// Reserves the place of a chunk: its start, and that of the chunk inside. Nothing of it may be touched yet.
fn reserve() -> Option<(*mut u8, *mut u8)> {
    // SAFETY: an anonymous mapping at an address of the kernel's choosing touches nothing that exists.
    let start =
        unsafe { mm::mmap_anonymous(ptr::null_mut(), RESERVED_BYTES, ProtFlags::empty(), MapFlags::PRIVATE) };
    let start = start.ok()?.cast::<u8>();
    // SAFETY: inside the reservation.
    Some((start, unsafe { start.add(GUARD_BYTES) }))
}

/// Memory that only this process can map.
fn secret_chunk() -> Option<NonNull<u8>> {
    // SAFETY: takes no pointer; gives a descriptor or fails.
    let descriptor = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::FD_CLOEXEC) };
    let descriptor = i32::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: a fresh descriptor that nothing else owns.
    let file = unsafe { OwnedFd::from_raw_fd(descriptor) };
    fs::ftruncate(&file, CHUNK_BYTES as u64).ok()?;
    let (start, chunk) = reserve()?;
    let (rights, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::FIXED);
    // SAFETY: replaces the chunk of a reservation that nobody else knows of, and nothing else.
    if unsafe { mm::mmap(chunk.cast(), CHUNK_BYTES, rights, flags, file.as_fd(), 0) }.is_ok() {
        return NonNull::new(chunk);
    }
    // A fixed mapping that fails may have taken away what was there before, and another thread may have got
    // the place: the guards alone are still this reservation's.
    // SAFETY: the two guards, which nothing replaced.
    unsafe {
        let _ = mm::munmap(start.cast(), GUARD_BYTES);
        let _ = mm::munmap(chunk.add(CHUNK_BYTES).cast(), GUARD_BYTES);
    }
    None
}

/// Memory that is never swapped.
fn locked_chunk() -> Option<NonNull<u8>> {
    let (start, chunk) = reserve()?;
    let rights = MprotectFlags::READ | MprotectFlags::WRITE;
    // SAFETY: the chunk of a reservation that nobody else knows of; both calls leave the mapping in place.
    let done = unsafe {
        mm::mprotect(chunk.cast(), CHUNK_BYTES, rights).and_then(|()| mm::mlock(chunk.cast(), CHUNK_BYTES))
    };
    if done.is_ok() {
        return NonNull::new(chunk);
    }
    // SAFETY: the whole reservation, which nobody uses.
    let _ = unsafe { mm::munmap(start.cast(), RESERVED_BYTES) };
    None
}
