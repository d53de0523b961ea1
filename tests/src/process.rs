//! The programs as people run them; and `vaultd` as a process of its own: what is killed or looked into is
//! not the test.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tonic::transport::Channel;
use vault_proto::Connector;

/// From the start of the process to its `endpoint` file. Two shared cores are slow now and then; a start that
/// takes this long is a failure.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Where the engine `postgres` finds its database, in the folder of the daemon.
pub const STORE_FILE: &str = "store.toml";
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
        Self::spawn_by(Command::new(program("vaultd")), folder, engine, arguments)
    }

    /// As [`Vaultd::start`], for a process that is told by an error, as of a full disk, when its files may
    /// not grow any more ([`Vaultd::limit_files`]), where others would get a signal.
    pub fn start_limitable(folder: &Path, engine: &str) -> Self {
        let mut shell = Command::new("sh");
        // What a shell ignores stays ignored in the program that takes its place.
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(program("vaultd"));
        let mut vaultd = Self::spawn_by(shell, folder, engine, &[]);
        vaultd.wait_until_served(folder);
        vaultd
    }

    fn spawn_by(mut command: Command, folder: &Path, engine: &str, arguments: &[&str]) -> Self {
        let vault = folder.join("vault");
        // The last one's: a daemon that serves writes it anew.
        let _ = fs::remove_file(vault.join("endpoint"));
        let output = |name: &str| {
            let file = File::options().create(true).append(true).open(folder.join(name));
            Stdio::from(file.expect("an output file"))
        };
        command.arg("dev");
        match engine {
            "postgres" => command.arg("--store-from").arg(folder.join(STORE_FILE)),
            embedded => command.args(["--store", embedded]),
        };
        let child = command
            .arg("--dir")
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
        self.kill_now();
    }

    /// As [`Vaultd::kill`], where another one takes its place.
    pub fn kill_now(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("a child to wait for");
    }

    /// From here on no file takes anything beyond this many bytes; `None`: any number, as before.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(self.raw_pid()), Resource::Fsize, limit).expect("a limit");
    }

    /// Ends it as an operator does, by SIGTERM.
    pub fn stop(mut self) -> ExitStatus {
        kill_process(self.raw_pid(), Signal::TERM).expect("SIGTERM");
        self.child.wait().expect("a child to wait for")
    }

    /// A new connection over mutual TLS, as one of the vault's principals.
    pub async fn connect(&self, principal: &str) -> Channel {
        let connector = Connector::from_dev_folder(&self.folder, principal).expect("certificates");
        connector.connect().await.expect("a connection")
    }

    /// The vault's folder, laid out as that of every `vaultd dev`.
    pub fn vault_folder(&self) -> &Path {
        &self.folder
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn raw_pid(&self) -> Pid {
        i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a pid")
    }
}

impl Drop for Vaultd {
    fn drop(&mut self) {
        // Both fail when it is gone already, as it should be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of this workspace, as people run it: `target/<profile>/<name>`, in the profile of these tests.
///
/// Another package's program is not built for a test by itself, so that cargo is asked to, once; unless the
/// environment variable `VAULT_TESTS_BUILT` says that it is done.
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let test = env::current_exe().expect("the test's own path");
        let folder = test.parent().and_then(Path::parent).expect("target/<profile>/deps").to_owned();
        // A test that is run by hand finds what is there.
        if let (Some(cargo), None) = (env::var_os("CARGO"), env::var_os("VAULT_TESTS_BUILT")) {
            build(&cargo, &folder);
        }
        folder
    });
    let program = folder.join(name);
    let advice = "build it first, in the same profile: cargo build --workspace [--release]";
    assert!(program.exists(), "{} is not built; {advice}", program.display());
    program
}

/// Builds the programs into `folder`: `target/<profile>`.
fn build(cargo: &OsStr, folder: &Path) {
    let mut build = Command::new(cargo);
    // What cargo says of this package to its tests is none of the build's business: some build scripts run
    // again, and all that depends on them, whenever it changes.
    let said = env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    for name in said {
        build.env_remove(name);
    }
    let profile = folder.file_name().expect("target/<profile>");
    let profile = if profile == "debug" { OsStr::new("dev") } else { profile };
    // With this package's features, so that nothing is built that was not built for the tests.
    build.args(["build", "--quiet", "--package", "vault-tests", "--package", "vault-daemon"]);
    build.args(["--package", "vaultctl", "--bin", "vaultd", "--bin", "vaultctl", "--profile"]).arg(profile);
    let built = build.status().expect("cargo runs");
    assert!(built.success(), "vaultd and vaultctl are not built: {built}");
}
