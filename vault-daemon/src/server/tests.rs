//! The server over real TLS, with a door of its own that tests can slam.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

use std::convert::Infallible;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;
use vault_core::clock::Timestamp;

use super::*;
use crate::identity::Peer;

/// Admits who shows a certificate of the test's CA, until slammed.
struct TestDoor {
    config: Arc<ServerConfig>,
    slammed: AtomicBool,
}

impl Door for TestDoor {
    fn tls_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    fn admit(&self, connection: &ServerConnection) -> Result<Arc<Peer>, Refused> {
        let certificates = connection.peer_certificates().ok_or(Refused::NoCertificate)?.to_vec();
        if self.slammed.load(Ordering::Relaxed) {
            return Err(Refused::Revoked);
        }
        Ok(Arc::new(Peer::new(None, certificates, Timestamp::from_seconds(4_000_000_000))))
    }

    fn still_admitted(&self, _peer: &Peer) -> bool {
        !self.slammed.load(Ordering::Relaxed)
    }
}

/// Answers `/test.Gate/…` with the core's number, `/test.Gate/Wait` once the gate opens.
#[derive(Clone)]
struct Gate<const HEALTH: bool = false> {
    core: usize,
    open: Arc<Semaphore>,
}

impl<const HEALTH: bool> NamedService for Gate<HEALTH> {
    const NAME: &'static str = if HEALTH { "grpc.health.v1.Health" } else { "test.Gate" };
}

impl<const HEALTH: bool> Service<Request<Body>> for Gate<HEALTH> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        assert!(request.extensions().get::<Arc<Peer>>().is_some_and(|peer| !peer.certificates().is_empty()));
        let Self { core, open } = self.clone();
        Box::pin(async move {
            if request.uri().path().ends_with("/Wait") || HEALTH {
                open.acquire().await.unwrap().forget();
            }
            Ok(Response::builder().header("core", core.to_string()).body(Body::empty()).unwrap())
        })
    }
}

struct Site {
    server: Option<Running>,
    door: Arc<TestDoor>,
    gate: Arc<Semaphore>,
    client: Arc<ClientConfig>,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    fn start(options: ServerOptions) -> Self {
        let (server, client) = configs();
        let door = Arc::new(TestDoor { config: server, slammed: AtomicBool::new(false) });
        let gate = Arc::new(Semaphore::new(0));
        let opened = Arc::clone(&gate);
        let make = move |core| {
            let gate = Gate::<false> { core, open: Arc::clone(&opened) };
            Routes::new(gate).add_service(Gate::<true> { core, open: Arc::clone(&opened) })
        };
        let server = Server::start(options, Arc::clone(&door) as _, Arc::new(make)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { server: Some(server), door, gate, client, runtime }
    }

    fn server(&self) -> &Running {
        self.server.as_ref().unwrap()
    }

    fn counters(&self) -> Arc<Counters> {
        self.server().counters()
    }

    async fn connect(&self) -> io::Result<Client> {
        self.connect_as(Arc::clone(&self.client)).await
    }

    async fn connect_as(&self, config: Arc<ClientConfig>) -> io::Result<Client> {
        let tcp = TcpStream::connect(self.server().local_addr()).await?;
        let tls = TlsConnector::from(config).connect("localhost".try_into().unwrap(), tcp).await?;
        let (calls, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls))
                .await
                .map_err(io::Error::other)?;
        let closed = tokio::spawn(async move { drop(connection.await) });
        Ok(Client { calls, closed })
    }
}

struct Client {
    calls: SendRequest<Empty<Bytes>>,
    closed: tokio::task::JoinHandle<()>,
}

impl Client {
    fn call(
        &mut self,
        path: &str,
    ) -> impl Future<Output = hyper::Result<Response<hyper::body::Incoming>>> + use<> {
        let request = Request::post(format!("https://localhost{path}")).body(Empty::new()).unwrap();
        self.calls.send_request(request)
    }

    async fn core(&mut self) -> usize {
        let response = self.call("/test.Gate/Core").await.unwrap();
        response.headers()["core"].to_str().unwrap().parse().unwrap()
    }

    /// Waits until the server has closed this connection.
    async fn closed_within(self, limit: Duration) {
        tokio::time::timeout(limit, self.closed).await.expect("still open").unwrap();
    }
}

fn configs() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let roots = Arc::new(roots);
    let leaf = |name: &str| -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let (chain, key) = leaf("localhost");
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let (chain, key) = leaf("checkout.example");
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    client.alpn_protocols = vec![b"h2".to_vec()];
    (Arc::new(server), Arc::new(client))
}

/// The same client without a certificate of its own.
fn nameless(config: &ClientConfig) -> ClientConfig {
    #[derive(Debug)]
    struct Nobody;
    impl rustls::client::ResolvesClientCert for Nobody {
        fn resolve(
            &self,
            _: &[&[u8]],
            _: &[rustls::SignatureScheme],
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            None
        }
        fn has_certs(&self) -> bool {
            false
        }
    }
    let mut config = config.clone();
    config.client_auth_cert_resolver = Arc::new(Nobody);
    config
}

fn options() -> ServerOptions {
    ServerOptions { cores: 2, ..ServerOptions::default() }
}

/// Polls until `condition` holds; the limit only keeps a broken test from hanging.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = std::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < limit, "never happened: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn connections_are_dealt_evenly_and_stay_on_their_core() {
    let site = Site::start(options());
    site.runtime.block_on(async {
        let mut clients = Vec::new();
        let mut per_core = [0; 2];
        for _ in 0..6 {
            let mut client = site.connect().await.unwrap();
            let core = client.core().await;
            assert_eq!(client.core().await, core);
            per_core[core] += 1;
            clients.push(client);
        }
        assert_eq!(per_core, [3, 3]);
        assert_eq!(site.server().connections(), 6);
    });
}

#[test]
fn a_method_of_no_service_is_unimplemented() {
    let site = Site::start(options());
    site.runtime.block_on(async {
        let mut client = site.connect().await.unwrap();
        for path in ["/test.Other/Core", "/nothing", "/test.Gat/x", "/test.Gate.x/y"] {
            let response = client.call(path).await.unwrap();
            assert_eq!(response.headers()["grpc-status"], "12", "{path}");
            assert!(response.into_body().collect().await.unwrap().to_bytes().is_empty());
        }
    });
}

#[test]
fn beyond_the_connection_bound_new_ones_are_closed_and_a_free_place_is_used_again() {
    let site = Site::start(ServerOptions { connections_max: 2, ..options() });
    let (first, _second) = site.runtime.block_on(async {
        let pair = (site.connect().await.unwrap(), site.connect().await.unwrap());
        assert!(site.connect().await.is_err());
        pair
    });
    assert_eq!(site.counters().refused()[&Refused::Connections], 1);
    site.runtime.block_on(async {
        drop(first.calls);
        first.closed.await.unwrap();
    });
    eventually("the place is free", || site.server().connections() == 1);
    site.runtime.block_on(async {
        assert!(site.connect().await.is_ok());
    });
}

#[test]
fn handshakes_that_never_come_are_bounded_in_number_and_time() {
    let site = Site::start(ServerOptions {
        handshakes_max: 3,
        handshake_timeout: Duration::from_millis(300),
        ..options()
    });
    let silent: Vec<_> =
        (0..3).map(|_| std::net::TcpStream::connect(site.server().local_addr()).unwrap()).collect();
    eventually("three are waiting", || site.server().connections() == 3);
    site.runtime.block_on(async { assert!(site.connect().await.is_err()) });
    assert_eq!(site.counters().refused()[&Refused::Connections], 1);
    eventually("all have timed out", || site.counters().refused().get(&Refused::Timeout) == Some(&3));
    site.runtime.block_on(async { assert!(site.connect().await.is_ok()) });
    drop(silent);
}

#[test]
fn without_certificate_or_alpn_or_admission_there_is_no_connection() {
    let site = Site::start(options());
    let bare = |edit: fn(&mut ClientConfig)| {
        let mut config = (*site.client).clone();
        edit(&mut config);
        Arc::new(config)
    };
    site.runtime.block_on(async {
        let nameless = Arc::new(nameless(&site.client));
        if let Ok(mut client) = site.connect_as(nameless).await {
            assert!(client.call("/test.Gate/Core").await.is_err());
        }
        let old = bare(|config| config.alpn_protocols = Vec::new());
        if let Ok(mut client) = site.connect_as(old).await {
            assert!(client.call("/test.Gate/Core").await.is_err());
        }
        site.door.slammed.store(true, Ordering::Relaxed);
        if let Ok(mut client) = site.connect().await {
            assert!(client.call("/test.Gate/Core").await.is_err());
        }
    });
    // A refusal is counted after its alert is sent.
    eventually("counted", || site.counters().refused().values().sum::<u64>() == 3);
    let refused = site.counters().refused();
    assert_eq!(refused.get(&Refused::NoHttp2), Some(&1));
    assert_eq!(refused.get(&Refused::Revoked), Some(&1));
    assert_eq!(refused.values().sum::<u64>(), 3);
    assert_eq!(site.counters().admitted(), 0);
}

#[test]
fn a_peer_no_longer_admitted_loses_its_connection_but_not_its_call() {
    let site = Site::start(ServerOptions { recheck_every: Duration::from_millis(50), ..options() });
    site.runtime.block_on(async {
        let mut client = site.connect().await.unwrap();
        let waiting = client.call("/test.Gate/Wait");
        client.core().await;
        site.door.slammed.store(true, Ordering::Relaxed);
        // The GOAWAY comes first; the waiting call still gets its answer.
        let waiting = tokio::spawn(waiting);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(client.calls.ready().await.is_err() || client.call("/test.Gate/Core").await.is_err());
        site.gate.add_permits(1);
        assert!(waiting.await.unwrap().is_ok());
        client.closed_within(Duration::from_secs(10)).await;
    });
    eventually("counted", || site.counters().ended(Ending::NotAdmitted) == 1);
}

#[test]
fn a_call_that_outlives_the_grace_is_cut_off() {
    let site = Site::start(ServerOptions {
        connection_age_max: Duration::from_millis(100),
        age_grace: Duration::from_millis(100),
        ..options()
    });
    site.runtime.block_on(async {
        let mut client = site.connect().await.unwrap();
        let waiting = client.call("/test.Gate/Wait");
        assert!(waiting.await.is_err(), "the gate never opened");
        client.closed_within(Duration::from_secs(10)).await;
    });
    eventually("counted", || site.counters().ended(Ending::Age) == 1 && site.server().connections() == 0);
}

#[test]
fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let site = Site::start(ServerOptions { idle_timeout: Duration::from_millis(100), ..options() });
    site.runtime.block_on(async {
        let mut busy = site.connect().await.unwrap();
        let waiting = tokio::spawn(busy.call("/test.Gate/Wait"));
        let mut idle = site.connect().await.unwrap();
        idle.core().await;
        idle.closed_within(Duration::from_secs(10)).await;
        assert!(!busy.closed.is_finished());
        site.gate.add_permits(1);
        assert!(waiting.await.unwrap().is_ok());
        busy.closed_within(Duration::from_secs(10)).await;
    });
    eventually("counted", || site.counters().ended(Ending::Idle) == 2);
}

#[test]
fn a_drain_finishes_calls_refuses_new_connections_and_ends_every_thread() {
    let mut site = Site::start(options());
    let server = site.server.take().unwrap();
    let (address, counters) = (server.local_addr(), server.counters());
    site.server = Some(server);
    let (mut client, waiting) = site.runtime.block_on(async {
        let mut client = site.connect().await.unwrap();
        let waiting = tokio::spawn(client.call("/test.Gate/Wait"));
        client.core().await;
        (client, waiting)
    });
    let server = site.server.take().unwrap();
    let drained = thread::spawn(move || server.drain(Duration::from_secs(30)));
    let gate = Arc::clone(&site.gate);
    site.runtime.block_on(async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(std::net::TcpStream::connect(address).is_err(), "nobody listens any more");
        assert!(client.call("/test.Gate/Core").await.is_err());
        assert!(!drained.is_finished());
        gate.add_permits(1);
        assert!(waiting.await.unwrap().is_ok());
        client.closed_within(Duration::from_secs(10)).await;
    });
    assert!(drained.join().unwrap(), "nothing was cut off");
    assert_eq!((counters.open(), counters.ended(Ending::Drain)), (0, 1));
}

#[test]
fn a_drain_waits_neither_for_clients_that_hear_nothing_nor_for_watches() {
    let mut site = Site::start(options());
    // From here on nobody works for the clients: they answer nothing.
    let clients = site.runtime.block_on(async {
        let mut idle = site.connect().await.unwrap();
        idle.core().await;
        let mut watching = site.connect().await.unwrap();
        let watch = tokio::spawn(watching.call("/grpc.health.v1.Health/Watch"));
        watching.core().await;
        (idle, watching, watch)
    });
    let begun = Instant::now();
    assert!(site.server.take().unwrap().drain(Duration::from_secs(60)), "nothing was cut off");
    assert!(begun.elapsed() < Duration::from_secs(30), "it did not take the whole grace");
    drop(clients);
}

#[test]
fn a_drain_cuts_off_what_does_not_finish() {
    let mut site = Site::start(options());
    let (client, waiting) = site.runtime.block_on(async {
        let mut client = site.connect().await.unwrap();
        let waiting = tokio::spawn(client.call("/test.Gate/Wait"));
        client.core().await;
        (client, waiting)
    });
    let server = site.server.take().unwrap();
    let counters = server.counters();
    assert!(!server.drain(Duration::from_millis(100)));
    site.runtime.block_on(async {
        assert!(waiting.await.unwrap().is_err());
        client.closed_within(Duration::from_secs(10)).await;
    });
    assert_eq!(counters.open(), 0);
}

#[test]
fn an_address_in_use_is_an_error_not_a_loop() {
    let site = Site::start(options());
    let taken = ServerOptions { listen: site.server().local_addr(), ..options() };
    let door = Arc::clone(&site.door) as Arc<dyn Door>;
    let error = Server::start(taken, door, Arc::new(|_| Routes::default())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}
