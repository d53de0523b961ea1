//! Keys in the arena: what they hold, what is left of them, and who can see them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop loudly")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::ptr;

use vault_guard::{KeyMemory, Locked, key_memory};

/// Where a value stands.
fn address<T>(locked: &Locked<T>) -> usize {
    ptr::from_ref::<T>(locked) as usize
}

#[test]
fn values_of_all_sizes_stand_apart_and_aligned() {
    let small: Vec<_> = (0..3_000_u32).map(Locked::new).collect();
    let large: Vec<_> = (0..300_u32).map(|n| Locked::new([n; 500])).collect();
    assert!(small.iter().enumerate().all(|(n, kept)| **kept == n as u32));
    assert!(large.iter().enumerate().all(|(n, kept)| kept.iter().all(|word| *word == n as u32)));
    assert!(large.iter().all(|kept| address(kept).is_multiple_of(align_of::<[u32; 500]>())));
    let mut changed = Locked::new([0_u8; 32]);
    changed[31] = 7;
    assert_eq!(changed[31], 7);
}

#[test]
fn a_dropped_value_is_wiped_and_its_place_is_used_again() {
    struct Loud(Vec<u8>, [u8; 500]);
    let kept = Locked::new(Loud(vec![1], [0xa5; 500]));
    let (at, tail) = (address(&kept), ptr::from_ref(&kept.1).cast::<u8>());
    assert_eq!(kept.0, [1]);
    drop(kept);
    // SAFETY: chunks of the arena are never given back: the bytes can be read, whoever they belong to.
    let left = unsafe { std::slice::from_raw_parts(tail, 500) };
    assert!(left.iter().all(|byte| *byte != 0xa5));
    let again: Vec<_> = (0..200).map(|_| Locked::new(Loud(Vec::new(), [0; 500]))).collect();
    assert!(again.iter().any(|other| address(other) == at));
}

#[test]
fn no_reader_of_the_process_sees_a_secret_and_guards_stand_around_it() {
    let key = Locked::new([0x5a_u8; 32]);
    let at = address(&key) as u64;
    let read = File::open("/proc/self/mem").unwrap().read_at(&mut [0; 32], at);
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let range = |line: &str| {
        let (from, to) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        [from, to].map(|address| u64::from_str_radix(address, 16).unwrap())
    };
    let lines: Vec<&str> = maps.lines().collect();
    let here = lines.iter().position(|line| (range(line)[0]..range(line)[1]).contains(&at)).unwrap();
    for beside in [lines[here - 1], lines[here + 1]] {
        assert_eq!(beside.split_whitespace().nth(1).map(|rights| &rights[..3]), Some("---"), "{beside}");
    }
    match key_memory() {
        KeyMemory::Secret => {
            assert!(read.is_err(), "/proc/self/mem shows it");
            assert!(lines[here].contains("secretmem"), "{}", lines[here]);
        }
        KeyMemory::Locked => {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let locked = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
            assert_ne!(locked.split_whitespace().nth(1), Some("0"));
        }
        KeyMemory::Ordinary => panic!("64 KiB can be locked anywhere"),
    }
}

#[test]
fn a_child_process_has_no_copy() {
    let key = Locked::new([0x5a_u8; 32]);
    let at = ptr::from_ref::<[u8; 32]>(&key).cast::<u8>();
    // SAFETY: the child does nothing but read one byte and leave: no lock, no allocation.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: a mapping of the parent's; in the child, which must not have it, the read ends the process.
        let byte = unsafe { at.read_volatile() };
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(byte)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child of above, and writes into a live integer.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "status {status:#x}");
    assert_eq!(key[0], 0x5a);
}
