//! Sweeping: rows that count no more leave in bounded steps: expired idempotency rows, the seen tokens of
//! past days, and the quota rows of past windows, whoever they were of.
//!
//! Of the daemons that share a store one sweeps: the lease, a row that names it and when that ends, is
//! replaced in the commit of each step, so that no row is swept, and no refusal summed up, by two.

use std::collections::BTreeSet;

use crate::audit::{Action, Actor, Entry};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::data::TenantId;
use crate::error::{Error, Unavailable};
use crate::limits::SCAN_ROWS_MAX;
use crate::store::{Key, Row, Space, rows};

use super::batch::Planning;
use super::idempotency::expires_at;
use super::lease::Lease;
use super::open::{Keys, Vault};
use super::quota::{charged, unentered_of_past};
use super::seen::seen_day;

/// Where the next step of the sweep begins: of idempotency rows, and of quota rows.
#[derive(Clone, Default)]
pub(super) struct Cursor {
    tenant: usize,
    after: Option<Vec<u8>>,
    counter: Option<Vec<u8>>,
}

/// Rows that looked as if they counted no more when they were scanned. Another daemon may have begun to count
/// with one since: they are judged again on the very row that is deleted.
#[derive(Default)]
struct Found {
    counters: Vec<Key>,
    seen: Vec<Key>,
    idempotency: Vec<Key>,
}

/// Past its end an idempotency row is kept for so long: another daemon's clock may be behind, and it still
/// answers from the row.
const IDEMPOTENCY_GRACE_SECONDS: u64 = 5 * 60;

impl Vault {
    /// One bounded step: at most one scan of each kind of row. Gives the number of rows deleted; a step that
    /// deleted any leaves one entry, and one more for each counter of refusals that nobody had entered yet.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the store is away.
    pub fn sweep(&self, now: Timestamp, entropy: &mut dyn Entropy) -> Result<usize, Error> {
        let mut lane = self.lane();
        let keys = self.keys();
        let lease = self.store().is_shared().then(|| Lease::of(&self.origin, b"sweep"));
        if let Some(lease) = &lease
            && lease.is_anothers(self.store(), &keys.keyring, now)?
        {
            return Ok(0);
        }
        let mut cursor = lane.sweep.clone();
        let found = Found {
            counters: self.past_counters(&keys, &mut cursor, now)?,
            seen: self.seen_before(now),
            idempotency: self.expired_idempotency(&keys, &mut cursor, now)?,
        };
        lane.sweep = cursor;
        let mut wanted = [&found.counters[..], &found.seen, &found.idempotency].concat();
        if wanted.is_empty() {
            return Ok(0);
        }
        wanted.extend(lease.iter().map(|lease| lease.key.clone()));
        let mut swept = 0;
        self.own_step(&mut lane, &keys, &wanted, entropy, |planning| {
            swept = 0;
            if lease.as_ref().is_some_and(|lease| !lease.take(planning, now)) {
                return Ok(Vec::new());
            }
            let (deleted, mut entries) = planning.sweep(&found, now);
            if deleted == 0 {
                return Ok(Vec::new());
            }
            swept = deleted;
            let mut entry = Entry::new(now, Actor::Vault, Action::Sweep);
            entry.count = u32::try_from(deleted).unwrap_or(u32::MAX);
            entries.push(entry);
            for entry in &mut entries {
                entry.policy = keys.policy.short_hash();
                planning.entropy.fill(&mut entry.id).map_err(|_| Error::Bug)?;
            }
            Ok(entries)
        })?;
        Ok(swept)
    }

    /// One scan of the quota rows. Whoever calls again gets a new row, so that it is all one whether the
    /// policy still knows them: strangers and those who left it are never asked for by name.
    fn past_counters(&self, keys: &Keys, cursor: &mut Cursor, now: Timestamp) -> Result<Vec<Key>, Error> {
        let rows = self.scan_step(Space::Quota, None, cursor.counter.as_deref())?;
        cursor.counter = rows.last().map(|(key, _)| key.bytes().to_vec());
        let (mac, vault_id) = (keys.keyring.row_mac(), keys.keyring.vault_id());
        let past = |(key, row): (Key, Row)| {
            // As with idempotency rows: what does not authenticate stays.
            let value = rows::unguard(mac, vault_id, &key, &row.value).ok()?;
            unentered_of_past(&key, value, now).map(|_| key)
        };
        Ok(rows.into_iter().filter_map(past).collect())
    }

    /// Seen rows sort by day, so those of past days stand in front.
    fn seen_before(&self, now: Timestamp) -> Vec<Key> {
        // Damage here must not keep the other rows from being swept.
        let rows = self.scan_step(Space::Seen, None, None).unwrap_or_default();
        let past = |(key, _): (Key, Row)| seen_day(&key).is_some_and(|day| day < now.day()).then_some(key);
        rows.into_iter().map_while(past).collect()
    }

    /// One scan of one tenant's idempotency rows; the next step goes on where this one ended.
    fn expired_idempotency(
        &self,
        keys: &Keys,
        cursor: &mut Cursor,
        now: Timestamp,
    ) -> Result<Vec<Key>, Error> {
        let tenants = tenants(keys);
        let Some(tenant) = tenants.get(cursor.tenant % tenants.len().max(1)) else {
            return Ok(Vec::new());
        };
        let rows = self.scan_step(Space::Idempotency, Some(tenant), cursor.after.as_deref())?;
        // A scan may end early by its bytes; only one that finds nothing is at the end.
        match rows.last() {
            Some((key, _)) => cursor.after = Some(key.bytes().to_vec()),
            None => {
                cursor.tenant = cursor.tenant.wrapping_add(1) % tenants.len();
                cursor.after = None;
            }
        }
        let (mac, vault_id) = (keys.keyring.row_mac(), keys.keyring.vault_id());
        let expired = |(key, row): (Key, Row)| {
            // A row that does not authenticate is not deleted: `check` is to find it.
            let value = rows::unguard(mac, vault_id, &key, &row.value).ok()?;
            is_expired(value, now).then_some(key)
        };
        Ok(rows.into_iter().filter_map(expired).collect())
    }

    fn scan_step(
        &self,
        space: Space,
        tenant: Option<&TenantId>,
        after: Option<&[u8]>,
    ) -> Result<Vec<(Key, Row)>, Error> {
        self.store()
            .scan(space, tenant, after, SCAN_ROWS_MAX)
            .map_err(|_| Error::Unavailable(Unavailable::Store))
    }
}

/// Whether no daemon answers from this idempotency row, or follows this trace, any more.
fn is_expired(value: &[u8], now: Timestamp) -> bool {
    expires_at(value).is_some_and(|end| now >= end.plus_seconds(IDEMPOTENCY_GRACE_SECONDS))
}

impl Planning<'_> {
    /// Deletes what still counts no more, and says how many rows that were and what the log must hear of
    /// them.
    fn sweep(&mut self, found: &Found, now: Timestamp) -> (usize, Vec<Entry>) {
        let mut summaries = Vec::new();
        let mut past = found.seen.clone();
        for key in &found.counters {
            let value = self.row(key).ok().flatten();
            let Some(unentered) = value.and_then(|value| unentered_of_past(key, value, now)) else {
                continue;
            };
            if let (Some(actor), 1..) = (charged(key), unentered) {
                let mut summary = Entry::new(now, actor, Action::QuotaSummary);
                summary.count = unentered;
                summaries.push(summary);
            }
            past.push(key.clone());
        }
        let expired = found.idempotency.iter().filter(|key| {
            let value = self.row(key).ok().flatten();
            value.is_some_and(|value| is_expired(value, now))
        });
        past.extend(expired.cloned());
        past.iter().for_each(|key| self.overlay.delete(key));
        (past.len(), summaries)
    }
}

/// Every tenant that has keys: one that left the policy still has its rows.
fn tenants(keys: &Keys) -> Vec<TenantId> {
    let with_keys: BTreeSet<_> = keys.keyring.inventory().into_iter().map(|(tenant, ..)| tenant).collect();
    with_keys.into_iter().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may stop loudly")]

    use std::sync::Arc;

    use super::super::tests::{Bench, Blind, POLICY, VISA, tokenize};
    use super::*;
    use crate::limits::{SCAN_BYTES_MAX, STRANGER_ENTRIES_PER_MINUTE};
    use crate::policy::Policy;
    use crate::store::memory::MemoryStore;
    use crate::vault::Request;

    const HOUR: u64 = 60 * 60;
    const DAY: u64 = 24 * HOUR;

    /// Sweeps until two rounds in a row find nothing: the first may only have come to an end.
    fn sweep_all(bench: &mut Bench) -> usize {
        let (mut swept, mut idle) = (0, 0);
        while idle < 8 {
            let step = bench.vault.sweep(bench.now, &mut bench.entropy).unwrap();
            idle = if step == 0 { idle + 1 } else { 0 };
            swept += step;
        }
        swept
    }

    fn rows(bench: &Bench, space: Space) -> usize {
        bench.store.image().into_keys().filter(|key| key.space() == space).count()
    }

    /// Without the tenant `indexed` and its principals.
    fn smaller_policy() -> Arc<Policy> {
        let (kept, _) = POLICY.split_once("[[principal]]\nid = \"other-billing\"").unwrap();
        let indexed = kept.find("[[tenant]]\nid = \"indexed\"").unwrap()..kept.find("[[purpose]]").unwrap();
        Arc::new(Policy::parse(&kept.replace(&kept[indexed], "")).unwrap())
    }

    #[test]
    fn quota_rows_of_strangers_leave_when_their_window_can_count_no_more() {
        let mut bench = Bench::new();
        let calls = STRANGER_ENTRIES_PER_MINUTE + 10;
        for stranger in ["stranger-1", "stranger-2"] {
            for _ in 0..calls {
                drop(bench.call(stranger, Request::Status));
            }
        }
        assert_eq!(rows(&bench, Space::Quota), 2);
        // The clock may still go back an hour, and must then find the limit used up.
        bench.now = bench.now.plus_seconds(HOUR);
        assert_eq!((sweep_all(&mut bench), rows(&bench, Space::Quota)), (0, 2));
        let mark = bench.entries().len();
        bench.now = bench.now.plus_seconds(60);
        assert_eq!((sweep_all(&mut bench), rows(&bench, Space::Quota)), (2, 0));
        let entered: Vec<_> = bench.entries().split_off(mark);
        let summaries: Vec<_> = entered.iter().filter(|entry| entry.action == Action::QuotaSummary).collect();
        assert_eq!(summaries.len(), 2);
        for summary in summaries {
            assert!(matches!(summary.actor, Actor::Unknown { .. }), "{:?}", summary.actor);
            assert_eq!(summary.count, 9, "of ten refusals one has its own entry");
        }
        assert_eq!(entered.last().map(|entry| (entry.action, entry.count)), Some((Action::Sweep, 2)));
    }

    #[test]
    fn rows_of_tenants_and_principals_that_left_the_policy_are_swept() {
        let mut bench = Bench::new();
        let token = bench.tokenize("indexed-checkout", VISA).unwrap();
        bench.call("indexed-checkout", tokenize(VISA, Some("order-1"))).into_result().unwrap();
        let kept = bench.tokenize("checkout", VISA).unwrap();
        for _ in 0..5 {
            let _ = bench.tokenize("indexed-checkout", VISA);
        }
        bench.detokenize("billing", kept, "settlement").unwrap();
        bench.vault.load_policy(smaller_policy(), bench.now, &mut bench.entropy).unwrap();
        assert!(bench.detokenize("other-billing", token, "settlement").is_err());
        let before =
            (rows(&bench, Space::Quota), rows(&bench, Space::Idempotency), rows(&bench, Space::Seen));
        // An idempotency row has a trace beside it.
        assert!(before.0 >= 4 && before.1 == 2 && before.2 == 1, "{before:?}");
        bench.now = bench.now.plus_seconds(2 * DAY);
        sweep_all(&mut bench);
        let after = (rows(&bench, Space::Quota), rows(&bench, Space::Idempotency), rows(&bench, Space::Seen));
        assert_eq!(after, (0, 0, 0));
        let entries = bench.entries();
        let summary = entries.iter().find(|entry| entry.action == Action::QuotaSummary).unwrap();
        // Two calls of five were beyond the limit, the first of them has its own entry.
        assert_eq!((summary.actor.clone(), summary.count), (principal("indexed-checkout"), 1));
        assert_eq!(rows(&bench, Space::Record), 2, "only what counts no more leaves");
    }

    fn principal(name: &str) -> Actor {
        Actor::Principal(crate::data::PrincipalId::parse(name).unwrap())
    }

    /// Rows that stay stand in front of those that go: whoever took a short scan for the last would never
    /// come to them.
    #[test]
    fn a_sweep_goes_on_where_a_scan_ended_early() {
        let store = Arc::new(MemoryStore::new());
        let mut bench = Bench::over(store.clone(), Arc::new(Blind { rows_max: 2, ..Blind::of(&store) }));
        let remember = |bench: &mut Bench, n: usize| {
            bench.call("checkout", tokenize(VISA, Some(&format!("order-{n}")))).into_result().unwrap();
        };
        for n in 3..9 {
            remember(&mut bench, n);
            drop(bench.call(&format!("stranger-{n}"), Request::Status));
        }
        bench.now = bench.now.plus_seconds(2 * DAY);
        (0..3).for_each(|n| remember(&mut bench, n));
        for principal in ["auditor", "billing"] {
            drop(bench.call(principal, Request::Status));
        }
        // Beside each idempotency row stands a trace.
        assert_eq!((rows(&bench, Space::Idempotency), rows(&bench, Space::Quota)), (18, 9));
        sweep_all(&mut bench);
        assert_eq!((rows(&bench, Space::Idempotency), rows(&bench, Space::Quota)), (6, 3));
    }

    #[test]
    fn a_sweep_goes_on_where_a_scan_ended_by_its_bytes() {
        let mut bench = Bench::new();
        bench.call("checkout", tokenize(VISA, Some("order"))).into_result().unwrap();
        let image = bench.store.image();
        let (small, row) = image.into_iter().find(|(key, _)| key.space() == Space::Idempotency).unwrap();
        let tenant = TenantId::parse("shop").unwrap();
        bench.now = bench.now.plus_seconds(2 * DAY);
        let later = bench.now.plus_seconds(DAY);
        let gone = Timestamp::from_seconds(bench.now.seconds() - IDEMPOTENCY_GRACE_SECONDS);
        for (n, ends) in [(1, later), (2, bench.now), (3, later), (4, gone)] {
            let key = Key::new(Space::Idempotency, Some(&tenant), &[small.bytes(), &[n]].concat());
            let keys = bench.vault.keys();
            let (mac, vault_id) = (keys.keyring.row_mac(), keys.keyring.vault_id());
            let mut value = rows::unguard(mac, vault_id, &small, &row.value).unwrap().to_vec();
            value[..8].copy_from_slice(&ends.micros().to_be_bytes());
            value.resize(SCAN_BYTES_MAX / 2 - 100, 0); // as that of a batch which is far too large
            let value = rows::guarded(mac, vault_id, &key, &value);
            drop(keys);
            bench.store.danger_set(key, Some(Row { version: 1, value }));
        }
        sweep_all(&mut bench);
        let left: Vec<Key> = bench.store.image().into_keys().collect();
        let left = left.iter().filter(|key| key.space() == Space::Idempotency);
        assert_eq!(left.map(|key| key.bytes()[small.bytes().len()]).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
