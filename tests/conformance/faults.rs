//! Valid requests that are refused for the state the vault is in, every RPC in every such state.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;
use vault_core::store::Space;
use vault_core::store::memory::Injected;
use vault_proto::v1 as wire;
use vault_proto::v1::vault_status::State;

use crate::cases::{Case, Entered};
use crate::check::{self, Before};
use crate::complete::rpcs;
use crate::requests;
use crate::rpcs::{Ask, Refused};
use crate::site::{FOREIGN, RESTRICTED, Site, Stage, actor};

/// A reason that has nothing to do with what a request says.
pub(crate) struct Fault {
    pub(crate) reason: &'static str,
    entered: Entered,
    /// RPCs that answer nevertheless.
    spared: &'static [&'static str],
}

/// What is answered while the keys are not in memory.
const WHILE_SEALED: &[&str] = &["Unseal", "GetStatus", "BeginCeremony", "SubmitShare", "CancelCeremony"];

/// Unsealing does not need the lane of an open vault, nor sealing that of a suspended one; the status is told
/// while nothing can be entered.
pub(crate) const FAULTS: [Fault; 7] = [
    Fault { reason: "SEALED", entered: Entered::No, spared: WHILE_SEALED },
    Fault { reason: "STORE", entered: Entered::No, spared: &["Unseal", "Seal", "GetStatus"] },
    Fault { reason: "OUTCOME_UNKNOWN", entered: Entered::No, spared: &["GetStatus"] },
    Fault { reason: "BUSY", entered: Entered::No, spared: &[] },
    Fault { reason: "DEADLINE_EXCEEDED", entered: Entered::No, spared: &[] },
    Fault { reason: "QUOTA", entered: Entered::Refused, spared: &[] },
    Fault { reason: "CORRUPT", entered: Entered::Refused, spared: &[] },
];

impl Fault {
    fn of(reason: &str) -> &'static Self {
        FAULTS.iter().find(|fault| fault.reason == reason).unwrap()
    }

    /// The RPCs that are refused so.
    pub(crate) fn rpcs(&self) -> BTreeSet<String> {
        rpcs().into_iter().filter(|rpc| !self.spared.contains(&rpc.as_str())).collect()
    }

    /// A valid call of each.
    fn cases(&self, what: &str, stage: &Stage) -> Vec<Case> {
        let case = |rpc: String| Case::new(what, requests::valid(&rpc, stage), self.reason, self.entered);
        self.rpcs().into_iter().map(case).collect()
    }
}

/// Makes the calls one after another; what is wrong with their answers.
async fn answers(site: &Site, cases: &[Case]) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        let got = Refused::of(site.ask(case.by, case.ask.clone()).await);
        wrong.extend(check::answer(case, got.as_ref()));
    }
    wrong
}

/// The state that the vault says it is in.
async fn state(site: &Site) -> State {
    let answer = site.ask("custodian", requests::valid("GetStatus", &site.stage)).await.unwrap();
    State::try_from(answer.state).unwrap()
}

#[tokio::test]
async fn sealed_nothing_is_served_but_status_and_unsealing() {
    let site = Site::start().await;
    let mut cases = Fault::of("SEALED").cases("sealed", &site.stage);
    let before = Before::take(&site).await;
    site.seal().await;
    let mut wrong = answers(&site, &cases).await;
    // Refused before anything is parsed.
    cases.push(Case::new("no value", requests::with_value("Tokenize", None), "SEALED", Entered::No));
    wrong.extend(answers(&site, &cases[cases.len() - 1..]).await);
    assert_eq!(state(&site).await, State::Sealed);
    site.unseal().await;
    wrong.extend(before.traces(&site, &cases.iter().collect::<Vec<_>>()).await);
    check::stop_at(&wrong);
}

#[tokio::test]
async fn suspended_nothing_is_served_until_the_store_is_back() {
    let site = Site::start().await;
    let cases = Fault::of("STORE").cases("suspended", &site.stage);
    let before = Before::take(&site).await;
    site.store.rows.fail_reopens(usize::MAX);
    site.store.rows.inject([Injected::Unavailable]);
    let mut wrong = answers(&site, &cases).await;
    assert_eq!(state(&site).await, State::Suspended);
    site.store.rows.fail_reopens(0);
    site.wait_until_serving().await;
    wrong.extend(before.traces(&site, &cases.iter().collect::<Vec<_>>()).await);
    assert_eq!(state(&site).await, State::Unsealed);
    check::stop_at(&wrong);
}

#[tokio::test]
async fn a_suspended_vault_is_sealed_and_the_log_hears_of_it_later() {
    let site = Site::start().await;
    let mark = site.log_size().await;
    site.store.rows.fail_reopens(usize::MAX);
    site.store.rows.inject([Injected::Unavailable]);
    let away = Refused::of(site.ask("checkout", requests::valid("Tokenize", &site.stage)).await).unwrap();
    assert_eq!(away.reason.as_deref(), Some("STORE"));
    for (by, reason, refused) in
        [("billing", "exercise-1", "DENIED"), ("opener", "exercise 1", "TEXT_MALFORMED")]
    {
        let got = Refused::of(site.ask(by, requests::seal(reason)).await).unwrap();
        assert_eq!(got.reason.as_deref(), Some(refused));
    }
    assert_eq!(state(&site).await, State::Suspended);
    let sealed = site.ask("opener", requests::seal("exercise-1")).await.unwrap();
    assert_eq!(State::try_from(sealed.state).unwrap(), State::Sealed);
    site.store.rows.fail_reopens(0);
    site.unseal().await;
    let entered = site.entries_since(mark).await.into_iter().filter(|entry| entry.action == "seal");
    let told: Vec<_> =
        entered.map(|entry| (actor(&entry).to_owned(), entry.outcome, entry.reference, entry.note)).collect();
    let by = |who: &str, outcome: &str, note: &str| {
        (who.to_owned(), outcome.to_owned(), "unseal-journal".to_owned(), note.to_owned())
    };
    assert_eq!(told, [by("billing", "DENIED", ""), by("opener", "DONE", "exercise-1")]);
}

#[tokio::test]
async fn a_vault_that_finds_another_history_seals_itself_and_the_log_hears_of_it_later() {
    let site = Site::start().await;
    let mark = site.log_size().await;
    site.store.rows.inject([Injected::UnknownNotApplied]);
    let image = site.store.damage(Space::LogHead);
    let unknown = Refused::of(site.ask("checkout", requests::valid("Tokenize", &site.stage)).await).unwrap();
    assert_eq!(unknown.reason.as_deref(), Some("OUTCOME_UNKNOWN"));
    for _ in 0..100 {
        if state(&site).await == State::Sealed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    site.store.restore(&image);
    site.unseal_after_sealing().await;
    let entered =
        site.entries_since(mark).await.into_iter().find(|entry| entry.action == "self-seal").unwrap();
    assert_eq!((actor(&entered), entered.reference.as_str()), ("vault", "unseal-journal"));
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_written_and_nothing_is_served() {
    let site = Site::start().await;
    let cases = Fault::of("STORE").cases("disk full", &site.stage);
    let before = Before::take(&site).await;
    let rows = site.store.rows.image();
    site.store.rows.set_space_low(true);
    let mut wrong = answers(&site, &cases).await;
    assert!(site.store.rows.image() == rows, "something was written");
    site.store.rows.set_space_low(false);
    site.wait_until_serving().await;
    wrong.extend(before.traces(&site, &cases.iter().collect::<Vec<_>>()).await);
    check::stop_at(&wrong);
}

/// How often somebody was to look, since the daemon started.
async fn alarms(site: &Site) -> u64 {
    let text = site.metrics().await;
    let line = text.lines().find_map(|line| line.strip_prefix("vaultd_alarms_total "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_full_disk_is_one_suspension_that_lasts_until_there_is_room() {
    let site = Site::start().await;
    let before = alarms(&site).await;
    site.store.rows.set_space_low(true);
    // Longer than the keeper needs for two rounds.
    for _ in 0..25 {
        let ask = requests::valid("Tokenize", &site.stage);
        let refused = Refused::of(site.ask("checkout", ask).await).unwrap();
        assert_eq!(refused.reason.as_deref(), Some("STORE"));
        assert_eq!(state(&site).await, State::Suspended);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(alarms(&site).await, before + 1);
    site.store.rows.set_space_low(false);
    site.wait_until_serving().await;
    assert_eq!(state(&site).await, State::Unsealed);
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_told_as_such_to_every_rpc() {
    let site = Site::start().await;
    for case in Fault::of("OUTCOME_UNKNOWN").cases("outcome unknown", &site.stage) {
        let before = Before::take(&site).await;
        site.store.rows.inject([Injected::UnknownNotApplied]);
        let mut wrong = answers(&site, std::slice::from_ref(&case)).await;
        site.wait_until_serving().await;
        wrong.extend(before.traces(&site, &[&case]).await);
        check::stop_at(&wrong);
    }
}

#[tokio::test]
async fn after_an_unknown_outcome_the_same_key_brings_the_token() {
    let site = Site::start().await;
    let orders = [
        (Injected::UnknownApplied, FOREIGN, "REPLAYED"),
        (Injected::UnknownNotApplied, "3566002020360505", "DONE"),
    ];
    for (order, pan, outcome) in orders {
        for rpc in ["Tokenize", "BatchTokenize"] {
            let ask = requests::with_key(rpc, pan, outcome);
            let kept = site.store.kept().len();
            site.store.rows.inject([order]);
            let got = Refused::of(site.ask("checkout", ask.clone()).await).unwrap();
            assert_eq!(got.reason.as_deref(), Some("OUTCOME_UNKNOWN"), "{rpc}");
            // All of it or nothing.
            let written = site.store.kept().len() - kept;
            assert_eq!(written > 0, order == Injected::UnknownApplied, "{rpc}, {written} rows");
            site.wait_until_serving().await;
            let mark = site.log_size().await;
            let token = site.ask("checkout", ask).await.unwrap().token;
            assert!(token.starts_with("tok_pan_"));
            let entered = site.entries_since(mark).await;
            let outcomes: Vec<&str> = entered.iter().map(|entry| entry.outcome.as_str()).collect();
            let expected = if rpc == "BatchTokenize" && outcome == "DONE" { "EXISTING" } else { outcome };
            assert_eq!(outcomes, [expected], "{rpc}");
        }
    }
}

/// Bad items: they take places and make entries, and cost no encryption.
fn filling(items: usize) -> Ask {
    requests::batch_tokenize(vec![wire::BatchTokenizeItem::default(); items])
}

/// Takes a principal's whole quarter of the lane, to the last place: of more calls than fit, the first that
/// is answered is the one too many.
async fn fill_quarter(site: &Site, filler: &str, calls: &mut JoinSet<Option<Refused>>) {
    for (count, items) in [(5, 1_000), (2, 96)] {
        let mut more = JoinSet::new();
        for _ in 0..count {
            let (channel, ask) = (site.channel(filler), filling(items));
            more.spawn(async move { Refused::of(ask.send(channel).await) });
        }
        let first = tokio::time::timeout(Duration::from_secs(60), more.join_next()).await;
        let refused = first.expect("more is let in than a quarter").unwrap().unwrap().unwrap();
        assert_eq!(refused.reason.as_deref(), Some("BUSY"));
        calls.spawn(async move { more.join_all().await.pop().flatten() });
    }
}

#[tokio::test]
async fn with_the_lane_full_every_rpc_is_told_to_come_back() {
    let site = Site::start().await;
    let cases = Fault::of("BUSY").cases("lane full", &site.stage);
    let kept = site.store.kept();
    let size = site.log_size().await;
    site.store.close();
    let mut calls = JoinSet::new();
    for filler in ["filler-1", "filler-2", "filler-3", "filler-4"] {
        fill_quarter(&site, filler, &mut calls).await;
    }
    let wrong = answers(&site, &cases).await;
    site.store.open();
    calls.join_all().await;
    check::stop_at(&wrong);
    // What was let in has its entries, a whole quarter for each; what was refused has none.
    assert_eq!(site.log_size().await, size + 4 * 4_096 + 1);
    assert!(site.store.kept() == kept);
}

#[tokio::test]
async fn a_call_whose_deadline_passes_in_the_lane_has_no_effect() {
    let site = Site::start_with(|_, _, config| {
        let soon = Duration::from_millis(200);
        config.deadlines.unary_default = soon;
        config.deadlines.batch_default = soon;
    })
    .await;
    let cases = Fault::of("DEADLINE_EXCEEDED").cases("deadline passed", &site.stage);
    let before = Before::take(&site).await;
    site.store.close();
    let first = tokio::spawn(filling(1).send(site.channel("filler-1")));
    let waiting = tokio::task::spawn_blocking({
        let store = std::sync::Arc::clone(&site.store);
        move || store.wait_for_commit()
    });
    waiting.await.unwrap();
    let mut calls = JoinSet::new();
    for (place, case) in cases.iter().enumerate() {
        let (channel, ask) = (site.channel(case.by), case.ask.clone());
        calls.spawn(async move { (place, Refused::of(ask.send(channel).await)) });
    }
    // Past the deadline of all of them, however slowly they arrive.
    tokio::time::sleep(Duration::from_secs(2)).await;
    site.store.open();
    assert!(first.await.unwrap().is_ok());
    let mut wrong = Vec::new();
    for (place, got) in calls.join_all().await {
        wrong.extend(check::answer(&cases[place], got.as_ref()));
    }
    wrong.extend(before.traces(&site, &cases.iter().collect::<Vec<_>>()).await);
    check::stop_at(&wrong);
}

#[tokio::test]
async fn a_call_that_its_caller_gave_up_in_the_lane_has_no_effect() {
    let site = Site::start().await;
    let kept = site.store.kept();
    let mark = site.log_size().await;
    site.store.close();
    let first = tokio::spawn(filling(1).send(site.channel("filler-1")));
    let store = std::sync::Arc::clone(&site.store);
    tokio::task::spawn_blocking(move || store.wait_for_commit()).await.unwrap();
    let mut request = tonic::Request::new(requests::tokenize(requests::card(FOREIGN)));
    request.set_timeout(Duration::from_millis(200));
    let mut client = wire::tokenization_client::TokenizationClient::new(site.channel("checkout"));
    assert!(client.tokenize(request).await.is_err());
    // The reset follows its call; whatever comes after it on the same connection is behind it.
    let sealed = site.ask("checkout", requests::with_value("Tokenize", None)).await;
    assert_eq!(Refused::of(sealed).unwrap().reason.as_deref(), Some("FIELD_MISSING"));
    site.store.open();
    assert!(first.await.unwrap().is_ok());
    let entries = site.entries_since(mark).await;
    assert!(entries.iter().all(|entry| crate::site::actor(entry) == "filler-1"));
    assert!(site.store.kept() == kept);
}

#[tokio::test]
async fn beyond_the_requests_of_a_minute_every_rpc_is_refused_and_summed_up() {
    let site = Site::start().await;
    for mut case in Fault::of("QUOTA").cases("second call of a minute", &site.stage) {
        case.by = match case.by {
            "checkout" => "slow-checkout",
            "billing" => "slow-billing",
            "care" => "slow-care",
            "auditor" => "slow-auditor",
            _ => "slow-custodian",
        };
        site.clock.advance(60);
        // The first call of the minute, one that is served and leaves vault and record as they are.
        let first = match case.ask.rpc() {
            "Seal" | "BeginCeremony" | "SubmitShare" | "CancelCeremony" => "GetStatus",
            "EraseToken" => "GetToken",
            "RotateKeys" | "DestroyKeys" => "GetStatus",
            rpc => rpc,
        };
        site.ask(case.by, requests::valid(first, &site.stage)).await.unwrap();
        let before = Before::take(&site).await;
        let mut wrong = answers(&site, std::slice::from_ref(&case)).await;
        // One more leaves no entry of its own.
        wrong.extend(answers(&site, std::slice::from_ref(&case)).await);
        wrong.extend(before.traces(&site, &[&case, &case]).await);
        check::stop_at(&wrong);

        let mark = site.log_size().await;
        site.clock.advance(60);
        site.ask(case.by, requests::valid(first, &site.stage)).await.unwrap();
        let entries = site.entries_since(mark).await;
        let summary = entries.iter().find(|entry| entry.action == "quota-summary").unwrap();
        assert_eq!((crate::site::actor(summary), summary.count), (case.by, 1));
    }
}

#[tokio::test]
async fn beyond_the_tokens_of_a_day_no_further_one_is_released() {
    let site = Site::start().await;
    let own = requests::with_token("Detokenize", &site.stage.own);
    site.ask("thrifty", own.clone()).await.unwrap();
    for rpc in ["Detokenize", "BatchDetokenize"] {
        let ask = requests::with_token(rpc, &site.stage.own_ssn);
        let mut case = Case::new("a second token in a day", ask, "QUOTA", Entered::Refused);
        case.by = "thrifty";
        check::all(&site, &[case]).await;
    }
    // The one it has had today stays free; another day, another token.
    site.ask("thrifty", own).await.unwrap();
}

#[tokio::test]
async fn a_damaged_row_fails_every_rpc_that_reads_it_and_nothing_else() {
    let site = Site::start().await;
    let everywhere = Fault::of("CORRUPT").cases("damaged counters", &site.stage);
    damaged(&site, Space::Quota, &everywhere).await;
    let of = |rpcs: &[&str], what: &str| {
        let case =
            |rpc: &&str| Case::new(what, requests::valid(rpc, &site.stage), "CORRUPT", Entered::Refused);
        rpcs.iter().map(case).collect::<Vec<_>>()
    };
    let readers = ["Detokenize", "BatchDetokenize", "GetToken", "CompareLastFour", "EraseToken"];
    damaged(&site, Space::Record, &of(&readers, "damaged records")).await;
    let by_index = ["Tokenize", "BatchTokenize", "FindByValue", "EraseToken"];
    damaged(&site, Space::Index, &of(&by_index, "damaged index")).await;
    for rpc in ["Tokenize", "BatchTokenize"] {
        let ask = requests::with_key(rpc, RESTRICTED, "kept");
        site.ask("checkout", ask.clone()).await.unwrap();
        let case = Case::new("damaged idempotency rows", ask, "CORRUPT", Entered::Refused);
        damaged(&site, Space::Idempotency, &[case]).await;
    }
    let expected = (everywhere.len() + readers.len() + by_index.len() + 2) as u64;
    assert_eq!(alarms(&site).await, expected, "every damaged row alarms");
}

/// Damages every row of a space for the time of each call.
async fn damaged(site: &Site, space: Space, cases: &[Case]) {
    for case in cases {
        let before = Before::take(site).await;
        let image = site.store.damage(space);
        let mut wrong = answers(site, std::slice::from_ref(case)).await;
        // Everything the call itself wrote stays; what was damaged is whole again.
        for (key, row) in image.into_iter().filter(|(key, _)| key.space() == space) {
            site.store.rows.danger_set(key, Some(row));
        }
        wrong.extend(before.traces(site, &[case]).await);
        check::stop_at(&wrong);
    }
}

#[tokio::test]
async fn a_damaged_page_of_the_log_fails_whoever_reads_it() {
    let site = Site::start().await;
    for rpc in ["ListEntries", "ProveInclusion", "ProveConsistency"] {
        let ask = match rpc {
            // Of its pages a listing reads what it shows: here up to the entry that is damaged.
            "ListEntries" => Ask::ListEntries(wire::ListEntriesRequest { start_index: 0, page_size: 500 }),
            _ => requests::valid(rpc, &site.stage),
        };
        let before = Before::take(&site).await;
        let image = site.store.damage(Space::LogPage);
        let got = Refused::of(site.ask("auditor", ask.clone()).await);
        for (key, row) in image.into_iter().filter(|(key, _)| key.space() == Space::LogPage) {
            site.store.rows.danger_set(key, Some(row));
        }
        // The right was granted, and that is entered; what was to be read is damaged.
        let case = Case::new("damaged pages", ask, "CORRUPT", Entered::Granted);
        let mut wrong = check::answer(&case, got.as_ref());
        wrong.extend(before.traces(&site, &[&case]).await);
        check::stop_at(&wrong);
    }
    assert_eq!(alarms(&site).await, 3, "every damaged page alarms");
}
