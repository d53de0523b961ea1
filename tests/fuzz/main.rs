//! Random and mutated bytes into everything that outsiders, or whoever holds a file of the vault, can reach.
//! Nothing panics, nothing is accepted that says something else than was written, and the daemon serves on.
//!
//! Every run draws a new seed; `VAULT_FUZZ_SEED`, as a failure names it, repeats one. `VAULT_TESTS_LONG` does
//! ten times as much.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests may stop loudly, and say which seed they drew"
)]

mod daemon;
mod files;
mod mutation;
mod panics;
mod protobuf;
mod records;
mod texts;
mod tls;

use std::collections::hash_map::RandomState;
use std::env;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

/// What everything random in this run comes from.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let given = env::var("VAULT_FUZZ_SEED").ok().map(|seed| seed.parse().expect("a whole number"));
        let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        eprintln!("VAULT_FUZZ_SEED={seed}");
        seed
    })
}

/// So many attempts, or ten times as many where there is time.
fn rounds(count: u32) -> u32 {
    if env::var_os("VAULT_TESTS_LONG").is_some() { 10 * count } else { count }
}

/// Tries one input. A panic, or an assertion that does not hold, ends the test with what repeats it.
fn attempt<T>(what: &str, input: &[u8], try_it: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(try_it)).unwrap_or_else(|_| panic!("{}", complaint(what, input)))
}

fn complaint(what: &str, input: &[u8]) -> String {
    let mut text = format!("{what} with VAULT_FUZZ_SEED={}: ", seed());
    input.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a string takes all"));
    text
}

#[test]
fn a_failed_attempt_names_seed_and_input() {
    assert_eq!(complaint("Token", b"\x01\xfe"), format!("Token with VAULT_FUZZ_SEED={}: 01fe", seed()));
}
