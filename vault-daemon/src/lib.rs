//! `vaultd` as a library: the doors around the core.
//!
//! ```text
//! tls, identity ─▶ server ─▶ rpc ─▶ lane ─▶ vault-core ─▶ lane ─▶ rpc
//!   who             one core  wire    one thread commits          wire
//! ```
//!
//! [`daemon::Daemon`] puts the parts together from a [`config::Config`].

pub mod answers;
pub mod certificates;
pub mod clock;
pub mod config;
pub mod confine;
pub mod custody;
pub mod daemon;
pub mod dev;
pub mod file;
pub mod hsm;
pub mod identity;
mod keeper;
pub mod lane;
pub mod limits;
mod rewrapper;
pub mod rpc;
pub mod server;
pub mod store;
pub mod telemetry;
mod test_vault;
pub mod tls;

pub use test_vault::TestVault;
