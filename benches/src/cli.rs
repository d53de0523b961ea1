//! The command line.
#![allow(clippy::print_stderr, reason = "a command line talks to its terminal")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vault_daemon::config::Engine;

use crate::{Done, core, echo, rpc, site};

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
    /// The core alone, on one thread, in processor time: what a profiler looks at.
    Core(CoreOptions),
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
    /// Records in the store before anything is measured.
    #[arg(long)]
    records: Option<usize>,
    /// Measures only with so many calls in flight: 1, 16, 128 or 1,024; batches 1 or 4.
    #[arg(long)]
    pub(crate) in_flight: Option<usize>,
    /// Rounds, each measuring everything once; the figures are medians over them.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of each measurement in each round.
    #[arg(long)]
    seconds: Option<f64>,
    /// Seeds the random card numbers.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) shape: Shape,
}

/// What the measured calls look like, beyond what the aims are stated for: a new token for each call, and
/// calls without idempotency keys.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// One token per value: each call looks the value up in the blind index and writes a row there.
    #[arg(long)]
    pub(crate) index: bool,
    /// An idempotency key in each tokenization, each time another.
    #[arg(long)]
    pub(crate) idempotency: bool,
}

/// What `core` is told.
#[derive(Args)]
pub(crate) struct CoreOptions {
    /// Seconds of each tokenization; as much is detokenized, twice.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Over a storage engine in the system's folder for temporary files instead of the store in memory.
    #[arg(long, value_enum)]
    pub(crate) store: Option<Store>,
    /// Seeds the random card numbers.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    #[command(flatten)]
    pub(crate) shape: Shape,
}

impl CoreOptions {
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.clamp(0.01, 600.0))
    }
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
    #[command(flatten)]
    pub(crate) shape: Shape,
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
        Command::Core(options) => core::run(&options),
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
