//! What the inner allocator gets back from the zeroing one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop loudly")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;

use vault_guard::ZeroingAllocator;

/// Passes everything to the system's allocator and notes what each block holds when it comes back.
#[derive(Default)]
struct Recorder {
    returned: Mutex<Vec<(Layout, Vec<u8>)>>,
    refuse_above_bytes: Option<usize>,
}

// SAFETY: all blocks come from and go to the system's allocator with their own layout.
unsafe impl GlobalAlloc for Recorder {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.refuse_above_bytes.is_some_and(|most| layout.size() > most) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block is still allocated, and the tests have written all its bytes.
        let content = unsafe { std::slice::from_raw_parts(block, layout.size()) }.to_vec();
        self.returned.lock().unwrap().push((layout, content));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, _: *mut u8, _: Layout, _: usize) -> *mut u8 {
        panic!("an inner realloc may move the block and leave the old one unwiped");
    }
}

/// An allocated block filled with a pattern that is nowhere zero.
fn filled(allocator: &ZeroingAllocator<Recorder>, layout: Layout) -> *mut u8 {
    // SAFETY: the tests use no layout of size zero.
    let block = unsafe { allocator.alloc(layout) };
    assert!(!block.is_null());
    for at in 0..layout.size() {
        // SAFETY: `at` is inside the block.
        unsafe { block.add(at).write(pattern(at)) };
    }
    block
}

fn pattern(at: usize) -> u8 {
    u8::try_from(at % 255).unwrap() + 1
}

#[test]
fn freed_memory_reads_zero() {
    let recorder = Recorder::default();
    let allocator = ZeroingAllocator::new(recorder);
    let shapes = [(1, 1), (7, 1), (16, 8), (19, 1), (4096, 4096), (70_000, 64), (3 << 20, 16)];
    for (bytes, align) in shapes {
        let layout = Layout::from_size_align(bytes, align).unwrap();
        let block = filled(&allocator, layout);
        // SAFETY: the block was allocated with this layout and is given up here.
        unsafe { allocator.dealloc(block, layout) };
    }
    let returned = allocator.into_inner().returned.into_inner().unwrap();
    assert_eq!(returned.len(), shapes.len());
    for (layout, content) in returned {
        assert_eq!(content.len(), layout.size());
        assert!(content.iter().all(|byte| *byte == 0), "{} bytes came back unwiped", layout.size());
    }
}

#[test]
fn realloc_copies_and_wipes_the_old_block() {
    for (old_bytes, new_bytes) in [(100, 5_000), (5_000, 100), (64, 64)] {
        let allocator = ZeroingAllocator::new(Recorder::default());
        let layout = Layout::from_size_align(old_bytes, 8).unwrap();
        let new_layout = Layout::from_size_align(new_bytes, 8).unwrap();
        let block = filled(&allocator, layout);
        // SAFETY: the block was allocated with `layout`; the new size is not zero.
        let moved = unsafe { allocator.realloc(block, layout, new_bytes) };
        let kept = old_bytes.min(new_bytes);
        // SAFETY: the first `kept` bytes of the new block were copied from the old.
        let content = unsafe { std::slice::from_raw_parts(moved, kept) };
        assert!(content.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
        assert_ne!(moved, block, "the old block must be given back, not reused");
        for at in kept..new_bytes {
            // SAFETY: inside the new block; the recorder reads initialised memory only.
            unsafe { moved.add(at).write(1) };
        }
        // SAFETY: allocated by `realloc` with this layout.
        unsafe { allocator.dealloc(moved, new_layout) };
        let returned = allocator.into_inner().returned.into_inner().unwrap();
        assert_eq!(
            returned.iter().map(|(layout, _)| layout.size()).collect::<Vec<_>>(),
            [old_bytes, new_bytes]
        );
        assert!(returned.iter().all(|(_, content)| content.iter().all(|byte| *byte == 0)));
    }
}

#[test]
fn a_failed_realloc_keeps_the_old_block() {
    let recorder = Recorder { refuse_above_bytes: Some(1_000), ..Recorder::default() };
    let allocator = ZeroingAllocator::new(recorder);
    let layout = Layout::from_size_align(500, 8).unwrap();
    let block = filled(&allocator, layout);
    // SAFETY: the block was allocated with `layout`; the new size is not zero.
    assert!(unsafe { allocator.realloc(block, layout, 2_000) }.is_null());
    // SAFETY: after a failed realloc the old block is still ours, with its content.
    let content = unsafe { std::slice::from_raw_parts(block, 500) };
    assert!(content.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
    // SAFETY: allocated with `layout`.
    unsafe { allocator.dealloc(block, layout) };
}
