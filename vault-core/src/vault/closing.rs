//! Closing: what is still to be recorded, and then every key is forgotten.

use std::sync::Arc;

use crate::audit::{Action, Actor, Entry};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::data::CallerText;
use crate::error::{Error, Unavailable};
use crate::keys::{Keyring, UnsealAttempt, UnsealOutcome};
use crate::policy::{Identity, Policy};

use super::attempts::{actor, attempt};
use super::open::{Health, Lane, Vault};

/// Why a vault is sealed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Closing {
    /// A caller asked, and the call is in the log.
    Entered,
    /// A caller asked whom policy lets, while the store was away.
    Asked {
        /// Who.
        who: Identity,
        /// Why.
        reason: CallerText,
    },
    /// The program ends.
    Stop,
    /// The vault's integrity is in doubt.
    Doubt,
}

/// What is left of a vault that was sealed.
pub struct Sealed {
    /// For the program that keeps it itself.
    pub keyring: Arc<Keyring>,
    /// Whether the sealing is in the log, or in the journal from where the next unsealing enters it. If not,
    /// the owner should raise an alarm: the keys are gone all the same.
    pub recorded: bool,
}

impl Vault {
    /// Seals: records why, in the log if the store takes it, else in the journal; signs and anchors what is
    /// durable; forgets every key. Nothing that fails on the way keeps the vault open.
    pub fn seal(self, closing: &Closing, now: Timestamp, entropy: &mut dyn Entropy) -> Sealed {
        let recorded = self.record_closing(closing, now, entropy);
        // A vault whose store or anchor is away is sealed all the same.
        let _ = self.keep();
        let (keyring, _custody) = self.into_keys();
        Sealed { keyring, recorded }
    }

    fn record_closing(&self, closing: &Closing, now: Timestamp, entropy: &mut dyn Entropy) -> bool {
        let Some((action, journaled)) = closing.record(now) else { return true };
        if self.enter_closing(closing, action, now, entropy).is_ok() {
            return true;
        }
        self.custody.as_ref().is_some_and(|custody| custody.attempts.write(journaled).is_ok())
    }

    fn enter_closing(
        &self,
        closing: &Closing,
        action: Action,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<(), Error> {
        let mut lane = self.lane();
        let keys = self.keys();
        if !self.takes_one_more(&lane) {
            return Err(Error::Unavailable(Unavailable::Store));
        }
        let mut entry = Entry::new(now, closing.actor(&keys.policy), action);
        entry.policy = keys.policy.short_hash();
        entry.note = closing.reason().cloned();
        self.step(&mut lane, &keys, &[], entropy, |planning| {
            planning.entropy.fill(&mut entry.id).map_err(|_| Error::Bug)?;
            Ok(vec![entry.clone()])
        })
        .map(drop)
    }

    /// Whether the log can go on by one entry. In doubt only where the stored head is, byte for byte, the one
    /// this vault wrote last: another head is evidence, and stays.
    fn takes_one_more(&self, lane: &Lane) -> bool {
        match lane.health {
            Health::Serving => true,
            Health::Suspended => false,
            Health::MustSeal => {
                let stored = self.store().read(std::slice::from_ref(&lane.head_key));
                let stored = stored.ok().and_then(|rows| rows.into_iter().next().flatten());
                lane.log.head_row() == lane.head && stored.is_some_and(|row| row.value == lane.head)
            }
        }
    }
}

impl Closing {
    /// As what it is entered, and its record in the journal; `None` where it is entered already.
    fn record(&self, now: Timestamp) -> Option<(Action, UnsealAttempt)> {
        let (action, outcome, who) = match self {
            Self::Entered => return None,
            Self::Asked { who, .. } => (Action::Seal, UnsealOutcome::Sealed, Some(who)),
            Self::Stop => (Action::Stop, UnsealOutcome::Stopped, None),
            Self::Doubt => (Action::SelfSeal, UnsealOutcome::SelfSealed, None),
        };
        Some((action, UnsealAttempt { reason: self.reason().cloned(), ..attempt(outcome, who, now) }))
    }

    fn actor(&self, policy: &Policy) -> Actor {
        match self {
            Self::Asked { who, .. } => actor(policy, who),
            Self::Entered | Self::Stop | Self::Doubt => Actor::Vault,
        }
    }

    const fn reason(&self) -> Option<&CallerText> {
        match self {
            Self::Asked { reason, .. } => Some(reason),
            Self::Entered | Self::Stop | Self::Doubt => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop loudly")]

    use std::fs;

    use super::super::open::head_key;
    use super::super::scene::{self, POLICY, Scene, keeper, policy};
    use super::*;
    use crate::audit::Origin;
    use crate::store::memory::Injected;

    fn asked() -> Closing {
        Closing::Asked { who: keeper(), reason: CallerText::parse("exercise-1").unwrap() }
    }

    /// Action, who, reference and note of the entries from `mark` on, but for those of every opening.
    fn since(vault: &Vault, mark: usize) -> Vec<(&'static str, String, String, String)> {
        let opening = [Action::Unseal, Action::PolicyLoaded];
        let entries = scene::entries(vault).into_iter().skip(mark);
        let told = |entry: Entry| {
            let who = match entry.actor {
                Actor::Principal(id) => id.to_string(),
                Actor::Unknown { .. } => "stranger".to_owned(),
                Actor::Vault => "vault".to_owned(),
            };
            let text = |text: Option<CallerText>| text.map(|text| text.to_string()).unwrap_or_default();
            (entry.action.as_str(), who, text(entry.reference), text(entry.note))
        };
        entries.filter(|entry| !opening.contains(&entry.action)).map(told).collect()
    }

    fn told(
        action: &'static str,
        who: &str,
        reference: &str,
        note: &str,
    ) -> (&'static str, String, String, String) {
        (action, who.to_owned(), reference.to_owned(), note.to_owned())
    }

    /// Lets the store be away: the vault is suspended and does not come back.
    fn suspend(scene: &mut Scene, vault: &Vault) {
        scene.store.fail_reopens(usize::MAX);
        scene.store.inject([Injected::Unavailable]);
        assert!(vault.load_policy(policy(POLICY), scene.now, &mut scene.entropy).is_err());
        assert_eq!((vault.health(), vault.resume()), (Health::Suspended, Health::Suspended));
    }

    #[test]
    fn a_closing_that_is_not_yet_in_the_log_is_entered_there() {
        let mut scene = Scene::new();
        let expected = [
            (Closing::Stop, vec![told("stop", "vault", "", "")]),
            (Closing::Doubt, vec![told("self-seal", "vault", "", "")]),
            (asked(), vec![told("seal", "keeper", "", "exercise-1")]),
            (Closing::Entered, vec![]),
        ];
        for (closing, expected) in expected {
            let vault = scene.unseal().unwrap();
            let mark = scene::entries(&vault).len();
            if closing == Closing::Doubt {
                vault.must_seal(&mut vault.lane());
            }
            assert!(vault.seal(&closing, scene.now, &mut scene.entropy).recorded);
            assert_eq!(since(&scene.unseal().unwrap(), mark), expected, "{closing:?}");
        }
    }

    #[test]
    fn a_suspended_vault_is_sealed_and_the_log_hears_of_it_at_the_next_unsealing() {
        let mut scene = Scene::new();
        for (closing, action, who, note) in
            [(asked(), "seal", "keeper", "exercise-1"), (Closing::Stop, "stop", "vault", "")]
        {
            let vault = scene.unseal().unwrap();
            let mark = scene::entries(&vault).len();
            suspend(&mut scene, &vault);
            assert!(vault.seal(&closing, scene.now, &mut scene.entropy).recorded);
            assert!(scene.unseal().is_err(), "the store is still away");
            scene.store.fail_reopens(0);
            // Nobody but the unsealing opens the store anew.
            let entered = since(&scene.unseal().unwrap(), mark);
            assert_eq!(entered[0], told(action, who, "unseal-journal", note));
            assert_eq!(entered[1].0, "unseal-refused", "the attempt before the store was back");
            assert_eq!(entered.len(), 2);
        }
    }

    #[test]
    fn a_head_that_is_not_the_vaults_own_stays_as_it_is_when_the_vault_seals_itself() {
        let mut scene = Scene::new();
        let vault = scene.unseal().unwrap();
        let mark = scene::entries(&vault).len();
        let key = head_key(&Origin::parse("vault.test/one").unwrap());
        let own = scene.store.image().remove(&key).unwrap();
        let mut foreign = own.clone();
        *foreign.value.last_mut().unwrap() ^= 1;
        scene.store.danger_set(key.clone(), Some(foreign));
        let before = scene.store.image();
        vault.must_seal(&mut vault.lane());
        assert!(vault.seal(&Closing::Doubt, scene.now, &mut scene.entropy).recorded);
        assert!(scene.store.image() == before, "evidence was written over");
        scene.store.danger_set(key, Some(own));
        let entered = since(&scene.unseal().unwrap(), mark);
        assert_eq!(entered, [told("self-seal", "vault", "unseal-journal", "")]);
    }

    #[test]
    fn what_can_be_recorded_nowhere_is_said_and_the_vault_is_sealed_all_the_same() {
        let mut scene = Scene::new();
        let vault = scene.unseal().unwrap();
        suspend(&mut scene, &vault);
        fs::remove_dir_all(scene.keyring()).unwrap();
        assert!(!vault.seal(&asked(), scene.now, &mut scene.entropy).recorded);
    }
}
