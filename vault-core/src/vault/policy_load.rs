//! Putting a policy in force: keys for its tenants, their fixed choices, an entry with its hash.

use std::sync::Arc;

use crate::audit::{Action, Actor, Entry};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::data::TenantId;
use crate::error::Error;
use crate::policy::Policy;
use crate::store::{Key, Space};

use super::batch::Planning;
use super::key_change::{Changed, KeyringUnchanged};
use super::open::{Keys, Lane, Vault, share_of};
use super::quota::Accounts;
use super::registry::{self, Unregistered};
use super::sealed::UnsealError;

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
        mut entries: Vec<Entry>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<(), UnsealError> {
        let changes = match self.cover(&policy, now, entropy)? {
            Changed::Now(changes) => changes,
            Changed::Before(_) => Vec::new(),
        };
        entries.extend(changes.iter().filter_map(|change| change.entry(now)));
        let mut loaded = Entry::new(now, Actor::Vault, Action::PolicyLoaded);
        loaded.policy = policy.short_hash();
        entries.push(loaded);
        let entered = self.put_policy_in_force(policy, &entries, entropy);
        if entered.is_err()
            && !changes.is_empty()
            && !matches!(entered, Err(UnsealError::OtherKeyring { .. }))
        {
            // The keys are there whatever became of the policy.
            self.enter_key_changes(changes, now, entropy).map_err(UnsealError::Commit)?;
        }
        entered
    }

    fn put_policy_in_force(
        &self,
        policy: Arc<Policy>,
        entries: &[Entry],
        entropy: &mut dyn Entropy,
    ) -> Result<(), UnsealError> {
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
        let covered = self.change_keyring(
            now,
            entropy,
            |_| false,
            |next, entropy| {
                for tenant in policy.tenants() {
                    for class in tenant.classes().iter() {
                        next.ensure_class(tenant.id(), class, entropy, now)?;
                        next.ensure_next(tenant.id(), class, entropy, now)?;
                    }
                }
                Ok(())
            },
        );
        covered.map_err(|problem| match problem {
            KeyringUnchanged::Registry(error) => error,
            problem => UnsealError::Keyring(problem.to_string()),
        })
    }

    fn enter_policy(
        &self,
        lane: &mut Lane,
        keys: &Keys,
        policy: &Policy,
        entries: &[Entry],
        entropy: &mut dyn Entropy,
    ) -> Result<(), UnsealError> {
        let choices: Vec<(Key, [u8; 2])> = policy
            .tenants()
            .map(|tenant| (choices_key(tenant.id()), [CHOICES, u8::from(tenant.one_token_per_value())]))
            .collect();
        let shared = self.store().is_shared();
        let mut wanted: Vec<Key> = choices.iter().map(|(key, _)| key.clone()).collect();
        if shared {
            wanted.extend(registry::wanted(&self.origin));
        }
        let base = if shared { self.agreed(keys)?.map(|known| known.digest) } else { None };
        let now = entries.last().map_or(Timestamp::default(), |loaded| loaded.at);
        let (mut changed, mut unregistered) = (false, None);
        let entered = self.own_step(lane, keys, &wanted, entropy, |planning| {
            for (key, choice) in &choices {
                changed |= !planning.keep_choice(key, choice)?;
            }
            if changed {
                return Err(Error::Denied);
            }
            let mut entries = entries.to_vec();
            if shared {
                match planning.register(&self.origin, base, policy.short_hash(), now) {
                    Ok(true) => entries.insert(0, registry::registration(now)),
                    Ok(false) => {}
                    Err(Unregistered::Failed(error)) => return Err(error),
                    Err(why) => {
                        unregistered = Some(why);
                        return Err(Error::Denied);
                    }
                }
            }
            for entry in &mut entries {
                planning.entropy.fill(&mut entry.id).map_err(|_| Error::Bug)?;
            }
            Ok(entries)
        });
        match (entered, unregistered) {
            (Err(_), _) if changed => Err(UnsealError::TenantChoice),
            (Err(_), Some(Unregistered::OtherKeyring)) => {
                self.agreed(keys)?;
                Err(UnsealError::Registry)
            }
            (Err(_), Some(Unregistered::Retired)) => Err(UnsealError::Retired),
            (entered, _) => entered.map(drop).map_err(UnsealError::Commit),
        }
    }
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
