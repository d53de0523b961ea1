//! Where the database is, who the vault is there, and what it expects of it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// `[store.postgres]`.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// The servers that may be the primary, in the order they are tried.
    pub hosts: Vec<Host>,
    /// The database.
    pub database: String,
    /// The role that serves: it can change rows and nothing else.
    pub user: String,
    /// The CAs that vouch for the servers, PEM. There is no connection without TLS.
    pub ca_file: PathBuf,
    /// How the role shows that it is the one.
    pub credentials: Credentials,
    /// Whether a server is refused that does not prove, with the password, that it holds its certificate's
    /// key: SCRAM with channel binding. Of no account with a client certificate, where there is no password.
    pub channel_binding_required: bool,
    /// Sessions at once; reads of auditors run beside the lane's.
    pub connections: usize,
    /// How long an answer may take before its connection is given up.
    pub answer_timeout: Duration,
    /// Whether a database without a synchronous standby is refused.
    pub synchronous_standby_required: bool,
}

impl PostgresOptions {
    /// The same with this server first.
    pub(super) fn beginning_with(&self, first: &Host) -> Self {
        let mut options = self.clone();
        options.hosts.sort_by_key(|host| host != first);
        options
    }
}

/// One server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// The name or address that its certificate must have.
    pub name: String,
    /// Its port.
    pub port: u16,
}

/// What a role is known by. Files, so that nothing secret stands in a configuration or on a command line;
/// read for each connection, so that they can be changed while the vault serves.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A file with a password, closed to group and others.
    Password(PathBuf),
    /// A client certificate.
    Certificate {
        /// Its chain, leaf first, PEM.
        certificate: PathBuf,
        /// Its private key, PEM, closed to group and others.
        private_key: PathBuf,
    },
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}
