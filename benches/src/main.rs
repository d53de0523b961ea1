//! `vault-bench`: the vault measured beside an empty echo on the same TLS stack.
//!
//! `benches/README.md` says how.

mod calls;
mod cli;
mod client;
mod core;
mod disk;
mod echo;
mod http2;
mod load;
mod numbers;
mod process;
mod raw;
mod report;
mod rpc;
mod site;

use std::error::Error;
use std::process::ExitCode;

/// The daemon's allocator: vault and echo both pay for the wiping.
#[global_allocator]
static ALLOCATOR: vault_guard::Allocator = vault_guard::allocator();

/// What comes back from anything that can fail; a bench that fails says why and stops.
type Done<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    cli::run()
}
