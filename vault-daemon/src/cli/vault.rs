//! `init`, `check` and `anchor accept`: commands on a vault that no daemon serves meanwhile.

use clap::{Args, Subcommand};
use vault_core::audit::VerifierKey;
use vault_core::clock::Clock as _;
use vault_core::crypto::SystemEntropy;
use vault_core::crypto::passphrase::Params;
use vault_core::data::CallerText;
use vault_core::keys::Seal;
use vault_core::vault::{AcceptError, Accepted, Finding};
use vault_daemon::clock::SystemClock;
use vault_daemon::daemon::Site;

use super::serve::refuse_dev;
use super::{Done, WithPassphrase};

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
    vault: WithPassphrase,
    /// Entries that the log in the store has, as the refusal names them.
    #[arg(long)]
    size: u64,
    /// The keyring's generation, as the refusal names it: asked for when the keyring is older than the anchor
    /// knows, or when there is no anchor to tell.
    #[arg(long, value_name = "N")]
    keyring_generation: Option<u64>,
    /// Why the missing entries are given up: 1 to 64 characters of A-Z a-z 0-9 . _ : / -
    #[arg(long)]
    reason: String,
}

pub(super) fn init(options: &WithPassphrase) -> Done {
    let (config, passphrase) = options.load()?;
    refuse_dev(&config)?;
    let seal = Seal::Passphrase { passphrase: &passphrase, params: SEAL_COST };
    let vault = Site::open(&config)?.init(&config, seal, &SystemClock)?;
    println!("vault {} of environment {} created", vault.vault_id(), vault.environment());
    println!("verifier key of its log: {}", VerifierKey::new(vault.origin().clone(), vault.verifying_key()));
    vault.seal();
    Ok(())
}

pub(super) fn check(options: &WithPassphrase) -> Done {
    let (config, passphrase) = options.load()?;
    let vault = Site::open(&config)?.unseal(&passphrase, &SystemClock)?;
    let report = vault.check(SystemClock.now(), &mut SystemEntropy::new());
    vault.seal();
    let report = report?;
    println!(
        "{} entries, {} records and {} index rows read",
        report.entries, report.records, report.index_rows
    );
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
    let (config, passphrase) = options.vault.load()?;
    let reason = CallerText::parse(&options.reason)?;
    let site = Site::open(&config)?;
    let accepted =
        Accepted { log_size: options.size, keyring_generation: options.keyring_generation, reason };
    let (now, mut entropy) = (SystemClock.now(), SystemEntropy::new());
    match site.sealed.accept_anchor(&passphrase, accepted, site.policy, now, &mut entropy) {
        Ok((vault, gap)) => {
            vault.seal();
            println!("accepted: {gap}");
            Ok(())
        }
        Err(AcceptError::Unstated(gap)) => {
            let (size, generation) = (gap.log_size, gap.keyring_generation);
            Err(format!(
                "nothing was changed: {gap}\nto accept exactly this: --size {size} --keyring-generation {generation}"
            )
            .into())
        }
        Err(AcceptError::Unseal(problem)) => Err(problem.into()),
    }
}

fn describe(finding: &Finding) -> String {
    match finding {
        Finding::Missing { tenant, token } => format!("missing: tenant {tenant}, {}", token.to_text()),
        Finding::OtherVersion { tenant, token, stored, logged } => format!(
            "other version: tenant {tenant}, {}, stored {stored}, last logged {logged}",
            token.to_text()
        ),
        Finding::Foreign { tenant, token } => format!("not in the log: tenant {tenant}, {}", token.to_text()),
        Finding::Damaged { space, tenant } => format!("damaged: {space:?} row of tenant {tenant}"),
        Finding::DanglingIndex { tenant } => format!("index row without a record: tenant {tenant}"),
    }
}
