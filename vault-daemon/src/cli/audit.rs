//! `audit export` and `audit verify`.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use vault_core::audit::{Held, Receipt, VerifierKey, verify_export};
use vault_daemon::clock::SystemClock;
use vault_daemon::daemon::Site;

use super::{Done, WithCredential, close};

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
    /// The export.
    #[arg(long, value_name = "FILE")]
    export: PathBuf,
    /// The log's verifier key, as `vaultd init` printed it.
    #[arg(long)]
    key: String,
    /// A checkpoint kept from earlier, which the log must extend; may be repeated.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// A file with receipts, one a line, each of which must be in the log; may be repeated.
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

fn verify(options: &Verify) -> Done {
    let key = VerifierKey::parse(&options.key)?;
    let mut held = Held::default();
    for file in &options.checkpoint {
        held.heads.push(key.verify(&fs::read_to_string(file)?)?);
    }
    for file in &options.receipts {
        for line in fs::read_to_string(file)?.lines() {
            held.receipts.push(Receipt::parse(line)?);
        }
    }
    let mut export = BufReader::new(File::open(&options.export)?);
    let report = verify_export(&mut export, &key, &held, &mut |_, _| {})?;
    println!(
        "verified: {} entries, {} of them released an answer, {} receipts found",
        report.head.size,
        report.released,
        held.receipts.len()
    );
    Ok(())
}
