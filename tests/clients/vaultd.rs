//! The daemon as people start it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::{env, str};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// `vaultd dev --dir FOLDER`, serving.
pub(crate) struct Vaultd {
    child: Child,
    folder: PathBuf,
    _temporary: TempDir,
}

impl Vaultd {
    pub(crate) fn start() -> Self {
        let temporary = TempDir::new().unwrap();
        let folder = temporary.path().join("vault");
        let mut command = Command::new(program());
        command.args(["dev", "--dir"]).arg(&folder).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with("serving until")), "vaultd ended before it served");
        // It goes on writing, and a pipe that nobody reads would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, folder, _temporary: temporary }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends it as a service manager would, and expects that no call was cut off.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

/// A test that stopped loudly leaves no daemon behind.
impl Drop for Vaultd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program that the environment variable `VAULTD` names, for whoever has built it already; else as cargo
/// builds it: another package's binary is not built for a test by itself.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| env::var_os("VAULTD").map_or_else(built, PathBuf::from))
}

fn built() -> PathBuf {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let cargo = env::var_os("CARGO").expect("run by cargo");
    // What cargo says of this package to its tests is none of the build's business: some build scripts run
    // again, and all that depends on them, whenever it changes.
    let said = env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    let mut build = Command::new(cargo);
    for name in said {
        build.env_remove(name);
    }
    let output = build
        // With this package's features, so that nothing is built that was not built for the tests.
        .args(["build", "--package", "vault-tests", "--package", "vault-daemon", "--bin", "vaultd"])
        .args(["--profile", profile])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    let messages = str::from_utf8(&output.stdout).unwrap().lines();
    let messages = messages.map(|line| serde_json::from_str::<Value>(line).unwrap());
    messages.filter_map(|message| Some(message["executable"].as_str()?.into())).next_back().unwrap()
}
