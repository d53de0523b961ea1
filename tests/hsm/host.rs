//! A host with a vault, its HSM, and custodians who call it.

use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use vault_tests::files::{write_certificates, write_private};
use vault_tests::process::program;

use crate::token::{LABEL, MODULE, PIN, Tokens};

pub(crate) const CUSTODIANS: [&str; 3] = ["ann", "bob", "cyd"];
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Host {
    folder: TempDir,
    address: String,
    served: Option<Child>,
    pub(crate) tokens: Tokens,
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) text: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
        Self { ok: output.status.success(), text }
    }

    #[track_caller]
    pub(crate) fn expect(self) -> String {
        assert!(self.ok, "{}", self.text);
        self.text
    }

    #[track_caller]
    pub(crate) fn refused(&self, because: &str) {
        assert!(!self.ok && self.text.contains(because), "not {because}: {}", self.text);
    }

    /// A field of the JSON answer, as a text; empty where it has no value.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> String {
        assert!(self.ok, "{}", self.text);
        let answer: Value = serde_json::from_str(self.text.lines().last().unwrap()).unwrap();
        match answer.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) => String::new(),
            _ => panic!("no {name} in {}", self.text),
        }
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let address = format!("127.0.0.1:{port}");
        let host = Self { folder, address, served: None, tokens: Tokens::new() };
        for part in ["keyring", "anchor", "store"] {
            fs::create_dir(host.path(part)).unwrap();
        }
        fs::set_permissions(host.path("keyring"), Permissions::from_mode(0o700)).unwrap();
        write_certificates(host.folder.path(), "tests", &[&CUSTODIANS[..], &["auditor", "shop"]].concat());
        let custodians = CUSTODIANS.map(|name| principal(name, "*", "custodian", "status unseal seal"));
        let others = [
            principal("auditor", "*", "auditor", "audit-read status"),
            principal("shop", "shop", "checkout", "tokenize"),
        ];
        let tenant = "[[tenant]]\nid = \"shop\"\nclasses = [\"pan\"]\n";
        host.write("policy.toml", &[tenant, &custodians.concat(), &others.concat()].concat());
        host.write("pin", &format!("{PIN}\n"));
        host.write("passphrase", "correct horse battery staple\n");
        host.write("value", "4111111111111111\n");
        host.configure(MODULE);
        host
    }

    /// Writes the configuration, with this module.
    pub(crate) fn configure(&self, module: &str) {
        let at = self.folder.path().display();
        let config = format!(
            r#"
[vault]
environment = "test"
keyring_folder = "{at}/keyring"
anchor_file = "{at}/anchor/anchor"
policy_file = "{at}/policy.toml"
audit_origin = "vault.example.com/test-1"
[store]
folder = "{at}/store"
free_space_floor_mib = 512
cache_mib = 64
[listen]
address = "{}"
certificate_file = "{at}/server.pem"
private_key_file = "{at}/server.key"
revocation = "short-lived"
[[listen.client_ca]]
name = "tests"
certificate_file = "{at}/ca.pem"
[seal.hsm]
module = "{module}"
token_label = "{LABEL}"
pin_file = "{at}/pin"
[metrics]
listen = "off"
[hardening]
write_paths = ["{}"]
"#,
            self.address,
            self.tokens.folder().display()
        );
        self.write("vaultd.toml", &config);
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    pub(crate) fn write(&self, part: &str, content: &str) {
        write_private(&self.path(part), content);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("vaultd"));
        command.args(arguments).arg("--config").arg(self.path("vaultd.toml"));
        command.env("SOFTHSM2_CONF", self.tokens.config()).stdin(Stdio::null());
        command
    }

    /// A command of `vaultd` on this host.
    pub(crate) fn vaultd(&self, arguments: &[&str]) -> Said {
        Said::of(&self.command(arguments).output().unwrap())
    }

    /// The arguments that give each custodian a share, in a file of this name behind theirs.
    pub(crate) fn dealt(&self, file: &str) -> Vec<String> {
        let dealt = CUSTODIANS
            .map(|name| format!("--custodian={name}={}", self.path(&format!("{name}.{file}")).display()));
        ["--threshold=2".to_owned()].into_iter().chain(dealt).collect()
    }

    /// The argument that gives a command on the host a custodian's share.
    pub(crate) fn share_file(&self, name: &str, file: &str) -> String {
        format!("--share-file={}", self.path(&format!("{name}.{file}")).display())
    }

    pub(crate) fn serve(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let served = self.command(&["serve"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.served = Some(served);
        let begun = Instant::now();
        while TcpStream::connect(&self.address).is_err() {
            assert!(begun.elapsed() < PATIENCE, "{}", self.log());
            sleep(Duration::from_millis(10));
        }
    }

    /// Ends the daemon as an operator does.
    pub(crate) fn stop(&mut self) {
        let mut served = self.served.take().unwrap();
        let pid = i32::try_from(served.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(served.wait().unwrap().success(), "{}", self.log());
    }

    /// What the daemons of this host logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Runs `vaultctl` as a principal; answers are JSON.
    pub(crate) fn ctl(&self, principal: &str, arguments: &[&str]) -> Said {
        let mut command = Command::new(program("vaultctl"));
        command.env_remove("VAULTCTL_PROFILE").env_remove("XDG_CONFIG_HOME").stdin(Stdio::null());
        command.args(["--endpoint", &self.address, "--output", "json", "--ca"]).arg(self.path("ca.pem"));
        command.arg("--cert").arg(self.path(&format!("{principal}.pem")));
        command.arg("--key").arg(self.path(&format!("{principal}.key")));
        Said::of(&command.args(arguments).output().unwrap())
    }

    pub(crate) fn status(&self, field: &str) -> String {
        self.ctl("ann", &["custody", "status"]).field(field)
    }

    /// Waits until a field of the status has this value.
    #[track_caller]
    pub(crate) fn wait_until(&self, field: &str, value: &str) {
        let begun = Instant::now();
        while self.status(field) != value {
            assert!(begun.elapsed() < PATIENCE, "{field} is {}, {}", self.status(field), self.log());
            sleep(Duration::from_millis(50));
        }
    }

    /// Tokenizes a number: whether the vault serves.
    pub(crate) fn tokenize(&self) -> Said {
        self.ctl("shop", &["tokenize", "--from", self.path("value").to_str().unwrap()])
    }

    /// Gives a custodian's share to a ceremony.
    pub(crate) fn give(&self, custodian: &str, file: &str, ceremony: &str) -> Said {
        let share = self.path(&format!("{custodian}.{file}"));
        let share = share.to_str().unwrap();
        self.ctl(custodian, &["custody", "share", "--accept-duties", "--ceremony", ceremony, "--from", share])
    }

    /// How often the log tells of this outcome of an attempt to unseal.
    pub(crate) fn refusals(&self, outcome: &str) -> usize {
        let log = self.ctl("auditor", &["audit", "tail", "--start", "0"]).expect();
        let refused = log.lines().filter(|line| line.contains("\"action\":\"unseal-refused\""));
        refused.filter(|line| line.contains(&format!("\"outcome\":\"{outcome}\""))).count()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut served) = self.served.take() {
            let _ = served.kill();
            let _ = served.wait();
        }
    }
}

fn principal(name: &str, tenant: &str, role: &str, rights: &str) -> String {
    let rights: Vec<String> = rights.split(' ').map(|right| format!("{right:?}")).collect();
    let classes = if role == "checkout" { "classes = [\"pan\"]\n" } else { "" };
    format!(
        "[[principal]]\nid = \"{name}\"\nidentity = \"uri:spiffe://tests/{name}\"\ntenant = \"{tenant}\"\n\
         role = \"{role}\"\nrights = [{}]\n{classes}",
        rights.join(", ")
    )
}
