//! The keeper: once a second it signs and anchors, sweeps, rotates keys whose time has come, resumes a
//! suspended vault, seals one in doubt.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vault_core::audit::Origin;
use vault_core::crypto::SystemEntropy;
use vault_core::error::{Error, State};
use vault_core::vault::{Closing, Health, Vault};
use vault_guard::{KeyMemory, key_memory, wipe_stack};

use crate::custody::Custody;
use crate::lane::Lane;
use crate::telemetry::Metrics;

/// How far behind the log checkpoint and anchor may be.
const ROUND: Duration = Duration::from_secs(1);

/// Rounds between two looks at the logs of other daemons.
const LOOK_AROUND_ROUNDS: u32 = 9;
/// Rounds of a minute and of a day.
const MINUTE_ROUNDS: u32 = 60;
const DAY_ROUNDS: u32 = 24 * 60 * MINUTE_ROUNDS;
/// Rounds that a daemon has to confirm what it has taken over, before that is a trouble.
const CONFIRM_PATIENCE: u32 = MINUTE_ROUNDS;

/// The keeper's thread; it ends when this is dropped.
pub(crate) struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Rounds {
    custody: Arc<Custody>,
    lane: Arc<Lane>,
    metrics: Arc<Metrics>,
    was_suspended: bool,
    told_of_keys: bool,
    until_look: u32,
    /// The daemons that were last seen with another policy.
    of_other_policy: Vec<Origin>,
    rotation: Told,
    following: Told,
}

/// A trouble that lasts: when it was told of last, and when to tell again.
#[derive(Default)]
struct Told {
    reason: Option<&'static str>,
    /// Rounds that it has lasted.
    lasted: u32,
    /// After how many of them it is told again.
    again_at: u32,
}

impl Told {
    /// Counts a round, and says whether to tell of it: when the trouble is new and has lasted so many rounds,
    /// and then each time that it has lasted twice as long, or another day.
    fn is_to_be_told(&mut self, reason: Option<&'static str>, patience: u32) -> bool {
        if self.reason != reason {
            *self = Self { reason, lasted: 0, again_at: patience };
        }
        if reason.is_none() {
            return false;
        }
        let now = self.lasted >= self.again_at;
        self.lasted = self.lasted.saturating_add(1);
        if now {
            self.again_at = self.lasted.saturating_add(self.lasted.clamp(MINUTE_ROUNDS, DAY_ROUNDS));
        }
        now
    }
}

impl Keeper {
    /// Starts the rounds.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(custody: Arc<Custody>, lane: Arc<Lane>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let mut rounds = Rounds {
            custody,
            lane,
            metrics,
            was_suspended: false,
            told_of_keys: false,
            until_look: 0,
            of_other_policy: Vec::new(),
            rotation: Told::default(),
            following: Told::default(),
        };
        let walk = move || {
            while stopped.recv_timeout(ROUND) == Err(RecvTimeoutError::Timeout) {
                rounds.walk();
            }
        };
        let thread = thread::Builder::new().name("vaultd-keeper".to_owned()).spawn(walk)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Rounds {
    fn walk(&mut self) {
        self.custody.expire_ceremony();
        if self.custody.write_past_denied().is_err() {
            self.metrics.alarm();
            tracing::error!(event = "journal_unwritten", "denied calls are not in the unseal journal");
        }
        let Some(vault) = self.custody.open() else { return };
        match vault.health() {
            Health::Serving => self.keep(&vault),
            Health::Suspended => self.resume(&vault),
            Health::MustSeal => {}
        }
        let must_seal = vault.health() == Health::MustSeal;
        // Sealing waits until nobody holds the vault any more.
        drop(vault);
        wipe_stack(); // the signing key of this round's checkpoint, the root key over the anchor
        if must_seal {
            self.metrics.alarm();
            tracing::error!(event = "vault_sealed_itself", "the vault's integrity is in doubt");
            self.custody.seal(&self.lane, &Closing::Doubt);
        }
    }

    fn keep(&mut self, vault: &Vault) {
        self.was_suspended = false;
        self.follow_keyring(vault);
        self.look_around(vault);
        if vault.keep().is_err() {
            self.metrics.alarm();
            tracing::error!(event = "anchor_unwritten", "the anchor file could not be written");
        }
        if vault.take_damage() > 0 {
            self.metrics.alarm();
            tracing::error!(event = "stored_data_damaged", "a row of counted tokens: they count again");
        }
        if let Err(error) = vault.sweep(self.custody.now(), &mut SystemEntropy::new()) {
            tracing::warn!(event = "sweep_failed", reason = error.reason());
        }
        self.tell_of_keys();
        let rotated = vault.rotate_due(self.custody.now(), &mut SystemEntropy::new());
        if let Ok(count @ 1..) = rotated {
            tracing::info!(event = "keys_rotated", count);
        }
        self.tell_of_rotation(vault, rotated.as_ref().err());
    }

    /// Tells why keys are not rotated whose time has come: at once and then with growing pauses. A daemon
    /// that has not confirmed yet has a minute to do so.
    fn tell_of_rotation(&mut self, vault: &Vault, failed: Option<&Error>) {
        let reason = failed.map(Error::reason);
        let patience = match failed {
            Some(Error::State(State::KeyUnconfirmed)) => CONFIRM_PATIENCE,
            _ => 0,
        };
        if !self.rotation.is_to_be_told(reason, patience) {
            return;
        }
        self.metrics.alarm();
        tracing::error!(event = "rotation_failed", reason = reason.unwrap_or_default());
        if patience > 0 {
            for other in vault.neighbours().iter().filter(|other| !other.has_keyring) {
                tracing::error!(event = "keyring_unconfirmed", origin = other.origin.as_str());
            }
        }
    }

    /// What other daemons made of the keyring.
    fn follow_keyring(&mut self, vault: &Vault) {
        let followed = vault.follow_keyring(self.custody.now(), &mut SystemEntropy::new());
        // A store that is away is told of by itself.
        let reason =
            followed.err().filter(|_| vault.health() != Health::Suspended).map(|error| error.reason());
        if self.following.is_to_be_told(reason, 0) {
            self.metrics.alarm();
            tracing::error!(event = "keyring_not_taken", reason = reason.unwrap_or_default());
        }
    }

    /// Tells once if keys had to be put where swap and core files can see them.
    fn tell_of_keys(&mut self) {
        if !self.told_of_keys && key_memory() == KeyMemory::Ordinary {
            self.told_of_keys = true;
            self.metrics.alarm();
            tracing::error!(event = "keys_in_ordinary_memory", "no more memory for keys can be locked");
        }
    }

    /// Every few rounds: are the other daemons' logs what they were, and do all decide by one policy?
    fn look_around(&mut self, vault: &Vault) {
        let Some(left) = self.until_look.checked_sub(1) else {
            self.until_look = LOOK_AROUND_ROUNDS;
            return self.look(vault);
        };
        self.until_look = left;
    }

    fn look(&mut self, vault: &Vault) {
        if vault.look_around() == Err(Error::Corrupt) {
            tracing::error!(event = "other_log_broken", "another daemon's log is not what it was");
            return;
        }
        let policy = vault.policy().short_hash();
        let others = vault.neighbours().into_iter().filter(|other| other.policy != policy);
        let others: Vec<Origin> = others.map(|other| other.origin).collect();
        for origin in others.iter().filter(|origin| !self.of_other_policy.contains(origin)) {
            tracing::warn!(event = "policies_differ", origin = origin.as_str());
        }
        self.of_other_policy = others;
    }

    fn resume(&mut self, vault: &Vault) {
        if !self.was_suspended {
            self.was_suspended = true;
            self.metrics.alarm();
            if self.custody.lacks_space() {
                tracing::error!(event = "vault_suspended", reason = "free_space_low", "the disk is full");
            } else {
                tracing::error!(event = "vault_suspended", reason = "store_away", "the store is away");
            }
        }
        if vault.resume() == Health::Serving {
            tracing::info!(event = "vault_resumed", "the store is back");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(trouble: &mut Told, reason: Option<&'static str>, patience: u32, rounds: u32) -> Vec<u32> {
        (0..rounds).filter(|_| trouble.is_to_be_told(reason, patience)).collect()
    }

    #[test]
    fn a_trouble_is_told_at_once_and_then_with_growing_pauses() {
        let mut trouble = Told::default();
        assert_eq!(told(&mut trouble, Some("STORE"), 0, 1_000), [0, 61, 124, 250, 502]);
        assert!(told(&mut trouble, Some("KEY_IN_USE"), 0, 1) == [0], "another trouble");
        assert!(told(&mut trouble, None, 0, 10).is_empty());
        assert!(told(&mut trouble, Some("KEY_IN_USE"), 0, 1) == [0], "the same again");
        let all = told(&mut Told::default(), Some("STORE"), 0, 30 * DAY_ROUNDS);
        assert!((30..50).contains(&all.len()), "{}", all.len());
    }

    #[test]
    fn what_passes_within_its_time_is_no_trouble() {
        let mut trouble = Told::default();
        assert!(told(&mut trouble, Some("KEY_UNCONFIRMED"), 60, 60).is_empty());
        assert!(told(&mut trouble, None, 0, 1).is_empty());
        assert_eq!(told(&mut trouble, Some("KEY_UNCONFIRMED"), 60, 200), [60, 122]);
    }
}
