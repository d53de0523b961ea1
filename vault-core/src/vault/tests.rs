//! The door as a whole, over the memory store with given time and randomness.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

pub(super) use erase::unlimited_policy;

mod erase;
mod key_orders;
mod rewrap;
mod rotation;

use std::sync::{Arc, Mutex};

use super::*;
use crate::audit::{Action, Entry, Origin, Outcome as Recorded, Receipt, read_entries};
use crate::clock::Timestamp;
use crate::crypto::{Purposes, SeededEntropy};
use crate::data::{CallerText, Card, Environment, Pan, PurposeId, Secret, Ssn, TenantId, Token, Value};
use crate::error::{Error, Exhausted, Invalid, State, Unavailable};
use crate::keys::Keyring;
use crate::policy::{Identity, Policy};
use crate::store::memory::{Injected, MemoryStore};
use crate::store::{Commit, Fault, Key, Row, Space, Store, Writes};

pub(super) const POLICY: &str = r#"
[[tenant]]
id = "shop"
classes = ["pan", "ssn"]

[[tenant]]
id = "indexed"
classes = ["pan", "ssn"]
one_token_per_value = true

[[tenant]]
id = "cards"
classes = ["pan"]

[[purpose]]
id = "settlement"
version = 1
classes = ["pan", "ssn"]
text_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"

[[purpose]]
id = "refund"
version = 1
classes = ["pan"]
text_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"

[[recipient]]
id = "acquirer"
purposes = ["settlement", "refund"]

[[principal]]
id = "checkout"
identity = "uri:spiffe://test/checkout"
tenant = "shop"
role = "checkout"
rights = ["tokenize", "prove"]
classes = ["pan", "ssn"]

[[principal]]
id = "billing"
identity = "uri:spiffe://test/billing"
tenant = "shop"
role = "billing"
rights = ["detokenize", "view", "compare", "prove"]
classes = ["pan", "ssn"]
purposes = ["settlement", "refund"]
recipients = ["acquirer"]
requests_per_minute = 100
distinct_tokens_per_day = 3

[[principal]]
id = "other-billing"
identity = "uri:spiffe://test/other-billing"
tenant = "indexed"
role = "billing"
rights = ["detokenize", "view"]
classes = ["pan", "ssn"]
purposes = ["settlement"]
recipients = ["acquirer"]

[[principal]]
id = "indexed-checkout"
identity = "uri:spiffe://test/indexed-checkout"
tenant = "indexed"
role = "checkout"
rights = ["tokenize", "find-by-value"]
classes = ["pan"]
requests_per_minute = 5

[[principal]]
id = "cards-checkout"
identity = "uri:spiffe://test/cards-checkout"
tenant = "cards"
role = "checkout"
rights = ["tokenize"]
classes = ["pan"]

[[principal]]
id = "care"
identity = "uri:spiffe://test/care"
tenant = "shop"
role = "customer-service"
rights = ["erase"]
classes = ["pan", "ssn"]

[[principal]]
id = "indexed-care"
identity = "uri:spiffe://test/indexed-care"
tenant = "indexed"
role = "customer-service"
rights = ["erase"]
classes = ["pan", "ssn"]

[[principal]]
id = "custodian"
identity = "uri:spiffe://test/custodian"
tenant = "*"
role = "custodian"
rights = ["status", "rotate-keys", "destroy-keys"]

[[principal]]
id = "shop-custodian"
identity = "uri:spiffe://test/shop-custodian"
tenant = "shop"
role = "custodian"
rights = ["status", "rotate-keys", "destroy-keys"]

[[principal]]
id = "auditor"
identity = "uri:spiffe://test/auditor"
tenant = "*"
role = "auditor"
rights = ["audit-read", "prove", "status"]
"#;

pub(super) const VISA: &[u8] = b"4111111111111111";

pub(super) struct Bench {
    pub(super) store: Arc<MemoryStore>,
    pub(super) vault: Vault,
    pub(super) entropy: SeededEntropy,
    pub(super) now: Timestamp,
}

impl Bench {
    pub(super) fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        Self::over(store.clone(), store)
    }

    /// A vault that sees `store` through `shared`.
    pub(super) fn over(store: Arc<MemoryStore>, shared: Arc<dyn Store>) -> Self {
        let mut entropy = SeededEntropy::new(7);
        let now = Timestamp::from_seconds(1_800_000_000);
        let keyring = Keyring::create(Environment::parse("test").unwrap(), &mut entropy, now).unwrap();
        let policy = Arc::new(Policy::parse(POLICY).unwrap());
        let origin = Origin::parse("vault.test/one").unwrap();
        let vault = Vault::with_keyring(shared, keyring, origin, policy, now, &mut entropy).unwrap();
        Self { store, vault, entropy, now }
    }

    fn prepare(&mut self, who: &str, request: Request) -> Prepared {
        self.vault.prepare(&identity(who), request, self.now, &mut self.entropy)
    }

    pub(super) fn call(&mut self, who: &str, request: Request) -> Outcome {
        let call = self.prepare(who, request);
        self.vault.commit(&[call], &mut self.entropy).pop().unwrap()
    }

    pub(super) fn tokenize(&mut self, who: &str, pan: &[u8]) -> Result<Token, Error> {
        only(self.call(who, tokenize(pan, None)))
    }

    pub(super) fn detokenize(&mut self, who: &str, token: Token, purpose: &str) -> Result<Vec<u8>, Error> {
        let outcome = self.call(who, detokenize(token, purpose));
        match outcome.into_result()? {
            Reply::Detokenized(mut released) => {
                released.pop().unwrap().map(|released| released.value.expose_digits().to_vec())
            }
            _ => panic!("another reply"),
        }
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let head = self.vault.tree_head();
        let mut entries = Vec::new();
        while (entries.len() as u64) < head.size {
            let part = read_entries(&self.vault.log(), &head, entries.len() as u64, 500).unwrap();
            entries.extend(part.into_iter().map(|logged| logged.entry));
        }
        entries
    }

    fn last(&self) -> Entry {
        self.entries().pop().unwrap()
    }
}

pub(super) fn identity(who: &str) -> Identity {
    Identity::uri(&format!("spiffe://test/{who}")).unwrap()
}

fn card(pan: &[u8]) -> Value {
    Value::Pan(Card { pan: Pan::parse(pan).unwrap(), expiry: None, cardholder_name: None })
}

fn item(value: Value) -> Result<NewValue, Invalid> {
    Ok(NewValue { value, purposes: Purposes::unrestricted(), reference: None })
}

pub(super) fn tokenize(pan: &[u8], key: Option<&str>) -> Request {
    let idempotency_key = key.map(|key| CallerText::parse(key).unwrap());
    Request::Tokenize { items: vec![item(card(pan))], idempotency_key, batch: false }
}

pub(super) fn detokenize(token: Token, purpose: &str) -> Request {
    Request::Detokenize {
        items: vec![Ok(token)],
        purpose: purpose.into(),
        recipient: "acquirer".into(),
        reference: Some(CallerText::parse("order-1").unwrap()),
    }
}

pub(super) fn only(outcome: Outcome) -> Result<Token, Error> {
    match outcome.into_result()? {
        Reply::Tokenized(mut tokens) => tokens.pop().unwrap(),
        _ => panic!("another reply"),
    }
}

#[test]
fn a_value_becomes_a_token_and_comes_back() {
    let mut bench = Bench::new();
    let token = bench.tokenize("checkout", VISA).unwrap();
    assert_eq!(bench.last().action, Action::Tokenize);
    assert_eq!(bench.last().token, Some(token));
    assert_eq!(bench.detokenize("billing", token, "settlement").unwrap(), VISA);
    let last = bench.last();
    assert_eq!((last.action, last.outcome), (Action::Detokenize, Recorded::Done));
    assert_eq!(last.purpose.unwrap().as_str(), "settlement");
    assert_eq!(last.reference.unwrap().as_str(), "order-1");
    assert_eq!(last.record_version, 1);
}

#[test]
fn each_tokenize_gives_a_new_token_unless_the_tenant_keeps_one_per_value() {
    let mut bench = Bench::new();
    let (one, two) = (bench.tokenize("checkout", VISA).unwrap(), bench.tokenize("checkout", VISA).unwrap());
    assert_ne!(one, two);
    let one = bench.tokenize("indexed-checkout", VISA).unwrap();
    let two = bench.tokenize("indexed-checkout", VISA).unwrap();
    assert_eq!(one, two);
    assert_eq!(bench.last().outcome, Recorded::Existing);
    let found = bench.call("indexed-checkout", Request::FindByValue { value: card(VISA), reference: None });
    assert!(matches!(found.into_result(), Ok(Reply::Found(Some(token))) if token == one));
}

#[test]
fn two_tokenizes_of_one_value_in_one_batch_give_one_token() {
    let mut bench = Bench::new();
    let calls = [
        bench.prepare("indexed-checkout", tokenize(VISA, None)),
        bench.prepare("indexed-checkout", tokenize(VISA, None)),
    ];
    let mut outcomes = bench.vault.commit(&calls, &mut bench.entropy);
    let second = only(outcomes.pop().unwrap()).unwrap();
    assert_eq!(only(outcomes.pop().unwrap()).unwrap(), second);
}

#[test]
fn unknown_foreign_and_mistagged_tokens_are_one_answer() {
    let mut bench = Bench::new();
    let token = bench.tokenize("checkout", VISA).unwrap();
    let mistagged = Token::from_parts(token.class(), *token.bits(), [0; 4]);
    let unknown = bench.vault.keys().keyring.mint(token.class(), &mut bench.entropy).unwrap();
    assert_eq!(bench.detokenize("other-billing", token, "settlement"), Err(Error::UnknownToken));
    assert_eq!(bench.last().token, Some(token));
    assert_eq!(bench.detokenize("billing", mistagged, "settlement"), Err(Error::UnknownToken));
    assert_eq!(bench.last().token, None, "an entry keeps nothing a stranger made up");
    assert_eq!(bench.detokenize("billing", unknown, "settlement"), Err(Error::UnknownToken));
    assert_eq!(bench.last().outcome, Recorded::UnknownToken);
}

#[test]
fn a_record_is_used_for_its_own_purposes_only() {
    let mut bench = Bench::new();
    let purposes = Purposes::new(vec![PurposeId::parse("refund").unwrap()]).unwrap();
    let item = Ok(NewValue { value: card(VISA), purposes, reference: None });
    let request = Request::Tokenize { items: vec![item], idempotency_key: None, batch: false };
    let token = only(bench.call("checkout", request)).unwrap();
    assert_eq!(bench.detokenize("billing", token, "settlement"), Err(Error::UnknownToken));
    assert_eq!(bench.detokenize("billing", token, "refund").unwrap(), VISA);
}

#[test]
fn whoever_has_no_right_is_denied_and_entered() {
    let mut bench = Bench::new();
    let token = bench.tokenize("checkout", VISA).unwrap();
    for who in ["checkout", "auditor", "nobody"] {
        assert_eq!(bench.detokenize(who, token, "settlement"), Err(Error::Denied), "{who}");
        assert_eq!(bench.last().outcome, Recorded::Denied);
    }
    assert_eq!(bench.detokenize("billing", token, "marketing"), Err(Error::Denied));
    assert_eq!(bench.tokenize("billing", VISA), Err(Error::Denied));
}

#[test]
fn an_idempotency_key_gives_the_same_outcome_or_refuses_another_body() {
    let mut bench = Bench::new();
    let first = only(bench.call("checkout", tokenize(VISA, Some("order-1")))).unwrap();
    assert_eq!(only(bench.call("checkout", tokenize(VISA, Some("order-1")))).unwrap(), first);
    assert_eq!(bench.last().outcome, Recorded::Replayed);
    let other = only(bench.call("checkout", tokenize(b"5555555555554444", Some("order-1"))));
    assert_eq!(other, Err(Error::IdempotencyKeyReused));
    bench.now = bench.now.plus_seconds(24 * 60 * 60);
    assert_ne!(only(bench.call("checkout", tokenize(VISA, Some("order-1")))).unwrap(), first);
}

#[test]
fn one_idempotency_key_twice_in_one_batch_gives_one_token() {
    let mut bench = Bench::new();
    let calls = [
        bench.prepare("checkout", tokenize(VISA, Some("k"))),
        bench.prepare("checkout", tokenize(VISA, Some("k"))),
    ];
    let mut outcomes = bench.vault.commit(&calls, &mut bench.entropy);
    assert_eq!(only(outcomes.pop().unwrap()).unwrap(), only(outcomes.pop().unwrap()).unwrap());
}

#[test]
fn a_quota_refuses_enters_once_and_is_summed_up_later() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        bench.tokenize("indexed-checkout", VISA).unwrap();
    }
    let before = bench.entries().len();
    for _ in 0..4 {
        let refused = bench.tokenize("indexed-checkout", VISA);
        assert!(matches!(refused, Err(Error::Exhausted(Exhausted::Quota { .. }))));
    }
    assert_eq!(bench.entries().len(), before + 1, "only the first refusal of a minute has its own entry");
    bench.now = bench.now.plus_seconds(60);
    bench.tokenize("indexed-checkout", VISA).unwrap();
    let entries = bench.entries();
    let summary = entries.iter().find(|entry| entry.action == Action::QuotaSummary).unwrap();
    assert_eq!(summary.count, 3);
}

#[test]
fn distinct_tokens_a_day_are_counted_and_repeats_are_free() {
    let mut bench = Bench::new();
    let tokens: Vec<Token> = (0..4).map(|_| bench.tokenize("checkout", VISA).unwrap()).collect();
    for token in tokens.iter().take(3).chain(tokens.iter().take(3)) {
        bench.detokenize("billing", *token, "settlement").unwrap();
    }
    let refused = bench.detokenize("billing", tokens[3], "settlement");
    assert!(matches!(refused, Err(Error::Exhausted(Exhausted::Quota { .. }))));
    bench.now = bench.now.plus_seconds(24 * 60 * 60);
    bench.detokenize("billing", tokens[3], "settlement").unwrap();
    // A row for each commit of yesterday's tokens, and the minute in which checkout called.
    assert_eq!(bench.vault.sweep(bench.now, &mut bench.entropy).unwrap(), 3 + 1);
    assert_eq!(bench.last().action, Action::Sweep);
}

#[test]
fn a_view_with_the_bin_is_entered_as_such() {
    let mut bench = Bench::new();
    let token = bench.tokenize("checkout", VISA).unwrap();
    let policy = POLICY
        .replacen(
            "classes = [\"pan\", \"ssn\"]\n",
            "classes = [\"pan\", \"ssn\"]\ntruncation = \"bin-last-four\"\n",
            1,
        )
        .replacen("\"view\", \"compare\"", "\"view\", \"view-bin\", \"compare\"", 1);
    for (policy, masked, action) in [
        (policy.replace("\"view-bin\", ", ""), "************1111", Action::View),
        (policy.clone(), "41111111****1111", Action::ViewBin),
    ] {
        let policy = Arc::new(Policy::parse(&policy).unwrap());
        bench.vault.load_policy(policy, bench.now, &mut bench.entropy).unwrap();
        let view = bench.call("billing", Request::View { token, reference: None });
        let Ok(Reply::Viewed(view)) = view.into_result() else { panic!("refused") };
        assert_eq!((view.masked.to_string().as_str(), bench.last().action), (masked, action));
    }
}

#[test]
fn a_clock_that_goes_back_opens_no_window_again() {
    let mut bench = Bench::new();
    let tokens: Vec<Token> = (0..4).map(|_| bench.tokenize("checkout", VISA).unwrap()).collect();
    for token in &tokens[..3] {
        bench.detokenize("billing", *token, "settlement").unwrap();
    }
    for _ in 0..5 {
        bench.tokenize("indexed-checkout", VISA).unwrap();
    }
    let reached = bench.now.seconds();
    for (seconds, requests, tokens_a_day) in
        [(60, false, false), (3_600, false, false), (24 * 3_600, true, false)]
    {
        bench.now = Timestamp::from_seconds(reached - seconds);
        let tokenized = bench.tokenize("indexed-checkout", VISA);
        let released = bench.detokenize("billing", tokens[3], "settlement");
        assert_eq!((tokenized.is_ok(), released.is_ok()), (requests, tokens_a_day), "{seconds} s back");
    }
    // The clock had been wrong before.
    bench.now = Timestamp::from_seconds(reached - 2 * 24 * 3_600);
    assert!(bench.detokenize("billing", tokens[3], "settlement").is_ok());
}

#[test]
fn the_entry_of_a_refusal_says_what_for_where_the_policy_has_the_name() {
    let mut bench = Bench::new();
    let ssn = Value::Ssn(Ssn::parse(b"123-45-6789").unwrap());
    let request = Request::Tokenize { items: vec![item(ssn)], idempotency_key: None, batch: false };
    let token = only(bench.call("checkout", request)).unwrap();
    let refund = PurposeId::parse("refund").unwrap();
    for (purpose, entered) in [("refund", Some(refund)), ("curiosity", None)] {
        assert_eq!(bench.detokenize("billing", token, purpose), Err(Error::Denied));
        let entry = bench.last();
        assert_eq!((entry.outcome, entry.purpose), (Recorded::Denied, entered));
        assert_eq!(entry.recipient.as_ref().map(|name| name.as_str()), Some("acquirer"));
    }
}

#[test]
fn a_batch_has_a_verdict_and_an_entry_for_each_item() {
    let mut bench = Bench::new();
    let ssn = Value::Ssn(Ssn::parse(b"123-45-6789").unwrap());
    let items = vec![item(card(VISA)), Err(Invalid::PanLuhn), item(ssn)];
    let request =
        Request::Tokenize { items, idempotency_key: Some(CallerText::parse("b").unwrap()), batch: true };
    let outcome = bench.call("checkout", request);
    assert_eq!(outcome.receipts().len(), 3);
    let Ok(Reply::Tokenized(tokens)) = outcome.into_result() else { panic!("refused") };
    assert!(tokens[0].is_ok() && tokens[2].is_ok());
    assert_eq!(tokens[1], Err(Error::Invalid(Invalid::PanLuhn)));
    let items =
        vec![item(card(VISA)), Err(Invalid::PanLuhn), item(Value::Ssn(Ssn::parse(b"123456789").unwrap()))];
    let again =
        Request::Tokenize { items, idempotency_key: Some(CallerText::parse("b").unwrap()), batch: true };
    let Ok(Reply::Tokenized(replayed)) = bench.call("checkout", again).into_result() else {
        panic!("refused")
    };
    assert_eq!(replayed, tokens);
}

#[test]
fn an_item_of_a_class_that_the_tenant_lacks_is_refused_alone() {
    let mut bench = Bench::new();
    for key in [None, Some("k")] {
        let batch = |pan: &[u8], ssn: &[u8]| Request::Tokenize {
            items: vec![item(Value::Ssn(Ssn::parse(ssn).unwrap())), item(card(pan))],
            idempotency_key: key.map(|key| CallerText::parse(key).unwrap()),
            batch: true,
        };
        let outcome = bench.call("cards-checkout", batch(VISA, b"123-45-6789"));
        assert_eq!(outcome.receipts().len(), 2);
        let Ok(Reply::Tokenized(first)) = outcome.into_result() else { panic!("refused as a whole") };
        assert!(first[0] == Err(Error::Denied) && first[1].is_ok());

        let again = bench.call("cards-checkout", batch(VISA, b"123-45-6789")).into_result();
        let Ok(Reply::Tokenized(again)) = again else { panic!("refused as a whole") };
        assert_eq!(again == first, key.is_some());
        let other = bench.call("cards-checkout", batch(b"4012888888881881", b"123-45-6789"));
        assert_eq!(other.into_result().err(), key.map(|_| Error::IdempotencyKeyReused));
    }
}

#[test]
fn a_view_shows_the_last_four_and_compare_says_yes_or_no() {
    let mut bench = Bench::new();
    let token = bench.tokenize("checkout", VISA).unwrap();
    let view = bench.call("billing", Request::View { token, reference: None });
    let Ok(Reply::Viewed(view)) = view.into_result() else { panic!("refused") };
    assert_eq!(view.masked.to_string(), "************1111");
    for (digits, same) in [(*b"1111", true), (*b"1112", false)] {
        let last_four = Secret::new(Box::new(digits));
        let compared = bench.call("billing", Request::Compare { token, last_four, reference: None });
        assert!(matches!(compared.into_result(), Ok(Reply::Compared(answer)) if answer == same));
    }
}

#[test]
fn receipts_prove_under_a_signed_checkpoint() {
    let mut bench = Bench::new();
    let outcome = bench.call("checkout", tokenize(VISA, None));
    let receipt: Receipt = outcome.receipts()[0].clone();
    let Ok(Reply::Granted(grant)) = bench.call("auditor", Request::Prove).into_result() else {
        panic!("denied")
    };
    let proof = bench.vault.prove_inclusion(&grant, receipt.index, &receipt.leaf_hash).unwrap();
    let key = bench.vault.verifying_key();
    let head =
        crate::audit::Checkpoint::parse_and_verify(&proof.checkpoint, bench.vault.origin(), &key).unwrap();
    assert!(receipt.verify(&head, &proof.hashes));
    let wrong = bench.vault.prove_inclusion(&grant, receipt.index, &[0; 32]);
    assert_eq!(wrong.err(), Some(Error::Invalid(Invalid::LeafHashMismatch)));
    let Ok(Reply::Granted(reading)) = bench.call("auditor", Request::ReadLog).into_result() else {
        panic!("denied")
    };
    assert!(bench.vault.entries(&grant, 0, 10).is_err(), "a grant opens what it was given for");
    assert_eq!(
        bench.vault.entries(&reading, 0, 500).unwrap().entries.len() as u64,
        bench.vault.tree_head().size
    );
}

#[test]
fn a_conflict_is_planned_again_and_too_many_are_unavailable() {
    let mut bench = Bench::new();
    bench.store.inject([Injected::Conflict; 3]);
    bench.tokenize("checkout", VISA).unwrap();
    bench.store.inject([Injected::Conflict; 100]);
    assert_eq!(bench.tokenize("checkout", VISA), Err(Error::Unavailable(Unavailable::Store)));
}

#[test]
fn an_unknown_outcome_suspends_until_the_head_tells() {
    for applied in [false, true] {
        let mut bench = Bench::new();
        let before = bench.vault.tree_head().size;
        bench.store.inject([if applied { Injected::UnknownApplied } else { Injected::UnknownNotApplied }]);
        let unknown = bench.tokenize("checkout", VISA);
        assert_eq!(unknown, Err(Error::Unavailable(Unavailable::OutcomeUnknown)));
        assert_eq!(bench.vault.health(), Health::Suspended);
        assert_eq!(bench.tokenize("checkout", VISA), Err(Error::Unavailable(Unavailable::Store)));
        assert_eq!(bench.vault.resume(), Health::Serving);
        assert_eq!(bench.vault.tree_head().size, before + u64::from(applied));
        bench.tokenize("checkout", VISA).unwrap();
    }
}

#[test]
fn while_there_is_no_room_for_a_commit_the_vault_stays_suspended() {
    let mut bench = Bench::new();
    bench.store.set_space_low(true);
    assert_eq!(bench.tokenize("checkout", VISA), Err(Error::Unavailable(Unavailable::Store)));
    for _ in 0..3 {
        assert_eq!(bench.vault.resume(), Health::Suspended);
    }
    bench.store.set_space_low(false);
    assert_eq!(bench.vault.resume(), Health::Serving);
    bench.tokenize("checkout", VISA).unwrap();
}

#[test]
fn a_vault_that_must_seal_answers_nothing() {
    let mut bench = Bench::new();
    bench.vault.must_seal(&mut bench.vault.lane());
    assert_eq!(bench.tokenize("checkout", VISA), Err(Error::State(State::Sealed)));
}

#[test]
fn check_finds_what_is_missing_damaged_or_foreign() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        bench.tokenize("checkout", VISA).unwrap();
    }
    bench.tokenize("indexed-checkout", VISA).unwrap();
    let report = bench.vault.check(bench.now, &mut bench.entropy).unwrap();
    assert_eq!((report.records, report.index_rows), (6, 1));
    assert_eq!(report.findings, []);
}

/// Rows that count and remember are authentic like every other.
#[test]
fn check_finds_every_row_that_does_not_authenticate() {
    let mut bench = Bench::new();
    let token = bench.tokenize("checkout", VISA).unwrap();
    bench.call("checkout", tokenize(VISA, Some("order"))).into_result().unwrap();
    bench.tokenize("indexed-checkout", VISA).unwrap();
    bench.detokenize("billing", token, "settlement").unwrap();
    let spaces = [Space::Record, Space::Index, Space::Idempotency, Space::Quota, Space::Seen, Space::Meta];
    for space in spaces {
        let image = bench.store.image();
        let (key, row) = image.into_iter().find(|(key, _)| key.space() == space).unwrap();
        let mut changed = row.clone();
        *changed.value.last_mut().unwrap() ^= 1;
        bench.store.danger_set(key.clone(), Some(changed));
        let report = bench.vault.check(bench.now, &mut bench.entropy).unwrap();
        let [Finding::Damaged { space: found, tenant }] = report.findings.as_slice() else {
            panic!("{space:?}: {:?}", report.findings)
        };
        assert_eq!((*found, tenant.as_ref().map_or("", TenantId::as_str)), (space, key.tenant()));
        bench.store.danger_set(key, Some(row));
    }
    assert_eq!(bench.vault.check(bench.now, &mut bench.entropy).unwrap().findings, []);
}

/// Nobody is refused for damage among the tokens that were counted, but somebody hears of it.
#[test]
fn damage_among_counted_tokens_is_told_once() {
    let mut bench = Bench::new();
    let token = bench.tokenize("checkout", VISA).unwrap();
    bench.detokenize("billing", token, "settlement").unwrap();
    assert_eq!(bench.vault.take_damage(), 0);
    let image = bench.store.image();
    let (key, mut row) = image.into_iter().find(|(key, _)| key.space() == Space::Seen).unwrap();
    row.value[0] ^= 1;
    bench.store.danger_set(key, Some(row));
    // What was counted is read again after a commit in doubt.
    bench.store.inject([Injected::UnknownNotApplied]);
    bench.tokenize("checkout", VISA).unwrap_err();
    assert_eq!(bench.vault.resume(), Health::Serving);
    bench.detokenize("billing", token, "settlement").unwrap();
    assert_eq!((bench.vault.take_damage(), bench.vault.take_damage()), (1, 0));
}

#[test]
fn check_reads_on_where_a_scan_ends_early_and_knows_tenants_that_left_the_policy() {
    let store = Arc::new(MemoryStore::new());
    let mut bench = Bench::over(store.clone(), Arc::new(Blind { rows_max: 2, ..Blind::of(&store) }));
    for _ in 0..5 {
        bench.tokenize("checkout", VISA).unwrap();
    }
    bench.tokenize("indexed-checkout", VISA).unwrap();
    let (kept, _) = POLICY.split_once("[[principal]]\nid = \"other-billing\"").unwrap();
    let indexed = kept.find("[[tenant]]\nid = \"indexed\"").unwrap()..kept.find("[[purpose]]").unwrap();
    let policy = Policy::parse(&kept.replace(&kept[indexed], "")).unwrap();
    bench.vault.load_policy(Arc::new(policy), bench.now, &mut bench.entropy).unwrap();
    let report = bench.vault.check(bench.now, &mut bench.entropy).unwrap();
    assert_eq!((report.records, report.index_rows), (6, 1));
    assert_eq!(report.findings, []);
}

/// A store that scans one row but does not find it by its key, as an engine with a damaged filter, and whose
/// scans end early.
pub(super) struct Blind {
    pub(super) store: Arc<MemoryStore>,
    pub(super) unseen: Mutex<Option<Key>>,
    pub(super) rows_max: usize,
}

impl Blind {
    pub(super) fn of(store: &Arc<MemoryStore>) -> Self {
        Self { store: Arc::clone(store), unseen: Mutex::new(None), rows_max: usize::MAX }
    }
}

impl Store for Blind {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, Fault> {
        let unseen = self.unseen.lock().unwrap();
        let rows = self.store.read(keys)?.into_iter().zip(keys);
        Ok(rows.map(|(row, key)| row.filter(|_| unseen.as_ref() != Some(key))).collect())
    }

    fn scan(
        &self,
        space: Space,
        tenant: Option<&TenantId>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Row)>, Fault> {
        self.store.scan(space, tenant, after, limit.min(self.rows_max))
    }

    fn commit(&self, writes: &Writes) -> Result<Commit, Fault> {
        self.store.commit(writes)
    }

    fn reopen(&self) -> Result<(), Fault> {
        self.store.reopen()
    }

    fn free_space_low(&self) -> bool {
        self.store.free_space_low()
    }

    fn kind(&self) -> &'static str {
        self.store.kind()
    }

    fn disk_bytes(&self) -> Result<u64, Fault> {
        self.store.disk_bytes()
    }
}

#[test]
fn check_finds_a_record_that_is_there_but_not_found_by_its_key() {
    let store = Arc::new(MemoryStore::new());
    let blind = Arc::new(Blind::of(&store));
    let mut bench = Bench::over(store, blind.clone());
    let token = bench.tokenize("checkout", VISA).unwrap();
    assert_eq!(bench.vault.check(bench.now, &mut bench.entropy).unwrap().findings, []);
    let tenant = TenantId::parse("shop").unwrap();
    *blind.unseen.lock().unwrap() = Some(super::tokenize::record_key(&tenant, &token));
    assert_eq!(bench.detokenize("billing", token, "settlement"), Err(Error::UnknownToken));
    let report = bench.vault.check(bench.now, &mut bench.entropy).unwrap();
    assert_eq!(report.findings, [Finding::Damaged { space: Space::Record, tenant: Some(tenant) }]);
}
