//! Scale-out: rows in a PostgreSQL database, which may be replicated and is shared by daemons.
//!
//! One table holds every row under (space, tenant, key). A batch's reads are one statement, a commit is one
//! statement too: arrays of its rows, its preconditions, its changes, and with them the fence. A
//! statement in a transaction of its own is done when its answer is here, so that nothing is ever left half
//! sent.
//!
//! **The ambiguous commit.** A commit whose answer does not come may have happened. It is never cancelled:
//! the connection is given up, the handle is poisoned, and [`Fault::Unknown`] is the answer.
//! [`Store::reopen`] raises the epoch of this log's writer, which waits for a commit of the lost session that
//! is under way (it holds the row), and refuses any that arrives later. Only then may the head be read: it
//! says what happened, for good. The raise is itself a durable commit, so that what is read afterwards has
//! reached the standby as well.
//!
//! Stated limit: whether the server really syncs its disk is its own to say (`fsync` is asked at each
//! connection).

mod fault;
mod options;
mod pool;
mod schema;
mod session;
mod statements;
mod tls;

use std::sync::{Mutex, PoisonError};

use tokio_postgres::Row as Columns;
use tokio_postgres::types::FromSql;
use vault_core::data::TenantId;
use vault_core::limits::{SCAN_BYTES_MAX, SCAN_ROWS_MAX};
use vault_core::store::{Commit, Fault, Key, Row, Space, Store, Writes};

pub use fault::ConnectError;
pub use options::{Credentials, Host, PostgresOptions};
pub use schema::{MigrateError, Migrated, migrate};

use self::fault::Failure;
use self::pool::{Fence, Lent, Pool, Use};
use self::session::Answer;
use self::statements::{COMMIT_FENCED, CommitArrays, KeyArrays};

/// A store in a PostgreSQL database.
pub struct PostgresStore {
    pool: Pool,
    /// Orders commits.
    turn: Mutex<()>,
}

impl PostgresStore {
    /// Connects, checks server, schema and rights, and takes over the log of this name.
    ///
    /// # Errors
    /// [`Fault::Unavailable`] when the database is away or unfit, or another process has this log.
    pub fn open(options: PostgresOptions, log: &str) -> Result<Self, Fault> {
        let pool = Pool::open(options, log)?;
        Ok(Self { pool, turn: Mutex::new(()) })
    }

    /// Runs a read. A session that was lost while nobody used it is replaced once: a read may be repeated.
    /// One that the server refuses leaves session and handle as they were; only with the connection the
    /// handle is lost.
    fn reading(
        &self,
        use_of: Use,
        read: impl Fn(&mut Lent<'_>) -> Result<Answer, Failure>,
    ) -> Result<Vec<Columns>, Fault> {
        let mut lent = self.pool.lend(use_of)?;
        let mut answer = read(&mut lent);
        if matches!(answer, Err(Failure::Lost(_))) {
            lent.replace().inspect_err(|_| lent.poison())?;
            answer = read(&mut lent);
        }
        if matches!(answer, Err(Failure::Lost(_))) {
            lent.poison();
        }
        answer.map(|answer| answer.rows).map_err(Failure::of_read)
    }

    fn write(lent: &mut Lent<'_>, fence: &Fence<'_>, arrays: &CommitArrays<'_>) -> Result<Commit, Fault> {
        let answer = match lent.run(|prepared| &prepared.commit, &arrays.parameters(fence)) {
            Ok(answer) => answer,
            Err(failure) => return failure.of_commit().map_or(Ok(Commit::Conflict), Err),
        };
        if answer.warned {
            return Err(Fault::Unknown("the server warned while it committed".into()));
        }
        if column::<i32>(answer.rows.first(), 0)? == COMMIT_FENCED {
            return Err(Fault::Unavailable("another process has taken over this log".into()));
        }
        Ok(Commit::Done)
    }
}

impl Store for PostgresStore {
    fn read(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, Fault> {
        let arrays = KeyArrays::of(keys);
        let found = self.reading(use_of(keys.iter().map(Key::space)), |lent| {
            lent.run(|prepared| &prepared.read, &arrays.parameters())
        })?;
        let mut rows = vec![None; keys.len()];
        for found in &found {
            let place: i64 = column(Some(found), 0)?;
            let place = usize::try_from(place.saturating_sub(1)).unwrap_or(usize::MAX);
            let slot = rows.get_mut(place).ok_or_else(undecodable)?;
            *slot = Some(Row { version: version(found, 1)?, value: column(Some(found), 2)? });
        }
        Ok(rows)
    }

    fn scan(
        &self,
        space: Space,
        tenant: Option<&TenantId>,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Key, Row)>, Fault> {
        // The next key in the order of bytes.
        let from = after.map_or_else(Vec::new, |after| [after, &[0]].concat());
        let place = i16::from(space.code());
        let name = tenant.map_or("", TenantId::as_str);
        let limit = i64::try_from(limit.min(SCAN_ROWS_MAX)).unwrap_or(0);
        let bytes_max = i64::try_from(SCAN_BYTES_MAX).unwrap_or(i64::MAX);
        let found = self.reading(use_of([space]), |lent| {
            lent.run(|prepared| &prepared.scan, &[&place, &name, &from, &limit, &bytes_max])
        })?;
        let row = |found: &Columns| {
            let key = Key::new(space, tenant, column(Some(found), 0)?);
            Ok((key, Row { version: version(found, 1)?, value: column(Some(found), 2)? }))
        };
        found.iter().map(row).collect()
    }

    fn commit(&self, writes: &Writes) -> Result<Commit, Fault> {
        writes.check()?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lent = self.pool.lend(Use::Lane)?;
        if writes.is_empty() {
            return Ok(Commit::Done);
        }
        let fence = lent.fence();
        let outcome = Self::write(&mut lent, &fence, &CommitArrays::of(writes));
        if outcome.is_err() {
            lent.poison();
        }
        outcome
    }

    fn reopen(&self) -> Result<(), Fault> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.pool.reopen()
    }

    /// The database's disk is watched by whoever runs it; when it is full, commits are refused with nothing
    /// written.
    fn free_space_low(&self) -> bool {
        false
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn disk_bytes(&self) -> Result<u64, Fault> {
        let found = self.reading(Use::Beside, |lent| lent.query(statements::DISK_BYTES))?;
        let bytes: i64 = column(found.first(), 0)?;
        u64::try_from(bytes).map_err(|_| undecodable())
    }
}

/// Pages and tiles of the log are read for auditors and proofs, beside the lane; everything else by the lane,
/// or while it does nothing.
fn use_of(spaces: impl IntoIterator<Item = Space>) -> Use {
    let of_log = |space| matches!(space, Space::LogPage | Space::LogTile);
    if spaces.into_iter().all(of_log) { Use::Beside } else { Use::Lane }
}

fn version(row: &Columns, at: usize) -> Result<u64, Fault> {
    let version: i64 = column(Some(row), at)?;
    u64::try_from(version).map_err(|_| undecodable())
}

fn column<'a, T: FromSql<'a>>(row: Option<&'a Columns>, at: usize) -> Result<T, Fault> {
    row.ok_or_else(undecodable)?.try_get(at).map_err(|_| undecodable())
}

fn undecodable() -> Fault {
    Fault::Corrupt("a row cannot be decoded".into())
}
