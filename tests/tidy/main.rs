//! The rules of the tree that no compiler checks. Every rule shows on a bad sample that it can fail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

mod ciphers;
mod dependencies;
mod licence;
mod limits;
mod links;
mod log_fields;
mod machine_paths;
mod names;
mod numbers;
mod rooms;
mod rpcs;
mod shape;
mod source;
mod unsafe_code;

/// Stops with every breach of a rule, one a line.
#[track_caller]
fn refuse(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}
