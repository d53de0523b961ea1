//! The store under the vault: rows in memory that a test can look at, and a gate before every commit.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex};

use vault_core::data::TenantId;
use vault_core::store::memory::{Image, MemoryStore};
use vault_core::store::{Commit, Fault, Key, Row, Space, Store, Writes};

/// The lane stands still while the gate is closed.
#[derive(Default)]
pub(crate) struct Gated {
    pub(crate) rows: MemoryStore,
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Default)]
struct Gate {
    closed: bool,
    /// Commits that wait before it.
    waiting: usize,
}

impl Gated {
    pub(crate) fn close(&self) {
        self.gate.lock().unwrap().closed = true;
    }

    pub(crate) fn open(&self) {
        self.gate.lock().unwrap().closed = false;
        self.changed.notify_all();
    }

    /// Waits until the lane stands before the gate.
    pub(crate) fn wait_for_commit(&self) {
        let gate = self.gate.lock().unwrap();
        drop(self.changed.wait_while(gate, |gate| gate.waiting == 0).unwrap());
    }

    /// The rows that only a call which was carried out may change: neither log nor counters.
    pub(crate) fn kept(&self) -> BTreeMap<Key, Row> {
        let kept = [Space::Record, Space::Index, Space::Idempotency, Space::Seen];
        self.rows.image().into_iter().filter(|(key, _)| kept.contains(&key.space())).collect()
    }

    /// Puts all rows back as they were.
    pub(crate) fn restore(&self, image: &Image) {
        for key in self.rows.image().into_keys() {
            self.rows.danger_set(key, None);
        }
        for (key, row) in image {
            self.rows.danger_set(key.clone(), Some(row.clone()));
        }
    }

    /// Flips the last bit of every row in a space; all rows are back when the answer is given to `restore`.
    pub(crate) fn damage(&self, space: Space) -> Image {
        let image = self.rows.image();
        for (key, row) in image.iter().filter(|(key, _)| key.space() == space) {
            let mut damaged = row.clone();
            *damaged.value.last_mut().unwrap() ^= 1;
            self.rows.danger_set(key.clone(), Some(damaged));
        }
        image
    }
}

impl Store for Gated {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, Fault> {
        self.rows.read(keys)
    }

    fn scan(
        &self,
        space: Space,
        tenant: Option<&TenantId>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Row)>, Fault> {
        self.rows.scan(space, tenant, after, limit)
    }

    fn commit(&self, writes: &Writes) -> Result<Commit, Fault> {
        let mut gate = self.gate.lock().unwrap();
        gate.waiting += 1;
        self.changed.notify_all();
        let mut gate = self.changed.wait_while(gate, |gate| gate.closed).unwrap();
        gate.waiting -= 1;
        drop(gate);
        self.rows.commit(writes)
    }

    fn reopen(&self) -> Result<(), Fault> {
        self.rows.reopen()
    }

    fn free_space_low(&self) -> bool {
        self.rows.free_space_low()
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn disk_bytes(&self) -> Result<u64, Fault> {
        self.rows.disk_bytes()
    }
}
