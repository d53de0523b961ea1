//! The sealed vault: it knows where keys and rows are, and opens them for whoever has what the seal asks for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::audit::{
    self, Action, Actor, Entry, Extension, LogFault, LogWriter, Origin, Outcome as Recorded, TreeHead,
};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::data::{CallerText, Environment};
use crate::error::{CeremonyFault, Error};
use crate::keys::{
    AnchorError, AnchorFile, AnchorState, CeremonyId, CeremonyStep, Credential, Keyring, KeyringFolder,
    OpenError, RootKey, SaveError, Seal, SealDescription, ShareFault, UnsealAttempt, UnsealJournal,
    UnsealOutcome,
};
use crate::policy::{Identity, Policy};
use crate::store::{Fault, Space, Store};

use super::keep::Published;
use super::open::{Custody, Parts, Vault, head_key};
use super::prepare::identity_hash;
use super::read_log::StoredLog;

/// The journal's file, beside the keyring.
const UNSEAL_JOURNAL: &str = "unseal-journal";

/// A vault without keys in memory.
#[derive(Clone)]
pub struct SealedVault {
    store: Arc<dyn Store>,
    folder: KeyringFolder,
    anchor: PathBuf,
    /// The name of this daemon's log.
    origin: Origin,
}

/// Why a vault could not be created.
#[derive(Debug, Error)]
pub enum InitError {
    /// There is a keyring, an anchor or a log already: nothing is overwritten.
    #[error("there is a vault here already; nothing was changed")]
    Exists,
    /// The keyring or the anchor could not be written.
    #[error("the keyring or the anchor could not be written: {0}")]
    Keys(String),
    /// What unsealing also can meet.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
}

/// Why a vault stays sealed.
#[derive(Debug, Error)]
pub enum UnsealError {
    /// The passphrase is not the one.
    #[error("the passphrase does not open this keyring")]
    WrongPassphrase,
    /// Something is wrong with a share, or there are too few.
    #[error(transparent)]
    Share(#[from] ShareFault),
    /// The keyring is sealed in another way than it was to be opened.
    #[error("the vault is sealed in another way: its status says how")]
    OtherSeal,
    /// The keyring is missing, damaged, readable by others, or below the compiled-in floor.
    #[error("the keyring cannot be used: {0}")]
    Keyring(String),
    /// The anchor is missing or damaged.
    #[error("the anchor cannot be used: {0}")]
    Anchor(String),
    /// The log in the store does not extend what the anchor knows: rows were lost or rolled back.
    #[error("the log has {log_size} entries and does not extend the {anchor_size} that the anchor knows")]
    RolledBack {
        /// Entries that the anchor knows of.
        anchor_size: u64,
        /// Entries in the store.
        log_size: u64,
    },
    /// The keyring is older than the one the anchor knows.
    #[error("the keyring has generation {found} and the anchor knows {anchored}: restore the newer keyring")]
    OldKeyring {
        /// Generation on disk.
        found: u64,
        /// Generation the anchor knows.
        anchored: u64,
    },
    /// The store or the anchor has the log of another origin and none of this one.
    #[error("the store has an audit log of another origin: set audit_origin as it was at init")]
    OtherOrigin,
    /// The log in the store contradicts itself.
    #[error("the audit log is damaged")]
    Log,
    /// The policy contradicts a choice made when a tenant was created.
    #[error("the policy changes one_token_per_value, which is fixed when a tenant is created")]
    TenantChoice,
    /// The store is away.
    #[error("{0}")]
    Store(Fault),
    /// The first commit failed.
    #[error("the first entry could not be written: {0}")]
    Commit(Error),
}

/// Everything read, nothing yet believed.
pub(super) struct Opening {
    root: RootKey,
    pub(super) keyring: Keyring,
    pub(super) log: LogWriter,
    head: Option<(Vec<u8>, u64)>,
    /// Missing or damaged, it can still be given up by an operator.
    pub(super) anchor: Result<AnchorState, AnchorError>,
}

impl SealedVault {
    /// A vault whose keyring, anchor and store are at these places, and whose log has this name.
    pub fn new(
        store: Arc<dyn Store>,
        folder: KeyringFolder,
        anchor: impl Into<PathBuf>,
        origin: Origin,
    ) -> Self {
        Self { store, folder, anchor: anchor.into(), origin }
    }

    /// What can be said without keys: environment, vault id, kind of seal, generation.
    ///
    /// # Errors
    /// [`UnsealError::Keyring`] when there is no readable keyring.
    pub fn describe(&self) -> Result<SealDescription, UnsealError> {
        self.folder.describe().map_err(keyring_error)
    }

    /// Creates keyring, anchor and the log's first entry. Refuses wherever a vault or part of one exists.
    ///
    /// # Errors
    /// [`InitError`]; what was written before the error is only a keyring that protects nothing yet.
    pub fn init(
        &self,
        environment: Environment,
        seal: Seal<'_>,
        policy: Arc<Policy>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Vault, InitError> {
        let logs = self.store.scan(Space::LogHead, None, None, 1).map_err(UnsealError::Store)?;
        if self.anchor.exists() || !logs.is_empty() {
            return Err(InitError::Exists);
        }
        if !self.anchor.parent().is_some_and(Path::is_dir) {
            // Found now: a keyring without an anchor would be in the way of the next attempt.
            return Err(InitError::Keys("the anchor's folder does not exist".into()));
        }
        let root = RootKey::generate(entropy).map_err(unwritten)?;
        let keyring = Keyring::create(environment, entropy, now).map_err(unwritten)?;
        match self.folder.create(&keyring, &root, seal, entropy) {
            Err(SaveError::Exists) => return Err(InitError::Exists),
            created => created.map_err(unwritten)?,
        }
        let anchor = AnchorState { sequence: 1, logs: Vec::new(), keyring_generation: keyring.generation() };
        self.anchor_of(&keyring).create(&root, &anchor).map_err(unwritten)?;
        let log = LogWriter::create(self.origin.clone());
        let opening = Opening { root, keyring, log, head: None, anchor: Ok(anchor) };
        let first = Entry::new(now, Actor::Vault, Action::Init);
        let vault = self.open(opening, policy, vec![first], now, entropy)?;
        // A failed anchor write is told again by the keeper within a second.
        let _ = vault.keep();
        Ok(vault)
    }

    /// Opens the keyring, checks log and keyring against the anchor, and enters the unsealing in the log.
    ///
    /// A failed attempt goes to the journal beside the keyring, which the next unsealing brings into the log.
    ///
    /// # Errors
    /// [`UnsealError`]; the vault stays sealed.
    pub fn unseal(
        &self,
        given: Credential<'_>,
        who: &Identity,
        policy: Arc<Policy>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Vault, UnsealError> {
        let opening = self.opening(given).inspect_err(|error| self.note_failure(error, who, now))?;
        let mut unsealed = Entry::new(now, actor(&policy, who), Action::Unseal);
        unsealed.policy = policy.short_hash();
        let mut entries = self.attempts(&policy, now)?;
        entries.push(unsealed);
        let vault = self.open(opening, policy, entries, now, entropy)?;
        let _ = vault.keep(); // as at init
        // Only what is in the log may leave the journal.
        let _ = self.journal().clear();
        Ok(vault)
    }

    /// Whether this opens the vault; changes nothing but a copy of the keyring that needs repair.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub fn try_open(&self, given: Credential<'_>) -> Result<(), UnsealError> {
        self.opening(given).map(drop)
    }

    /// Seals the vault anew, under another root key: the way to another passphrase or another set of shares.
    /// Whatever opened it before opens it no more. The journal has two entries for the log: that it began,
    /// and that it is done.
    ///
    /// # Errors
    /// [`UnsealError`]; the old seal opens the vault then, unless the second journal entry failed.
    pub fn reseal(
        &self,
        given: Credential<'_>,
        seal: Seal<'_>,
        who: &Identity,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<(), UnsealError> {
        let opening = self.opening(given).inspect_err(|error| self.note_failure(error, who, now))?;
        let step = CeremonyStep::default();
        self.note_step(UnsealOutcome::ResealBegun, step, who, now)?;
        let root = RootKey::generate(entropy).map_err(|fault| UnsealError::Keyring(fault.to_string()))?;
        // First the anchor, which both roots read then: a crash before or after the keyring changes nothing.
        self.anchor_of(&opening.keyring)
            .hand_over(&opening.root, &root)
            .map_err(|error| UnsealError::Anchor(error.to_string()))?;
        self.folder
            .reseal(&opening.root, opening.keyring, &root, seal, entropy)
            .map_err(|error| UnsealError::Keyring(error.to_string()))?;
        self.note_step(UnsealOutcome::Resealed, step, who, now)
    }

    /// Notes in the journal that a caller without the right asked to unseal.
    pub fn note_denied(&self, who: &Identity, now: Timestamp) {
        self.note(UnsealOutcome::Denied, who, now);
    }

    fn note_failure(&self, error: &UnsealError, who: &Identity, now: Timestamp) {
        let outcome = match error {
            UnsealError::WrongPassphrase => UnsealOutcome::WrongPassphrase,
            UnsealError::OtherSeal => UnsealOutcome::StepRefused(CeremonyFault::OtherSeal),
            UnsealError::Share(fault) => UnsealOutcome::StepRefused((*fault).into()),
            _ => UnsealOutcome::Refused,
        };
        self.note(outcome, who, now);
    }

    /// The attempt is refused whether or not it can be written down.
    fn note(&self, outcome: UnsealOutcome, who: &Identity, now: Timestamp) {
        let step = CeremonyStep::default();
        let _ = self.journal().append(&UnsealAttempt { at: now, identity: who.to_string(), outcome, step });
    }

    /// Writes a step of a ceremony down: it counts only once it is written.
    ///
    /// # Errors
    /// [`UnsealError::Keyring`] when the journal beside the keyring cannot be written.
    pub fn note_step(
        &self,
        outcome: UnsealOutcome,
        step: CeremonyStep,
        who: &Identity,
        now: Timestamp,
    ) -> Result<(), UnsealError> {
        let attempt = UnsealAttempt { at: now, identity: who.to_string(), outcome, step };
        self.journal().append(&attempt).map_err(|error| UnsealError::Keyring(error.to_string()))
    }

    /// The journal's attempts as entries, with the time of each attempt; one entry more for those that were
    /// summed up or do not read.
    fn attempts(&self, policy: &Policy, now: Timestamp) -> Result<Vec<Entry>, UnsealError> {
        let pending = self.journal().pending().map_err(|error| UnsealError::Keyring(error.to_string()))?;
        let mut entries: Vec<Entry> = pending.attempts.iter().map(|attempt| noted(policy, attempt)).collect();
        let lost = pending.summed.saturating_add(pending.damaged);
        if lost > 0 {
            let mut summary = Entry::new(now, Actor::Vault, Action::UnsealRefused);
            summary.count = u32::try_from(lost).unwrap_or(u32::MAX);
            summary.outcome = Recorded::KeyringUnusable;
            entries.push(summary);
        }
        Ok(entries)
    }

    fn journal(&self) -> UnsealJournal {
        UnsealJournal::new(self.folder.path().join(UNSEAL_JOURNAL))
    }

    fn anchor_of(&self, keyring: &Keyring) -> AnchorFile {
        AnchorFile::new(&self.anchor, *keyring.vault_id())
    }

    /// Reads everything and checks it against the anchor.
    fn opening(&self, given: Credential<'_>) -> Result<Opening, UnsealError> {
        let opening = self.read(given)?;
        let anchor = opening.anchor.as_ref().map_err(|problem| UnsealError::Anchor(problem.to_string()))?;
        let (found, anchored) = (opening.keyring.generation(), anchor.keyring_generation);
        if found < anchored {
            return Err(UnsealError::OldKeyring { found, anchored });
        }
        if opening.head.is_none() && self.knows_other_logs(anchor)? {
            return Err(UnsealError::OtherOrigin);
        }
        self.check_extends(&opening)?;
        Ok(opening)
    }

    /// Whether there is a log already, but not ours: a second history must not begin by a changed name.
    fn knows_other_logs(&self, anchor: &AnchorState) -> Result<bool, UnsealError> {
        let stored = self.store.scan(Space::LogHead, None, None, 1).map_err(UnsealError::Store)?;
        let ours = self.origin.as_str();
        Ok(!stored.is_empty() || anchor.logs.iter().all(|log| log.origin != ours) && !anchor.logs.is_empty())
    }

    pub(super) fn read(&self, given: Credential<'_>) -> Result<Opening, UnsealError> {
        // A store that was lost while the vault was sealed has nobody else who would bring it back.
        self.store.reopen().map_err(UnsealError::Store)?;
        let (root, keyring) = self.folder.open(given).map_err(keyring_error)?;
        let anchor = match self.anchor_of(&keyring).read(&root) {
            Err(problem) if !matches!(problem, AnchorError::Damaged | AnchorError::Missing) => {
                return Err(UnsealError::Anchor(problem.to_string()));
            }
            anchor => anchor,
        };
        let (log, head) = self.stored_log(self.origin.clone())?;
        Ok(Opening { root, keyring, log, head, anchor })
    }

    #[allow(clippy::type_complexity, reason = "the log and its head row with the row's version")]
    fn stored_log(&self, origin: Origin) -> Result<(LogWriter, Option<(Vec<u8>, u64)>), UnsealError> {
        let rows = self.store.read(&[head_key(&origin)]).map_err(UnsealError::Store)?;
        let Some(row) = rows.into_iter().next().flatten() else {
            return Ok((LogWriter::create(origin), None));
        };
        let source = StoredLog { store: self.store.as_ref(), origin: &origin };
        let log = LogWriter::restore(&row.value, &source).map_err(log_error)?;
        // A head of another log under this log's key.
        if *log.origin() != origin {
            return Err(UnsealError::Log);
        }
        Ok((log, Some((row.value, row.version))))
    }

    fn check_extends(&self, opening: &Opening) -> Result<(), UnsealError> {
        let Some(anchored) = anchored(opening) else {
            return Ok(());
        };
        let head = opening.log.head();
        let source = StoredLog { store: self.store.as_ref(), origin: opening.log.origin() };
        match audit::extends(&source, &anchored, &head) {
            Ok(Extension::Extends) => Ok(()),
            Ok(_) => Err(UnsealError::RolledBack { anchor_size: anchored.size, log_size: head.size }),
            Err(fault) => Err(log_error(fault)),
        }
    }

    /// Makes the vault: keys for every tenant of the policy, first entries. The anchor is still as it was.
    pub(super) fn open(
        &self,
        opening: Opening,
        policy: Arc<Policy>,
        entries: Vec<Entry>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Vault, UnsealError> {
        let Opening { root, keyring, log, head, anchor } = opening;
        let anchor_file = self.anchor_of(&keyring);
        let custody = Custody { folder: self.folder.clone(), anchor: anchor_file, root };
        let published = Published::before(&log, &keyring, anchor.unwrap_or_default());
        let store = Arc::clone(&self.store);
        let policy_loaded = Arc::clone(&policy);
        let parts = Parts { store, custody: Some(custody), keyring, policy, log, head, published };
        let vault = Vault::assemble(parts);
        vault.open_with(policy_loaded, entries, now, entropy)?;
        Ok(vault)
    }
}

impl Vault {
    /// A vault over keys that the program keeps itself, for simulations and for programs with their own
    /// custody: no keyring file, no anchor, so no protection against a store that was rolled back.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub fn with_keyring(
        store: Arc<dyn Store>,
        keyring: Keyring,
        origin: Origin,
        policy: Arc<Policy>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, UnsealError> {
        let rows = store.read(&[head_key(&origin)]).map_err(UnsealError::Store)?;
        let (log, head) = match rows.into_iter().next().flatten() {
            Some(row) => {
                let source = StoredLog { store: store.as_ref(), origin: &origin };
                (LogWriter::restore(&row.value, &source).map_err(log_error)?, Some((row.value, row.version)))
            }
            None => (LogWriter::create(origin), None),
        };
        let published = Published::before(&log, &keyring, AnchorState::default());
        let loaded = Arc::clone(&policy);
        let vault = Self::assemble(Parts { store, custody: None, keyring, policy, log, head, published });
        vault.open_with(loaded, vec![Entry::new(now, Actor::Vault, Action::LogOpened)], now, entropy)?;
        Ok(vault)
    }

    /// Seals: signs and anchors what is durable, then forgets every key. Gives the keyring back to the
    /// program that keeps it itself.
    pub fn seal(self) -> Keyring {
        // A vault whose store or anchor is away is sealed all the same.
        let _ = self.keep();
        let (keyring, _custody) = self.into_keys();
        keyring
    }
}

/// Who unsealed: a principal where the policy knows the caller.
fn actor(policy: &Policy, who: &Identity) -> Actor {
    match policy.principal(who) {
        Some(principal) => Actor::Principal(principal.id().clone()),
        None => Actor::Unknown { identity_hash: identity_hash(who) },
    }
}

/// How far the anchor knows the log.
pub(super) fn anchored(opening: &Opening) -> Option<TreeHead> {
    let origin = opening.log.origin().as_str();
    let log = opening.anchor.as_ref().ok()?.logs.iter().find(|log| log.origin == origin)?;
    Some(TreeHead { size: log.size, root: log.root })
}

/// The entry of an attempt or a step that the journal kept.
fn noted(policy: &Policy, attempt: &UnsealAttempt) -> Entry {
    let actor = match Identity::parse(&attempt.identity) {
        _ if is_the_vaults_own(attempt.outcome) => Actor::Vault,
        Ok(who) => actor(policy, &who),
        Err(_) => Actor::Unknown { identity_hash: crate::crypto::sha256(&[attempt.identity.as_bytes()]) },
    };
    let (action, outcome) = match attempt.outcome {
        UnsealOutcome::WrongPassphrase => (Action::UnsealRefused, Recorded::WrongPassphrase),
        UnsealOutcome::Denied => (Action::UnsealRefused, Recorded::Denied),
        UnsealOutcome::Refused => (Action::UnsealRefused, Recorded::KeyringUnusable),
        UnsealOutcome::StepRefused(fault) => (Action::UnsealRefused, Recorded::Ceremony(fault)),
        UnsealOutcome::Opened => (Action::UnsealRefused, Recorded::Done),
        UnsealOutcome::CeremonyBegun => (Action::CeremonyBegun, Recorded::Done),
        UnsealOutcome::ShareGiven => (Action::ShareGiven, Recorded::Done),
        UnsealOutcome::CeremonyCancelled => (Action::CeremonyCancelled, Recorded::Done),
        UnsealOutcome::CeremonyExpired => (Action::CeremonyExpired, Recorded::Done),
        UnsealOutcome::ResealBegun => (Action::ResealBegun, Recorded::Done),
        UnsealOutcome::Resealed => (Action::Resealed, Recorded::Done),
    };
    let mut entry = Entry::new(attempt.at, actor, action);
    entry.outcome = outcome;
    entry.note = note_of(attempt.step);
    entry
}

/// Steps that no caller takes: a ceremony's end by time, and what commands on the host do.
const fn is_the_vaults_own(outcome: UnsealOutcome) -> bool {
    matches!(outcome, UnsealOutcome::CeremonyExpired | UnsealOutcome::ResealBegun | UnsealOutcome::Resealed)
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

fn keyring_error(error: OpenError) -> UnsealError {
    match error {
        OpenError::WrongPassphrase => UnsealError::WrongPassphrase,
        OpenError::Share(fault) => UnsealError::Share(fault),
        OpenError::OtherSeal => UnsealError::OtherSeal,
        other => UnsealError::Keyring(other.to_string()),
    }
}

fn log_error(fault: LogFault) -> UnsealError {
    match fault {
        LogFault::Unavailable => {
            UnsealError::Store(Fault::Unavailable("the audit log cannot be read".into()))
        }
        LogFault::Corrupt(_) | LogFault::OutOfRange => UnsealError::Log,
    }
}

fn unwritten(problem: impl std::fmt::Display) -> InitError {
    InitError::Keys(problem.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests may stop loudly")]

    use std::fs;

    use super::super::scene::{POLICY, Scene, entries, policy};
    use super::*;
    use crate::data::PrincipalId;
    use crate::keys::{Deal, Share};

    fn who() -> Identity {
        Identity::parse("uri:vaultd:test").unwrap()
    }

    fn shares(deal: &Deal) -> Vec<Share> {
        deal.shares().iter().map(|share| Share::parse(share.to_text().as_bytes()).unwrap()).collect()
    }

    fn deal(scene: &mut Scene) -> (Deal, [PrincipalId; 2]) {
        let environment = Environment::parse("test").unwrap();
        let deal = Deal::draw(&environment, 2, 2, &mut scene.entropy).unwrap();
        (deal, ["ann", "bob"].map(|name| PrincipalId::parse(name).unwrap()))
    }

    fn reseal(scene: &mut Scene, given: Credential<'_>, seal: Seal<'_>) -> Result<(), UnsealError> {
        scene.sealed.reseal(given, seal, &who(), scene.now, &mut scene.entropy)
    }

    fn unseal(scene: &mut Scene, given: Credential<'_>) -> Result<Vault, UnsealError> {
        scene.sealed.unseal(given, &who(), policy(POLICY), scene.now, &mut scene.entropy)
    }

    #[test]
    fn after_a_reseal_the_vault_goes_on_under_the_new_seal_alone() {
        let mut scene = Scene::new();
        scene.unseal().unwrap().seal();
        let older = scene.keyring_files();
        let (deal, custodians) = deal(&mut scene);
        let seal = Seal::Shares { deal: &deal, custodians: &custodians };
        let passphrase = scene.passphrase();
        reseal(&mut scene, passphrase, seal).unwrap();

        assert!(matches!(scene.unseal(), Err(UnsealError::OtherSeal)));
        let shares = shares(&deal);
        let vault = unseal(&mut scene, Credential::Shares(&shares)).unwrap();
        let actions: Vec<_> = entries(&vault).iter().map(|entry| entry.action).collect();
        for action in [Action::ResealBegun, Action::Resealed] {
            assert_eq!(actions.iter().filter(|entered| **entered == action).count(), 1, "{action:?}");
        }
        vault.seal();
        // The anchor was written under the new root: what the old passphrase opens knows no anchor any more.
        older.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        assert!(matches!(scene.unseal(), Err(UnsealError::Anchor(_))));
    }

    #[test]
    fn what_does_not_open_the_vault_does_not_seal_it_anew() {
        let mut scene = Scene::new();
        let before = scene.keyring_files();
        let (deal, custodians) = deal(&mut scene);
        let seal = Seal::Shares { deal: &deal, custodians: &custodians };
        let wrong = Credential::Passphrase(b"correct horse battery stapler");
        assert!(matches!(reseal(&mut scene, wrong, seal), Err(UnsealError::WrongPassphrase)));
        let given = shares(&deal);
        assert!(matches!(reseal(&mut scene, Credential::Shares(&given), seal), Err(UnsealError::OtherSeal)));
        let after = scene.keyring_files();
        let journal = |path: &Path| path.ends_with(UNSEAL_JOURNAL);
        assert!(after.iter().filter(|(path, _)| !journal(path)).all(|file| before.contains(file)));
        scene.unseal().unwrap();
    }

    #[test]
    fn a_reseal_that_ends_before_the_keyring_leaves_the_old_seal() {
        let mut scene = Scene::new();
        scene.unseal().unwrap().seal();
        let older = scene.keyring_files();
        let (deal, custodians) = deal(&mut scene);
        let seal = Seal::Shares { deal: &deal, custodians: &custodians };
        let passphrase = scene.passphrase();
        reseal(&mut scene, passphrase, seal).unwrap();
        // As if it had been cut between anchor and keyring.
        older.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
        scene.unseal().unwrap().seal();
        scene.unseal().unwrap();
    }
}
