//! A whole daemon in this process, over a store that a test can look at and break.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use vault_core::audit::Origin;
use vault_core::clock::{Clock, Timestamp};
use vault_core::crypto::passphrase::Params;
use vault_core::crypto::{SystemEntropy, sha256};
use vault_core::data::{Environment, PrincipalId};
use vault_core::keys::{Deal, KeyringFolder, Seal};
use vault_core::policy::Policy;
use vault_core::store::Store;
use vault_core::vault::SealedVault;
use vault_daemon::certificates::{Authority, Leaf, Request, Validity};
use vault_daemon::clock::SystemClock;
use vault_daemon::config::{Config, Engine, MetricsListen};
use vault_daemon::daemon::{Daemon, Site as DaemonSite, open_store};
use vault_daemon::dev::{DevFolder, ENVIRONMENT};
use vault_daemon::tls::ClientCaFiles;
use vault_proto::Connector;
use vault_proto::v1::audit_client::AuditClient;
use vault_proto::v1::{Entry, ListEntriesRequest, Receipt, entry};
use vault_tests::engines::put_on;

use crate::logs;
use crate::requests;
use crate::rpcs::{Answer, Ask, Refused};
use crate::stores::Gated;

pub(crate) const POLICY: &str = include_str!("policy.toml");
pub(crate) const PASSPHRASE: &str = "correct horse battery staple";
/// Whose the shares are, by number.
pub(crate) const CUSTODIANS: [&str; 3] = ["custodian", "opener", "slow-custodian"];
/// What is kept from the beginning: in shop, in shop restricted to research, in rival.
pub(crate) const OWN: &str = "4111111111111111";
pub(crate) const RESTRICTED: &str = "4012888888881881";
pub(crate) const FOREIGN: &str = "5555555555554444";
pub(crate) const SPARE: &str = "378282246310005";
pub(crate) const OWN_SSN: &str = "078-05-1120";

/// The engine in memory.
const MEMORY: &str = "memory";
/// Whatever a vault is kept on, callers must not see a difference. Not on sled, whose threads log while they
/// end: a process that keeps every line (`logs`) was aborted by that.
pub(crate) const EVERY_ENGINE: [&str; 3] = [MEMORY, "fjall", "postgres"];

/// A clock that only the test moves.
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::SeqCst))
    }
}

/// Tokens to ask about, and a receipt.
#[derive(Clone, Default)]
pub(crate) struct Stage {
    pub(crate) own: String,
    pub(crate) own_ssn: String,
    pub(crate) restricted: String,
    pub(crate) foreign: String,
    /// A record that nothing else asks about.
    pub(crate) spare: String,
    pub(crate) receipt: Receipt,
}

pub(crate) struct Site {
    pub(crate) store: Arc<Gated>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) authority: Authority,
    pub(crate) config: Config,
    pub(crate) stage: Stage,
    /// The texts of the shares, where shares open the vault.
    pub(crate) shares: Vec<String>,
    channels: RefCell<HashMap<String, Channel>>,
    daemon: Option<Daemon>,
    folder: DevFolder,
    _temporary: TempDir,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _, _| {}).await
    }

    /// Starts one whose rows are on a real engine, or in memory like those of all others.
    pub(crate) async fn start_on(engine: &str) -> Self {
        println!("on {engine}");
        Self::start_sealed_by(None, Some(engine).filter(|engine| *engine != MEMORY), |_, _, _| {}).await
    }

    /// Starts one whose configuration was changed first, with a few records in it.
    pub(crate) async fn start_with(change: impl FnOnce(&Path, &Authority, &mut Config)) -> Self {
        Self::start_sealed_by(None, None, change).await
    }

    /// Starts one that two of three shares open, each one custodian's.
    pub(crate) async fn start_shared() -> Self {
        let environment = Environment::parse(ENVIRONMENT).unwrap();
        let deal = Deal::draw(&environment, 2, 3, &mut SystemEntropy::new()).unwrap();
        Self::start_sealed_by(Some(&deal), None, |_, _, _| {}).await
    }

    async fn start_sealed_by(
        deal: Option<&Deal>,
        engine: Option<&str>,
        change: impl FnOnce(&Path, &Authority, &mut Config),
    ) -> Self {
        logs::capture();
        let temporary = TempDir::new().unwrap();
        let folder = DevFolder::open(&temporary.path().join("vault")).unwrap();
        let clock = Arc::new(TestClock(AtomicU64::new(SystemClock.now().seconds())));
        let authority = Authority::root("tests", Validity::hours_from(clock.now(), 24)).unwrap();
        let mut config = folder.config(Engine::Fjall).unwrap();
        set_up(folder.path(), &authority, clock.now(), &mut config);
        change(folder.path(), &authority, &mut config);
        let store = engine.map_or_else(Gated::default, |engine| Gated::on(open(engine, &mut config)));
        let mut site = Self {
            store: Arc::new(store),
            clock,
            authority,
            config,
            stage: Stage::default(),
            shares: deal.map_or_else(Vec::new, texts),
            channels: RefCell::default(),
            daemon: None,
            folder,
            _temporary: temporary,
        };
        let parts = site.parts();
        let custodians = CUSTODIANS.map(|name| PrincipalId::parse(name).unwrap());
        let seal = match deal {
            Some(deal) => Seal::Shares { deal, custodians: &custodians },
            None => Seal::Passphrase { passphrase: PASSPHRASE.as_bytes(), params: Params::FLOOR },
        };
        let vault = parts.init(&site.config, seal, site.clock.as_ref()).unwrap();
        let clock = Arc::clone(&site.clock);
        site.daemon = Some(Daemon::serve(site.config.clone(), parts, Some(vault), clock).unwrap());
        site.set_stage().await;
        site
    }

    fn parts(&self) -> DaemonSite {
        let vault = &self.config.vault;
        let store = Arc::clone(&self.store) as Arc<_>;
        let folder = KeyringFolder::new(&vault.keyring_folder);
        let origin = Origin::parse(&vault.audit_origin).unwrap();
        DaemonSite {
            sealed: SealedVault::new(Arc::clone(&store), folder, &vault.anchor_file, origin),
            store,
            policy: Arc::new(Policy::load(&vault.policy_file).unwrap()),
        }
    }

    /// Ends the daemon and starts another that is sealed, from files that may have changed.
    pub(crate) fn restart_sealed(&mut self) {
        drop(self.daemon.take());
        self.channels.borrow_mut().clear();
        let clock = Arc::clone(&self.clock);
        self.daemon = Some(Daemon::serve(self.config.clone(), self.parts(), None, clock).unwrap());
    }

    async fn set_stage(&mut self) {
        let client = |name| vault_proto::v1::tokenization_client::TokenizationClient::new(self.channel(name));
        let tokenize =
            |name, request| async move { client(name).tokenize(request).await.unwrap().into_inner() };
        let own = tokenize("checkout", requests::tokenize(requests::card(OWN))).await;
        let own_ssn = tokenize("checkout", requests::tokenize(requests::ssn(OWN_SSN))).await;
        let mut restricted = requests::tokenize(requests::card(RESTRICTED));
        restricted.purposes = vec!["research".to_owned()];
        let restricted = tokenize("checkout", restricted).await;
        let foreign = tokenize("rival-checkout", requests::tokenize(requests::card(FOREIGN))).await;
        let spare = tokenize("checkout", requests::tokenize(requests::card(SPARE))).await;
        self.stage = Stage {
            own: own.token,
            own_ssn: own_ssn.token,
            restricted: restricted.token,
            foreign: foreign.token,
            spare: spare.token,
            receipt: own.receipt.unwrap(),
        };
    }

    /// A text that bears the name of the present set, and is none of its shares.
    pub(crate) fn forged_share(&self) -> String {
        let fields: Vec<&str> = self.shares[0].split('_').collect();
        let content = format!("{}_{}", fields[..5].join("_"), "ab".repeat(32));
        let hash = sha256(&[b"vault/share/1", content.as_bytes()]);
        let letters = |byte: &u8| [byte >> 4, byte & 15].map(|bits| char::from(b'a' + bits));
        format!("{content}_{}", hash[..5].iter().flat_map(letters).collect::<String>())
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.folder.path().join(part)
    }

    /// A certificate as a request has it.
    pub(crate) fn issue(&self, principal: &str) -> Leaf {
        let validity = Validity::hours_from(self.clock.now(), 24);
        self.authority.issue(&Request::client(&identity(principal), validity)).unwrap()
    }

    pub(crate) fn connector(&self, leaf: &Leaf) -> Connector {
        let server_ca = fs::read(self.path("certs/clients.pem")).unwrap();
        let (chain, key) = (leaf.chain_pem.as_bytes(), leaf.private_key_pem.as_bytes());
        Connector::new(&self.daemon().local_addr().to_string(), &server_ca, chain, key).unwrap()
    }

    /// A principal's connection, made when it is first used.
    pub(crate) fn channel(&self, principal: &str) -> Channel {
        let mut channels = self.channels.borrow_mut();
        let made = || self.connector(&self.issue(principal)).connect_lazy().unwrap();
        channels.entry(principal.to_owned()).or_insert_with(made).clone()
    }

    pub(crate) async fn ask(&self, principal: &str, ask: Ask) -> Result<Answer, tonic::Status> {
        ask.send(self.channel(principal)).await
    }

    pub(crate) async fn seal(&self) {
        self.ask("opener", requests::seal("test")).await.unwrap();
    }

    pub(crate) async fn unseal(&self) {
        self.ask("opener", requests::unseal(PASSPHRASE)).await.unwrap();
    }

    /// Unseals a vault that seals itself: its status says sealed a moment before its keys are wiped, and who
    /// comes in between is told to come again.
    pub(crate) async fn unseal_after_sealing(&self) {
        for _ in 0..100 {
            match Refused::of(self.ask("opener", requests::unseal(PASSPHRASE)).await) {
                None => return,
                Some(refused) => assert_eq!(refused.reason.as_deref(), Some("BUSY")),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the sealing does not end");
    }

    /// Waits until a vault whose store was away serves again by itself.
    pub(crate) async fn wait_until_serving(&self) {
        let mut health = HealthClient::new(self.channel("watch"));
        for _ in 0..200 {
            let request = HealthCheckRequest { service: "vault.v1.Audit".to_owned() };
            if health.check(request).await.unwrap().get_ref().status() == ServingStatus::Serving {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the vault does not come back");
    }

    /// Where the log ends now, who looks included.
    pub(crate) async fn log_size(&self) -> u64 {
        let request = ListEntriesRequest { start_index: 0, page_size: 1 };
        let listed = AuditClient::new(self.channel("watch")).list_entries(request).await.unwrap();
        listed.into_inner().log_size
    }

    /// Everybody's entries from `mark` on, but for those of who looks.
    pub(crate) async fn entries_since(&self, mark: u64) -> Vec<Entry> {
        let mut client = AuditClient::new(self.channel("watch"));
        let mut entries = Vec::new();
        let (mut start_index, mut end) = (mark, u64::MAX);
        while start_index < end {
            let request = ListEntriesRequest { start_index, page_size: 500 };
            let listed = client.list_entries(request).await.unwrap().into_inner();
            end = end.min(listed.log_size);
            start_index = listed.next_index;
            entries.extend(listed.entries);
        }
        entries.retain(|entry| actor(entry) != "watch");
        entries
    }

    /// The metrics, as a scraper reads them.
    pub(crate) async fn metrics(&self) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let address = self.daemon().metrics_addr().unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}

fn open(engine: &str, config: &mut Config) -> Arc<dyn Store> {
    put_on(engine, config);
    open_store(&config.store, &Origin::parse(&config.vault.audit_origin).unwrap()).unwrap()
}

fn texts(deal: &Deal) -> Vec<String> {
    deal.shares().iter().map(|share| share.to_text().to_string()).collect()
}

/// The principal of an entry; `stranger` for an identity that no policy knows.
pub(crate) fn actor(entry: &Entry) -> &str {
    match entry.actor.as_ref().unwrap() {
        entry::Actor::Principal(name) => name,
        entry::Actor::UnknownIdentityHash(_) => "stranger",
        entry::Actor::Vault(_) => "vault",
    }
}

fn identity(principal: &str) -> String {
    format!("spiffe://tests/{principal}")
}

pub(crate) fn write_private(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// One CA for server and clients, the policy of these tests, one core, metrics.
fn set_up(folder: &Path, authority: &Authority, now: Timestamp, config: &mut Config) {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let server = Request::server(&["localhost"], &[loopback], Validity::hours_from(now, 24));
    let server = authority.issue(&server).unwrap();
    write_private(&folder.join("certs/server.pem"), server.chain_pem.as_bytes());
    write_private(&folder.join("certs/server.key"), server.private_key_pem.as_bytes());
    let certificate = folder.join("certs/clients.pem");
    write_private(&certificate, authority.certificate_pem().as_bytes());
    write_private(&folder.join("policy.toml"), POLICY.as_bytes());
    let tls = &mut config.listen.tls;
    tls.client_cas =
        vec![ClientCaFiles { name: "tests".to_owned(), certificate, revocation_lists: Vec::new() }];
    // One core has the whole lane, so that it can be filled exactly.
    config.listen.cores = Some(1);
    config.metrics = MetricsListen::Loopback(SocketAddr::new(loopback, 0));
}
