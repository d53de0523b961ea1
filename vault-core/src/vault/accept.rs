//! Accepting a log or a keyring that its anchor does not know: the way back after a restore.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::audit::{Action, Actor, Entry, Origin};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::data::CallerText;
use crate::keys::{AnchorError, AnchorState, Credential, UnsealAttempt, UnsealOutcome};
use crate::policy::{Identity, Policy};

use super::attempts::entries;
use super::open::Vault;
use super::registry::{LogBehind, Registry, log_name};
use super::sealed::{Opening, SealedVault, UnsealError, anchored, outcome_of};

/// A log and a keyring that are to count although the anchor knows others.
pub struct Accepted {
    /// How many entries the log in the store has.
    pub log_size: u64,
    /// The keyring's generation; needed wherever the anchor does not show that it is no older one.
    pub keyring_generation: Option<u64>,
    /// The logs of other daemons that are not what the anchor knows, each with the entries that it has; 0 for
    /// one that is gone.
    pub others: Vec<(String, u64)>,
    /// Why: it stays in the log.
    pub reason: CallerText,
    /// Whose attempt it is in the journal.
    pub who: Identity,
}

/// What there is, beside what the anchor knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AnchorGap {
    /// Entries of the log in the store.
    pub log_size: u64,
    /// Generation of the keyring.
    pub keyring_generation: u64,
    /// Log size and keyring generation that the anchor knows, or why it tells neither.
    pub anchored: Result<(u64, u64), AnchorError>,
    /// The logs of other daemons that do not extend what the anchor knows.
    pub others: Vec<OtherLogGap>,
}

/// Another daemon's log, beside what the anchor knows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OtherLogGap {
    /// Its name.
    pub origin: String,
    /// How many entries it has; 0 where it is gone.
    pub log_size: u64,
    /// How many the anchor knows.
    pub anchored_size: u64,
}

/// Why log and keyring were not accepted.
#[derive(Debug, Error)]
pub enum AcceptError {
    /// They are not the ones that were stated, or the keyring may be an older one and was not stated.
    #[error("nothing was changed: {0}")]
    Unstated(AnchorGap),
    /// What unsealing also can meet.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
}

impl SealedVault {
    /// Accepts the log and the keyring that are there in the place of what the anchor knows; from here on the
    /// shorter history counts. The entry says how many entries the anchor knew beyond the log, both
    /// generations of the keyring, and why they are given up. One more for each log of another daemon says
    /// the same of it.
    ///
    /// The anchor is replaced after its entry is durable: what is given up is never given up in silence. The
    /// attempt is journaled as one to unseal; with the entry goes into the log what the journal holds.
    ///
    /// Where store or anchor know logs, but none of this origin, nothing could be said of what is missing:
    /// refused as at unseal.
    ///
    /// # Errors
    /// [`AcceptError::Unstated`] unless exactly what is there was stated: nothing has changed then.
    pub fn accept_anchor(
        &self,
        given: Credential<'_>,
        accepted: &Accepted,
        policy: Arc<Policy>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<(Vault, AnchorGap), AcceptError> {
        let begun = self.begin(&accepted.who, now)?;
        let done = self.accept_begun(given, accepted, &begun, policy, entropy);
        match &done {
            Err(AcceptError::Unseal(error)) => self.attempts.settle(&begun, outcome_of(error)),
            Err(AcceptError::Unstated(_)) => self.attempts.settle(&begun, UnsealOutcome::Refused),
            Ok(_) => {}
        }
        done
    }

    fn accept_begun(
        &self,
        given: Credential<'_>,
        accepted: &Accepted,
        begun: &UnsealAttempt,
        policy: Arc<Policy>,
        entropy: &mut dyn Entropy,
    ) -> Result<(Vault, AnchorGap), AcceptError> {
        let now = begun.at;
        let mut opening = self.read(given)?;
        if self.has_only_other_logs(&opening)? {
            return Err(UnsealError::OtherOrigin.into());
        }
        let mut gap = AnchorGap::of(&opening);
        gap.others = self.other_gaps(&opening)?;
        if !accepted.states(&gap) {
            return Err(AcceptError::Unstated(gap));
        }
        let mut given_up = vec![accepted.entry(&gap, now)?];
        given_up.extend(gap.others.iter().map(|other| accepted.other_entry(other, now)));
        let mut next = opening.anchor.clone().unwrap_or_default();
        next.logs.retain(|log| {
            log.origin != opening.log.origin().as_str()
                && gap.others.iter().all(|other| other.origin != log.origin)
        });
        next.sequence += 1;
        next.keyring_generation = gap.keyring_generation;
        opening.anchor = Ok(next.clone());
        opening.is_accepted = accepted.keyring_generation.is_some();
        let journal = self.attempts.complete().map_err(UnsealError::Journal)?;
        let mut entries = entries(&journal, begun, &policy, now).map_err(UnsealError::Journal)?;
        entries.extend(given_up);
        let vault = self.open(opening, policy, entries, now, entropy)?;
        let _ = journal.clear(); // as at unseal
        drop(journal);
        vault.replace_anchor(&next).map_err(|problem| UnsealError::Anchor(problem.to_string()))?;
        // A failed anchor write is told again by the keeper within a second.
        let _ = vault.keep();
        Ok((vault, gap))
    }

    fn other_gaps(&self, opening: &Opening) -> Result<Vec<OtherLogGap>, UnsealError> {
        let Some(anchor) = opening.anchor.as_ref().ok().filter(|_| self.store().is_shared()) else {
            return Ok(Vec::new());
        };
        let registry = Registry::of(self.store(), &opening.keyring);
        let behind = self.others_behind(&registry, anchor)?.into_iter();
        let gap = |(origin, behind): (String, LogBehind)| OtherLogGap {
            origin,
            log_size: behind.log_size,
            anchored_size: behind.anchor_size,
        };
        Ok(behind.map(gap).collect())
    }
}

impl Vault {
    fn replace_anchor(&self, state: &AnchorState) -> Result<(), AnchorError> {
        let Some(custody) = &self.custody else { return Ok(()) };
        custody.anchor.replace(&custody.root, state)
    }
}

impl Accepted {
    /// Whether this states exactly what is there.
    fn states(&self, gap: &AnchorGap) -> bool {
        let keyring = match self.keyring_generation {
            Some(stated) => stated == gap.keyring_generation,
            None => gap.anchored.is_ok_and(|(_, known)| gap.keyring_generation >= known),
        };
        let mut others = self.others.clone();
        others.sort();
        let there: Vec<_> = gap.others.iter().map(|other| (other.origin.clone(), other.log_size)).collect();
        keyring && self.log_size == gap.log_size && others == there
    }

    /// The entry of another daemon's log: its reference names the log as the keys of its rows do.
    fn other_entry(&self, gap: &OtherLogGap, now: Timestamp) -> Entry {
        let mut entry = Entry::new(now, Actor::Vault, Action::AnchorAccepted);
        let missing = gap.anchored_size.saturating_sub(gap.log_size);
        entry.count = u32::try_from(missing).unwrap_or(u32::MAX);
        let origin = Origin::parse(&gap.origin).ok();
        entry.reference = origin.as_ref().and_then(log_name);
        entry.note = Some(self.reason.clone());
        entry
    }

    fn entry(&self, gap: &AnchorGap, now: Timestamp) -> Result<Entry, UnsealError> {
        let known = gap.anchored.map_or(0, |(size, _)| size);
        let mut entry = Entry::new(now, Actor::Vault, Action::AnchorAccepted);
        entry.count = u32::try_from(known.saturating_sub(gap.log_size)).unwrap_or(u32::MAX);
        entry.reference = Some(gap.generations()?);
        entry.note = Some(self.reason.clone());
        Ok(entry)
    }
}

impl AnchorGap {
    fn of(opening: &Opening) -> Self {
        let known = anchored(opening).map_or(0, |head| head.size);
        let anchored = opening.anchor.as_ref().map(|anchor| (known, anchor.keyring_generation));
        Self {
            log_size: opening.log.head().size,
            keyring_generation: opening.keyring.generation(),
            anchored: anchored.map_err(|problem| *problem),
            others: Vec::new(),
        }
    }

    /// Both generations as they stand in the log.
    fn generations(&self) -> Result<CallerText, UnsealError> {
        let known = self.anchored.map_or_else(|_| "unknown".to_owned(), |(_, known)| known.to_string());
        let text = format!("keyring-generation:{}/{known}", self.keyring_generation);
        CallerText::of_stored(&text).ok_or_else(|| UnsealError::Keyring("its generation is no number".into()))
    }
}

impl fmt::Display for AnchorGap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the log has {} entries and the keyring generation {}; ",
            self.log_size, self.keyring_generation
        )?;
        match self.anchored {
            Ok((size, generation)) => {
                write!(f, "the anchor knows {size} entries and generation {generation}")?;
            }
            Err(problem) => write!(f, "{problem}")?,
        }
        for OtherLogGap { origin, log_size, anchored_size } in &self.others {
            write!(f, "; the log {origin} has {log_size} entries and the anchor knows {anchored_size}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop loudly")]

    use std::fs;

    use super::super::scene::{self, POLICY, Scene, keeper, policy};
    use super::*;

    fn accept(
        scene: &mut Scene,
        size: u64,
        generation: Option<u64>,
    ) -> Result<(Vault, AnchorGap), AcceptError> {
        let reason = CallerText::parse("restore-1").unwrap();
        let who = keeper();
        let accepted =
            Accepted { log_size: size, keyring_generation: generation, others: Vec::new(), reason, who };
        let (passphrase, now) = (scene.passphrase(), scene.now);
        let policy = policy(POLICY);
        scene.sealed.accept_anchor(passphrase, &accepted, policy, now, &mut scene.entropy)
    }

    fn refused(scene: &mut Scene, size: u64, generation: Option<u64>) -> AnchorGap {
        match accept(scene, size, generation) {
            Err(AcceptError::Unstated(gap)) => gap,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{size} entries and generation {generation:?} were accepted"),
        }
    }

    #[test]
    fn an_older_keyring_is_accepted_only_when_its_generation_is_stated() {
        let mut scene = Scene::new();
        let older = scene.keyring_files();
        let newcomer = format!("{POLICY}\n[[tenant]]\nid = \"newcomer\"\nclasses = [\"pan\"]\n");
        let vault = scene.unseal_under(&newcomer).unwrap();
        let (size, newer) = (vault.tree_head().size, vault.keyring_generation());
        scene.close(vault);
        older.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        assert!(matches!(scene.unseal(), Err(UnsealError::OldKeyring { .. })));

        let gap = refused(&mut scene, size, None);
        let generation = gap.keyring_generation;
        assert!(generation < newer);
        assert_eq!(
            gap,
            AnchorGap {
                log_size: size,
                keyring_generation: generation,
                anchored: Ok((size, newer)),
                others: Vec::new()
            }
        );
        for wrong in [newer, generation + 2] {
            assert_eq!(refused(&mut scene, size, Some(wrong)), gap);
        }
        assert_eq!(refused(&mut scene, size + 1, Some(generation)), gap);
        let text = gap.to_string();
        for told in [size.to_string(), generation.to_string(), newer.to_string()] {
            assert!(text.split([' ', ';']).any(|word| word == told), "{told} in {text}");
        }

        let (vault, _) = accept(&mut scene, size, Some(generation)).unwrap();
        let entered =
            scene::entries(&vault).into_iter().find(|entry| entry.action == Action::AnchorAccepted).unwrap();
        let reference = format!("keyring-generation:{generation}/{newer}");
        assert_eq!(entered.reference.as_ref().map(CallerText::as_str), Some(reference.as_str()));
        assert_eq!((entered.count, entered.note.as_ref().map(CallerText::as_str)), (0, Some("restore-1")));
        scene.close(vault);
        scene.unseal().unwrap();
    }

    #[test]
    fn a_shorter_log_is_accepted_with_its_size_alone_and_the_entry_counts_what_is_missing() {
        let mut scene = Scene::new();
        let shorter = scene.store.image();
        let vault = scene.unseal().unwrap();
        let (known, generation) = (vault.tree_head().size, vault.keyring_generation());
        scene.close(vault);
        for key in scene.store.image().into_keys() {
            scene.store.danger_set(key, None);
        }
        shorter.into_iter().for_each(|(key, row)| drop(scene.store.danger_set(key, Some(row))));

        let gap = refused(&mut scene, known, None);
        assert_eq!(gap.anchored, Ok((known, generation)));
        let (vault, _) = accept(&mut scene, gap.log_size, None).unwrap();
        let entered =
            scene::entries(&vault).into_iter().find(|entry| entry.action == Action::AnchorAccepted).unwrap();
        assert_eq!(u64::from(entered.count), known - gap.log_size);
        scene.close(vault);
        scene.unseal().unwrap();
    }

    #[test]
    fn a_missing_anchor_is_not_called_damaged_and_does_not_vouch_for_the_keyring() {
        let mut scene = Scene::new();
        let anchor = scene.anchor();
        for (content, problem) in [(None, AnchorError::Missing), (Some([7; 8192]), AnchorError::Damaged)] {
            match content {
                None => fs::remove_file(&anchor).unwrap(),
                Some(bytes) => fs::write(&anchor, bytes).unwrap(),
            }
            let Err(UnsealError::Anchor(told)) = scene.unseal() else { panic!("unsealed without an anchor") };
            assert_eq!(told, problem.to_string());
            let gap = refused(&mut scene, 0, None);
            assert_eq!(gap.anchored, Err(problem));
            assert!(gap.to_string().ends_with(&told), "{gap}");
            assert_eq!(refused(&mut scene, gap.log_size, None), gap, "it may be an older keyring");
            let (vault, _) = accept(&mut scene, gap.log_size, Some(gap.keyring_generation)).unwrap();
            let accepted =
                scene::entries(&vault).into_iter().rfind(|entry| entry.action == Action::AnchorAccepted);
            let reference = format!("keyring-generation:{}/unknown", gap.keyring_generation);
            assert_eq!(accepted.unwrap().reference.unwrap().as_str(), reference);
            scene.close(vault);
            let vault = scene.unseal().unwrap();
            scene.close(vault);
        }
    }

    #[test]
    fn what_the_anchor_knows_is_given_up_only_after_its_entry() {
        let mut scene = Scene::new();
        fs::remove_file(scene.anchor()).unwrap();
        fs::create_dir(scene.anchor().with_added_extension("new")).unwrap(); // in the way of the new anchor
        let gap = refused(&mut scene, 0, None);
        let failed = accept(&mut scene, gap.log_size, Some(gap.keyring_generation));
        assert!(matches!(failed, Err(AcceptError::Unseal(UnsealError::Anchor(_)))));
        fs::remove_dir(scene.anchor().with_added_extension("new")).unwrap();
        let entered = refused(&mut scene, 0, None).log_size;
        assert!(entered > gap.log_size, "the attempt stands in the log");
        accept(&mut scene, entered, Some(gap.keyring_generation)).unwrap();
    }

    #[test]
    fn every_attempt_to_accept_is_entered_as_it_ended() {
        let mut scene = Scene::new();
        let vault = scene.unseal().unwrap();
        let size = vault.tree_head().size;
        scene.close(vault);
        refused(&mut scene, size + 1, None);
        let reason = CallerText::parse("restore-1").unwrap();
        let (others, who) = (Vec::new(), keeper());
        let accepted = Accepted { log_size: size, keyring_generation: None, others, reason, who };
        let wrong = Credential::Passphrase(b"not the passphrase of this vault");
        let now = scene.now;
        let failed = scene.sealed.accept_anchor(wrong, &accepted, policy(POLICY), now, &mut scene.entropy);
        assert!(matches!(failed, Err(AcceptError::Unseal(UnsealError::WrongPassphrase))));
        let (vault, _) = accept(&mut scene, size, None).unwrap();
        let told = |vault: &Vault| -> Vec<&'static str> {
            let refused = |entry: &Entry| entry.action == Action::UnsealRefused;
            scene::entries(vault).iter().filter(|entry| refused(entry)).map(|e| e.outcome.reason()).collect()
        };
        let expected = ["KEYRING_UNUSABLE", "WRONG_PASSPHRASE"];
        assert_eq!(told(&vault), expected);
        scene.close(vault);
        let vault = scene.unseal().unwrap();
        assert_eq!(told(&vault), expected, "entered twice, or the attempt that succeeded as well");
    }

    #[test]
    fn under_another_origin_nothing_is_accepted() {
        let mut scene = Scene::new();
        let vault = scene.unseal().unwrap();
        let generation = vault.keyring_generation();
        scene.close(vault);
        scene.rename_log("vault.test/two");
        // Once with the log of before in the store, once with the anchor alone to tell of it.
        for emptied in [false, true] {
            if emptied {
                for key in scene.store.image().into_keys() {
                    scene.store.danger_set(key, None);
                }
            }
            let failed = accept(&mut scene, 0, Some(generation));
            assert!(matches!(failed, Err(AcceptError::Unseal(UnsealError::OtherOrigin))), "{emptied}");
        }
    }
}
