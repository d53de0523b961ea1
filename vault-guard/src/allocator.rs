//! An allocator whose freed memory reads zero.

use core::alloc::{GlobalAlloc, Layout};

use mimalloc::MiMalloc;

use crate::zero::zero;

/// The daemon's global allocator. Measured: mimalloc costs 5 % less CPU than the system's, the zeroing 6–18 %
/// more; without the zeroing thousands of plaintext copies stay in freed buffers.
pub type Allocator = ZeroingAllocator<MiMalloc>;

/// The value for `#[global_allocator]`.
pub const fn allocator() -> Allocator {
    ZeroingAllocator::new(MiMalloc)
}

/// Zeroes every block before the inner allocator gets it back.
///
/// It covers what cannot be wiped by its owner: buffers of TLS, HTTP/2 and protobuf, reallocated vectors, and
/// libraries that free keys as they are. It does not cover stacks ([`crate::wipe_stack`]) or memory that is
/// never freed. `realloc` never grows in place: it allocates, copies, and gives the old block back through
/// `dealloc`, so that a block moved by the inner allocator is not left behind unwiped.
#[derive(Debug, Default)]
pub struct ZeroingAllocator<A> {
    inner: A,
}

impl<A> ZeroingAllocator<A> {
    /// Puts the zeroing around `inner`.
    pub const fn new(inner: A) -> Self {
        Self { inner }
    }

    /// Takes the zeroing away again; blocks that are still allocated belong to the inner allocator.
    pub fn into_inner(self) -> A {
        self.inner
    }
}

// SAFETY: every block comes from `inner` and goes back to it with the layout it was allocated with, exactly
// once. `dealloc` writes only inside the block. Nothing here allocates, locks or unwinds.
unsafe impl<A: GlobalAlloc> GlobalAlloc for ZeroingAllocator<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise (`layout` is not of size zero) is what `inner` asks for.
        unsafe { self.inner.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`. `inner` knows fresh pages, so this is cheaper than zeroing here.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives up a block allocated with this layout, so all its bytes are writable and
        // nobody else uses them.
        unsafe { zero(block, layout.size()) };
        // SAFETY: the block was allocated by `inner` with this layout, as the caller promises.
        unsafe { self.inner.dealloc(block, layout) };
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // SAFETY: the caller promises that `new_bytes` is not zero and does not overflow `isize` when rounded
        // up to the alignment, which comes from a layout and is therefore valid.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_bytes, layout.align()) };
        // SAFETY: `new_layout` is not of size zero, by the same promise.
        let new_block = unsafe { self.alloc(new_layout) };
        if !new_block.is_null() {
            // SAFETY: both blocks are valid for the smaller of the two sizes and distinct, since the old one
            // is still allocated.
            unsafe { new_block.copy_from_nonoverlapping(block, layout.size().min(new_bytes)) };
            // SAFETY: the caller gives up `block`, allocated with `layout`; its content is copied.
            unsafe { self.dealloc(block, layout) };
        }
        new_block
    }
}
