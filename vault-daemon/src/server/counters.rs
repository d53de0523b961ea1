//! What the server counts; telemetry reads it, nothing here decides anything.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::identity::Refused;

/// Counts of one server since its start. Everything but [`Counters::open`] only grows.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    accept_errors: AtomicU64,
    admitted: AtomicU64,
    open: AtomicU64,
    ended: [AtomicU64; Ending::ALL.len()],
    refused: Mutex<HashMap<Refused, u64>>,
}

/// Why an admitted connection ended; the label of the metric.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(usize)]
pub enum Ending {
    /// It reached its (jittered) age.
    Age,
    /// The client closed it, or it broke.
    Client,
    /// The server drains.
    Drain,
    /// No call for the idle time.
    Idle,
    /// The door no longer admits its peer: certificate, revocation or trust changed.
    NotAdmitted,
}

impl Ending {
    /// Every ending, in the order of its number.
    pub const ALL: [Self; 5] = [Self::Age, Self::Client, Self::Drain, Self::Idle, Self::NotAdmitted];

    /// The stable label, lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Client => "client",
            Self::Drain => "drain",
            Self::Idle => "idle",
            Self::NotAdmitted => "not_admitted",
        }
    }
}

impl Counters {
    /// TCP connections taken from the kernel, refused ones included.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Failed accepts (out of file descriptors and the like); the server goes on after a pause.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// Connections that passed handshake and door.
    pub fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Connections open now, handshakes included.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Admitted connections that ended this way.
    pub fn ended(&self, ending: Ending) -> u64 {
        self.ended.get(ending as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// Connections refused, by reason; reasons that never occurred are absent.
    pub fn refused(&self) -> HashMap<Refused, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn accept(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn accept_error(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn admit(&self) {
        self.admitted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self, ending: Ending) {
        if let Some(count) = self.ended.get(ending as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn refuse(&self, reason: Refused) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry(reason).or_default();
        *count = count.saturating_add(1);
    }
}
