//! Changing the keyring: on disk in both copies first, then in memory, then in the log.
//!
//! Calls go on while the copies are written. One that was prepared before a change and is committed after it
//! is brought up to the keys of the day first (`batch.rs`), so that a retired key encrypts nothing more from
//! the moment the change is in force.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::audit::{Action, Actor, Entry, Receipt};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::data::{CallerText, Class, TenantId};
use crate::error::{Error, State, Unavailable};
use crate::keys::{EncryptingKeys, KeyChangeError, KeyState, KeyVersionInfo, Keyring, SaveError};
use crate::limits::KEY_ROTATED_AFTER_DAYS;

use super::open::{Keys, Vault, lock};
use super::registry::Registry;
use super::request::KeyOrder;
use super::sealed::UnsealError;

const DAY_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// Why the keyring in force is still the old one.
#[derive(Debug, Error)]
pub(super) enum KeyringUnchanged {
    /// The change itself is not possible.
    #[error(transparent)]
    Change(#[from] KeyChangeError),
    /// The copies could not be written.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// Other daemons have another keyring.
    #[error(transparent)]
    Registry(#[from] UnsealError),
    /// Another daemon may not have what the change builds on yet.
    #[error("another daemon has not confirmed yet that it has the keyring of now")]
    Unconfirmed,
    /// An earlier change is finished, and could not be entered.
    #[error("an earlier change of the keyring could not be entered in the log")]
    Unentered(#[source] Error),
}

impl From<Error> for KeyringUnchanged {
    fn from(error: Error) -> Self {
        Self::Unentered(error)
    }
}

/// What became of the keyring.
pub(super) enum Changed {
    /// It was changed, and that is still to be entered.
    Now(Vec<KeyChange>),
    /// A change that was left unfinished did it, and is entered.
    Before(Vec<(KeyChange, Receipt)>),
}

/// What became of one key version.
pub(super) struct KeyChange {
    tenant: TenantId,
    class: Class,
    info: KeyVersionInfo,
    generation: u64,
}

impl KeyChange {
    pub(super) const fn info(&self) -> KeyVersionInfo {
        self.info
    }

    /// Whether the order concerns this key.
    pub(super) fn is_of(&self, order: &KeyOrder) -> bool {
        (&self.tenant, self.class) == (&order.tenant, order.class)
    }

    /// Whether every daemon must have the keyring before, because what the others then do differs from what
    /// it may still do: all but drawing keys that are not used yet.
    pub(super) fn needs_all(&self, base: &Keyring) -> bool {
        match self.info.state {
            KeyState::Introduced => false,
            KeyState::Enabled => !base.versions(&self.tenant, self.class).is_empty(),
            KeyState::Announced | KeyState::DecryptOnly | KeyState::Destroyed => true,
        }
    }

    /// Its entry. That a version is decrypt-only follows from the enabling of the next: it has none.
    pub(super) fn entry(&self, now: Timestamp) -> Option<Entry> {
        let action = match self.info.state {
            KeyState::Introduced => Action::KeyIntroduced,
            KeyState::Announced => Action::KeyAnnounced,
            KeyState::Enabled => Action::KeyEnabled,
            KeyState::DecryptOnly => return None,
            KeyState::Destroyed => Action::KeyDestroyed,
        };
        let mut entry = Entry::new(now, Actor::Vault, action);
        entry.tenant = Some(self.tenant.clone());
        entry.class = Some(self.class);
        entry.key_version = self.info.version;
        entry.note = generation_note(self.generation);
        Some(entry)
    }
}

/// How an entry names the keyring's generation.
pub(super) fn generation_note(generation: u64) -> Option<CallerText> {
    CallerText::of_stored(&format!("keyring-generation:{generation}"))
}

impl Vault {
    /// Changes the keyring: the new one is in force when both its copies are durable, and not before. Gives
    /// what became of each key version, for the log.
    ///
    /// A change that failed on its way to the disk may stand there in one copy. It is finished, and entered,
    /// before the next one, which would otherwise contradict it. Where it already did what is wanted,
    /// nothing more is changed; what is given then is entered already.
    pub(super) fn change_keyring(
        &self,
        now: Timestamp,
        entropy: &mut dyn Entropy,
        is_wanted: impl Fn(&KeyChange) -> bool,
        change: impl FnOnce(&mut Keyring, &mut dyn Entropy) -> Result<(), KeyChangeError>,
    ) -> Result<Changed, KeyringUnchanged> {
        let mut unsaved = lock(&self.unsaved);
        if let Some(left) = unsaved.take() {
            let changes = self.put_in_force(left, true, &mut unsaved, entropy)?;
            let entered = self.enter_key_changes(changes, now, entropy)?;
            if entered.iter().any(|(change, _)| is_wanted(change)) {
                return Ok(Changed::Before(entered));
            }
        }
        let (mut next, ()) = self.keyring().changed(|next| change(next, entropy))?;
        next.renew_transfer(entropy).map_err(KeyChangeError::from)?;
        self.put_in_force(next, false, &mut unsaved, entropy).map(Changed::Now)
    }

    /// Saves a keyring and puts it in force. One that may stand in one copy by now is kept, to be finished.
    fn put_in_force(
        &self,
        next: Keyring,
        was_left: bool,
        unsaved: &mut Option<Keyring>,
        entropy: &mut dyn Entropy,
    ) -> Result<Vec<KeyChange>, KeyringUnchanged> {
        let changes = changes(&self.keyring(), &next);
        if changes.is_empty() {
            return Ok(changes);
        }
        if let Some(custody) = &self.custody
            && let Err(error) = custody.folder.save(&custody.root, &next, entropy)
        {
            // Any other error is found before a byte is written.
            *unsaved = (was_left || matches!(error, SaveError::Io(_))).then_some(next);
            return Err(error.into());
        }
        self.put_keyring_in_force(next);
        Ok(changes)
    }

    /// Finishes a change that failed on its way to the disk; then enables the next version of every key that
    /// has encrypted for [`KEY_ROTATED_AFTER_DAYS`], and introduces the one after it. Gives how many were
    /// rotated. Where several daemons share the store, such a version is announced first, and whatever is
    /// announced is enabled once all have confirmed that they know.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when the keyring or the entries could not be written; [`State::KeyInUse`] when
    /// a key is due whose tenant keeps as many old versions as may be: all others are rotated.
    /// [`State::KeyUnconfirmed`] while keys wait for another daemon.
    pub fn rotate_due(&self, now: Timestamp, entropy: &mut dyn Entropy) -> Result<usize, Error> {
        let waiting = waiting(&self.keyring(), now);
        if waiting.is_empty() && lock(&self.unsaved).is_none() {
            return Ok(0);
        }
        let enables = |change: &KeyChange| change.info().state.encrypts();
        let roomy = |next: &Keyring| -> Vec<_> {
            let due = self::waiting(next, now).into_iter();
            due.filter(|(tenant, class)| next.has_room(tenant, *class)).collect()
        };
        let (entered, was_left) = if self.store().is_shared() {
            if !self.all_have_keyring()? {
                return Err(Error::State(State::KeyUnconfirmed));
            }
            let changed = self.publish_change(now, entropy, |next, entropy| {
                let due = roomy(next);
                due.iter().try_for_each(|(tenant, class)| go_on(next, tenant, *class, entropy, now))
            });
            (changed.map_err(unchanged)?, false)
        } else {
            let changed = self.change_keyring(now, entropy, enables, |next, entropy| {
                let due = roomy(next);
                due.iter().try_for_each(|(tenant, class)| rotate(next, tenant, *class, entropy, now))
            });
            let changed = changed.map_err(unchanged)?;
            let was_left = matches!(changed, Changed::Before(_));
            (self.entered(changed, now, entropy)?, was_left)
        };
        let keyring = self.keyring();
        let mut left = self::waiting(&keyring, now).into_iter();
        if !was_left && left.any(|(tenant, class)| !keyring.has_room(&tenant, class)) {
            return Err(Error::State(State::KeyInUse));
        }
        Ok(entered.iter().filter(|(change, _)| enables(change)).count())
    }

    /// Whether every daemon that shares the store has confirmed that it has the keyring of this one.
    pub(super) fn all_have_keyring(&self) -> Result<bool, Error> {
        Ok(Registry::of(self.store(), &self.keyring()).all_have_it(&self.origin)?)
    }

    /// What was changed, with the receipts of its entries.
    pub(super) fn entered(
        &self,
        changed: Changed,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Vec<(KeyChange, Receipt)>, Error> {
        match changed {
            Changed::Before(entered) => Ok(entered),
            Changed::Now(changes) => self.enter_key_changes(changes, now, entropy),
        }
    }

    /// Enters what became of keys; the keyring that says so is durable already. Gives what has an entry, and
    /// where it stands.
    pub(super) fn enter_key_changes(
        &self,
        changes: Vec<KeyChange>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Vec<(KeyChange, Receipt)>, Error> {
        let mut lane = self.lane();
        let keys = self.keys();
        let receipts = self.own_step(&mut lane, &keys, &[], entropy, |planning| {
            let mut entries: Vec<Entry> = changes.iter().filter_map(|change| change.entry(now)).collect();
            for entry in &mut entries {
                entry.policy = keys.policy.short_hash();
                planning.entropy.fill(&mut entry.id).map_err(|_| Error::Bug)?;
            }
            Ok(entries)
        })?;
        Ok(changes.into_iter().filter(|change| change.entry(now).is_some()).zip(receipts).collect())
    }
}

/// Keys whose time to be rotated has come, or whose next version is announced.
fn waiting(keyring: &Keyring, now: Timestamp) -> BTreeSet<(TenantId, Class)> {
    let is_due = |info: &KeyVersionInfo| {
        let age = info.enabled_at.map(|at| now.micros().saturating_sub(at.micros()));
        info.state.encrypts() && age.is_some_and(|age| age >= KEY_ROTATED_AFTER_DAYS * DAY_MICROS)
    };
    let waits = |info: &KeyVersionInfo| info.state == KeyState::Announced || is_due(info);
    let inventory = keyring.inventory().into_iter();
    inventory.filter(|(.., info)| waits(info)).map(|(tenant, class, _)| (tenant, class)).collect()
}

/// Brings the next version of a key one step further, where several daemons share the store: it is drawn,
/// then announced, then enabled, each once all have the step before.
pub(super) fn go_on(
    next: &mut Keyring,
    tenant: &TenantId,
    class: Class,
    entropy: &mut dyn Entropy,
    now: Timestamp,
) -> Result<(), KeyChangeError> {
    let newest = next.versions(tenant, class).last().copied().ok_or(KeyChangeError::NoSuchVersion)?;
    match newest.state {
        KeyState::Introduced if next.has_room(tenant, class) => next.announce(tenant, class, newest.version),
        KeyState::Introduced => Err(KeyChangeError::TooManyVersions),
        KeyState::Announced => rotate(next, tenant, class, entropy, now),
        _ => next.introduce(tenant, class, entropy, now).map(drop),
    }
}

/// Makes the next version the one that encrypts, and introduces the one after it: it is in every keyring for
/// a whole period before it encrypts, so that any backup of the keyring from that period opens everything.
pub(super) fn rotate(
    next: &mut Keyring,
    tenant: &TenantId,
    class: Class,
    entropy: &mut dyn Entropy,
    now: Timestamp,
) -> Result<(), KeyChangeError> {
    next.ensure_next(tenant, class, entropy, now)?;
    let newest = next.versions(tenant, class).last().map_or(0, |info| info.version);
    next.enable(tenant, class, newest, now)?;
    next.introduce(tenant, class, entropy, now).map(drop)
}

/// How the caller is told that the keyring did not change.
pub(super) fn unchanged(reason: KeyringUnchanged) -> Error {
    match reason {
        KeyringUnchanged::Change(KeyChangeError::NoSuchVersion) => Error::State(State::NoSuchKey),
        KeyringUnchanged::Change(KeyChangeError::WrongState | KeyChangeError::TooManyVersions) => {
            Error::State(State::KeyInUse)
        }
        KeyringUnchanged::Unconfirmed => Error::State(State::KeyUnconfirmed),
        KeyringUnchanged::Change(KeyChangeError::AlreadyIntroduced | KeyChangeError::Entropy(_)) => {
            Error::Bug
        }
        KeyringUnchanged::Save(_) | KeyringUnchanged::Registry(_) => Error::Unavailable(Unavailable::Store),
        KeyringUnchanged::Unentered(error) => error,
    }
}

/// Every version whose state differs between two keyrings.
pub(super) fn changes(old: &Keyring, new: &Keyring) -> Vec<KeyChange> {
    let places = |keyring: &Keyring| -> BTreeMap<_, _> {
        let inventory = keyring.inventory().into_iter();
        inventory.map(|(tenant, class, info)| ((tenant, class, info.version), info)).collect()
    };
    let before = places(old);
    let generation = new.generation();
    let changed = places(new).into_iter().filter(|(place, info)| before.get(place) != Some(info));
    changed.map(|((tenant, class, _), info)| KeyChange { tenant, class, info, generation }).collect()
}

impl Keys {
    /// The keys that encrypt for a tenant and class.
    pub(super) fn encrypting(
        &self,
        tenant: &TenantId,
        class: Class,
        now: Timestamp,
    ) -> Result<EncryptingKeys<'_>, Error> {
        let keys = self.keyring.encrypting(tenant, class, now);
        keys.ok_or(match self.keyring.versions(tenant, class).is_empty() {
            true => Error::Bug,
            false => Error::State(State::KeyExpired),
        })
    }
}
