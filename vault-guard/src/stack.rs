//! Wiping what deeper calls left on the stack.

use crate::zero::zero;

/// Bytes of stack that [`wipe_stack`] overwrites below its caller. Measured: with it no copy of a key remains
/// of the four to six that ring leaves on the stack per use.
pub const WIPED_STACK_BYTES: usize = 64 * 1024;

/// Overwrites the [`WIPED_STACK_BYTES`] of stack below the caller with zeros.
///
/// To be called after work with keys or values, from the frame that began it: what that work left lies below.
/// It costs about a microsecond, so once per batch, not per value. The calling thread needs that much stack
/// left; with less the guard page stops the process.
#[inline(never)]
pub fn wipe_stack() {
    let mut below = core::mem::MaybeUninit::<[u8; WIPED_STACK_BYTES]>::uninit();
    // SAFETY: the range is exactly the local `below`, which nothing borrows; zeros need no initialised
    // target.
    unsafe { zero(below.as_mut_ptr().cast::<u8>(), WIPED_STACK_BYTES) };
}
