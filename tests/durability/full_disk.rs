//! A disk that takes no byte more, in the middle of it all: the kernel refuses every write into a file of the
//! running daemon. What was acknowledged is there, what was not is whole or absent, and calls are refused
//! with a reason meanwhile.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use tonic::Code;
use tonic::transport::Channel;
use vault_proto::reason;
use vault_tests::log::AuditedLog;
use vault_tests::process::Vaultd;
use vault_tests::values::{Seeded, seed};

use crate::expect_values;
use crate::writers::{Acknowledged, repeat_acknowledged, write_one};

const BEFORE: usize = 200;
/// The keeper goes round once a second.
const ROUNDS: Duration = Duration::from_millis(2_500);
const COMES_BACK_WITHIN: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_the_daemon_on_fjall_comes_back_when_there_is_room() {
    let mut disk = Disk::filled_up("fjall").await;
    disk.vaultd.limit_files(None);
    let begun = Instant::now();
    while let Err(status) = disk.write("full").await {
        expect_unavailable(&status);
        assert!(begun.elapsed() < COMES_BACK_WITHIN, "it does not come back: {status:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    disk.expect_everything().await;
    disk.restart().await;
    disk.expect_everything().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_the_daemon_on_sled_comes_back_with_a_restart() {
    let mut disk = Disk::filled_up("sled").await;
    disk.restart().await;
    disk.expect_everything().await;
    assert!(disk.write("full").await.is_ok());
}

/// A vault whose disk was filled up while it served.
struct Disk {
    folder: TempDir,
    engine: &'static str,
    random: Seeded,
    vaultd: Vaultd,
    checkout: Channel,
    kept: Vec<Acknowledged>,
    /// What was asked for last, before the disk was full and after.
    last: (String, &'static str),
}

impl Disk {
    async fn filled_up(engine: &'static str) -> Self {
        let seed = seed();
        println!("{engine}: VAULT_TESTS_SEED={seed}");
        let folder = TempDir::new().unwrap();
        let vaultd = Vaultd::start_limitable(folder.path(), engine);
        let checkout = vaultd.connect("checkout").await;
        let (random, kept, last) = (Seeded::new(seed), Vec::new(), (String::new(), ""));
        let mut disk = Self { folder, engine, random, vaultd, checkout, kept, last };
        for _ in 0..BEFORE {
            disk.write("").await.expect("a token");
        }
        disk.vaultd.limit_files(Some(0));
        // The first may be left open; then it is known that the store is away.
        for key in ["full", "full", "full"] {
            expect_unavailable(&disk.write(key).await.expect_err("a full disk took it"));
        }
        // The daemon's own rounds meet it too: the anchor, and its log, which lies on that disk.
        tokio::time::sleep(ROUNDS).await;
        expect_unavailable(&disk.write("full").await.expect_err("a full disk took it"));
        disk
    }

    /// Tokenizes something new, or once more what was not answered under this key.
    async fn write(&mut self, key: &'static str) -> Result<(), tonic::Status> {
        if key.is_empty() || self.last.1 != key {
            self.last = (self.random.ssn(), key);
        }
        let call = write_one(&self.checkout, &self.last.0, key).await?;
        self.kept.push(call);
        Ok(())
    }

    async fn restart(&mut self) {
        // Before the next one, since it holds the store.
        self.vaultd.kill_now();
        self.vaultd = Vaultd::start_limitable(self.folder.path(), self.engine);
        self.checkout = self.vaultd.connect("checkout").await;
    }

    /// Every token gives its value, keys are remembered, and the log is whole and has each call.
    async fn expect_everything(&self) {
        expect_values(self.vaultd.connect("billing").await, &self.kept).await;
        repeat_acknowledged(&self.vaultd, &self.kept).await;
        let mut log = AuditedLog::new(self.vaultd.connect("custodian").await).await;
        log.read_and_verify(self.vaultd.connect("auditor").await).await;
        for call in &self.kept {
            log.expect_entry(&call.token, &call.receipt);
        }
    }
}

fn expect_unavailable(status: &tonic::Status) {
    let reason = reason(status);
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(matches!(reason.as_deref(), Some("STORE" | "OUTCOME_UNKNOWN")), "{status:?}");
}
