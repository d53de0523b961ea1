//! A full arena: values go on standing somewhere, and the process says that it is less safe. Full is for
//! good, so this test has a process of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop loudly")]

use vault_guard::{ARENA_BYTES_MAX, KeyMemory, Locked, key_memory};

#[test]
fn beyond_its_bound_values_stand_in_ordinary_memory_which_is_told() {
    assert!(key_memory() < KeyMemory::Ordinary);
    const BYTES: usize = 4_096;
    let beyond = ARENA_BYTES_MAX / BYTES + 10;
    let kept: Vec<_> = (0..beyond).map(|n| Locked::new([n; BYTES / size_of::<usize>()])).collect();
    assert!(kept.iter().enumerate().all(|(n, value)| value.iter().all(|word| *word == n)));
    assert_eq!(key_memory(), KeyMemory::Ordinary);
    drop(kept);
    assert_eq!(key_memory(), KeyMemory::Ordinary, "it was so once");
    // Too large for any slot.
    assert_eq!(Locked::new([7_u8; 10_000])[9_999], 7);
}
