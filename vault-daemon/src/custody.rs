//! Which state the daemon's vault is in, and the ways from one to another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use thiserror::Error;
use vault_core::audit::VerifierKey;
use vault_core::clock::{Clock, Timestamp};
use vault_core::crypto::SystemEntropy;
use vault_core::error::{Error as CoreError, State, Unavailable};
use vault_core::keys::SealKind;
use vault_core::policy::{Ask, Identity, Policy, Right};
use vault_core::store::Store;
use vault_core::vault::{Health, SealedVault, UnsealError, Vault};

use crate::lane::Lane;

/// After a wrong passphrase nobody's next attempt begins sooner.
const PAUSE_AFTER_WRONG_PASSPHRASE: Duration = Duration::from_secs(1);
/// How long sealing waits for calls that the lane already has.
const DRAIN_MAX: Duration = Duration::from_secs(10);
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
    /// Grows with every change of the keyring.
    pub keyring_generation: u64,
    /// The log's name, unless sealed.
    pub log_origin: Option<String>,
    /// Entries in the log, unless sealed.
    pub log_size: Option<u64>,
    /// The log's public key, unless sealed.
    pub log_verifier_key: Option<String>,
    /// The storage engine.
    pub store_kind: &'static str,
}

/// Why an unsealing did not happen.
#[derive(Debug, Error)]
pub enum UnsealRefused {
    /// Another unsealing or sealing is under way.
    #[error("another unsealing or sealing is under way")]
    Busy,
    /// Policy does not let this caller.
    #[error("{0}")]
    Denied(CoreError),
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
    /// One unsealing, sealing or reload at a time.
    change: Mutex<()>,
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
            clock,
        }
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
        let (kind, note) = seal_words(described.kind);
        Ok(Facts {
            standing: self.standing(),
            environment: described.environment.to_string(),
            vault_id: described.vault_id.to_string(),
            seal_kind: kind,
            seal_note: note,
            keyring_generation: described.generation,
            log_origin: open.as_ref().map(|vault| vault.origin().as_str().to_owned()),
            log_size: open.as_ref().map(|vault| vault.tree_head().size),
            log_verifier_key: open
                .as_ref()
                .map(|vault| VerifierKey::new(vault.origin().clone(), vault.verifying_key()).to_string()),
            store_kind: self.store.kind(),
        })
    }

    /// Unseals, for whom policy lets. On a vault that is open by now, or suspended, nothing changes.
    ///
    /// A refusal goes to the journal, since there may be no log to write. Deciding and noting happen under
    /// the same lock as unsealing, which empties the journal: nothing is noted in between and lost.
    ///
    /// # Errors
    /// [`UnsealRefused`]; after a wrong passphrase only after a pause of a second.
    pub fn unseal(&self, passphrase: &[u8], who: &Identity) -> Result<(), UnsealRefused> {
        let _change = match self.change.try_lock() {
            Ok(guard) => guard,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(UnsealRefused::Busy),
        };
        if let Err(denied) = self.decide(who, Right::Unseal) {
            self.sealed.note_denied(who, self.now());
            return Err(UnsealRefused::Denied(denied));
        }
        if self.open.load().is_some() {
            return Ok(());
        }
        let policy = self.policy.load_full();
        let mut entropy = SystemEntropy::new();
        match self.sealed.unseal(passphrase, who, policy, self.now(), &mut entropy) {
            Ok(vault) => {
                self.install(vault);
                Ok(())
            }
            Err(error) => {
                if matches!(error, UnsealError::WrongPassphrase) {
                    sleep(PAUSE_AFTER_WRONG_PASSPHRASE);
                }
                Err(error.into())
            }
        }
    }

    /// Takes a vault that was just created or unsealed at start.
    pub fn install(&self, vault: Vault) {
        self.closing.store(false, Ordering::Release);
        self.open.store(Some(Arc::new(vault)));
    }

    /// Seals: lets the lane finish, signs, anchors, wipes the keys. On a sealed vault nothing changes.
    pub fn seal(&self, lane: &Lane) {
        let _change = self.change.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.closing.store(true, Ordering::Release);
        let begun = Instant::now();
        while lane.is_busy() && begun.elapsed() < DRAIN_MAX {
            sleep(DRAIN_STEP);
        }
        let Some(mut vault) = self.open.swap(None) else {
            return;
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
        vault.seal();
    }

    /// Puts a new policy in force, entered in the log if the vault is open.
    ///
    /// # Errors
    /// [`UnsealError`], the vault's own reason; the old policy stays.
    pub fn reload(&self, policy: Policy) -> Result<(), UnsealError> {
        let _change = self.change.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let policy = Arc::new(policy);
        if let Some(vault) = self.open() {
            vault.load_policy(Arc::clone(&policy), self.now(), &mut SystemEntropy::new())?;
        }
        self.policy.store(policy);
        Ok(())
    }
}

/// The kind of a seal, and what it does not protect against.
const fn seal_words(kind: SealKind) -> (&'static str, &'static str) {
    match kind {
        SealKind::Passphrase(_) => {
            ("passphrase", "one person who knows it opens the vault: not dual control")
        }
    }
}
