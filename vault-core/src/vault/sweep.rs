//! Sweeping: expired idempotency rows and the seen tokens of past days leave in bounded steps.

use crate::audit::{Action, Actor, Entry};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::data::TenantId;
use crate::error::{Error, Unavailable};
use crate::limits::SCAN_ROWS_MAX;
use crate::store::{Key, Row, Space, rows};

use super::idempotency::expires_at;
use super::open::{Keys, Vault};
use super::seen::seen_day;

/// Where the next step of the sweep of idempotency rows begins.
#[derive(Clone, Default)]
pub(super) struct Cursor {
    tenant: usize,
    after: Option<Vec<u8>>,
}

impl Vault {
    /// One bounded step: at most one scan of each kind of row. Gives the number of rows deleted; a step that
    /// deleted any leaves one entry.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the store is away.
    pub fn sweep(&self, now: Timestamp, entropy: &mut dyn Entropy) -> Result<usize, Error> {
        let mut lane = self.lane();
        let keys = self.keys();
        let mut expired = self.seen_before(now)?;
        let mut cursor = lane.sweep.clone();
        expired.extend(self.expired_idempotency(&keys, &mut cursor, now)?);
        lane.sweep = cursor;
        if expired.is_empty() {
            return Ok(0);
        }
        self.own_step(&mut lane, &keys, &expired, entropy, |planning| {
            expired.iter().for_each(|key| planning.overlay.delete(key));
            let mut entry = Entry::new(now, Actor::Vault, Action::Sweep);
            entry.count = u32::try_from(expired.len()).unwrap_or(u32::MAX);
            entry.policy = keys.policy.short_hash();
            planning.entropy.fill(&mut entry.id).map_err(|_| Error::Bug)?;
            Ok(vec![entry])
        })?;
        Ok(expired.len())
    }

    /// Seen rows sort by day, so those of past days stand in front.
    fn seen_before(&self, now: Timestamp) -> Result<Vec<Key>, Error> {
        let rows = self.scan_step(Space::Seen, None, None)?;
        let past = |(key, _): (Key, Row)| seen_day(&key).is_some_and(|day| day < now.day()).then_some(key);
        Ok(rows.into_iter().map_while(past).collect())
    }

    /// One scan of one tenant's idempotency rows; the next step goes on where this one ended.
    fn expired_idempotency(
        &self,
        keys: &Keys,
        cursor: &mut Cursor,
        now: Timestamp,
    ) -> Result<Vec<Key>, Error> {
        let tenants: Vec<TenantId> = keys.policy.tenants().map(|tenant| tenant.id().clone()).collect();
        let Some(tenant) = tenants.get(cursor.tenant % tenants.len().max(1)) else {
            return Ok(Vec::new());
        };
        let rows = self.scan_step(Space::Idempotency, Some(tenant), cursor.after.as_deref())?;
        // A scan may end early by its bytes; only one that finds nothing is at the end.
        match rows.last() {
            Some((key, _)) => cursor.after = Some(key.bytes().to_vec()),
            None => *cursor = Cursor { tenant: cursor.tenant.wrapping_add(1) % tenants.len(), after: None },
        }
        let (mac, vault_id) = (keys.keyring.row_mac(), keys.keyring.vault_id());
        let expired = |(key, row): (Key, Row)| {
            // A row that does not authenticate is not deleted: `check` is to find it.
            let value = rows::unguard(mac, vault_id, &key, &row.value).ok()?;
            expires_at(value).is_some_and(|end| now >= end).then_some(key)
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
