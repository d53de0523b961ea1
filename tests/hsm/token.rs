//! Tokens of SoftHSM 2 in a folder of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub(crate) const LABEL: &str = "vault";
pub(crate) const PIN: &str = "pin-of-the-token";
const SO_PIN: &str = "pin-of-the-officer";

/// A folder of tokens, at first with one.
pub(crate) struct Tokens {
    folder: TempDir,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        let tokens = Self::none();
        tokens.make(LABEL, PIN);
        tokens
    }

    pub(crate) fn none() -> Self {
        static PRESENT: OnceLock<()> = OnceLock::new();
        PRESENT.get_or_init(|| {
            let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("hsm/install");
            let said = Command::new(install).output().unwrap();
            assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        });
        let tokens = Self { folder: TempDir::new().unwrap() };
        fs::create_dir(tokens.there()).unwrap();
        let config = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.there().display()
        );
        fs::write(tokens.config(), config).unwrap();
        tokens
    }

    /// What `SOFTHSM2_CONF` is to name.
    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("softhsm2.conf")
    }

    /// What a daemon has to reach: the tokens are exchanged in it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn there(&self) -> PathBuf {
        self.folder.path().join("tokens")
    }

    /// Adds a token.
    pub(crate) fn make(&self, label: &str, pin: &str) {
        let arguments = ["--init-token", "--free", "--label", label, "--so-pin", SO_PIN, "--pin", pin];
        done(self.command("softhsm2-util").args(arguments));
    }

    /// Pulls every token out.
    pub(crate) fn pull(&self) {
        fs::rename(self.there(), self.folder.path().join("pulled")).unwrap();
        fs::create_dir(self.there()).unwrap();
    }

    /// Puts them back, in the place of those that are there now.
    pub(crate) fn put_back(&self) {
        fs::remove_dir_all(self.there()).unwrap();
        fs::rename(self.folder.path().join("pulled"), self.there()).unwrap();
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("SOFTHSM2_CONF", self.config());
        command
    }

    /// What `pkcs11-tool` says, logged in to the token.
    pub(crate) fn tool(&self, arguments: &[&str]) -> String {
        let mut tool = self.command("pkcs11-tool");
        tool.args(["--module", MODULE, "--token-label", LABEL, "--login", "--pin", PIN]).args(arguments);
        done(&mut tool)
    }

    /// The names of the keys in the token.
    pub(crate) fn keys(&self) -> Vec<String> {
        let listed = self.tool(&["--list-objects", "--type", "secrkey"]);
        let ids = listed.lines().filter_map(|line| line.trim().strip_prefix("ID:"));
        ids.map(|id| id.trim().to_owned()).collect()
    }
}

fn done(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(status.success(), "{said}");
    said
}
