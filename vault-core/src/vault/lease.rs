//! Leases: work that one of the daemons sharing a store does at a time.
//!
//! A row names who does it and until when. It is replaced in the commit of each step, so that two daemons
//! never both take one, whatever their clocks say.

use crate::audit::Origin;
use crate::clock::Timestamp;
use crate::crypto::codec::Reader;
use crate::error::{Error, Unavailable};
use crate::keys::Keyring;
use crate::limits::LEASE_SECONDS;
use crate::store::{Key, Space, Store, rows};

use super::batch::Planning;
use super::open::log_prefix;

/// Version of a lease's row.
const LEASE: u8 = 1;

/// Who does what one daemon at a time does.
pub(super) struct Lease {
    pub(super) key: Key,
    log: [u8; 8],
}

impl Lease {
    /// The lease of a kind of work, as the daemon with this log would hold it.
    pub(super) fn of(origin: &Origin, work: &[u8]) -> Self {
        Self { key: Key::new(Space::Meta, None, &[b"lease/", work].concat()), log: log_prefix(origin) }
    }

    /// Whether another daemon has it.
    pub(super) fn is_anothers(
        &self,
        store: &dyn Store,
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let found = store.read(std::slice::from_ref(&self.key));
        let found = found.map_err(|_| Error::Unavailable(Unavailable::Store))?;
        let Some(row) = found.into_iter().next().flatten() else { return Ok(false) };
        let (mac, vault_id) = (keyring.row_mac(), keyring.vault_id());
        // One that says nothing is replaced by the next step.
        let held = rows::unguard(mac, vault_id, &self.key, &row.value).ok().and_then(Held::from_bytes);
        Ok(held.is_some_and(|held| held.keeps_out(self.log, now)))
    }

    /// Takes the lease, or keeps it for a while more; `false` where another daemon has it.
    pub(super) fn take(&self, planning: &mut Planning<'_>, now: Timestamp) -> bool {
        let held = planning.row(&self.key).ok().flatten().and_then(Held::from_bytes);
        if held.is_some_and(|held| held.keeps_out(self.log, now)) {
            return false;
        }
        let taken = Held { log: self.log, until: now.plus_seconds(LEASE_SECONDS) };
        planning.put_row(self.key.clone(), &taken.to_bytes());
        true
    }
}

/// A lease as its row says.
#[derive(Clone, Copy)]
struct Held {
    log: [u8; 8],
    until: Timestamp,
}

impl Held {
    fn to_bytes(self) -> Vec<u8> {
        [&[LEASE], self.log.as_slice(), &self.until.micros().to_be_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        (reader.u8()? == LEASE).then_some(())?;
        let held = Self { log: reader.array()?, until: Timestamp::from_micros(reader.u64()?) };
        reader.finish().map(|()| held)
    }

    /// Whether this keeps the daemon with the log `own` out. A lease that ends later than any that
    /// could be taken now comes from a clock that was wrong.
    fn keeps_out(self, own: [u8; 8], now: Timestamp) -> bool {
        self.log != own && now < self.until && self.until <= now.plus_seconds(2 * LEASE_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop loudly")]

    use super::*;

    #[test]
    fn a_lease_is_the_documented_one() {
        let lease = Lease::of(&Origin::parse("vault.example/log").unwrap(), b"sweep");
        let held = Held { log: lease.log, until: Timestamp::from_seconds(1_700_000_000) };
        crate::data::documents::shows("store-rows.md", lease.key.encoded());
        crate::data::documents::shows("store-rows.md", &held.to_bytes());
        assert_eq!(Held::from_bytes(&held.to_bytes()).map(|held| held.until), Some(held.until));
    }
}
