//! Three daemons over one database, each a process of its own, asked over mutual TLS at the same time.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;
use vault_core::audit::{Action, Entry, Receipt, VerifierKey, leaf_hash};
use vault_core::clock::Clock as _;
use vault_core::crypto::SystemEntropy;
use vault_core::data::{CallerText, TenantId};
use vault_core::keys::Credential;
use vault_core::policy::Identity;
use vault_core::vault::{DestroyedKey, KeyOrder, Reply, Request};
use vault_daemon::clock::SystemClock;
use vault_daemon::config::Config;
use vault_proto::v1::keys_client::KeysClient;
use vault_proto::v1::rewrap::Phase;
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_proto::v1::{Class, KeyVersion, ListKeysRequest, RotateKeysRequest, key_version};
use vault_proto::v1::{DetokenizeRequest, TokenizeRequest};
use vault_proto::{Daemons, reason};
use vault_tests::cluster::{Cluster, Database};
use vault_tests::values::{Seeded, card, digits, seed};

use crate::LOG;
use crate::installation::{Installation, POLICY, Serving};

pub(crate) const DAEMONS: usize = 3;
pub(crate) const LIMIT: u32 = 192;
/// What a daemon draws of it at a time.
const SLICE: u32 = 3;
/// A tenant where a value may have many tokens, and a principal with a limit.
const MORE: &str = r#"
[[tenant]]
id = "plain"
classes = ["pan"]

[[principal]]
id = "plain"
identity = "uri:spiffe://vaultd-dev/plain"
tenant = "plain"
role = "checkout"
rights = ["tokenize"]
classes = ["pan"]

[[principal]]
id = "limited"
identity = "uri:spiffe://vaultd-dev/limited"
tenant = "plain"
role = "checkout"
rights = ["tokenize"]
classes = ["pan"]
requests_per_minute = 192

[[principal]]
id = "plain-billing"
identity = "uri:spiffe://vaultd-dev/plain-billing"
tenant = "plain"
role = "billing"
rights = ["detokenize"]
classes = ["pan"]
purposes = ["settlement"]
recipients = ["acquirer"]
requests_per_minute = 1_000_000
distinct_tokens_per_day = 10_000_000
"#;

/// One vault with a daemon for each installation.
pub(crate) struct Site {
    pub(crate) installations: Vec<Installation>,
    pub(crate) serving: Vec<Option<Serving>>,
    pub(crate) runtime: Runtime,
}

/// The name of a daemon's log.
pub(crate) fn log_of(daemon: usize) -> String {
    if daemon == 0 { LOG.to_owned() } else { format!("{LOG}-{}", daemon + 1) }
}

impl Site {
    pub(crate) fn start(database: &Database<'_>) -> Self {
        let policy = format!("{POLICY}{MORE}");
        let first = Installation::on(database);
        first.write("policy.toml", &policy);
        first.run(&["init"]).unwrap();
        let mut installations = vec![first];
        for daemon in 1..DAEMONS {
            let next = installations[0].beside(database, &log_of(daemon));
            next.write("policy.toml", &policy);
            let said = next.run(&["join"]).unwrap();
            assert!(said.contains("verifier key of this daemon's log: tests.invalid/log-"), "{said}");
            installations.push(next);
        }
        let serving = installations.iter().map(|installation| Some(installation.serve())).collect();
        Self { installations, serving, runtime: Runtime::new().unwrap() }
    }

    pub(crate) fn client(&self, daemon: usize, principal: &str) -> TokenizationClient<Channel> {
        TokenizationClient::new(self.runtime.block_on(self.installations[daemon].connect(principal)))
    }

    pub(crate) fn clients(&self, principal: &str) -> Vec<TokenizationClient<Channel>> {
        (0..DAEMONS).map(|daemon| self.client(daemon, principal)).collect()
    }

    /// All daemons, for a client that asks whichever answers.
    pub(crate) fn daemons(&self, principal: &str) -> Daemons {
        let connectors: Vec<_> =
            self.installations.iter().map(|installation| installation.connector(principal)).collect();
        let _inside = self.runtime.enter();
        Daemons::new(&connectors).unwrap()
    }

    pub(crate) fn kill(&mut self, daemon: usize) {
        drop(self.serving[daemon].take());
    }

    pub(crate) fn start_again(&mut self, daemon: usize) {
        self.serving[daemon] = Some(self.installations[daemon].serve());
    }

    /// Asks every daemon for the same things at the same time; what each answered.
    fn ask_all<T: Send + 'static>(
        &self,
        principal: &str,
        requests: &[TokenizeRequest],
        told: impl Fn(Result<String, tonic::Status>) -> T + Copy + Send + 'static,
    ) -> Vec<Vec<T>> {
        let asking = self.clients(principal).into_iter().map(|mut client| {
            let requests = requests.to_vec();
            self.runtime.spawn(async move {
                let mut answers = Vec::new();
                for request in requests {
                    let answer = client.tokenize(request).await;
                    answers.push(told(answer.map(|answer| answer.into_inner().token)));
                }
                answers
            })
        });
        let asking: Vec<_> = asking.collect();
        asking.into_iter().map(|asked| self.runtime.block_on(asked).unwrap()).collect()
    }

    /// Has every daemon tokenize until told to stop, or killed. Each gives what was acknowledged.
    fn load(
        &self,
        stop: &Arc<AtomicBool>,
        pause: Duration,
        numbers: &mut Seeded,
    ) -> Vec<JoinHandle<Vec<(String, String)>>> {
        let clients = self.clients("checkout").into_iter().flat_map(|client| vec![client; 4]);
        let asking = clients.map(|mut client| {
            let (stop, mut numbers) = (Arc::clone(stop), Seeded::new(numbers.next()));
            self.runtime.spawn(async move {
                let mut acknowledged = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let pan = numbers.pan(16);
                    match client.tokenize(tokenize(&pan, "")).await {
                        Ok(answer) => acknowledged.push((answer.into_inner().token, pan)),
                        // The one that was killed; all others only say that it is not the time.
                        Err(refused) if reason(&refused).is_none() => break,
                        Err(_) => {}
                    }
                    tokio::time::sleep(pause).await;
                }
                acknowledged
            })
        });
        asking.collect()
    }

    /// The versions of the shop's PAN keys, once they are as wanted.
    fn keys_until(&self, daemon: usize, wanted: impl Fn(&[KeyVersion]) -> bool) -> Vec<KeyVersion> {
        let begun = Instant::now();
        let channel = self.runtime.block_on(self.installations[daemon].connect("custodian"));
        let mut client = KeysClient::new(channel);
        loop {
            let request = ListKeysRequest { page_size: 200, ..ListKeysRequest::default() };
            let listed = self.runtime.block_on(client.list_keys(request)).unwrap().into_inner().keys;
            let keys: Vec<_> =
                listed.into_iter().filter(|key| key.tenant == "shop" && key.class() == Class::Pan).collect();
            if wanted(&keys) {
                return keys;
            }
            assert!(begun.elapsed() < Duration::from_secs(300), "daemon {daemon}: {keys:?}");
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn value_of(&self, client: &mut TokenizationClient<Channel>, token: &str) -> Vec<u8> {
        let request = DetokenizeRequest {
            token: token.to_owned(),
            purpose: "settlement".to_owned(),
            recipient: "acquirer".to_owned(),
            reference: "several".to_owned(),
        };
        let answer = self.runtime.block_on(client.detokenize(request)).unwrap().into_inner();
        digits(answer.value.as_ref()).to_vec()
    }
}

pub(crate) fn tokenize(pan: &str, idempotency_key: &str) -> TokenizeRequest {
    TokenizeRequest {
        value: Some(card(pan)),
        idempotency_key: idempotency_key.to_owned(),
        ..TokenizeRequest::default()
    }
}

#[test]
fn three_daemons_are_one_vault() {
    let database = Cluster::shared().database();
    let mut site = Site::start(&database);
    let mut numbers = Seeded::new(seed());
    one_token_per_value(&site, &mut numbers);
    one_outcome_per_key(&site, &mut numbers);
    a_limit_is_kept(&site, &mut numbers);
    let acknowledged = under_load(&mut site, &mut numbers);
    assert!(acknowledged.len() > 100, "{} were acknowledged", acknowledged.len());
    for daemon in [0, 2] {
        let mut client = site.client(daemon, "billing");
        for (token, pan) in &acknowledged {
            assert_eq!(site.value_of(&mut client, token), pan.as_bytes(), "by daemon {daemon}");
        }
    }
    policies_are_compared(&mut site);
    // One daemon is stopped for it; another was killed, the third one serves on.
    drop(site.serving[0].take());
    let report = site.installations[0].run(&["check"]).unwrap();
    for daemon in 0..DAEMONS {
        assert!(report.contains(&format!("log {}: ", log_of(daemon))), "{report}");
    }
}

fn one_token_per_value(site: &Site, numbers: &mut Seeded) {
    let requests: Vec<_> = (0..60).map(|_| tokenize(&numbers.pan(16), "")).collect();
    let tokens = site.ask_all("checkout", &requests, Result::unwrap);
    assert!(tokens.iter().all(|told| *told == tokens[0]), "a value has two tokens");
    assert_eq!(tokens[0].iter().collect::<HashSet<_>>().len(), requests.len());
}

fn one_outcome_per_key(site: &Site, numbers: &mut Seeded) {
    let requests: Vec<_> =
        (0..60).map(|number| tokenize(&numbers.pan(16), &format!("order-{number}"))).collect();
    let tokens = site.ask_all("plain", &requests, Result::unwrap);
    assert!(tokens.iter().all(|told| *told == tokens[0]), "a key has two outcomes");
    let other = tokenize(&numbers.pan(16), "order-7");
    let refused = site.runtime.block_on(site.client(2, "plain").tokenize(other)).unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists, "{refused}");
}

/// All daemons are asked for the whole limit each, within one minute.
fn a_limit_is_kept(site: &Site, numbers: &mut Seeded) {
    let requests: Vec<_> = (0..LIMIT).map(|_| tokenize(&numbers.pan(16), "")).collect();
    for _ in 0..5 {
        let begun = SystemClock.now().minute();
        let served = site.ask_all("limited", &requests, |told| match told {
            Ok(_) => 1,
            Err(refused) => {
                assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
                0
            }
        });
        let served: u32 = served.iter().flatten().sum();
        if SystemClock.now().minute() == begun {
            let slices = SLICE * u32::try_from(DAEMONS).unwrap();
            assert!((LIMIT - slices..=LIMIT).contains(&served), "{served} of {LIMIT}");
            return;
        }
        let seconds = SystemClock.now().seconds() % 60;
        thread::sleep(Duration::from_secs(60 - seconds));
    }
    panic!("no minute was long enough");
}

/// Every daemon tokenizes while one of them is killed: what was acknowledged.
fn under_load(site: &mut Site, numbers: &mut Seeded) -> Vec<(String, String)> {
    let stop = Arc::new(AtomicBool::new(false));
    let asking = site.load(&stop, Duration::ZERO, numbers);
    thread::sleep(Duration::from_secs(2));
    drop(site.serving[1].take());
    thread::sleep(Duration::from_secs(2));
    stop.store(true, Ordering::Relaxed);
    asking.into_iter().flat_map(|asked| site.runtime.block_on(asked).unwrap()).collect()
}

/// A daemon that decides by another policy is told of by the others.
fn policies_are_compared(site: &mut Site) {
    drop(site.serving[2].take());
    let policy = fs::read_to_string(site.installations[2].path("policy.toml")).unwrap();
    site.installations[2].write("policy.toml", format!("{policy}\n# another\n"));
    site.serving[2] = Some(site.installations[2].serve());
    let begun = Instant::now();
    loop {
        let log = fs::read_to_string(site.installations[0].path("log")).unwrap();
        if log.lines().any(|line| line.contains("policies_differ") && line.contains("log-3")) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody said that policies differ:\n{log}");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn keys_rotate_under_load_with_a_daemon_killed_and_the_old_ones_are_destroyed() {
    let database = Cluster::shared().database();
    let mut site = Site::start(&database);
    let mut numbers = Seeded::new(seed());
    let stop = Arc::new(AtomicBool::new(false));
    let asking = site.load(&stop, Duration::from_millis(50), &mut numbers);
    thread::sleep(Duration::from_secs(1));
    let request =
        RotateKeysRequest { tenant: "shop".to_owned(), class: Class::Pan.into(), reason: "drill".to_owned() };
    // One is killed, and has not confirmed anything when the others rotate.
    drop(site.serving[1].take());
    let mut custodian = KeysClient::new(site.runtime.block_on(site.installations[0].connect("custodian")));
    let other = RotateKeysRequest { class: Class::Ssn.into(), ..request.clone() };
    let rotated = site.runtime.block_on(custodian.rotate_keys(request)).unwrap().into_inner();
    let refused = site.runtime.block_on(custodian.rotate_keys(other)).unwrap_err();
    assert_eq!(reason(&refused).as_deref(), Some("KEY_UNCONFIRMED"), "{refused}");
    assert_eq!((rotated.version, rotated.state()), (2, key_version::State::Announced));
    site.keys_until(2, |keys| keys[1].state() == key_version::State::Announced);
    site.serving[1] = Some(site.installations[1].serve());
    site.keys_until(2, |keys| keys[1].state() == key_version::State::Enabled);
    drop(site.serving[2].take());
    site.serving[2] = Some(site.installations[2].serve());
    site.keys_until(2, |keys| keys[1].rewrap.is_some_and(|rewrap| rewrap.phase() == Phase::Done));
    stop.store(true, Ordering::Relaxed);
    let acknowledged: Vec<_> =
        asking.into_iter().flat_map(|asked| site.runtime.block_on(asked).unwrap()).collect();
    assert!(acknowledged.len() > 100, "{} were acknowledged", acknowledged.len());
    let proven = site.keys_until(1, |keys| keys[1].rewrap.is_some());
    assert_eq!(proven[1].rewrap.unwrap().left, 0, "nothing is left under the old version");
    all_open(&site, &acknowledged);
    site.serving.iter_mut().for_each(|serving| drop(serving.take()));
    destroyed_a_day_later(&site.installations[0]);
    for daemon in [1, 2] {
        site.serving[daemon] = Some(site.installations[daemon].serve());
        site.keys_until(daemon, |keys| keys[0].state() == key_version::State::Destroyed);
    }
    site.serving[0] = Some(site.installations[0].serve());
    all_open(&site, &acknowledged);
}

/// Every token opens, each at one daemon after the other.
fn all_open(site: &Site, acknowledged: &[(String, String)]) {
    let mut clients = site.clients("billing");
    for (at, (token, pan)) in acknowledged.iter().enumerate() {
        assert_eq!(site.value_of(&mut clients[at % DAEMONS], token), pan.as_bytes());
    }
}

/// Destroys the first version of the shop's keys as a custodian would two days from now, and verifies the
/// certificate with the public key alone.
fn destroyed_a_day_later(installation: &Installation) {
    let config = Config::load(&installation.path("vaultd.toml")).unwrap();
    let site = vault_daemon::daemon::Site::open(&config).unwrap();
    let now = SystemClock.now().plus_seconds(2 * 24 * 60 * 60);
    let who = Identity::parse("uri:spiffe://vaultd-dev/custodian").unwrap();
    let given = Credential::Passphrase(b"correct horse battery staple");
    let mut entropy = SystemEntropy::new();
    let vault = site.sealed.unseal(given, &who, Arc::clone(&site.policy), now, &mut entropy).unwrap();
    let order = KeyOrder {
        tenant: TenantId::parse("shop").unwrap(),
        class: vault_core::data::Class::Pan,
        destroy: Some(1),
        reason: CallerText::parse("drill").unwrap(),
    };
    let call = vault.prepare(&who, Request::Keys(order.clone()), now, &mut entropy);
    let answer = vault.commit(&[call], &mut entropy).pop().unwrap().into_result();
    let Ok(Reply::Granted(grant)) = answer else { panic!("denied") };
    let DestroyedKey { receipt, entry, inclusion } =
        vault.destroy(&grant, &order, now, &mut entropy).ok().unwrap();
    let key = VerifierKey::new(vault.origin().clone(), vault.verifying_key());
    let head = key.verify(&inclusion.checkpoint).unwrap();
    let receipt = Receipt { leaf_hash: leaf_hash(&entry), ..receipt };
    assert!(receipt.verify(&head, &inclusion.hashes));
    let entry = Entry::from_bytes(&entry).unwrap();
    assert_eq!((entry.action, entry.key_version), (Action::KeyDestroyed, 1));
    assert_eq!(vault.check(now, &mut entropy).unwrap().findings, []);
}

#[test]
fn a_daemon_joins_once_with_the_vaults_own_keyring() {
    let database = Cluster::shared().database();
    let first = Installation::on(&database);
    first.run(&["init"]).unwrap();
    let second = first.beside(&database, "tests.invalid/second");
    let refused = second.run(&["check"]).unwrap_err();
    assert!(refused.contains("there is no anchor file"), "{refused}");
    second.run(&["join"]).unwrap();
    assert!(second.run(&["join"]).unwrap_err().contains("there is a vault here already"));

    // Another process with the same origin, on a host of its own.
    let twin = first.beside(&database, "tests.invalid/second");
    assert!(twin.run(&["join"]).unwrap_err().contains("there is a vault here already"));
    let serving = second.serve();
    Runtime::new().unwrap().block_on(second.connect("checkout"));
    let refused = twin.run(&["serve"]).unwrap_err();
    assert!(refused.contains("another process or handle has this log"), "{refused}");
    drop(serving);

    // A daemon that serves is not retired; one that does not, for ever.
    let retire = ["retire", "--log", "tests.invalid/second"];
    let serving = second.serve();
    Runtime::new().unwrap().block_on(second.connect("checkout"));
    assert!(first.run(&retire).unwrap_err().contains("another process or handle has this log"));
    drop(serving);
    first.run(&retire).unwrap();
    assert!(second.run(&["serve"]).unwrap_err().contains("this daemon's log was retired"));

    let other_vault = Cluster::shared().database();
    let stranger = Installation::on(&other_vault);
    stranger.run(&["init"]).unwrap();
    let third = first.beside(&database, "tests.invalid/third");
    third.copy_keyring(&stranger);
    assert!(third.run(&["join"]).unwrap_err().contains("register of daemons"));

    let empty = Cluster::shared().database();
    assert!(
        first
            .beside(&empty, "tests.invalid/fourth")
            .run(&["join"])
            .unwrap_err()
            .contains("no daemon to join")
    );
}
