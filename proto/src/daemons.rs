//! The daemons of one vault as one: calls go round, and pass by a daemon that is away.
//!
//! Any daemon of a vault gives the same answers, so a call that one did not answer may be made to the next.
//! Whether it may also be made *twice* is for the caller to say ([`Repeat`]): a daemon that dies may have
//! carried out what it never answered.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::connect::{ConnectError, Connector};
use crate::reason::{reason, retry_after};

/// How long a daemon that did not answer is passed by while another one answers.
const AWAY: Duration = Duration::from_secs(5);
/// The first pause after nobody answered; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Whether a call may be carried out twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// It changes nothing, or has an idempotency key: it is repeated whenever it has no answer.
    Freely,
    /// It is repeated only where it is certain that it was not carried out.
    IfUndone,
}

/// How a call is made.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Whether it may be carried out twice.
    pub repeat: Repeat,
    /// How long one daemon may take.
    pub attempt: Duration,
    /// How long daemons that do not answer are asked again. Zero asks each once.
    pub within: Duration,
}

/// All daemons of one vault, as one principal. To be kept: each has one connection, made at its first call
/// and again by itself when it is lost.
pub struct Daemons {
    daemons: Vec<Daemon>,
    /// Whose turn it is: from a random one on, so that many clients do not all begin at the first.
    turn: AtomicUsize,
    since: Instant,
}

struct Daemon {
    channel: Channel,
    /// Passed by until then, in milliseconds since the beginning.
    away_until: AtomicU64,
}

/// What a refusal means for the daemons that were not asked.
#[derive(Debug, Eq, PartialEq)]
enum Refused {
    /// Every daemon would say the same.
    Everywhere,
    /// Every daemon would say the same now, and another thing later.
    ForAWhile,
    /// This daemon alone; whether it did what was asked is certain (`undone`) or not.
    Here { undone: bool },
}

impl Daemons {
    /// The daemons that these connectors lead to. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ConnectError::EndpointMalformed`], also for no connector at all.
    pub fn new(connectors: &[Connector]) -> Result<Self, ConnectError> {
        let daemon = |connector: &Connector| {
            Ok(Daemon { channel: connector.connect_lazy()?, away_until: AtomicU64::new(0) })
        };
        let daemons: Vec<_> = connectors.iter().map(daemon).collect::<Result<_, ConnectError>>()?;
        let first = random().checked_rem(daemons.len() as u64).ok_or(ConnectError::EndpointMalformed)?;
        Ok(Self { daemons, turn: AtomicUsize::new(first as usize), since: Instant::now() })
    }

    /// Makes a call to the daemon whose turn it is, and to the others where that one does not answer: because
    /// it is not reached, sealed, without its store, busy, or says that it does not know the outcome. After a
    /// round without an answer it waits, as long as the vault asks for or a little longer each time, and goes
    /// round again. A quota is waited for where its time is within the terms.
    ///
    /// Under [`Repeat::Freely`] a `Tokenize` needs an idempotency key, the same in every attempt.
    ///
    /// # Errors
    /// The refusal that no other daemon mends, or the last one; without a reason where there was no answer.
    pub async fn call<T, F: Future<Output = Result<T, Status>>>(
        &self,
        terms: Terms,
        call: impl Fn(Channel) -> F,
    ) -> Result<T, Status> {
        let end = Instant::now() + terms.within;
        let mut pause = PAUSE_MIN;
        loop {
            let status = match self.go_round(terms, &call).await {
                Ok(answer) => return Ok(answer),
                Err((Refused::Everywhere, status)) => return Err(status),
                Err((Refused::Here { undone: false }, status)) if terms.repeat == Repeat::IfUndone => {
                    return Err(status);
                }
                Err((_, status)) => status,
            };
            // At random, so that clients that failed together do not come back together.
            let wait = retry_after(&status).unwrap_or_default() + pause.mul_f64(fraction());
            if Instant::now() + wait >= end {
                return Err(status);
            }
            sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Asks one daemon after the other until one answers, or says what all would say.
    async fn go_round<T, F: Future<Output = Result<T, Status>>>(
        &self,
        terms: Terms,
        call: &impl Fn(Channel) -> F,
    ) -> Result<T, (Refused, Status)> {
        let mut last = (Refused::Everywhere, Status::unavailable("there is no daemon"));
        for daemon in self.in_turn() {
            let answer = timeout(terms.attempt, call(daemon.channel.clone())).await;
            let status = match answer {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer in time"),
            };
            let refused = Refused::of(&status);
            let Refused::Here { undone } = refused else { return Err((refused, status)) };
            daemon.away_until.store(self.millis(Instant::now() + AWAY), Ordering::Relaxed);
            last = (refused, status);
            if !undone && terms.repeat == Repeat::IfUndone {
                break;
            }
        }
        Err(last)
    }

    /// Each daemon once, from the one whose turn it is, those that were away last.
    fn in_turn(&self) -> impl Iterator<Item = &Daemon> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let now = self.millis(Instant::now());
        let round = move |away: bool| {
            let from_first = self.daemons.iter().cycle().skip(first % self.daemons.len().max(1));
            from_first
                .take(self.daemons.len())
                .filter(move |daemon| (daemon.away_until.load(Ordering::Relaxed) > now) == away)
        };
        let here: Vec<_> = round(false).chain(round(true)).collect();
        here.into_iter()
    }

    fn millis(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.since).as_millis() as u64
    }
}

impl Refused {
    fn of(status: &Status) -> Self {
        match (reason(status).as_deref(), status.code()) {
            (Some("SEALED" | "STORE" | "BUSY"), _) => Self::Here { undone: true },
            // Given only for a call without any effect.
            (Some("DEADLINE_EXCEEDED"), _) => Self::Here { undone: true },
            (Some("OUTCOME_UNKNOWN"), _) => Self::Here { undone: false },
            (Some("QUOTA"), _) => Self::ForAWhile,
            (Some(_), _) => Self::Everywhere,
            (None, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown) => {
                Self::Here {
                    undone: ConnectError::of(status).is_some_and(|error| error.is_before_any_call()),
                }
            }
            (None, _) => Self::Everywhere,
        }
    }
}

/// One of 0.5 to 1.
fn fraction() -> f64 {
    0.5 + (random() >> 32) as f64 / 2_f64.powi(33)
}

/// 64 bits that differ from process to process and from call to call. Nothing secret hangs on them.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn refused(code: Code, reason: &str) -> Refused {
        let details = ErrorDetails::with_error_info(reason, crate::ERROR_DOMAIN, HashMap::new());
        Refused::of(&Status::with_error_details(code, "", details))
    }

    #[test]
    fn what_one_daemon_lacks_another_may_have() {
        let undone = Refused::Here { undone: true };
        assert_eq!(refused(Code::FailedPrecondition, "SEALED"), undone);
        assert_eq!(refused(Code::Unavailable, "STORE"), undone);
        assert_eq!(refused(Code::ResourceExhausted, "BUSY"), undone);
        assert_eq!(refused(Code::Unavailable, "OUTCOME_UNKNOWN"), Refused::Here { undone: false });
        assert_eq!(Refused::of(&Status::unavailable("")), Refused::Here { undone: false });
        assert_eq!(Refused::of(&Status::deadline_exceeded("")), Refused::Here { undone: false });
    }

    #[test]
    fn what_all_would_say_is_said() {
        assert_eq!(refused(Code::ResourceExhausted, "QUOTA"), Refused::ForAWhile);
        assert_eq!(refused(Code::InvalidArgument, "PAN_LUHN"), Refused::Everywhere);
        assert_eq!(refused(Code::PermissionDenied, "DENIED"), Refused::Everywhere);
        assert_eq!(Refused::of(&Status::out_of_range("")), Refused::Everywhere);
    }

    #[test]
    fn pauses_differ_and_stay_within_their_half() {
        let drawn: Vec<f64> = (0..100).map(|_| fraction()).collect();
        assert!(drawn.iter().all(|fraction| (0.5..1.0).contains(fraction)), "{drawn:?}");
        assert!(drawn.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
