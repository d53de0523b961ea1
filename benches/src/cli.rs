//! The command line.
#![allow(clippy::print_stderr, reason = "a command line talks to its terminal")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vault_daemon::config::Engine;

use crate::{Done, echo, rpc, site};

/// Measures the vault.
#[derive(Parser)]
#[command(name = "vault-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The vault over mutual TLS beside an empty echo, the disk's syncs and the core alone, in one run.
    Rpc(RpcOptions),
    /// Serves the vault for `rpc`, in a process of its own.
    #[command(hide = true)]
    ServeVault(ServeOptions),
    /// Serves the echo for `rpc`, in a process of its own.
    #[command(hide = true)]
    ServeEcho(ServeOptions),
}

/// What `rpc` is told.
#[derive(Args)]
pub(crate) struct RpcOptions {
    /// Less of everything, in under 30 s: shows that it runs, and figures to publish nowhere.
    #[arg(long)]
    quick: bool,
    /// Writes the figures as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Where store and synced file lie; the default is the system's folder for temporary files.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
    /// The storage engine.
    #[arg(long, value_enum, default_value_t = Store::Fjall)]
    pub(crate) store: Store,
    /// One token for each value: the tenant keeps a blind index.
    #[arg(long)]
    pub(crate) index: bool,
    /// Records in the store before anything is measured.
    #[arg(long)]
    records: Option<usize>,
    /// Rounds, each measuring everything once; the figures are medians over them.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of each measurement in each round.
    #[arg(long)]
    seconds: Option<f64>,
    /// Seeds the random card numbers.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

impl RpcOptions {
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 }).max(1)
    }

    pub(crate) fn duration(&self) -> Duration {
        let seconds = self.seconds.unwrap_or(if self.quick { 0.25 } else { 3.0 });
        Duration::from_secs_f64(seconds.clamp(0.01, 600.0))
    }

    /// Records in the store before anything is measured.
    pub(crate) fn records(&self) -> usize {
        self.records.unwrap_or(if self.quick { 20_000 } else { 100_000 })
    }
}

/// What a serving process is told.
#[derive(Args)]
pub(crate) struct ServeOptions {
    /// The throwaway vault's folder.
    pub(crate) folder: PathBuf,
    /// The storage engine.
    #[arg(value_enum)]
    pub(crate) store: Store,
    /// The tenant keeps a blind index.
    #[arg(long)]
    pub(crate) index: bool,
}

/// A storage engine.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Store {
    /// The default of the vault.
    Fjall,
    /// sled behind its barrier.
    Sled,
}

impl Store {
    pub(crate) const fn engine(self) -> Engine {
        match self {
            Self::Fjall => Engine::Fjall,
            Self::Sled => Engine::Sled,
        }
    }
}

/// Runs the command.
pub(crate) fn run() -> ExitCode {
    let done: Done = match Cli::parse().command {
        Command::Rpc(options) => rpc::run(&options),
        Command::ServeVault(options) => site::serve_vault(&options),
        Command::ServeEcho(options) => echo::serve(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vault-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
