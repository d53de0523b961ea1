//! A vault that is sealed by shares, two of three: how custodians open it together, and why they do not.

use tonic::{Code, Status};
use vault_core::crypto::SystemEntropy;
use vault_core::data::Environment;
use vault_core::keys::Deal;
use vault_core::limits::CEREMONY_SECONDS;
use vault_proto::DUTIES;
use vault_proto::v1 as wire;
use vault_proto::v1::ceremony::State;
use vault_proto::v1::custody_client::CustodyClient;
use vault_proto::v1::vault_status;

use crate::cases::{Case, Entered};
use crate::rpcs::Refused;
use crate::site::{CUSTODIANS, PASSPHRASE, Site, actor};
use crate::{check, requests};

/// Every RPC and reason that the tests below trigger.
pub(crate) const REASONS: [(&str, &str); 14] = [
    ("Unseal", "OTHER_SEAL"),
    ("Unseal", "PASSPHRASE_LENGTH"),
    ("BeginCeremony", "CEREMONY_OPEN"),
    ("BeginCeremony", "OTHER_SEAL"),
    ("SubmitShare", "NO_CEREMONY"),
    ("SubmitShare", "GAVE_ALREADY"),
    ("SubmitShare", "SHARE_MALFORMED"),
    ("SubmitShare", "DUTIES_NOT_ACCEPTED"),
    ("SubmitShare", "SHARE_FOREIGN"),
    ("SubmitShare", "SHARE_OTHER_SET"),
    ("SubmitShare", "SHARE_WRONG"),
    ("SubmitShare", "SHARE_REPEATED"),
    ("SubmitShare", "ROLLED_BACK"),
    ("CancelCeremony", "NO_CEREMONY"),
];

fn client(site: &Site, who: &str) -> CustodyClient<tonic::transport::Channel> {
    CustodyClient::new(site.channel(who))
}

async fn begin(site: &Site, who: &str) -> Result<wire::Ceremony, Status> {
    Ok(client(site, who).begin_ceremony(wire::BeginCeremonyRequest {}).await?.into_inner())
}

async fn give(site: &Site, who: &str, name: &str, share: &str) -> Result<wire::Ceremony, Status> {
    give_under(site, who, name, share, DUTIES).await
}

async fn give_under(
    site: &Site,
    who: &str,
    name: &str,
    share: &str,
    duties: &str,
) -> Result<wire::Ceremony, Status> {
    let (ceremony, share, duties) = (name.to_owned(), share.as_bytes().to_vec(), duties.to_owned());
    let request = wire::SubmitShareRequest { ceremony, share, duties };
    Ok(client(site, who).submit_share(request).await?.into_inner())
}

async fn cancel(site: &Site, who: &str, name: &str) -> Result<wire::Ceremony, Status> {
    let request = wire::CancelCeremonyRequest { ceremony: name.to_owned() };
    Ok(client(site, who).cancel_ceremony(request).await?.into_inner())
}

async fn status(site: &Site) -> wire::VaultStatus {
    client(site, CUSTODIANS[0]).get_status(wire::GetStatusRequest {}).await.unwrap().into_inner()
}

/// Begins a ceremony and completes it.
async fn open(site: &Site) {
    let name = begin(site, CUSTODIANS[0]).await.unwrap().name;
    for (who, share) in CUSTODIANS.iter().zip(&site.shares).take(2) {
        give(site, who, &name, share).await.unwrap();
    }
}

/// What must stay away from answers, logs and rows: the letters of each share.
fn secrets(shares: &[String]) -> Vec<String> {
    shares.iter().map(|share| share.split('_').nth(5).unwrap().to_owned()).collect()
}

#[track_caller]
fn refused(answered: Result<wire::Ceremony, Status>, reason: &'static str, sent: &str) {
    let got = answered.map(|_| crate::rpcs::Answer::default());
    let mut case = Case::new("a ceremony", requests::share("", sent), reason, Entered::No);
    case.sent = [sent.to_owned()].into_iter().filter(|sent| !sent.is_empty()).collect();
    check::stop_at(&check::answer(&case, Refused::of(got).as_ref()));
}

/// What the log says since a mark, of custodians and of the vault itself: who, what, outcome, note.
async fn entered(site: &Site, mark: u64) -> Vec<String> {
    let steps = ["ceremony", "share", "unseal"];
    let entries = site.entries_since(mark).await.into_iter();
    let entries = entries.filter(|entry| steps.iter().any(|step| entry.action.starts_with(step)));
    let line =
        |entry: wire::Entry| format!("{} {} {} {}", actor(&entry), entry.action, entry.outcome, entry.note);
    entries.map(|entry| line(entry).trim_end().to_owned()).collect()
}

#[tokio::test]
async fn two_custodians_open_the_vault_together_and_each_step_is_entered() {
    let mut site = Site::start_shared().await;
    let mark = site.log_size().await;
    site.restart_sealed();
    let sealed = status(&site).await;
    assert_eq!((sealed.state(), sealed.seal_kind.as_str()), (vault_status::State::Sealed, "shares"));
    assert_eq!((sealed.shares_needed, sealed.custodians), (2, CUSTODIANS.map(str::to_owned).to_vec()));

    let begun = begin(&site, "custodian").await.unwrap();
    let name = begun.name.as_str();
    assert_eq!((begun.state(), begun.shares_needed, begun.given.len()), (State::Open, 2, 0));
    let first = give(&site, "custodian", name, &site.shares[0]).await.unwrap();
    assert_eq!(first.state(), State::Open);
    assert_eq!(status(&site).await.ceremony, Some(first), "whoever joins finds it in the status");
    let denied =
        crate::rpcs::Refused::of(site.ask("checkout", requests::valid("Tokenize", &site.stage)).await);
    assert_eq!(denied.unwrap().reason.as_deref(), Some("SEALED"), "one share opens nothing");

    // White space around it is what copying leaves.
    let second = give(&site, "opener", name, &format!(" {}\n", site.shares[2])).await.unwrap();
    assert_eq!(second.state(), State::Complete);
    let given: Vec<_> = second.given.iter().map(|share| (share.custodian.as_str(), share.number)).collect();
    assert_eq!(given, [("custodian", 1), ("opener", 3)]);
    let open = status(&site).await;
    assert_eq!((open.state(), open.ceremony), (vault_status::State::Unsealed, None));
    site.ask("checkout", requests::valid("Tokenize", &site.stage)).await.unwrap();
    let expected = [
        format!("custodian ceremony-begun DONE {name}"),
        format!("custodian share-given DONE {name}:share-1"),
        format!("opener share-given DONE {name}:share-3"),
        format!("opener unseal DONE keyring-generation:{}", open.keyring_generation),
    ];
    assert_eq!(entered(&site, mark).await, expected);
    let entries = site.entries_since(mark).await.into_iter();
    let accepted: Vec<_> =
        entries.filter(|entry| entry.action == "share-given").map(|e| e.reference).collect();
    assert_eq!(accepted, [DUTIES, DUTIES]);
}

#[tokio::test]
async fn shares_that_do_not_fit_are_refused_by_name_and_leave_the_ceremony_open() {
    let site = Site::start_shared().await;
    let mark = site.log_size().await;
    site.seal().await;
    let dealt = |environment: &str| {
        let environment = Environment::parse(environment).unwrap();
        let deal = Deal::draw(&environment, 2, 3, &mut SystemEntropy::new()).unwrap();
        deal.shares()[0].to_text().to_string()
    };
    let (own, foreign, older) = (&site.shares[0], dealt("prod"), dealt("dev"));
    let forged = site.forged_share();
    let mistyped = own.replacen(&own[60..61], if &own[60..61] == "a" { "b" } else { "a" }, 1);
    refused(give(&site, "custodian", "abcdefghijkl", own).await, "NO_CEREMONY", own);
    let name = begin(&site, "custodian").await.unwrap().name;
    refused(begin(&site, "opener").await, "CEREMONY_OPEN", "");
    for (share, reason) in [
        ("", "SHARE_MALFORMED"),
        (PASSPHRASE, "SHARE_MALFORMED"),
        (mistyped.as_str(), "SHARE_MALFORMED"),
        (foreign.as_str(), "SHARE_FOREIGN"),
        (older.as_str(), "SHARE_OTHER_SET"),
        (forged.as_str(), "SHARE_WRONG"),
    ] {
        refused(give(&site, "custodian", &name, share).await, reason, share);
    }
    for duties in ["", "custodian-duties-0", "custodian-duties-1 "] {
        refused(give_under(&site, "custodian", &name, own, duties).await, "DUTIES_NOT_ACCEPTED", own);
    }
    refused(give(&site, "opener", "", own).await, "NO_CEREMONY", own);
    give(&site, "custodian", &name, own).await.unwrap();
    refused(give(&site, "custodian", &name, &site.shares[1]).await, "GAVE_ALREADY", &site.shares[1]);
    refused(give(&site, "opener", &name, own).await, "SHARE_REPEATED", own);
    let stranger = give(&site, "billing", &name, &site.shares[1]).await;
    refused(stranger, "DENIED", &site.shares[1]);
    let wrong_kind = Refused::of(site.ask("custodian", requests::unseal(PASSPHRASE)).await).unwrap();
    assert_eq!(wrong_kind.reason.as_deref(), Some("OTHER_SEAL"));
    give(&site, "opener", &name, &site.shares[1]).await.unwrap();
    // All of it is in the log, and nothing of a share.
    let lines = entered(&site, mark).await;
    assert_eq!(lines.iter().filter(|line| line.contains("unseal-refused")).count(), 16, "{lines:#?}");
    let rows = site.store.rows.image();
    for secret in secrets(&site.shares) {
        assert!(!rows.values().any(|row| crate::holds(&row.value, secret.as_bytes())));
        assert!(!crate::logs::holds_since(0, secret.as_bytes()));
    }
}

#[tokio::test]
async fn an_interrupted_cancelled_or_expired_ceremony_changes_nothing() {
    let mut site = Site::start_shared().await;
    let mark = site.log_size().await;
    site.restart_sealed();
    let interrupted = begin(&site, "custodian").await.unwrap().name;
    give(&site, "custodian", &interrupted, &site.shares[0]).await.unwrap();
    site.restart_sealed();
    refused(give(&site, "opener", &interrupted, &site.shares[1]).await, "NO_CEREMONY", &site.shares[1]);

    let cancelled = begin(&site, "custodian").await.unwrap().name;
    give(&site, "custodian", &cancelled, &site.shares[0]).await.unwrap();
    refused(cancel(&site, "opener", &interrupted).await, "NO_CEREMONY", "");
    assert_eq!(cancel(&site, "opener", &cancelled).await.unwrap().state(), State::Cancelled);
    refused(give(&site, "opener", &cancelled, &site.shares[1]).await, "NO_CEREMONY", &site.shares[1]);

    let expired = begin(&site, "custodian").await.unwrap().name;
    give(&site, "custodian", &expired, &site.shares[0]).await.unwrap();
    site.clock.advance(CEREMONY_SECONDS);
    refused(give(&site, "opener", &expired, &site.shares[1]).await, "NO_CEREMONY", &site.shares[1]);
    assert_eq!(status(&site).await.state(), vault_status::State::Sealed);

    open(&site).await;
    let lines = entered(&site, mark).await;
    for line in [
        format!("opener ceremony-cancelled DONE {cancelled}"),
        format!("vault ceremony-expired DONE {expired}"),
    ] {
        assert_eq!(lines.iter().filter(|entered| **entered == line).count(), 1, "{lines:#?}");
    }
}

#[tokio::test]
async fn of_two_who_begin_at_once_one_wins_and_the_other_is_told() {
    let site = Site::start_shared().await;
    site.seal().await;
    let (one, other) = tokio::join!(begin(&site, "custodian"), begin(&site, "opener"));
    let (won, lost) = match (one, other) {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        both => panic!("{both:?}"),
    };
    assert!(matches!(vault_proto::reason(&lost).as_deref(), Some("CEREMONY_OPEN" | "BUSY")), "{lost:?}");
    assert_eq!(status(&site).await.ceremony.map(|ceremony| ceremony.name), Some(won.name));
}

#[tokio::test]
async fn enough_shares_do_not_open_what_must_stay_sealed() {
    let site = Site::start_shared().await;
    let older = site.store.rows.image();
    site.log_size().await;
    site.seal().await;
    let newer = site.store.rows.image();
    site.store.restore(&older);
    let name = begin(&site, "custodian").await.unwrap().name;
    give(&site, "custodian", &name, &site.shares[0]).await.unwrap();
    refused(give(&site, "opener", &name, &site.shares[1]).await, "ROLLED_BACK", &site.shares[1]);
    assert_eq!(status(&site).await.ceremony, None, "more shares would not help");
    site.store.restore(&newer);
    open(&site).await;
    assert_eq!(status(&site).await.state(), vault_status::State::Unsealed);
}

#[tokio::test]
async fn a_passphrase_is_not_gathered_in_a_ceremony() {
    let site = Site::start().await;
    site.seal().await;
    let answered = begin(&site, "custodian").await;
    assert_eq!(answered.as_ref().map_err(Status::code).err(), Some(Code::FailedPrecondition));
    refused(answered, "OTHER_SEAL", "");
}

#[tokio::test]
async fn no_hsm_opens_what_a_passphrase_seals_and_none_is_asked_with_one() {
    let site = Site::start().await;
    site.seal().await;
    for (passphrase, reason) in [("", "OTHER_SEAL"), (PASSPHRASE, "PASSPHRASE_LENGTH")] {
        let asked = wire::UnsealRequest { passphrase: passphrase.as_bytes().to_vec(), hsm: true };
        let answered = client(&site, "custodian").unseal(asked).await;
        let answered = Refused::from(&answered.unwrap_err());
        assert_eq!(answered.reason.as_deref(), Some(reason));
        assert_eq!(answered.code, check::code_of(reason));
    }
    site.unseal().await;
}
