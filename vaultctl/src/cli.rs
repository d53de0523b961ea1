//! What can be asked. No argument takes a value in the clear.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::connect::Connection;
use crate::failure::complain;
use crate::output::{Format, Reveal};
use crate::values::{Class, Source};

/// The command line of the vault: tokens for values, values for tokens, and proofs of what happened.
///
/// Values and passphrases come from a prompt, from standard input or from a file (--from), never from the
/// command line. Exit codes: 0 done; 1 refused by the vault or not proven; 2 wrong command, file or terminal;
/// 3 no vault reached.
#[derive(Parser)]
#[command(name = "vaultctl", version)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// How answers are written.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Store a value and get the token that stands for it.
    Tokenize(Tokenize),
    /// Get the value that a token stands for.
    Detokenize(Detokenize),
    /// Show what is known of a token, its value masked.
    Show(Show),
    /// Ask whether a token's value ends in four digits.
    Compare(Compare),
    /// Find the token of a value, where the tenant has one token per value.
    Find(Find),
    /// Erase a token's value for ever, on request.
    Erase(Erase),
    /// Many values or tokens at once, from a CSV file to another.
    #[command(subcommand)]
    Batch(Batch),
    /// Read the audit log and prove what stands in it.
    #[command(subcommand)]
    Audit(Audit),
    /// Say in which state the vault is.
    Status,
    /// Give the vault its passphrase.
    Unseal(Unseal),
    /// Ceremonies: custodians open a vault that is sealed by shares together.
    #[command(subcommand)]
    Custody(Custody),
    /// Close the vault: its keys are wiped until the next unseal.
    Seal(Seal),
    /// Print the completions of a shell.
    Completions(Completions),
}

/// Options of `tokenize`.
#[derive(Args)]
pub(crate) struct Tokenize {
    #[command(flatten)]
    pub(crate) source: Source,
    /// What kind of value it is.
    #[arg(long, value_enum, default_value_t = Class::Pan)]
    pub(crate) class: Class,
    /// Also ask for the card's expiry and the cardholder's name.
    #[arg(long, conflicts_with = "from")]
    pub(crate) details: bool,
    /// A purpose for which the record may be detokenized; may be repeated. None: all that the policy allows.
    #[arg(long, value_name = "PURPOSE")]
    pub(crate) purpose: Vec<String>,
    /// Your case or order number, kept in the audit log for ever.
    #[arg(long, default_value = "")]
    pub(crate) reference: String,
    /// The same key with the same value gets the same token for 24 hours.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(crate) idempotency_key: String,
}

/// What a value is released for.
#[derive(Args)]
pub(crate) struct Release {
    /// What it is for.
    #[arg(long)]
    pub(crate) purpose: String,
    /// Who receives it.
    #[arg(long)]
    pub(crate) recipient: String,
    /// Your case or order number, kept in the audit log for ever.
    #[arg(long)]
    pub(crate) reference: String,
}

/// Options of `detokenize`.
#[derive(Args)]
pub(crate) struct Detokenize {
    /// The token.
    pub(crate) token: String,
    #[command(flatten)]
    pub(crate) release: Release,
    #[command(flatten)]
    pub(crate) reveal: Reveal,
}

/// Options of `show`.
#[derive(Args)]
pub(crate) struct Show {
    /// The token.
    pub(crate) token: String,
    /// Your case or order number, kept in the audit log for ever.
    #[arg(long, default_value = "")]
    pub(crate) reference: String,
}

/// Options of `compare`.
#[derive(Args)]
pub(crate) struct Compare {
    /// The token.
    pub(crate) token: String,
    #[command(flatten)]
    pub(crate) source: Source,
    /// Your case or order number, kept in the audit log for ever.
    #[arg(long, default_value = "")]
    pub(crate) reference: String,
}

/// Options of `find`.
#[derive(Args)]
pub(crate) struct Find {
    #[command(flatten)]
    pub(crate) source: Source,
    /// What kind of value it is.
    #[arg(long, value_enum, default_value_t = Class::Pan)]
    pub(crate) class: Class,
    /// Your case or order number, kept in the audit log for ever.
    #[arg(long, default_value = "")]
    pub(crate) reference: String,
}

/// Options of `erase`.
#[derive(Args)]
pub(crate) struct Erase {
    /// The token.
    pub(crate) token: String,
    /// The request or case it is erased for, kept in the audit log for ever.
    #[arg(long)]
    pub(crate) reference: String,
    /// Do it. There is no way back.
    #[arg(long, required = true)]
    pub(crate) for_ever: bool,
}

/// `batch`.
#[derive(Subcommand)]
pub(crate) enum Batch {
    /// Tokens for the values of a CSV file with a column `pan` or `ssn`.
    Tokenize(BatchTokenize),
    /// Values for the tokens of a CSV file with a column `token`.
    Detokenize(BatchDetokenize),
}

/// The two files of a batch.
#[derive(Args)]
pub(crate) struct BatchFiles {
    /// The CSV file to read.
    pub(crate) input: PathBuf,
    /// The CSV file to write. The same command again goes on where an unfinished one ended.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// Options of `batch tokenize`.
#[derive(Args)]
pub(crate) struct BatchTokenize {
    #[command(flatten)]
    pub(crate) files: BatchFiles,
    /// A purpose for which the records may be detokenized; may be repeated. None: all that the policy allows.
    #[arg(long, value_name = "PURPOSE")]
    pub(crate) purpose: Vec<String>,
}

/// Options of `batch detokenize`.
#[derive(Args)]
pub(crate) struct BatchDetokenize {
    #[command(flatten)]
    pub(crate) files: BatchFiles,
    #[command(flatten)]
    pub(crate) release: Release,
    #[command(flatten)]
    pub(crate) reveal: Reveal,
}

/// `audit`.
#[derive(Subcommand)]
pub(crate) enum Audit {
    /// Show the newest entries of the log.
    Tail(Tail),
    /// Have the vault prove that the entries of receipts stand in its log, and verify the proofs.
    Prove(Prove),
    /// Verify the log with its public key alone: that it extends what you kept, a proof, or an export.
    Verify(Verify),
}

/// Options of `audit tail`.
#[derive(Args)]
pub(crate) struct Tail {
    /// So many of the newest entries; those of other tenants among them are left out.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) entries: u64,
    /// From this index on instead, to the end.
    #[arg(long, value_name = "INDEX", conflicts_with = "entries")]
    pub(crate) start: Option<u64>,
}

/// Options of `audit prove`.
#[derive(Args)]
pub(crate) struct Prove {
    /// Receipts as the vault gave them, each in quotes: "origin index hash".
    #[arg(value_name = "RECEIPT", required_unless_present = "receipts")]
    pub(crate) receipt: Vec<String>,
    /// A file with receipts, one a line.
    #[arg(long, value_name = "FILE")]
    pub(crate) receipts: Option<PathBuf>,
    /// The log's verifier key as you keep it; one fetched from the vault proves nothing about the vault.
    #[arg(long, value_name = "KEY")]
    pub(crate) log_key: String,
    /// Write the proofs to this new file, for `audit verify --proofs`.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Options of `audit verify`.
#[derive(Args)]
pub(crate) struct Verify {
    /// The log's verifier key as you keep it; one fetched from the vault proves nothing about the vault.
    #[arg(long, value_name = "KEY")]
    pub(crate) log_key: String,
    /// A checkpoint kept from earlier, which the log must extend.
    #[arg(long, value_name = "FILE", conflicts_with = "proofs")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// Write the verified newest checkpoint to this file; may be the one of --checkpoint.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["proofs", "export"])]
    pub(crate) keep: Option<PathBuf>,
    /// Verify these proofs, written by `audit prove`; asks no vault.
    #[arg(long, value_name = "FILE", conflicts_with = "export")]
    pub(crate) proofs: Option<PathBuf>,
    /// Verify this export, written by `vaultd audit export`; asks no vault.
    #[arg(long, value_name = "FILE")]
    pub(crate) export: Option<PathBuf>,
    /// A file with receipts, one a line, each of which must be in the export.
    #[arg(long, value_name = "FILE", requires = "export")]
    pub(crate) receipts: Option<PathBuf>,
}

/// Options of `unseal`.
#[derive(Args)]
pub(crate) struct Unseal {
    #[command(flatten)]
    pub(crate) source: Source,
    /// Open it with the HSM that alone seals it, where it did not open itself; asks for nothing.
    #[arg(long, conflicts_with = "from")]
    pub(crate) hsm: bool,
}

/// `custody`.
#[derive(Subcommand)]
pub(crate) enum Custody {
    /// Say in which state the vault is, how it is sealed, and which ceremony is open.
    Status,
    /// Begin to gather shares; the answer names the ceremony to the others.
    Begin,
    /// Give your share to the open ceremony. The one that makes them enough opens the vault.
    Share(Share),
    /// End the open ceremony; what was given is forgotten.
    Cancel(Cancel),
    /// List every key version: state, dates, and how far old records have got the new key.
    Keys,
    /// Have the next key version of a tenant and class encrypt from now on.
    Rotate(Rotate),
    /// Destroy a retired key version for ever, and keep the certificate of it.
    DestroyKeys(DestroyKeys),
}

/// Options of `custody rotate`.
#[derive(Args)]
pub(crate) struct Rotate {
    /// Whose keys.
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: String,
    /// For which class of values.
    #[arg(long, value_enum)]
    pub(crate) class: Class,
    /// Why, for the audit log: 1 to 64 characters of A-Z a-z 0-9 . _ : / -
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// Options of `custody destroy-keys`.
#[derive(Args)]
pub(crate) struct DestroyKeys {
    #[command(flatten)]
    pub(crate) whose: Rotate,
    /// The version.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) version: u32,
    /// Write the certificate to this new file, for `audit verify --proofs`.
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: PathBuf,
    /// It cannot be undone: say so.
    #[arg(long, required = true)]
    pub(crate) for_ever: bool,
}

/// Options of `custody share`.
#[derive(Args)]
pub(crate) struct Share {
    /// The ceremony, as whoever began it was told.
    #[arg(long, value_name = "NAME")]
    pub(crate) ceremony: String,
    /// Accept the duties of custodians; without it they are shown, and nothing is given.
    #[arg(long)]
    pub(crate) accept_duties: bool,
    #[command(flatten)]
    pub(crate) source: Source,
}

/// Options of `custody cancel`.
#[derive(Args)]
pub(crate) struct Cancel {
    /// The ceremony, as the status names it.
    #[arg(long, value_name = "NAME")]
    pub(crate) ceremony: String,
}

/// Options of `seal`.
#[derive(Args)]
pub(crate) struct Seal {
    /// Why, for the audit log: 1 to 64 characters of A-Z a-z 0-9 . _ : / -
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// Options of `completions`.
#[derive(Args)]
pub(crate) struct Completions {
    /// Which shell.
    pub(crate) shell: Shell,
}

/// Reads the command line. What was asked wrongly, or for help, is answered here.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        if !error.use_stderr() {
            // Help and version: nothing is left to do if they cannot be printed.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        complain_line_by_line(&hide_numbers(&error.render().to_string()));
        ExitCode::from(2)
    })
}

fn complain_line_by_line(text: &str) {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.lines().filter(|line| !line.is_empty()).for_each(complain);
}

/// A complaint quotes the argument it is about, and that may be a value which should never have been there:
/// every digit of what may be one is hidden.
fn hide_numbers(text: &str) -> String {
    let hide = |word: &str| {
        let digits = word.chars().filter(char::is_ascii_digit).count();
        if digits < 4 { word.to_owned() } else { word.replace(|c: char| c.is_ascii_digit(), "*") }
    };
    text.split_inclusive([' ', '\n']).map(hide).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_value_on_the_command_line_is_refused_and_not_repeated() {
        for line in [
            "vaultctl tokenize 4111111111111111",
            "vaultctl tokenize --class 4111111111111111",
            "vaultctl find 4111-1111-1111-1111",
            "vaultctl compare t 1111",
            "vaultctl unseal --passphrase=4111111111111111",
            "vaultctl custody share --share=vaultshare1_1111",
        ] {
            let complaint = hide_numbers(&parsed(line).err().unwrap().render().to_string());
            assert!(!complaint.contains("1111"), "{complaint}");
        }
    }

    #[test]
    fn the_connection_may_stand_before_or_after_the_command() {
        for line in [
            "vaultctl --dev f --as billing --output json status",
            "vaultctl status --output json --as billing --dev f",
            "vaultctl audit tail --dev f --as auditor --output json",
        ] {
            assert_eq!(parsed(line).unwrap().output, Format::Json, "{line}");
        }
    }

    #[test]
    fn a_pipe_is_allowed_only_for_what_is_revealed() {
        let line = "vaultctl detokenize t --purpose p --recipient r --reference x";
        assert!(parsed(line).is_ok());
        assert!(parsed(&format!("{line} --allow-pipe")).is_err());
        assert!(parsed(&format!("{line} --reveal --allow-pipe")).is_ok());
    }
}
