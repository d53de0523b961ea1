//! Counting requests per minute and distinct tokens per day, durably, in the batch that uses them.
//!
//! A window is a whole UTC minute or day. A clock that goes back opens no window again: until it has caught
//! up, calls are charged to the window that was reached. That ends where the clock goes back by more than an
//! hour, or for days by more than one: then it had been wrong before, and must not close the vault until
//! that time comes. A batch call uses one request for each of its items and is refused as a whole when they
//! do not fit. The first refusal of a principal's minute leaves an entry, later ones are counted in the
//! quota row, and a summary entry names their number when the next minute's first call arrives.
//!
//! Where several daemons share the store, the row of a limit counts what it has handed out to them, a slice
//! at a time; each counts in a row of its own against what it was given. So two daemons meet on one row
//! only when a slice is used up, and the limit is never passed: what another was given and has not used is
//! refused.

use std::collections::HashMap;
use std::sync::Arc;

use crate::audit::Actor;
use crate::clock::Timestamp;
use crate::data::{PrincipalId, Token};
use crate::error::{Error, Exhausted};
use crate::limits::{QUOTA_SLICES, STRANGER_ENTRIES_PER_MINUTE};
use crate::policy::{Identity, Policy, Principal, Quota};
use crate::store::{Key, Space};

use super::batch::Planning;
use super::prepare::identity_hash;

/// How far a clock may go back before the windows it had reached count no more.
const MINUTES_BACK_MAX: u64 = 60;
pub(super) const DAYS_BACK_MAX: u64 = 1;
/// Bytes that name a log in the key of a row.
const LOG_BYTES: usize = 8;

/// A limit and the row that counts against it.
struct Meter {
    /// What the limit is for: a principal, a tenant or the vault; part of the row's key.
    scope: Vec<u8>,
    limit: u32,
    counter: Key,
    /// The row that hands out slices to all daemons, where there may be several and there is a limit to
    /// share.
    pool: Option<Key>,
}

/// The accounts of a policy's principals, made once: every call is charged to one.
pub(super) struct Accounts {
    known: HashMap<PrincipalId, Arc<Account>>,
    share: Share,
}

/// Which daemon counts, where several share the store.
#[derive(Clone, Copy)]
pub(super) struct Share(pub(super) Option<[u8; 8]>);

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
    /// What this daemon was given of a limit that is shared.
    given: u32,
}

/// What a call would be charged against one limit.
struct Charged<'a> {
    meter: &'a Meter,
    /// As it was, in the window of now.
    counter: Counter,
    /// What the pool had handed out, if more must be drawn, and how much is.
    pool: Option<Counter>,
    drawn: u32,
    fits: bool,
    /// Refusals of the window before that have no entry.
    unentered: u32,
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
    pub(super) fn of(policy: &Policy, share: Share) -> Self {
        let account = |principal: &Arc<Principal>| {
            (principal.id().clone(), Arc::new(Account::of(policy, principal, share)))
        };
        Self { known: policy.principals().iter().map(account).collect(), share }
    }

    /// Whether other daemons may serve the same store.
    pub(super) const fn are_shared(&self) -> bool {
        self.share.0.is_some()
    }

    /// The account of a caller whom `policy`, of which these are the accounts, knows as `principal`.
    pub(super) fn account(
        &self,
        policy: &Policy,
        principal: Option<&Arc<Principal>>,
        caller: &Identity,
    ) -> Arc<Account> {
        let Some(principal) = principal else { return Arc::new(Account::of_stranger(caller, self.share)) };
        match self.known.get(principal.id()) {
            Some(account) => Arc::clone(account),
            None => Arc::new(Account::of(policy, principal, self.share)),
        }
    }
}

impl Account {
    /// Each daemon bounds its own log: nothing is shared, and strangers make nobody wait.
    fn of_stranger(caller: &Identity, share: Share) -> Self {
        let scope = scope(b's', &identity_hash(caller));
        let stranger = Meter { pool: None, ..Meter::per_minute(scope, STRANGER_ENTRIES_PER_MINUTE, share) };
        Self { principal: None, requests: vec![stranger], distinct: Vec::new() }
    }

    fn of(policy: &Policy, principal: &Arc<Principal>, share: Share) -> Self {
        let tenant = principal.tenant().one().and_then(|id| policy.tenant(id));
        let quotas = [
            Some((scope(b'p', principal.id().as_str().as_bytes()), principal.quota())),
            tenant.map(|tenant| (scope(b't', tenant.id().as_str().as_bytes()), tenant.quota())),
            Some((scope(b'v', b""), policy.quota())),
        ];
        let meters = |limit: fn(&Quota) -> Option<u32>, meter: fn(Vec<u8>, u32, Share) -> Meter| {
            let meter = |(scope, quota): &(Vec<u8>, Quota)| Some(meter(scope.clone(), limit(quota)?, share));
            quotas.iter().flatten().filter_map(meter).collect()
        };
        let mut requests: Vec<_> = meters(|quota| quota.requests_per_minute, Meter::per_minute);
        if principal.quota().requests_per_minute.is_none() {
            // Its refusals under the tenant's limit or the vault's must be counted somewhere.
            let scope = scope(b'p', principal.id().as_str().as_bytes());
            requests.insert(0, Meter { pool: None, ..Meter::per_minute(scope, u32::MAX, share) });
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
        let meters = self.requests.iter().chain(&self.distinct);
        meters.flat_map(|meter| std::iter::once(&meter.counter).chain(&meter.pool))
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
    fn per_minute(scope: Vec<u8>, limit: u32, share: Share) -> Self {
        Self::of(scope, limit, share, b"mM")
    }

    fn per_day(scope: Vec<u8>, limit: u32, share: Share) -> Self {
        Self::of(scope, limit, share, b"dD")
    }

    /// Counts in the row of the window `all`, or, where the store is shared, in one of the window `own`
    /// that only this daemon has.
    fn of(scope: Vec<u8>, limit: u32, Share(log): Share, &[all, own]: &[u8; 2]) -> Self {
        let everybodys = counter_key(&[all], &scope);
        let (counter, pool) = match log {
            Some(log) => (counter_key(&[&[own], log.as_slice()].concat(), &scope), Some(everybodys)),
            None => (everybodys, None),
        };
        Self { scope, limit, counter, pool }
    }

    /// What is drawn at once, if there is as much.
    const fn slice(&self) -> u32 {
        self.limit.div_ceil(QUOTA_SLICES)
    }
}

fn counter_key(prefix: &[u8], scope: &[u8]) -> Key {
    Key::new(Space::Quota, None, &[prefix, scope].concat())
}

/// Whether a window is over, now that the clock shows `now`.
pub(super) const fn is_over(window: u64, now: u64, back_max: u64) -> bool {
    window < now || window - now > back_max
}

/// The refusals that a counter row has not entered, if its window can count no more however the clock goes:
/// the row may leave. `None` while it may still be charged, and for what is no counter.
pub(super) fn unentered_of_past(key: &Key, row: &[u8], now: Timestamp) -> Option<u32> {
    let (reached, back_max) = match key.bytes().first()? {
        b'm' | b'M' => (now.minute(), MINUTES_BACK_MAX),
        b'd' | b'D' => (now.day(), DAYS_BACK_MAX),
        _ => return None,
    };
    let counter = Counter::from_bytes(row)?;
    let is_past = counter.window.saturating_add(back_max) < reached;
    is_past.then(|| counter.refused.saturating_sub(1))
}

/// Who was charged by a counter: a principal or a stranger. `None` for those of tenants and of the vault,
/// which count the refusals of others once more.
pub(super) fn charged(key: &Key) -> Option<Actor> {
    let (window, rest) = key.bytes().split_first()?;
    let scope = if matches!(window, b'M' | b'D') { rest.get(LOG_BYTES..)? } else { rest };
    match scope.split_first()? {
        (b'p', name) => PrincipalId::parse(str::from_utf8(name).ok()?).ok().map(Actor::Principal),
        (b's', hash) => hash.try_into().ok().map(|identity_hash| Actor::Unknown { identity_hash }),
        _ => None,
    }
}

impl Counter {
    const fn begun(window: u64) -> Self {
        Self { window, used: 0, refused: 0, given: 0 }
    }

    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.window.to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.used.to_be_bytes());
        bytes.extend_from_slice(&self.refused.to_be_bytes());
        if self.given > 0 {
            bytes.extend_from_slice(&self.given.to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (window, rest) = bytes.split_first_chunk()?;
        let (used, rest) = rest.split_first_chunk()?;
        let (refused, rest) = rest.split_first_chunk()?;
        let given = match rest {
            [] => 0,
            given => u32::from_be_bytes(given.try_into().ok()?),
        };
        Some(Self {
            window: u64::from_be_bytes(*window),
            used: u32::from_be_bytes(*used),
            refused: u32::from_be_bytes(*refused),
            given,
        })
    }
}

impl Charged<'_> {
    /// Another window: what was counted in the one before is over.
    const fn begin(&mut self, window: u64) {
        self.unentered += self.counter.refused.saturating_sub(1);
        self.counter = Counter::begun(window);
    }

    /// Draws what is short from the pool, and a slice where there is as much. The pool's window is
    /// everybody's.
    fn draw(&mut self, pool: Counter, items: u32) {
        if pool.window != self.counter.window {
            self.begin(pool.window);
        }
        let free = self.meter.limit.saturating_sub(pool.used);
        let short = self.counter.used.saturating_add(items).saturating_sub(self.counter.given);
        self.fits = short <= free;
        self.drawn = short.max(self.meter.slice()).min(free);
        self.pool = Some(pool);
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
        let mut charged = Vec::with_capacity(account.requests.len());
        for meter in &account.requests {
            charged.push(self.charge_meter(meter, items, minute, MINUTES_BACK_MAX)?);
        }
        for Charged { meter, unentered, .. } in &charged {
            // Refusals beyond the first of a past minute were not entered one by one.
            if *unentered > 0 && matches!(meter.scope.first(), Some(b'p' | b's')) {
                self.summarise(account, *unentered, at);
            }
        }
        let fits = charged.iter().all(|charge| charge.fits);
        // The caller's own counter stands first: whether others were refused is no reason for silence.
        let first = charged.first().is_none_or(|charge| charge.counter.refused == 0);
        for charge in charged {
            if fits { self.pay(&charge, items) } else { self.count_refusal(&charge) }
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
            let charge = self.charge_meter(meter, 1, day, DAYS_BACK_MAX)?;
            if !charge.fits {
                let seconds_left = 86_400 - u32::try_from(at.seconds() % 86_400).unwrap_or(0);
                return Err(Error::Exhausted(Exhausted::Quota { retry_after_seconds: seconds_left }));
            }
            fresh.push(charge);
        }
        for charge in fresh {
            if let Some(counting) = &mut self.counting {
                counting.remember(&charge.meter.scope, token);
            }
            self.pay(&charge, 1);
        }
        Ok(())
    }

    /// What `items` more would be charged against a limit in the window of `now`.
    fn charge_meter<'m>(
        &self,
        meter: &'m Meter,
        items: u32,
        now: u64,
        back_max: u64,
    ) -> Result<Charged<'m>, Error> {
        let counter = self.counter(&meter.counter)?;
        let mut charged = Charged { meter, counter, pool: None, drawn: 0, fits: true, unentered: 0 };
        if is_over(counter.window, now, back_max) {
            charged.begin(now);
        }
        let used = charged.counter.used.saturating_add(items);
        charged.fits = used <= meter.limit;
        match &meter.pool {
            Some(pool) if charged.fits && used > charged.counter.given => {
                let mut pool = self.counter(pool)?;
                if is_over(pool.window, now, back_max) {
                    pool = Counter::begun(now);
                }
                charged.draw(pool, items);
            }
            _ => {}
        }
        Ok(charged)
    }

    fn pay(&mut self, charged: &Charged<'_>, items: u32) {
        let Charged { meter, mut counter, pool, drawn, .. } = *charged;
        counter.used = counter.used.saturating_add(items);
        counter.given = counter.given.saturating_add(drawn);
        self.counters.set(&meter.counter, counter);
        if let (Some(key), Some(mut pool)) = (&meter.pool, pool) {
            pool.used = pool.used.saturating_add(drawn);
            self.counters.set(key, pool);
        }
    }

    fn count_refusal(&mut self, &Charged { meter, mut counter, .. }: &Charged<'_>) {
        counter.refused = counter.refused.saturating_add(1);
        self.counters.set(&meter.counter, counter);
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
        let alone = Meter::per_minute(scope(b'p', b"billing"), 9, Share(None));
        let at = Timestamp::from_seconds(1_700_000_000);
        crate::data::documents::shows("store-rows.md", alone.counter.encoded());
        assert!(alone.pool.is_none());
        let counter = Counter { used: 9, refused: 2, ..Counter::begun(at.minute()) };
        crate::data::documents::shows("store-rows.md", &counter.to_bytes());
        assert_eq!(Counter::from_bytes(&counter.to_bytes()).map(|read| read.used), Some(9));

        let log = super::super::open::log_prefix(&crate::audit::Origin::parse("vault.example/log").unwrap());
        let shared = Meter::per_minute(scope(b'p', b"billing"), 9, Share(Some(log)));
        crate::data::documents::shows("store-rows.md", shared.counter.encoded());
        assert_eq!(shared.pool, Some(alone.counter), "what is handed out stands where one daemon counts");
        let counter = Counter { given: 10, ..counter };
        crate::data::documents::shows("store-rows.md", &counter.to_bytes());
        assert_eq!(Counter::from_bytes(&counter.to_bytes()).map(|read| read.given), Some(10));
    }
}
