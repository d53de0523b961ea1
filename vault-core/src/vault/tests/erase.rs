//! What is erased is gone with all that leads to it.

use super::*;
use crate::limits::{ERASE_ROWS_MAX, IDEMPOTENCY_SECONDS};

impl Bench {
    /// As [`Bench::new`], with nobody's requests counted.
    pub(super) fn unlimited() -> Self {
        let mut bench = Self::new();
        bench.vault.load_policy(unlimited_policy(), bench.now, &mut bench.entropy).unwrap();
        bench
    }

    pub(super) fn erase(&mut self, token: Token) -> Result<(), Error> {
        let tenant = self.store.image().into_keys().find(|key| key.bytes() == token.to_bytes());
        let indexed = tenant.is_some_and(|key| key.tenant() == "indexed");
        let request = Request::Erase { token, reference: CallerText::parse("case-1").ok() };
        match self.call(if indexed { "indexed-care" } else { "care" }, request).into_result()? {
            Reply::Erased => Ok(()),
            _ => panic!("another reply"),
        }
    }

    /// How many rows there are of records and of what leads to them.
    fn kept(&self) -> [usize; 3] {
        let image = self.store.image();
        let count = |space| image.keys().filter(|key| key.space() == space).count();
        [Space::Record, Space::Index, Space::Idempotency].map(count)
    }

    fn with_key(&mut self, who: &str, key: &str) -> Result<Token, Error> {
        only(self.call(who, tokenize(VISA, Some(key))))
    }
}

pub(in super::super) fn unlimited_policy() -> Arc<Policy> {
    let is_quota = |line: &&str| line.contains("_per_minute") || line.contains("_per_day");
    let lines: Vec<_> = POLICY.lines().filter(|line| !is_quota(line)).collect();
    Arc::new(Policy::parse(&lines.join("\n")).unwrap())
}

#[test]
fn an_erased_token_is_unknown_and_nothing_leads_to_it() {
    let mut bench = Bench::new();
    for (who, reader) in [("checkout", "billing"), ("indexed-checkout", "other-billing")] {
        let token = bench.with_key(who, "key-1").unwrap();
        assert_eq!(bench.erase(token), Ok(()));
        let entry = bench.last();
        assert_eq!((entry.action, entry.outcome, entry.token), (Action::Erase, Recorded::Done, Some(token)));
        assert_eq!((entry.record_version, entry.key_version), (1, 1));
        assert_eq!(bench.kept(), [0, 0, 0]);
        assert_eq!(bench.detokenize(reader, token, "settlement"), Err(Error::UnknownToken));
        assert_eq!(bench.erase(token), Err(Error::UnknownToken));
        let again = bench.with_key(who, "key-1").unwrap();
        assert_ne!(again, token, "a new call, which stores the value anew");
        assert_eq!(bench.erase(again), Ok(()));
    }
}

#[test]
fn only_who_may_erase_erases_and_only_under_a_reference() {
    let mut bench = Bench::new();
    let token = bench.tokenize("checkout", VISA).unwrap();
    let foreign = bench.tokenize("indexed-checkout", VISA).unwrap();
    let reference = || CallerText::parse("case-1").ok();
    let mut refused = |who, token, reference| {
        let outcome = bench.call(who, Request::Erase { token, reference });
        let error = outcome.into_result().err();
        (error, bench.last().outcome)
    };
    let denied = (Some(Error::Denied), Recorded::Denied);
    assert_eq!(refused("billing", token, reference()), denied);
    assert_eq!(refused("stranger", token, reference()), denied);
    assert_eq!(refused("care", token, None), denied);
    assert_eq!(refused("care", foreign, reference()), (Some(Error::UnknownToken), Recorded::UnknownToken));
    assert_eq!(bench.kept(), [2, 1, 0]);
}

#[test]
fn in_one_batch_a_call_after_an_erasure_finds_nothing() {
    let mut bench = Bench::new();
    let token = bench.tokenize("indexed-checkout", VISA).unwrap();
    let reference = CallerText::parse("case-1").ok();
    let calls = [
        // Gives the token again, and remembers it under a key.
        bench.prepare("indexed-checkout", tokenize(VISA, Some("key-1"))),
        bench.prepare("indexed-care", Request::Erase { token, reference: reference.clone() }),
        bench.prepare("indexed-care", Request::Erase { token, reference }),
        bench.prepare("other-billing", detokenize(token, "settlement")),
        bench.prepare("indexed-checkout", tokenize(VISA, Some("key-1"))),
    ];
    let mut outcomes = bench.vault.commit(&calls, &mut bench.entropy).into_iter();
    assert_eq!(only(outcomes.next().unwrap()), Ok(token));
    assert!(matches!(outcomes.next().unwrap().into_result(), Ok(Reply::Erased)));
    assert_eq!(outcomes.next().unwrap().into_result().err(), Some(Error::UnknownToken));
    let Ok(Reply::Detokenized(released)) = outcomes.next().unwrap().into_result() else {
        panic!("no verdict")
    };
    assert_eq!(released[0].as_ref().err(), Some(&Error::UnknownToken));
    let fresh = only(outcomes.next().unwrap()).unwrap();
    assert_ne!(fresh, token);
    // A record, its index row, an idempotency row and the trace that leads there.
    assert_eq!(bench.kept(), [1, 1, 2]);
    assert_eq!(bench.with_key("indexed-checkout", "key-1"), Ok(fresh));
}

#[test]
fn what_a_key_stands_for_by_now_stays() {
    let mut bench = Bench::new();
    let old = bench.with_key("checkout", "key-1").unwrap();
    bench.now = bench.now.plus_seconds(IDEMPOTENCY_SECONDS);
    let new = bench.with_key("checkout", "key-1").unwrap();
    assert_ne!(old, new, "the key had expired");
    assert_eq!(bench.erase(old), Ok(()));
    assert_eq!(bench.with_key("checkout", "key-1"), Ok(new), "replayed");
}

#[test]
fn more_rows_than_one_commit_takes_go_with_repeated_calls() {
    let mut bench = Bench::unlimited();
    let token = bench.tokenize("indexed-checkout", VISA).unwrap();
    for key in 0..=ERASE_ROWS_MAX / 2 {
        assert_eq!(bench.with_key("indexed-checkout", &format!("key-{key}")), Ok(token));
    }
    let entries = bench.vault.tree_head().size;
    assert_eq!(bench.erase(token), Err(Error::Unavailable(Unavailable::Store)));
    assert_eq!(bench.vault.tree_head().size, entries, "not erased, not entered");
    assert_eq!(bench.kept(), [1, 1, 2]);
    assert_eq!(bench.erase(token), Ok(()));
    assert_eq!(bench.kept(), [0, 0, 0]);
}

#[test]
fn check_knows_what_was_erased_and_finds_it_come_back() {
    let mut bench = Bench::new();
    let token = bench.tokenize("checkout", VISA).unwrap();
    let (key, row) = bench.store.image().into_iter().find(|(key, _)| key.space() == Space::Record).unwrap();
    bench.erase(token).unwrap();
    let report = bench.vault.check(bench.now, &mut bench.entropy).unwrap();
    assert_eq!((report.records, report.findings), (0, Vec::new()));
    bench.store.danger_set(key, Some(row));
    let tenant = TenantId::parse("shop").unwrap();
    let report = bench.vault.check(bench.now, &mut bench.entropy).unwrap();
    assert_eq!(report.findings, [Finding::Erased { tenant, token }]);
}
