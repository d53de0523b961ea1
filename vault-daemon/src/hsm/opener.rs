//! Opens a vault that an HSM alone seals, when the daemon starts and as soon as the HSM is there.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};

use vault_core::error::Error;
use vault_core::vault::UnsealError;

use crate::custody::{Custody, UnsealRefused};
use crate::limits::{HSM_PAUSE_MAX, HSM_PAUSE_MIN};
use crate::rpc::status::reason_of;
use crate::telemetry::Metrics;

/// The thread that tries. It ends when the vault is open, when trying again is of no use, or when this is
/// dropped.
pub(crate) struct Opener {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Opener {
    /// Starts trying.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(custody: Arc<Custody>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let open = move || open(&custody, &metrics, &stopped);
        let thread = thread::Builder::new().name("vaultd-hsm".to_owned()).spawn(open)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

fn open(custody: &Custody, metrics: &Metrics, stopped: &Receiver<()>) {
    let mut pause = HSM_PAUSE_MIN;
    loop {
        let Err(refused) = custody.unseal_unasked() else { return };
        let reason = reason_of(&refused);
        // Once for each reason: a token may be away for a week.
        if custody.stays_sealed_for(reason) {
            metrics.alarm();
            tracing::error!(event = "vault_stays_sealed", reason, "the vault does not open itself");
        }
        if !may_pass(&refused) {
            return;
        }
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        pause = HSM_PAUSE_MAX.min(pause * 2);
    }
}

/// Whether it may be over by itself. A wrong PIN never is, nor a keyring, a log or an anchor that does not
/// fit.
const fn may_pass(refused: &UnsealRefused) -> bool {
    match refused {
        UnsealRefused::Busy => true,
        UnsealRefused::Vault(error) => match error {
            UnsealError::Hsm(fault) => fault.may_pass(),
            UnsealError::Store(_) | UnsealError::Commit(Error::Unavailable(_)) => true,
            _ => false,
        },
        _ => false,
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
