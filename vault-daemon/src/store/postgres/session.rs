//! One session with the database, driven to completion on the calling thread.
//!
//! Nothing runs in the background: a session's runtime turns only while somebody waits for an answer.

use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::pin;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding, SslMode, TargetSessionAttrs};
use tokio_postgres::error::Severity;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Row, Socket, Statement};

use super::fault::{ConnectError, Failure, told};
use super::options::{Credentials, Host, PostgresOptions};
use super::tls::{Door, Stream};
use crate::file::read_secret;
use crate::limits::{
    POSTGRES_CONNECT_TIMEOUT, POSTGRES_GOODBYE_TIMEOUT, POSTGRES_KEEPALIVE_IDLE, POSTGRES_KEEPALIVE_INTERVAL,
    POSTGRES_KEEPALIVE_RETRIES, POSTGRES_PASSWORD_BYTES_MAX,
};

type Wire = Connection<Socket, Stream>;
/// Parameters of a statement.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A session. Dropped, it says goodbye.
pub(super) struct Session {
    /// Taken when dropped.
    parts: Option<Parts>,
    host: Host,
    answer_timeout: Duration,
}

struct Parts {
    client: Client,
    wire: Wire,
    /// Last: it outlives what runs on it.
    runtime: Runtime,
}

/// An answer, and whether the server warned before it gave it.
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    /// A commit that a warning precedes may stand on this server alone: the wait for the standby was
    /// cancelled.
    pub(super) warned: bool,
}

impl Session {
    /// Connects as a role. Of several servers the first one that takes writes: one that is silent, be it
    /// after it took the connection, is given up in time for the next.
    pub(super) fn connect(
        options: &PostgresOptions,
        user: &str,
        credentials: &Credentials,
    ) -> Result<Self, ConnectError> {
        let door = Door::open(&options.ca_file, credentials)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let answer_timeout = options.answer_timeout;
        let mut problems = Vec::new();
        for host in &options.hosts {
            let config = config(options, host, user, credentials)?;
            let connecting = config.connect(door.clone());
            let connected = block_on(&runtime, async { timeout(POSTGRES_CONNECT_TIMEOUT, connecting).await });
            let problem = match connected {
                Ok(Ok((client, wire))) => {
                    let parts = Some(Parts { client, wire, runtime });
                    return Ok(Self { parts, host: host.clone(), answer_timeout });
                }
                Ok(Err(error)) => told(&error),
                Err(_) => format!("no answer within {POSTGRES_CONNECT_TIMEOUT:?}"),
            };
            problems.push(format!("{host}: {problem}"));
        }
        Err(ConnectError::Away(problems.join("; ")))
    }

    /// The server it is with.
    pub(super) const fn host(&self) -> &Host {
        &self.host
    }

    /// Has a statement parsed and planned.
    pub(super) fn prepare(&mut self, sql: &str) -> Result<Statement, Failure> {
        let patience = self.answer_timeout;
        let Parts { client, wire, runtime } = self.parts()?;
        drive(runtime, wire, patience, client.prepare(sql)).map(|(statement, _)| statement)
    }

    /// Runs a prepared statement in a transaction of its own: when the answer is here, it is committed.
    pub(super) fn run(
        &mut self,
        statement: &Statement,
        parameters: Parameters<'_>,
    ) -> Result<Answer, Failure> {
        let patience = self.answer_timeout;
        let Parts { client, wire, runtime } = self.parts()?;
        let (rows, warned) = drive(runtime, wire, patience, client.query(statement, parameters))?;
        Ok(Answer { rows, warned })
    }

    /// Runs a statement that is not prepared before.
    pub(super) fn query(&mut self, sql: &str, parameters: Parameters<'_>) -> Result<Answer, Failure> {
        let statement = self.prepare(sql)?;
        self.run(&statement, parameters)
    }

    /// Runs statements without parameters.
    pub(super) fn batch(&mut self, sql: &str) -> Result<(), Failure> {
        let patience = self.answer_timeout;
        let Parts { client, wire, runtime } = self.parts()?;
        drive(runtime, wire, patience, client.batch_execute(sql)).map(|_| ())
    }

    fn parts(&mut self) -> Result<&mut Parts, Failure> {
        self.parts.as_mut().ok_or(Failure::Lost("the session is closed".into()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(Parts { client, mut wire, runtime }) = self.parts.take() else { return };
        // Without a client the connection tells the server that it ends, so that it frees locks at once.
        drop(client);
        let goodbye = poll_fn(|cx| {
            while let Poll::Ready(message) = wire.poll_message(cx) {
                if !matches!(message, Some(Ok(_))) {
                    return Poll::Ready(());
                }
            }
            Poll::Pending
        });
        // Lost or silent: then it is only closed.
        let _ = block_on(&runtime, async { timeout(POSTGRES_GOODBYE_TIMEOUT, goodbye).await });
        drop(wire);
        // Whoever drops a session may be a runtime's own thread, which must not wait for another one's
        // threads.
        runtime.shutdown_background();
    }
}

/// Waits for the answer to `work` while the connection turns. Also says whether a warning came meanwhile.
///
/// When time is up the connection is given up and never asked to cancel: a cancelled commit may be done.
fn drive<T: Send>(
    runtime: &Runtime,
    wire: &mut Wire,
    patience: Duration,
    work: impl Future<Output = Result<T, tokio_postgres::Error>> + Send,
) -> Result<(T, bool), Failure> {
    let mut warned = false;
    let turning = async {
        let mut work = pin!(work);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(answer) = work.as_mut().poll(cx) {
                    return Poll::Ready(answer.map_err(|error| Failure::of(&error)));
                }
                match wire.poll_message(cx) {
                    Poll::Ready(Some(Ok(message))) => warned |= is_warning(&message),
                    Poll::Ready(ended) => {
                        // What the server said last comes before the end of the connection.
                        return match work.as_mut().poll(cx) {
                            Poll::Ready(Ok(answer)) => Poll::Ready(Ok(answer)),
                            Poll::Ready(Err(error)) if error.as_db_error().is_some() => {
                                Poll::Ready(Err(Failure::of(&error)))
                            }
                            _ => Poll::Ready(Err(lost(ended))),
                        };
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    };
    let answered = block_on(runtime, async { timeout(patience, turning).await });
    answered.unwrap_or_else(|_| Err(Failure::late(patience))).map(|answer| (answer, warned))
}

fn lost(ended: Option<Result<AsyncMessage, tokio_postgres::Error>>) -> Failure {
    match ended {
        Some(Err(error)) => Failure::Lost(match error.as_db_error() {
            Some(said) => format!("SQLSTATE {}", said.code().code()).into(),
            None => told(&error).into(),
        }),
        _ => Failure::Lost("the server closed the connection".into()),
    }
}

fn is_warning(message: &AsyncMessage) -> bool {
    match message {
        AsyncMessage::Notice(notice) => !matches!(
            notice.parsed_severity(),
            Some(Severity::Notice | Severity::Debug | Severity::Info | Severity::Log)
        ),
        _ => false,
    }
}

/// Waits on this thread, or, where this thread belongs to another runtime that forbids it, on another one.
fn block_on<T: Send>(runtime: &Runtime, work: impl Future<Output = T> + Send) -> T {
    if Handle::try_current().is_err() {
        return runtime.block_on(work);
    }
    thread::scope(|scope| scope.spawn(|| runtime.block_on(work)).join())
        .unwrap_or_else(|panic| resume_unwind(panic))
}

fn config(
    options: &PostgresOptions,
    host: &Host,
    user: &str,
    credentials: &Credentials,
) -> Result<Config, ConnectError> {
    let mut config = Config::new();
    config
        .host(&host.name)
        .port(host.port)
        .dbname(&options.database)
        .user(user)
        .application_name("vaultd")
        .options(settings(options))
        .ssl_mode(SslMode::Require)
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .tcp_user_timeout(options.answer_timeout)
        .keepalives_idle(POSTGRES_KEEPALIVE_IDLE)
        .keepalives_interval(POSTGRES_KEEPALIVE_INTERVAL)
        .keepalives_retries(POSTGRES_KEEPALIVE_RETRIES);
    if let Credentials::Password(file) = credentials {
        let mut content = read_secret(file, POSTGRES_PASSWORD_BYTES_MAX)
            .map_err(|error| ConnectError::Password(error.to_string()))?;
        crate::file::strip_line_end(&mut content);
        config.password(content.as_slice());
        // Asked for a password in clear, by a server that does not know it, the client would hand it over.
        if options.channel_binding_required {
            config.channel_binding(ChannelBinding::Require);
        }
    }
    Ok(config)
}

/// What each session is set to, whatever the server's defaults are. The server gives up before the client
/// does: an answer that never comes is a server that is gone, and not one that still works.
fn settings(options: &PostgresOptions) -> String {
    let patience = options.answer_timeout.as_millis();
    let settings = [
        ("default_transaction_isolation", r"read\ committed".to_owned()),
        ("statement_timeout", (patience / 2).to_string()),
        ("lock_timeout", (patience / 4).to_string()),
        ("idle_in_transaction_session_timeout", patience.to_string()),
        // The server notices that this end is gone within half a minute, and frees what it holds.
        ("tcp_keepalives_idle", POSTGRES_KEEPALIVE_IDLE.as_secs().to_string()),
        ("tcp_keepalives_interval", POSTGRES_KEEPALIVE_INTERVAL.as_secs().to_string()),
        ("tcp_keepalives_count", POSTGRES_KEEPALIVE_RETRIES.to_string()),
        // Rows are found by their keys. A plan from the time when the table was empty would read all of it.
        ("enable_seqscan", "off".to_owned()),
        ("enable_hashjoin", "off".to_owned()),
        ("enable_mergejoin", "off".to_owned()),
        ("plan_cache_mode", "force_generic_plan".to_owned()),
        ("jit", "off".to_owned()),
    ];
    settings.map(|(name, value)| format!("-c {name}={value}")).join(" ")
}
