//! The lane: calls wait in order, one thread commits all that wait as a batch, one message a core answers
//! them.
//!
//! A call holds a [`Place`] from before it is prepared until its answer is back on its core, so that what
//! waits is bounded however fast calls come, and one identity never holds more than a quarter. The deadline
//! and a cancellation count until the lane takes the call: then it has no effect and no entry. Once taken it
//! runs to the end.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use vault_core::crypto::BulkEntropy;
use vault_core::error::{Error, State};
use vault_core::limits::{BATCH_ITEMS_MAX, COMMIT_ITEMS_MAX, LANE_ITEMS_MAX};
use vault_core::policy::Identity;
use vault_core::vault::{Outcome, Prepared};

use crate::answers::{Desks, Ticket};
use crate::custody::Custody;
use crate::identity::Peer;
use crate::telemetry::Metrics;

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

/// Room in the lane for one core's calls.
pub struct Places {
    held: Mutex<Held>,
    items_max: usize,
    items_max_each: usize,
}

#[derive(Default)]
struct Held {
    items: usize,
    by_identity: HashMap<Identity, usize>,
}

/// A call's share of the lane; given back when dropped.
pub struct Place {
    places: Arc<Places>,
    peer: Arc<Peer>,
    items: usize,
}

impl Places {
    /// This core's part of the lane: its share, or at least room for a few batches.
    pub fn for_one_of(cores: usize) -> Arc<Self> {
        let items_max = (LANE_ITEMS_MAX / cores.max(1)).max(8 * BATCH_ITEMS_MAX);
        Arc::new(Self { held: Mutex::default(), items_max, items_max_each: items_max / 4 })
    }

    /// A place for a call of so many items; `None` when the lane, or this identity's quarter of it, is full.
    pub fn take(self: &Arc<Self>, peer: &Arc<Peer>, items: usize) -> Option<Place> {
        let identity = peer.identity()?;
        let mut held = lock(&self.held);
        let own = held.by_identity.get(identity).copied().unwrap_or(0);
        if held.items + items > self.items_max || own + items > self.items_max_each {
            return None;
        }
        held.items += items;
        match held.by_identity.get_mut(identity) {
            Some(own) => *own += items,
            None => drop(held.by_identity.insert(identity.clone(), items)),
        }
        drop(held);
        Some(Place { places: Arc::clone(self), peer: Arc::clone(peer), items })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = lock(&self.places.held);
        held.items -= self.items;
        let Some(identity) = self.peer.identity() else { return };
        if let Some(own) = held.by_identity.get_mut(identity) {
            *own -= self.items;
            if *own == 0 {
                held.by_identity.remove(identity);
            }
        }
    }
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
        Ok(Arc::new(Self { queue, desks, thread: Mutex::new(Some(thread)) }))
    }

    /// The desks of the cores.
    pub const fn desks(&self) -> &Desks<Waiting, Answer> {
        &self.desks
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
