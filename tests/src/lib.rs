//! What the tests from outside share: the real daemon as a process, and values made from a seed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

pub mod cluster;
pub mod engines;
pub mod files;
pub mod log;
pub mod process;
pub mod proxy;
pub mod values;
