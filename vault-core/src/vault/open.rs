//! The unsealed vault: keys and policy in memory, one lane of commits.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::audit::{Entry, LeafHash, LogWriter, Origin, Receipt, Staged, TreeHead};
use crate::crypto::Entropy;
use crate::data::{Environment, VaultId};
use crate::error::{Error, Unavailable};
use crate::keys::{AnchorFile, Keyring, KeyringFolder, RootKey};
use crate::limits::CONFLICT_RETRIES_MAX;
use crate::policy::Policy;
use crate::store::{Change, Commit, Fault, Key, Space, Store};

use super::attempts::Attempts;
use super::batch::{Plan, Planning};
use super::keep::Published;
use super::overlay::Overlay;
use super::quota::{Accounts, Share};
use super::seen::Seen;
use super::spread::Agreed;
use super::sweep::Cursor;

/// What opens data and what decides about it. Replaced together under one lock.
pub(super) struct Keys {
    pub(super) keyring: Arc<Keyring>,
    pub(super) policy: Arc<Policy>,
    /// Of that policy.
    pub(super) accounts: Accounts,
}

/// Where keyring, anchor and journal are; none for a vault whose program keeps its own keys.
pub(super) struct Custody {
    pub(super) attempts: Arc<Attempts>,
    pub(super) folder: KeyringFolder,
    pub(super) anchor: AnchorFile,
    pub(super) root: RootKey,
}

/// What one commit after another changes.
pub(super) struct Lane {
    pub(super) health: Health,
    pub(super) log: LogWriter,
    pub(super) head_key: Key,
    /// The head row as it was last written, and its version; 0: not yet written.
    pub(super) head: Vec<u8>,
    pub(super) head_version: u64,
    /// The batch whose outcome is unknown, while suspended.
    pub(super) unknown: Option<Staged>,
    /// How far the sweep of expired rows has come.
    pub(super) sweep: Cursor,
    /// The tokens counted today.
    pub(super) seen: Seen,
}

/// Whether calls are served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Health {
    /// Calls are served.
    Serving = 0,
    /// The store is away: keys are kept, calls are refused as unavailable, [`Vault::resume`] finds out.
    Suspended = 1,
    /// Integrity is in doubt: nothing is served any more, whoever owns the vault must seal it.
    MustSeal = 2,
}

/// An unsealed vault. Any number of threads prepare calls; commits follow one another.
pub struct Vault {
    pub(super) origin: Origin,
    pub(super) store: Arc<dyn Store>,
    pub(super) custody: Option<Custody>,
    keys: RwLock<Keys>,
    /// A keyring that may stand in one copy on disk and is not in force. Locked before lane and keys: one
    /// change at a time.
    pub(super) unsaved: Mutex<Option<Keyring>>,
    /// Of the keyring that all daemons of a shared store have.
    pub(super) agreed: Mutex<Agreed>,
    lane: Mutex<Lane>,
    health: AtomicU8,
    /// The newest durable head: what may be signed and anchored.
    durable: Mutex<TreeHead>,
    pub(super) published: Mutex<Published>,
    /// Damage that no caller was told of.
    pub(super) damaged: AtomicU64,
}

/// The parts of a vault, once they are known to fit together.
pub(super) struct Parts {
    pub(super) store: Arc<dyn Store>,
    pub(super) custody: Option<Custody>,
    pub(super) keyring: Arc<Keyring>,
    pub(super) policy: Arc<Policy>,
    pub(super) log: LogWriter,
    /// The head row as stored, if there is one.
    pub(super) head: Option<(Vec<u8>, u64)>,
    pub(super) published: Published,
}

impl Vault {
    pub(super) fn assemble(parts: Parts) -> Self {
        let durable = parts.log.head();
        let origin = parts.log.origin().clone();
        let (head, head_version) = parts.head.unwrap_or_else(|| (parts.log.head_row(), 0));
        let lane = Lane {
            health: Health::Serving,
            head_key: head_key(&origin),
            log: parts.log,
            head,
            head_version,
            unknown: None,
            sweep: Cursor::default(),
            seen: Seen::default(),
        };
        let accounts = Accounts::of(&parts.policy, share_of(parts.store.as_ref(), &origin));
        Self {
            origin,
            store: parts.store,
            custody: parts.custody,
            keys: RwLock::new(Keys { keyring: parts.keyring, policy: parts.policy, accounts }),
            unsaved: Mutex::new(None),
            agreed: Mutex::default(),
            lane: Mutex::new(lane),
            health: AtomicU8::new(Health::Serving as u8),
            durable: Mutex::new(durable),
            published: Mutex::new(parts.published),
            damaged: AtomicU64::new(0),
        }
    }

    /// The name of this log: the first line of its checkpoints.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Where the vault runs.
    pub fn environment(&self) -> Environment {
        self.keys().keyring.environment().clone()
    }

    /// The vault's own identity.
    pub fn vault_id(&self) -> VaultId {
        *self.keys().keyring.vault_id()
    }

    /// Grows with every change of the keyring.
    pub fn keyring_generation(&self) -> u64 {
        self.keys().keyring.generation()
    }

    /// The keyring in force, for work that waits for the store: whoever holds the lock of the keys meanwhile
    /// holds up every call.
    pub(super) fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keys().keyring)
    }

    /// From here on calls are prepared and committed under this keyring.
    pub(super) fn put_keyring_in_force(&self, keyring: Keyring) {
        self.keys_mut().keyring = Arc::new(keyring);
    }

    /// The policy that decides now.
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.keys().policy)
    }

    /// Size and root of the log as far as it is durable.
    pub fn tree_head(&self) -> TreeHead {
        *lock(&self.durable)
    }

    /// Whether calls are served; cheap enough to ask before each.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            0 => Health::Serving,
            1 => Health::Suspended,
            _ => Health::MustSeal,
        }
    }

    /// How much damage was met since the last time this was asked, of which no caller was told: among the
    /// tokens counted today, which count again then. For an alarm; [`Vault::check`] finds the rows.
    pub fn take_damage(&self) -> u64 {
        self.damaged.swap(0, Ordering::Relaxed)
    }

    pub(super) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    pub(super) fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keys_mut(&self) -> RwLockWriteGuard<'_, Keys> {
        self.keys.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane. Locked before the keys, never after them.
    pub(super) fn lane(&self) -> MutexGuard<'_, Lane> {
        lock(&self.lane)
    }

    /// Takes keys and places apart, for sealing.
    pub(super) fn into_keys(self) -> (Arc<Keyring>, Option<Custody>) {
        let keys = self.keys.into_inner().unwrap_or_else(PoisonError::into_inner);
        (keys.keyring, self.custody)
    }

    /// Installs a commit that is durable.
    pub(super) fn accept(&self, lane: &mut Lane, staged: Staged) {
        lane.head = staged.head;
        lane.head_version += 1;
        lane.unknown = None;
        if lane.log.accept(staged.next).is_err() {
            // Staged on this very log under this lock: anything else is a defect, and the log is in doubt.
            self.must_seal(lane);
            return;
        }
        *lock(&self.durable) = lane.log.head();
    }

    pub(super) fn set_health(&self, lane: &mut Lane, health: Health) {
        lane.health = health;
        self.health.store(health as u8, Ordering::Release);
    }

    /// The store is away, perhaps with a batch whose outcome is unknown.
    pub(super) fn suspend(&self, lane: &mut Lane, unknown: Option<Staged>) {
        lane.unknown = unknown;
        lane.seen.doubt();
        self.set_health(lane, Health::Suspended);
    }

    /// Integrity in doubt.
    pub(super) fn must_seal(&self, lane: &mut Lane) {
        self.set_health(lane, Health::MustSeal);
    }

    /// A step of the vault's own: read, plan, append entries, commit. Planned again on a conflict. Gives
    /// where the entries stand.
    pub(super) fn own_step(
        &self,
        lane: &mut Lane,
        keys: &Keys,
        wanted: &[Key],
        entropy: &mut dyn Entropy,
        plan: impl FnMut(&mut Planning<'_>) -> Result<Vec<Entry>, Error>,
    ) -> Result<Vec<Receipt>, Error> {
        if lane.health != Health::Serving {
            return Err(Error::Unavailable(Unavailable::Store));
        }
        self.step(lane, keys, wanted, entropy, plan)
    }

    /// As [`Vault::own_step`], whatever the vault's health.
    pub(super) fn step(
        &self,
        lane: &mut Lane,
        keys: &Keys,
        wanted: &[Key],
        entropy: &mut dyn Entropy,
        mut plan: impl FnMut(&mut Planning<'_>) -> Result<Vec<Entry>, Error>,
    ) -> Result<Vec<Receipt>, Error> {
        for _ in 0..=CONFLICT_RETRIES_MAX {
            let overlay = Overlay::read(self.store(), wanted.to_vec())
                .map_err(|fault| self.own_fault(lane, fault, None))?;
            let mut planning = Planning::over(keys, overlay, entropy);
            let entries = plan(&mut planning)?;
            entries.iter().for_each(|entry| planning.enter(entry));
            let Plan { mut writes, entries, .. } = planning.into_plan();
            if entries.is_empty() {
                return Ok(Vec::new());
            }
            let staged = lane.log.stage(&entries).map_err(|_| Error::Bug)?;
            lane.add_log_writes(&staged, &mut writes);
            match self.store().commit(&writes) {
                Ok(Commit::Done) => {
                    let receipts = self.receipts(staged.first_index, &entries);
                    self.accept(lane, staged);
                    return Ok(receipts);
                }
                Ok(Commit::Conflict) => {}
                Err(fault) => return Err(self.own_fault(lane, fault, Some(staged))),
            }
        }
        Err(Error::Unavailable(Unavailable::Store))
    }

    fn receipts(&self, first_index: u64, entries: &[(Vec<u8>, LeafHash)]) -> Vec<Receipt> {
        let receipt = |(index, (_, leaf)): (u64, &(Vec<u8>, LeafHash))| {
            let origin = self.origin.clone();
            Receipt { origin, index, leaf_hash: *leaf }
        };
        (first_index..).zip(entries).map(receipt).collect()
    }

    fn own_fault(&self, lane: &mut Lane, fault: Fault, staged: Option<Staged>) -> Error {
        match (fault, staged) {
            (Fault::Unknown(_), Some(staged)) => {
                self.suspend(lane, Some(staged));
                Error::Unavailable(Unavailable::OutcomeUnknown)
            }
            (Fault::Corrupt(_), _) => {
                self.must_seal(lane);
                Error::Corrupt
            }
            (Fault::Misuse(_), _) => Error::Bug,
            _ => {
                self.suspend(lane, None);
                Error::Unavailable(Unavailable::Store)
            }
        }
    }
}

impl Lane {
    /// Page, tiles and head of a staged batch. Replacing the head on its exact version keeps one origin from
    /// ever having two histories.
    pub(super) fn add_log_writes(&self, staged: &Staged, writes: &mut crate::store::Writes) {
        let (end, page) = &staged.page;
        writes.push(page_key(self.log.origin(), *end), Change::Insert(page.clone()));
        for tile in &staged.tiles {
            writes.push(
                tile_key(self.log.origin(), tile.level, tile.index),
                Change::Insert(tile.bytes.clone()),
            );
        }
        let head = match self.head_version {
            0 => Change::Insert(staged.head.clone()),
            version => Change::Replace { version, value: staged.head.clone() },
        };
        writes.push(self.head_key.clone(), head);
    }
}

/// Who counts in rows of its own, because others may serve the same store.
pub(super) fn share_of(store: &dyn Store, origin: &Origin) -> Share {
    Share(store.is_shared().then(|| log_prefix(origin)))
}

/// Eight bytes that stand for a log's origin in the keys of its rows.
pub(super) fn log_prefix(origin: &Origin) -> [u8; 8] {
    let hash = crate::crypto::sha256(&[origin.as_str().as_bytes()]);
    let [a, b, c, d, e, f, g, h, ..] = hash;
    [a, b, c, d, e, f, g, h]
}

pub(super) fn head_key(origin: &Origin) -> Key {
    Key::new(Space::LogHead, None, &log_prefix(origin))
}

/// The page that ends before `end`.
pub(super) fn page_key(origin: &Origin, end: u64) -> Key {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&log_prefix(origin));
    bytes[8..].copy_from_slice(&end.to_be_bytes());
    Key::new(Space::LogPage, None, &bytes)
}

pub(super) fn tile_key(origin: &Origin, level: u8, index: u64) -> Key {
    let mut bytes = [0; 17];
    bytes[..8].copy_from_slice(&log_prefix(origin));
    bytes[8] = level;
    bytes[9..].copy_from_slice(&index.to_be_bytes());
    Key::new(Space::LogTile, None, &bytes)
}

/// A lock whose holder panicked still guards consistent data: every change under it is made in one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
