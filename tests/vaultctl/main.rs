//! `vaultctl` as people and scripts use it: the built program against a real vault.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

mod audit;
mod batches;
mod command;
mod custody;
mod daemons;
mod keys;
mod shares;
mod terminal;
mod values;

use std::path::PathBuf;

use vault_daemon::TestVault;

use crate::command::{Said, run};

const PAN: &str = "4111111111111111";
/// What a value is released for, as the throwaway policy has it.
const RELEASE: [&str; 6] = ["--purpose", "settlement", "--recipient", "acquirer", "--reference", "case-1"];

/// A vault, and the program at work on it.
struct Site {
    vault: TestVault,
}

impl Site {
    fn start() -> Self {
        Self { vault: TestVault::start().unwrap() }
    }

    /// The arguments of a command of a principal.
    fn arguments<'a>(&'a self, principal: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
        let folder = self.vault.folder().to_str().unwrap();
        [&["--dev", folder, "--as", principal], arguments].concat()
    }

    /// Runs a command as a principal; answers are JSON.
    fn run(&self, principal: &str, arguments: &[&str], input: &str) -> Said {
        let json = [&["--output", "json"], arguments].concat();
        run(&self.arguments(principal, &json), input)
    }

    /// The token of a value.
    fn token(&self, value: &str) -> String {
        self.run("checkout", &["tokenize", "--from", "-"], value).text("token")
    }

    /// A file in the vault's folder, which goes with it.
    fn file(&self, name: &str) -> PathBuf {
        self.vault.folder().join(name)
    }

    /// The verifier key of the vault's log.
    fn log_key(&self) -> String {
        self.run("custodian", &["status"], "").text("log_verifier_key")
    }
}
