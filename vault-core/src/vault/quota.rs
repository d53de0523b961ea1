//! Counting requests per minute and distinct tokens per day, durably, in the batch that uses them.
//!
//! A window is a whole UTC minute or day. A batch call uses one request for each of its items and is refused
//! as a whole when they do not fit. The first refusal of a principal's minute leaves an entry, later ones are
//! counted in the quota row, and a summary entry names their number when the next minute's first call
//! arrives.

use std::collections::HashMap;
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::data::Token;
use crate::error::{Error, Exhausted};
use crate::limits::STRANGER_ENTRIES_PER_MINUTE;
use crate::policy::{Identity, Policy, Principal, Quota};
use crate::store::{Key, Space};

use super::batch::Planning;
use super::prepare::identity_hash;

/// A limit and the rows that count against it.
#[derive(Clone)]
struct Meter {
    /// What the limit is for: a principal, a tenant or the vault; part of the row's key.
    scope: Vec<u8>,
    limit: u32,
}

/// Who is charged for a call.
#[derive(Clone)]
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

impl Account {
    pub(super) fn of(policy: &Policy, principal: Option<&Arc<Principal>>, caller: &Identity) -> Self {
        let Some(principal) = principal else {
            let scope = scope(b's', &identity_hash(caller));
            let stranger = Meter { scope, limit: STRANGER_ENTRIES_PER_MINUTE };
            return Self { principal: None, requests: vec![stranger], distinct: Vec::new() };
        };
        let tenant = principal.tenant().one().and_then(|id| policy.tenant(id));
        let quotas = [
            Some((scope(b'p', principal.id().as_str().as_bytes()), principal.quota())),
            tenant.map(|tenant| (scope(b't', tenant.id().as_str().as_bytes()), tenant.quota())),
            Some((scope(b'v', b""), policy.quota())),
        ];
        let meters = |limit: fn(&Quota) -> Option<u32>| -> Vec<Meter> {
            let meter = |(scope, quota): &(Vec<u8>, Quota)| {
                Some(Meter { scope: scope.clone(), limit: limit(quota)? })
            };
            quotas.iter().flatten().filter_map(meter).collect()
        };
        let mut requests = meters(|quota| quota.requests_per_minute);
        if principal.quota().requests_per_minute.is_none() {
            // Its refusals under the tenant's limit or the vault's must be counted somewhere.
            let scope = scope(b'p', principal.id().as_str().as_bytes());
            requests.insert(0, Meter { scope, limit: u32::MAX });
        }
        Self {
            principal: Some(Arc::clone(principal)),
            requests,
            distinct: meters(|quota| quota.distinct_tokens_per_day),
        }
    }

    pub(super) const fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }

    /// Rows that the batch must read before it can charge this account.
    pub(super) fn keys(&self, tokens: impl Iterator<Item = Token>, at: Timestamp, keys: &mut Vec<Key>) {
        keys.extend(self.requests.iter().map(|meter| meter.minute_key()));
        if self.distinct.is_empty() {
            return;
        }
        keys.extend(self.distinct.iter().map(Meter::day_key));
        for token in tokens {
            keys.extend(self.distinct.iter().map(|meter| meter.seen_key(at, &token)));
        }
    }
}

fn scope(kind: u8, name: &[u8]) -> Vec<u8> {
    let mut scope = Vec::with_capacity(1 + name.len());
    scope.push(kind);
    scope.extend_from_slice(name);
    scope
}

impl Meter {
    fn minute_key(&self) -> Key {
        self.counter_key(b'm')
    }

    fn day_key(&self) -> Key {
        self.counter_key(b'd')
    }

    fn counter_key(&self, window: u8) -> Key {
        let mut bytes = Vec::with_capacity(1 + self.scope.len());
        bytes.push(window);
        bytes.extend_from_slice(&self.scope);
        Key::new(Space::Quota, None, &bytes)
    }

    /// A token this scope has seen on this day. The day comes first: a sweep deletes from the front.
    fn seen_key(&self, at: Timestamp, token: &Token) -> Key {
        let mut bytes = at.day().to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.scope);
        bytes.push(0);
        bytes.extend_from_slice(&token.to_bytes());
        Key::new(Space::Seen, None, &bytes)
    }
}

/// The day of a row in [`Space::Seen`].
pub(super) fn seen_day(key: &Key) -> Option<u64> {
    key.bytes().first_chunk().map(|day| u64::from_be_bytes(*day))
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

impl Planning<'_> {
    /// Charges a call's items against its requests per minute.
    pub(super) fn charge(&mut self, account: &Account, items: u32, at: Timestamp) -> Result<Charge, Error> {
        let minute = at.minute();
        let mut counters = Vec::with_capacity(account.requests.len());
        for meter in &account.requests {
            let key = meter.minute_key();
            let mut counter = self.counter(&key)?;
            if counter.window != minute {
                // Refusals beyond the first of a past minute were not entered one by one.
                let unentered = counter.refused.saturating_sub(1);
                if unentered > 0 && matches!(meter.scope.first(), Some(b'p' | b's')) {
                    self.summarise(account, unentered, at);
                }
                counter = Counter { window: minute, used: 0, refused: 0 };
            }
            counters.push((key, counter, meter.limit));
        }
        let fits = counters.iter().all(|(_, counter, limit)| counter.used.saturating_add(items) <= *limit);
        // The caller's own counter stands first: whether others were refused is no reason for silence.
        let first = counters.first().is_none_or(|(_, counter, _)| counter.refused == 0);
        for (key, mut counter, _) in counters {
            if fits {
                counter.used = counter.used.saturating_add(items);
            } else {
                counter.refused = counter.refused.saturating_add(1);
            }
            self.counters.rows.insert(key, counter);
        }
        if fits {
            return Ok(Charge::Paid);
        }
        let seconds_left = 60 - u32::try_from(at.seconds() % 60).unwrap_or(0);
        let error = Error::Exhausted(Exhausted::Quota { retry_after_seconds: seconds_left });
        Ok(Charge::Refused { error, entry: first })
    }

    /// Charges one token against the distinct tokens per day; a token seen today is free.
    pub(super) fn charge_distinct(
        &mut self,
        account: &Account,
        token: &Token,
        at: Timestamp,
    ) -> Result<(), Error> {
        let mut fresh = Vec::new();
        for meter in &account.distinct {
            let seen = meter.seen_key(at, token);
            if self.row(&seen)?.is_some() {
                continue;
            }
            let key = meter.day_key();
            let mut counter = self.counter(&key)?;
            if counter.window != at.day() {
                counter = Counter { window: at.day(), used: 0, refused: 0 };
            }
            if counter.used >= meter.limit {
                let seconds_left = 86_400 - u32::try_from(at.seconds() % 86_400).unwrap_or(0);
                return Err(Error::Exhausted(Exhausted::Quota { retry_after_seconds: seconds_left }));
            }
            counter.used += 1;
            fresh.push((seen, key, counter));
        }
        for (seen, key, counter) in fresh {
            self.put_row(seen, &[]);
            self.counters.rows.insert(key, counter);
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
    use crate::data::Class;

    #[test]
    fn the_rows_are_the_documented_ones() {
        let meter = Meter { scope: scope(b'p', b"billing"), limit: 9 };
        let at = Timestamp::from_seconds(1_700_000_000);
        let token = Token::from_parts(Class::Pan, [2; 16], [3; 4]);
        crate::data::documents::shows("store-rows.md", meter.minute_key().encoded());
        crate::data::documents::shows("store-rows.md", meter.seen_key(at, &token).encoded());
        let counter = Counter { window: at.minute(), used: 9, refused: 2 };
        crate::data::documents::shows("store-rows.md", &counter.to_bytes());
        assert_eq!(Counter::from_bytes(&counter.to_bytes()).map(|read| read.used), Some(9));
    }
}
