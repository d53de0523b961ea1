//! The command line of `vaultd`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its terminal")]

mod audit;
mod dev;
mod migrate;
mod moving;
mod serve;
mod shares;
mod vault;

use std::error::Error;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use vault_core::clock::Clock as _;
use vault_core::crypto::SystemEntropy;
use vault_core::keys::{Credential, KeyringFolder, SealKind, Share, ShareSet};
use vault_core::limits::SHARE_TEXT_BYTES_MAX;
use vault_core::vault::{Closing, Vault};
use vault_daemon::clock::SystemClock;
use vault_daemon::config::Config;
use vault_daemon::file::read_secret;
use vault_daemon::hsm::{Token, Use};
use vault_guard::{KeyMemory, harden, key_memory};
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
    Init(vault::Init),
    /// Register one more daemon with a vault in a database, on a copy of its keyring: anchor, log, first
    /// entry.
    Join(WithCredential),
    /// End the registration of another daemon that serves no more, for ever; its log stays.
    Retire(vault::Retire),
    /// Serve, until SIGTERM. SIGHUP reads policy and certificates again.
    Serve(WithConfig),
    /// Seal the vault anew, with the daemon stopped: another passphrase, another set of shares, an HSM.
    Reseal(vault::Reseal),
    /// Bring the schema of a PostgreSQL store to the version of this program, as its owner.
    Migrate(migrate::Options),
    /// Copy the vault into another store, with the daemon stopped: from files into a database, or back.
    Move(moving::Options),
    /// Prove the store against the audit log, with the daemon stopped.
    Check(WithCredential),
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
struct WithCredential {
    #[command(flatten)]
    config: WithConfig,
    /// A file with the passphrase; else the one of the configuration; else you are asked.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// A file with a custodian's share, where shares open the vault; once for each that is needed. Else you
    /// are asked for them.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    share_file: Vec<PathBuf>,
}

/// What opens the vault, as it was given.
enum Given {
    Passphrase(Passphrase),
    Shares(Vec<Share>),
    Hsm(Use),
    HsmAndShares(Use, Vec<Share>),
}

impl Given {
    fn credential(&self) -> Credential<'_> {
        match self {
            Self::Passphrase(passphrase) => Credential::Passphrase(passphrase),
            Self::Shares(shares) => Credential::Shares(shares),
            Self::Hsm(hsm) => Credential::Hsm(hsm),
            Self::HsmAndShares(hsm, shares) => Credential::HsmAndShares(hsm, shares),
        }
    }
}

/// The token of the configuration.
fn hsm(config: &Config) -> Result<Use, Box<dyn Error>> {
    let named = config.seal.hsm.clone();
    Ok(Token::new(named.ok_or("seal.hsm: an HSM is needed, and the configuration names none")?).asked_for())
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
    if key_memory() == KeyMemory::Ordinary && !dev {
        eprintln!("vaultd: no memory for keys can be locked: raise RLIMIT_MEMLOCK (LimitMEMLOCK=80M)");
        return ExitCode::FAILURE;
    }
    let done = match command {
        Command::Init(options) => vault::init(&options),
        Command::Join(options) => vault::join(&options),
        Command::Retire(options) => vault::retire(&options),
        Command::Serve(options) => serve::serve(&options),
        Command::Reseal(options) => vault::reseal(&options),
        Command::Migrate(options) => migrate::run(&options),
        Command::Move(options) => moving::run(&options),
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

/// Closes a vault that a command had opened.
fn close(vault: Vault) -> Done {
    let sealed = vault.seal(&Closing::Stop, SystemClock.now(), &mut SystemEntropy::new());
    if sealed.recorded {
        Ok(())
    } else {
        Err("the stop could be entered neither in the log nor in the journal".into())
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

impl WithCredential {
    /// The configuration, with what opens the vault from wherever it was said to be.
    fn load(&self) -> Result<(Config, Given), Box<dyn Error>> {
        let config = self.config.load()?;
        let described = KeyringFolder::new(&config.vault.keyring_folder).describe();
        // Where there is no readable keyring, opening it will say so.
        let given = match described.map(|described| described.kind) {
            Ok(SealKind::Shares(set)) => Given::Shares(self.shares(&set)?),
            Ok(SealKind::HsmAndShares(_, set)) => Given::HsmAndShares(hsm(&config)?, self.shares(&set)?),
            _ if !self.share_file.is_empty() => return Err("no shares open this vault".into()),
            Ok(SealKind::Hsm(_)) if self.passphrase_file.is_some() => {
                return Err("an HSM opens this vault, no passphrase does".into());
            }
            Ok(SealKind::Hsm(_)) => Given::Hsm(hsm(&config)?),
            _ => Given::Passphrase(passphrase(&config, self.passphrase_file.as_ref())?),
        };
        Ok((config, given))
    }

    fn shares(&self, set: &ShareSet) -> Result<Vec<Share>, Box<dyn Error>> {
        if self.passphrase_file.is_some() {
            return Err("shares open this vault, no passphrase does".into());
        }
        let named = |file: &PathBuf| -> Result<Share, Box<dyn Error>> {
            let refuse = |problem: String| format!("{}: {problem}", file.display());
            // Twice a share: whatever an editor put around it is found out by name.
            let text = read_secret(file, 2 * SHARE_TEXT_BYTES_MAX as u64)
                .map_err(|error| refuse(error.to_string()))?;
            Share::parse(&text).map_err(|error| refuse(error.to_string()).into())
        };
        if !self.share_file.is_empty() {
            return self.share_file.iter().map(named).collect();
        }
        (1..=set.threshold()).map(|which| asked_share(which, set.threshold())).collect()
    }
}

fn asked_share(which: u8, of: u8) -> Result<Share, Box<dyn Error>> {
    let typed = rpassword::prompt_password(format!("Share {which} of {of}: "))?;
    Ok(Share::parse(Passphrase::new(typed.into_bytes()).as_slice())?)
}

/// The passphrase of a file, of the configuration, or of whoever is asked.
fn passphrase(config: &Config, file: Option<&PathBuf>) -> Result<Passphrase, Box<dyn Error>> {
    let mut seal = config.seal.clone();
    if let Some(file) = file {
        seal.passphrase_file = Some(file.clone());
    }
    Ok(match seal.read_passphrase()? {
        Some(passphrase) => passphrase,
        None => Zeroizing::new(rpassword::prompt_password("Passphrase: ")?.into_bytes()),
    })
}
