//! `vaultctl`: the command line for checkout, billing, auditors and custodians.
//!
//! A client like any other: it speaks `vault.v1` over mutual TLS and holds no key of the vault. What passes
//! through it in the clear comes from a prompt, standard input or a file, never from the command line, where
//! every process of the machine could read it; and goes to the terminal only when asked for by name.
//!
//! ```text
//! cli       what can be asked            values    secrets in, wire values out
//! connect   which vault, and as whom     output    what may reach the terminal, and how
//! commands  one file per command         failure   why there is no answer, and the exit code
//! ```

mod cli;
mod commands;
mod connect;
mod failure;
mod output;
mod values;

use std::panic;
use std::process::ExitCode;

use crate::failure::{Failure, complain};

/// Freed memory reads zero, the buffers of TLS and gRPC included.
#[global_allocator]
static ALLOCATOR: vault_guard::Allocator = vault_guard::allocator();

fn main() -> ExitCode {
    forget_panic_messages();
    // Before any thread is started, which would not inherit it.
    if let Err(error) = vault_guard::harden() {
        return Failure::usage(error.to_string()).report();
    }
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// A panic's message may hold what was being worked on; only the place is told.
fn forget_panic_messages() {
    panic::set_hook(Box::new(|info| match info.location() {
        Some(place) => complain(&format!("defect at {}:{}", place.file(), place.line())),
        None => complain("defect"),
    }));
}
