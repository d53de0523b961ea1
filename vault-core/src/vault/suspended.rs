//! Coming back: what happened to the batch whose outcome is unknown.

use crate::audit::Staged;
use crate::store::Store;

use super::open::{Health, Lane, Vault};
use super::registry::RegistryFault;

impl Vault {
    /// Tries to serve again after the store was away.
    ///
    /// Resumes only if the log head in the store is the last acknowledged one, or extends it by exactly the
    /// batch whose outcome was unknown. Anything else is another history: the vault must be sealed. While the
    /// store stays away, or has no room for a commit, the vault stays suspended; call again later.
    pub fn resume(&self) -> Health {
        let mut lane = self.lane();
        if lane.health == Health::Suspended {
            self.try_resume(&mut lane);
        }
        lane.health
    }

    fn try_resume(&self, lane: &mut Lane) {
        // It would be suspended again by the next call.
        if self.store().free_space_low() {
            return;
        }
        let Some(found) = stored_head(self.store(), lane) else {
            return;
        };
        match self.is_retired() {
            Ok(false) => {}
            Ok(true) | Err(RegistryFault::Damaged) => return self.must_seal(lane),
            Err(RegistryFault::Store(_)) => return,
        }
        let before = (lane.head_version > 0).then_some(lane.head.as_slice());
        if found.as_deref() == before {
            lane.unknown = None;
            self.set_health(lane, Health::Serving);
            return;
        }
        match lane.unknown.take() {
            Some(staged) if found.as_deref() == Some(staged.head.as_slice()) => {
                self.resume_with(lane, staged);
            }
            _ => self.must_seal(lane),
        }
    }

    /// The unknown batch did commit. Its callers were told that it may have.
    fn resume_with(&self, lane: &mut Lane, staged: Staged) {
        self.set_health(lane, Health::Serving);
        self.accept(lane, staged);
    }
}

/// The head row in the store, reopened if need be; `None` while the store is away.
#[allow(clippy::option_option, reason = "away, there but empty, there with a head")]
fn stored_head(store: &dyn Store, lane: &Lane) -> Option<Option<Vec<u8>>> {
    let key = std::slice::from_ref(&lane.head_key);
    // A store that only refused a write (a full disk) still reads; a poisoned one must be opened anew.
    let rows = store.read(key).or_else(|_| store.reopen().and_then(|()| store.read(key))).ok()?;
    let row = rows.into_iter().next()?;
    Some(row.map(|row| row.value))
}
