//! `vaultd`: the vault's daemon.

mod cli;

use std::process::ExitCode;

/// Freed memory reads zero, whoever frees it.
#[global_allocator]
static ALLOCATOR: vault_guard::Allocator = vault_guard::allocator();

fn main() -> ExitCode {
    cli::run()
}
