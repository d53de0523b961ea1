//! One file per command.

mod audit;
mod batch;
mod compare;
mod completions;
mod custody;
mod detokenize;
mod erase;
mod find;
mod keys;
mod seal;
mod show;
mod status;
mod tokenize;
mod unseal;
mod wire;

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use vault_proto::daemons::{Repeat, Terms};
use vault_proto::{Connector, Daemons};

use crate::cli::{Audit, Cli, Command, Custody};
use crate::connect::Connection;
use crate::failure::Failure;
use crate::output::Format;

/// How long a call may take in all. Opening the vault takes a second of work on purpose.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What every command needs: a vault to ask and a way to answer.
pub(crate) struct Session {
    connection: Connection,
    output: Format,
}

/// Does what was asked for.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::usage(format!("cannot start: {error}")))?;
    let session = Session { connection: cli.connection, output: cli.output };
    runtime.block_on(session.run(cli.command))
}

impl Session {
    /// The way to all daemons of the vault that was named, which give the same answers about values. Nothing
    /// is connected yet: what is wrong with the profile is told before anybody is asked for a secret.
    fn daemons(&self) -> Result<Daemons, Failure> {
        Ok(Daemons::new(&self.connection.connectors()?)?)
    }

    /// The way to one daemon, for what each does on its own: being opened and closed, and keeping a log.
    fn connector(&self) -> Result<Connector, Failure> {
        let mut connectors = self.connection.connectors()?;
        match (connectors.pop(), connectors.is_empty()) {
            (Some(connector), true) => Ok(connector),
            _ => Err(Failure::usage(
                "this is asked of one daemon, and several are named: say which by --endpoint",
            )),
        }
    }

    async fn run(&self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Tokenize(options) => tokenize::run(self, options).await,
            Command::Detokenize(options) => detokenize::run(self, options).await,
            Command::Show(options) => show::run(self, options).await,
            Command::Compare(options) => compare::run(self, options).await,
            Command::Find(options) => find::run(self, options).await,
            Command::Erase(options) => erase::run(self, options).await,
            Command::Batch(options) => batch::run(self, options).await,
            Command::Audit(Audit::Tail(options)) => audit::tail::run(self, &options).await,
            Command::Audit(Audit::Prove(options)) => audit::prove::run(self, &options).await,
            Command::Audit(Audit::Verify(options)) => audit::verify::run(self, &options).await,
            Command::Status => status::run(self).await,
            Command::Unseal(options) => unseal::run(self, &options).await,
            Command::Custody(Custody::Status) => status::run(self).await,
            Command::Custody(Custody::Begin) => custody::begin(self).await,
            Command::Custody(Custody::Share(options)) => custody::share(self, options).await,
            Command::Custody(Custody::Cancel(options)) => custody::cancel(self, options).await,
            Command::Custody(Custody::Keys) => keys::list(self).await,
            Command::Custody(Custody::Rotate(options)) => keys::rotate(self, options).await,
            Command::Custody(Custody::DestroyKeys(options)) => keys::destroy(self, options).await,
            Command::Seal(options) => seal::run(self, options).await,
            Command::Completions(options) => completions::run(&options),
        }
    }
}

/// Asks each daemon once, until one answers.
async fn ask<T, F: Future<Output = Result<Response<T>, Status>>>(
    daemons: &Daemons,
    repeat: Repeat,
    call: impl Fn(Channel) -> F,
) -> Result<T, Failure> {
    let terms = Terms { repeat, attempt: CALL_TIMEOUT, within: Duration::ZERO };
    Ok(daemons.call(terms, call).await?.into_inner())
}

/// A call that is given up after a while.
fn timed<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}
