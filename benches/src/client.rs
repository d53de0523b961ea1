//! The clients: a thread and a runtime for each processor, each with connections of its own.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tonic::client::Grpc;
use tonic::transport::Channel;
use vault_proto::Connector;

use crate::Done;
use crate::calls::{Kind, Lengths, Stock};
use crate::cli::Shape;
use crate::load::{Load, Tally};
use crate::raw;
use crate::site::connector;

/// Connections to each server as each principal, over all clients.
const CONNECTIONS: usize = 8;

/// One thread's client.
pub(crate) struct Client {
    pub(crate) runtime: Runtime,
    echo: Vec<Grpc<Channel>>,
    checkout: Vec<Grpc<Channel>>,
    billing: Vec<Grpc<Channel>>,
    pub(crate) desk: Arc<Mutex<Desk>>,
}

/// What the calls of one client share.
pub(crate) struct Desk {
    pub(crate) stock: Stock,
    pub(crate) tally: Tally,
}

/// All clients.
pub(crate) struct Clients(pub(crate) Vec<Client>);

impl Clients {
    /// Connects as checkout and as billing to the vault, and to the echo.
    pub(crate) fn connect(
        folder: &Path,
        vault: Address,
        echo: Address,
        seed: u64,
        shape: Shape,
    ) -> Done<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from).min(CONNECTIONS);
        let to_echo = connector(folder, echo, "checkout")?;
        let as_checkout = connector(folder, vault, "checkout")?;
        let as_billing = connector(folder, vault, "billing")?;
        let client = |index: usize| -> Done<Client> {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let connections = CONNECTIONS.div_ceil(count);
            Ok(Client {
                echo: runtime.block_on(connect(&to_echo, connections))?,
                checkout: runtime.block_on(connect(&as_checkout, connections))?,
                billing: runtime.block_on(connect(&as_billing, connections))?,
                runtime,
                desk: Arc::new(Mutex::new(Desk {
                    // Far apart, so that no two clients draw the same numbers.
                    stock: Stock::new(seed.wrapping_add((index as u64) << 48), shape.idempotency),
                    tally: Tally::new()?,
                })),
            })
        };
        Ok(Self((0..count).map(client).collect::<Done<_>>()?))
    }

    /// Fills the store with so many records, a batch at a time.
    pub(crate) fn fill(&self, records: usize) -> Done {
        let batches = records.div_ceil(self.0.len() * Kind::BatchTokenize.items());
        self.each(|client| {
            for _ in 0..batches {
                client.once(Kind::BatchTokenize)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    /// Makes the echoes as long as the calls they stand beside.
    pub(crate) fn fit_echoes(&self) -> Done {
        let Some(first) = self.0.first() else { return Ok(()) };
        let single = first.once(Kind::Tokenize)?.between(first.once(Kind::Detokenize)?);
        let batch = first.once(Kind::BatchTokenize)?.between(first.once(Kind::BatchDetokenize)?);
        for client in &self.0 {
            // Whoever detokenizes must have tokenized.
            client.once(Kind::Tokenize)?;
            lock(&client.desk).stock.echo(single, batch);
        }
        Ok(())
    }

    /// Does something with every client at once, each on a thread of its own.
    pub(crate) fn each<T: Send>(&self, work: impl Fn(&Client) -> Done<T> + Sync) -> Done<Vec<T>> {
        thread::scope(|scope| {
            let threads: Vec<_> = self.0.iter().map(|client| scope.spawn(|| work(client))).collect();
            let ended = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| Err("a client's thread ended by a defect".into()))
            });
            ended.collect()
        })
    }

    /// Keeps so many calls in flight for a while; see [`Load`].
    pub(crate) fn load(&self, plan: crate::load::Plan) -> Done<Load> {
        Load::over(self, plan)
    }
}

/// Where a server listens.
pub(crate) type Address = std::net::SocketAddr;

impl Client {
    /// The connection of the `place`-th call in flight.
    pub(crate) fn connection(&self, kind: Kind, place: usize) -> Option<Grpc<Channel>> {
        let connections = match kind {
            Kind::Echo | Kind::BatchEcho => &self.echo,
            Kind::Tokenize | Kind::BatchTokenize => &self.checkout,
            Kind::Detokenize | Kind::BatchDetokenize => &self.billing,
        };
        connections.get(place % connections.len()).cloned()
    }

    /// One call, and how long its messages were.
    fn once(&self, kind: Kind) -> Done<Lengths> {
        let mut connection = self.connection(kind, 0).ok_or("no connection")?;
        let (request, expected) = lock(&self.desk).stock.request(kind, &mut 0);
        let bytes = request.len();
        let answer = self.runtime.block_on(raw::call(&mut connection, kind.path(), request))?;
        lock(&self.desk).stock.check(expected, &answer)?;
        Ok(Lengths { request: bytes, answer: answer.len() })
    }
}

/// One after another: the server deals connections to its cores in the order in which they come.
async fn connect(connector: &Connector, count: usize) -> Done<Vec<Grpc<Channel>>> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        connections.push(Grpc::new(connector.connect().await?));
    }
    Ok(connections)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
