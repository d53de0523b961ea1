//! `audit export` and `audit verify`.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use vault_core::audit::{Held, Receipt, VerifierKey, verify_export};
use vault_daemon::clock::SystemClock;
use vault_daemon::daemon::Site;

use super::{Done, WithCredential, close};

/// Title and verifier key of an export stay far below.
const HEADING_BYTES_MAX: u64 = 1_024;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Write the whole log with a signed checkpoint to a file, with the daemon stopped.
    Export(Export),
    /// Verify an export; needs nothing but the log's public key.
    Verify(Verify),
}

#[derive(Args)]
pub(super) struct Export {
    #[command(flatten)]
    vault: WithCredential,
    /// Where to write it; never overwrites.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
pub(super) struct Verify {
    /// The export; once for each log, where several daemons share a store.
    #[arg(long, value_name = "FILE", required = true)]
    export: Vec<PathBuf>,
    /// The log's verifier key, as `vaultd init` or `join` printed it; once for each export, in any order.
    #[arg(long, required = true)]
    key: Vec<String>,
    /// A checkpoint kept from earlier, which its log must extend; may be repeated.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// A file with receipts, one a line, each of which must be in its log; may be repeated.
    #[arg(long, value_name = "FILE")]
    receipts: Vec<PathBuf>,
}

pub(super) fn run(command: &Command) -> Done {
    match command {
        Command::Export(options) => export(options),
        Command::Verify(options) => verify(options),
    }
}

fn export(options: &Export) -> Done {
    let (config, given) = options.vault.load()?;
    let vault = Site::open(&config)?.unseal(given.credential(), &SystemClock)?;
    let file = File::create_new(&options.out)?;
    let mut out = BufWriter::new(file);
    let head = vault.export_log(&mut out)?;
    out.flush()?;
    out.get_ref().sync_all()?;
    println!("{} entries written to {}", head.size, options.out.display());
    close(vault)
}

/// A log that is verified: its key, and what the verifier holds of it.
struct Expected {
    key: VerifierKey,
    held: Held,
}

fn verify(options: &Verify) -> Done {
    let mut expected = expected(options)?;
    for file in &options.export {
        let mut export = BufReader::new(File::open(file)?);
        let named = VerifierKey::parse(&named_key(&mut export)?)?;
        let Some(at) = expected.iter().position(|log| log.key == named) else {
            return Err(format!(
                "{}: an export of another log or key, or one more of the same",
                file.display()
            )
            .into());
        };
        let Expected { key, held } = expected.swap_remove(at);
        export.rewind()?;
        let report = verify_export(&mut export, &key, &held, &mut |_, _| {})?;
        println!(
            "verified: log {}, {} entries, {} of them released an answer, {} receipts found",
            key.origin(),
            report.head.size,
            report.released,
            held.receipts.len()
        );
    }
    match expected.first() {
        None => Ok(()),
        Some(log) => Err(format!("there is no export of {}", log.key.origin()).into()),
    }
}

/// The logs of the keys, each with the checkpoints and receipts that name it.
fn expected(options: &Verify) -> Result<Vec<Expected>, Box<dyn Error>> {
    let key = |text: &String| Ok(Expected { key: VerifierKey::parse(text)?, held: Held::default() });
    let mut expected = options.key.iter().map(key).collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    for file in &options.checkpoint {
        let text = fs::read_to_string(file)?;
        let log = of_log(&mut expected, text.lines().next().unwrap_or_default())?;
        log.held.heads.push(log.key.verify(&text)?);
    }
    for file in &options.receipts {
        for line in fs::read_to_string(file)?.lines() {
            let receipt = Receipt::parse(line)?;
            of_log(&mut expected, receipt.origin.as_str())?.held.receipts.push(receipt);
        }
    }
    Ok(expected)
}

/// The log that a checkpoint or receipt names.
fn of_log<'a>(expected: &'a mut [Expected], origin: &str) -> Result<&'a mut Expected, String> {
    let log = expected.iter_mut().find(|log| log.key.origin().as_str() == origin);
    log.ok_or_else(|| format!("there is no --key of the log {origin}"))
}

/// The key that an export says it is of, which picks the one to verify it with.
fn named_key(export: &mut impl BufRead) -> Result<String, Box<dyn Error>> {
    let mut lines = export.take(HEADING_BYTES_MAX).lines();
    let named = lines.nth(1).ok_or("this is not an audit export")?;
    named.map_err(|_| "this is not an audit export".into())
}
