//! Zeros that the compiler cannot leave out.

/// Writes `bytes` zeros from `start` on, and makes the compiler believe that somebody reads them.
///
/// A plain `memset` before a free is a dead store, which the optimiser removes; a volatile write of each byte
/// stays but is ten times slower. So: the fast `memset`, then a barrier that may read all memory.
///
/// # Safety
/// `start` must be valid for writes of `bytes` bytes, and no reference to them may be alive.
#[inline]
pub(crate) unsafe fn zero(start: *mut u8, bytes: usize) {
    // SAFETY: the caller promises that the range is writable and not borrowed; u8 has no alignment.
    unsafe { start.write_bytes(0, bytes) };
    observe(start);
}

/// Lets `start` escape into something that may read and write all memory reachable from it, at no cost.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
#[inline(always)]
fn observe(start: *mut u8) {
    // SAFETY: the assembly is empty: it touches no register, no flag and no stack. Without `nomem` or
    // `readonly` the compiler must have finished every earlier write to memory that `start` reaches.
    unsafe { core::arch::asm!("/* {0} */", in(reg) start, options(nostack, preserves_flags)) };
}

/// Where inline assembly is not known to be there: the best the standard library offers.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
#[inline(always)]
fn observe(start: *mut u8) {
    core::hint::black_box(start);
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}
