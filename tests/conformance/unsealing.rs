//! Why a vault stays sealed: every reason that `Unseal` has of its own, and what the log says of it later.

use std::fs;
use std::time::Duration;

use vault_core::store::Space;
use vault_proto::v1::Entry;

use crate::cases::{Case, Entered};
use crate::rpcs::Refused;
use crate::site::{PASSPHRASE, POLICY, Site, actor, write_private};
use crate::{check, requests};

/// Every RPC and reason that the tests below trigger.
pub(crate) const REASONS: [(&str, &str); 12] = [
    ("Unseal", "WRONG_PASSPHRASE"),
    ("Unseal", "BUSY"),
    ("Unseal", "KEYRING_UNUSABLE"),
    ("Unseal", "KEYRING_OLD"),
    ("Unseal", "ANCHOR_UNUSABLE"),
    ("Unseal", "JOURNAL_UNUSABLE"),
    ("Unseal", "ROLLED_BACK"),
    ("Unseal", "OTHER_ORIGIN"),
    ("Unseal", "TENANT_CHOICE"),
    ("Unseal", "CORRUPT"),
    ("Unseal", "STORE"),
    ("GetStatus", "KEYRING_UNUSABLE"),
];

/// Tries to unseal as the custodian.
async fn stays_sealed(site: &Site, what: &str, passphrase: &str, reason: &'static str) {
    let mut case = Case::new(what, requests::unseal(passphrase), reason, Entered::No);
    case.sent = vec![passphrase.to_owned(), site.path("").to_str().unwrap().to_owned()];
    let before = site.metrics().await;
    let got = Refused::of(site.ask(case.by, case.ask.clone()).await);
    check::stop_at(&check::answer(&case, got.as_ref()));
    let count = |metrics: &str| check::counted(metrics, "Unseal", reason);
    assert_eq!(count(&site.metrics().await), count(&before) + 1, "{what}: not counted");
}

/// The attempts that the log knows of since a mark, once the vault is open again.
async fn attempts(site: &Site, mark: u64) -> Vec<(String, String)> {
    site.unseal().await;
    let refused = |entry: &Entry| entry.action == "unseal-refused";
    let entries = site.entries_since(mark).await.into_iter().filter(refused);
    entries.map(|entry| (actor(&entry).to_owned(), entry.outcome)).collect()
}

fn by_custodian(outcomes: &[&str]) -> Vec<(String, String)> {
    outcomes.iter().map(|outcome| ("custodian".to_owned(), (*outcome).to_owned())).collect()
}

#[tokio::test]
async fn a_wrong_passphrase_opens_nothing_and_is_entered_at_the_next_unsealing() {
    let site = Site::start().await;
    let mark = site.log_size().await;
    site.seal().await;
    stays_sealed(&site, "a wrong passphrase", "correct horse battery stapler", "WRONG_PASSPHRASE").await;
    let denied = Refused::of(site.ask("billing", requests::unseal(PASSPHRASE)).await).unwrap();
    assert_eq!(denied.reason.as_deref(), Some("DENIED"));
    let mut expected = by_custodian(&["WRONG_PASSPHRASE"]);
    expected.push(("billing".to_owned(), "DENIED".to_owned()));
    assert_eq!(attempts(&site, mark).await, expected);
}

#[tokio::test]
async fn one_unsealing_at_a_time() {
    let site = Site::start().await;
    site.seal().await;
    // The first one holds the lock for a second at least, since it is wrong.
    let wrong = || site.ask("custodian", requests::unseal("correct horse battery stapler"));
    let (one, other) = tokio::join!(wrong(), wrong());
    let refused = [one, other].map(|answered| Refused::of(answered).unwrap());
    let mut reasons = refused.each_ref().map(|got| got.reason.as_deref().unwrap());
    reasons.sort_unstable();
    assert_eq!(reasons, ["BUSY", "WRONG_PASSPHRASE"]);
    let busy = refused.iter().find(|got| got.reason.as_deref() == Some("BUSY")).cloned();
    let case = Case::new("another at work", requests::unseal(PASSPHRASE), "BUSY", Entered::No);
    check::stop_at(&check::answer(&case, busy.as_ref()));
}

#[tokio::test]
async fn whoever_is_denied_takes_nobodys_place_and_is_counted_to_the_last_call() {
    const CALLS: u64 = 70;
    let site = Site::start().await;
    let mark = site.log_size().await;
    site.seal().await;
    let wrong = site.ask("custodian", requests::unseal("correct horse battery stapler"));
    let denied = async {
        // The custodian's attempt holds the lock by now, for a second at least.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let mut reasons = Vec::new();
        for _ in 0..CALLS {
            let refused = Refused::of(site.ask("billing", requests::unseal(PASSPHRASE)).await).unwrap();
            reasons.push(refused.reason.unwrap());
        }
        reasons
    };
    let (wrong, reasons) = tokio::join!(wrong, denied);
    assert_eq!(Refused::of(wrong).unwrap().reason.as_deref(), Some("WRONG_PASSPHRASE"));
    // A minute may have ended in between.
    let limited = reasons.iter().filter(|reason| *reason == "QUOTA").count();
    assert!(reasons.iter().all(|reason| reason == "QUOTA" || reason == "DENIED"), "{reasons:?}");
    assert!(limited <= 10 && (limited == 10 || reasons.last().unwrap() == "DENIED"), "{reasons:?}");
    site.unseal().await;
    let of_billing = |entry: &Entry| entry.action == "unseal-refused" && actor(entry) == "billing";
    let entered = site.entries_since(mark).await.into_iter().filter(of_billing);
    let counts: Vec<u64> = entered.map(|entry| entry.count.into()).collect();
    assert_eq!(counts.iter().sum::<u64>(), CALLS);
    assert!(counts.len() <= 4, "two entries a minute: {counts:?}");
}

#[tokio::test]
async fn no_attempt_is_made_that_cannot_be_written_down() {
    let site = Site::start().await;
    site.seal().await;
    let journal = site.path("keyring/unseal-journal");
    let _ = fs::remove_file(&journal);
    fs::create_dir(&journal).unwrap();
    stays_sealed(&site, "no journal", "correct horse battery stapler", "JOURNAL_UNUSABLE").await;
    stays_sealed(&site, "no journal", PASSPHRASE, "JOURNAL_UNUSABLE").await;
    let denied = Refused::of(site.ask("billing", requests::unseal(PASSPHRASE)).await).unwrap();
    assert_eq!(denied.reason.as_deref(), Some("DENIED"));
    fs::remove_dir(&journal).unwrap();
    site.unseal().await;
}

#[tokio::test]
async fn a_stop_is_entered() {
    let mut site = Site::start().await;
    let mark = site.log_size().await;
    site.restart_sealed();
    site.unseal().await;
    let entered = site.entries_since(mark).await;
    let stop = entered.iter().position(|entry| entry.action == "stop" && actor(entry) == "vault").unwrap();
    let unseal = entered.iter().position(|entry| entry.action == "unseal").unwrap();
    assert!(stop < unseal);
}

#[tokio::test]
async fn a_keyring_or_an_anchor_that_is_damaged_is_said_to_be() {
    let site = Site::start().await;
    let mark = site.log_size().await;
    site.seal().await;
    let (keyring, aside) = (site.path("keyring"), site.path("aside"));
    fs::rename(&keyring, &aside).unwrap();
    fs::create_dir(&keyring).unwrap();
    stays_sealed(&site, "no keyring", PASSPHRASE, "KEYRING_UNUSABLE").await;
    let status = requests::valid("GetStatus", &site.stage);
    let got = Refused::of(site.ask("custodian", status.clone()).await);
    let case = Case::new("no keyring", status, "KEYRING_UNUSABLE", Entered::No);
    check::stop_at(&check::answer(&case, got.as_ref()));
    fs::remove_dir_all(&keyring).unwrap();
    fs::rename(&aside, &keyring).unwrap();

    let anchor = site.path("anchor/anchor");
    let whole = fs::read(&anchor).unwrap();
    write_private(&anchor, &vec![0x5a; whole.len()]);
    stays_sealed(&site, "a damaged anchor", PASSPHRASE, "ANCHOR_UNUSABLE").await;
    write_private(&anchor, &whole);
    // The attempt without a keyring was noted in a folder that is gone.
    assert_eq!(attempts(&site, mark).await, by_custodian(&["KEYRING_UNUSABLE"]));
}

#[tokio::test]
async fn an_older_keyring_is_refused() {
    let site = Site::start().await;
    let older: Vec<_> = fs::read_dir(site.path("keyring"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    // A new tenant needs new keys.
    let tenant = "\n[[tenant]]\nid = \"newcomer\"\nclasses = [\"pan\"]\n";
    write_private(&site.path("policy.toml"), format!("{POLICY}{tenant}").as_bytes());
    site.daemon().reload();
    site.seal().await;
    let newer: Vec<_> = older.iter().map(|(path, _)| (path.clone(), fs::read(path).unwrap())).collect();
    assert!(newer != older, "the keyring has not changed");
    older.iter().for_each(|(path, content)| write_private(path, content));
    stays_sealed(&site, "an older keyring", PASSPHRASE, "KEYRING_OLD").await;
    newer.iter().for_each(|(path, content)| write_private(path, content));
    site.unseal().await;
}

#[tokio::test]
async fn rows_that_were_rolled_back_or_damaged_are_noticed() {
    let site = Site::start().await;
    let older = site.store.rows.image();
    site.log_size().await;
    site.seal().await;
    let newer = site.store.rows.image();
    site.store.restore(&older);
    stays_sealed(&site, "rolled back", PASSPHRASE, "ROLLED_BACK").await;
    site.store.restore(&newer);
    site.store.damage(Space::LogHead);
    stays_sealed(&site, "a damaged log", PASSPHRASE, "CORRUPT").await;
    site.store.restore(&newer);
    site.store.rows.set_space_low(true);
    stays_sealed(&site, "disk full", PASSPHRASE, "STORE").await;
    site.store.rows.set_space_low(false);
    site.unseal().await;
}

#[tokio::test]
async fn a_store_that_was_lost_while_the_vault_was_sealed_is_opened_again() {
    let site = Site::start().await;
    site.seal().await;
    site.store.rows.crash();
    site.store.rows.fail_reopens(1);
    stays_sealed(&site, "the store is away", PASSPHRASE, "STORE").await;
    site.unseal().await;
}

#[tokio::test]
async fn a_configuration_that_contradicts_the_vault_leaves_it_sealed() {
    let mut site = Site::start().await;
    let origin = site.config.vault.audit_origin.clone();
    site.config.vault.audit_origin = "vaultd-dev.invalid/another".to_owned();
    site.restart_sealed();
    stays_sealed(&site, "another origin", PASSPHRASE, "OTHER_ORIGIN").await;

    site.config.vault.audit_origin = origin;
    let changed = POLICY.replacen("one_token_per_value = true", "one_token_per_value = false", 1);
    write_private(&site.path("policy.toml"), changed.as_bytes());
    site.restart_sealed();
    stays_sealed(&site, "another choice for a tenant", PASSPHRASE, "TENANT_CHOICE").await;

    write_private(&site.path("policy.toml"), POLICY.as_bytes());
    site.restart_sealed();
    site.unseal().await;
}

/// The status reads the keyring: on a disk that does not answer it waits, and nobody else with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_waits_for_the_disk_holds_up_nobody() {
    let site = Site::start_with(|_, _, config| config.listen.cores = Some(1)).await;
    let copy = site.config.vault.keyring_folder.join("keyring-a");
    let content = fs::read(&copy).unwrap();
    fs::remove_file(&copy).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&copy).status().unwrap().success());
    let status = requests::valid("GetStatus", &site.stage);
    let others = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let served = tokio::time::timeout(Duration::from_secs(5), site.wait_until_serving()).await;
        // Waits for the reader, and lets it go on.
        let writing = tokio::task::spawn_blocking(move || fs::write(copy, content));
        writing.await.unwrap().unwrap();
        served
    };
    let (told, served) = tokio::join!(site.ask("custodian", status), others);
    assert!(served.is_ok(), "nobody was served while a status waited");
    assert!(told.is_ok());
}
