//! Counting requests per minute and distinct tokens per day, durably, in the batch that uses them.
//!
//! A window is a whole UTC minute or day. A clock that goes back opens no window again: until it has caught
//! up, calls are charged to the window that was reached. That ends where the clock goes back by more than an
//! hour, or for days by more than one: then it had been wrong before, and must not close the vault until
//! that time comes. A batch call uses one request for each of its items and is refused as a whole when they
//! do not fit. The first refusal of a principal's minute leaves an entry, later ones are counted in the
//! quota row, and a summary entry names their number when the next minute's first call arrives.

use std::collections::HashMap;
use std::sync::Arc;

use crate::audit::Actor;
use crate::clock::Timestamp;
use crate::data::{PrincipalId, Token};
use crate::error::{Error, Exhausted};
use crate::limits::STRANGER_ENTRIES_PER_MINUTE;
use crate::policy::{Identity, Policy, Principal, Quota};
use crate::store::{Key, Space};

use super::batch::Planning;
use super::prepare::identity_hash;

/// How far a clock may go back before the windows it had reached count no more.
const MINUTES_BACK_MAX: u64 = 60;
pub(super) const DAYS_BACK_MAX: u64 = 1;

/// A limit and the row that counts against it.
struct Meter {
    /// What the limit is for: a principal, a tenant or the vault; part of the row's key.
    scope: Vec<u8>,
    limit: u32,
    counter: Key,
}

/// The accounts of a policy's principals, made once: every call is charged to one.
pub(super) struct Accounts(HashMap<PrincipalId, Arc<Account>>);

/// Who is charged for a call.
pub(super) struct Account {
    principal: Option<Arc<Principal>>,
    /// The caller's own first.
    requests: Vec<Meter>,
    distinct: Vec<Meter>,
}

/// One counter row: a window and what was used of it.
#[derive(Clone, Copy, Default)]
struct Counter {
    window: u64,
    used: u32,
    refused: u32,
}

/// The counters a batch has touched, decoded once and written once.
#[derive(Default)]
pub(super) struct Counters {
    rows: HashMap<Key, Counter>,
}

/// How a charge ended.
pub(super) enum Charge {
    Paid,
    /// The limit is reached; `entry` says whether this refusal leaves one.
    Refused {
        error: Error,
        entry: bool,
    },
}

impl Accounts {
    pub(super) fn of(policy: &Policy) -> Self {
        let account =
            |principal: &Arc<Principal>| (principal.id().clone(), Arc::new(Account::of(policy, principal)));
        Self(policy.principals().iter().map(account).collect())
    }

    /// The account of a caller whom `policy`, of which these are the accounts, knows as `principal`.
    pub(super) fn account(
        &self,
        policy: &Policy,
        principal: Option<&Arc<Principal>>,
        caller: &Identity,
    ) -> Arc<Account> {
        let Some(principal) = principal else { return Arc::new(Account::of_stranger(caller)) };
        match self.0.get(principal.id()) {
            Some(account) => Arc::clone(account),
            None => Arc::new(Account::of(policy, principal)),
        }
    }
}

impl Account {
    fn of_stranger(caller: &Identity) -> Self {
        let scope = scope(b's', &identity_hash(caller));
        let stranger = Meter::per_minute(scope, STRANGER_ENTRIES_PER_MINUTE);
        Self { principal: None, requests: vec![stranger], distinct: Vec::new() }
    }

    fn of(policy: &Policy, principal: &Arc<Principal>) -> Self {
        let tenant = principal.tenant().one().and_then(|id| policy.tenant(id));
        let quotas = [
            Some((scope(b'p', principal.id().as_str().as_bytes()), principal.quota())),
            tenant.map(|tenant| (scope(b't', tenant.id().as_str().as_bytes()), tenant.quota())),
            Some((scope(b'v', b""), policy.quota())),
        ];
        let meters = |limit: fn(&Quota) -> Option<u32>, meter: fn(Vec<u8>, u32) -> Meter| {
            let meter = |(scope, quota): &(Vec<u8>, Quota)| Some(meter(scope.clone(), limit(quota)?));
            quotas.iter().flatten().filter_map(meter).collect()
        };
        let mut requests: Vec<_> = meters(|quota| quota.requests_per_minute, Meter::per_minute);
        if principal.quota().requests_per_minute.is_none() {
            // Its refusals under the tenant's limit or the vault's must be counted somewhere.
            let scope = scope(b'p', principal.id().as_str().as_bytes());
            requests.insert(0, Meter::per_minute(scope, u32::MAX));
        }
        Self {
            principal: Some(Arc::clone(principal)),
            requests,
            distinct: meters(|quota| quota.distinct_tokens_per_day, Meter::per_day),
        }
    }

    pub(super) const fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }

    /// The counters that the batch must read before it can charge this account.
    pub(super) fn counters(&self) -> impl Iterator<Item = &Key> {
        self.requests.iter().chain(&self.distinct).map(|meter| &meter.counter)
    }

    /// Whether tokens are counted against any limit.
    pub(super) const fn counts_tokens(&self) -> bool {
        !self.distinct.is_empty()
    }
}

fn scope(kind: u8, name: &[u8]) -> Vec<u8> {
    let mut scope = Vec::with_capacity(1 + name.len());
    scope.push(kind);
    scope.extend_from_slice(name);
    scope
}

impl Meter {
    fn per_minute(scope: Vec<u8>, limit: u32) -> Self {
        Self { counter: counter_key(b'm', &scope), scope, limit }
    }

    fn per_day(scope: Vec<u8>, limit: u32) -> Self {
        Self { counter: counter_key(b'd', &scope), scope, limit }
    }
}

fn counter_key(window: u8, scope: &[u8]) -> Key {
    let mut bytes = Vec::with_capacity(1 + scope.len());
    bytes.push(window);
    bytes.extend_from_slice(scope);
    Key::new(Space::Quota, None, &bytes)
}

/// Whether a window is over, now that the clock shows `now`.
pub(super) const fn is_over(window: u64, now: u64, back_max: u64) -> bool {
    window < now || window - now > back_max
}

/// The refusals that a counter row has not entered, if its window can count no more however the clock goes:
/// the row may leave. `None` while it may still be charged, and for what is no counter.
pub(super) fn unentered_of_past(key: &Key, row: &[u8], now: Timestamp) -> Option<u32> {
    let (reached, back_max) = match key.bytes().first()? {
        b'm' => (now.minute(), MINUTES_BACK_MAX),
        b'd' => (now.day(), DAYS_BACK_MAX),
        _ => return None,
    };
    let counter = Counter::from_bytes(row)?;
    let is_past = counter.window.saturating_add(back_max) < reached;
    is_past.then(|| counter.refused.saturating_sub(1))
}

/// Who was charged by a counter: a principal or a stranger. `None` for those of tenants and of the vault,
/// which count the refusals of others once more.
pub(super) fn charged(key: &Key) -> Option<Actor> {
    match key.bytes().get(1..)?.split_first()? {
        (b'p', name) => PrincipalId::parse(str::from_utf8(name).ok()?).ok().map(Actor::Principal),
        (b's', hash) => hash.try_into().ok().map(|identity_hash| Actor::Unknown { identity_hash }),
        _ => None,
    }
}

impl Counter {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.window.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.used.to_be_bytes());
        bytes.extend_from_slice(&self.refused.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (window, rest) = bytes.split_first_chunk()?;
        let (used, rest) = rest.split_first_chunk()?;
        let refused: &[u8; 4] = rest.try_into().ok()?;
        Some(Self {
            window: u64::from_be_bytes(*window),
            used: u32::from_be_bytes(*used),
            refused: u32::from_be_bytes(*refused),
        })
    }
}

impl Counters {
    fn set(&mut self, key: &Key, counter: Counter) {
        match self.rows.get_mut(key) {
            Some(known) => *known = counter,
            None => drop(self.rows.insert(key.clone(), counter)),
        }
    }
}

impl Planning<'_> {
    /// Charges a call's items against its requests per minute.
    pub(super) fn charge(&mut self, account: &Account, items: u32, at: Timestamp) -> Result<Charge, Error> {
        let minute = at.minute();
        let mut counters = Vec::with_capacity(account.requests.len());
        for meter in &account.requests {
            let mut counter = self.counter(&meter.counter)?;
            if is_over(counter.window, minute, MINUTES_BACK_MAX) {
                // Refusals beyond the first of a past minute were not entered one by one.
                let unentered = counter.refused.saturating_sub(1);
                if unentered > 0 && matches!(meter.scope.first(), Some(b'p' | b's')) {
                    self.summarise(account, unentered, at);
                }
                counter = Counter { window: minute, used: 0, refused: 0 };
            }
            counters.push((counter, meter));
        }
        let fits = counters.iter().all(|(counter, meter)| counter.used.saturating_add(items) <= meter.limit);
        // The caller's own counter stands first: whether others were refused is no reason for silence.
        let first = counters.first().is_none_or(|(counter, _)| counter.refused == 0);
        for (mut counter, meter) in counters {
            if fits {
                counter.used = counter.used.saturating_add(items);
            } else {
                counter.refused = counter.refused.saturating_add(1);
            }
            self.counters.set(&meter.counter, counter);
        }
        if fits {
            return Ok(Charge::Paid);
        }
        let seconds_left = 60 - u32::try_from(at.seconds() % 60).unwrap_or(0);
        let error = Error::Exhausted(Exhausted::Quota { retry_after_seconds: seconds_left });
        Ok(Charge::Refused { error, entry: first })
    }

    /// Charges one token against the distinct tokens per day; a token counted before on this day is free.
    pub(super) fn charge_distinct(
        &mut self,
        account: &Account,
        token: &Token,
        at: Timestamp,
    ) -> Result<(), Error> {
        let Some(counting) = &self.counting else { return Ok(()) };
        let day = counting.day;
        let mut fresh = Vec::new();
        for meter in account.distinct.iter().filter(|meter| !counting.knows(&meter.scope, token)) {
            let mut counter = self.counter(&meter.counter)?;
            if is_over(counter.window, day, DAYS_BACK_MAX) {
                counter = Counter { window: day, used: 0, refused: 0 };
            }
            if counter.used >= meter.limit {
                let seconds_left = 86_400 - u32::try_from(at.seconds() % 86_400).unwrap_or(0);
                return Err(Error::Exhausted(Exhausted::Quota { retry_after_seconds: seconds_left }));
            }
            counter.used += 1;
            fresh.push((meter, counter));
        }
        for (meter, counter) in fresh {
            self.counters.set(&meter.counter, counter);
            if let Some(counting) = &mut self.counting {
                counting.remember(&meter.scope, token);
            }
        }
        Ok(())
    }

    fn counter(&self, key: &Key) -> Result<Counter, Error> {
        if let Some(counter) = self.counters.rows.get(key) {
            return Ok(*counter);
        }
        match self.row(key)? {
            Some(bytes) => Counter::from_bytes(bytes).ok_or(Error::Corrupt),
            None => Ok(Counter::default()),
        }
    }

    /// Writes every touched counter once.
    pub(super) fn flush_counters(&mut self) {
        for (key, counter) in std::mem::take(&mut self.counters.rows) {
            self.put_row(key, &counter.to_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_are_the_documented_ones() {
        let meter = Meter::per_minute(scope(b'p', b"billing"), 9);
        let at = Timestamp::from_seconds(1_700_000_000);
        crate::data::documents::shows("store-rows.md", meter.counter.encoded());
        let counter = Counter { window: at.minute(), used: 9, refused: 2 };
        crate::data::documents::shows("store-rows.md", &counter.to_bytes());
        assert_eq!(Counter::from_bytes(&counter.to_bytes()).map(|read| read.used), Some(9));
    }
}
