//! The lane: calls wait in order, one thread commits all that wait as a batch, one message a core answers
//! them.
//!
//! A call holds a [`Place`] from before it is prepared until its answer is back on its core, so that what
//! waits is bounded however fast calls come and on however many cores, and one identity never holds more than
//! a quarter. The deadline and a cancellation count until the lane takes the call: then it has no effect and
//! no entry. Once taken it runs to the end.

mod places;

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use vault_core::crypto::BulkEntropy;
use vault_core::error::{Error, State};
use vault_core::limits::COMMIT_ITEMS_MAX;
use vault_core::vault::{Outcome, Prepared};
use vault_guard::wipe_stack;

use crate::answers::{Desks, Ticket};
use crate::custody::Custody;
use crate::identity::Peer;
use crate::telemetry::Metrics;

pub(crate) use places::Share;
pub use places::{Place, Places};

/// A prepared call on its way to the lane.
pub struct Waiting {
    /// The call.
    pub prepared: Prepared,
    /// When nobody needs its answer any more.
    pub deadline: Instant,
    /// Its share of the lane.
    pub place: Place,
}

/// What comes back.
pub struct Answer {
    /// The call's outcome.
    pub outcome: Outcome,
    /// Given back when the call has its answer, or the answer has no call any more.
    pub place: Place,
}

/// The calls that wait for the next commit.
struct Queue {
    calls: Mutex<VecDeque<(Ticket, Waiting)>>,
    ready: Condvar,
    /// Calls not yet answered, the ones being committed included.
    unanswered: AtomicUsize,
    stopping: AtomicBool,
}

/// The lane and its thread.
pub struct Lane {
    queue: Arc<Queue>,
    desks: Desks<Waiting, Answer>,
    places: Arc<Places>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Lane {
    /// Starts the lane's thread for the calls of so many cores.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(cores: usize, custody: Arc<Custody>, metrics: Arc<Metrics>) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Queue {
            calls: Mutex::default(),
            ready: Condvar::new(),
            unanswered: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        let asked = Arc::clone(&queue);
        let desks = Desks::new(cores, move |questions| asked.push(questions));
        let committer = Committer {
            queue: Arc::clone(&queue),
            desks: desks.clone(),
            custody,
            metrics,
            entropy: BulkEntropy::new(),
        };
        let thread = std::thread::Builder::new().name("lane".into()).spawn(move || committer.run())?;
        Ok(Arc::new(Self { queue, desks, places: Places::new(), thread: Mutex::new(Some(thread)) }))
    }

    /// The desks of the cores.
    pub const fn desks(&self) -> &Desks<Waiting, Answer> {
        &self.desks
    }

    /// A place for a call of so many items; `None` when the lane, or its caller's quarter of it, is full.
    pub fn take_place(&self, peer: &Arc<Peer>, items: usize) -> Option<Place> {
        self.places.take(peer, items)
    }

    /// Whether calls wait or are being committed.
    pub fn is_busy(&self) -> bool {
        self.queue.unanswered.load(Ordering::Acquire) > 0
    }

    /// Ends the thread after what it has.
    pub fn stop(&self) {
        self.queue.stopping.store(true, Ordering::Release);
        self.queue.ready.notify_all();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn push(&self, questions: Vec<(Ticket, Waiting)>) {
        self.unanswered.fetch_add(questions.len(), Ordering::AcqRel);
        lock(&self.calls).extend(questions);
        self.ready.notify_one();
    }

    /// Waits for calls and takes as many as fit one commit; `None` when the lane stops.
    fn take(&self) -> Option<Vec<(Ticket, Waiting)>> {
        let mut calls = lock(&self.calls);
        while calls.is_empty() {
            if self.stopping.load(Ordering::Acquire) {
                return None;
            }
            calls = self.ready.wait(calls).unwrap_or_else(PoisonError::into_inner);
        }
        let mut items = 0;
        let fits = |(_, waiting): &&(Ticket, Waiting)| {
            items += waiting.prepared.items() as usize;
            items <= COMMIT_ITEMS_MAX
        };
        // One call always fits: a batch has at most half of a commit's items.
        let count = calls.iter().take_while(fits).count().max(1);
        Some(calls.drain(..count).collect())
    }
}

/// The lane's thread.
struct Committer {
    queue: Arc<Queue>,
    desks: Desks<Waiting, Answer>,
    custody: Arc<Custody>,
    metrics: Arc<Metrics>,
    entropy: BulkEntropy,
}

impl Committer {
    fn run(mut self) {
        while let Some(taken) = self.queue.take() {
            let count = taken.len();
            self.answer(taken);
            wipe_stack(); // values that were released
            self.queue.unanswered.fetch_sub(count, Ordering::AcqRel);
        }
    }

    fn answer(&mut self, mut taken: Vec<(Ticket, Waiting)>) {
        self.desks.drop_cancelled(&mut taken);
        let now = Instant::now();
        let mut late = Vec::new();
        let mut calls = Vec::with_capacity(taken.len());
        let mut askers = Vec::with_capacity(taken.len());
        for (ticket, Waiting { prepared, deadline, place }) in taken {
            if deadline <= now {
                late.push((ticket, Answer { outcome: Outcome::unrecorded(Error::DeadlineExceeded), place }));
            } else {
                calls.push(prepared);
                askers.push((ticket, place));
            }
        }
        let outcomes = self.commit(&calls);
        let answers = askers.into_iter().zip(outcomes);
        late.extend(answers.map(|((ticket, place), outcome)| (ticket, Answer { outcome, place })));
        self.desks.deliver(late);
    }

    fn commit(&mut self, calls: &[Prepared]) -> Vec<Outcome> {
        if calls.is_empty() {
            return Vec::new();
        }
        let begun = Instant::now();
        let outcomes = match self.custody.open() {
            Some(vault) => vault.commit(calls, &mut self.entropy),
            None => calls.iter().map(|_| Outcome::unrecorded(Error::State(State::Sealed))).collect(),
        };
        self.metrics.committed(calls.len(), begun.elapsed());
        outcomes
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
