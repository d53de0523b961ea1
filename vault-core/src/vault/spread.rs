//! How a change of the keyring reaches the daemons that share a store.
//!
//! Whoever changes it enters the change, replaces the row of the keyring and leaves the new keyring in the
//! store, all in one commit; only then it is saved and in force. From that commit on its maker does what
//! everybody does: takes over what was made of the keyring it has, and confirms that. So a crash at any point
//! leaves a daemon that is behind, and catches up.

use crate::audit::{Action, Actor, Entry, Receipt};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::error::{Error, Unavailable};
use crate::keys::{KeyChangeError, Keyring};
use crate::limits::CONFLICT_RETRIES_MAX;
use crate::store::Key;

use super::batch::Planning;
use super::key_change::{KeyChange, KeyringUnchanged, changes, generation_note};
use super::open::{Keys, Lane, Vault, lock};
use super::registry::{self, Known, Publication, Registration, Registry, Unregistered, registration};
use super::sealed::UnsealError;

/// What a daemon remembers of the keyring that all have.
#[derive(Default)]
pub(super) struct Agreed {
    /// The row as it was last seen while serving.
    known: Option<Known>,
    /// The digest of the keyring that this daemon last registered as its own.
    confirmed: Option<[u8; 32]>,
    /// An operator stated that this daemon's keyring counts: for the opening that follows.
    pub(super) is_accepted: bool,
}

/// What else a step that registers is about.
pub(super) struct About<'a> {
    /// The policy that is loaded.
    pub(super) policy: Option<[u8; 8]>,
    /// Further rows that it reads.
    pub(super) wanted: &'a [Key],
    pub(super) now: Timestamp,
}

/// Another daemon changed the keyring first, or the change was entered.
enum Published {
    Overtaken,
    Entered(Vec<(KeyChange, Receipt)>),
}

impl Vault {
    /// Takes over what other daemons made of the keyring, and confirms that. Called once a second; nothing to
    /// do where the store is not shared.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while store or keyring folder cannot be used; [`Error::Corrupt`] when the row
    /// of the keyring was put back, or nothing leads from this daemon's keyring to it: the vault must be
    /// sealed then.
    pub fn follow_keyring(&self, now: Timestamp, entropy: &mut dyn Entropy) -> Result<(), Error> {
        if !self.store().is_shared() {
            return Ok(());
        }
        match self.watch_keyring().and_then(|()| self.take_over(entropy)) {
            Ok(()) => self.confirm(now, entropy),
            Err(KeyringUnchanged::Registry(UnsealError::Store(_)) | KeyringUnchanged::Save(_)) => {
                Err(Error::Unavailable(Unavailable::Store))
            }
            Err(_) => {
                self.must_seal(&mut self.lane());
                Err(Error::Corrupt)
            }
        }
    }

    /// The row of the keyring must be the one that was seen last, or a later one.
    fn watch_keyring(&self) -> Result<(), KeyringUnchanged> {
        let keyring = self.keyring();
        let found = Registry::of(self.store(), &keyring).known().map_err(UnsealError::from)?;
        let found = found.ok_or(UnsealError::Registry)?;
        let mut agreed = lock(&self.agreed);
        if agreed.known.is_some_and(|known| found.is_older_than(known)) {
            return Err(UnsealError::Registry.into());
        }
        agreed.known = Some(found);
        Ok(())
    }

    /// Saves in both copies, and puts in force, what other daemons made of the keyring.
    pub(super) fn take_over(&self, entropy: &mut dyn Entropy) -> Result<(), KeyringUnchanged> {
        let _turn = lock(&self.unsaved);
        self.take_over_in_turn(entropy)
    }

    fn take_over_in_turn(&self, entropy: &mut dyn Entropy) -> Result<(), KeyringUnchanged> {
        let own = self.keyring();
        let registry = Registry::of(self.store(), &own);
        let is_accepted = lock(&self.agreed).is_accepted;
        let Some(next) = registry.newest(&self.origin, is_accepted)? else { return Ok(()) };
        if let Some(custody) = &self.custody {
            custody.folder.save(&custody.root, &next, entropy)?;
        }
        self.put_keyring_in_force(next);
        Ok(())
    }

    /// Says in this daemon's row which keyring it has. A batch under the one before has ended by then: the
    /// lane takes one commit after the other.
    fn confirm(&self, now: Timestamp, entropy: &mut dyn Entropy) -> Result<(), Error> {
        let digest = self.keyring().digest();
        if lock(&self.agreed).confirmed == Some(digest) {
            return Ok(());
        }
        let mut lane = self.lane();
        let keys = self.keys();
        let about = About { policy: None, wanted: &[], now };
        let confirmed = self.registered_step(&mut lane, &keys, &about, entropy, |planning, of| {
            planning.register(of)?;
            let mut entry = Entry::new(now, Actor::Vault, Action::KeyringTaken);
            entry.note = generation_note(keys.keyring.generation());
            entry.policy = keys.policy.short_hash();
            Ok(vec![entry])
        });
        confirmed.map(drop).map_err(|why| match why {
            Unregistered::Failed(error) => error,
            // Changed again meanwhile: the next round takes that over.
            _ => Error::Unavailable(Unavailable::Store),
        })
    }

    /// Makes a change of the keyring that all daemons have, enters it, and takes it over. Gives what has an
    /// entry, and where it stands. Where another daemon is faster, the change is made again on what it left.
    pub(super) fn publish_change(
        &self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        change: impl Fn(&mut Keyring, &mut dyn Entropy) -> Result<(), KeyChangeError>,
    ) -> Result<Vec<(KeyChange, Receipt)>, KeyringUnchanged> {
        let entered = self.published_change(now, entropy, change)?;
        if !entered.is_empty() {
            // The keeper would see to it within a second.
            let _ = self.confirm(now, entropy);
        }
        Ok(entered)
    }

    fn published_change(
        &self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        change: impl Fn(&mut Keyring, &mut dyn Entropy) -> Result<(), KeyChangeError>,
    ) -> Result<Vec<(KeyChange, Receipt)>, KeyringUnchanged> {
        let _turn = lock(&self.unsaved);
        for _ in 0..=CONFLICT_RETRIES_MAX {
            self.take_over_in_turn(entropy)?;
            let base = self.keyring();
            let (mut next, ()) = base.changed(|next| change(next, entropy))?;
            if changes(&base, &next).is_empty() {
                return Ok(Vec::new());
            }
            let known = Registry::of(self.store(), &base).known().map_err(UnsealError::from)?;
            let before = known.map_or(0, |known| known.generation).max(base.generation());
            next.renew_transfer(entropy).map_err(KeyChangeError::from)?;
            next.catch_up(before.saturating_add(1));
            if let Published::Entered(entered) = self.put_in_store(&base, &next, now, entropy)? {
                self.take_over_in_turn(entropy)?;
                return Ok(entered);
            }
        }
        Err(Error::Unavailable(Unavailable::Store).into())
    }

    fn put_in_store(
        &self,
        base: &Keyring,
        next: &Keyring,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Published, KeyringUnchanged> {
        let changes = changes(base, next);
        let publication = Publication {
            next: Known::of(next),
            carried: base.transfer(next, entropy).map_err(KeyChangeError::from)?,
            needs_all: changes.iter().any(|change| change.needs_all(base)),
        };
        let mut lane = self.lane();
        let keys = self.keys();
        let mut is_new = false;
        let about = About { policy: None, wanted: &[], now };
        let receipts = self.registered_step(&mut lane, &keys, &about, entropy, |planning, of| {
            is_new = planning.publish(of, &publication)?;
            let registered = is_new.then(|| registration(now));
            let mut entries: Vec<Entry> = changes.iter().filter_map(|change| change.entry(now)).collect();
            entries.iter_mut().for_each(|entry| entry.policy = keys.policy.short_hash());
            Ok(registered.into_iter().chain(entries).collect())
        });
        match receipts {
            Ok(receipts) => {
                let entered = changes.into_iter().filter(|change| change.entry(now).is_some());
                Ok(Published::Entered(entered.zip(receipts.into_iter().skip(usize::from(is_new))).collect()))
            }
            Err(Unregistered::OtherKeyring) => Ok(Published::Overtaken),
            Err(Unregistered::Unconfirmed) => Err(KeyringUnchanged::Unconfirmed),
            Err(Unregistered::Retired) => Err(UnsealError::Retired.into()),
            Err(Unregistered::TooMany) => Err(UnsealError::TooManyLogs.into()),
            Err(Unregistered::Failed(error)) => Err(error.into()),
        }
    }

    /// A step of the vault's own that also registers this daemon with the keyring in force.
    pub(super) fn registered_step(
        &self,
        lane: &mut Lane,
        keys: &Keys,
        about: &About<'_>,
        entropy: &mut dyn Entropy,
        mut plan: impl FnMut(&mut Planning<'_>, &Registration<'_>) -> Result<Vec<Entry>, Unregistered>,
    ) -> Result<Vec<Receipt>, Unregistered> {
        let digest = keys.keyring.digest();
        let of = Registration {
            registry: Registry::of(self.store(), &keys.keyring),
            origin: &self.origin,
            policy: about.policy,
            is_accepted: lock(&self.agreed).is_accepted,
            now: about.now,
        };
        let wanted = [&registry::wanted(&self.origin, &digest)[..], about.wanted].concat();
        let mut why = None;
        let stepped = self.own_step(lane, keys, &wanted, entropy, |planning| {
            let mut entries = plan(planning, &of).map_err(|unregistered| {
                why = Some(unregistered);
                Error::Denied
            })?;
            for entry in &mut entries {
                planning.entropy.fill(&mut entry.id).map_err(|_| Error::Bug)?;
            }
            Ok(entries)
        });
        let receipts = stepped.map_err(|error| why.take().unwrap_or(Unregistered::Failed(error)))?;
        lock(&self.agreed).confirmed = Some(digest);
        Ok(receipts)
    }
}
