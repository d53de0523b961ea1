//! Which tokens were asked for today: a token that was counted against its day is free for the rest of it.
//!
//! The tokens that one commit counts first are one row, beside the log's page; the whole day stands in
//! memory. A row for each token would cost every first release a look-up and an insertion at a random place,
//! more than everything else the lane does for it. The memory is filled from the rows when the first call of
//! a day needs it, and again after a commit whose outcome was in doubt.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::audit::Origin;
use crate::crypto::MacKey;
use crate::data::{Token, VaultId};
use crate::limits::{SCAN_ROWS_MAX, SEEN_TOKENS_MAX};
use crate::store::{Fault, Key, Row, Space, Store, rows};

use super::open::log_prefix;
use super::quota::{DAYS_BACK_MAX, is_over};

const DAY_BYTES: usize = 8;
/// Day, log, index after the commit's last entry.
const KEY_BYTES: usize = DAY_BYTES + 8 + 8;

type Tokens = HashSet<[u8; Token::BYTES]>;

/// Tokens by the scope of the limit they count against: a principal, a tenant or the vault.
#[derive(Default)]
pub(super) struct ByScope(HashMap<Box<[u8]>, Tokens>);

/// The tokens counted on one day.
#[derive(Default)]
pub(super) struct Seen {
    /// `None`: what is stored must be read first.
    day: Option<u64>,
    known: ByScope,
    count: usize,
}

impl ByScope {
    fn contains(&self, scope: &[u8], token: &Token) -> bool {
        self.0.get(scope).is_some_and(|tokens| tokens.contains(&token.to_bytes()))
    }

    fn insert(&mut self, scope: &[u8], token: [u8; Token::BYTES]) -> bool {
        match self.0.get_mut(scope) {
            Some(tokens) => tokens.insert(token),
            None => self.0.entry(scope.into()).or_default().insert(token),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn len(&self) -> usize {
        self.0.values().map(HashSet::len).sum()
    }

    /// `(scope: length 1 ‖ text) ‖ count 4 ‖ token 21 × count`, for each scope; scopes and tokens in order,
    /// so that a batch has one encoding.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let scopes: usize = self.0.keys().map(|scope| 1 + scope.len() + 4).sum();
        let mut bytes = Vec::with_capacity(scopes + self.len() * Token::BYTES);
        let mut scopes: Vec<_> = self.0.iter().collect();
        scopes.sort_unstable_by_key(|(scope, _)| *scope);
        for (scope, tokens) in scopes {
            // A scope is a letter and a name or hash of at most 32 bytes; a commit has at most 2,048 items.
            bytes.push(u8::try_from(scope.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(scope);
            bytes.extend_from_slice(&u32::try_from(tokens.len()).unwrap_or(u32::MAX).to_be_bytes());
            let mut tokens: Vec<_> = tokens.iter().collect();
            tokens.sort_unstable();
            tokens.into_iter().for_each(|token| bytes.extend_from_slice(token));
        }
        bytes
    }
}

impl Seen {
    /// Whether the token was counted against this scope before.
    pub(super) fn contains(&self, scope: &[u8], token: &Token) -> bool {
        self.known.contains(scope, token)
    }

    /// Whether so many tokens more, which are not yet known here, would still be remembered. Beyond the bound
    /// a token counts each time: a limit is reached early, never passed.
    pub(super) const fn has_room(&self, more: usize) -> bool {
        self.count + more <= SEEN_TOKENS_MAX
    }

    /// Takes what a commit counted first, once it is durable.
    pub(super) fn accept(&mut self, fresh: ByScope) {
        for (scope, tokens) in fresh.0 {
            self.count += tokens.len();
            match self.known.0.get_mut(&scope) {
                Some(known) => known.extend(tokens),
                None => drop(self.known.0.insert(scope, tokens)),
            }
        }
    }

    /// What is remembered may not be what is stored: read it again before it is used.
    pub(super) fn doubt(&mut self) {
        *self = Self::default();
    }

    /// The day that calls of `today` are charged to, its tokens in memory. As with every window, a clock that
    /// went back a little opens no day again.
    ///
    /// # Errors
    /// Any [`Fault`] of the scan.
    pub(super) fn begin(&mut self, today: u64, from: &Rows<'_>) -> Result<u64, Fault> {
        if let Some(day) = self.day.filter(|day| !is_over(*day, today, DAYS_BACK_MAX)) {
            return Ok(day);
        }
        let begun = match self.day {
            Some(_) => today,
            None => from.newest_day(today)?,
        };
        *self = from.load(begun)?;
        Ok(begun)
    }

    /// Reads a row's tokens; one that does not authenticate (`None`) counts as nothing, so that its tokens
    /// count again.
    fn take(&mut self, key: &Key, row: &Row, from: &Rows<'_>) -> Option<()> {
        let mut rest = rows::unguard(from.mac, from.vault_id, key, &row.value).ok()?;
        while let Some((length, after)) = rest.split_first() {
            let (scope, after) = after.split_at_checked(usize::from(*length))?;
            let (count, after) = after.split_first_chunk()?;
            let bytes = (u32::from_be_bytes(*count) as usize).checked_mul(Token::BYTES)?;
            let (tokens, after) = after.split_at_checked(bytes)?;
            for token in tokens.as_chunks().0 {
                if self.has_room(1) && self.known.insert(scope, *token) {
                    self.count += 1;
                }
            }
            rest = after;
        }
        Some(())
    }
}

/// Where one log's rows are, and what guards them.
pub(super) struct Rows<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) mac: &'a MacKey,
    pub(super) vault_id: &'a VaultId,
    pub(super) origin: &'a Origin,
    /// Counts what is damaged: nobody is refused for it, but somebody must hear of it.
    pub(super) damaged: &'a AtomicU64,
}

impl Rows<'_> {
    /// `today`, or the day after if that was begun already and the clock has gone back since.
    fn newest_day(&self, today: u64) -> Result<u64, Fault> {
        for ahead in (1..=DAYS_BACK_MAX).rev() {
            let day = today.saturating_add(ahead);
            if !self.scan(day, &prefix(day, self.origin), 1)?.is_empty() {
                return Ok(day);
            }
        }
        Ok(today)
    }

    fn load(&self, day: u64) -> Result<Seen, Fault> {
        let mut seen = Seen { day: Some(day), ..Seen::default() };
        let mut after = prefix(day, self.origin);
        loop {
            let rows = self.scan(day, &after, SCAN_ROWS_MAX)?;
            let Some((last, _)) = rows.last() else { return Ok(seen) };
            after = last.bytes().to_vec();
            for (key, row) in &rows {
                if seen.take(key, row, self).is_none() {
                    self.damaged.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Rows of one day and this log, after the key bytes `after`. Where the engine finds damage the day ends:
    /// what follows counts again, which is no reason to refuse anybody.
    fn scan(&self, day: u64, after: &[u8], limit: usize) -> Result<Vec<(Key, Row)>, Fault> {
        let own = prefix(day, self.origin);
        let mut rows = match self.store.scan(Space::Seen, None, Some(after), limit) {
            Err(Fault::Corrupt(_)) => {
                self.damaged.fetch_add(1, Ordering::Relaxed);
                Vec::new()
            }
            rows => rows?,
        };
        let end = rows.iter().position(|(key, _)| !key.bytes().starts_with(&own)).unwrap_or(rows.len());
        rows.truncate(end);
        Ok(rows)
    }
}

/// The row of what the commit that ends before the index `end` counted first. The day comes first: a sweep
/// deletes from the front.
pub(super) fn seen_key(day: u64, origin: &Origin, end: u64) -> Key {
    let mut bytes = Vec::with_capacity(KEY_BYTES);
    bytes.extend_from_slice(&prefix(day, origin));
    bytes.extend_from_slice(&end.to_be_bytes());
    Key::new(Space::Seen, None, &bytes)
}

fn prefix(day: u64, origin: &Origin) -> Vec<u8> {
    [day.to_be_bytes(), log_prefix(origin)].concat()
}

/// The day of a row in [`Space::Seen`].
pub(super) fn seen_day(key: &Key) -> Option<u64> {
    key.bytes().first_chunk().map(|day| u64::from_be_bytes(*day))
}

/// What a batch counts first on the day it is charged to.
pub(super) struct Counting<'a> {
    pub(super) day: u64,
    pub(super) seen: &'a Seen,
    pub(super) fresh: ByScope,
}

impl Counting<'_> {
    /// Whether the token was counted before, in this batch or before it.
    pub(super) fn knows(&self, scope: &[u8], token: &Token) -> bool {
        self.seen.contains(scope, token) || self.fresh.contains(scope, token)
    }

    /// Remembers a token that was counted, if there is room.
    pub(super) fn remember(&mut self, scope: &[u8], token: &Token) {
        if self.seen.has_room(self.fresh.len() + 1) {
            self.fresh.insert(scope, token.to_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Key32;
    use crate::data::Class;
    use crate::store::memory::MemoryStore;
    use crate::store::{Change, Commit};
    use zeroize::Zeroizing;

    const BILLING: &[u8] = b"pbilling";
    const VAULT: VaultId = VaultId::from_bytes([7; 16]);

    fn token(bits: u8) -> Token {
        Token::from_parts(Class::Pan, [bits; 16], [3; 4])
    }

    fn mac() -> MacKey {
        MacKey::new(&Key32::from_bytes(Zeroizing::new([1; 32])))
    }

    /// A store where each of these days has a row of one commit, with these tokens.
    fn stored(origin: &Origin, days: &[(u64, u64, &[u8])]) -> MemoryStore {
        let store = MemoryStore::new();
        for (day, end, tokens) in days {
            let mut fresh = ByScope::default();
            tokens.iter().for_each(|bits| assert!(fresh.insert(BILLING, token(*bits).to_bytes())));
            let key = seen_key(*day, origin, *end);
            let row = rows::guarded(&mac(), &VAULT, &key, &fresh.to_bytes());
            let writes = [(key, Change::Insert(row))].into_iter().collect();
            assert_eq!(store.commit(&writes), Ok(Commit::Done));
        }
        store
    }

    fn origin(name: &str) -> Origin {
        Origin::parse(name).unwrap()
    }

    /// The day that `today` is charged to, and which of the first ten tokens are known then.
    fn begun(seen: &mut Seen, today: u64, store: &dyn Store, origin: &Origin) -> (u64, Vec<u8>) {
        let (day, known, damaged) = begun_with(seen, today, store, origin);
        assert_eq!(damaged, 0);
        (day, known)
    }

    /// The same where damage is expected, with how much was counted.
    fn begun_with(seen: &mut Seen, today: u64, store: &dyn Store, origin: &Origin) -> (u64, Vec<u8>, u64) {
        let damaged = AtomicU64::new(0);
        let rows = Rows { store, mac: &mac(), vault_id: &VAULT, origin, damaged: &damaged };
        let day = seen.begin(today, &rows).unwrap();
        let known = (0..10).filter(|bits| seen.contains(BILLING, &token(*bits))).collect();
        (day, known, damaged.into_inner())
    }

    #[test]
    fn a_day_is_read_back_and_no_other_day_or_log_with_it() {
        let own = origin("vault.example/log");
        let store = stored(&own, &[(99, 3, &[1]), (100, 5, &[2, 3]), (100, 900, &[4])]);
        let foreign = seen_key(100, &origin("other.example/log"), 7);
        let row = store.read(&[seen_key(100, &own, 5)]).unwrap().remove(0);
        store.danger_set(foreign, row);
        assert_eq!(begun(&mut Seen::default(), 100, &store, &own), (100, vec![2, 3, 4]));
        assert_eq!(begun(&mut Seen::default(), 101, &store, &own), (101, vec![]));
        assert_eq!(begun(&mut Seen::default(), 100, &store, &origin("third.example/log")), (100, vec![]));
    }

    #[test]
    fn a_clock_that_goes_back_a_little_opens_no_day_again() {
        let own = origin("vault.example/log");
        let store = stored(&own, &[(100, 5, &[2]), (101, 9, &[3])]);
        let mut seen = Seen::default();
        assert_eq!(begun(&mut seen, 101, &store, &own), (101, vec![3]));
        assert_eq!(begun(&mut seen, 100, &store, &own), (101, vec![3]), "in memory");
        assert_eq!(begun(&mut Seen::default(), 100, &store, &own), (101, vec![3]), "after a restart");
        assert_eq!(begun(&mut seen, 99, &store, &own), (99, vec![]), "too far: it had been wrong before");
    }

    #[test]
    fn tokens_of_a_row_that_was_changed_count_again() {
        let own = origin("vault.example/log");
        let store = stored(&own, &[(100, 5, &[2]), (100, 9, &[3])]);
        let key = seen_key(100, &own, 5);
        let mut row = store.read(std::slice::from_ref(&key)).unwrap().remove(0).unwrap();
        row.value[0] ^= 1;
        store.danger_set(key, Some(row));
        assert_eq!(begun_with(&mut Seen::default(), 100, &store, &own), (100, vec![3], 1));
    }

    /// A store whose engine finds the space of seen rows damaged.
    struct Damaged;

    impl Store for Damaged {
        fn read(&self, _: &[Key]) -> Result<Vec<Option<Row>>, Fault> {
            Err(Fault::Corrupt("a block".into()))
        }

        fn scan(
            &self,
            _: Space,
            _: Option<&crate::data::TenantId>,
            _: Option<&[u8]>,
            _: usize,
        ) -> Result<Vec<(Key, Row)>, Fault> {
            Err(Fault::Corrupt("a block".into()))
        }

        fn commit(&self, _: &crate::store::Writes) -> Result<Commit, Fault> {
            Ok(Commit::Conflict)
        }

        fn reopen(&self) -> Result<(), Fault> {
            Ok(())
        }

        fn free_space_low(&self) -> bool {
            false
        }

        fn kind(&self) -> &'static str {
            "damaged"
        }

        fn disk_bytes(&self) -> Result<u64, Fault> {
            Ok(0)
        }
    }

    #[test]
    fn where_the_engine_finds_damage_tokens_count_again() {
        let (day, known, damaged) =
            begun_with(&mut Seen::default(), 100, &Damaged, &origin("vault.example/log"));
        assert_eq!((day, known), (100, vec![]));
        assert!(damaged > 0, "and somebody hears of it");
    }

    #[test]
    fn what_was_accepted_is_known_until_it_is_doubted() {
        let (own, store) = (origin("vault.example/log"), MemoryStore::new());
        let mut seen = Seen::default();
        assert_eq!(begun(&mut seen, 100, &store, &own), (100, vec![]));
        let mut counting = Counting { day: 100, seen: &seen, fresh: ByScope::default() };
        counting.remember(BILLING, &token(5));
        assert!(counting.knows(BILLING, &token(5)) && !counting.knows(b"tshop", &token(5)));
        let fresh = counting.fresh;
        seen.accept(fresh);
        assert_eq!(begun(&mut seen, 100, &store, &own), (100, vec![5]));
        seen.doubt();
        assert_eq!(begun(&mut seen, 100, &store, &own), (100, vec![]), "the store has no such row");
    }

    #[test]
    fn beyond_the_bound_nothing_more_is_remembered() {
        let seen = Seen { count: SEEN_TOKENS_MAX - 1, ..Seen::default() };
        let mut counting = Counting { day: 100, seen: &seen, fresh: ByScope::default() };
        counting.remember(BILLING, &token(1));
        counting.remember(BILLING, &token(2));
        assert!(counting.knows(BILLING, &token(1)) && !counting.knows(BILLING, &token(2)));
    }

    #[test]
    fn the_rows_are_the_documented_ones() {
        let own = origin("vault.example/log");
        let key = seen_key(19_675, &own, 300);
        let mut fresh = ByScope::default();
        fresh.insert(BILLING, token(2).to_bytes());
        crate::data::documents::shows("store-rows.md", key.encoded());
        crate::data::documents::shows("store-rows.md", &fresh.to_bytes());
    }
}
