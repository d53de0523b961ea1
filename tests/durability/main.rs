//! What was acknowledged outlives the daemon: `kill -9` at random moments under sixteen writers, again and
//! again on one vault.
//!
//! After each kill the daemon is started on the same folder and asked for everything: each acknowledged
//! token must give its value, each acknowledged call must stand in the audit log as its receipt says, the
//! log must extend the last checkpoint seen before the kill, and a repeated idempotency key must give the
//! token it gave before. In some rounds keys are rotated as well, so that old records are encrypted anew from
//! kill to kill; in the end it must be proven that nothing is left under an old key.
//!
//! A killed process leaves the kernel's page cache in place, so this proves recovery and ordering, not that
//! data had reached the disk: power cuts are simulated elsewhere.
//!
//! Beside it: a disk that takes nothing more while the daemon serves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests may stop loudly, and say what they measured"
)]

mod full_disk;
mod keys;
mod writers;

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use vault_proto::v1::batch_detokenize_result::Verdict;
use vault_proto::v1::batches_client::BatchesClient;
use vault_proto::v1::{BatchDetokenizeItem, BatchDetokenizeRequest, Class};
use vault_tests::cluster::Cluster;
use vault_tests::log::AuditedLog;
use vault_tests::process::Vaultd;
use vault_tests::values::{Seeded, digits, seed};

use crate::writers::{Acknowledged, Harvest};

/// From the first write to the kill; a database answers later than a disk.
const WRITING_MS_MAX: u64 = 120;
const WRITING_TO_A_DATABASE_MS_MAX: u64 = 600;
/// One start in so many is killed too, anywhere between the first instruction and the first calls.
const STARTS_PER_KILLED_START: u64 = 4;
const STARTING_MS_MAX: u64 = 150;
/// In one round of so many the keys of a class are rotated.
const ROUNDS_PER_ROTATION: u64 = 6;
const BATCH: usize = 500;

#[test]
fn nothing_acknowledged_is_lost_when_the_daemon_on_fjall_is_killed() {
    kill_again_and_again("fjall", 200);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_daemon_on_sled_is_killed() {
    kill_again_and_again("sled", 100);
}

/// The database serves on; what is killed is the daemon in the middle of its statements.
#[test]
fn nothing_acknowledged_is_lost_when_the_daemon_on_postgres_is_killed() {
    kill_again_and_again("postgres", 25);
}

/// Ten times as many rounds where there is time.
fn kill_again_and_again(engine: &'static str, rounds: u64) {
    let rounds = if std::env::var_os("VAULT_TESTS_LONG").is_some() { 10 * rounds } else { rounds };
    let seed = seed();
    println!("{engine}: {rounds} rounds, VAULT_TESTS_SEED={seed}");
    let mut vault = KilledVault::new(engine, Seeded::new(seed));
    let begun = Instant::now();
    for round in 0..rounds {
        vault.round(round);
    }
    vault.check_everything_again();
    println!("{engine}: {}, {:.0?}", vault.counts, begun.elapsed());
    let Counts { kept, replayed, rotated, .. } = vault.counts;
    let much = kept > usize::try_from(rounds).unwrap() && replayed > 0 && rotated > 0;
    assert!(much, "{engine}: hardly anything was written: {}", vault.counts);
}

/// A vault whose daemon does not live long, and all that its clients know of it.
struct KilledVault {
    engine: &'static str,
    folder: TempDir,
    random: Seeded,
    runtime: Runtime,
    log: Option<AuditedLog>,
    kept: Vec<Acknowledged>,
    /// The version of each class's keys that was said to encrypt last.
    versions: BTreeMap<Class, u32>,
    counts: Counts,
}

/// What a run was made of.
#[derive(Default)]
struct Counts {
    kills: usize,
    killed_starts: usize,
    kept: usize,
    unanswered: usize,
    repeated: usize,
    replayed: usize,
    rotated: usize,
    entries: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kills, killed_starts, kept, unanswered, repeated, replayed, rotated, entries } = self;
        write!(
            f,
            "{kills} kills under load and {killed_starts} while starting; \
             {kept} calls acknowledged, all kept; \
             {unanswered} unanswered, of which {repeated} were repeated with their key; \
             {replayed} replays; {rotated} rotations; {entries} entries proven"
        )
    }
}

impl KilledVault {
    fn new(engine: &'static str, random: Seeded) -> Self {
        let folder = TempDir::new().unwrap();
        if engine == "postgres" {
            Cluster::shared().database().write_store_file(folder.path());
        }
        Self {
            engine,
            folder,
            random,
            runtime: Runtime::new().unwrap(),
            log: None,
            kept: Vec::new(),
            versions: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// Starts, writes, kills; starts again and asks for everything.
    fn round(&mut self, round: u64) {
        let harvest = self.write_and_kill(round);
        self.kill_while_starting();
        let vaultd = Vaultd::start(self.folder.path(), self.engine, &[]);
        self.runtime.block_on(check(&vaultd, harvest, &mut self.log, &mut self.kept, &mut self.counts));
        self.counts.kept = self.kept.len();
        // The next round's kill is of a daemon that has done this much; here it is only put away.
        vaultd.kill();
    }

    fn write_and_kill(&mut self, round: u64) -> Harvest {
        let vaultd = Vaultd::start(self.folder.path(), self.engine, &[]);
        let most = if self.engine == "postgres" { WRITING_TO_A_DATABASE_MS_MAX } else { WRITING_MS_MAX };
        let moment = Duration::from_millis(self.random.below(most));
        let seed = self.random.next();
        self.counts.kills += 1;
        let rotate = (round % ROUNDS_PER_ROTATION == ROUNDS_PER_ROTATION / 2)
            .then(|| (if self.random.below(2) == 0 { Class::Pan } else { Class::Ssn }, moment / 8));
        let (harvest, rotated) =
            self.runtime.block_on(writers::write_until_killed(vaultd, round, seed, moment, rotate));
        if let Some((class, version)) = rotated {
            self.versions.insert(class, version);
            self.counts.rotated += 1;
        }
        harvest
    }

    fn kill_while_starting(&mut self) {
        if self.random.below(STARTS_PER_KILLED_START) == 0 {
            let vaultd = Vaultd::spawn(self.folder.path(), self.engine, &[]);
            thread::sleep(Duration::from_millis(self.random.below(STARTING_MS_MAX)));
            vaultd.kill();
            self.counts.killed_starts += 1;
        }
    }

    /// Once at the end, from the first entry and the first token on.
    fn check_everything_again(&mut self) {
        let vaultd = Vaultd::start(self.folder.path(), self.engine, &[]);
        let (kept, known) = (&self.kept, self.log.as_ref().unwrap());
        self.counts.entries = self.runtime.block_on(async {
            expect_values(vaultd.connect("billing").await, kept).await;
            let mut whole = AuditedLog::new(vaultd.connect("custodian").await).await;
            whole.read_and_verify(vaultd.connect("auditor").await).await;
            assert_eq!(whole.first(known.size()), known.all(), "an entry changed after it was read");
            let proven: BTreeMap<Class, u32> = keys::wait_for_proofs(&vaultd).await.into_iter().collect();
            // A rotation that was not answered may have happened all the same.
            let kept = |(class, version): (&Class, &u32)| proven[class] >= *version;
            assert!(self.versions.iter().all(kept), "{proven:?} is behind {:?}", self.versions);
            expect_values(vaultd.connect("billing").await, &self.kept).await;
            whole.size()
        });
        assert!(vaultd.stop().success(), "the daemon did not stop as it should");
    }
}

async fn check(
    vaultd: &Vaultd,
    harvest: Harvest,
    log: &mut Option<AuditedLog>,
    kept: &mut Vec<Acknowledged>,
    counts: &mut Counts,
) {
    if log.is_none() {
        *log = Some(AuditedLog::new(vaultd.connect("custodian").await).await);
    }
    let log = log.as_mut().unwrap();
    if let Some(checkpoint) = &harvest.checkpoint {
        log.must_extend(checkpoint);
    }
    counts.unanswered += harvest.unanswered.len();
    let replays = writers::repeat_acknowledged(vaultd, &harvest.acknowledged).await;
    let repeated = writers::repeat_unanswered(vaultd, harvest.unanswered).await;
    counts.replayed += replays.len();
    counts.repeated += repeated.len();
    let mut fresh = harvest.acknowledged;
    fresh.extend(repeated);
    expect_values(vaultd.connect("billing").await, &fresh).await;
    log.read_and_verify(vaultd.connect("auditor").await).await;
    for call in &fresh {
        log.expect_entry(&call.token, &call.receipt);
    }
    for replay in &replays {
        let recorded = log.expect_entry(&replay.token, &replay.receipt);
        assert_eq!(recorded, "REPLAYED", "a repeated key was not known any more");
    }
    kept.extend(fresh);
}

/// Every token gives the value it was given for.
async fn expect_values(billing: Channel, calls: &[Acknowledged]) {
    let mut batches = BatchesClient::new(billing);
    for calls in calls.chunks(BATCH) {
        let items = calls.iter().map(|call| BatchDetokenizeItem { token: call.token.clone() }).collect();
        let request = BatchDetokenizeRequest {
            items,
            purpose: "settlement".to_owned(),
            recipient: "acquirer".to_owned(),
            reference: "after-the-kill".to_owned(),
        };
        let answer = batches.batch_detokenize(request).await.expect("an answer after the restart");
        for (call, result) in calls.iter().zip(answer.into_inner().results) {
            match result.verdict.expect("a verdict") {
                Verdict::Record(record) => assert!(
                    digits(record.value.as_ref()) == call.digits.as_bytes(),
                    "{} gives another value",
                    call.token
                ),
                Verdict::Refusal(refusal) => panic!("{} is lost: {}", call.token, refusal.reason),
            }
        }
    }
}
