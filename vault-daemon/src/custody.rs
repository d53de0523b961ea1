//! Which state the daemon's vault is in, and the ways from one to another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use thiserror::Error;
use vault_core::audit::VerifierKey;
use vault_core::clock::{Clock, Timestamp};
use vault_core::crypto::{EntropyFault, SystemEntropy};
use vault_core::data::{CallerText, PrincipalId};
use vault_core::error::{CeremonyFault, Error as CoreError, HsmFault, State, Unavailable};
use vault_core::keys::{CeremonyId, CeremonyStep, Credential, JournalError, SealKind, Share, UnsealOutcome};
use vault_core::policy::{Ask, Identity, Policy, Right};
use vault_core::store::Store;
use vault_core::vault::{
    Ceremony, CeremonyView, Closing, DeniedCall, Forbidden, Giver, Health, Neighbour, SealedVault,
    UnsealError, Vault,
};
use vault_guard::wipe_stack;

use crate::daemon::own_identity;
use crate::hsm::{Token, Use};
use crate::lane::Lane;

/// After a wrong passphrase or PIN nobody's next attempt begins sooner.
const PAUSE_AFTER_WRONG_SECRET: Duration = Duration::from_secs(1);
/// How long sealing waits for calls that the lane already has.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Under which name the vault's own steps stand in the journal.
const ITSELF: &str = "uri:vaultd:itself";
const DRAIN_STEP: Duration = Duration::from_millis(1);

/// The vault's state as a whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// The keys are not in memory.
    Sealed,
    /// Calls are served.
    Unsealed,
    /// The keys are in memory, the store is away.
    Suspended,
}

/// What a status shows.
pub struct Facts {
    /// The state.
    pub standing: Standing,
    /// Where the vault runs.
    pub environment: String,
    /// 32 hexadecimal digits.
    pub vault_id: String,
    /// How the root key is unwrapped.
    pub seal_kind: &'static str,
    /// What that does and does not protect against.
    pub seal_note: &'static str,
    /// How many shares are needed; 0 where no shares open the vault.
    pub shares_needed: u8,
    /// Whose the shares are, by number.
    pub custodians: Vec<PrincipalId>,
    /// Why a vault that should open itself does not.
    pub sealed_because: Option<&'static str>,
    /// The ceremony that is open.
    pub ceremony: Option<CeremonyView>,
    /// Grows with every change of the keyring.
    pub keyring_generation: u64,
    /// The log's name.
    pub log_origin: String,
    /// Entries in the log, unless sealed.
    pub log_size: Option<u64>,
    /// While sealed, entries in the log as the anchor says, if it can be read; not authenticated.
    pub anchored_log_size: Option<u64>,
    /// The log's public key, unless sealed.
    pub log_verifier_key: Option<String>,
    /// The storage engine.
    pub store_kind: &'static str,
    /// The daemons that share it, each with whether it decides by the same policy.
    pub other_daemons: Vec<(Neighbour, bool)>,
}

/// Why an unsealing did not happen.
#[derive(Debug, Error)]
pub enum UnsealRefused {
    /// Another unsealing or sealing is under way.
    #[error("another unsealing or sealing is under way")]
    Busy,
    /// Policy does not let this caller.
    #[error("the policy does not let this caller")]
    Denied,
    /// A step of a ceremony does not fit, or its share.
    #[error("{0}")]
    Ceremony(#[from] CeremonyFault),
    /// No randomness for the name of a ceremony.
    #[error("{0}")]
    Entropy(#[from] EntropyFault),
    /// A defect ended the attempt.
    #[error("the vault has a defect")]
    Bug,
    /// The vault's own reason.
    #[error(transparent)]
    Vault(#[from] UnsealError),
}

/// The daemon's vault: sealed, or unsealed and shared by all cores.
pub struct Custody {
    sealed: SealedVault,
    store: Arc<dyn Store>,
    open: ArcSwapOption<Vault>,
    /// Decides while the vault is sealed; the open vault has its own copy of the same.
    policy: ArcSwap<Policy>,
    /// Sealing has begun: no new call is taken while the lane finishes what it has.
    closing: AtomicBool,
    /// One unsealing, sealing, step of a ceremony or reload at a time.
    change: Mutex<()>,
    /// The ceremony that is open. Changed only under the lock of changes.
    ceremony: Mutex<Option<Ceremony>>,
    hsm: Option<Arc<Token>>,
    /// Whether the vault is to open itself if it can: until it was open for the first time.
    opens_itself: AtomicBool,
    sealed_because: Mutex<Option<&'static str>>,
    clock: Arc<dyn Clock>,
}

impl Custody {
    /// A vault that starts sealed.
    pub fn new(
        sealed: SealedVault,
        store: Arc<dyn Store>,
        policy: Arc<Policy>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            sealed,
            store,
            open: ArcSwapOption::empty(),
            policy: ArcSwap::new(policy),
            closing: AtomicBool::new(false),
            change: Mutex::new(()),
            ceremony: Mutex::new(None),
            hsm: None,
            opens_itself: AtomicBool::new(true),
            sealed_because: Mutex::new(None),
            clock,
        }
    }

    /// The same, which can ask this token.
    pub fn with_hsm(self, hsm: Option<Arc<Token>>) -> Self {
        Self { hsm, ..self }
    }

    /// The time, as the whole daemon sees it.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The open vault, for one call.
    ///
    /// # Errors
    /// `SEALED`, or `STORE` while suspended.
    pub fn vault(&self) -> Result<Arc<Vault>, CoreError> {
        let vault = self.open.load_full().filter(|_| !self.closing.load(Ordering::Acquire));
        let vault = vault.ok_or(CoreError::State(State::Sealed))?;
        match vault.health() {
            Health::Serving => Ok(vault),
            Health::Suspended => Err(CoreError::Unavailable(Unavailable::Store)),
            Health::MustSeal => Err(CoreError::State(State::Sealed)),
        }
    }

    /// The open vault whatever its health: for the lane and the keeper.
    pub(crate) fn open(&self) -> Option<Arc<Vault>> {
        self.open.load_full()
    }

    /// Whether the store waits for room on its disk.
    pub(crate) fn lacks_space(&self) -> bool {
        self.store.free_space_low()
    }

    /// The state as a whole.
    pub fn standing(&self) -> Standing {
        match self.vault() {
            Ok(_) => Standing::Unsealed,
            Err(CoreError::Unavailable(_)) => Standing::Suspended,
            Err(_) => Standing::Sealed,
        }
    }

    /// Whether the policy gives this caller a right that concerns no record. Asked where the vault may be
    /// sealed.
    ///
    /// # Errors
    /// `DENIED`.
    pub fn decide(&self, caller: &Identity, right: Right) -> Result<(), CoreError> {
        let policy = self.policy.load();
        let principal = policy.principal(caller);
        policy.decide(principal.as_ref(), Ask::to(right)).map(|_| ()).map_err(|_| CoreError::Denied)
    }

    /// What a status shows.
    ///
    /// # Errors
    /// When there is no readable keyring.
    pub fn facts(&self) -> Result<Facts, UnsealError> {
        let described = self.sealed.describe()?;
        let open = self.open();
        let (shares_needed, custodians) = described.kind.shares().map_or((0, Vec::new()), |set| {
            (set.threshold(), set.custodians().map(|(_, name)| name.clone()).collect())
        });
        Ok(Facts {
            standing: self.standing(),
            environment: described.environment.to_string(),
            vault_id: described.vault_id.to_string(),
            seal_kind: described.kind.as_str(),
            seal_note: seal_note(&described.kind),
            shares_needed,
            custodians,
            sealed_because: *self.sealed_because(),
            ceremony: self.ceremony().as_ref().map(Ceremony::view),
            keyring_generation: described.generation,
            log_origin: self.sealed.origin().as_str().to_owned(),
            log_size: open.as_ref().map(|vault| vault.tree_head().size),
            anchored_log_size: if open.is_none() { self.sealed.anchored_log_size() } else { None },
            log_verifier_key: open
                .as_ref()
                .map(|vault| VerifierKey::new(vault.origin().clone(), vault.verifying_key()).to_string()),
            store_kind: self.store.kind(),
            other_daemons: open.as_ref().map(|vault| other_daemons(vault)).unwrap_or_default(),
        })
    }

    /// Unseals, for whom policy lets. On a vault that is open by now, or suspended, nothing changes.
    ///
    /// Whoever is known to be denied should not come here but to [`Custody::deny`]: custodians wait for one
    /// another, for nobody else.
    ///
    /// # Errors
    /// [`UnsealRefused`]; after a wrong passphrase or PIN only after a pause of a second.
    pub fn unseal(&self, given: Opens<'_>, who: &Identity) -> Result<(), UnsealRefused> {
        let _change = self.begin_change()?;
        self.decide_sealed(who)?;
        if self.open.load().is_some() {
            return Ok(());
        }
        match given {
            Opens::Passphrase(passphrase) => self.unseal_by(Credential::Passphrase(passphrase), who),
            Opens::Hsm => self.unseal_by(Credential::Hsm(&self.asked_hsm(who)?), who),
        }
    }

    /// Unseals in the daemon's own name where an HSM alone seals the vault, unless the vault was open
    /// already: whoever sealed it then did not do so to have it opened again. Where the HSM is away, or
    /// should not be given its PIN, no attempt is made and none is written down.
    ///
    /// # Errors
    /// [`UnsealRefused`].
    pub(crate) fn unseal_unasked(&self) -> Result<(), UnsealRefused> {
        let _change = self.begin_change()?;
        if !self.opens_itself.load(Ordering::Acquire) {
            return Ok(());
        }
        let hsm = self.hsm.as_ref().ok_or(UnsealError::Hsm(HsmFault::NotConfigured))?.unasked();
        hsm.look().map_err(UnsealError::Hsm)?;
        self.unseal_by(Credential::Hsm(&hsm), &own_identity()?)
    }

    /// Remembers why the vault does not open itself; `true` if it is another reason than before.
    pub(crate) fn stays_sealed_for(&self, reason: &'static str) -> bool {
        self.sealed_because().replace(reason) != Some(reason)
    }

    fn sealed_because(&self) -> MutexGuard<'_, Option<&'static str>> {
        self.sealed_because.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token, for somebody who asks for it.
    fn asked_hsm(&self, who: &Identity) -> Result<Use, UnsealRefused> {
        match &self.hsm {
            Some(token) => Ok(token.asked_for()),
            None if self.sealed.describe()?.kind.hsm_key().is_none() => {
                Err(self.refuse_step(CeremonyFault::OtherSeal, CeremonyStep::default(), who))
            }
            None => Err(self.refuse_for_hsm(HsmFault::NotConfigured, who)),
        }
    }

    /// Unseals with what the seal asks for. The lock of changes is held.
    fn unseal_by(&self, given: Credential<'_>, who: &Identity) -> Result<(), UnsealRefused> {
        let policy = self.policy.load_full();
        let mut entropy = SystemEntropy::new();
        let unsealed = self.sealed.unseal(given, who, policy, self.now(), &mut entropy);
        // Copies of the root key and of what it opens.
        wipe_stack();
        match unsealed {
            Ok(vault) => {
                self.install(vault);
                Ok(())
            }
            Err(error) => {
                if matches!(error, UnsealError::WrongPassphrase | UnsealError::Hsm(HsmFault::WrongPin)) {
                    sleep(PAUSE_AFTER_WRONG_SECRET);
                }
                Err(error.into())
            }
        }
    }

    /// The lock of changes, unless somebody holds it.
    fn begin_change(&self) -> Result<MutexGuard<'_, ()>, UnsealRefused> {
        match self.change.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(UnsealRefused::Busy),
        }
    }

    /// Decides about unsealing under the lock of changes: by the policy that is in force now.
    fn decide_sealed(&self, who: &Identity) -> Result<(), UnsealRefused> {
        self.decide(who, Right::Unseal).map_err(|_| UnsealRefused::Denied)
    }

    /// Begins to gather shares for a sealed vault.
    ///
    /// # Errors
    /// [`UnsealRefused`]; [`CeremonyFault::AlreadyOpen`] to whoever comes second.
    pub fn begin_ceremony(&self, who: &Identity) -> Result<CeremonyView, UnsealRefused> {
        let (_change, by) = self.begin_step(who)?;
        let described = self.sealed.describe()?;
        if matches!(described.kind, SealKind::HsmAndShares(..)) && self.open.load().is_none() {
            // Nobody should come for a ceremony that cannot end well.
            self.asked_hsm(who)?.look().map_err(|fault| self.refuse_for_hsm(fault, who))?;
        }
        let mut open = self.ceremony();
        let begun = match (self.open.load().is_some(), open.is_some()) {
            (true, _) => Err(CeremonyFault::Unsealed),
            (false, true) => Err(CeremonyFault::AlreadyOpen),
            (false, false) => {
                let id = CeremonyId::draw(&mut SystemEntropy::new())?;
                Ceremony::begin(&described, id, by, self.now())
            }
        };
        let begun = begun.map_err(|fault| self.refuse_step(fault, CeremonyStep::default(), who))?;
        self.sealed.note_step(UnsealOutcome::CeremonyBegun, begun.step(0), who, self.now())?;
        let view = begun.view();
        *open = Some(begun);
        Ok(view)
    }

    /// Takes a share for the open ceremony, and with it the name of the duties that its custodian accepts.
    /// The one that makes them enough unseals the vault. `true` then.
    ///
    /// # Errors
    /// [`UnsealRefused`]. Where enough shares are there and the vault stays sealed all the same, the ceremony
    /// is over: for whatever reason it is, more shares do not help.
    pub fn submit_share(
        &self,
        ceremony: &str,
        share: Result<(Share, CallerText), CeremonyFault>,
        who: &Identity,
    ) -> Result<(CeremonyView, bool), UnsealRefused> {
        let (_change, by) = self.begin_step(who)?;
        let mut open = self.ceremony();
        let now = self.now();
        let Some(gathering) = open.as_mut().filter(|open| open.is_named(ceremony) && !open.is_over(now))
        else {
            return Err(self.refuse_step(CeremonyFault::NotOpen, CeremonyStep::default(), who));
        };
        gathering.keep_only(|giver| self.may_unseal(giver));
        let number = share.as_ref().map_or(0, |(share, _)| share.label().number);
        let step = gathering.step(number);
        let described = self.sealed.describe()?;
        let by = Giver { principal: by, identity: who.clone() };
        let given = share.and_then(|(share, duties)| {
            gathering.give(by.clone(), share, &described)?;
            Ok(duties)
        });
        let duties = given.map_err(|fault| self.refuse_step(fault, step, who))?;
        if let Err(unwritten) = self.sealed.note_share(step, &duties, who, self.now()) {
            gathering.keep_only(|giver| *giver != by);
            return Err(unwritten.into());
        }
        let view = gathering.view();
        let Some(complete) = open.take_if(|open| open.is_complete()) else { return Ok((view, false)) };
        // Whoever asks for the status meanwhile does not wait for the unsealing.
        drop(open);
        let shares = complete.into_shares();
        match described.kind.hsm_key() {
            Some(_) => self.unseal_by(Credential::HsmAndShares(&self.asked_hsm(who)?, &shares), who)?,
            None => self.unseal_by(Credential::Shares(&shares), who)?,
        }
        Ok((view, true))
    }

    /// Ends the open ceremony, and forgets what was given.
    ///
    /// # Errors
    /// [`UnsealRefused`].
    pub fn cancel_ceremony(&self, ceremony: &str, who: &Identity) -> Result<CeremonyView, UnsealRefused> {
        let (_change, _) = self.begin_step(who)?;
        let mut open = self.ceremony();
        let Some(cancelled) = open.as_ref().filter(|open| open.is_named(ceremony)) else {
            return Err(self.refuse_step(CeremonyFault::NotOpen, CeremonyStep::default(), who));
        };
        self.sealed.note_step(UnsealOutcome::CeremonyCancelled, cancelled.step(0), who, self.now())?;
        let view = cancelled.view();
        *open = None;
        Ok(view)
    }

    /// Ends a ceremony whose time is over. Called once a second; a step that is under way goes first.
    pub fn expire_ceremony(&self) {
        // Looked at first without the lock of changes, which must not be busy every second for nothing.
        if !self.ceremony().as_ref().is_some_and(|open| open.is_over(self.now())) {
            return;
        }
        let Ok(_change) = self.begin_change() else { return };
        let Some(over) = self.ceremony().take_if(|open| open.is_over(self.now())) else { return };
        // Over all the same, whether or not it can be written down.
        if let Ok(itself) = Identity::parse(ITSELF) {
            let _ = self.sealed.note_step(UnsealOutcome::CeremonyExpired, over.step(0), &itself, self.now());
        }
    }

    /// What every step of a ceremony begins with: the lock of changes, the right, the principal's name; and
    /// no ceremony that is over.
    fn begin_step(&self, who: &Identity) -> Result<(MutexGuard<'_, ()>, PrincipalId), UnsealRefused> {
        self.expire_ceremony();
        let change = self.begin_change()?;
        self.decide_sealed(who)?;
        let principal = self.policy.load().principal(who).map(|principal| principal.id().clone());
        Ok((change, principal.ok_or(UnsealRefused::Denied)?))
    }

    /// Writes down that a step was refused, and why.
    fn refuse_step(&self, fault: CeremonyFault, step: CeremonyStep, who: &Identity) -> UnsealRefused {
        match self.sealed.note_step(UnsealOutcome::StepRefused(fault), step, who, self.now()) {
            Ok(()) => fault.into(),
            Err(error) => error.into(),
        }
    }

    /// Writes down that the HSM was not there for a ceremony.
    fn refuse_for_hsm(&self, fault: HsmFault, who: &Identity) -> UnsealRefused {
        let outcome = UnsealOutcome::Hsm(fault);
        match self.sealed.note_step(outcome, CeremonyStep::default(), who, self.now()) {
            Ok(()) => UnsealError::Hsm(fault).into(),
            Err(error) => error.into(),
        }
    }

    /// Whether whoever gave a share is still that principal, with the right to unseal, by the policy of now.
    fn may_unseal(&self, giver: &Giver) -> bool {
        let known = self.policy.load().principal(&giver.identity);
        known.is_some_and(|known| *known.id() == giver.principal)
            && self.decide(&giver.identity, Right::Unseal).is_ok()
    }

    fn ceremony(&self) -> MutexGuard<'_, Option<Ceremony>> {
        self.ceremony.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call that policy does not allow, for the times without a log.
    pub fn deny(&self, what: Forbidden, who: &Identity) -> DeniedCall {
        self.sealed.deny(what, who, self.now())
    }

    /// Writes down what is due after a denied call; takes a sync of the disk.
    ///
    /// # Errors
    /// [`JournalError`]; it is tried again later.
    pub fn write_denied(&self, call: &DeniedCall) -> Result<(), JournalError> {
        self.sealed.write_denied(call)
    }

    /// Writes down what was counted of denied calls in minutes that are over.
    ///
    /// # Errors
    /// As [`Custody::write_denied`].
    pub(crate) fn write_past_denied(&self) -> Result<(), JournalError> {
        self.sealed.write_past_denied(self.now())
    }

    /// Takes a vault that was just created or unsealed at start.
    pub fn install(&self, vault: Vault) {
        self.closing.store(false, Ordering::Release);
        self.opens_itself.store(false, Ordering::Release);
        *self.sealed_because() = None;
        self.open.store(Some(Arc::new(vault)));
    }

    /// Seals: lets the lane finish, records why, signs, anchors, wipes the keys; with the store away as well.
    /// On a sealed vault nothing changes. Gives whether the sealing is on record.
    pub fn seal(&self, lane: &Lane, closing: &Closing) -> bool {
        let _change = self.change.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.opens_itself.store(false, Ordering::Release);
        self.closing.store(true, Ordering::Release);
        let begun = Instant::now();
        while lane.is_busy() && begun.elapsed() < DRAIN_MAX {
            sleep(DRAIN_STEP);
        }
        let Some(mut vault) = self.open.swap(None) else {
            return true;
        };
        // Whoever still holds the vault is inside one prepare or commit: both end.
        let vault = loop {
            match Arc::try_unwrap(vault) {
                Ok(vault) => break vault,
                Err(shared) => {
                    vault = shared;
                    sleep(DRAIN_STEP);
                }
            }
        };
        let recorded = vault.seal(closing, self.now(), &mut SystemEntropy::new()).recorded;
        wipe_stack(); // the signing key of the last checkpoint, the root key over the anchor
        if !recorded {
            tracing::error!(event = "sealing_unrecorded", "neither log nor journal could be written");
        }
        recorded
    }

    /// Ends in good order: seals, and leaves nothing counted that is not written.
    pub(crate) fn stop(&self, lane: &Lane) {
        self.seal(lane, &Closing::Stop);
        if self.sealed.write_all_denied().is_err() {
            tracing::error!(event = "journal_unwritten", "denied calls are not in the unseal journal");
        }
    }

    /// Puts a new policy in force, entered in the log if the vault is open.
    ///
    /// # Errors
    /// [`UnsealError`], the vault's own reason; the old policy stays.
    pub fn reload(&self, policy: Policy) -> Result<(), UnsealError> {
        let _change = self.change.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let policy = Arc::new(policy);
        if let Some(vault) = self.open() {
            let loaded = vault.load_policy(Arc::clone(&policy), self.now(), &mut SystemEntropy::new());
            wipe_stack(); // the root key, where a new tenant got keys
            loaded?;
        }
        self.policy.store(policy);
        Ok(())
    }
}

/// What a custodian opens the vault with, alone.
#[derive(Clone, Copy)]
pub enum Opens<'a> {
    /// The passphrase.
    Passphrase(&'a [u8]),
    /// The HSM, whose PIN the daemon has.
    Hsm,
}

fn other_daemons(vault: &Vault) -> Vec<(Neighbour, bool)> {
    let policy = vault.policy().short_hash();
    let others = vault.neighbours().into_iter();
    others
        .map(|other| {
            let same = other.policy == policy;
            (other, same)
        })
        .collect()
}

/// What a kind of seal does and does not protect against.
const fn seal_note(kind: &SealKind) -> &'static str {
    match kind {
        SealKind::Passphrase(_) => "one person who knows it opens the vault: not dual control",
        SealKind::Shares(_) => {
            "several custodians together open the vault, and none of them alone: dual control"
        }
        SealKind::Hsm(_) => {
            "an HSM opens the vault for whoever has its PIN, and never gives out its key: not dual control"
        }
        SealKind::HsmAndShares(..) => {
            "an HSM and several custodians together open the vault, and nobody else does: dual control"
        }
    }
}
