//! The engine of tests and simulations: rows in memory, faults on demand.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Commit, Fault, Key, Row, Space, Store, Writes};
use crate::data::TenantId;
use crate::limits::{SCAN_BYTES_MAX, SCAN_ROWS_MAX};

/// What happens to one coming commit. Commits without an order pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Injected {
    /// The commit runs as usual.
    Pass,
    /// [`Commit::Conflict`]; nothing is written.
    Conflict,
    /// [`Fault::Unavailable`]; nothing is written, the handle is poisoned.
    Unavailable,
    /// [`Fault::Unknown`]; everything is written, the handle is poisoned.
    UnknownApplied,
    /// [`Fault::Unknown`]; nothing is written, the handle is poisoned.
    UnknownNotApplied,
}

/// All rows of a [`MemoryStore`] at one time: the "disk" of a simulation.
pub type Image = BTreeMap<Key, Row>;

#[derive(Default)]
struct Inner {
    rows: Image,
    poisoned: bool,
    coming: VecDeque<Injected>,
    failing_reopens: usize,
    space_low: bool,
    shared: bool,
    commits: u64,
}

/// Rows in memory. "Durable" means that they survive [`MemoryStore::crash`].
#[derive(Default)]
pub struct MemoryStore(Mutex<Inner>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that several vaults may write.
    pub fn shared() -> Self {
        Self(Mutex::new(Inner { shared: true, ..Inner::default() }))
    }

    /// A store with the rows of an image, as after a restore.
    pub fn from_image(rows: Image) -> Self {
        Self(Mutex::new(Inner { rows, ..Inner::default() }))
    }

    /// A copy of all durable rows.
    pub fn image(&self) -> Image {
        self.inner().rows.clone()
    }

    /// Appends orders for the coming commits, one each.
    pub fn inject(&self, orders: impl IntoIterator<Item = Injected>) {
        self.inner().coming.extend(orders);
    }

    /// Lets the next so many reopens fail with [`Fault::Unavailable`].
    pub fn fail_reopens(&self, times: usize) {
        self.inner().failing_reopens = times;
    }

    /// Puts free space below or above the floor.
    pub fn set_space_low(&self, low: bool) {
        self.inner().space_low = low;
    }

    /// The process dies here: the handle is poisoned, what is durable stays.
    pub fn crash(&self) {
        let mut inner = self.inner();
        inner.poisoned = true;
        inner.coming.clear();
    }

    /// Commits done so far, injected ones that applied included.
    pub fn commits(&self) -> u64 {
        self.inner().commits
    }

    /// Writes or removes a row behind the vault's back: the storage operator of the threat model.
    pub fn danger_set(&self, key: Key, row: Option<Row>) -> Option<Row> {
        let mut inner = self.inner();
        match row {
            Some(row) => inner.rows.insert(key, row),
            None => inner.rows.remove(&key),
        }
    }

    /// No change of `Inner` can be half done when a test panics, so a poisoned mutex is still good.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn healthy(&self) -> Result<MutexGuard<'_, Inner>, Fault> {
        let inner = self.inner();
        if inner.poisoned { Err(Fault::Unavailable("the handle is poisoned".into())) } else { Ok(inner) }
    }
}

impl Inner {
    fn holds(&self, writes: &Writes) -> bool {
        writes.iter().all(|(key, change)| self.rows.get(key).map(|row| row.version) == change.expected())
    }

    fn apply(&mut self, writes: &Writes) {
        for (key, change) in writes {
            match change.after() {
                Some((version, value)) => {
                    self.rows.insert(key.clone(), Row { version, value: value.to_vec() });
                }
                None => {
                    self.rows.remove(key);
                }
            }
        }
        self.commits += 1;
    }

    fn commit(&mut self, writes: &Writes, order: Injected) -> Result<Commit, Fault> {
        if order == Injected::Conflict || !self.holds(writes) {
            return Ok(Commit::Conflict);
        }
        match order {
            Injected::Pass | Injected::Conflict => {
                self.apply(writes);
                Ok(Commit::Done)
            }
            Injected::Unavailable => {
                self.poisoned = true;
                Err(Fault::Unavailable("injected".into()))
            }
            Injected::UnknownApplied => {
                self.poisoned = true;
                self.apply(writes);
                Err(Fault::Unknown("injected".into()))
            }
            Injected::UnknownNotApplied => {
                self.poisoned = true;
                Err(Fault::Unknown("injected".into()))
            }
        }
    }
}

impl Store for MemoryStore {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, Fault> {
        let inner = self.healthy()?;
        Ok(keys.iter().map(|key| inner.rows.get(key).cloned()).collect())
    }

    fn scan(
        &self,
        space: Space,
        tenant: Option<&TenantId>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Row)>, Fault> {
        let inner = self.healthy()?;
        let first = Key::new(space, tenant, after.unwrap_or_default());
        let from = if after.is_some() { Bound::Excluded(&first) } else { Bound::Included(&first) };
        let mut found = Vec::new();
        let mut bytes = 0;
        for (key, row) in inner.rows.range((from, Bound::Unbounded)) {
            let outside = key.space() != space || key.tenant() != first.tenant();
            if outside || found.len() >= limit.min(SCAN_ROWS_MAX) || bytes >= SCAN_BYTES_MAX {
                break;
            }
            bytes += row.value.len();
            found.push((key.clone(), row.clone()));
        }
        Ok(found)
    }

    fn commit(&self, writes: &Writes) -> Result<Commit, Fault> {
        writes.check()?;
        let mut inner = self.healthy()?;
        if writes.is_empty() {
            return Ok(Commit::Done);
        }
        if inner.space_low {
            return Err(Fault::Unavailable("free space is below the floor".into()));
        }
        let order = inner.coming.pop_front().unwrap_or(Injected::Pass);
        inner.commit(writes, order)
    }

    fn reopen(&self) -> Result<(), Fault> {
        let mut inner = self.inner();
        if inner.poisoned && inner.failing_reopens > 0 {
            inner.failing_reopens -= 1;
            return Err(Fault::Unavailable("injected".into()));
        }
        inner.poisoned = false;
        Ok(())
    }

    fn free_space_low(&self) -> bool {
        self.inner().space_low
    }

    fn is_shared(&self) -> bool {
        self.inner().shared
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn disk_bytes(&self) -> Result<u64, Fault> {
        let inner = self.inner();
        let bytes: usize =
            inner.rows.iter().map(|(key, row)| key.encoded().len() + 8 + row.value.len()).sum();
        Ok(bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "tests may stop loudly"
    )]

    use std::sync::Arc;

    use super::*;
    use crate::store::Change;
    use crate::store::conformance::{Place, suite};

    impl Place for Arc<MemoryStore> {
        fn open(&self) -> Box<dyn Store> {
            Box::new(Self::clone(self))
        }
    }

    #[test]
    fn conforms() {
        suite(&|| Box::new(Arc::new(MemoryStore::new())));
    }

    fn write(store: &MemoryStore, bytes: &[u8]) -> Result<Commit, Fault> {
        let key = Key::new(Space::Meta, None, bytes);
        store.commit(&[(key, Change::Insert(vec![1]))].into_iter().collect())
    }

    fn there(store: &MemoryStore, bytes: &[u8]) -> bool {
        store.image().contains_key(&Key::new(Space::Meta, None, bytes))
    }

    #[test]
    fn injects_what_was_ordered_and_then_passes() {
        let store = MemoryStore::new();
        store.inject([Injected::Pass, Injected::Conflict, Injected::UnknownApplied]);
        assert_eq!(write(&store, b"1"), Ok(Commit::Done));
        assert_eq!(write(&store, b"2"), Ok(Commit::Conflict));
        assert!(matches!(write(&store, b"3"), Err(Fault::Unknown(_))));
        assert!(matches!(write(&store, b"4"), Err(Fault::Unavailable(_))), "poisoned");
        assert!(matches!(store.read(&[]), Err(Fault::Unavailable(_))), "poisoned");
        assert!(matches!(store.scan(Space::Meta, None, None, 1), Err(Fault::Unavailable(_))), "poisoned");
        store.reopen().unwrap();
        assert_eq!([&b"1"[..], b"2", b"3", b"4"].map(|key| there(&store, key)), [true, false, true, false]);

        store.inject([Injected::UnknownNotApplied]);
        assert!(matches!(write(&store, b"5"), Err(Fault::Unknown(_))));
        store.fail_reopens(1);
        assert!(matches!(store.reopen(), Err(Fault::Unavailable(_))));
        store.reopen().unwrap();
        assert!(!there(&store, b"5"));

        store.inject([Injected::Unavailable]);
        assert!(matches!(write(&store, b"6"), Err(Fault::Unavailable(_))));
        store.reopen().unwrap();
        assert!(!there(&store, b"6"));
        assert_eq!((write(&store, b"7"), store.commits()), (Ok(Commit::Done), 3));
    }

    #[test]
    fn a_crash_keeps_what_is_durable_and_forgets_orders() {
        let store = MemoryStore::new();
        assert_eq!(write(&store, b"1"), Ok(Commit::Done));
        store.inject([Injected::Conflict]);
        store.crash();
        assert!(matches!(write(&store, b"2"), Err(Fault::Unavailable(_))));
        store.reopen().unwrap();
        assert!(there(&store, b"1"));
        assert_eq!(write(&store, b"2"), Ok(Commit::Done));
    }

    #[test]
    fn refuses_commits_but_not_reads_while_space_is_low() {
        let store = MemoryStore::new();
        store.set_space_low(true);
        assert!(matches!(write(&store, b"1"), Err(Fault::Unavailable(_))));
        assert_eq!(store.read(&[Key::new(Space::Meta, None, b"1")]), Ok(vec![None]));
        store.set_space_low(false);
        assert_eq!(write(&store, b"1"), Ok(Commit::Done));
    }
}
