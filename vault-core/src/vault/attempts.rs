//! What happens to a vault while its log cannot be written, on its way into the log.
//!
//! An attempt to unseal is written to the journal before it is made, and settled when it has ended. Callers
//! without the right never come that far: of each, the first call of a minute is written down, later ones are
//! counted in memory and written together when the minute is over or the vault opens. What is counted is lost
//! when the process dies; what is written is not.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};

use crate::audit::{Action, Actor, Entry, Outcome as Recorded};
use crate::clock::Timestamp;
use crate::crypto::sha256;
use crate::data::CallerText;
use crate::error::{Error, Exhausted};
use crate::keys::{CeremonyId, CeremonyStep, JournalError, UnsealAttempt, UnsealJournal, UnsealOutcome};
use crate::limits::{DENIED_CALLERS_MAX, DENIED_CALLS_PER_MINUTE};
use crate::policy::{Identity, Policy};

use super::open::lock;
use super::prepare::identity_hash;

/// The journal, and what is not yet in it.
pub(super) struct Attempts {
    journal: Mutex<UnsealJournal>,
    denied: Mutex<Denied>,
}

/// What a caller without the right asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Forbidden {
    /// To unseal.
    Unseal,
    /// To seal a vault that is suspended.
    Seal,
}

/// A call that was refused and counted.
#[must_use = "what is due must be written"]
pub struct DeniedCall {
    /// What the caller is told.
    pub error: Error,
    due: Due,
}

/// Records that the journal does not have yet.
#[derive(Default)]
struct Due {
    attempts: Vec<UnsealAttempt>,
    /// Calls that have none.
    others: u64,
}

/// The callers of this minute.
#[derive(Default)]
struct Denied {
    minute: u64,
    callers: HashMap<(Forbidden, Identity), Caller>,
    /// Calls of callers beyond the bound, and those whose record could not be written.
    others: u64,
}

struct Caller {
    last: Timestamp,
    calls: u32,
    unwritten: u32,
}

impl Attempts {
    pub(super) fn new(journal: UnsealJournal) -> Self {
        Self { journal: Mutex::new(journal), denied: Mutex::default() }
    }

    /// Writes down that an attempt to unseal begins.
    pub(super) fn begin(&self, who: &Identity, now: Timestamp) -> Result<UnsealAttempt, JournalError> {
        let begun = attempt(UnsealOutcome::UnsealBegun, Some(who), now);
        self.write(begun.clone())?;
        Ok(begun)
    }

    /// How it ended. Where that cannot be written, it stands as begun.
    pub(super) fn settle(&self, begun: &UnsealAttempt, outcome: UnsealOutcome) {
        let _ = self.journal().settle(begun, outcome);
    }

    pub(super) fn write(&self, attempt: UnsealAttempt) -> Result<(), JournalError> {
        self.journal().append(&[attempt], 0)
    }

    /// The journal; nobody else writes meanwhile.
    pub(super) fn journal(&self) -> MutexGuard<'_, UnsealJournal> {
        lock(&self.journal)
    }

    /// The journal with everything in it, and nobody else writing.
    pub(super) fn complete(&self) -> Result<MutexGuard<'_, UnsealJournal>, JournalError> {
        let due = lock(&self.denied).end();
        self.write_due(&due)?;
        Ok(self.journal())
    }

    /// Counts a call that policy does not allow. Touches no file.
    pub(super) fn deny(&self, what: Forbidden, who: &Identity, now: Timestamp) -> DeniedCall {
        let (over, due) = lock(&self.denied).count(what, who, now);
        let retry_after_seconds = 60 - u32::try_from(now.seconds() % 60).unwrap_or(0);
        let error =
            if over { Error::Exhausted(Exhausted::Quota { retry_after_seconds }) } else { Error::Denied };
        DeniedCall { error, due }
    }

    /// What was counted in minutes that are over.
    pub(super) fn past(&self, now: Timestamp) -> DeniedCall {
        DeniedCall { error: Error::Denied, due: lock(&self.denied).turn(now) }
    }

    pub(super) fn write_denied(&self, call: &DeniedCall) -> Result<(), JournalError> {
        self.write_due(&call.due)
    }

    fn write_due(&self, due: &Due) -> Result<(), JournalError> {
        if due.is_empty() {
            return Ok(());
        }
        lock(&self.journal).append(&due.attempts, due.others).inspect_err(|_| {
            let events: u64 = due.attempts.iter().map(|attempt| u64::from(attempt.count)).sum();
            lock(&self.denied).others += due.others + events;
        })
    }
}

impl DeniedCall {
    /// Whether something waits to be written to the journal, which takes a sync of the disk.
    pub fn is_due(&self) -> bool {
        !self.due.is_empty()
    }
}

impl Due {
    fn is_empty(&self) -> bool {
        self.attempts.is_empty() && self.others == 0
    }
}

impl Denied {
    /// Whether the caller is beyond its limit, and what is now due.
    fn count(&mut self, what: Forbidden, who: &Identity, now: Timestamp) -> (bool, Due) {
        let mut due = self.turn(now);
        if let Some(caller) = self.callers.get_mut(&(what, who.clone())) {
            caller.last = now;
            caller.calls = caller.calls.saturating_add(1);
            caller.unwritten = caller.unwritten.saturating_add(1);
            return (caller.calls > DENIED_CALLS_PER_MINUTE, due);
        }
        if self.callers.len() >= DENIED_CALLERS_MAX {
            self.others = self.others.saturating_add(1);
            return (true, due);
        }
        due.attempts.push(attempt(what.outcome(), Some(who), now));
        self.callers.insert((what, who.clone()), Caller { last: now, calls: 1, unwritten: 0 });
        (false, due)
    }

    /// Begins a new minute, if it is one.
    fn turn(&mut self, now: Timestamp) -> Due {
        if now.minute() == self.minute {
            return Due::default();
        }
        self.minute = now.minute();
        self.end()
    }

    /// Takes everything that was counted.
    fn end(&mut self) -> Due {
        let counted =
            std::mem::take(&mut self.callers).into_iter().filter(|(_, caller)| caller.unwritten > 0);
        let summary = |((what, who), caller): ((Forbidden, Identity), Caller)| UnsealAttempt {
            count: caller.unwritten,
            ..attempt(what.outcome(), Some(&who), caller.last)
        };
        let mut attempts: Vec<_> = counted.map(summary).collect();
        attempts.sort_by_key(|attempt| attempt.at.micros());
        Due { attempts, others: std::mem::take(&mut self.others) }
    }
}

impl Forbidden {
    const fn outcome(self) -> UnsealOutcome {
        match self {
            Self::Unseal => UnsealOutcome::Denied,
            Self::Seal => UnsealOutcome::SealDenied,
        }
    }
}

/// What happened once, outside ceremonies; without `who` it is the vault's own doing.
pub(super) fn attempt(outcome: UnsealOutcome, who: Option<&Identity>, at: Timestamp) -> UnsealAttempt {
    let identity = who.map(ToString::to_string).unwrap_or_default();
    let ca = who.and_then(|who| who.ca.clone()).unwrap_or_default();
    UnsealAttempt { at, identity, ca, outcome, step: CeremonyStep::default(), reason: None, count: 1 }
}

/// The entries of what the journal holds, but for the attempt that succeeds now: each with its own time, and
/// one more for what has no record or does not read.
pub(super) fn entries(
    journal: &UnsealJournal,
    besides: &UnsealAttempt,
    policy: &Policy,
    now: Timestamp,
) -> Result<Vec<Entry>, JournalError> {
    let mut pending = journal.pending()?;
    // Only one: another that began at the same moment was cut off.
    if let Some(place) = pending.attempts.iter().rposition(|attempt| attempt == besides) {
        pending.attempts.remove(place);
    }
    let mut entries: Vec<Entry> = pending.attempts.iter().map(|attempt| entry(policy, attempt)).collect();
    let lost = pending.summed.saturating_add(pending.damaged);
    if lost > 0 {
        let mut summary = Entry::new(now, Actor::Vault, Action::UnsealRefused);
        summary.count = u32::try_from(lost).unwrap_or(u32::MAX);
        summary.outcome = Recorded::Unsettled;
        entries.push(summary);
    }
    Ok(entries)
}

fn entry(policy: &Policy, attempt: &UnsealAttempt) -> Entry {
    let (action, outcome) = match attempt.outcome {
        UnsealOutcome::WrongPassphrase => (Action::UnsealRefused, Recorded::WrongPassphrase),
        UnsealOutcome::Denied => (Action::UnsealRefused, Recorded::Denied),
        UnsealOutcome::Refused => (Action::UnsealRefused, Recorded::KeyringUnusable),
        UnsealOutcome::StepRefused(fault) => (Action::UnsealRefused, Recorded::Ceremony(fault)),
        UnsealOutcome::Hsm(fault) => (Action::UnsealRefused, Recorded::Hsm(fault)),
        UnsealOutcome::UnsealBegun => (Action::UnsealRefused, Recorded::Unsettled),
        UnsealOutcome::SealDenied => (Action::Seal, Recorded::Denied),
        done => (done_as(done), Recorded::Done),
    };
    let mut entry = Entry::new(attempt.at, actor_of(policy, attempt), action);
    entry.outcome = outcome;
    entry.count = attempt.count;
    entry.note = note_of(attempt.step).or_else(|| attempt.reason.clone());
    if matches!(action, Action::Seal | Action::Stop | Action::SelfSeal) {
        entry.reference = CallerText::of_stored(FROM_JOURNAL);
    }
    if action == Action::ShareGiven {
        // The duties that were accepted with it.
        entry.reference = attempt.reason.clone();
    }
    entry
}

/// The action of what was not refused.
const fn done_as(outcome: UnsealOutcome) -> Action {
    match outcome {
        UnsealOutcome::CeremonyBegun => Action::CeremonyBegun,
        UnsealOutcome::ShareGiven => Action::ShareGiven,
        UnsealOutcome::CeremonyCancelled => Action::CeremonyCancelled,
        UnsealOutcome::CeremonyExpired => Action::CeremonyExpired,
        UnsealOutcome::ResealBegun => Action::ResealBegun,
        UnsealOutcome::Resealed => Action::Resealed,
        UnsealOutcome::Sealed => Action::Seal,
        UnsealOutcome::Stopped => Action::Stop,
        UnsealOutcome::SelfSealed => Action::SelfSeal,
        UnsealOutcome::StoreMoved => Action::StoreMoved,
        UnsealOutcome::Opened
        | UnsealOutcome::WrongPassphrase
        | UnsealOutcome::Denied
        | UnsealOutcome::Refused
        | UnsealOutcome::UnsealBegun
        | UnsealOutcome::SealDenied
        | UnsealOutcome::Hsm(_)
        | UnsealOutcome::StepRefused(_) => Action::UnsealRefused,
    }
}

/// The reference of entries whose action would not tell that they come from the journal.
const FROM_JOURNAL: &str = "unseal-journal";

fn actor_of(policy: &Policy, attempt: &UnsealAttempt) -> Actor {
    if attempt.identity.is_empty() || is_the_vaults_own(attempt.outcome) {
        return Actor::Vault;
    }
    match Identity::parse(&attempt.identity) {
        Ok(who) if attempt.ca.is_empty() => actor(policy, &who),
        Ok(who) => actor(policy, &who.issued_by(&attempt.ca)),
        Err(_) => Actor::Unknown { identity_hash: sha256(&[attempt.identity.as_bytes()]) },
    }
}

/// Steps that no caller takes: a ceremony's end by time, and what commands on the host do.
const fn is_the_vaults_own(outcome: UnsealOutcome) -> bool {
    matches!(
        outcome,
        UnsealOutcome::CeremonyExpired
            | UnsealOutcome::ResealBegun
            | UnsealOutcome::Resealed
            | UnsealOutcome::StoreMoved
    )
}

/// The ceremony's name and, of a share, its number.
fn note_of(CeremonyStep { ceremony, share }: CeremonyStep) -> Option<CallerText> {
    let text = match (ceremony == CeremonyId::default(), share) {
        (true, _) => return None,
        (false, 0) => ceremony.to_string(),
        (false, share) => format!("{ceremony}:share-{share}"),
    };
    CallerText::of_stored(&text)
}

/// Who somebody is in the log: a principal where the policy knows them.
pub(super) fn actor(policy: &Policy, who: &Identity) -> Actor {
    match policy.principal(who) {
        Some(principal) => Actor::Principal(principal.id().clone()),
        None => Actor::Unknown { identity_hash: identity_hash(who) },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may stop loudly")]

    use std::fs;
    use std::sync::Arc;
    use std::thread;

    use super::super::closing::Closing;
    use super::super::open::Vault;
    use super::super::scene::{self, POLICY, Scene, identity, keeper, policy};
    use super::super::sealed::UnsealError;
    use super::*;
    use crate::crypto::SeededEntropy;
    use crate::keys::Credential;

    /// Who was refused to unseal, why, and how often, as the log says it.
    fn refusals(vault: &Vault) -> Vec<(String, &'static str, u32)> {
        let refused = |entry: &Entry| entry.action == Action::UnsealRefused;
        let told = |entry: Entry| {
            let who = match entry.actor {
                Actor::Principal(id) => id.to_string(),
                Actor::Unknown { .. } => "stranger".to_owned(),
                Actor::Vault => "vault".to_owned(),
            };
            (who, entry.outcome.reason(), entry.count)
        };
        scene::entries(vault).into_iter().filter(refused).map(told).collect()
    }

    fn refusal(who: &str, reason: &'static str, count: u32) -> (String, &'static str, u32) {
        (who.to_owned(), reason, count)
    }

    fn wrong() -> Credential<'static> {
        Credential::Passphrase(b"not the passphrase of this vault")
    }

    fn deny(scene: &Scene, who: &str) -> (Error, bool) {
        let call = scene.sealed.deny(Forbidden::Unseal, &identity(who), scene.now);
        let told = (call.error.clone(), call.is_due());
        scene.sealed.write_denied(&call).unwrap();
        told
    }

    #[test]
    fn a_denied_caller_costs_one_record_a_minute_and_every_call_is_counted() {
        let mut scene = Scene::new();
        assert_eq!(deny(&scene, "clerk"), (Error::Denied, true));
        for call in 2..=100 {
            let (error, due) = deny(&scene, "clerk");
            assert!(!due, "call {call} is written by itself");
            let over = matches!(error, Error::Exhausted(Exhausted::Quota { .. }));
            assert_eq!(over, call > DENIED_CALLS_PER_MINUTE, "call {call}: {error:?}");
        }
        scene.now = scene.now.plus_seconds(60);
        assert_eq!(deny(&scene, "clerk"), (Error::Denied, true), "a new minute");
        assert_eq!(deny(&scene, "clerk"), (Error::Denied, false));
        let vault = scene.unseal().unwrap();
        // The policy binds the clerk to a CA: without it nobody would be found.
        let clerk = |count| refusal("clerk", "DENIED", count);
        assert_eq!(refusals(&vault), [clerk(1), clerk(99), clerk(1), clerk(1)]);
    }

    #[test]
    fn callers_beyond_the_bound_are_counted_together() {
        let mut scene = Scene::new();
        let callers = DENIED_CALLERS_MAX + 40;
        let written = (0..callers).filter(|n| deny(&scene, &format!("caller-{n}")).1).count();
        assert_eq!(written, DENIED_CALLERS_MAX);
        let (error, _) = deny(&scene, &format!("caller-{}", callers - 1));
        assert!(matches!(error, Error::Exhausted(Exhausted::Quota { .. })), "{error:?}");
        let vault = scene.unseal().unwrap();
        let mut expected = vec![refusal("stranger", "DENIED", 1); DENIED_CALLERS_MAX];
        expected.push(refusal("vault", "UNSETTLED", 41));
        assert_eq!(refusals(&vault), expected);
    }

    #[test]
    fn what_was_counted_is_written_when_its_minute_is_over() {
        let mut scene = Scene::new();
        for _ in 0..3 {
            deny(&scene, "clerk");
        }
        let pending = |scene: &Scene| scene.sealed.attempts.journal().pending().unwrap().attempts.len();
        scene.sealed.write_past_denied(scene.now).unwrap();
        assert_eq!(pending(&scene), 1);
        scene.sealed.write_past_denied(scene.now.plus_seconds(60)).unwrap();
        assert_eq!(pending(&scene), 2);
        scene.now = scene.now.plus_seconds(60);
        for _ in 0..2 {
            deny(&scene, "clerk");
        }
        scene.sealed.write_all_denied().unwrap();
        assert_eq!(pending(&scene), 4);
    }

    #[test]
    fn no_attempt_is_made_that_cannot_be_written_down() {
        let mut scene = Scene::new();
        let journal = scene.sealed.attempts.journal().path().to_owned();
        let _ = fs::remove_file(&journal);
        fs::create_dir(&journal).unwrap();
        for passphrase in [wrong(), scene.passphrase()] {
            let refused =
                scene.sealed.unseal(passphrase, &keeper(), policy(POLICY), scene.now, &mut scene.entropy);
            assert!(matches!(refused, Err(UnsealError::Journal(_))), "{:?}", refused.err());
        }
        let denied = scene.sealed.deny(Forbidden::Unseal, &identity("clerk"), scene.now);
        assert!(scene.sealed.write_denied(&denied).is_err());
        fs::remove_dir(&journal).unwrap();
        let vault = scene.unseal().unwrap();
        assert_eq!(refusals(&vault), [refusal("vault", "UNSETTLED", 1)], "what was denied is still counted");
    }

    #[test]
    fn attempts_that_failed_or_were_cut_off_are_entered_and_one_that_succeeds_leaves_nothing() {
        let mut scene = Scene::new();
        let refused = scene.sealed.unseal(wrong(), &keeper(), policy(POLICY), scene.now, &mut scene.entropy);
        assert!(matches!(refused, Err(UnsealError::WrongPassphrase)));
        // As if the process had died in the middle.
        scene.sealed.attempts.begin(&keeper(), scene.now).unwrap();
        let vault = scene.unseal().unwrap();
        let expected = [refusal("keeper", "WRONG_PASSPHRASE", 1), refusal("keeper", "UNSETTLED", 1)];
        assert_eq!(refusals(&vault), expected);
        vault.seal(&Closing::Stop, scene.now, &mut scene.entropy);
        let vault = scene.unseal().unwrap();
        assert_eq!(refusals(&vault), expected, "entered twice, or the attempt that succeeded as well");
    }

    #[test]
    fn nothing_is_lost_that_is_denied_while_the_vault_opens() {
        const MINUTES: u64 = 400;
        let mut scene = Scene::new();
        let (sealed, now) = (scene.sealed.clone(), scene.now);
        let denying = thread::spawn(move || {
            for minute in 0..MINUTES {
                let denied =
                    sealed.deny(Forbidden::Unseal, &identity("clerk"), now.plus_seconds(60 * minute));
                sealed.write_denied(&denied).unwrap();
            }
        });
        let mut vaults = Vec::new();
        while !denying.is_finished() || vaults.is_empty() {
            let mut entropy = SeededEntropy::new(vaults.len() as u64);
            scene.unseal().unwrap().seal(&Closing::Stop, now, &mut entropy);
            vaults.push(());
        }
        denying.join().unwrap();
        let vault = scene.unseal().unwrap();
        let counted: u64 = refusals(&vault).into_iter().map(|(_, _, count)| u64::from(count)).sum();
        assert_eq!(counted, MINUTES, "over {} unsealings", vaults.len());
        drop(Arc::new(vault));
    }
}
