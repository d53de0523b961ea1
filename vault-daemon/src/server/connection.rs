//! One connection: handshake, admission, HTTP/2, and the four ways the server ends it.

use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::body::Body;
use tonic::codegen::BoxFuture;

use super::counters::Ending;
use super::{Arrival, Core, ServerOptions};
use crate::identity::{Peer, Refused};

/// Hard close after a graceful close that no call holds up, or that has a reason of its own (no longer
/// admitted).
const PROMPT_GRACE: Duration = Duration::from_secs(5);
/// HTTP/2 frames of the size every peer must accept (RFC 9113 section 4.2), bytes.
const FRAME_BYTES: u32 = 16 * 1024;
/// Unread request bytes a stream, and a connection, may have: one batch message and its framing.
const WINDOW_BYTES: u32 = 1024 * 1024 + 64 * 1024;
/// Unsent answer bytes of one stream; a longer answer waits for the client to read.
const SEND_BUFFER_BYTES: usize = 256 * 1024;
/// Streams a client may open and reset before the server has looked at them (CVE-2023-44487); h2's own
/// default.
const PENDING_RESETS_MAX: usize = 20;
/// Streams the server may have to reset for the client's protocol errors before it gives the connection up.
const ERROR_RESETS_MAX: usize = 256;

/// The whole life of one accepted connection. Ends when the connection is closed, for whatever reason.
pub(super) async fn live(arrival: Arrival, core: Arc<Core>) {
    let Arrival { stream, slot, handshaking } = arrival;
    let admitted = match shake_hands(stream, &core).await {
        Ok(admitted) => admitted,
        Err(reason) => {
            tracing::debug!(reason = %reason, "connection refused");
            return core.counters.refuse(reason);
        }
    };
    drop(handshaking);
    core.counters.admit();
    let ending = serve(admitted, &core).await;
    core.counters.end(ending);
    drop(slot);
}

struct Admitted {
    stream: TlsStream<TcpStream>,
    peer: Arc<Peer>,
}

async fn shake_hands(stream: std::net::TcpStream, core: &Core) -> Result<Admitted, Refused> {
    let stream = TcpStream::from_std(stream).map_err(|_| Refused::Protocol)?;
    // Answers are written whole; waiting to fill a packet only adds latency.
    stream.set_nodelay(true).map_err(|_| Refused::Protocol)?;
    let handshake = TlsAcceptor::from(core.door.tls_config()).accept(stream);
    let mut phase = core.phase.clone();
    let stream = tokio::select! {
        shaken = timeout(core.options.handshake_timeout, handshake) => {
            shaken.map_err(|_| Refused::Timeout)?.map_err(|error| Refused::from_handshake(&error))?
        }
        _ = draining(&mut phase) => return Err(Refused::Connections),
    };
    let connection = stream.get_ref().1;
    if connection.alpn_protocol() != Some(b"h2") {
        return Err(Refused::NoHttp2);
    }
    let peer = core.door.admit(connection)?;
    Ok(Admitted { stream, peer })
}

async fn serve(admitted: Admitted, core: &Core) -> Ending {
    let Admitted { stream, peer } = admitted;
    let activity = Arc::new(Activity::default());
    let calls =
        Calls { core_routes: core.routes.clone(), peer: Arc::clone(&peer), activity: Arc::clone(&activity) };
    let connection = http2_builder(&core.options).serve_connection(TokioIo::new(stream), calls);
    let (close, closing) = oneshot::channel();
    let mut serving = tokio::spawn(async move {
        let mut connection = pin!(connection);
        // A connection's own errors (resets, broken pipes) are the client's business, not the operator's.
        tokio::select! {
            biased;
            _ = closing => connection.as_mut().graceful_shutdown(),
            _ = connection.as_mut() => return,
        }
        let _ = connection.await;
    });

    let mut watch = Watch::new(peer, activity, core);
    let ending = tokio::select! {
        _ = &mut serving => return Ending::Client,
        ending = watch.until_end() => ending,
    };
    let _ = close.send(());
    match ending {
        // The core's own deadline ends what has not finished by then.
        Ending::Drain => finish_calls(serving, &watch.activity).await,
        Ending::Age => finish(serving, core.options.age_grace).await,
        Ending::Client | Ending::Idle | Ending::NotAdmitted => finish(serving, PROMPT_GRACE).await,
    }
    ending
}

async fn finish(mut serving: tokio::task::JoinHandle<()>, grace: Duration) {
    if timeout(grace, &mut serving).await.is_err() {
        serving.abort();
    }
}

/// Lets calls finish, however long they take. A connection without any ends after the grace: its client may
/// be gone, and never hear of the close.
async fn finish_calls(mut serving: tokio::task::JoinHandle<()>, activity: &Activity) {
    loop {
        let quiet = activity.calls.load(Ordering::Relaxed) == 0;
        if timeout(PROMPT_GRACE, &mut serving).await.is_ok() {
            return;
        }
        if quiet && activity.calls.load(Ordering::Relaxed) == 0 {
            return serving.abort();
        }
    }
}

fn http2_builder(options: &ServerOptions) -> http2::Builder<OnThisCore> {
    let mut builder = http2::Builder::new(OnThisCore);
    builder
        .max_concurrent_streams(options.streams_max)
        .max_header_list_size(options.header_list_bytes_max)
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        // gRPC has no use for it, and it costs a formatted header per call.
        .auto_date_header(false);
    builder
}

/// Decides when the server ends a connection.
struct Watch<'a> {
    peer: Arc<Peer>,
    activity: Arc<Activity>,
    core: &'a Core,
    ends_at: Instant,
    recheck_at: Instant,
    quiet_since: Instant,
    begun_seen: u64,
}

impl<'a> Watch<'a> {
    fn new(peer: Arc<Peer>, activity: Arc<Activity>, core: &'a Core) -> Self {
        let now = Instant::now();
        Self {
            peer,
            activity,
            core,
            ends_at: now + jittered(core.options.connection_age_max),
            recheck_at: now + core.options.recheck_every,
            quiet_since: now,
            begun_seen: 0,
        }
    }

    /// Returns once the server has a reason of its own to end this connection; wakes only when a check is
    /// due.
    async fn until_end(&mut self) -> Ending {
        let mut phase = self.core.phase.clone();
        loop {
            let due =
                self.ends_at.min(self.recheck_at).min(self.quiet_since + self.core.options.idle_timeout);
            tokio::select! {
                _ = draining(&mut phase) => return Ending::Drain,
                () = sleep_until(due) => {}
            }
            if let Some(ending) = self.check(Instant::now()) {
                return ending;
            }
        }
    }

    fn check(&mut self, now: Instant) -> Option<Ending> {
        if now >= self.recheck_at {
            self.recheck_at = now + self.core.options.recheck_every;
            if !self.core.door.still_admitted(&self.peer) {
                return Some(Ending::NotAdmitted);
            }
        }
        if now >= self.ends_at {
            return Some(Ending::Age);
        }
        // Sampled, so that no call pays for a timer: a connection ends after one to two idle times of quiet.
        let begun = self.activity.begun.load(Ordering::Relaxed);
        if begun != self.begun_seen || self.activity.is_open() {
            self.begun_seen = begun;
            self.quiet_since = now;
        } else if now >= self.quiet_since + self.core.options.idle_timeout {
            return Some(Ending::Idle);
        }
        None
    }
}

/// 90 to 100 % of `age`, so that clients that connected together do not reconnect together.
fn jittered(age: Duration) -> Duration {
    // Not for secrets: the standard library seeds its hashers differently each time.
    let random = RandomState::new().build_hasher().finish();
    let thousandths = u32::try_from(random % 101).unwrap_or(0);
    age.saturating_sub(age.saturating_mul(thousandths) / 1_000)
}

/// Waits until the server drains; returns the instant by which it will have stopped.
pub(super) async fn draining(phase: &mut watch::Receiver<Option<Instant>>) -> Option<Instant> {
    // A server that is gone without a word drains too.
    phase.wait_for(Option::is_some).await.ok().and_then(|deadline| *deadline)
}

/// Calls of one connection, counted so that an idle connection can be told from a quiet one.
#[derive(Default)]
struct Activity {
    begun: AtomicU64,
    /// Open calls that end by themselves.
    calls: AtomicU64,
    /// Open streams that last as long as their client listens.
    watches: AtomicU64,
}

impl Activity {
    fn is_open(&self) -> bool {
        self.open(false).load(Ordering::Relaxed) > 0 || self.open(true).load(Ordering::Relaxed) > 0
    }

    const fn open(&self, is_watch: bool) -> &AtomicU64 {
        if is_watch { &self.watches } else { &self.calls }
    }
}

/// The one call that never ends by itself, and that nothing is lost by ending.
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// What hyper calls for each request of one connection.
struct Calls {
    core_routes: super::Routes,
    peer: Arc<Peer>,
    activity: Arc<Activity>,
}

impl hyper::service::Service<Request<Incoming>> for Calls {
    type Response = Response<CallBody>;
    type Error = Infallible;
    type Future = Call;

    fn call(&self, request: Request<Incoming>) -> Call {
        let open = OpenCall::new(&self.activity, request.uri().path() == WATCH);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(&self.peer));
        Call { answer: self.core_routes.call(request), open: Some(open) }
    }
}

/// One call until its answer begins.
struct Call {
    answer: BoxFuture<Response<Body>, Infallible>,
    open: Option<OpenCall>,
}

impl Future for Call {
    type Output = Result<Response<CallBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(Ok(response)) = self.answer.as_mut().poll(cx) else {
            return Poll::Pending;
        };
        let open = self.open.take();
        Poll::Ready(Ok(response.map(|body| CallBody { body, _open: open })))
    }
}

/// The body of an answer; the call is open until it is dropped, trailers included.
struct CallBody {
    body: Body,
    _open: Option<OpenCall>,
}

impl HttpBody for CallBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Counts a call as open until dropped.
struct OpenCall {
    activity: Arc<Activity>,
    is_watch: bool,
}

impl OpenCall {
    fn new(activity: &Arc<Activity>, is_watch: bool) -> Self {
        activity.begun.fetch_add(1, Ordering::Relaxed);
        activity.open(is_watch).fetch_add(1, Ordering::Relaxed);
        Self { activity: Arc::clone(activity), is_watch }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.activity.open(self.is_watch).fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs the calls of a connection on the core the connection lives on.
#[derive(Clone, Copy, Debug)]
struct OnThisCore;

impl<F> hyper::rt::Executor<F> for OnThisCore
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        drop(tokio::spawn(call));
    }
}

/// Waits for the connections of a core to end, at most until the drain's deadline. `false`: some were cut
/// off.
pub(super) async fn all_ended(connections: &mut tokio::task::JoinSet<()>, deadline: Option<Instant>) -> bool {
    let ended = async { while connections.join_next().await.is_some() {} };
    match deadline {
        Some(deadline) => timeout_at(deadline, ended).await.is_ok(),
        None => {
            ended.await;
            true
        }
    }
}
