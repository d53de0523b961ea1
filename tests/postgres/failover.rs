//! Three daemons over a primary and its synchronous standby, under load, while one after another is killed or
//! stopped in its tracks, and the standby takes the primary's place again and again.
//!
//! What callers were told is judged by `history`, what stands in the logs as an auditor would. A server that
//! was cut off comes back as another primary for a while before it is killed: it acknowledges nothing.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::JoinHandle;
use tonic::Status;
use tonic::transport::Channel;
use vault_core::clock::Clock as _;
use vault_core::store::{Commit, Fault, Store as _};
use vault_daemon::clock::SystemClock;
use vault_daemon::store::postgres::{PostgresOptions, PostgresStore};
use vault_proto::reason;
use vault_proto::v1::batch_detokenize_result::Verdict;
use vault_proto::v1::batches_client::BatchesClient;
use vault_proto::v1::tokenization_client::TokenizationClient;
use vault_proto::v1::{BatchDetokenizeItem, BatchDetokenizeRequest, DetokenizeRequest, TokenizeRequest};
use vault_tests::cluster::Cluster;
use vault_tests::log::AuditedLog;
use vault_tests::values::{Seeded, card, digits, seed};

use crate::history::{Ask, End, Event, broken};
use crate::several::{DAEMONS, LIMIT, Site, log_of};
use crate::{LOG, insert, is_there, reopened, written};

/// Set to a number, so many rounds are gone instead of these.
const ROUNDS_VARIABLE: &str = "VAULT_TESTS_FAILOVER_ROUNDS";
const ROUNDS: usize = 6;
const CALLERS_PER_DAEMON: usize = 3;
/// Between two calls of one caller.
const PAUSE: Duration = Duration::from_millis(10);
const PAUSE_REFUSED: Duration = Duration::from_millis(100);
/// From a blow to the next look: at most, so that it hits anywhere.
const BLOW_MS_MAX: u64 = 800;
/// Longer than a daemon waits for an answer of the database.
const TOO_LONG: Duration = Duration::from_secs(4);
/// In which a server that was cut off is a second primary.
const TWO_PRIMARIES: Duration = Duration::from_secs(1);
/// A guard, not a measurement.
const RETURN_MAX: Duration = Duration::from_secs(180);
/// Calls that ask for the same at about the same time.
const SAME_VALUE: u64 = 6;
const SAME_KEY: u64 = 4;
const BATCH: usize = 500;

#[test]
fn nothing_acknowledged_is_lost_when_daemons_and_primaries_are_killed_and_stopped() {
    let given = std::env::var(ROUNDS_VARIABLE).ok().map(|text| text.parse().unwrap());
    let long = std::env::var_os("VAULT_TESTS_LONG").is_some();
    let rounds = given.unwrap_or(if long { 10 * ROUNDS } else { ROUNDS });
    let seed = seed();
    println!("failover: {rounds} rounds, VAULT_TESTS_SEED={seed}");
    let begun = Instant::now();
    let mut drill = Drill::start(seed);
    (0..rounds).for_each(|round| drill.round(round));
    let history = drill.end_of_load();
    drill.expect_values(&history);
    drill.expect_logs(&history);
    println!("failover: {}, {:.0?}", told(&history), begun.elapsed());
}

/// How many calls ended how.
fn told(history: &[Event]) -> String {
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for event in history {
        let end = match &event.end {
            End::Token(..) => "tokens",
            End::Value(_) => "values",
            End::Refused(reason) => reason,
            End::Unanswered => "unanswered",
        };
        *ends.entry(end).or_default() += 1;
    }
    format!("{ends:?}")
}

/// The vault, what it stands on, and its callers.
struct Drill {
    primary: Cluster,
    standby: Cluster,
    site: Site,
    /// How often each daemon was started.
    starts: [usize; DAEMONS],
    random: Seeded,
    load: Arc<Load>,
    callers: Vec<JoinHandle<()>>,
}

/// What callers share.
struct Load {
    seed: u64,
    ended: AtomicBool,
    values: AtomicU64,
    keys: AtomicU64,
    /// Tokens of the tenant that gives values back.
    given: Mutex<Vec<String>>,
    history: Mutex<Vec<Event>>,
}

impl Drill {
    fn start(seed: u64) -> Self {
        let primary = Cluster::start();
        let database = primary.database();
        let standby = primary.with_standby();
        let site = Site::start(&database.with_standby(&standby));
        let load = Arc::new(Load {
            seed,
            ended: AtomicBool::new(false),
            values: AtomicU64::new(0),
            keys: AtomicU64::new(0),
            given: Mutex::default(),
            history: Mutex::default(),
        });
        let mut random = Seeded::new(seed);
        let mut callers = Vec::new();
        for daemon in 0..DAEMONS {
            let clients = Clients::of(&site, daemon);
            for _ in 0..CALLERS_PER_DAEMON {
                let caller = call_on(Arc::clone(&load), clients.clone(), Seeded::new(random.next()));
                callers.push(site.runtime.spawn(caller));
            }
        }
        Self { primary, standby, site, starts: [1; DAEMONS], random, load, callers }
    }

    /// One blow; then everything must be well again.
    fn round(&mut self, round: usize) {
        thread::sleep(Duration::from_millis(self.random.below(BLOW_MS_MAX)));
        let daemon = usize::try_from(self.random.below(DAEMONS as u64)).unwrap();
        match round % 4 {
            0 => self.kill_daemon(daemon),
            1 => self.kill_primary(),
            2 => self.stop_daemon(daemon),
            _ => self.stop_primary(),
        }
        (0..DAEMONS).for_each(|daemon| self.wait_until_served(daemon));
    }

    fn kill_daemon(&mut self, daemon: usize) {
        drop(self.site.serving[daemon].take());
        thread::sleep(Duration::from_millis(self.random.below(BLOW_MS_MAX)));
        self.site.serving[daemon] = Some(self.site.installations[daemon].serve());
        self.starts[daemon] += 1;
    }

    fn stop_daemon(&self, daemon: usize) {
        let serving = self.site.serving[daemon].as_ref().unwrap();
        serving.signal(Signal::STOP);
        thread::sleep(TOO_LONG);
        serving.signal(Signal::CONT);
    }

    fn kill_primary(&mut self) {
        self.primary.kill_hard();
        self.standby.promote();
        self.exchange();
    }

    /// A primary that does not answer for a while, wakes up when another has taken its place, and learns of
    /// nothing.
    fn stop_primary(&mut self) {
        self.primary.freeze();
        thread::sleep(TOO_LONG);
        self.standby.promote();
        self.primary.thaw();
        thread::sleep(TWO_PRIMARIES);
        self.primary.kill_hard();
        self.exchange();
    }

    /// What was the primary follows what was the standby.
    fn exchange(&mut self) {
        self.primary.follow(&self.standby);
        std::mem::swap(&mut self.primary, &mut self.standby);
    }

    /// Without a start or an unsealing that this test does not know of.
    fn wait_until_served(&self, daemon: usize) {
        let clients = Clients::of(&self.site, daemon);
        let begun = Instant::now();
        loop {
            let ask = Ask::OfValue(self.load.pan(self.load.values.fetch_add(SAME_VALUE, Ordering::Relaxed)));
            let served = self.site.runtime.block_on(self.load.call(&clients, ask));
            match served {
                ControlFlow::Break(()) => return,
                ControlFlow::Continue(problem) => {
                    let log = fs::read_to_string(self.site.installations[daemon].path("log")).unwrap();
                    assert!(begun.elapsed() < RETURN_MAX, "daemon {daemon}: {problem}\n{log}");
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn end_of_load(&mut self) -> Vec<Event> {
        self.load.ended.store(true, Ordering::Relaxed);
        for caller in self.callers.drain(..) {
            self.site.runtime.block_on(caller).unwrap();
        }
        let history = std::mem::take(&mut *self.load.history.lock().unwrap());
        let count = |which: fn(&End) -> bool| history.iter().filter(|event| which(&event.end)).count();
        assert!(count(|end| matches!(end, End::Token(..))) > 100, "{}", told(&history));
        assert!(count(|end| matches!(end, End::Refused(_) | End::Unanswered)) > 0, "{}", told(&history));
        let broken = broken(&history, u64::from(LIMIT));
        assert!(broken.is_empty(), "{} promises were broken:\n{}", broken.len(), broken.join("\n"));
        history
    }

    /// Every token that anybody was given gives its value, whichever daemon is asked.
    fn expect_values(&self, history: &[Event]) {
        let mut of_shop = Vec::new();
        let mut of_plain = Vec::new();
        for event in history {
            let End::Token(token, _) = &event.end else { continue };
            match &event.ask {
                Ask::OfValue(value) => of_shop.push((token, value)),
                Ask::UnderKey { value, .. } | Ask::Limited(value) => of_plain.push((token, value)),
                Ask::Reveal(_) => {}
            }
        }
        for (principal, mut tokens) in [("billing", of_shop), ("plain-billing", of_plain)] {
            tokens.sort_unstable();
            tokens.dedup();
            for daemon in 0..DAEMONS {
                let channel = self.site.runtime.block_on(self.site.installations[daemon].connect(principal));
                for part in tokens.chunks(BATCH) {
                    self.site.runtime.block_on(expect_values(channel.clone(), part));
                }
            }
        }
    }

    /// Every log is whole, has each call that was acknowledged, and tells of no other unsealing than those at
    /// a start; the store is as the logs say.
    fn expect_logs(&mut self, history: &[Event]) {
        for daemon in 0..DAEMONS {
            let connect = |name| self.site.runtime.block_on(self.site.installations[daemon].connect(name));
            let (custodian, auditor) = (connect("custodian"), connect("auditor"));
            let log = self.site.runtime.block_on(async {
                let mut log = AuditedLog::new(custodian).await;
                log.read_and_verify(auditor).await;
                log
            });
            let own = history.iter().filter_map(|event| match &event.end {
                End::Token(token, receipt) if receipt.origin == log_of(daemon) => Some((token, receipt)),
                _ => None,
            });
            for (token, receipt) in own {
                log.expect_entry(token, receipt);
            }
            // Who joins opens the vault as well.
            let opened = self.starts[daemon] + usize::from(daemon > 0);
            assert_eq!(log.count("unseal"), opened, "daemon {daemon}");
        }
        drop(self.site.serving[0].take());
        let report = self.site.installations[0].run(&["check"]).unwrap();
        for daemon in 0..DAEMONS {
            assert!(report.contains(&format!("log {}: ", log_of(daemon))), "{report}");
        }
    }
}

async fn expect_values(channel: Channel, tokens: &[(&String, &String)]) {
    let request = BatchDetokenizeRequest {
        items: tokens.iter().map(|(token, _)| BatchDetokenizeItem { token: (*token).clone() }).collect(),
        purpose: "settlement".to_owned(),
        recipient: "acquirer".to_owned(),
        reference: "failover".to_owned(),
    };
    let answer = BatchesClient::new(channel).batch_detokenize(request).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), tokens.len());
    for ((token, value), result) in tokens.iter().zip(answer.results) {
        match result.verdict {
            Some(Verdict::Record(record)) => {
                assert!(digits(record.value.as_ref()) == value.as_bytes(), "{token} gives another value");
            }
            other => panic!("{token} is lost: {other:?}"),
        }
    }
}

/// One daemon's, for the principals that call.
#[derive(Clone)]
struct Clients {
    checkout: TokenizationClient<Channel>,
    plain: TokenizationClient<Channel>,
    limited: TokenizationClient<Channel>,
    billing: TokenizationClient<Channel>,
}

impl Clients {
    fn of(site: &Site, daemon: usize) -> Self {
        Self {
            checkout: site.client(daemon, "checkout"),
            plain: site.client(daemon, "plain"),
            limited: site.client(daemon, "limited"),
            billing: site.client(daemon, "billing"),
        }
    }

    async fn ask(&self, ask: &Ask) -> Result<End, Status> {
        match ask {
            Ask::OfValue(value) => tokenize(&self.checkout, value, "").await,
            Ask::UnderKey { key, value } => tokenize(&self.plain, value, key).await,
            Ask::Limited(value) => tokenize(&self.limited, value, "").await,
            Ask::Reveal(token) => {
                let request = DetokenizeRequest {
                    token: token.clone(),
                    purpose: "settlement".to_owned(),
                    recipient: "acquirer".to_owned(),
                    reference: "failover".to_owned(),
                };
                let answer = self.billing.clone().detokenize(request).await?.into_inner();
                Ok(End::Value(String::from_utf8(digits(answer.value.as_ref()).to_vec()).unwrap()))
            }
        }
    }
}

async fn tokenize(client: &TokenizationClient<Channel>, value: &str, key: &str) -> Result<End, Status> {
    let request = TokenizeRequest {
        value: Some(card(value)),
        idempotency_key: key.to_owned(),
        ..TokenizeRequest::default()
    };
    let answer = client.clone().tokenize(request).await?.into_inner();
    Ok(End::Token(answer.token.clone(), answer.receipt.clone().expect("a receipt")))
}

async fn call_on(load: Arc<Load>, clients: Clients, mut random: Seeded) {
    while !load.ended.load(Ordering::Relaxed) {
        let ask = load.next(&mut random);
        let served = load.call(&clients, ask).await.is_break();
        tokio::time::sleep(if served { PAUSE } else { PAUSE_REFUSED }).await;
    }
}

impl Load {
    /// Makes a call and remembers it; why it was not served, if it was not.
    async fn call(&self, clients: &Clients, ask: Ask) -> ControlFlow<(), String> {
        let begun = SystemClock.now().minute();
        let answer = clients.ask(&ask).await;
        let minutes = (begun, SystemClock.now().minute());
        let (end, told) = match answer {
            Ok(end) => (end, ControlFlow::Break(())),
            Err(status) => {
                let end = reason(&status).map_or(End::Unanswered, End::Refused);
                (end, ControlFlow::Continue(format!("{status:?}")))
            }
        };
        if let (Ask::OfValue(_), End::Token(token, _)) = (&ask, &end) {
            self.given.lock().unwrap().push(token.clone());
        }
        self.history.lock().unwrap().push(Event { minutes, ask, end });
        told
    }

    fn next(&self, random: &mut Seeded) -> Ask {
        match random.below(8) {
            0..=2 => {
                let number = self.values.fetch_add(1, Ordering::Relaxed) / SAME_VALUE * SAME_VALUE;
                Ask::OfValue(self.pan(number))
            }
            3 | 4 => {
                let number = self.keys.fetch_add(1, Ordering::Relaxed) / SAME_KEY;
                Ask::UnderKey { key: format!("order-{number}"), value: self.pan(number << 32) }
            }
            5 => Ask::Limited(random.pan(16)),
            _ => {
                let given = self.given.lock().unwrap();
                match u64::try_from(given.len()) {
                    Ok(count @ 1..) => {
                        Ask::Reveal(given[usize::try_from(random.below(count)).unwrap()].clone())
                    }
                    _ => Ask::OfValue(self.pan(0)),
                }
            }
        }
    }

    /// A value of its own for each number.
    fn pan(&self, number: u64) -> String {
        Seeded::new(self.seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).pan(16)
    }
}

/// Why a success with a warning is none: PostgreSQL says "canceling wait for synchronous replication" and
/// that the commit is done, and after the failover it is gone.
#[test]
fn a_commit_whose_wait_was_cancelled_is_unknown_and_gone_after_the_failover() {
    let mut primary = Cluster::start();
    let database = primary.database();
    let name = database.name().to_owned();
    let mut standby = primary.with_standby();
    let both = database.with_standby(&standby).options();
    let options = PostgresOptions { synchronous_standby_required: false, ..both };
    let store = PostgresStore::open(options, LOG).unwrap();
    assert_eq!(written(&store, "before"), Ok(Commit::Done));
    standby.stop();
    let waiting = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let outcome = thread::scope(|scope| {
        let commit = scope.spawn(|| store.commit(&insert("cancelled")));
        while primary.sql(&name, &format!("SELECT count(*) {waiting}")) != "1" {
            assert!(!commit.is_finished(), "the commit did not wait for the standby");
        }
        primary.sql(&name, &format!("SELECT pg_cancel_backend(pid) {waiting}"));
        commit.join().unwrap()
    });
    assert!(matches!(outcome, Err(Fault::Unknown(_))), "{outcome:?}");
    let rows = "SELECT count(*) FROM vault.rows WHERE value = 'cancelled'";
    assert_eq!(primary.sql(&name, rows), "1", "it stands on the primary");
    let log = fs::read_to_string(primary.folder().join("log")).unwrap();
    assert!(
        log.contains("WARNING:  canceling wait for synchronous replication due to user request"),
        "{log}"
    );
    primary.kill_hard();
    standby.resume();
    standby.promote();
    standby.set("synchronous_standby_names", "");
    reopened(&store);
    assert!(is_there(&store, "before") && !is_there(&store, "cancelled"));
    assert_eq!(written(&store, "after"), Ok(Commit::Done));
}
