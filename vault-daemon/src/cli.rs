//! The command line of `vaultd`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its terminal")]

mod audit;
mod dev;
mod serve;
mod vault;

use std::error::Error;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use vault_daemon::config::Config;
use vault_guard::harden;
use zeroize::Zeroizing;

/// What every command ends with.
type Done = Result<(), Box<dyn Error>>;
/// Wiped when dropped.
type Passphrase = Zeroizing<Vec<u8>>;

/// A payment tokenization vault: card numbers and SSNs become tokens.
#[derive(Parser)]
#[command(name = "vaultd", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create the vault: keyring, anchor, first log entry. Never overwrites.
    Init(WithPassphrase),
    /// Serve, until SIGTERM. SIGHUP reads policy and certificates again.
    Serve(WithConfig),
    /// Prove the store against the audit log, with the daemon stopped.
    Check(WithPassphrase),
    /// Say what a daemon with this configuration would do; starts nothing.
    CheckConfig(WithConfig),
    /// The audit log, offline.
    #[command(subcommand)]
    Audit(audit::Command),
    /// What the vault remembers of its log outside the store.
    #[command(subcommand)]
    Anchor(vault::AnchorCommand),
    /// Make a throwaway vault, show it at work, and serve it.
    Dev(dev::Options),
}

#[derive(Args)]
struct WithConfig {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Args)]
struct WithPassphrase {
    #[command(flatten)]
    config: WithConfig,
    /// A file with the passphrase; else the one of the configuration; else you are asked.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// Runs the command that was asked for.
pub(crate) fn run() -> ExitCode {
    forget_panic_messages();
    let command = Cli::parse().command;
    let dev = matches!(command, Command::Dev(_));
    // Before any thread is started, which would not inherit it.
    match harden() {
        Err(error) if !dev => return failed(&error),
        _ => {}
    }
    let done = match command {
        Command::Init(options) => vault::init(&options),
        Command::Serve(options) => serve::serve(&options),
        Command::Check(options) => vault::check(&options),
        Command::CheckConfig(options) => serve::check_config(&options),
        Command::Audit(command) => audit::run(&command),
        Command::Anchor(command) => vault::anchor(&command),
        Command::Dev(options) => dev::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(error.as_ref()),
    }
}

fn failed(error: &dyn Error) -> ExitCode {
    eprintln!("vaultd: {error}");
    ExitCode::FAILURE
}

/// A panic's message may hold what was being worked on; only the place is told.
fn forget_panic_messages() {
    panic::set_hook(Box::new(|info| match info.location() {
        Some(place) => eprintln!("vaultd: defect at {}:{}", place.file(), place.line()),
        None => eprintln!("vaultd: defect"),
    }));
}

impl WithConfig {
    fn load(&self) -> Result<Config, Box<dyn Error>> {
        Ok(Config::load(&self.config)?)
    }
}

impl WithPassphrase {
    /// The configuration, with the passphrase from wherever it was said to be.
    fn load(&self) -> Result<(Config, Passphrase), Box<dyn Error>> {
        let mut config = self.config.load()?;
        if let Some(file) = &self.passphrase_file {
            config.seal.passphrase_file = Some(file.clone());
        }
        let passphrase = match config.seal.read_passphrase()? {
            Some(passphrase) => passphrase,
            None => Zeroizing::new(rpassword::prompt_password("Passphrase: ")?.into_bytes()),
        };
        Ok((config, passphrase))
    }
}
