//! The store under the vault: rows that a test can look at, and a gate before every commit. In memory they
//! can also be damaged, and faults be had.

use std::sync::{Arc, Condvar, Mutex};

use vault_core::data::TenantId;
use vault_core::limits::SCAN_ROWS_MAX;
use vault_core::store::memory::{Image, MemoryStore};
use vault_core::store::{Commit, Fault, Key, Row, Space, Store, Writes};

/// The lane stands still while the gate is closed.
#[derive(Default)]
pub(crate) struct Gated {
    pub(crate) rows: MemoryStore,
    /// In their place: a real engine.
    engine: Option<Arc<dyn Store>>,
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Default)]
struct Gate {
    closed: bool,
    /// Commits that wait before it.
    waiting: usize,
}

/// Of the policy.
const TENANTS: [&str; 4] = ["shop", "plain", "rival", "cards"];

impl Gated {
    pub(crate) fn on(engine: Arc<dyn Store>) -> Self {
        Self { engine: Some(engine), ..Self::default() }
    }

    fn store(&self) -> &dyn Store {
        self.engine.as_deref().unwrap_or(&self.rows)
    }

    /// Every row there is.
    pub(crate) fn image(&self) -> Image {
        if self.engine.is_none() {
            return self.rows.image();
        }
        let tenants = TENANTS.map(|name| Some(TenantId::parse(name).unwrap()));
        let mut image = Image::new();
        for space in Space::ALL {
            for tenant in tenants.iter().chain([&None]) {
                self.add_rows(space, tenant.as_ref(), &mut image);
            }
        }
        image
    }

    fn add_rows(&self, space: Space, tenant: Option<&TenantId>, image: &mut Image) {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let found = self.store().scan(space, tenant, after.as_deref(), SCAN_ROWS_MAX).unwrap();
            let Some((last, _)) = found.last() else { return };
            after = Some(last.bytes().to_vec());
            image.extend(found);
        }
    }

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

    /// Those of them that only a call which was carried out may change.
    pub(crate) fn kept(&self) -> Image {
        kept(self.image())
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

/// The rows that only a call which was carried out may change: neither log nor counters.
pub(crate) fn kept(mut rows: Image) -> Image {
    let kept = [Space::Record, Space::Index, Space::Idempotency, Space::Seen];
    rows.retain(|key, _| kept.contains(&key.space()));
    rows
}

impl Store for Gated {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, Fault> {
        self.store().read(keys)
    }

    fn scan(
        &self,
        space: Space,
        tenant: Option<&TenantId>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Row)>, Fault> {
        self.store().scan(space, tenant, after, limit)
    }

    fn commit(&self, writes: &Writes) -> Result<Commit, Fault> {
        let mut gate = self.gate.lock().unwrap();
        gate.waiting += 1;
        self.changed.notify_all();
        let mut gate = self.changed.wait_while(gate, |gate| gate.closed).unwrap();
        gate.waiting -= 1;
        drop(gate);
        self.store().commit(writes)
    }

    fn reopen(&self) -> Result<(), Fault> {
        self.store().reopen()
    }

    fn free_space_low(&self) -> bool {
        self.store().free_space_low()
    }

    fn is_shared(&self) -> bool {
        self.store().is_shared()
    }

    fn kind(&self) -> &'static str {
        self.store().kind()
    }

    fn disk_bytes(&self) -> Result<u64, Fault> {
        self.store().disk_bytes()
    }
}
