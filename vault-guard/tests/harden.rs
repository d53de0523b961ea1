//! Hardening changes the whole process, so this test has one of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may stop loudly")]

use std::fs;

use rustix::process::{DumpableBehavior, dumpable_behavior};

fn line(path: &str, start: &str) -> String {
    let text = fs::read_to_string(path).unwrap();
    let found = text.lines().find(|line| line.starts_with(start)).expect("the kernel prints this line");
    found.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_kernel_confirms_each_step() {
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::Dumpable, "a test process starts dumpable");

    vault_guard::harden().expect("any Linux lets a process harden itself");

    assert_eq!(line("/proc/thread-self/limits", "Max core file size"), "Max core file size 0 0 bytes");
    assert_eq!(line("/proc/thread-self/status", "NoNewPrivs"), "NoNewPrivs: 1");
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);

    let child = std::thread::spawn(|| line("/proc/thread-self/status", "NoNewPrivs")).join().unwrap();
    assert_eq!(child, "NoNewPrivs: 1", "threads started later inherit it");
    vault_guard::harden().expect("hardening twice is harmless");
}

#[test]
fn an_error_names_its_step() {
    let error = vault_guard::HardenError::NoEffect(vault_guard::Step::NotDumpable);
    assert!(error.to_string().contains("PR_SET_DUMPABLE"), "{error}");
}
