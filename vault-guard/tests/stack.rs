//! What a call leaves on the stack, before and after the wipe.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop loudly")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;

use vault_guard::{WIPED_STACK_BYTES, wipe_stack};

const MARK: u8 = 0xC7;
/// Bytes of marked stack: below the frames that the look itself needs, above what one wipe reaches.
const MARKED_BYTES: usize = 48 * 1024;

#[inline(never)]
fn leave_marks() -> usize {
    let mut marks = [0; MARKED_BYTES];
    // In place: an argument by value would be copied, and the copies would lie deeper than the wipe reaches.
    black_box(&mut marks).fill(MARK);
    black_box(&marks).as_ptr() as usize
}

fn marks_left(address: usize) -> usize {
    let mut content = vec![0; MARKED_BYTES];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut content, address.try_into().unwrap()).unwrap();
    content.iter().filter(|byte| **byte == MARK).count()
}

#[test]
fn the_wipe_reaches_what_a_call_left() {
    const { assert!(MARKED_BYTES < WIPED_STACK_BYTES) };
    let address = leave_marks();
    let before = marks_left(address);
    assert!(before > MARKED_BYTES / 2, "without marks left by the call this test would prove nothing");

    let address = leave_marks();
    wipe_stack();
    let after = marks_left(address);
    assert!(after < 64, "{after} of {before} marked bytes survived the wipe");
}
