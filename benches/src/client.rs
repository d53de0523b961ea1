//! The clients: a thread and a runtime for each processor, each with connections of its own.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::runtime::{Builder, Runtime};

use crate::Done;
use crate::calls::{Kind, Lengths, Stock};
use crate::cli::Shape;
use crate::http2::Connection;
use crate::load::{Load, Tally};

/// Connections to each server as each principal, over all clients.
const CONNECTIONS: usize = 8;

/// One thread's client.
pub(crate) struct Client {
    pub(crate) runtime: Runtime,
    echo: Connections,
    checkout: Connections,
    billing: Connections,
    pub(crate) desk: Arc<Mutex<Desk>>,
}

/// What the calls of one client share.
pub(crate) struct Desk {
    pub(crate) stock: Stock,
    pub(crate) tally: Tally,
}

/// Connections of one client to one server as one principal.
type Connections = Mutex<Vec<Connection>>;

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
        let client = |index: usize| -> Done<Client> {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            // One after another: the server deals connections to its cores in the order in which they come.
            let connect = |address, principal| {
                let open = |_| runtime.block_on(Connection::open(folder, address, principal));
                (0..CONNECTIONS.div_ceil(count)).map(open).collect::<Done<_>>().map(Mutex::new)
            };
            Ok(Client {
                echo: connect(echo, "checkout")?,
                checkout: connect(vault, "checkout")?,
                billing: connect(vault, "billing")?,
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
    /// The connections that calls of this kind go by.
    pub(crate) fn connections(&self, kind: Kind) -> MutexGuard<'_, Vec<Connection>> {
        lock(match kind {
            Kind::Echo | Kind::BatchEcho => &self.echo,
            Kind::Tokenize | Kind::BatchTokenize => &self.checkout,
            Kind::Detokenize | Kind::BatchDetokenize => &self.billing,
        })
    }

    /// One call, and how long its messages were.
    fn once(&self, kind: Kind) -> Done<Lengths> {
        let mut connections = self.connections(kind);
        let connection = connections.first_mut().ok_or("no connection")?;
        self.runtime.block_on(connection.once(kind, &self.desk))
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
