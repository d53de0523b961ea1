//! The sealed vault: it knows where keys and rows are, and opens them for whoever has what the seal asks for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::audit::{self, Action, Actor, Entry, Extension, LogFault, LogWriter, Origin, TreeHead};
use crate::clock::Timestamp;
use crate::crypto::Entropy;
use crate::data::{CallerText, Environment};
use crate::error::{CeremonyFault, Error, HsmFault};
use crate::keys::{
    AnchorError, AnchorFile, AnchorState, CeremonyStep, Credential, JournalError, Keyring, KeyringFolder,
    OpenError, RootKey, SaveError, Seal, SealDescription, ShareFault, UnsealAttempt, UnsealJournal,
    UnsealOutcome,
};
use crate::limits::ANCHOR_LOGS_MAX;
use crate::policy::{Identity, Policy};
use crate::store::{Fault, Space, Store};

use super::attempts::{Attempts, DeniedCall, Forbidden, actor, attempt, entries};
use super::keep::Published;
use super::key_change::generation_note;
use super::open::{Custody, Parts, Vault, head_key, lock};
use super::read_log::StoredLog;
use super::registry::{LogBehind, Registry, anchored_log};

/// The journal's file, beside the keyring.
pub(super) const UNSEAL_JOURNAL: &str = "unseal-journal";

/// A vault without keys in memory.
#[derive(Clone)]
pub struct SealedVault {
    store: Arc<dyn Store>,
    pub(super) folder: KeyringFolder,
    anchor: PathBuf,
    /// The name of this daemon's log.
    origin: Origin,
    pub(super) attempts: Arc<Attempts>,
}

/// Why a vault could not be created, or joined.
#[derive(Debug, Error)]
pub enum InitError {
    /// There is a keyring, an anchor or a log already: nothing is overwritten.
    #[error("there is a vault here already; nothing was changed")]
    Exists,
    /// The keyring or the anchor could not be written.
    #[error("the keyring or the anchor could not be written: {0}")]
    Keys(String),
    /// There is no store that daemons share, or no daemon in it.
    #[error("there is no daemon to join: only a store that is shared, with a vault in it, takes another one")]
    NothingToJoin,
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
    /// The HSM did not give what opens the vault.
    #[error(transparent)]
    Hsm(#[from] HsmFault),
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
    /// The attempt could not be written down, so it was not made.
    #[error("no attempt is made that cannot be written down: {0}")]
    Journal(JournalError),
    /// The keyring is older than the one the anchor knows.
    #[error("the keyring has generation {found} and the anchor knows {anchored}: restore the newer keyring")]
    OldKeyring {
        /// Generation on disk.
        found: u64,
        /// Generation the anchor knows.
        anchored: u64,
    },
    /// The store or the anchor has the log of another origin and none of this one.
    #[error(
        "the store has an audit log of another origin: set audit_origin as it was at init; or, for one more \
         daemon on a store that is shared, vaultd join"
    )]
    OtherOrigin,
    /// The log of another daemon does not extend what the anchor knows, or is no longer registered.
    #[error(
        "the log {origin} of another daemon has {log_size} entries and does not extend the {anchor_size} \
         that the anchor knows"
    )]
    OtherLog {
        /// Which log.
        origin: String,
        /// Entries that the anchor knows of.
        anchor_size: u64,
        /// Entries in the store; 0 where it is not registered.
        log_size: u64,
    },
    /// This daemon's registration was ended.
    #[error("this daemon's log was retired: vaultd join under another audit_origin, with the keyring of now")]
    Retired,
    /// What the store says of its daemons does not authenticate.
    #[error("the store's register of daemons is damaged, or that of another vault")]
    Registry,
    /// Nothing leads from the keyring to that of the other daemons: it is too old, or one of its own.
    #[error(
        "the keyring (generation {found}) is not the one of the other daemons (generation {known}): \
         copy theirs, and keep this one until vaultd check finds nothing"
    )]
    OtherKeyring {
        /// Generation on disk.
        found: u64,
        /// Generation that the store knows.
        known: u64,
    },
    /// The store has as many logs as an anchor has room for.
    #[error(
        "there are {ANCHOR_LOGS_MAX} audit logs already, those of retired daemons among them: they are \
         proven and anchored on, and none gives its place back"
    )]
    TooManyLogs,
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
    pub(super) root: RootKey,
    pub(super) keyring: Keyring,
    pub(super) log: LogWriter,
    head: Option<(Vec<u8>, u64)>,
    /// Missing or damaged, it can still be given up by an operator.
    pub(super) anchor: Result<AnchorState, AnchorError>,
    /// An operator stated which keyring counts.
    pub(super) is_accepted: bool,
}

impl Opening {
    /// Whether the store has this vault's log.
    pub(super) const fn has_log(&self) -> bool {
        self.head.is_some()
    }
}

impl SealedVault {
    /// A vault whose keyring, anchor and store are at these places, and whose log has this name.
    pub fn new(
        store: Arc<dyn Store>,
        folder: KeyringFolder,
        anchor: impl Into<PathBuf>,
        origin: Origin,
    ) -> Self {
        let journal = UnsealJournal::new(folder.path().join(UNSEAL_JOURNAL));
        let attempts = Arc::new(Attempts::new(journal));
        Self { store, folder, anchor: anchor.into(), origin, attempts }
    }

    /// What can be said without keys: environment, vault id, kind of seal, generation.
    ///
    /// # Errors
    /// [`UnsealError::Keyring`] when there is no readable keyring.
    pub fn describe(&self) -> Result<SealDescription, UnsealError> {
        self.folder.describe().map_err(keyring_error)
    }

    /// The name of this daemon's log.
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Entries of the log as the anchor says, up to a second behind. **Not authenticated**, as there is no
    /// key: for showing, not for trust.
    pub fn anchored_log_size(&self) -> Option<u64> {
        let logs = AnchorFile::unverified(&self.anchor)?.logs;
        logs.into_iter().find(|log| log.origin == self.origin.as_str()).map(|log| log.size)
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
        let opening = Opening { root, keyring, log, head: None, anchor: Ok(anchor), is_accepted: false };
        let first = Entry::new(now, Actor::Vault, Action::Init);
        let vault = self.open(opening, policy, vec![first], now, entropy)?;
        // A failed anchor write is told again by the keeper within a second.
        let _ = vault.keep();
        Ok(vault)
    }

    /// Opens the keyring, checks log and keyring against the anchor, and enters the unsealing in the log.
    ///
    /// The attempt is written to the journal beside the keyring before it is made; the next unsealing brings
    /// into the log what did not succeed.
    ///
    /// # Errors
    /// [`UnsealError`]; the vault stays sealed. [`UnsealError::Journal`]: nothing was tried.
    pub fn unseal(
        &self,
        given: Credential<'_>,
        who: &Identity,
        policy: Arc<Policy>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Vault, UnsealError> {
        let begun = self.begin(who, now)?;
        let mut entry = Entry::new(now, actor(&policy, who), Action::Unseal);
        entry.policy = policy.short_hash();
        let unsealed = self.unsealed(given, &begun, entry, policy, entropy);
        if let Err(error) = &unsealed {
            self.attempts.settle(&begun, outcome_of(error));
        }
        unsealed
    }

    /// Registers this daemon with the vault in a shared store, which it then is another daemon of: with a
    /// copy of the keyring, an anchor of its own, and a log whose first entry says so. Whoever unseals may
    /// do this.
    ///
    /// Repeated after it was cut off, it goes on.
    ///
    /// # Errors
    /// [`InitError`]; [`InitError::Exists`] where this log is there already.
    pub fn join(
        &self,
        given: Credential<'_>,
        who: &Identity,
        policy: Arc<Policy>,
        now: Timestamp,
        entropy: &mut dyn Entropy,
    ) -> Result<Vault, InitError> {
        let begun = self.begin(who, now)?;
        let joined = self.joining(given).and_then(|opening| {
            let mut entry = Entry::new(now, actor(&policy, who), Action::Unseal);
            entry.policy = policy.short_hash();
            Ok(self.enter(opening, &begun, entry, policy, entropy)?)
        });
        if let Err(error) = &joined {
            let outcome =
                if let InitError::Unseal(error) = error { outcome_of(error) } else { UnsealOutcome::Refused };
            self.attempts.settle(&begun, outcome);
        }
        joined
    }

    /// Reads everything that a new daemon begins with, and makes its anchor.
    fn joining(&self, given: Credential<'_>) -> Result<Opening, InitError> {
        if !self.store.is_shared() {
            return Err(InitError::NothingToJoin);
        }
        let mut opening = self.read(given)?;
        if opening.head.is_some() {
            return Err(InitError::Exists);
        }
        let registry = Registry::of(self.store.as_ref(), &opening.keyring);
        let logs = registry.logs().map_err(UnsealError::from)?;
        match logs.len() {
            0 => return Err(InitError::NothingToJoin),
            // One that comes in between is found when this one registers.
            ANCHOR_LOGS_MAX.. => return Err(UnsealError::TooManyLogs.into()),
            _ => registry.newest(&self.origin, false)?,
        };
        let mut anchor =
            AnchorState { sequence: 1, logs: Vec::new(), keyring_generation: opening.keyring.generation() };
        for log in &logs {
            let head = registry.head(&log.origin).map_err(UnsealError::from)?.ok_or(UnsealError::Registry)?;
            anchor.logs.push(anchored_log(&log.origin, &head));
        }
        anchor.logs.sort_by(|one, other| one.origin.cmp(&other.origin));
        match &opening.anchor {
            Err(AnchorError::Missing) => {
                self.anchor_of(&opening.keyring).create(&opening.root, &anchor).map_err(unwritten)?;
                opening.anchor = Ok(anchor);
            }
            Err(problem) => return Err(UnsealError::Anchor(problem.to_string()).into()),
            // From a joining that was cut off.
            Ok(known) if known.logs.iter().all(|log| log.origin != self.origin.as_str()) => {
                self.check_neighbours(&opening, known)?;
            }
            Ok(_) => return Err(InitError::Exists),
        }
        Ok(opening)
    }

    /// Writes down that an attempt begins; it is not made where that fails.
    pub(super) fn begin(&self, who: &Identity, now: Timestamp) -> Result<UnsealAttempt, UnsealError> {
        // Without a keyring there is mostly no folder to write into, and the keyring says more.
        let unwritten = |error| self.describe().err().unwrap_or(UnsealError::Journal(error));
        self.attempts.begin(who, now).map_err(unwritten)
    }

    fn unsealed(
        &self,
        given: Credential<'_>,
        begun: &UnsealAttempt,
        unsealed: Entry,
        policy: Arc<Policy>,
        entropy: &mut dyn Entropy,
    ) -> Result<Vault, UnsealError> {
        let opening = self.opening(given)?;
        self.enter(opening, begun, unsealed, policy, entropy)
    }

    /// Opens with what the journal has, and this opening, as the first entries.
    fn enter(
        &self,
        opening: Opening,
        begun: &UnsealAttempt,
        mut unsealed: Entry,
        policy: Arc<Policy>,
        entropy: &mut dyn Entropy,
    ) -> Result<Vault, UnsealError> {
        let now = unsealed.at;
        // A change that was saved but never entered shows here.
        unsealed.note = generation_note(opening.keyring.generation());
        // Until it is cleared nobody else writes to it.
        let journal = self.attempts.complete().map_err(UnsealError::Journal)?;
        let mut entries = entries(&journal, begun, &policy, now).map_err(UnsealError::Journal)?;
        entries.push(unsealed);
        let vault = self.open(opening, policy, entries, now, entropy)?;
        let _ = vault.keep(); // as at init
        // Only what is in the log may leave the journal.
        let _ = journal.clear();
        Ok(vault)
    }

    /// Writes a step of a ceremony down: it counts only once it is written.
    ///
    /// # Errors
    /// [`UnsealError::Journal`].
    pub fn note_step(
        &self,
        outcome: UnsealOutcome,
        step: CeremonyStep,
        who: &Identity,
        now: Timestamp,
    ) -> Result<(), UnsealError> {
        let taken = UnsealAttempt { step, ..attempt(outcome, Some(who), now) };
        self.attempts.write(taken).map_err(UnsealError::Journal)
    }

    /// Writes down that a share was given, by somebody who accepts the duties of this name.
    ///
    /// # Errors
    /// As [`SealedVault::note_step`].
    pub fn note_share(
        &self,
        step: CeremonyStep,
        duties: &CallerText,
        who: &Identity,
        now: Timestamp,
    ) -> Result<(), UnsealError> {
        let reason = Some(duties.clone());
        let taken = UnsealAttempt { step, reason, ..attempt(UnsealOutcome::ShareGiven, Some(who), now) };
        self.attempts.write(taken).map_err(UnsealError::Journal)
    }

    /// Counts a call to open or close the vault that policy does not allow, while no log can be written.
    /// Takes no lock that an unsealing holds, and touches no file.
    pub fn deny(&self, what: Forbidden, who: &Identity, now: Timestamp) -> DeniedCall {
        self.attempts.deny(what, who, now)
    }

    /// Writes to the journal what is due after a denied call.
    ///
    /// # Errors
    /// [`JournalError`]; the number of calls is kept and written later.
    pub fn write_denied(&self, call: &DeniedCall) -> Result<(), JournalError> {
        self.attempts.write_denied(call)
    }

    /// Writes to the journal what was counted of denied calls in minutes that are over. Called once a second.
    ///
    /// # Errors
    /// As [`SealedVault::write_denied`].
    pub fn write_past_denied(&self, now: Timestamp) -> Result<(), JournalError> {
        self.attempts.write_denied(&self.attempts.past(now))
    }

    /// Writes to the journal all that was counted of denied calls. Called before the program ends.
    ///
    /// # Errors
    /// As [`SealedVault::write_denied`].
    pub fn write_all_denied(&self) -> Result<(), JournalError> {
        self.attempts.complete().map(drop)
    }

    pub(super) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    pub(super) fn anchor_of(&self, keyring: &Keyring) -> AnchorFile {
        AnchorFile::new(&self.anchor, *keyring.vault_id())
    }

    /// Reads everything and checks it against the anchor.
    pub(super) fn opening(&self, given: Credential<'_>) -> Result<Opening, UnsealError> {
        let opening = self.read(given)?;
        let anchor = opening.anchor.as_ref().map_err(|problem| UnsealError::Anchor(problem.to_string()))?;
        let (found, anchored) = (opening.keyring.generation(), anchor.keyring_generation);
        if found < anchored {
            return Err(UnsealError::OldKeyring { found, anchored });
        }
        if self.has_only_other_logs(&opening)? {
            return Err(UnsealError::OtherOrigin);
        }
        self.check_extends(&opening)?;
        self.check_neighbours(&opening, anchor)?;
        Ok(opening)
    }

    /// What other daemons wrote must be there too, and this daemon must have their keyring, or one from which
    /// theirs was made.
    fn check_neighbours(&self, opening: &Opening, anchor: &AnchorState) -> Result<(), UnsealError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        let registry = Registry::of(self.store.as_ref(), &opening.keyring);
        let logs = registry.logs()?;
        if logs.iter().any(|log| log.retired && log.origin == self.origin) {
            return Err(UnsealError::Retired);
        }
        registry.newest(&self.origin, false)?;
        match self.others_behind(&registry, anchor)?.into_iter().next() {
            None => Ok(()),
            Some((origin, LogBehind { anchor_size, log_size })) => {
                Err(UnsealError::OtherLog { origin, anchor_size, log_size })
            }
        }
    }

    /// Refuses a keyring of which the store has a newer one: serving would take that over, and what is done
    /// to the files alone would leave it behind.
    pub(super) fn check_newest(&self, keyring: &Keyring) -> Result<(), UnsealError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        match Registry::of(self.store.as_ref(), keyring).newest(&self.origin, false)? {
            None => Ok(()),
            Some(_) => Err(UnsealError::Keyring(
                "a change of it waits in the store: start the daemon once, which takes it over".to_owned(),
            )),
        }
    }

    /// The logs of other daemons that are not what the anchor knows, by origin.
    pub(super) fn others_behind(
        &self,
        registry: &Registry<'_>,
        anchor: &AnchorState,
    ) -> Result<Vec<(String, LogBehind)>, UnsealError> {
        let logs = registry.logs()?;
        let mut behind = Vec::new();
        for known in anchor.logs.iter().filter(|known| known.origin != self.origin.as_str()) {
            let registered = logs.iter().find(|log| log.origin.as_str() == known.origin);
            let extended = match registered {
                Some(log) => registry.extended(&log.origin, Some(known))?,
                None => Err(LogBehind { anchor_size: known.size, log_size: 0 }),
            };
            behind.extend(extended.err().map(|behind| (known.origin.clone(), behind)));
        }
        Ok(behind)
    }

    /// Whether there is a log already, but not ours: a second history must not begin by a changed name.
    pub(super) fn has_only_other_logs(&self, opening: &Opening) -> Result<bool, UnsealError> {
        if opening.head.is_some() {
            return Ok(false);
        }
        let stored = self.store.scan(Space::LogHead, None, None, 1).map_err(UnsealError::Store)?;
        let (ours, anchored) =
            (self.origin.as_str(), opening.anchor.as_ref().map_or(&[][..], |a| a.logs.as_slice()));
        Ok(!stored.is_empty() || anchored.iter().all(|log| log.origin != ours) && !anchored.is_empty())
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
        Ok(Opening { root, keyring, log, head, anchor, is_accepted: false })
    }

    #[allow(clippy::type_complexity, reason = "the log and its head row with the row's version")]
    fn stored_log(&self, origin: Origin) -> Result<(LogWriter, Option<(Vec<u8>, u64)>), UnsealError> {
        let key = [head_key(&origin)];
        // While the vault is sealed nobody else opens a store anew that was away.
        let again = |_| self.store.reopen().and_then(|()| self.store.read(&key));
        let rows = self.store.read(&key).or_else(again).map_err(UnsealError::Store)?;
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
        let Opening { root, keyring, log, head, anchor, is_accepted } = opening;
        let anchor_file = self.anchor_of(&keyring);
        let attempts = Arc::clone(&self.attempts);
        let custody = Custody { attempts, folder: self.folder.clone(), anchor: anchor_file, root };
        let published = Published::before(&log, &keyring, anchor.unwrap_or_default());
        let store = Arc::clone(&self.store);
        let policy_loaded = Arc::clone(&policy);
        let keyring = Arc::new(keyring);
        let parts = Parts { store, custody: Some(custody), keyring, policy, log, head, published };
        let vault = Vault::assemble(parts);
        lock(&vault.agreed).is_accepted = is_accepted;
        vault.open_with(policy_loaded, entries, now, entropy)?;
        lock(&vault.agreed).is_accepted = false;
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
        keyring: impl Into<Arc<Keyring>>,
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
        let keyring = keyring.into();
        let published = Published::before(&log, &keyring, AnchorState::default());
        let loaded = Arc::clone(&policy);
        let vault = Self::assemble(Parts { store, custody: None, keyring, policy, log, head, published });
        vault.open_with(loaded, vec![Entry::new(now, Actor::Vault, Action::LogOpened)], now, entropy)?;
        Ok(vault)
    }
}

/// How far the anchor knows the log.
pub(super) fn anchored(opening: &Opening) -> Option<TreeHead> {
    let origin = opening.log.origin().as_str();
    let log = opening.anchor.as_ref().ok()?.logs.iter().find(|log| log.origin == origin)?;
    Some(TreeHead { size: log.size, root: log.root })
}

/// What the journal says of an attempt that failed.
pub(super) fn outcome_of(error: &UnsealError) -> UnsealOutcome {
    match error {
        UnsealError::WrongPassphrase => UnsealOutcome::WrongPassphrase,
        UnsealError::OtherSeal => UnsealOutcome::StepRefused(CeremonyFault::OtherSeal),
        UnsealError::Share(fault) => UnsealOutcome::StepRefused((*fault).into()),
        UnsealError::Hsm(fault) => UnsealOutcome::Hsm(*fault),
        _ => UnsealOutcome::Refused,
    }
}

fn keyring_error(error: OpenError) -> UnsealError {
    match error {
        OpenError::WrongPassphrase => UnsealError::WrongPassphrase,
        OpenError::Share(fault) => UnsealError::Share(fault),
        OpenError::Hsm(fault) => UnsealError::Hsm(fault),
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
