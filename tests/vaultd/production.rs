//! A vault from `init` to restore, with a configuration of its own.

use std::fs::{self, DirBuilder};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vault_tests::files::{write_certificates, write_private};
use vault_tests::process::program;

use crate::{Said, run, text, vaultd};

const PAN: &str = "4111111111111111";
pub(crate) const POLICY: &str = r#"
[[tenant]]
id = "shop"
classes = ["pan"]

[[principal]]
id = "checkout"
identity = "uri:spiffe://shop/checkout"
tenant = "shop"
role = "checkout"
rights = ["tokenize", "prove"]
classes = ["pan"]

[[principal]]
id = "custodian"
identity = "uri:spiffe://shop/custodian"
tenant = "*"
role = "custodian"
rights = ["status", "unseal", "seal"]
"#;

/// A host with everything in its place, and nothing running.
pub(crate) struct Host {
    folder: TempDir,
    endpoint: String,
}

impl Host {
    pub(crate) fn new() -> Self {
        // A port that was free a moment ago.
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = Self { folder: TempDir::new().unwrap(), endpoint: free.local_addr().unwrap().to_string() };
        for part in ["keyring", "anchor", "store"] {
            DirBuilder::new().mode(0o700).create(host.path(part)).unwrap();
        }
        write_certificates(host.folder.path(), "shop", &["checkout", "custodian"]);
        host.write("policy.toml", POLICY);
        host.write("passphrase", "correct horse battery staple\n");
        host.write("vaultd.toml", &host.config("prod"));
        host
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    pub(crate) fn write(&self, part: &str, content: &str) {
        write_private(&self.path(part), content);
    }

    pub(crate) fn config(&self, environment: &str) -> String {
        let (folder, endpoint) = (self.folder.path().display(), &self.endpoint);
        format!(
            r#"
[vault]
environment = "{environment}"
keyring_folder = "{folder}/keyring"
anchor_file = "{folder}/anchor/anchor"
policy_file = "{folder}/policy.toml"
audit_origin = "shop.example/prod"
[store]
folder = "{folder}/store"
free_space_floor_mib = 512
[listen]
address = "{endpoint}"
certificate_file = "{folder}/server.pem"
private_key_file = "{folder}/server.key"
revocation = "short-lived"
[[listen.client_ca]]
name = "clients"
certificate_file = "{folder}/ca.pem"
[metrics]
listen = "unix:{folder}/metrics.sock"
"#
        )
    }

    /// A command of `vaultd` on this vault; with a passphrase where it needs one.
    pub(crate) fn vaultd(&self, command: &[&str], opens: bool) -> Said {
        let (config, passphrase) = (self.path("vaultd.toml"), self.path("passphrase"));
        let mut arguments = [command, &["--config", text(&config)]].concat();
        if opens {
            arguments.extend(["--passphrase-file", text(&passphrase)]);
        }
        vaultd(&arguments)
    }

    fn vaultctl(&self, principal: &str, command: &[&str]) -> Said {
        let [ca, certificate, key] =
            ["ca.pem".to_owned(), format!("{principal}.pem"), format!("{principal}.key")]
                .map(|part| self.path(&part));
        let connection = ["--ca", text(&ca), "--cert", text(&certificate), "--key", text(&key)];
        run("vaultctl", &[&["--endpoint", &self.endpoint][..], &connection, command].concat())
    }

    pub(crate) fn serve(&self) -> Serving<'_> {
        let config = self.path("vaultd.toml");
        let mut command = Command::new(program("vaultd"));
        command.args(["serve", "--config", text(&config)]).stdin(Stdio::null()).stderr(Stdio::piped());
        let serving = Serving { host: self, child: command.spawn().unwrap() };
        serving.wait_for("/live", "200");
        serving
    }

    /// The first line of an answer over the metrics socket; empty where nobody listens.
    pub(crate) fn http(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = UnixStream::connect(self.path("metrics.sock")) {
            let request = format!("GET {path} HTTP/1.1\r\nHost: vault\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            stream.read_to_string(&mut answer).unwrap();
        }
        answer
    }

    /// Tokenizes as checkout, from a file as every value comes.
    pub(crate) fn tokenize(&self) -> Said {
        self.write("value", PAN);
        self.vaultctl("checkout", &["tokenize", "--from", text(&self.path("value"))])
    }

    pub(crate) fn unseal(&self) -> Said {
        self.vaultctl("custodian", &["unseal", "--from", text(&self.path("passphrase"))])
    }
}

/// A daemon at work; killed when dropped.
pub(crate) struct Serving<'a> {
    host: &'a Host,
    pub(crate) child: Child,
}

impl Serving<'_> {
    pub(crate) fn wait_for(&self, path: &str, status: &str) {
        let begun = Instant::now();
        while !self.host.http(path).starts_with(&format!("HTTP/1.1 {status}")) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{path} is not {status}");
            sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ends it by SIGTERM: its exit code, and what it logged.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        // Both fail when it is gone already, as it should be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The verifier key in what `init` printed.
fn log_key(said: &Said) -> String {
    let line = said.expect(0).out.lines().find_map(|line| line.strip_prefix("verifier key of its log: "));
    line.unwrap_or_else(|| panic!("no key in {}", said.out)).to_owned()
}

#[test]
fn a_vault_is_made_opened_served_checked_and_verified() {
    let host = Host::new();
    let plan = host.vaultd(&["check-config"], false);
    assert!(plan.expect(0).out.contains(&host.endpoint), "{}", plan.out);
    let key = log_key(&host.vaultd(&["init"], true));
    let again = host.vaultd(&["init"], true);
    assert!(again.expect(1).err.contains("there is a vault here already"), "{}", again.err);

    let serving = host.serve();
    assert!(host.http("/ready").starts_with("HTTP/1.1 503"));
    assert!(host.tokenize().expect(1).err.contains("SEALED"));
    host.unseal().expect(0);
    serving.wait_for("/ready", "200");
    assert!(host.tokenize().expect(0).out.contains("tok_pan_"));
    // A second daemon on the same store does not start, and the first goes on.
    assert!(host.vaultd(&["serve"], false).expect(1).err.contains("store: the store is unavailable"));
    host.tokenize().expect(0);
    let (code, log) = serving.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("\"event\":\"serving\"") && log.contains("\"whole\":true"), "{log}");

    let checked = host.vaultd(&["check"], true);
    assert!(checked.expect(0).out.contains('2'), "{}", checked.out);
    let export = host.path("log.export");
    host.vaultd(&["audit", "export", "--out", text(&export)], true).expect(0);
    let verify = ["audit", "verify", "--export", text(&export), "--key", &key];
    assert!(vaultd(&verify).expect(0).out.starts_with("verified: "));
    let mut bytes = fs::read(&export).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&export, bytes).unwrap();
    vaultd(&verify).expect(1);
}

#[test]
fn a_bad_policy_is_refused_at_hang_up_and_the_old_one_decides() {
    let host = Host::new();
    host.vaultd(&["init"], true).expect(0);
    let serving = host.serve();
    host.unseal().expect(0);
    host.write("policy.toml", &POLICY.replace("\"tokenize\", ", "\"tokenise\", "));
    serving.signal(Signal::HUP);
    let begun = Instant::now();
    while !host.http("/metrics").contains("vaultd_alarms_total 1") {
        assert!(begun.elapsed() < Duration::from_secs(60), "no alarm");
        sleep(Duration::from_millis(20));
    }
    host.tokenize().expect(0);
    host.write(
        "policy.toml",
        &POLICY.replace("rights = [\"tokenize\", \"prove\"]\nclasses = [\"pan\"]", "rights = [\"prove\"]"),
    );
    serving.signal(Signal::HUP);
    while host.tokenize().code == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the new policy is not in force");
    }
    assert!(host.tokenize().expect(1).err.contains("DENIED"));
    let (code, log) = serving.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("policy_reload_failed") && log.contains("policy_reloaded"), "{log}");
    assert!(!log.contains("tokenise"), "a value of the file is repeated: {log}");
}

#[test]
fn a_restored_store_is_refused_until_somebody_accepts_what_is_missing() {
    let host = Host::new();
    host.vaultd(&["init"], true).expect(0);
    let older = host.path("older");
    copy(&host.path("store"), &older);
    let serving = host.serve();
    host.unseal().expect(0);
    host.tokenize().expect(0);
    assert_eq!(serving.stop().0, Some(0));
    fs::remove_dir_all(host.path("store")).unwrap();
    copy(&older, &host.path("store"));

    let serving = host.serve();
    assert!(host.unseal().expect(1).err.contains("ROLLED_BACK"));
    assert_eq!(serving.stop().0, Some(0));
    let accept =
        |size: &str| host.vaultd(&["anchor", "accept", "--size", size, "--reason", "restore-1"], true);
    let asked = accept("0");
    let named = asked.expect(1).err.split_whitespace().find_map(|word| word.parse::<u64>().ok());
    let size = named.unwrap_or_else(|| panic!("no size in {}", asked.err));
    accept(&(size + 1).to_string()).expect(1);
    accept(&size.to_string()).expect(0);

    let serving = host.serve();
    host.unseal().expect(0);
    host.tokenize().expect(0);
    assert_eq!(serving.stop().0, Some(0));
    host.vaultd(&["check"], true).expect(0);
}

#[test]
fn keys_of_throwaway_vaults_are_not_served() {
    let host = Host::new();
    host.write("vaultd.toml", &host.config("dev"));
    for command in ["check-config", "init", "serve"] {
        let said = host.vaultd(&[command], command == "init");
        assert!(said.expect(1).err.contains("vault.environment"), "{command}: {}", said.err);
    }
    assert!(fs::read_dir(host.path("keyring")).unwrap().next().is_none());
}

/// A folder of an engine as a backup has it: with the daemon stopped.
fn copy(from: &Path, to: &Path) {
    DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
