//! What the simulations share: engines small enough to flush and compact under little work, the work itself,
//! a vault on a damaged store, child processes, and folders in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "only tests use this crate, and tests may stop loudly"
)]

pub mod child;
pub mod damage;
pub mod engine;
pub mod scratch;
pub mod work;
