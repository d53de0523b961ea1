//! `vaultd` as a process of its own, as it is installed: what is killed or looked into is not the test.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tonic::transport::Channel;
use vault_proto::Connector;

/// From the start of the process to its `endpoint` file. Two shared cores are slow now and then; a start that
/// takes this long is a failure.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

/// A running `vaultd dev --dir`. Dropped, it is killed.
pub struct Vaultd {
    child: Child,
    folder: PathBuf,
}

impl Vaultd {
    /// Starts the daemon on the vault in `folder/vault`, made if it is not there, and waits until it serves.
    /// What it writes is added to `folder/stdout` and `folder/stderr`.
    pub fn start(folder: &Path, engine: &str, arguments: &[&str]) -> Self {
        let mut vaultd = Self::spawn(folder, engine, arguments);
        vaultd.wait_until_served(folder);
        vaultd
    }

    /// As [`Vaultd::start`], without waiting for anything.
    pub fn spawn(folder: &Path, engine: &str, arguments: &[&str]) -> Self {
        let vault = folder.join("vault");
        // The last one's: a daemon that serves writes it anew.
        let _ = fs::remove_file(vault.join("endpoint"));
        let output = |name: &str| {
            let file = File::options().create(true).append(true).open(folder.join(name));
            Stdio::from(file.expect("an output file"))
        };
        let child = Command::new(binary())
            .args(["dev", "--store", engine, "--dir"])
            .arg(&vault)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("vaultd starts");
        Self { child, folder: vault }
    }

    fn wait_until_served(&mut self, folder: &Path) {
        let begun = Instant::now();
        while !self.folder.join("endpoint").exists() {
            if let Some(status) = self.child.try_wait().expect("a child to wait for") {
                let said = fs::read_to_string(folder.join("stderr")).unwrap_or_default();
                panic!("vaultd did not start, {status}:\n{said}");
            }
            assert!(begun.elapsed() < START_TIMEOUT, "vaultd did not serve within {START_TIMEOUT:?}");
            thread::sleep(POLL);
        }
    }

    /// Ends the process as `kill -9` does and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("a child to wait for");
    }

    /// Ends it as an operator does, by SIGTERM.
    pub fn stop(mut self) -> ExitStatus {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("SIGTERM");
        self.child.wait().expect("a child to wait for")
    }

    /// A new connection over mutual TLS, as one of the vault's principals.
    pub async fn connect(&self, principal: &str) -> Channel {
        let connector = Connector::from_dev_folder(&self.folder, principal).expect("certificates");
        connector.connect().await.expect("a connection")
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Vaultd {
    fn drop(&mut self) {
        // Both fail when it is gone already, as it should be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The daemon built beside this test: `target/<profile>/vaultd`.
fn binary() -> PathBuf {
    let test = env::current_exe().expect("the test's own path");
    let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let binary = profile.join("vaultd");
    let advice = "build it first, in the same profile: cargo build --workspace [--release]";
    assert!(binary.exists(), "{} is not built; {advice}", binary.display());
    binary
}
