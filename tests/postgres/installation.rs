//! `vaultd` as its operator lays it out: files, configuration, certificates; and the processes of it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tonic::transport::Channel;
use vault_core::clock::Clock as _;
use vault_daemon::certificates::{Authority, Request, Validity};
use vault_daemon::clock::SystemClock;
use vault_proto::Connector;
use vault_tests::cluster::{Database, OWNER};
use vault_tests::files::{make_private_folder, write_private};
use vault_tests::process::program;

use crate::LOG;

/// The policy of every installation, unless a test writes another.
pub(crate) const POLICY: &str = include_str!("../../vault-daemon/src/dev/policy.toml");
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything an operator lays out before the first start.
pub(crate) struct Installation {
    folder: TempDir,
    authority: Rc<Authority>,
    port: u16,
}

/// A daemon that is killed when the test ends.
pub(crate) struct Serving(Child);

impl Serving {
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Installation {
    pub(crate) fn on(database: &Database<'_>) -> Self {
        let validity = Validity::hours_from(SystemClock.now(), 24);
        let authority = Rc::new(Authority::root("tests", validity).unwrap());
        Self::new(database, authority, LOG)
    }

    /// One for another daemon of the same vault: same CA, a copy of the keyring, a log of its own.
    pub(crate) fn beside(&self, database: &Database<'_>, origin: &str) -> Self {
        let other = Self::new(database, Rc::clone(&self.authority), origin);
        other.copy_keyring(self);
        other
    }

    /// The two copies of the keyring, and nothing else.
    pub(crate) fn copy_keyring(&self, from: &Self) {
        for copy in ["keyring/keyring-a", "keyring/keyring-b"] {
            self.write(copy, fs::read(from.path(copy)).unwrap());
        }
    }

    fn new(database: &Database<'_>, authority: Rc<Authority>, origin: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let validity = Validity::hours_from(SystemClock.now(), 24);
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let installation = Self { folder, authority, port };
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let server = Request::server(&["localhost"], &[loopback], validity);
        let server = installation.authority.issue(&server).unwrap();
        installation.write("server.pem", &server.chain_pem);
        installation.write("server.key", &server.private_key_pem);
        installation.write("ca.pem", installation.authority.certificate_pem());
        installation.write("policy.toml", POLICY);
        installation.write("passphrase", "correct horse battery staple\n");
        for part in ["anchor", "keyring"] {
            make_private_folder(&installation.path(part));
        }
        let path = |part: &str| installation.path(part).display().to_string();
        let text = format!(
            "[vault]\nenvironment = \"tests\"\nkeyring_folder = \"{}\"\nanchor_file = \"{}\"\n\
             policy_file = \"{}\"\naudit_origin = \"{origin}\"\n{}\
             [listen]\naddress = \"127.0.0.1:{port}\"\ncertificate_file = \"{}\"\nprivate_key_file = \"{}\"\n\
             revocation = \"short-lived\"\n\
             [[listen.client_ca]]\nname = \"tests\"\ncertificate_file = \"{}\"\n\
             [seal]\npassphrase_file = \"{}\"\n[metrics]\nlisten = \"off\"\n",
            path("keyring"),
            path("anchor/anchor"),
            path("policy.toml"),
            database.store_table(),
            path("server.pem"),
            path("server.key"),
            path("ca.pem"),
            path("passphrase"),
        );
        installation.write("vaultd.toml", &text);
        installation
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    pub(crate) fn write(&self, part: &str, content: impl AsRef<[u8]>) {
        write_private(&self.path(part), content);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("vaultd"));
        command.args(arguments).arg("--config").arg(self.path("vaultd.toml")).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if status.success() { Ok(text(&stdout)) } else { Err(text(&stderr)) }
    }

    pub(crate) fn migrate(&self, password: &Path) -> Result<String, String> {
        self.run(&["migrate", "--owner", OWNER, "--password-file", password.to_str().unwrap()])
    }

    pub(crate) fn serve(&self) -> Serving {
        self.start(&["serve"])
    }

    /// A command that goes on in the background; what it complains of goes to the log.
    pub(crate) fn start(&self, arguments: &[&str]) -> Serving {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        Serving(self.command(arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    pub(crate) fn connector(&self, principal: &str) -> Connector {
        let validity = Validity::hours_from(SystemClock.now(), 24);
        let request = Request::client(&format!("spiffe://vaultd-dev/{principal}"), validity);
        let leaf = self.authority.issue(&request).unwrap();
        let ca = self.authority.certificate_pem();
        let (chain, key) = (leaf.chain_pem.as_bytes(), leaf.private_key_pem.as_bytes());
        let address = format!("127.0.0.1:{}", self.port);
        Connector::new(&address, ca.as_bytes(), chain, key).unwrap()
    }

    pub(crate) async fn connect(&self, principal: &str) -> Channel {
        let connector = self.connector(principal);
        let begun = Instant::now();
        loop {
            match connector.connect().await {
                Ok(channel) => return channel,
                Err(problem) => {
                    let said = fs::read_to_string(self.path("log")).unwrap_or_default();
                    assert!(begun.elapsed() < START_TIMEOUT, "{problem}\n{said}");
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}
