//! The answer path: calls of one core go to the lane together, and its answers come back together.
//!
//! A wake-up across threads costs a system call and, at the far end, a small TLS record of its own. A channel
//! per call pays that per call; this desk pays it **once per core and commit**, which halves the server's
//! CPU.
//!
//! ```text
//! core 0:  call ─ask─┐                      ┌─▶ submit(Vec<(Ticket, T)>) ─▶ lane
//!          call ─ask─┼▶ outbox ─▶ flusher ──┘   once per tick                 │ one commit
//!          call ◀────┴─ slots ◀── dispatcher ◀── mailbox ◀── deliver(Vec<(Ticket, R)>)
//!                                                one message, one wake per core
//! ```
//!
//! ```ignore
//! let desks = Desks::new(cores, move |questions: Vec<(Ticket, T)>| lane.push(questions));   // once
//! let desk: Desk<T, R> = desks.open(core);        // on each core, inside its runtime
//! let answer: R = desk.ask(question).await;       // in a call
//! desks.drop_cancelled(&mut questions);           // lane: when it takes them
//! desks.deliver(answers);                         // lane: Vec<(Ticket, R)>, once per commit
//! ```
//!
//! - `submit` runs on the core's own thread, outside every lock; it may block the core as long as it likes to
//!   (a commit made inline) and may call [`Desks::deliver`] itself.
//! - A call that is cancelled before its question is flushed has no effect at all; until the lane takes the
//!   question, [`Desks::drop_cancelled`] still finds it out. Later its answer is dropped on arrival, so `R`
//!   must wipe itself on drop where it holds a value.
//! - The lane answers every ticket it took, sooner or later: an unanswered call waits for ever.
//! - Bounded by what feeds it: a slot is one call under way, and calls are bounded per connection,
//!   connections by the server.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};

/// Names one waiting call: which core, which slot, and which use of that slot.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Ticket {
    core: u32,
    slot: u32,
    generation: u32,
}

/// The desks of all cores: the lane's end. Cheap to clone.
pub struct Desks<T, R> {
    shared: Arc<Shared<T, R>>,
}

/// One core's desk: the calls' end. Cheap to clone.
pub struct Desk<T, R> {
    shared: Arc<Shared<T, R>>,
    core: usize,
}

/// A call waiting for its answer; dropping it cancels. Asks when first polled.
#[must_use = "futures do nothing unless polled"]
pub struct Pending<T, R> {
    desk: Desk<T, R>,
    step: Step<T>,
}

enum Step<T> {
    Unasked(T),
    Asked(Ticket),
    Done,
}

// Nothing inside is ever pinned.
impl<T, R> Unpin for Pending<T, R> {}

type Questions<T> = Vec<(Ticket, T)>;
type Submit<T> = dyn Fn(Questions<T>) + Send + Sync;

struct Shared<T, R> {
    cores: Vec<CoreDesk<T, R>>,
    submit: Box<Submit<T>>,
    wakes: AtomicU64,
}

/// Its locks are taken by the core's own thread, and once per commit and core by the lane's.
struct CoreDesk<T, R> {
    slots: Mutex<Slots<T, R>>,
    mailbox: Mutex<Mailbox<R>>,
}

struct Slots<T, R> {
    slots: Vec<Slot<R>>,
    free: Vec<u32>,
    outbox: Vec<(Ticket, T)>,
    /// A question in the outbox may belong to nobody any more.
    cancelled: bool,
    flusher: Option<Waker>,
    thread: Option<ThreadId>,
}

struct Slot<R> {
    generation: u32,
    state: State<R>,
}

enum State<R> {
    Free,
    Waiting(Waker),
    Answered(R),
}

struct Mailbox<R> {
    letters: VecDeque<Vec<(Ticket, R)>>,
    dispatcher: Option<Waker>,
}

impl<T, R> Desks<T, R>
where
    T: Send + 'static,
    R: Send + 'static,
{
    /// Desks for so many cores (at least 1). `submit` gets what one core asked during one tick.
    pub fn new(cores: usize, submit: impl Fn(Vec<(Ticket, T)>) + Send + Sync + 'static) -> Self {
        let cores = (0..cores.max(1)).map(|_| CoreDesk::new()).collect();
        Self { shared: Arc::new(Shared { cores, submit: Box::new(submit), wakes: AtomicU64::new(0) }) }
    }

    /// The desk of one core (`core` modulo the number of cores). Call it once per core, on the core's thread
    /// and inside its runtime: it spawns the flusher and the dispatcher there.
    pub fn open(&self, core: usize) -> Desk<T, R> {
        let core = core % self.shared.cores.len();
        let desk = Desk { shared: Arc::clone(&self.shared), core };
        if let Some(mut slots) = desk.slots() {
            slots.thread = Some(thread::current().id());
        }
        drop(tokio::spawn(flush(desk.clone())));
        drop(tokio::spawn(dispatch(desk.clone())));
        desk
    }

    /// Hands over the answers of one commit: one message and at most one wake per core. On the core's own
    /// thread the calls are completed at once, without any.
    pub fn deliver(&self, answers: Vec<(Ticket, R)>) {
        let Some(first) = answers.first().map(|(ticket, _)| ticket.core) else { return };
        if answers.iter().all(|(ticket, _)| ticket.core == first) {
            return self.deliver_to(first, answers);
        }
        let mut split: Vec<Vec<(Ticket, R)>> = self.shared.cores.iter().map(|_| Vec::new()).collect();
        for (ticket, answer) in answers {
            if let Some(core) = split.get_mut(ticket.core as usize) {
                core.push((ticket, answer));
            }
        }
        for (core, answers) in (0..).zip(split) {
            if !answers.is_empty() {
                self.deliver_to(core, answers);
            }
        }
    }

    fn deliver_to(&self, core: u32, answers: Vec<(Ticket, R)>) {
        let Some(desk) = self.shared.cores.get(core as usize) else { return };
        let here = desk.slots().thread == Some(thread::current().id());
        if here {
            return desk.complete(answers);
        }
        let dispatcher = {
            let mut mailbox = desk.mailbox();
            mailbox.letters.push_back(answers);
            mailbox.dispatcher.take()
        };
        // No waker: the dispatcher was woken by an earlier letter and has yet to look.
        if let Some(dispatcher) = dispatcher {
            self.shared.wakes.fetch_add(1, Ordering::Relaxed);
            dispatcher.wake();
        }
    }

    /// Drops the questions whose calls were cancelled meanwhile. The lane asks when it takes questions: until
    /// then a cancelled call has no effect and no entry.
    pub fn drop_cancelled(&self, questions: &mut Vec<(Ticket, T)>) {
        for (core, desk) in (0..).zip(&self.shared.cores) {
            let mut gone = Vec::new();
            {
                let slots = desk.slots();
                let ours = |ticket: &Ticket| ticket.core == core;
                gone.extend(questions.extract_if(.., |(ticket, _)| ours(ticket) && !slots.waits(*ticket)));
            }
        }
    }

    /// Wakes of a core by another thread since the start: each costs a write to an eventfd.
    pub fn wakes(&self) -> u64 {
        self.shared.wakes.load(Ordering::Relaxed)
    }
}

impl<T, R> Desk<T, R> {
    /// Asks the lane, together with everything else this core asks during this tick.
    pub fn ask(&self, question: T) -> Pending<T, R> {
        Pending { desk: self.clone(), step: Step::Unasked(question) }
    }

    fn core(&self) -> Option<&CoreDesk<T, R>> {
        self.shared.cores.get(self.core)
    }

    fn slots(&self) -> Option<MutexGuard<'_, Slots<T, R>>> {
        self.core().map(CoreDesk::slots)
    }

    fn register(&self, question: T, waker: &Waker) -> Option<Ticket> {
        let core = u32::try_from(self.core).ok()?;
        let mut slots = self.slots()?;
        let ticket = slots.occupy(core, waker.clone())?;
        slots.outbox.push((ticket, question));
        let flusher = slots.flusher.take();
        drop(slots);
        if let Some(flusher) = flusher {
            flusher.wake();
        }
        Some(ticket)
    }
}

impl<T, R> Future for Pending<T, R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<R> {
        match mem::replace(&mut self.step, Step::Done) {
            Step::Unasked(question) => {
                if let Some(ticket) = self.desk.register(question, cx.waker()) {
                    self.step = Step::Asked(ticket);
                }
                Poll::Pending
            }
            Step::Asked(ticket) => {
                let answer = self.desk.slots().and_then(|mut slots| slots.collect(ticket, cx.waker()));
                match answer {
                    Some(answer) => Poll::Ready(answer),
                    None => {
                        self.step = Step::Asked(ticket);
                        Poll::Pending
                    }
                }
            }
            Step::Done => Poll::Pending,
        }
    }
}

impl<T, R> Drop for Pending<T, R> {
    fn drop(&mut self) {
        if let Step::Asked(ticket) = self.step {
            // The answer, if it is already here, is dropped after the lock.
            let state = self.desk.slots().and_then(|mut slots| slots.cancel(ticket));
            drop(state);
        }
    }
}

impl<T, R> CoreDesk<T, R> {
    fn new() -> Self {
        Self {
            slots: Mutex::new(Slots {
                slots: Vec::new(),
                free: Vec::new(),
                outbox: Vec::new(),
                cancelled: false,
                flusher: None,
                thread: None,
            }),
            mailbox: Mutex::new(Mailbox { letters: VecDeque::new(), dispatcher: None }),
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots<T, R>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mailbox(&self) -> MutexGuard<'_, Mailbox<R>> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts answers into their slots, then wakes their calls. Late answers are dropped.
    fn complete(&self, answers: Vec<(Ticket, R)>) {
        let mut wakers = Vec::with_capacity(answers.len());
        let mut late = Vec::new();
        {
            let mut slots = self.slots();
            for (ticket, answer) in answers {
                match slots.answer(ticket, answer) {
                    Ok(waker) => wakers.push(waker),
                    Err(answer) => late.push(answer),
                }
            }
        }
        for waker in wakers {
            waker.wake();
        }
    }
}

impl<T, R> Slots<T, R> {
    /// `None` only beyond four billion calls at once.
    fn occupy(&mut self, core: u32, waker: Waker) -> Option<Ticket> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len()).ok()?;
                self.slots.push(Slot { generation: 0, state: State::Free });
                slot
            }
        };
        let entry = self.slots.get_mut(slot as usize)?;
        entry.state = State::Waiting(waker);
        Some(Ticket { core, slot, generation: entry.generation })
    }

    fn slot(&mut self, ticket: Ticket) -> Option<&mut Slot<R>> {
        self.slots.get_mut(ticket.slot as usize).filter(|slot| slot.generation == ticket.generation)
    }

    fn waits(&self, ticket: Ticket) -> bool {
        self.slots.get(ticket.slot as usize).is_some_and(|slot| slot.generation == ticket.generation)
    }

    /// Gives the answer back when nobody waits for it.
    fn answer(&mut self, ticket: Ticket, answer: R) -> Result<Waker, R> {
        match self.slot(ticket) {
            Some(slot) if matches!(slot.state, State::Waiting(_)) => {
                match mem::replace(&mut slot.state, State::Answered(answer)) {
                    State::Waiting(waker) => Ok(waker),
                    State::Free | State::Answered(_) => Ok(Waker::noop().clone()),
                }
            }
            _ => Err(answer),
        }
    }

    /// The answer if it is here; else remembers whom to wake.
    fn collect(&mut self, ticket: Ticket, waker: &Waker) -> Option<R> {
        let slot = self.slot(ticket)?;
        if let State::Waiting(known) = &mut slot.state {
            known.clone_from(waker);
            return None;
        }
        match self.release(ticket)? {
            State::Answered(answer) => Some(answer),
            State::Free | State::Waiting(_) => None,
        }
    }

    fn cancel(&mut self, ticket: Ticket) -> Option<State<R>> {
        let state = self.release(ticket)?;
        self.cancelled |= matches!(state, State::Waiting(_));
        Some(state)
    }

    /// Ends this use of the slot: whatever still comes for it is late.
    fn release(&mut self, ticket: Ticket) -> Option<State<R>> {
        let slot = self.slot(ticket)?;
        slot.generation = slot.generation.wrapping_add(1);
        let state = mem::replace(&mut slot.state, State::Free);
        self.free.push(ticket.slot);
        Some(state)
    }

    /// What was asked and not cancelled since the last flush, and what was cancelled.
    fn take_outbox(&mut self) -> (Questions<T>, Questions<T>) {
        let room = Vec::with_capacity(self.outbox.len());
        let outbox = mem::replace(&mut self.outbox, room);
        if !mem::take(&mut self.cancelled) {
            return (outbox, Vec::new());
        }
        outbox.into_iter().partition(|(ticket, _)| self.waits(*ticket))
    }
}

/// Submits what a core asked, once per tick, for as long as its runtime lives.
async fn flush<T, R>(desk: Desk<T, R>) {
    loop {
        asked(&desk).await;
        one_lap().await;
        let Some((questions, cancelled)) = desk.slots().map(|mut slots| slots.take_outbox()) else { return };
        drop(cancelled);
        if !questions.is_empty() {
            (desk.shared.submit)(questions);
        }
    }
}

/// Waits until something is in the outbox.
async fn asked<T, R>(desk: &Desk<T, R>) {
    std::future::poll_fn(|cx| {
        let Some(mut slots) = desk.slots() else { return Poll::Pending };
        if slots.outbox.is_empty() {
            slots.flusher = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

/// Lets every task that is ready now run before this one goes on: they may have something to ask, too.
async fn one_lap() {
    let mut waited = false;
    std::future::poll_fn(|cx| {
        if mem::replace(&mut waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Completes calls from the mailbox, for as long as the core's runtime lives.
async fn dispatch<T, R>(desk: Desk<T, R>) {
    loop {
        let answers = letter(&desk).await;
        if let Some(core) = desk.core() {
            core.complete(answers);
        }
    }
}

async fn letter<T, R>(desk: &Desk<T, R>) -> Vec<(Ticket, R)> {
    std::future::poll_fn(|cx| {
        let Some(core) = desk.core() else { return Poll::Pending };
        let mut mailbox = core.mailbox();
        match mailbox.letters.pop_front() {
            Some(letter) => Poll::Ready(letter),
            None => {
                mailbox.dispatcher = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

impl<T, R> Clone for Desks<T, R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T, R> Clone for Desk<T, R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), core: self.core }
    }
}

impl<T, R> fmt::Debug for Desks<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desks").field("cores", &self.shared.cores.len()).finish_non_exhaustive()
    }
}

impl<T, R> fmt::Debug for Desk<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("core", &self.core).finish_non_exhaustive()
    }
}

impl<T, R> fmt::Debug for Pending<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").field("core", &self.desk.core).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "tests may stop loudly"
    )]

    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::task::Wake;
    use std::time::Duration;

    use tokio::task::{JoinSet, yield_now};

    use super::*;

    type Asked = Arc<Mutex<Vec<Vec<(Ticket, u64)>>>>;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    /// Desks whose questions only pile up; the test plays the lane.
    fn idle_lane<R: Send + 'static>(cores: usize) -> (Desks<u64, R>, Asked) {
        let asked = Asked::default();
        let lane = Arc::clone(&asked);
        (Desks::new(cores, move |questions| lane.lock().unwrap().push(questions)), asked)
    }

    fn all(asked: &Asked) -> Vec<(Ticket, u64)> {
        asked.lock().unwrap().drain(..).flatten().collect()
    }

    async fn settle() {
        for _ in 0..10 {
            yield_now().await;
        }
    }

    #[test]
    fn a_tick_is_submitted_once_and_answered_in_any_order() {
        let (desks, asked) = idle_lane::<u64>(1);
        runtime().block_on(async {
            let desk = desks.open(0);
            let mut calls = JoinSet::new();
            for n in 0..100 {
                let desk = desk.clone();
                calls.spawn(async move { (n, desk.ask(n).await) });
            }
            settle().await;
            assert_eq!(asked.lock().unwrap().len(), 1, "one submit for the whole tick");
            let mut answers: Vec<_> = all(&asked).into_iter().map(|(ticket, n)| (ticket, n * 7)).collect();
            answers.reverse();
            desks.deliver(answers);
            let mut seen = 0;
            while let Some(call) = calls.join_next().await {
                let (n, answer) = call.unwrap();
                assert_eq!(answer, n * 7);
                seen += 1;
            }
            assert_eq!(seen, 100);
        });
    }

    #[test]
    fn the_lanes_thread_wakes_each_core_at_most_once_per_commit() {
        const CALLS: u64 = 64;
        const ROUNDS: u64 = 50;
        let (to_lane, lane) = mpsc::channel::<Vec<(Ticket, u64)>>();
        let desks = Desks::new(2, move |questions| to_lane.send(questions).unwrap());
        let cores: Vec<_> = (0..2)
            .map(|core| {
                let desks = desks.clone();
                thread::spawn(move || {
                    runtime().block_on(async { rounds(desks.open(core), CALLS, ROUNDS).await });
                })
            })
            .collect();
        let mut commits = 0;
        let mut answered = 0;
        while answered < 2 * CALLS * ROUNDS {
            let mut questions = lane.recv_timeout(Duration::from_secs(20)).expect("a question is missing");
            questions.extend(lane.try_iter().flatten());
            answered += questions.len() as u64;
            commits += 1;
            desks.deliver(questions.into_iter().map(|(ticket, n)| (ticket, n + 1)).collect());
        }
        for core in cores {
            core.join().unwrap();
        }
        assert!(desks.wakes() > 0);
        assert!(desks.wakes() <= 2 * commits, "{} wakes for {commits} commits", desks.wakes());
        assert!(commits * 10 <= answered, "{commits} commits for {answered} calls: ticks are not collected");
    }

    async fn rounds(desk: Desk<u64, u64>, calls: u64, rounds: u64) {
        for round in 0..rounds {
            let mut waiting = JoinSet::new();
            for n in 0..calls {
                let desk = desk.clone();
                waiting.spawn(async move { assert_eq!(desk.ask(round * n).await, round * n + 1) });
            }
            while let Some(call) = waiting.join_next().await {
                call.unwrap();
            }
        }
    }

    #[derive(Default)]
    struct CountingWaker(AtomicUsize);

    impl Wake for CountingWaker {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn letters_before_the_dispatcher_looks_again_cost_one_wake() {
        let desks = Desks::<u64, u64>::new(1, |_| {});
        let desk = Desk { shared: Arc::clone(&desks.shared), core: 0 };
        let counting = Arc::new(CountingWaker::default());
        let waker = Waker::from(Arc::clone(&counting));
        let mut cx = Context::from_waker(&waker);
        let mut dispatcher = pin!(dispatch(desk.clone()));
        let mut call = pin!(desk.ask(1));
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(dispatcher.as_mut().poll(&mut cx).is_pending());
        let Step::Asked(ticket) = call.step else { panic!("asked") };
        let late = Ticket { generation: ticket.generation + 1, ..ticket };
        for _ in 0..5 {
            desks.deliver(vec![(late, 9)]);
        }
        desks.deliver(vec![(ticket, 2)]);
        assert_eq!(counting.0.load(Ordering::Relaxed), 1);
        assert_eq!(desks.wakes(), 1);
        assert!(dispatcher.as_mut().poll(&mut cx).is_pending());
        let answer = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(answer, Poll::Ready(2));
    }

    #[test]
    fn a_call_cancelled_before_the_flush_is_never_submitted() {
        let (desks, asked) = idle_lane::<u64>(1);
        runtime().block_on(async {
            let desk = desks.open(0);
            let mut kept = pin!(desk.ask(1));
            let mut dropped = Box::pin(desk.ask(2));
            assert!(poll_once(kept.as_mut()).await.is_pending());
            assert!(poll_once(dropped.as_mut()).await.is_pending());
            drop(dropped);
            settle().await;
            let submitted = all(&asked);
            assert_eq!(submitted.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1]);
            desks.deliver(vec![(submitted[0].0, 10)]);
            assert_eq!(kept.await, 10);
        });
    }

    #[test]
    fn the_lane_finds_out_who_was_cancelled_after_the_flush() {
        let (desks, asked) = idle_lane::<u64>(2);
        runtime().block_on(async {
            let desk = desks.open(1);
            let mut kept = pin!(desk.ask(1));
            let mut dropped = Box::pin(desk.ask(2));
            assert!(poll_once(kept.as_mut()).await.is_pending());
            assert!(poll_once(dropped.as_mut()).await.is_pending());
            settle().await;
            let mut taken = all(&asked);
            assert_eq!(taken.len(), 2);
            drop(dropped);
            desks.drop_cancelled(&mut taken);
            assert_eq!(taken.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [1]);
            desks.deliver(vec![(taken[0].0, 5)]);
            assert_eq!(kept.await, 5);
        });
    }

    #[test]
    fn a_late_answer_is_dropped_and_never_reaches_the_next_user_of_its_slot() {
        let (desks, asked) = idle_lane::<Arc<str>>(1);
        runtime().block_on(async {
            let desk = desks.open(0);
            let mut first = Box::pin(desk.ask(1));
            assert!(poll_once(first.as_mut()).await.is_pending());
            settle().await;
            let old = all(&asked)[0].0;
            drop(first);

            let mut second = pin!(desk.ask(2));
            assert!(poll_once(second.as_mut()).await.is_pending());
            settle().await;
            let new = all(&asked)[0].0;
            assert_eq!((old.slot, old.core), (new.slot, new.core), "the slot is used again");

            let late: Arc<str> = Arc::from("late");
            desks.deliver(vec![(old, Arc::clone(&late))]);
            assert_eq!(Arc::strong_count(&late), 1, "a late answer is dropped at once");
            assert!(poll_once(second.as_mut()).await.is_pending());
            desks.deliver(vec![(new, Arc::from("right"))]);
            assert_eq!(&*second.await, "right");
        });
    }

    #[test]
    fn an_answer_that_arrived_but_was_never_collected_is_dropped_with_its_call() {
        let (desks, asked) = idle_lane::<Arc<str>>(1);
        runtime().block_on(async {
            let desk = desks.open(0);
            let mut call = Box::pin(desk.ask(1));
            assert!(poll_once(call.as_mut()).await.is_pending());
            settle().await;
            let answer: Arc<str> = Arc::from("value");
            desks.deliver(vec![(all(&asked)[0].0, Arc::clone(&answer))]);
            assert_eq!(Arc::strong_count(&answer), 2);
            drop(call);
            assert_eq!(Arc::strong_count(&answer), 1);
            let slots = desk.slots().unwrap();
            assert_eq!((slots.slots.len(), slots.free.len()), (1, 1), "the slot is free again");
        });
    }

    #[test]
    fn a_lane_may_answer_inline() {
        let back: Arc<Mutex<Option<Desks<u64, u64>>>> = Arc::default();
        let lane = Arc::clone(&back);
        let desks = Desks::new(1, move |questions: Vec<(Ticket, u64)>| {
            let desks = lane.lock().unwrap().clone().unwrap();
            desks.deliver(questions.into_iter().map(|(ticket, n)| (ticket, n * 2)).collect());
        });
        *back.lock().unwrap() = Some(desks.clone());
        runtime().block_on(async {
            let desk = desks.open(0);
            assert_eq!(desk.ask(21).await, 42);
        });
        assert_eq!(desks.wakes(), 0, "on the core's own thread nobody has to be woken");
        *back.lock().unwrap() = None;
    }

    async fn poll_once<F: Future + Unpin>(mut future: F) -> Poll<F::Output> {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx))).await
    }
}
