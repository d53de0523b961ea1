//! `completions`.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::generate;

use crate::cli::{Cli, Completions};
use crate::failure::Failure;

/// Prints the completions of a shell.
pub(super) fn run(options: &Completions) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(options.shell, &mut Cli::command(), "vaultctl", &mut script);
    let written = io::stdout().write_all(&script);
    written.map_err(|error| Failure::usage(format!("standard output: {error}")))
}
