//! The sessions of one handle: lent one at a time, all given up together when one commit's end is not known.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio_postgres::Statement;
use vault_core::crypto::sha256;
use vault_core::store::Fault;

use super::fault::{ConnectError, Failure};
use super::options::PostgresOptions;
use super::schema;
use super::session::{Answer, Parameters, Session};
use super::statements::{CLAIM, RAISE, Statements};
use crate::limits::{POSTGRES_CLAIM_PAUSE, POSTGRES_CLAIM_PAUSES_MAX};

/// What lets a commit through: the log it writes and the epoch in which this handle was opened.
pub(super) struct Fence<'a> {
    pub(super) log: &'a str,
    pub(super) epoch: i64,
}

/// A session with its statements prepared.
struct Ready {
    session: Session,
    statements: Statements,
}

/// The sessions.
pub(super) struct Pool {
    options: PostgresOptions,
    log: String,
    open: Mutex<Option<Open>>,
    returned: Condvar,
}

/// What one opening made. `None` in its place: the handle is poisoned.
struct Open {
    epoch: i64,
    /// With the server first that the claim was made at: one before it that is silent costs its time once,
    /// not for each session.
    options: PostgresOptions,
    idle: Vec<Ready>,
    /// Idle, and holding the claim on the log for as long as it lives.
    _claim: Session,
}

/// What a session is wanted for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Use {
    /// Commits and what is read for them, one after another: any session will do, and there is always one.
    Lane,
    /// Whatever runs beside the lane, any number at once: never the last session.
    Beside,
}

/// A session on loan; it goes back when dropped, unless the handle was poisoned meanwhile.
pub(super) struct Lent<'a> {
    pool: &'a Pool,
    epoch: i64,
    ready: Option<Ready>,
}

impl Pool {
    pub(super) fn open(options: PostgresOptions, log: &str) -> Result<Self, Fault> {
        let open = Mutex::new(Some(Open::new(&options, log)?));
        Ok(Self { options, log: log.to_owned(), open, returned: Condvar::new() })
    }

    /// Waits for a session. Everybody who holds one gives it back within the time of an answer.
    pub(super) fn lend(&self, use_of: Use) -> Result<Lent<'_>, Fault> {
        let mut open = self.lock();
        let left_to_others = match use_of {
            Use::Lane => 0,
            Use::Beside => 1,
        };
        loop {
            let Some(now) = open.as_mut() else {
                return Err(Fault::Unavailable("the handle is poisoned".into()));
            };
            if now.idle.len() > left_to_others
                && let Some(ready) = now.idle.pop()
            {
                return Ok(Lent { pool: self, epoch: now.epoch, ready: Some(ready) });
            }
            open = self.returned.wait(open).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Opens anew what was poisoned.
    pub(super) fn reopen(&self) -> Result<(), Fault> {
        if self.lock().is_some() {
            return Ok(());
        }
        // Without the lock, since it takes as long as the database does. One caller at a time: the store's
        // turn.
        let opened = Open::new(&self.options, &self.log)?;
        *self.lock() = Some(opened);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn new(options: &PostgresOptions, log: &str) -> Result<Self, Fault> {
        let mut claim = connect(options)?;
        claim_log(&mut claim.session, log)?;
        let epoch = raise(&mut claim.session, log)?;
        let options = options.beginning_with(claim.session.host());
        let idle = (0..options.connections).map(|_| connect(&options)).collect::<Result<_, _>>()?;
        Ok(Self { epoch, options, idle, _claim: claim.session })
    }
}

fn connect(options: &PostgresOptions) -> Result<Ready, Fault> {
    let unavailable = |error: ConnectError| Fault::Unavailable(error.to_string().into());
    let mut session = Session::connect(options, &options.user, &options.credentials).map_err(unavailable)?;
    schema::check(&mut session, options).map_err(unavailable)?;
    let statements = Statements::prepare(&mut session).map_err(Failure::of_read)?;
    Ok(Ready { session, statements })
}

/// Takes the log for this process. One that was killed a moment ago may still hold it.
fn claim_log(session: &mut Session, log: &str) -> Result<(), Fault> {
    let [a, b, c, d, e, f, g, h, ..] = sha256(&[b"vault log claim v1", log.as_bytes()]);
    let number = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
    for _ in 0..POSTGRES_CLAIM_PAUSES_MAX {
        let answer = session.query(CLAIM, &[&number]).map_err(Failure::of_read)?;
        if super::column(answer.rows.first(), 0)? {
            return Ok(());
        }
        thread::sleep(POSTGRES_CLAIM_PAUSE);
    }
    Err(Fault::Unavailable("another process or handle has this log".into()))
}

/// Raises the epoch: waits for the commits of earlier ones that are under way, and shuts out those to come.
fn raise(session: &mut Session, log: &str) -> Result<i64, Fault> {
    let answer = session.query(RAISE, &[&log]).map_err(Failure::of_read)?;
    if answer.warned {
        return Err(Fault::Unavailable("the server warned while it committed".into()));
    }
    super::column(answer.rows.first(), 0)
}

impl<'a> Lent<'a> {
    pub(super) fn fence(&self) -> Fence<'a> {
        Fence { log: &self.pool.log, epoch: self.epoch }
    }

    /// Runs one of the prepared statements.
    pub(super) fn run(
        &mut self,
        which: impl Fn(&Statements) -> &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Answer, Failure> {
        let ready = self.ready.as_mut().ok_or_else(closed)?;
        ready.session.run(which(&ready.statements), parameters)
    }

    /// Runs a statement that is rarely needed.
    pub(super) fn query(&mut self, sql: &str) -> Result<Answer, Failure> {
        self.ready.as_mut().ok_or_else(closed)?.session.query(sql, &[])
    }

    /// Puts a new session in the place of one that was lost. Of the same epoch: who was fenced off stays so.
    pub(super) fn replace(&mut self) -> Result<(), Fault> {
        self.ready = None;
        let options = self.pool.lock().as_ref().map(|open| open.options.clone());
        self.ready = Some(connect(&options.unwrap_or_else(|| self.pool.options.clone()))?);
        Ok(())
    }

    /// Gives up every session of this epoch.
    pub(super) fn poison(&mut self) {
        let mut open = self.pool.lock();
        let given_up =
            if open.as_ref().is_some_and(|open| open.epoch == self.epoch) { open.take() } else { None };
        drop(open);
        self.pool.returned.notify_all();
        // Without the lock, since it says goodbye.
        drop((self.ready.take(), given_up));
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut open = self.pool.lock();
        match (open.as_mut().filter(|open| open.epoch == self.epoch), self.ready.take()) {
            (Some(open), Some(ready)) => open.idle.push(ready),
            (_, given_up) => {
                drop(open);
                drop(given_up);
                return;
            }
        }
        drop(open);
        // Not just one: it may wait for a session more than there is for it.
        self.pool.returned.notify_all();
    }
}

fn closed() -> Failure {
    Failure::Lost("the session is closed".into())
}
