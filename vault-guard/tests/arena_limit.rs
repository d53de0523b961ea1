//! What a process does that may lock next to nothing, as the kernel's limit has it for users: the limit is of
//! the whole process, so this test has one of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop loudly")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use vault_guard::{KeyMemory, Locked, key_memory};

/// Gives up what would let this thread, and those it starts, lock beyond the limit.
fn obey_the_limit(bytes: u64) {
    setrlimit(Resource::Memlock, Rlimit { current: Some(bytes), maximum: Some(bytes) }).unwrap();
    let held = capabilities(None).unwrap();
    let without = |set: CapabilitySet| set.difference(CapabilitySet::IPC_LOCK);
    let (effective, permitted) = (without(held.effective), without(held.permitted));
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable: held.inheritable }).unwrap();
}

#[test]
fn at_the_limit_keys_stand_in_ordinary_memory_and_nobody_elses_is_touched() {
    // Two chunks.
    obey_the_limit(128 * 1024);
    assert!(key_memory() < KeyMemory::Ordinary, "the first fits");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Others map and unmap memory meanwhile: a chunk that could not be had must not take theirs away.
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let mapped: Vec<Vec<u8>> = (0..16).map(|_| vec![0x11; 256 * 1024]).collect();
                    assert!(mapped.iter().all(|bytes| bytes.iter().all(|byte| *byte == 0x11)));
                }
            });
        }
        let kept: Vec<_> = (0..2_000_u32).map(|n| Locked::new([n; 256])).collect();
        assert!(kept.iter().enumerate().all(|(n, value)| value.iter().all(|word| *word == n as u32)));
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(key_memory(), KeyMemory::Ordinary);
}
