//! Putting a policy in force: keys for its tenants, their fixed choices, an entry with its hash.

use std::sync::Arc;

use crate::audit::{Action, Actor, Entry};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::data::TenantId;
use crate::error::{Error, Unavailable};
use crate::keys::{KeyChangeError, Keyring};
use crate::limits::CONFLICT_RETRIES_MAX;
use crate::policy::Policy;
use crate::store::{Key, Space};

use super::batch::Planning;
use super::key_change::{Changed, KeyringUnchanged};
use super::open::{Keys, Lane, Vault, share_of};
use super::quota::Accounts;
use super::registry::{self, Registry, Unregistered};
use super::sealed::UnsealError;
use super::spread::About;

/// Version of a tenant's choices row.
const CHOICES: u8 = 1;

impl Vault {
    /// Decides by a new policy from here on. Its load is in the log before anything is decided by it.
    ///
    /// # Errors
    /// [`UnsealError::TenantChoice`] when it changes what was fixed with a tenant, [`UnsealError::Keyring`]
    /// when keys for a new tenant could not be saved, [`UnsealError::Commit`]. The old policy stays in force.
    pub fn load_policy(
        &self,
        policy: Arc<Policy>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<(), UnsealError> {
        self.open_with(policy, Vec::new(), now, entropy)
    }

    /// As [`Vault::load_policy`], with other entries before its own in the same commit.
    pub(super) fn open_with(
        &self,
        policy: Arc<Policy>,
        entries: Vec<Entry>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<(), UnsealError> {
        let mut loaded = Entry::new(now, Actor::Vault, Action::PolicyLoaded);
        loaded.policy = policy.short_hash();
        if self.store().is_shared() && self.has_daemons()? {
            return self.open_shared(&policy, &[&entries[..], &[loaded]].concat(), entropy);
        }
        let changes = match self.cover(&policy, now, entropy)? {
            Changed::Now(changes) => changes,
            Changed::Before(_) => Vec::new(),
        };
        let made = changes.iter().filter_map(|change| change.entry(now));
        let entries: Vec<Entry> = entries.into_iter().chain(made).chain([loaded]).collect();
        let entered = self.put_policy_in_force(policy, &entries, entropy);
        if entered.is_err() && !changes.is_empty() {
            // The keys are there whatever became of the policy.
            self.enter_key_changes(changes, now, entropy).map_err(UnsealError::Commit)?;
        }
        entered.map_err(Self::not_in_force)
    }

    fn has_daemons(&self) -> Result<bool, UnsealError> {
        let keyring = self.keyring();
        Ok(Registry::of(self.store(), &keyring).known()?.is_some())
    }

    /// With the keyring that all daemons have, to which this one adds what the policy asks for. Where another
    /// one changes it meanwhile, everything begins anew.
    fn open_shared(
        &self,
        policy: &Arc<Policy>,
        entries: &[Entry],
        entropy: &mut dyn Entropy,
    ) -> Result<(), UnsealError> {
        let now = entries.last().map_or(Timestamp::default(), |loaded| loaded.at);
        for _ in 0..=CONFLICT_RETRIES_MAX {
            self.take_over(entropy).map_err(unsealing)?;
            let covered =
                self.publish_change(now, entropy, |next, entropy| cover(next, policy, now, entropy));
            covered.map_err(unsealing)?;
            match self.put_policy_in_force(Arc::clone(policy), entries, entropy) {
                Err(NotInForce::Unregistered(Unregistered::OtherKeyring)) => {}
                entered => return entered.map_err(Self::not_in_force),
            }
        }
        Err(UnsealError::Commit(Error::Unavailable(Unavailable::Store)))
    }

    fn put_policy_in_force(
        &self,
        policy: Arc<Policy>,
        entries: &[Entry],
        entropy: &mut dyn Entropy,
    ) -> Result<(), NotInForce> {
        let mut lane = self.lane();
        let mut keys = self.keys_mut();
        self.enter_policy(&mut lane, &keys, &policy, entries, entropy)?;
        keys.accounts = Accounts::of(&policy, share_of(self.store(), &self.origin));
        keys.policy = policy;
        Ok(())
    }

    /// Makes keys for tenants that have none, and the next version where none is introduced: both are on disk
    /// before anything is encrypted under them.
    fn cover(
        &self,
        policy: &Policy,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Changed, UnsealError> {
        let add = |next: &mut Keyring, entropy: &mut dyn Entropy| cover(next, policy, now, entropy);
        self.change_keyring(now, entropy, |_| false, add).map_err(unsealing)
    }

    fn enter_policy(
        &self,
        lane: &mut Lane,
        keys: &Keys,
        policy: &Policy,
        entries: &[Entry],
        entropy: &mut dyn Entropy,
    ) -> Result<(), NotInForce> {
        let choices: Vec<(Key, [u8; 2])> = policy
            .tenants()
            .map(|tenant| (choices_key(tenant.id()), [CHOICES, u8::from(tenant.one_token_per_value())]))
            .collect();
        let wanted: Vec<Key> = choices.iter().map(|(key, _)| key.clone()).collect();
        let now = entries.last().map_or(Timestamp::default(), |loaded| loaded.at);
        let mut changed = false;
        let mut keep = |planning: &mut Planning<'_>| {
            for (key, choice) in &choices {
                changed |= !planning.keep_choice(key, choice)?;
            }
            if changed { Err(Error::Denied) } else { Ok(entries.to_vec()) }
        };
        let entered = if self.store().is_shared() {
            let about = About { policy: Some(policy.short_hash()), wanted: &wanted, now };
            self.registered_step(lane, keys, &about, entropy, |planning, of| {
                let mut entries = keep(planning)?;
                if planning.register(of)? {
                    entries.insert(0, registry::registration(now));
                }
                Ok(entries)
            })
        } else {
            let entered = self.own_step(lane, keys, &wanted, entropy, |planning| {
                let mut entries = keep(planning)?;
                for entry in &mut entries {
                    planning.entropy.fill(&mut entry.id).map_err(|_| Error::Bug)?;
                }
                Ok(entries)
            });
            entered.map_err(Unregistered::Failed)
        };
        if changed {
            return Err(NotInForce::TenantChoice);
        }
        entered.map(drop).map_err(NotInForce::Unregistered)
    }

    fn not_in_force(why: NotInForce) -> UnsealError {
        match why {
            NotInForce::TenantChoice => UnsealError::TenantChoice,
            NotInForce::Unregistered(Unregistered::Retired) => UnsealError::Retired,
            NotInForce::Unregistered(Unregistered::TooMany) => UnsealError::TooManyLogs,
            NotInForce::Unregistered(Unregistered::Failed(error)) => UnsealError::Commit(error),
            NotInForce::Unregistered(Unregistered::OtherKeyring | Unregistered::Unconfirmed) => {
                UnsealError::Registry
            }
        }
    }
}

/// Why a policy is not in force.
enum NotInForce {
    /// It changes what was fixed with a tenant.
    TenantChoice,
    Unregistered(Unregistered),
}

fn unsealing(problem: KeyringUnchanged) -> UnsealError {
    match problem {
        KeyringUnchanged::Registry(error) => error,
        KeyringUnchanged::Unentered(error) => UnsealError::Commit(error),
        problem => UnsealError::Keyring(problem.to_string()),
    }
}

/// Adds the keys that a policy asks for.
fn cover(
    next: &mut Keyring,
    policy: &Policy,
    now: Timestamp,
    entropy: &mut dyn Entropy,
) -> Result<(), KeyChangeError> {
    for tenant in policy.tenants() {
        for class in tenant.classes().iter() {
            next.ensure_class(tenant.id(), class, entropy, now)?;
            next.ensure_next(tenant.id(), class, entropy, now)?;
        }
    }
    Ok(())
}

impl Planning<'_> {
    /// Remembers a tenant's choice; `false` when it was another before.
    fn keep_choice(&mut self, key: &Key, choice: &[u8; 2]) -> Result<bool, Error> {
        if let Some(stored) = self.row(key)? {
            return Ok(stored == choice);
        }
        self.put_row(key.clone(), choice);
        Ok(true)
    }
}

fn choices_key(tenant: &TenantId) -> Key {
    Key::new(Space::Meta, Some(tenant), b"choices")
}
