//! The server: one accept thread, one single-threaded runtime per core, HTTP/2 over mutual TLS.
//!
//! ```text
//! accept thread ──deals each connection to the core with the fewest──▶ core 0: handshake · HTTP/2 · calls
//!                                                                     core 1: …
//! ```
//!
//! A connection lives on one core from handshake to close, so that a call crosses threads only where it meets
//! the lane. Sharing one multi-threaded runtime, or letting the kernel hash connections to cores, costs up to
//! twice the CPU per call.
//!
//! The server ends a connection when the door no longer admits its peer, at a bounded age (plaintext may
//! linger in the buffers of a connection as long as it lives), when it idles, and when the server drains:
//! each time by GOAWAY, so that calls under way finish, then by closing it.

mod connection;
mod counters;
mod routes;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use vault_guard::wipe_stack;

use self::connection::{all_ended, draining};
pub use self::counters::{Counters, Ending};
pub use self::routes::{GrpcService, Routes};
use crate::identity::Refused;
use crate::tls::Door;

/// Connections the kernel holds ready while the accept thread is busy.
const BACKLOG: u32 = 1_024;
/// First and longest pause after a failed accept: file descriptors need time to come free.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// What bounds the server. Every field has a safe default; configuration overrides it.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Where to listen. Port 0: any free one, see [`Running::local_addr`].
    pub listen: SocketAddr,
    /// Single-threaded runtimes; at least 1. The default is one per available processor.
    pub cores: usize,
    /// Connections open at once, handshakes included; beyond it new ones are closed at once.
    pub connections_max: usize,
    /// Handshakes under way at once, so that strangers cannot take every connection.
    pub handshakes_max: usize,
    /// From the accepted connection to the finished handshake.
    pub handshake_timeout: Duration,
    /// A connection without a call for this long (at most twice this long) is closed.
    pub idle_timeout: Duration,
    /// A connection gets no older than this; jittered downwards by up to a tenth.
    pub connection_age_max: Duration,
    /// How long calls under way may take to finish when their connection has reached its age.
    pub age_grace: Duration,
    /// How often the door is asked whether it still admits the peer of an open connection.
    pub recheck_every: Duration,
    /// Calls at once on one connection.
    pub streams_max: u32,
    /// Bytes of one request's headers, as HTTP/2 counts them (RFC 9113 section 6.5.2).
    pub header_list_bytes_max: u32,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            cores: thread::available_parallelism().map_or(1, usize::from),
            connections_max: 4_096,
            handshakes_max: 256,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(5 * 60),
            connection_age_max: Duration::from_secs(30 * 60),
            age_grace: Duration::from_secs(30),
            recheck_every: Duration::from_secs(15),
            streams_max: 128,
            header_list_bytes_max: 8 * 1024,
        }
    }
}

/// Makes the services of one core; runs once on that core's thread, inside its runtime, so that it may spawn
/// tasks.
pub type MakeCore = dyn Fn(usize) -> Routes + Send + Sync;

/// Starts servers; see [`Server::start`].
#[derive(Debug)]
pub struct Server;

impl Server {
    /// Listens and serves until [`Running::drain`], on threads of its own. Every request carries an
    /// `Arc<`[`Peer`](crate::identity::Peer)`>` in its extensions.
    ///
    /// # Errors
    /// When the address cannot be bound, or a thread or runtime cannot be made.
    pub fn start(
        options: ServerOptions,
        door: Arc<dyn Door>,
        make_core: Arc<MakeCore>,
    ) -> io::Result<Running> {
        let counters = Arc::new(Counters::default());
        let (phase, phase_seen) = watch::channel(None);
        let floor = Arc::new(Floor::new(options.cores.max(1), Arc::clone(&counters)));
        let seed = CoreSeed {
            index: 0,
            options: options.clone(),
            door,
            make_core,
            counters: Arc::clone(&counters),
            phase: phase_seen.clone(),
        };
        let mut cores = Vec::new();
        let mut doors = Vec::new();
        for index in 0..options.cores.max(1) {
            let (core, arrivals) = CoreSeed { index, ..seed.clone() }.start()?;
            cores.push(core);
            doors.push(arrivals);
        }
        let runtime = runtime()?;
        let listener = listen(&runtime, options.listen)?;
        let local_addr = listener.local_addr()?;
        let dealer = Dealer { options, floor: Arc::clone(&floor), doors, phase: phase_seen };
        let accept = spawn("vault-accept".to_owned(), move || runtime.block_on(dealer.run(listener)))?;
        Ok(Running { local_addr, counters, phase, accept: Some(accept), cores })
    }
}

/// A server at work. Dropped, it stops at once; [`Running::drain`] lets calls finish.
#[derive(Debug)]
pub struct Running {
    local_addr: SocketAddr,
    counters: Arc<Counters>,
    phase: watch::Sender<Option<Instant>>,
    accept: Option<JoinHandle<()>>,
    cores: Vec<JoinHandle<bool>>,
}

impl Running {
    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Connections open now, handshakes included.
    pub fn connections(&self) -> u64 {
        self.counters.open()
    }

    /// What the server counts.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Stops listening, tells every client to go away, lets calls under way finish for at most `grace`,
    /// closes. Returns once every thread of the server has ended: `true` if nothing had to be cut off.
    ///
    /// Blocks the calling thread; never call it on a core's own thread.
    pub fn drain(mut self, grace: Duration) -> bool {
        self.stop(grace)
    }

    fn stop(&mut self, grace: Duration) -> bool {
        self.phase.send_replace(Some(Instant::now() + grace));
        let mut whole = true;
        if let Some(accept) = self.accept.take() {
            whole &= accept.join().is_ok();
        }
        for core in self.cores.drain(..) {
            whole &= core.join().unwrap_or(false);
        }
        whole
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

/// The accept thread: takes connections from the kernel and deals them to the cores.
struct Dealer {
    options: ServerOptions,
    floor: Arc<Floor>,
    doors: Vec<mpsc::UnboundedSender<Arrival>>,
    phase: watch::Receiver<Option<Instant>>,
}

impl Dealer {
    async fn run(mut self, listener: TcpListener) {
        let mut pause = ACCEPT_PAUSE.0;
        loop {
            let accepted = tokio::select! {
                _ = draining(&mut self.phase) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted.and_then(|(stream, _)| stream.into_std()) {
                Ok(stream) => {
                    pause = ACCEPT_PAUSE.0;
                    self.deal(stream);
                }
                Err(error) => {
                    self.floor.counters.accept_error();
                    if !is_the_clients(&error) {
                        tracing::warn!(kind = ?error.kind(), "cannot accept connections; trying again");
                        sleep(pause).await;
                        pause = (pause * 2).min(ACCEPT_PAUSE.1);
                    }
                }
            }
        }
    }

    fn deal(&self, stream: std::net::TcpStream) {
        self.floor.counters.accept();
        let full = self.floor.open.load(Ordering::Relaxed) >= self.options.connections_max
            || self.floor.handshakes.load(Ordering::Relaxed) >= self.options.handshakes_max;
        let core = self.floor.emptiest();
        match self.doors.get(core) {
            Some(door) if !full => {
                // The core is gone only when the server stops.
                let _ = door.send(Arrival {
                    stream,
                    slot: Slot::taken(&self.floor, core),
                    handshaking: Handshaking::begun(&self.floor),
                });
            }
            _ => self.floor.counters.refuse(Refused::Connections),
        }
    }
}

/// Errors of one connection that died in the queue; the next accept may well succeed.
fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted | Kind::WouldBlock
    )
}

/// How many connections are where.
struct Floor {
    open: AtomicUsize,
    handshakes: AtomicUsize,
    per_core: Vec<AtomicUsize>,
    counters: Arc<Counters>,
}

impl Floor {
    fn new(cores: usize, counters: Arc<Counters>) -> Self {
        let per_core = (0..cores).map(|_| AtomicUsize::new(0)).collect();
        Self { open: AtomicUsize::new(0), handshakes: AtomicUsize::new(0), per_core, counters }
    }

    /// The core with the fewest connections, the first of several.
    fn emptiest(&self) -> usize {
        let counts = self.per_core.iter().enumerate();
        counts.min_by_key(|(_, count)| count.load(Ordering::Relaxed)).map_or(0, |(core, _)| core)
    }
}

/// One connection on its way to a core.
struct Arrival {
    stream: std::net::TcpStream,
    slot: Slot,
    handshaking: Handshaking,
}

/// One of the server's connections, given back when dropped.
struct Slot {
    floor: Arc<Floor>,
    core: usize,
}

impl Slot {
    fn taken(floor: &Arc<Floor>, core: usize) -> Self {
        floor.open.fetch_add(1, Ordering::Relaxed);
        floor.counters.opened();
        if let Some(count) = floor.per_core.get(core) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self { floor: Arc::clone(floor), core }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(count) = self.floor.per_core.get(self.core) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.floor.counters.closed();
        self.floor.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One handshake under way, given back when dropped.
struct Handshaking(Arc<Floor>);

impl Handshaking {
    fn begun(floor: &Arc<Floor>) -> Self {
        floor.handshakes.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(floor))
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the connections of one core share.
struct Core {
    options: ServerOptions,
    door: Arc<dyn Door>,
    routes: Routes,
    counters: Arc<Counters>,
    phase: watch::Receiver<Option<Instant>>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("routes", &self.routes).finish_non_exhaustive()
    }
}

/// What a core's thread needs to become a [`Core`].
#[derive(Clone)]
struct CoreSeed {
    index: usize,
    options: ServerOptions,
    door: Arc<dyn Door>,
    make_core: Arc<MakeCore>,
    counters: Arc<Counters>,
    phase: watch::Receiver<Option<Instant>>,
}

type StartedCore = (JoinHandle<bool>, mpsc::UnboundedSender<Arrival>);

impl CoreSeed {
    /// Returns when the core is ready for connections.
    fn start(self) -> io::Result<StartedCore> {
        // Unbounded, yet bounded: an arrival holds a slot, and slots are bounded by `connections_max`.
        let (arrivals, arriving) = mpsc::unbounded_channel();
        let (ready, readied) = std_mpsc::channel();
        let thread = spawn(format!("vault-core-{}", self.index), move || match runtime() {
            Ok(runtime) => {
                let whole = runtime.block_on(self.run(arriving, &ready));
                runtime.shutdown_background();
                whole
            }
            Err(error) => {
                let _ = ready.send(Err(error));
                false
            }
        })?;
        match readied.recv() {
            Ok(Ok(())) => Ok((thread, arrivals)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("a core of the server did not start")),
        }
    }

    /// `true` if every connection ended by itself.
    async fn run(
        self,
        mut arriving: mpsc::UnboundedReceiver<Arrival>,
        ready: &std_mpsc::Sender<io::Result<()>>,
    ) -> bool {
        let routes = (self.make_core)(self.index);
        let Self { options, door, counters, mut phase, .. } = self;
        let core = Arc::new(Core { options, door, routes, counters, phase: phase.clone() });
        let _ = ready.send(Ok(()));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                arrival = arriving.recv() => match arrival {
                    Some(arrival) => drop(connections.spawn(connection::live(arrival, Arc::clone(&core)))),
                    None => break,
                },
                Some(ended) = connections.join_next() => {
                    if ended.is_err() {
                        tracing::error!("a connection ended by a defect");
                    }
                }
            }
        }
        let deadline = draining(&mut phase).await;
        all_ended(&mut connections, deadline).await
    }
}

/// A core that has nothing to do any more wipes what its last calls left on its stack.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_io().enable_time().on_thread_park(wipe_stack).build()
}

fn listen(runtime: &Runtime, address: SocketAddr) -> io::Result<TcpListener> {
    let _inside = runtime.enter();
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted daemon takes its port over from connections still closing.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn spawn<T: Send + 'static>(
    name: String,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name).spawn(body)
}
