//! What an error of the database means: was anything written, and is the session still good.
//!
//! A statement's error is told by its SQLSTATE alone: PostgreSQL repeats keys in its messages.

use std::borrow::Cow;
use std::error::Error as _;
use std::time::Duration;

use thiserror::Error;
use tokio_postgres::error::{DbError, Severity, SqlState};
use vault_core::store::Fault;

/// How a statement failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server refused the statement and undid it: nothing was written, the session goes on.
    Refused(SqlState),
    /// The session ended, or the server itself does not know: a commit may or may not have happened.
    Lost(Cow<'static, str>),
}

/// Why there is no session.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Files of the certificates.
    #[error("{0}")]
    Tls(#[from] crate::tls::TlsError),
    /// The password's file.
    #[error("password_file: {0}")]
    Password(String),
    /// No server could be reached, or none let the role in.
    #[error("no session with the database: {0}")]
    Away(String),
    /// There is a session, but not with a database that can hold a vault.
    #[error("the database cannot be used: {0}")]
    Unfit(Cow<'static, str>),
    /// The operating system gave no runtime.
    #[error("the operating system refused: {0}")]
    Io(#[from] std::io::Error),
}

impl Failure {
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refused) if is_undone(refused) => Self::Refused(refused.code().clone()),
            Some(refused) => Self::Lost(format!("SQLSTATE {}", refused.code().code()).into()),
            None => Self::Lost(told(error).into()),
        }
    }

    /// No answer in time.
    pub(super) fn late(waited: Duration) -> Self {
        Self::Lost(format!("no answer within {waited:?}").into())
    }

    /// What it means for a read.
    pub(super) fn of_read(self) -> Fault {
        match self {
            Self::Refused(code) if is_damage(&code) => Fault::Corrupt(sqlstate(&code)),
            Self::Refused(code) => Fault::Unavailable(sqlstate(&code)),
            Self::Lost(problem) => Fault::Unavailable(problem),
        }
    }

    /// What it means for a commit; `None`: a precondition did not hold, or another's commit came in between.
    pub(super) fn of_commit(self) -> Option<Fault> {
        match self {
            Self::Refused(code) if is_conflict(&code) => None,
            Self::Lost(problem) => Some(Fault::Unknown(problem)),
            refused @ Self::Refused(_) => Some(refused.of_read()),
        }
    }
}

/// An error of severity ERROR undoes its transaction and leaves the session; FATAL and PANIC end the session,
/// and may come while a commit already stands on this server and waits for the standby.
fn is_undone(error: &DbError) -> bool {
    const CONNECTION_EXCEPTION: &str = "08";
    let severe = error.parsed_severity() != Some(Severity::Error);
    let unknown = *error.code() == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
        || error.code().code().starts_with(CONNECTION_EXCEPTION);
    !severe && !unknown
}

/// A division by zero is how the commit's statement says that a precondition does not hold.
fn is_conflict(code: &SqlState) -> bool {
    [
        SqlState::DIVISION_BY_ZERO,
        SqlState::UNIQUE_VIOLATION,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
    ]
    .contains(code)
}

fn is_damage(code: &SqlState) -> bool {
    [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code)
}

fn sqlstate(code: &SqlState) -> Cow<'static, str> {
    let meaning = match code.code() {
        "25006" => ": the database is read-only",
        "42501" => ": the role lacks a right",
        "53100" => ": the database's disk is full",
        "55P03" => ": another transaction holds a row",
        "57014" => ": the statement took too long",
        _ => "",
    };
    format!("SQLSTATE {}{meaning}", code.code()).into()
}

/// An error without rows in it, with its causes: of connecting, of the network.
pub(super) fn told(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
