//! The allocator as the daemon uses it: what a dropped buffer leaves in the memory of the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop loudly")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;

use vault_guard::Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = vault_guard::allocator();

/// Large enough for the start of a freed block, where allocators keep their free lists, not to matter.
const BUFFER_BYTES: usize = 48 * 1024;

fn memory_at(address: usize, bytes: usize) -> Vec<u8> {
    let mut content = vec![0xFF; bytes];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut content, address.try_into().unwrap()).unwrap();
    content
}

#[test]
fn a_dropped_buffer_leaves_nothing() {
    let keeps_the_page_mapped: Vec<Vec<u8>> = (0..64).map(|_| vec![7; BUFFER_BYTES]).collect();
    let buffer = black_box(vec![0xA5_u8; BUFFER_BYTES]);
    let address = buffer.as_ptr() as usize;
    assert_eq!(memory_at(address, BUFFER_BYTES), buffer, "the scan must see what is alive");
    drop(buffer);
    let left = memory_at(address, BUFFER_BYTES).iter().filter(|byte| **byte == 0xA5).count();
    assert!(left < 64, "{left} bytes of a dropped buffer are still there");
    drop(black_box(keeps_the_page_mapped));
}

#[test]
fn a_growing_buffer_leaves_nothing_behind() {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    buffer.resize(BUFFER_BYTES, 0x5A_u8);
    let address = buffer.as_ptr() as usize;
    buffer.reserve_exact(BUFFER_BYTES * 20);
    assert_ne!(buffer.as_ptr() as usize, address);
    let left = memory_at(address, BUFFER_BYTES).iter().filter(|byte| **byte == 0x5A).count();
    assert!(left < 64, "{left} bytes of the old block are still there");
    assert!(buffer.iter().all(|byte| *byte == 0x5A));
}
