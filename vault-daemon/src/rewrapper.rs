//! The rewrapper: after a rotation it has old records encrypted anew, step by step, and leaves the lane to
//! callers for most of the time.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use vault_core::crypto::SystemEntropy;
use vault_core::error::Error;
use vault_core::vault::{Health, RewrapPhase, RewrapProgress};
use vault_guard::wipe_stack;

use crate::custody::Custody;
use crate::telemetry::Metrics;

/// How long to wait when nothing is due.
const IDLE: Duration = Duration::from_secs(1);
/// After a step the lane is left alone for so many times as long as the step took it.
const PAUSES_A_STEP: u32 = 4;
/// And at least for so long: a fast disk is no reason to fill the log with steps.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// The rewrapper's thread; it ends when this is dropped.
pub(crate) struct Rewrapper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Rewrapper {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(custody: Arc<Custody>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let walk = move || {
            let mut pause = IDLE;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                pause = step(&custody, &metrics);
            }
        };
        let thread = thread::Builder::new().name("vaultd-rewrap".to_owned()).spawn(walk)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

/// Makes one step, and says how long to leave the lane alone.
fn step(custody: &Custody, metrics: &Metrics) -> Duration {
    let begun = Instant::now();
    let Some(vault) = custody.open().filter(|vault| vault.health() == Health::Serving) else {
        return IDLE;
    };
    let stepped = vault.rewrap_step(custody.now(), &mut SystemEntropy::new());
    // Copies of the values it encrypted anew.
    wipe_stack();
    match stepped {
        Ok(None) => return IDLE,
        Ok(Some(progress)) => tell(&progress, metrics),
        // The store is away, which the keeper tells.
        Err(Error::Unavailable(_)) => return IDLE,
        Err(error) => {
            metrics.alarm();
            tracing::error!(event = "rewrap_failed", reason = error.reason());
            return IDLE;
        }
    }
    (begun.elapsed() * PAUSES_A_STEP).max(PAUSE_MIN)
}

/// Tells of the end alone.
fn tell(progress: &RewrapProgress, metrics: &Metrics) {
    if progress.phase != RewrapPhase::Done {
        return;
    }
    if progress.is_proven() {
        tracing::info!(event = "rewrap_finished", count = progress.rewrapped);
    } else {
        metrics.alarm();
        tracing::error!(event = "rewrap_left_rows", count = progress.left);
    }
}

impl Drop for Rewrapper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
