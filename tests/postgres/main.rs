//! The vault in a PostgreSQL database: a real server, over TLS, started for these tests and broken by them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests may stop loudly, and say what they measured"
)]

mod ambiguous;
mod clients;
mod commands;
mod connection;
mod engine;
mod failover;
mod flips;
mod history;
mod installation;
mod moving;
mod outages;
mod several;

use vault_core::store::{Change, Commit, Fault, Key, Row, Space, Store, Writes};

/// The log that the stores of these tests are opened for.
const LOG: &str = "tests.invalid/log";

fn key(name: &str) -> Key {
    Key::new(Space::Meta, None, name.as_bytes())
}

fn insert(name: &str) -> Writes {
    [(key(name), Change::Insert(name.as_bytes().to_vec()))].into_iter().collect()
}

fn written(store: &dyn Store, name: &str) -> Result<Commit, Fault> {
    store.commit(&insert(name))
}

fn is_there(store: &dyn Store, name: &str) -> bool {
    row(store, name).is_some()
}

fn row(store: &dyn Store, name: &str) -> Option<Row> {
    store.read(&[key(name)]).unwrap().pop().unwrap()
}

/// Tries until it succeeds; a lost session may hold what is wanted for a while.
fn reopened(store: &dyn Store) {
    let begun = std::time::Instant::now();
    while let Err(fault) = store.reopen() {
        assert!(begun.elapsed().as_secs() < 60, "the store does not come back: {fault}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}
