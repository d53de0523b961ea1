//! The echo: the vault's own server, door, certificates and allocator, and a service that does nothing.
//!
//! A request begins with the length of the answer it wants (4 bytes, big-endian), so that the echo moves as
//! many bytes as the calls it stands beside.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, UnaryService};
use vault_core::limits::BATCH_MESSAGE_BYTES_MAX;
use vault_daemon::clock::SystemClock;
use vault_daemon::daemon::server_options;
use vault_daemon::dev::DevFolder;
use vault_daemon::server::{Routes, Server, ServerOptions};
use vault_daemon::tls::TlsDoor;

use crate::Done;
use crate::cli::ServeOptions;
use crate::process::serve_until_told;
use crate::raw::RawCodec;

/// The one method of the echo.
pub(crate) const PATH: &str = "/vault.bench.Echo/Echo";

static ZEROS: [u8; BATCH_MESSAGE_BYTES_MAX] = [0; BATCH_MESSAGE_BYTES_MAX];

/// A request of `request_bytes` for an answer of `answer_bytes`.
pub(crate) fn request(request_bytes: usize, answer_bytes: usize) -> Bytes {
    let mut request = u32::try_from(answer_bytes).unwrap_or(0).to_be_bytes().to_vec();
    request.resize(request_bytes.max(4), 0);
    request.into()
}

/// Serves the echo beside a vault's folder that is served already: certificates are the vault's.
pub(crate) fn serve(options: &ServeOptions) -> Done {
    let folder = DevFolder::open(&options.folder)?;
    let config = folder.config(options.store.engine())?;
    let door = TlsDoor::open(config.listen.tls.clone(), Arc::new(SystemClock))?;
    let make_core = |_| Routes::new(Echo);
    let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let options = ServerOptions { listen, ..server_options(&config) };
    let running = Server::start(options, Arc::new(door), Arc::new(make_core))?;
    serve_until_told(running.local_addr())?;
    running.drain(Duration::ZERO);
    Ok(())
}

#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "vault.bench.Echo";
}

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(Grpc::new(RawCodec).unary(Self, request).await) })
    }
}

impl UnaryService<Bytes> for Echo {
    type Response = Bytes;
    type Future = Ready<Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        ready(answer(request.get_ref()).map(tonic::Response::new))
    }
}

fn answer(request: &[u8]) -> Result<Bytes, Status> {
    let wanted = request.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) as usize);
    let answer = wanted.and_then(|bytes| ZEROS.get(..bytes));
    answer.map(Bytes::from_static).ok_or_else(|| Status::invalid_argument("no such length"))
}
