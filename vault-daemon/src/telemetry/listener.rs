//! The only plaintext listener: `/metrics`, `/live`, `/ready`, on this machine only.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, oneshot};

use super::Exposition;
use crate::config::MetricsListen;

/// The media type that Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Scrapers at once; a local program that opens more waits.
const CONNECTIONS_MAX: usize = 16;
/// A scrape takes milliseconds; a connection that is longer silent is not a scraper.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept: file descriptors need time to come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Reading and writing for this user and group; whoever scrapes belongs to the group.
const SOCKET_MODE: u32 = 0o660;

/// Metrics and health could not be offered.
#[derive(Debug, Error)]
#[error("cannot listen for metrics: {0}")]
pub struct ListenerError(#[from] io::Error);

/// A listener at work; it ends when this is dropped.
pub struct Listener {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    local_addr: Option<SocketAddr>,
}

/// A socket that no runtime knows of yet.
enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens where the configuration says; `None` where it says nowhere.
    ///
    /// # Errors
    /// When the address or path cannot be bound.
    pub fn start(listen: &MetricsListen, exposition: Exposition) -> Result<Option<Self>, ListenerError> {
        // Bound without a runtime: whoever starts a daemon may be inside one of their own.
        let (socket, local_addr) = match listen {
            MetricsListen::Off => return Ok(None),
            MetricsListen::Loopback(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                let local_addr = listener.local_addr()?;
                (Bound::Tcp(listener), Some(local_addr))
            }
            MetricsListen::Unix(path) => {
                remove_stale(path)?;
                let listener = std::os::unix::net::UnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
                (Bound::Unix(listener, path.clone()), None)
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || runtime.block_on(serve_until(socket, exposition, stopped));
        let thread = thread::Builder::new().name("vaultd-metrics".to_owned()).spawn(serve)?;
        Ok(Some(Self { stop: Some(stop), thread: Some(thread), local_addr }))
    }

    /// Where it listens, with the real port; `None` for a Unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A socket that a killed daemon left behind would refuse the next bind.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(path),
        _ => Ok(()),
    }
}

/// Serves until told to stop.
async fn serve_until(bound: Bound, exposition: Exposition, stopped: oneshot::Receiver<()>) {
    let (socket, file) = match bound {
        Bound::Tcp(listener) => (TcpListener::from_std(listener).map(Socket::Tcp), None),
        Bound::Unix(listener, path) => (UnixListener::from_std(listener).map(Socket::Unix), Some(path)),
    };
    match socket {
        Ok(socket) => tokio::select! {
            () = accept(&socket, exposition) => {}
            _ = stopped => {}
        },
        Err(error) => tracing::error!(event = "metrics_unavailable", kind = ?error.kind()),
    }
    if let Some(path) = file {
        let _ = fs::remove_file(path);
    }
}

async fn accept(socket: &Socket, exposition: Exposition) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let exposition = exposition.clone();
        let accepted = match socket {
            Socket::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                drop(tokio::spawn(async move {
                    serve(stream, exposition).await;
                    drop(place);
                }));
            }),
            Socket::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                drop(tokio::spawn(async move {
                    serve(stream, exposition).await;
                    drop(place);
                }));
            }),
        };
        if accepted.is_err() {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, exposition: Exposition) {
    let answer = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, &exposition);
        async move { Ok::<_, Infallible>(answer) }
    });
    // A scraper that goes away in the middle is not our trouble.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

fn answer(request: &Request<Incoming>, exposition: &Exposition) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
    }
    match request.uri().path() {
        "/live" => text(StatusCode::OK, "live\n"),
        "/ready" if exposition.is_ready() => text(StatusCode::OK, "ready\n"),
        "/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        "/metrics" => {
            let mut response = Response::new(Full::new(Bytes::from(exposition.text())));
            response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(OPEN_METRICS));
            response
        }
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /live and /ready\n"),
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = status;
    response
}
