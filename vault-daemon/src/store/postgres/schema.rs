//! The schema: numbered migrations for its owner, and what a serving session checks before it serves.
//!
//! Two roles: the **owner** may change the schema and is used by `vaultd migrate` alone; the **runtime** role
//! may change rows and nothing else, which is checked at every connection.

use std::borrow::Cow;

use thiserror::Error;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use vault_core::clock::Clock as _;

use super::fault::{ConnectError, Failure};
use super::options::{Credentials, PostgresOptions};
use super::session::Session;
use crate::clock::SystemClock;
use crate::limits::POSTGRES_CLOCK_SECONDS_MAX;

/// What each migration does, in order; the schema's version is how many were applied.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_rows.sql")];
/// The version that this code reads and writes.
const VERSION: i32 = MIGRATIONS.len() as i32;

/// Two migrations at once wait for one another. The number is "vaultd m" in ASCII.
const BEGIN: &str = "BEGIN;
    SELECT pg_advisory_xact_lock(8530228277886066797);
    CREATE SCHEMA IF NOT EXISTS vault;
    CREATE TABLE IF NOT EXISTS vault.migrations (
        version integer NOT NULL PRIMARY KEY,
        applied timestamptz NOT NULL DEFAULT now()
    );";
const FOUND: &str = "SELECT coalesce(max(version), 0) FROM vault.migrations";

const SERVER: &str = "SELECT
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',
    current_setting('synchronous_commit'),
    current_setting('fsync') = 'on',
    current_setting('synchronous_standby_names') <> '',
    extract(epoch FROM clock_timestamp())::bigint";
const ROLE: &str = "SELECT
    has_table_privilege('vault.rows', 'SELECT') AND has_table_privilege('vault.rows', 'INSERT')
        AND has_table_privilege('vault.rows', 'UPDATE') AND has_table_privilege('vault.rows', 'DELETE')
        AND has_table_privilege('vault.writers', 'SELECT') AND has_table_privilege('vault.writers', 'INSERT')
        AND has_table_privilege('vault.writers', 'UPDATE'),
    (SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = current_user)
        OR has_schema_privilege('vault', 'CREATE') OR has_database_privilege(current_database(), 'CREATE')
        OR (SELECT bool_or(pg_has_role(relowner, 'MEMBER')) FROM pg_class
            WHERE relnamespace = 'vault'::regnamespace)";

/// Why the schema was not brought to its version. Nothing was changed.
#[derive(Debug, Error)]
pub enum MigrateError {
    /// No session for the owner.
    #[error("{0}")]
    Connect(#[from] ConnectError),
    /// One role for both would give whoever serves the right to change the schema.
    #[error("the owner must be another role than store.postgres.user")]
    SameRole,
    /// A newer `vaultd` was here.
    #[error("the schema has version {found}, newer than version {VERSION} of this vaultd")]
    Newer {
        /// Its version.
        found: i32,
    },
    /// The database refused.
    #[error("the database refused: {0}")]
    Refused(Cow<'static, str>),
}

/// What a migration did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Migrated {
    /// The version before; 0 where there was no schema.
    pub from: i32,
    /// The version now.
    pub to: i32,
}

/// Brings the schema to the version of this code, as its owner, and gives the runtime role its rights: all in
/// one transaction.
///
/// # Errors
/// [`MigrateError`]; nothing was changed.
pub fn migrate(
    options: &PostgresOptions,
    owner: &str,
    credentials: &Credentials,
) -> Result<Migrated, MigrateError> {
    if owner == options.user {
        return Err(MigrateError::SameRole);
    }
    let mut session = Session::connect(options, owner, credentials)?;
    session.batch(BEGIN).map_err(refused)?;
    let found = version(&mut session).map_err(refused)?;
    if found > VERSION {
        return Err(MigrateError::Newer { found });
    }
    for (number, migration) in (1..).zip(MIGRATIONS).filter(|(number, _)| *number > found) {
        session.batch(migration).map_err(refused)?;
        let note = format!("INSERT INTO vault.migrations (version) VALUES ({number})");
        session.batch(&note).map_err(refused)?;
    }
    session.batch(&grants(&options.user)).map_err(refused)?;
    session.batch("COMMIT").map_err(refused)?;
    Ok(Migrated { from: found, to: VERSION })
}

/// The rights of the runtime role, and of nobody else. Names of roles are checked by the configuration.
fn grants(user: &str) -> String {
    format!(
        "REVOKE ALL ON SCHEMA vault FROM PUBLIC;
         REVOKE ALL ON ALL TABLES IN SCHEMA vault FROM PUBLIC, \"{user}\";
         GRANT USAGE ON SCHEMA vault TO \"{user}\";
         GRANT SELECT ON vault.migrations TO \"{user}\";
         GRANT SELECT, INSERT, UPDATE, DELETE ON vault.rows TO \"{user}\";
         GRANT SELECT, INSERT, UPDATE ON vault.writers TO \"{user}\";"
    )
}

fn refused(failure: Failure) -> MigrateError {
    MigrateError::Refused(match failure {
        Failure::Refused(code) => format!("SQLSTATE {}", code.code()).into(),
        Failure::Lost(problem) => problem,
    })
}

fn version(session: &mut Session) -> Result<i32, Failure> {
    let found = session.query(FOUND, &[])?;
    column(found.rows.first(), 0)
}

/// Refuses a server that would not keep what it acknowledges, a schema of another version, and a role with
/// too few rights or too many.
pub(super) fn check(session: &mut Session, options: &PostgresOptions) -> Result<(), ConnectError> {
    check_server(session, options)?;
    match version(session) {
        Ok(VERSION) => {}
        Ok(found) => {
            let problem =
                format!("its schema has version {found}, this vaultd needs {VERSION}: vaultd migrate");
            return Err(ConnectError::Unfit(problem.into()));
        }
        Err(Failure::Refused(code)) if is_absent(&code) => {
            return unfit("it has no schema of a vault that this role may see: vaultd migrate");
        }
        Err(failure) => return Err(unanswered(failure)),
    }
    let role = session.query(ROLE, &[]).map_err(unanswered)?.rows;
    let (enough, too_many) = (flag(&role, 0)?, flag(&role, 1)?);
    if !enough {
        return unfit("the role lacks rights on the tables of the vault: vaultd migrate gives them");
    }
    if too_many {
        return unfit("the role may change the schema, and must not: see docs/operations/postgres.md");
    }
    Ok(())
}

fn check_server(session: &mut Session, options: &PostgresOptions) -> Result<(), ConnectError> {
    let server = session.query(SERVER, &[]).map_err(unanswered)?.rows;
    if flag(&server, 0)? {
        return unfit("it is read-only");
    }
    let synchronous: String = column(server.first(), 1).map_err(unanswered)?;
    if !matches!(synchronous.as_str(), "on" | "remote_apply") {
        return unfit("synchronous_commit is neither on nor remote_apply");
    }
    if !flag(&server, 2)? {
        return unfit("fsync is off");
    }
    if options.synchronous_standby_required && !flag(&server, 3)? {
        return unfit("it has no synchronous standby, and the configuration requires one");
    }
    // Daemons that share quotas tell minutes and days by their clocks: none may be far from the others'.
    let theirs: i64 = column(server.first(), 4).map_err(unanswered)?;
    let ours = SystemClock.now().seconds();
    if u64::try_from(theirs).unwrap_or(0).abs_diff(ours) > POSTGRES_CLOCK_SECONDS_MAX {
        return unfit("its clock and the one of this host differ by more than a minute");
    }
    // As it is now, whatever a reload of the server's configuration says later.
    session.batch(&format!("SET synchronous_commit = {synchronous}")).map_err(unanswered)
}

const fn unfit<T>(problem: &'static str) -> Result<T, ConnectError> {
    Err(ConnectError::Unfit(Cow::Borrowed(problem)))
}

fn unanswered(failure: Failure) -> ConnectError {
    ConnectError::Away(match failure {
        Failure::Refused(code) => format!("SQLSTATE {}", code.code()),
        Failure::Lost(problem) => problem.into_owned(),
    })
}

fn is_absent(code: &SqlState) -> bool {
    [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME, SqlState::INSUFFICIENT_PRIVILEGE]
        .contains(code)
}

fn flag(rows: &[Row], at: usize) -> Result<bool, ConnectError> {
    column::<Option<bool>>(rows.first(), at).map(Option::unwrap_or_default).map_err(unanswered)
}

/// A column of the one row that was asked for.
fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: Option<&'a Row>, at: usize) -> Result<T, Failure> {
    let missing = || Failure::Lost("an answer without what was asked for".into());
    row.ok_or_else(missing)?.try_get(at).map_err(|_| missing())
}
