//! `vault.v1` in Rust: the messages, clients and servers generated from the `.proto` files beside this crate,
//! and what a client needs around them.
//!
//! - [`v1`] is generated and committed; `tests/generated.rs` regenerates it and fails on any difference.
//! - [`FILE_DESCRIPTOR_SET`] is the same in machine-readable form, for reflection and for other languages.
//!
//! # What keeps plaintext out of sight
//! Messages derive no `Debug` unless they are on the short list of those that only the vault writes and that
//! carry neither value, token nor caller-given text ([`debug`]). All others print their name and nothing
//! else: a request may hold a card number in *any* field, by somebody's mistake. The messages that hold a
//! value themselves wipe it when they are dropped ([`wipe`]).

pub mod connect;
pub mod daemons;
pub mod debug;
mod duties;
mod reason;
pub mod wipe;

pub use connect::{ConnectError, Connector};
pub use daemons::Daemons;
pub use duties::{DUTIES, DUTIES_TEXT};
pub use reason::{ERROR_DOMAIN, reason, retry_after};

/// The package `vault.v1`, generated.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::semicolon_if_nothing_returned,
    reason = "generated code: the .proto files carry the documentation"
)]
pub mod v1 {
    include!("gen/vault.v1.rs");
}

/// The `google.protobuf.FileDescriptorSet` of `vault.v1` and its imports, without source positions.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/vault.v1.descriptors.bin");
