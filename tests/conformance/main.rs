//! Every RPC and every reason it can refuse with, each with what triggers it, over mutual TLS.
//!
//! A case checks the status code, the stable reason and when to come back; that nothing of what was sent
//! comes back, is logged at any level or is kept anywhere; that whatever reached policy has its one entry in
//! the audit log, and whatever did not has none; and that a refused call left no row behind. `complete` holds
//! the lists of cases against the API and against the product's errors.
//!
//! The daemon is the real one in this process. What a request can be refused for, what the wire refuses, and
//! the life of a key are asked of it on three engines; faults and damage, sealing, ceremonies and
//! certificates on the memory engine, where every fault can be had when it is wanted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests may stop loudly, and say where"
)]

mod cases;
mod ceremonies;
mod certificates;
mod check;
mod complete;
mod faults;
mod keys;
mod logs;
mod malformed;
mod requests;
mod rpcs;
mod site;
mod stores;
mod unsealing;
mod wire;

/// Whether bytes contain others; no bytes are contained nowhere.
fn holds(bytes: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && bytes.windows(part.len()).any(|window| window == part)
}
