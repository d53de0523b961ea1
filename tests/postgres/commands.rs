//! `vaultd` on a PostgreSQL store as an operator runs it: migrate, init, serve, kill, serve again, check.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use vault_core::clock::Clock as _;
use vault_daemon::certificates::{Authority, Request, Validity};
use vault_daemon::clock::SystemClock;
use vault_proto::Connector;
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_proto::v1::{DetokenizeRequest, TokenizeRequest};
use vault_tests::cluster::{Cluster, Database, OWNER};
use vault_tests::process::program;
use vault_tests::values::{card, digits};

const POLICY: &str = include_str!("../../vault-daemon/src/dev/policy.toml");
const PAN: &str = "4111111111111111";
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Everything an operator lays out before the first start.
struct Installation {
    folder: TempDir,
    authority: Authority,
    port: u16,
}

/// A daemon that is killed when the test ends.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Installation {
    fn on(database: &Database<'_>) -> Self {
        let folder = TempDir::new().unwrap();
        let validity = Validity::hours_from(SystemClock.now(), 24);
        let authority = Authority::root("tests", validity).unwrap();
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
            fs::create_dir(installation.path(part)).unwrap();
            fs::set_permissions(installation.path(part), fs::Permissions::from_mode(0o700)).unwrap();
        }
        let path = |part: &str| installation.path(part).display().to_string();
        let text = format!(
            "[vault]\nenvironment = \"tests\"\nkeyring_folder = \"{}\"\nanchor_file = \"{}\"\n\
             policy_file = \"{}\"\naudit_origin = \"tests.invalid/log\"\n{}\
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

    fn path(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    fn write(&self, part: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(part), content).unwrap();
        fs::set_permissions(self.path(part), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("vaultd"));
        command.args(arguments).arg("--config").arg(self.path("vaultd.toml")).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if status.success() { Ok(text(&stdout)) } else { Err(text(&stderr)) }
    }

    fn migrate(&self, password: &Path) -> Result<String, String> {
        self.run(&["migrate", "--owner", OWNER, "--password-file", password.to_str().unwrap()])
    }

    fn serve(&self) -> Serving {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        Serving(self.command(&["serve"]).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    async fn connect(&self, principal: &str) -> Channel {
        let validity = Validity::hours_from(SystemClock.now(), 24);
        let request = Request::client(&format!("spiffe://vaultd-dev/{principal}"), validity);
        let leaf = self.authority.issue(&request).unwrap();
        let ca = self.authority.certificate_pem();
        let (chain, key) = (leaf.chain_pem.as_bytes(), leaf.private_key_pem.as_bytes());
        let address = format!("127.0.0.1:{}", self.port);
        let connector = Connector::new(&address, ca.as_bytes(), chain, key).unwrap();
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

#[test]
fn a_vault_in_a_database_is_made_served_killed_served_again_and_checked() {
    let cluster = Cluster::shared();
    let database = cluster.empty_database();
    let site = Installation::on(&database);
    let refused = site.run(&["init"]).unwrap_err();
    assert!(refused.contains("vaultd migrate"), "{refused}");
    assert!(site.migrate(&cluster.password_file()).unwrap().contains("from version 0 to 1"));
    assert!(site.migrate(&cluster.password_file()).unwrap().contains("version 1 already"));
    let plan = site.run(&["check-config"]).unwrap();
    assert!(plan.contains(&format!("store in the PostgreSQL database {}", database.name())), "{plan}");
    site.run(&["init"]).unwrap();
    assert!(site.run(&["init"]).unwrap_err().contains("there is a vault here already"));
    let runtime = Runtime::new().unwrap();
    let serving = site.serve();
    let token = runtime.block_on(async {
        let request = TokenizeRequest { value: Some(card(PAN)), ..TokenizeRequest::default() };
        let mut client = TokenizationClient::new(site.connect("checkout").await);
        client.tokenize(request).await.unwrap().into_inner().token
    });
    let refused = site.run(&["check"]).unwrap_err();
    assert!(refused.contains("another process or handle has this log"), "{refused}");
    // As `kill -9`; the next one takes over at once.
    drop(serving);
    let serving = site.serve();
    let value = runtime.block_on(async {
        let mut client = TokenizationClient::new(site.connect("billing").await);
        let request = DetokenizeRequest {
            token: token.clone(),
            purpose: "settlement".to_owned(),
            recipient: "acquirer".to_owned(),
            reference: "after-kill".to_owned(),
        };
        client.detokenize(request).await.unwrap().into_inner().value
    });
    assert_eq!(digits(value.as_ref()), PAN.as_bytes());
    drop(serving);
    let report = site.run(&["check"]).unwrap();
    assert!(report.contains(" 1 records and 1 index rows read"), "{report}");
    // A record that somebody removes is missed.
    database.sql("DELETE FROM vault.rows WHERE space = 1");
    assert!(site.run(&["check"]).unwrap_err().contains("findings"));
}

/// Files of the embedded engines have no schema.
#[test]
fn only_a_postgres_store_is_migrated() {
    let cluster = Cluster::shared();
    let site = Installation::on(&cluster.empty_database());
    let text = fs::read_to_string(site.path("vaultd.toml")).unwrap();
    let begin = text.find("[store]").unwrap();
    let end = text.find("[listen]").unwrap();
    let folder = site.path("store").display().to_string();
    let embedded = format!("{}[store]\nfolder = \"{folder}\"\n{}", &text[..begin], &text[end..]);
    site.write("vaultd.toml", embedded);
    assert!(site.migrate(&cluster.password_file()).unwrap_err().contains("only postgres has a schema"));
}
