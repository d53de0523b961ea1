//! The keeper: once a second it signs and anchors, sweeps, rotates keys whose time has come, resumes a
//! suspended vault, seals one in doubt.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use vault_core::audit::Origin;
use vault_core::crypto::SystemEntropy;
use vault_core::error::Error;
use vault_core::vault::{Closing, Health, Vault};
use vault_guard::{KeyMemory, key_memory, wipe_stack};

use crate::custody::Custody;
use crate::lane::Lane;
use crate::telemetry::Metrics;

/// How far behind the log checkpoint and anchor may be.
const ROUND: Duration = Duration::from_secs(1);

/// Rounds between two looks at the logs of other daemons.
const LOOK_AROUND_ROUNDS: u32 = 9;

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
        match vault.rotate_due(self.custody.now(), &mut SystemEntropy::new()) {
            Ok(0) => {}
            Ok(count) => tracing::info!(event = "keys_rotated", count),
            Err(error) => {
                self.metrics.alarm();
                tracing::error!(event = "rotation_failed", reason = error.reason());
            }
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
