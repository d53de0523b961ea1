//! One call: identity, state, a place in the lane, prepare, wait for the commit.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tonic::{Request, Response, Status};
use vault_core::audit::Receipt;
use vault_core::crypto::BulkEntropy;
use vault_core::error::{Error, Exhausted, Invalid};
use vault_core::policy::Identity;
use vault_core::vault::{Reply, Request as Ask};

use crate::answers::Desk;
use crate::config::DeadlinesConfig;
use crate::custody::Custody;
use crate::identity::Peer;
use crate::lane::{Answer, Lane, Waiting};
use crate::telemetry::Metrics;

use super::status::{Refusal, status};

thread_local! {
    /// Each core draws its own randomness, in bulk.
    static ENTROPY: RefCell<BulkEntropy> = RefCell::new(BulkEntropy::new());
}

/// What every service of one core needs. Cloning is cheap.
#[derive(Clone)]
pub struct Calls {
    pub(super) custody: Arc<Custody>,
    pub(super) lane: Arc<Lane>,
    desk: Desk<Waiting, Answer>,
    pub(super) metrics: Arc<Metrics>,
    deadlines: Deadlines,
}

/// How long a call may wait for the lane.
#[derive(Clone, Copy)]
pub struct Deadlines {
    unary: Duration,
    batch: Duration,
    max: Duration,
}

impl From<&DeadlinesConfig> for Deadlines {
    fn from(config: &DeadlinesConfig) -> Self {
        Self { unary: config.unary_default, batch: config.batch_default, max: config.max }
    }
}

impl Deadlines {
    /// What the caller stated, within bounds, or the default.
    fn of(self, ask: &Ask, stated: Option<Duration>) -> Duration {
        let default = if ask.items() > 1 { self.batch } else { self.unary };
        stated.unwrap_or(default).min(self.max)
    }
}

impl Calls {
    /// The calls of one core; made on that core, inside its runtime.
    pub fn on_core(
        core: usize,
        custody: Arc<Custody>,
        lane: Arc<Lane>,
        metrics: Arc<Metrics>,
        deadlines: Deadlines,
    ) -> Self {
        let desk = lane.desks().open(core);
        Self { custody, lane, desk, metrics, deadlines }
    }

    /// An RPC that is done when its entry is durable: checks a message into a core request, has it decided
    /// and committed, and gives the reply with its receipts.
    pub(super) async fn call<M>(
        &self,
        rpc: &'static str,
        request: Request<M>,
        ask: impl FnOnce(M) -> Result<Ask, Invalid>,
    ) -> Result<(Reply, Vec<Receipt>), Status> {
        let begun = Instant::now();
        let answered = self.entered(request, ask).await;
        self.count(rpc, refused(&answered).map(Error::reason), met_damage(&answered), begun);
        answered.map_err(|error| status(&error))
    }

    /// An RPC that does more than what is entered, before or after: counted by how it ends.
    pub(super) async fn counted<T>(
        &self,
        rpc: &'static str,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Response<T>, Status> {
        let begun = Instant::now();
        let done = work.await;
        let refused = done.as_ref().err().map(Refusal::reason);
        self.count(rpc, refused, refused == Some(Error::Corrupt.reason()), begun);
        done.map(Response::new).map_err(|refusal| refusal.status())
    }

    fn count(&self, rpc: &'static str, refused: Option<&'static str>, damage: bool, begun: Instant) {
        self.metrics.called(rpc, refused, begun.elapsed());
        if damage {
            self.metrics.alarm();
            tracing::error!(event = "stored_data_damaged", rpc);
        }
    }

    /// Has a call decided and committed.
    pub(super) async fn entered<M>(
        &self,
        request: Request<M>,
        ask: impl FnOnce(M) -> Result<Ask, Invalid>,
    ) -> Result<(Reply, Vec<Receipt>), Error> {
        let waiting = self.waiting(request, ask)?;
        let (result, receipts) = self.desk.ask(waiting).await.outcome.into_parts();
        result.map(|reply| (reply, receipts))
    }

    /// Everything before the lane: nothing here waits.
    fn waiting<M>(
        &self,
        request: Request<M>,
        ask: impl FnOnce(M) -> Result<Ask, Invalid>,
    ) -> Result<Waiting, Error> {
        // Sealed or suspended: refused before a value is parsed.
        let vault = self.custody.vault()?;
        let stated = timeout(&request);
        let peer = request.extensions().get::<Arc<Peer>>().cloned().ok_or(Error::Denied)?;
        let caller = peer.identity().ok_or(Error::Denied)?;
        let ask = ask(request.into_inner())?;
        let deadline = Instant::now() + self.deadlines.of(&ask, stated);
        let place = self.lane.take_place(&peer, ask.items()).ok_or(Error::Exhausted(Exhausted::Busy))?;
        let now = self.custody.now();
        let prepared = ENTROPY.with_borrow_mut(|entropy| vault.prepare(caller, ask, now, entropy));
        Ok(Waiting { prepared, deadline, place })
    }
}

/// Why a call is refused: as a whole, or in the one item it has.
fn refused(answered: &Result<(Reply, Vec<Receipt>), Error>) -> Option<&Error> {
    match answered.as_ref().map(|(reply, _)| reply) {
        Err(error) => Some(error),
        Ok(Reply::Tokenized(verdicts)) if verdicts.len() == 1 => verdicts.first()?.as_ref().err(),
        Ok(Reply::Detokenized(verdicts)) if verdicts.len() == 1 => verdicts.first()?.as_ref().err(),
        Ok(_) => None,
    }
}

/// Whether stored data did not authenticate, for the call or for one of its items.
fn met_damage(answered: &Result<(Reply, Vec<Receipt>), Error>) -> bool {
    match answered.as_ref().map(|(reply, _)| reply) {
        Err(error) => *error == Error::Corrupt,
        Ok(Reply::Tokenized(verdicts)) => verdicts.contains(&Err(Error::Corrupt)),
        Ok(Reply::Detokenized(verdicts)) => {
            verdicts.iter().any(|verdict| verdict.as_ref().is_err_and(|error| *error == Error::Corrupt))
        }
        Ok(_) => false,
    }
}

/// The identity of a call's certificate.
pub(super) fn caller<M>(request: &Request<M>) -> Result<Identity, Error> {
    let peer = request.extensions().get::<Arc<Peer>>().ok_or(Error::Denied)?;
    peer.identity().cloned().ok_or(Error::Denied)
}

/// The only verdict of a single call.
pub(super) fn one<T>(verdicts: Vec<Result<T, Error>>) -> Result<T, Status> {
    let verdict = verdicts.into_iter().next().unwrap_or(Err(Error::Bug));
    verdict.map_err(|error| status(&error))
}

/// The caller's own deadline (`grpc-timeout`, gRPC over HTTP/2): at most 8 digits and a unit.
fn timeout<M>(request: &Request<M>) -> Option<Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3_600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}
