//! `init`, `join`, `retire`, `reseal`, `check` and `anchor accept`: commands on a vault that no daemon
//! serves meanwhile.

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use vault_core::audit::{Origin, VerifierKey};
use vault_core::clock::Clock as _;
use vault_core::crypto::SystemEntropy;
use vault_core::crypto::passphrase::Params;
use vault_core::data::{CallerText, PrincipalId};
use vault_core::keys::{Deal, HsmKey, Seal};
use vault_core::vault::{AcceptError, Accepted, Finding, InitError, OtherLogGap, ResealError};
use vault_daemon::clock::SystemClock;
use vault_daemon::config::{Config, SealConfig};
use vault_daemon::daemon::{Site, StartError, open_store, own_identity};
use vault_daemon::hsm::Use;

use super::serve::refuse_dev;
use super::shares::{Addressee, Custodian, addressee, check_addressees, custodian, deliver};
use super::{Done, Passphrase, WithConfig, WithCredential, close, hsm, passphrase};

/// OWASP's and RFC 9106's second choice, four times the compiled-in floor in memory: about a second.
const SEAL_COST: Params = Params { memory_kib: 256 * 1024, passes: 4, lanes: 1 };

#[derive(Subcommand)]
pub(super) enum AnchorCommand {
    /// Accept a log or keyring that the anchor does not know: after a restore, or when the anchor is lost.
    Accept(Accept),
}

#[derive(Args)]
pub(super) struct Accept {
    #[command(flatten)]
    vault: WithCredential,
    /// Entries that the log in the store has, as the refusal names them.
    #[arg(long)]
    size: u64,
    /// The keyring's generation, as the refusal names it: asked for when the keyring is older than the anchor
    /// knows, or when there is no anchor to tell.
    #[arg(long, value_name = "N")]
    keyring_generation: Option<u64>,
    /// Entries that another daemon's log has, as the refusal names them; once for each that it names.
    #[arg(long, value_name = "ORIGIN=N", value_parser = other_log)]
    other_log: Vec<(String, u64)>,
    /// Why the missing entries are given up: 1 to 64 characters of A-Z a-z 0-9 . _ : / -
    #[arg(long)]
    reason: String,
}

#[derive(Args)]
pub(super) struct Init {
    #[command(flatten)]
    config: WithConfig,
    /// A file with the passphrase; else the one of the configuration; else you are asked.
    #[arg(long, value_name = "FILE", conflicts_with = "custodian")]
    passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    seal: NewSeal,
}

/// What is to open the vault.
#[derive(Args)]
struct NewSeal {
    /// By what to seal: shares where custodians are named, else a passphrase; or an HSM, and with custodians
    /// named as well both together. The HSM makes a key for it that never leaves it.
    #[arg(long, value_enum, value_name = "KIND")]
    seal: Option<SealBy>,
    /// Seal by shares, and give this custodian one: to a new file, or without one to the terminal. Once for
    /// each custodian, 2 to 16.
    #[arg(long, value_name = "NAME[=FILE]", value_parser = custodian, requires = "threshold")]
    custodian: Vec<Custodian>,
    /// Encrypt this custodian's share to an age recipient, so that its file, or what is printed without one,
    /// says nothing to anybody else. Once for each custodian that has a key.
    #[arg(long, value_name = "NAME=age1...", value_parser = addressee, requires = "custodian")]
    recipient: Vec<Addressee>,
    /// How many of the shares open the vault, 2 or more.
    #[arg(long, value_name = "N", requires = "custodian")]
    threshold: Option<u8>,
}

/// As the command line names a seal.
#[derive(Clone, Copy, Eq, PartialEq, ValueEnum)]
enum SealBy {
    /// Whoever knows it opens the vault.
    Passphrase,
    /// So many custodians together.
    Shares,
    /// The HSM of the configuration, alone or with custodians.
    Hsm,
}

#[derive(Args)]
pub(super) struct Retire {
    #[command(flatten)]
    vault: WithCredential,
    /// The log of the daemon that goes.
    #[arg(long, value_name = "ORIGIN")]
    log: String,
}

#[derive(Args)]
pub(super) struct Reseal {
    #[command(flatten)]
    vault: WithCredential,
    /// A file with the new passphrase; without it and without custodians you are asked for one.
    #[arg(long, value_name = "FILE", conflicts_with = "custodian")]
    new_passphrase_file: Option<PathBuf>,
    #[command(flatten)]
    seal: NewSeal,
}

pub(super) fn init(options: &Init) -> Done {
    let config = options.config.load()?;
    refuse_dev(&config)?;
    let site = Site::open(&config)?;
    if site.sealed.describe().is_ok() {
        return Err(InitError::Exists.into());
    }
    options.seal.seal_with(
        &config,
        || passphrase(&config, options.passphrase_file.as_ref()),
        |seal| {
            let vault = site.init(&config, seal, &SystemClock)?;
            println!("vault {} of environment {} created", vault.vault_id(), vault.environment());
            let key = VerifierKey::new(vault.origin().clone(), vault.verifying_key());
            println!("verifier key of its log: {key}");
            // A vault is there now, and its shares count, whatever becomes of this entry.
            close(vault).or_else(|problem| {
                eprintln!("vaultd: {problem}");
                Ok(())
            })
        },
    )
}

pub(super) fn join(options: &WithCredential) -> Done {
    let (config, given) = options.load()?;
    refuse_dev(&config)?;
    let site = Site::open(&config)?;
    let vault = site.join(given.credential(), &SystemClock)?;
    println!("joined vault {} of environment {}", vault.vault_id(), vault.environment());
    let key = VerifierKey::new(vault.origin().clone(), vault.verifying_key());
    println!("verifier key of this daemon's log: {key}");
    close(vault)
}

pub(super) fn retire(options: &Retire) -> Done {
    let (config, given) = options.vault.load()?;
    let origin = Origin::parse(&options.log)?;
    let site = Site::open(&config)?;
    // Held until it is done: a daemon that serves has its log, and one that comes back finds itself retired.
    let _claim = open_store(&config.store, &origin).map_err(StartError::Store)?;
    let vault = site.unseal(given.credential(), &SystemClock)?;
    let retired = vault.retire(&origin, SystemClock.now(), &mut SystemEntropy::new());
    close(vault)?;
    retired.map_err(|error| format!("{origin} is not retired: {}", error.reason()))?;
    println!("retired: no daemon opens with the log {origin} any more");
    Ok(())
}

pub(super) fn reseal(options: &Reseal) -> Done {
    let (config, given) = options.vault.load()?;
    refuse_dev(&config)?;
    let site = Site::open(&config)?;
    // What does not open the vault is told before anybody is given a share.
    let begun = site.sealed.begin_reseal(given.credential(), &own_identity()?, SystemClock.now())?;
    options.seal.seal_with(
        &config,
        || new_passphrase(options.new_passphrase_file.as_ref()),
        |seal| {
            let (now, mut entropy) = (SystemClock.now(), SystemEntropy::new());
            site.sealed.reseal(begun, given.credential(), seal, now, &mut entropy)?;
            println!("sealed anew; what opened the vault before opens it no more. Back up the keyring now");
            Ok(())
        },
    )
}

impl NewSeal {
    /// Whether an HSM takes part. A kind that was named must fit what else was.
    fn by_hsm(&self) -> Result<bool, Box<dyn Error>> {
        match (self.seal, self.threshold) {
            (Some(SealBy::Passphrase), Some(_)) => Err("no passphrase is shared among custodians".into()),
            (Some(SealBy::Shares), None) => Err("shares need --threshold and --custodian".into()),
            (seal, _) => Ok(seal == Some(SealBy::Hsm)),
        }
    }

    /// Seals by what was asked for. The HSM has its key, and the custodians their shares, before anything is
    /// sealed with them: what fails on the way leaves no vault that nobody can open.
    fn seal_with(
        &self,
        config: &Config,
        passphrase: impl FnOnce() -> Result<Passphrase, Box<dyn Error>>,
        seal: impl FnOnce(Seal<'_>) -> Done,
    ) -> Done {
        check_addressees(&self.recipient, &self.custodian)?;
        let hsm = self.by_hsm()?.then(|| hsm(config)).transpose()?;
        let key = hsm.as_ref().map(|hsm| make_key(hsm, config)).transpose()?;
        let Some(threshold) = self.threshold else {
            return match key {
                Some(key) => seal(Seal::Hsm(key)),
                None => seal(Seal::Passphrase { passphrase: &passphrase()?, params: SEAL_COST }),
            };
        };
        if config.seal.passphrase_file.is_some() {
            return Err("seal.passphrase_file: shares are to open this vault, no passphrase".into());
        }
        let names: Vec<PrincipalId> = self.custodian.iter().map(|custodian| custodian.name.clone()).collect();
        let count = u8::try_from(names.len()).unwrap_or(u8::MAX);
        let deal = Deal::draw(&config.vault.environment, threshold, count, &mut SystemEntropy::new())?;
        deliver(deal.shares(), &self.custodian, &self.recipient)?;
        let sealed = match key {
            Some(key) => seal(Seal::HsmAndShares { key, deal: &deal, custodians: &names }),
            None => seal(Seal::Shares { deal: &deal, custodians: &names }),
        };
        sealed.map_err(|error| match error.downcast_ref() {
            Some(ResealError::Undecided(_)) => error,
            _ => format!("{error}; destroy the shares that were given out now").into(),
        })
    }
}

/// Has the HSM make a key for a new seal. It stays there whatever becomes of the seal: keys are destroyed by
/// people, who look twice.
fn make_key<'a>(hsm: &'a Use, config: &Config) -> Result<HsmKey<'a>, Box<dyn Error>> {
    let label = format!("vaultd {}", config.vault.environment);
    let id = hsm.make_key(&label, &mut SystemEntropy::new())?;
    println!("key {id} made in the HSM, labelled \"{label}\"");
    Ok(HsmKey { hsm, id })
}

/// Asked for twice: a mistyped one would open nothing.
fn new_passphrase(file: Option<&PathBuf>) -> Result<Passphrase, Box<dyn Error>> {
    if file.is_some() {
        let seal = SealConfig { passphrase_file: file.cloned(), hsm: None };
        return seal.read_passphrase()?.ok_or_else(|| "there is no new passphrase".into());
    }
    let ask =
        |prompt: &str| rpassword::prompt_password(prompt).map(|typed| Passphrase::new(typed.into_bytes()));
    let (one, other) = (ask("New passphrase: ")?, ask("Once more: ")?);
    if one == other { Ok(one) } else { Err("the two are not the same; nothing was changed".into()) }
}

pub(super) fn check(options: &WithCredential) -> Done {
    let (config, given) = options.load()?;
    let vault = Site::open(&config)?.unseal(given.credential(), &SystemClock)?;
    let report = vault.check(SystemClock.now(), &mut SystemEntropy::new());
    close(vault)?;
    let report = report?;
    println!(
        "{} entries, {} records and {} index rows read",
        report.entries, report.records, report.index_rows
    );
    for log in &report.logs {
        println!("log {}: {} entries, proven against its head", log.origin, log.size);
    }
    for finding in &report.findings {
        println!("{}", describe(finding));
    }
    match report.findings.len() {
        0 => Ok(()),
        findings => Err(format!("{findings} findings").into()),
    }
}

pub(super) fn anchor(command: &AnchorCommand) -> Done {
    let AnchorCommand::Accept(options) = command;
    let (config, given) = options.vault.load()?;
    let reason = CallerText::parse(&options.reason)?;
    let site = Site::open(&config)?;
    let accepted = Accepted {
        log_size: options.size,
        keyring_generation: options.keyring_generation,
        others: options.other_log.clone(),
        reason,
        who: own_identity()?,
    };
    let (now, mut entropy) = (SystemClock.now(), SystemEntropy::new());
    match site.sealed.accept_anchor(given.credential(), &accepted, site.policy, now, &mut entropy) {
        Ok((vault, gap)) => {
            close(vault)?;
            println!("accepted: {gap}");
            Ok(())
        }
        Err(AcceptError::Unstated(gap)) => {
            let mut stated =
                format!("--size {} --keyring-generation {}", gap.log_size, gap.keyring_generation);
            for OtherLogGap { origin, log_size, .. } in &gap.others {
                stated.push_str(&format!(" --other-log {origin}={log_size}"));
            }
            Err(format!("nothing was changed: {gap}\nto accept exactly this: {stated}").into())
        }
        Err(AcceptError::Unseal(problem)) => Err(problem.into()),
    }
}

/// `ORIGIN=N`; an origin has no equals sign by the configuration, so that the last one ends it.
fn other_log(text: &str) -> Result<(String, u64), String> {
    let parsed =
        text.rsplit_once('=').and_then(|(origin, size)| Some((origin.to_owned(), size.parse().ok()?)));
    parsed.ok_or_else(|| "must be the origin of a log, an equals sign and a number".to_owned())
}

fn describe(finding: &Finding) -> String {
    match finding {
        Finding::Missing { tenant, token } => format!("missing: tenant {tenant}, {}", token.to_text()),
        Finding::OtherVersion { tenant, token, stored, logged } => format!(
            "other version: tenant {tenant}, {}, stored {stored}, last logged {logged}",
            token.to_text()
        ),
        Finding::Foreign { tenant, token } => format!("not in the log: tenant {tenant}, {}", token.to_text()),
        Finding::Erased { tenant, token } => {
            format!("erased, but there: tenant {tenant}, {}", token.to_text())
        }
        Finding::Damaged { space, tenant: Some(tenant) } => {
            format!("damaged: {space:?} row of tenant {tenant}")
        }
        Finding::Damaged { space, tenant: None } => format!("damaged: {space:?} row of the vault"),
        Finding::DanglingIndex { tenant } => format!("index row without a record: tenant {tenant}"),
    }
}
