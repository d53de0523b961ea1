//! What custodians order of keys: to see them all, to rotate before it is due, to destroy what is retired.
//!
//! Rotation, rewrap and destruction close a deletion epoch: what was erased under the old version cannot be
//! opened any more, from whatever backup of the store, once no copy of the keyring has that version.

use crate::audit::{self, Receipt};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::data::{Class, TenantId};
use crate::error::{Error, State};
use crate::keys::{KeyState, KeyVersionInfo, Keyring};
use crate::limits::IDEMPOTENCY_SECONDS;
use crate::policy::{Grant, Right};

use super::key_change::{KeyChange, KeyringUnchanged, go_on, rotate, unchanged};
use super::open::Vault;
use super::read_log::{Inclusion, log_fault};
use super::request::KeyOrder;
use super::rewrap::RewrapProgress;

/// A key version in a listing: everything but the keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyListing {
    /// Whose key it is.
    pub tenant: TenantId,
    /// For which class of values.
    pub class: Class,
    /// Version, state and dates.
    pub info: KeyVersionInfo,
    /// Of the version that encrypts: how far the records under older ones have got it.
    pub rewrap: Option<RewrapProgress>,
}

/// That a key version was destroyed, to be verified with the log's public key alone.
pub struct DestroyedKey {
    /// Where the entry of the destruction stands.
    pub receipt: Receipt,
    /// The entry's canonical bytes.
    pub entry: Vec<u8>,
    /// That it is in the log of a signed checkpoint.
    pub inclusion: Inclusion,
}

impl Vault {
    /// The key versions from a place on, at most `limit`, by tenant, class and version: the inventory of PCI
    /// DSS 3.6.1.1. Those of the grant's tenant, or all.
    ///
    /// # Errors
    /// [`Error::Denied`] for a grant of another right; [`Error::Unavailable`] and [`Error::Corrupt`] from the
    /// store, which knows how far rewraps have come.
    pub fn key_listing(&self, grant: &Grant, from: usize, limit: usize) -> Result<Vec<KeyListing>, Error> {
        if grant.right() != Right::Status {
            return Err(Error::Denied);
        }
        let inventory = self.keys().keyring.inventory().into_iter();
        let own = inventory.filter(|(tenant, ..)| grant.tenant().is_none_or(|own| own == tenant));
        let listed = own.skip(from).take(limit).map(|(tenant, class, info)| {
            let rewrap = if info.state.encrypts() { self.rewrap_progress(&tenant, class)? } else { None };
            let rewrap = rewrap.filter(|progress| progress.target == info.version);
            Ok(KeyListing { tenant, class, info, rewrap })
        });
        listed.collect()
    }

    /// Has the next version of a tenant's keys of a class encrypt from now on, and introduces the one after
    /// it. Gives the version that encrypts.
    ///
    /// # Errors
    /// [`Error::Denied`] for a grant of another right or tenant, [`State::NoSuchKey`] where the tenant has no
    /// keys of the class, [`State::KeyInUse`] where too many old versions are kept, [`Error::Unavailable`]
    /// when the keyring or the entries could not be written.
    pub fn rotate(
        &self,
        grant: &Grant,
        order: &KeyOrder,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<KeyVersionInfo, Error> {
        permitted(grant, Right::RotateKeys, order)?;
        if self.store().is_shared() {
            return self.rotate_shared(order, now, entropy);
        }
        let is_wanted = |change: &KeyChange| change.is_of(order) && change.info().state.encrypts();
        let changed = self.change_keyring(now, entropy, is_wanted, |next, entropy| {
            rotate(next, &order.tenant, order.class, entropy, now)
        });
        let entered = self.entered(changed.map_err(unchanged)?, now, entropy)?;
        let enabled = entered.iter().find(|(change, _)| is_wanted(change));
        enabled.map(|(change, _)| change.info()).ok_or(Error::Bug)
    }

    /// Where several daemons share the store: the next version is announced, and enabled as soon as all have
    /// confirmed that they know; at once where nobody has to.
    fn rotate_shared(
        &self,
        order: &KeyOrder,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<KeyVersionInfo, Error> {
        let newest = || self.keyring().versions(&order.tenant, order.class).last().copied();
        let ahead = newest().ok_or(Error::State(State::NoSuchKey))?;
        let target = if ahead.state.is_to_come() { ahead.version } else { ahead.version.saturating_add(1) };
        loop {
            let versions = self.keyring().versions(&order.tenant, order.class);
            let found = versions.into_iter().find(|info| info.version == target);
            if let Some(found) = found.filter(|info| !info.state.is_to_come()) {
                return Ok(found);
            }
            let went_on = self.publish_change(now, entropy, |next, entropy| {
                // Another daemon may have come first.
                let versions = next.versions(&order.tenant, order.class);
                let there = versions.iter().find(|info| info.version == target);
                let is_done = there.is_some_and(|info| !info.state.is_to_come());
                if is_done { Ok(()) } else { go_on(next, &order.tenant, order.class, entropy, now) }
            });
            match (went_on, found) {
                (Ok(_), _) => {}
                // The keeper goes on once they have confirmed.
                (Err(KeyringUnchanged::Unconfirmed), Some(found)) if found.state == KeyState::Announced => {
                    return Ok(found);
                }
                (Err(problem), _) => return Err(unchanged(problem)),
            }
        }
    }

    /// Destroys a retired key version in every copy of the keyring that the vault keeps, for ever.
    ///
    /// Only one that nothing needs any more: the proof at the end of a rewrap found nothing under an old
    /// version, and the last idempotency row under it has expired.
    ///
    /// # Errors
    /// As [`Vault::rotate`]; [`State::KeyInUse`] also while something may still need the version. After
    /// [`Error::Unavailable`] it may be destroyed without an entry of its own: the listing says so, and the
    /// entry of the order names it.
    pub fn destroy(
        &self,
        grant: &Grant,
        order: &KeyOrder,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<DestroyedKey, Error> {
        permitted(grant, Right::DestroyKeys, order)?;
        let version = order.destroy.ok_or(Error::Bug)?;
        self.is_needless(order, version, now)?;
        let is_wanted = |change: &KeyChange| {
            change.is_of(order)
                && (change.info().version, change.info().state) == (version, KeyState::Destroyed)
        };
        let destroy =
            |next: &mut Keyring, _: &mut dyn Entropy| next.destroy(&order.tenant, order.class, version);
        let entered = if self.store().is_shared() {
            self.publish_change(now, entropy, destroy).map_err(unchanged)?
        } else {
            let changed = self.change_keyring(now, entropy, is_wanted, destroy);
            self.entered(changed.map_err(unchanged)?, now, entropy)?
        };
        let destroyed = entered.into_iter().find(|(change, _)| is_wanted(change));
        let (_, receipt) = destroyed.ok_or(Error::Bug)?;
        // From now on no older keyring is believed; the keeper would see to it within a second.
        let _ = self.keep();
        self.certificate(receipt)
    }

    /// Whether a version can be done without.
    fn is_needless(&self, order: &KeyOrder, version: u32, now: Timestamp) -> Result<(), Error> {
        let versions = self.keys().keyring.versions(&order.tenant, order.class);
        let alive = versions.iter().find(|info| info.version == version);
        let info = alive.filter(|info| info.state.decrypts()).ok_or(Error::State(State::NoSuchKey))?;
        // It encrypted until the next one was enabled, and rows of that last moment live for a day.
        let retired_at =
            versions.iter().filter(|info| info.version > version).find_map(|info| info.enabled_at);
        let day_is_over = retired_at.is_some_and(|at| now >= at.plus_seconds(IDEMPOTENCY_SECONDS));
        let encrypting = versions.iter().find(|info| info.state.encrypts()).map(|info| info.version);
        let progress = self.rewrap_progress(&order.tenant, order.class)?;
        // It began after the change was in force, which can be long after its date where a copy of the
        // keyring could not be written.
        let is_proven = progress.is_some_and(|progress| {
            let day_is_over = now >= progress.began_at.plus_seconds(IDEMPOTENCY_SECONDS);
            progress.is_proven() && Some(progress.target) == encrypting && day_is_over
        });
        let is_needless = info.state == KeyState::DecryptOnly && day_is_over && is_proven;
        is_needless.then_some(()).ok_or(Error::State(State::KeyInUse))
    }

    fn certificate(&self, receipt: Receipt) -> Result<DestroyedKey, Error> {
        let published = self.covering(receipt.index.saturating_add(1));
        let proof = audit::inclusion_proof(&self.log(), &published.head, receipt.index).map_err(log_fault)?;
        let inclusion = Inclusion { hashes: proof.path, checkpoint: published.note.as_ref().to_owned() };
        let read = audit::read_entries(&self.log(), &published.head, receipt.index, 1).map_err(log_fault)?;
        let entry = read.into_iter().next().ok_or(Error::Bug)?.entry.to_bytes();
        Ok(DestroyedKey { receipt, entry, inclusion })
    }
}

/// The grant is what the order asks for, and reaches its tenant.
fn permitted(grant: &Grant, right: Right, order: &KeyOrder) -> Result<(), Error> {
    let reaches = grant.tenant().is_none_or(|own| *own == order.tenant);
    (grant.right() == right && reaches).then_some(()).ok_or(Error::Denied)
}
