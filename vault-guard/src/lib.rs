//! The only unsafe code of the vault: memory for keys, an allocator that leaves nothing behind, a wiped
//! stack, and the process calls that keep a memory image from leaving the machine.
//!
//! Every other crate forbids `unsafe`. What is here is small enough to be read in one sitting; each unsafe
//! block says why it is sound. Miri cannot check it: the barrier is inline assembly, and the tests look at
//! memory through `/proc/self/mem`, and Miri supports neither. The tests therefore look at the memory itself.
//!
//! - [`Allocator`]: mimalloc under [`ZeroingAllocator`], the daemon's global allocator.
//! - [`Locked`]: a key in locked memory, out of core files, swap and children.
//! - [`wipe_stack`]: overwrites the stack below the caller after work with keys or values.
//! - [`harden`]: no core dumps, not dumpable, no new privileges.
//! - [`confine_files`], [`confine_calls`]: no files, ports and system calls but those that are needed.

#[cfg(feature = "allocator")]
mod allocator;
mod arena;
#[cfg(feature = "confine")]
mod confine;
mod process;
mod stack;
mod zero;

#[cfg(feature = "allocator")]
pub use allocator::{Allocator, ZeroingAllocator, allocator};
pub use arena::{ARENA_BYTES_MAX, KeyMemory, Locked, key_memory};
#[cfg(feature = "confine")]
pub use confine::{Access, ConfineError, FileRules, Reach, confine_calls, confine_files};
pub use process::{HardenError, Step, harden};
pub use stack::{WIPED_STACK_BYTES, wipe_stack};
