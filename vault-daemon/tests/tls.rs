//! The TLS door over real TCP: who comes in, and that nobody else gets as far as one application byte.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ServerSessionMemoryCache;
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    AlertDescription, ClientConfig, HandshakeKind, NamedGroup, RootCertStore, ServerConfig, SignatureScheme,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client};
use vault_core::clock::{Clock, Timestamp};
use vault_core::policy::{Identity, IdentityKind};
use vault_daemon::certificates::{Authority, Leaf, Purpose, Request, Serial, Validity};
use vault_daemon::identity::{Peer, Refused};
use vault_daemon::tls::{ClientCaFiles, Door, Revocation, TlsDoor, TlsError, TlsFiles};

/// 2026-12-01T00:00:00Z: all tests happen then, whenever they run.
const START: u64 = 1_796_083_200;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const CHECKOUT: &str = "spiffe://shop/checkout";
/// What a client sends first; no refused client's bytes may be read.
const CANARY: &[u8] = b"tokenize 4111111111111111";

/// A clock that the test moves.
#[derive(Debug)]
struct TestClock(AtomicU64);

impl TestClock {
    fn set(&self, seconds: u64) {
        self.0.store(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::SeqCst))
    }
}

impl TimeProvider for TestClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::SeqCst))))
    }
}

fn days(from: u64, to: u64) -> Validity {
    Validity {
        not_before: Timestamp::from_seconds(START - DAY + from * DAY),
        not_after: Timestamp::from_seconds(START - DAY + to * DAY),
    }
}

/// From the day before the start to nine days after.
fn usual() -> Validity {
    days(0, 10)
}

/// A folder with a server's and client CAs' files, and what made them.
struct Site {
    folder: TempDir,
    clock: Arc<TestClock>,
    server_ca: Authority,
    client_ca: Authority,
    files: TlsFiles,
}

impl Site {
    fn new(revocation: Revocation) -> Self {
        let folder = TempDir::new().unwrap();
        let server_ca = Authority::root("servers", days(0, 100)).unwrap();
        let client_ca = Authority::root("clients", days(0, 100)).unwrap();
        let files = TlsFiles {
            certificate: folder.path().join("server.pem"),
            private_key: folder.path().join("server.key"),
            client_cas: Vec::new(),
            revocation,
        };
        let clock = Arc::new(TestClock(AtomicU64::new(START)));
        let mut site = Self { folder, clock, server_ca, client_ca, files };
        site.write_server(&Request::server(&["localhost"], &[LOOPBACK], usual()));
        let certificate = site.client_ca.certificate_pem();
        site.add_client_ca("clients", &certificate);
        site.write_list(&[], 1, usual());
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn write_server(&self, request: &Request) {
        let leaf = self.server_ca.issue(request).unwrap();
        self.write("server.pem", &leaf.chain_pem);
        self.write("server.key", &leaf.private_key_pem);
    }

    fn add_client_ca(&mut self, name: &str, certificate_pem: &str) {
        let certificate = self.write(&format!("{name}.pem"), certificate_pem);
        let revocation_lists = vec![self.path(&format!("{name}.crl"))];
        self.files.client_cas.push(ClientCaFiles { name: name.to_owned(), certificate, revocation_lists });
    }

    /// The revocation list of the first client CA.
    fn write_list(&self, revoked: &[&Serial], number: u64, validity: Validity) {
        self.write("clients.crl", &self.client_ca.revocation_list(revoked, number, validity).unwrap());
    }

    fn open(&self) -> Arc<TlsDoor> {
        let clock: Arc<dyn Clock> = self.clock.clone();
        Arc::new(TlsDoor::open(self.files.clone(), clock).unwrap())
    }

    fn open_error(&self) -> TlsError {
        let clock: Arc<dyn Clock> = self.clock.clone();
        TlsDoor::open(self.files.clone(), clock).map(|_| ()).unwrap_err()
    }

    fn client(&self) -> Leaf {
        self.client_ca.issue(&Request::client(CHECKOUT, usual())).unwrap()
    }

    fn client_config(&self, leaf: Option<&Leaf>) -> ClientConfig {
        let builder = self.client_builder();
        let mut config = match leaf {
            Some(leaf) => {
                let key = PrivateKeyDer::from_pem_slice(leaf.private_key_pem.as_bytes()).unwrap();
                builder.with_client_auth_cert(leaf.chain.clone(), key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    fn client_builder(&self) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_ca.certificate().clone()).unwrap();
        ClientConfig::builder_with_details(provider(), self.clock.clone())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(roots)
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What the server saw of one connection.
struct Seen {
    admitted: Result<Arc<Peer>, Refused>,
    application_bytes: usize,
}

/// Serves one connection the way the server does: handshake, admission, and only then bytes.
async fn serve_one(door: &TlsDoor, config: Arc<ServerConfig>, listener: &TcpListener) -> Seen {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = match TlsAcceptor::from(config).accept(stream).await {
        Ok(stream) => stream,
        Err(error) => {
            return Seen { admitted: Err(Refused::from_handshake(&error)), application_bytes: 0 };
        }
    };
    let admitted = door.admit(stream.get_ref().1);
    let mut application_bytes = 0;
    if admitted.is_ok() {
        let mut received = vec![0; CANARY.len()];
        stream.read_exact(&mut received).await.unwrap();
        application_bytes = received.len();
        stream.write_all(b"welcome").await.unwrap();
        stream.shutdown().await.unwrap();
        // Until the client closes: a reset would take the answer away from it.
        let _ = stream.read(&mut received).await;
    }
    Seen { admitted, application_bytes }
}

/// Connects, sends the canary at once and reads to the end: what a client gets to see.
async fn call(
    config: ClientConfig,
    address: SocketAddr,
) -> std::io::Result<(Vec<u8>, client::TlsStream<TcpStream>)> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::IpAddress(LOOPBACK.into());
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(CANARY).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok((answer, stream))
}

async fn visit(door: &TlsDoor, config: ClientConfig) -> (Seen, std::io::Result<Vec<u8>>) {
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let both = async {
        tokio::join!(serve_one(door, door.tls_config(), &listener), async {
            call(config, address).await.map(|(answer, _)| answer)
        })
    };
    tokio::time::timeout(Duration::from_secs(20), both).await.expect("a visit never hangs")
}

/// The positive control: let in, under this name, and served.
async fn assert_admitted(door: &TlsDoor, config: ClientConfig) -> Arc<Peer> {
    let (seen, answer) = visit(door, config).await;
    let peer = seen.admitted.expect("this client must be let in");
    assert_eq!(seen.application_bytes, CANARY.len());
    assert_eq!(answer.unwrap(), b"welcome");
    peer
}

async fn assert_refused(door: &TlsDoor, config: ClientConfig, reason: Refused) -> std::io::Error {
    let (seen, answer) = visit(door, config).await;
    assert_eq!(seen.admitted.map(|peer| peer.identity().cloned()).unwrap_err(), reason);
    assert_eq!(seen.application_bytes, 0, "no byte of a refused client is read");
    answer.expect_err("a refused client sees an error, not an answer")
}

fn alert(error: &std::io::Error) -> AlertDescription {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        other => panic!("expected an alert, not {other:?}"),
    }
}

fn identity(kind: IdentityKind, name: &str, ca: &str) -> Identity {
    Identity { kind, name: name.to_owned(), ca: Some(ca.to_owned()) }
}

#[tokio::test]
async fn a_client_with_one_uri_is_let_in() {
    let site = Site::new(Revocation::Crl);
    let leaf = site.client();
    let peer = assert_admitted(&site.open(), site.client_config(Some(&leaf))).await;
    assert_eq!(peer.identity(), Some(&identity(IdentityKind::Uri, CHECKOUT, "clients")));
    assert_eq!(peer.certificates(), &leaf.chain[..]);
    assert_eq!(peer.not_after(), usual().not_after);
}

#[tokio::test]
async fn a_name_is_one_uri_else_one_dns_name_in_lower_case() {
    let site = Site::new(Revocation::Crl);
    let door = site.open();
    let mut request = Request::client(CHECKOUT, usual());
    request.dns_names = vec!["a.shop.example".to_owned(), "b.shop.example".to_owned()];
    request.common_name = Some("somebody else".to_owned());
    let peer =
        assert_admitted(&door, site.client_config(Some(&site.client_ca.issue(&request).unwrap()))).await;
    assert_eq!(peer.identity(), Some(&identity(IdentityKind::Uri, CHECKOUT, "clients")));

    let mut request = Request::client("x", usual());
    request.uris.clear();
    request.dns_names = vec!["Checkout.Shop.Example".to_owned()];
    let peer =
        assert_admitted(&door, site.client_config(Some(&site.client_ca.issue(&request).unwrap()))).await;
    assert_eq!(peer.identity(), Some(&identity(IdentityKind::Dns, "checkout.shop.example", "clients")));
}

/// A client leaf with one thing changed.
fn leaf_with(site: &Site, change: impl FnOnce(&mut Request)) -> Leaf {
    let mut request = Request::client(CHECKOUT, usual());
    change(&mut request);
    site.client_ca.issue(&request).unwrap()
}

#[tokio::test]
async fn a_bad_leaf_is_refused_for_its_own_reason() {
    let site = Site::new(Revocation::Crl);
    let door = site.open();
    assert_admitted(&door, site.client_config(Some(&leaf_with(&site, |_| ())))).await;

    type Change = fn(&mut Request);
    let second_before = |time: Timestamp| Timestamp::from_seconds(time.seconds() - 1);
    let bad: [(Refused, AlertDescription, Change); 17] = [
        (Refused::Expired, AlertDescription::CertificateExpired, |r| r.validity = days(0, 0)),
        (Refused::NotYetValid, AlertDescription::CertificateExpired, |r| r.validity = days(2, 9)),
        (Refused::WrongUsage, AlertDescription::UnsupportedCertificate, |r| {
            r.purposes = vec![Purpose::Server];
        }),
        (Refused::WrongUsage, AlertDescription::UnsupportedCertificate, |r| {
            r.purposes = vec![Purpose::CodeSigning];
        }),
        (Refused::WrongUsage, AlertDescription::UnsupportedCertificate, |r| r.purposes.clear()),
        (Refused::WrongUsage, AlertDescription::UnsupportedCertificate, |r| r.is_ca = true),
        (Refused::NoName, AlertDescription::CertificateUnknown, |r| r.uris.clear()),
        (Refused::NoName, AlertDescription::CertificateUnknown, |r| {
            r.uris.clear();
            r.common_name = Some("checkout.shop.example".to_owned());
        }),
        (Refused::NoName, AlertDescription::CertificateUnknown, |r| {
            r.uris.clear();
            r.addresses = vec![LOOPBACK];
        }),
        (Refused::AmbiguousName, AlertDescription::CertificateUnknown, |r| {
            r.uris.push("spiffe://shop/billing".to_owned());
        }),
        (Refused::AmbiguousName, AlertDescription::CertificateUnknown, |r| r.uris.push(CHECKOUT.to_owned())),
        (Refused::AmbiguousName, AlertDescription::CertificateUnknown, |r| {
            r.uris.clear();
            r.dns_names = vec!["a.shop.example".to_owned(), "b.shop.example".to_owned()];
        }),
        (Refused::MalformedName, AlertDescription::CertificateUnknown, |r| {
            r.uris.clear();
            r.dns_names = vec!["*.shop.example".to_owned()];
        }),
        (Refused::MalformedName, AlertDescription::CertificateUnknown, |r| {
            r.uris = vec!["spiffe://shop/*".to_owned()];
        }),
        (Refused::MalformedName, AlertDescription::CertificateUnknown, |r| {
            r.uris = vec!["spiffe://shop/check\u{0}out".to_owned()];
        }),
        (Refused::MalformedName, AlertDescription::CertificateUnknown, |r| {
            r.uris = vec!["no scheme".to_owned()];
        }),
        (Refused::MalformedName, AlertDescription::CertificateUnknown, |r| {
            r.uris.clear();
            r.dns_names = vec!["checkout.shop.example.".to_owned()];
        }),
    ];
    for (reason, expected_alert, change) in bad {
        let leaf = leaf_with(&site, change);
        let error = assert_refused(&door, site.client_config(Some(&leaf)), reason).await;
        assert_eq!(alert(&error), expected_alert, "{reason:?}");
    }

    // To the second: the last second counts, the next does not.
    let leaf = leaf_with(&site, |r| r.validity.not_after = Timestamp::from_seconds(START));
    assert_admitted(&door, site.client_config(Some(&leaf))).await;
    let leaf = leaf_with(&site, |r| r.validity.not_after = second_before(Timestamp::from_seconds(START)));
    assert_refused(&door, site.client_config(Some(&leaf)), Refused::Expired).await;
}

#[tokio::test]
async fn a_stranger_is_refused() {
    let site = Site::new(Revocation::Crl);
    let door = site.open();
    let error = assert_refused(&door, site.client_config(None), Refused::NoCertificate).await;
    assert_eq!(alert(&error), AlertDescription::CertificateRequired);

    let other_ca = Authority::root("others", days(0, 100)).unwrap();
    let leaf = other_ca.issue(&Request::client(CHECKOUT, usual())).unwrap();
    let error = assert_refused(&door, site.client_config(Some(&leaf)), Refused::UnknownIssuer).await;
    assert_eq!(alert(&error), AlertDescription::UnknownCA);

    let same_name = Authority::root("clients", days(0, 100)).unwrap();
    let leaf = same_name.issue(&Request::client(CHECKOUT, usual())).unwrap();
    assert_refused(&door, site.client_config(Some(&leaf)), Refused::BadSignature).await;

    // The CA that issued the server's own certificate is no client CA.
    let leaf = site.server_ca.issue(&Request::client(CHECKOUT, usual())).unwrap();
    assert_refused(&door, site.client_config(Some(&leaf)), Refused::UnknownIssuer).await;
}

/// Shows a chain and signs with whatever key it has.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn shows(site: &Site, chain: Vec<CertificateDer<'static>>, key_of: &Leaf) -> ClientConfig {
    let key = PrivateKeyDer::from_pem_slice(key_of.private_key_pem.as_bytes()).unwrap();
    let key = provider().key_provider.load_private_key(key).unwrap();
    let shown = Shows(Arc::new(CertifiedKey::new(chain, key)));
    let mut config = site.client_builder().with_client_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let site = Site::new(Revocation::Crl);
    let (leaf, other) = (site.client(), site.client());
    let door = site.open();
    assert_admitted(&door, shows(&site, leaf.chain.clone(), &leaf)).await;
    let error = assert_refused(&door, shows(&site, leaf.chain.clone(), &other), Refused::BadSignature).await;
    assert_eq!(alert(&error), AlertDescription::DecryptError);
}

fn fixture(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)).unwrap()
}

#[tokio::test]
async fn weak_signatures_are_refused() {
    for (name, reason) in [("sha1", Refused::WeakAlgorithm), ("rsa1024", Refused::BadSignature)] {
        let mut site = Site::new(Revocation::ShortLived);
        site.add_client_ca("weak", &fixture(&format!("{name}-ca.pem")));
        let leaf = CertificateDer::from_pem_slice(fixture(&format!("{name}-leaf.pem")).as_bytes()).unwrap();
        let door = site.open();
        assert_refused(&door, shows(&site, vec![leaf], &site.client()), reason).await;
    }
}

#[tokio::test]
async fn http2_must_be_negotiated() {
    let site = Site::new(Revocation::Crl);
    let (door, leaf) = (site.open(), site.client());
    let mut config = site.client_config(Some(&leaf));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let error = assert_refused(&door, config, Refused::NoHttp2).await;
    assert_eq!(alert(&error), AlertDescription::NoApplicationProtocol);

    let mut config = site.client_config(Some(&leaf));
    config.alpn_protocols.clear();
    let (seen, answer) = visit(&door, config).await;
    assert_eq!(seen.admitted.map(|_| ()).unwrap_err(), Refused::NoHttp2);
    assert_eq!(seen.application_bytes, 0);
    assert!(answer.is_err() || answer.unwrap().is_empty());
}

/// A ClientHello as TLS 1.2 and older send it: no supported_versions extension.
fn old_client_hello(version: [u8; 2]) -> Vec<u8> {
    let extensions: &[u8] = &[
        0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17, // supported_groups: secp256r1
        0x00, 0x0b, 0x00, 0x02, 0x01, 0x00, // ec_point_formats: uncompressed
        0x00, 0x0d, 0x00, 0x06, 0x00, 0x04, 0x04, 0x03, 0x04, 0x01, // signature_algorithms
    ];
    let mut body = version.to_vec();
    body.extend([7; 32]); // random
    body.push(0); // no session
    body.extend([0x00, 0x06, 0xc0, 0x2b, 0xc0, 0x2f, 0x00, 0x2f]); // two AEAD suites and one of CBC
    body.extend([0x01, 0x00]); // no compression
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let handshake = [&[0x01], &length[1..], &body].concat();
    let record_length = u16::try_from(handshake.len()).unwrap().to_be_bytes();
    [&[0x16, 0x03, 0x01], &record_length[..], &handshake].concat()
}

#[tokio::test]
async fn older_versions_are_refused() {
    const PROTOCOL_VERSION_ALERT: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 70];
    let site = Site::new(Revocation::Crl);
    let door = site.open();
    for version in [[3, 3], [3, 2], [3, 1], [3, 0]] {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, answer) = tokio::join!(serve_one(&door, door.tls_config(), &listener), async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&old_client_hello(version)).await.unwrap();
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            answer
        });
        assert_eq!(seen.admitted.map(|_| ()).unwrap_err(), Refused::Version, "{version:?}");
        assert_eq!(answer, PROTOCOL_VERSION_ALERT, "{version:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_tls_are_refused() {
    let site = Site::new(Revocation::Crl);
    let door = site.open();
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, ()) = tokio::join!(serve_one(&door, door.tls_config(), &listener), async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    assert_eq!(seen.admitted.map(|_| ()).unwrap_err(), Refused::Protocol);
}

/// Counts the tickets that a client is given.
#[derive(Debug)]
struct CountsTickets {
    tickets: AtomicUsize,
    kept: ClientSessionMemoryCache,
}

impl ClientSessionStore for CountsTickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(name)
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: rustls::client::Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: rustls::client::Tls13ClientSessionValue) {
        self.tickets.fetch_add(1, Ordering::SeqCst);
        self.kept.insert_tls13_ticket(name, value);
    }

    fn take_tls13_ticket(
        &self,
        name: &ServerName<'static>,
    ) -> Option<rustls::client::Tls13ClientSessionValue> {
        self.kept.take_tls13_ticket(name)
    }
}

/// Visits twice with one client that would resume; how many tickets it got, and how the second handshake
/// went.
async fn visit_twice(site: &Site, door: &TlsDoor, config: Arc<ServerConfig>) -> (usize, HandshakeKind) {
    let store =
        Arc::new(CountsTickets { tickets: AtomicUsize::new(0), kept: ClientSessionMemoryCache::new(8) });
    let mut client = site.client_config(Some(&site.client()));
    client.resumption = Resumption::store(store.clone());
    client.enable_early_data = true;
    let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut kind = None;
    for _ in 0..2 {
        let call = async {
            // The stream is closed in here: the server waits for that.
            let (_, stream) = call(client.clone(), address).await.unwrap();
            assert!(!stream.get_ref().1.is_early_data_accepted());
            stream.get_ref().1.handshake_kind()
        };
        (_, kind) = tokio::join!(serve_one(door, Arc::clone(&config), &listener), call);
    }
    (store.tickets.load(Ordering::SeqCst), kind.unwrap())
}

#[tokio::test]
async fn nothing_is_resumed() {
    let site = Site::new(Revocation::Crl);
    let door = site.open();
    let config = door.tls_config();
    assert_eq!(config.max_early_data_size, 0);
    assert!(!config.ticketer.enabled());
    assert_eq!(visit_twice(&site, &door, Arc::clone(&config)).await, (0, HandshakeKind::Full));

    // The same client at a door that does resume: the test can see what it says is not there.
    let mut loose = ServerConfig::clone(&config);
    loose.send_tls13_tickets = 2;
    loose.session_storage = ServerSessionMemoryCache::new(8);
    let (tickets, kind) = visit_twice(&site, &door, Arc::new(loose)).await;
    assert!(tickets >= 2);
    assert_eq!(kind, HandshakeKind::Resumed);
}

#[tokio::test]
async fn a_revoked_leaf_is_refused() {
    let site = Site::new(Revocation::Crl);
    let (good, revoked) = (site.client(), site.client());
    site.write_list(&[&revoked.serial], 2, usual());
    let door = site.open();
    assert_admitted(&door, site.client_config(Some(&good))).await;
    let error = assert_refused(&door, site.client_config(Some(&revoked)), Refused::Revoked).await;
    assert_eq!(alert(&error), AlertDescription::CertificateRevoked);
}

#[tokio::test]
async fn the_whole_chain_is_checked() {
    let mut site = Site::new(Revocation::Crl);
    let intermediate = site.client_ca.intermediate("team", days(0, 50)).unwrap();
    let leaf = intermediate.issue(&Request::client(CHECKOUT, usual())).unwrap();
    let config = |site: &Site| site.client_config(Some(&leaf));

    assert_refused(&site.open(), config(&site), Refused::RevocationUnknown).await;

    let of_team = site.write("team.crl", &intermediate.revocation_list(&[], 1, usual()).unwrap());
    site.files.client_cas[0].revocation_lists.push(of_team);
    let peer = assert_admitted(&site.open(), config(&site)).await;
    assert_eq!(peer.identity(), Some(&identity(IdentityKind::Uri, CHECKOUT, "clients")));

    let without = shows(&site, vec![leaf.chain[0].clone()], &leaf);
    assert_refused(&site.open(), without, Refused::UnknownIssuer).await;

    site.write("team.crl", &intermediate.revocation_list(&[&leaf.serial], 2, usual()).unwrap());
    assert_refused(&site.open(), config(&site), Refused::Revoked).await;

    site.write("team.crl", &intermediate.revocation_list(&[], 3, usual()).unwrap());
    site.write_list(&[intermediate.serial()], 2, usual());
    assert_refused(&site.open(), config(&site), Refused::Revoked).await;

    // A list that claims to be the intermediate's but is signed by somebody else says nothing.
    site.write_list(&[], 3, usual());
    let forger = Authority::root("team", days(0, 50)).unwrap();
    site.write("team.crl", &forger.revocation_list(&[], 9, usual()).unwrap());
    assert_refused(&site.open(), config(&site), Refused::RevocationUnknown).await;
}

#[tokio::test]
async fn a_stale_list_closes_the_door_by_time_alone() {
    let site = Site::new(Revocation::Crl);
    let next_update = START + HOUR;
    let validity = Validity {
        not_before: Timestamp::from_seconds(START - HOUR),
        not_after: Timestamp::from_seconds(next_update),
    };
    site.write_list(&[], 2, validity);
    let (door, leaf) = (site.open(), site.client());
    let peer = assert_admitted(&door, site.client_config(Some(&leaf))).await;

    site.clock.set(next_update - 1);
    assert!(door.still_admitted(&peer));
    assert!(door.status().is_good(site.clock.now()));

    site.clock.set(next_update);
    assert!(!door.still_admitted(&peer), "open connections are closed too");
    let error = assert_refused(&door, site.client_config(Some(&leaf)), Refused::RevocationStale).await;
    assert_ne!(alert(&error), AlertDescription::CloseNotify);
    assert!(!door.status().is_good(site.clock.now()), "health must show it");

    site.write_list(&[], 3, days(1, 10));
    door.reload().unwrap();
    assert!(door.still_admitted(&peer));
    assert_admitted(&door, site.client_config(Some(&leaf))).await;
}

#[tokio::test]
async fn short_lives_need_no_list() {
    let mut site = Site::new(Revocation::ShortLived);
    fs::remove_file(site.path("clients.crl")).unwrap();
    site.files.client_cas[0].revocation_lists.clear();
    let door = site.open();
    let week = leaf_with(&site, |r| r.validity = days(0, 7));
    assert_admitted(&door, site.client_config(Some(&week))).await;

    let longer = leaf_with(&site, |r| {
        let not_after = r.validity.not_before.plus_seconds(7 * DAY + 1);
        r.validity.not_after = not_after;
    });
    assert_refused(&door, site.client_config(Some(&longer)), Refused::TooLongLived).await;
    let expired = leaf_with(&site, |r| r.validity.not_after = Timestamp::from_seconds(START - 1));
    assert_refused(&door, site.client_config(Some(&expired)), Refused::Expired).await;

    // No list could take back an intermediate either.
    let lasting = site.client_ca.intermediate("team", days(0, 50)).unwrap();
    let leaf = lasting.issue(&Request::client(CHECKOUT, days(0, 7))).unwrap();
    assert_refused(&door, site.client_config(Some(&leaf)), Refused::TooLongLived).await;
    let brief = site.client_ca.intermediate("team", days(0, 7)).unwrap();
    let leaf = brief.issue(&Request::client(CHECKOUT, days(0, 7))).unwrap();
    assert_admitted(&door, site.client_config(Some(&leaf))).await;
}

#[tokio::test]
async fn the_identity_names_the_ca() {
    let mut site = Site::new(Revocation::ShortLived);
    let partners = Authority::root("partners", days(0, 100)).unwrap();
    site.add_client_ca("partners", &partners.certificate_pem());
    let door = site.open();
    let request = Request::client(CHECKOUT, days(0, 7));
    let ours =
        assert_admitted(&door, site.client_config(Some(&site.client_ca.issue(&request).unwrap()))).await;
    let theirs = assert_admitted(&door, site.client_config(Some(&partners.issue(&request).unwrap()))).await;
    assert_eq!(ours.identity(), Some(&identity(IdentityKind::Uri, CHECKOUT, "clients")));
    assert_eq!(theirs.identity(), Some(&identity(IdentityKind::Uri, CHECKOUT, "partners")));

    // Take the partners away: they are out, also where they are already in.
    site.write("partners.pem", &site.server_ca.certificate_pem());
    door.reload().unwrap();
    assert!(door.still_admitted(&ours));
    assert!(!door.still_admitted(&theirs));

    // The same key under another name is another identity: policy may pin it.
    site.files.client_cas[0].name = "renamed".to_owned();
    assert!(!site.open().still_admitted(&ours));
}

#[tokio::test]
async fn a_ca_that_has_expired_lets_nobody_in() {
    let mut site = Site::new(Revocation::ShortLived);
    let brief = Authority::root("brief", days(0, 2)).unwrap();
    site.add_client_ca("brief", &brief.certificate_pem());
    let door = site.open();
    let leaf = brief.issue(&Request::client(CHECKOUT, days(0, 7))).unwrap();
    let peer = assert_admitted(&door, site.client_config(Some(&leaf))).await;
    site.clock.set(START + DAY + 1);
    assert!(!door.still_admitted(&peer));
    assert_refused(&door, site.client_config(Some(&leaf)), Refused::Expired).await;
    assert!(!door.status().is_good(site.clock.now()));
}

#[tokio::test]
async fn open_connections_are_asked_again() {
    let site = Site::new(Revocation::Crl);
    let (door, leaf) = (site.open(), site.client());
    let peer = assert_admitted(&door, site.client_config(Some(&leaf))).await;
    assert!(door.still_admitted(&peer));

    site.clock.set(usual().not_after.seconds() + 1);
    assert!(!door.still_admitted(&peer), "its certificate has ended");
    site.clock.set(START - 2 * DAY);
    assert!(!door.still_admitted(&peer), "a clock that jumps back opens nothing");
    site.clock.set(START);
    assert!(door.still_admitted(&peer));

    site.write_list(&[&leaf.serial], 2, usual());
    assert!(door.still_admitted(&peer), "nobody has read the new list yet");
    door.reload().unwrap();
    assert!(!door.still_admitted(&peer));
}

#[tokio::test]
async fn changed_files_are_noticed() {
    let site = Site::new(Revocation::Crl);
    let (door, leaf) = (site.open(), site.client());
    let peer = assert_admitted(&door, site.client_config(Some(&leaf))).await;
    let alarms = Arc::new(AtomicUsize::new(0));
    let alarm = Arc::clone(&alarms);
    let count = move || {
        alarm.fetch_add(1, Ordering::SeqCst);
    };
    let _watch = door.watch(Duration::from_millis(20), count).unwrap();
    site.write_list(&[&leaf.serial], 2, usual());
    wait_until(|| !door.still_admitted(&peer)).await;

    site.write("clients.crl", "no list at all");
    wait_until(|| door.status().reload_failure.is_some()).await;
    assert!(!door.still_admitted(&peer), "the last good list stays in force");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(alarms.load(Ordering::SeqCst), 1, "one failure, looked at ten times, is one alarm");
    site.write_list(&[], 3, usual());
    wait_until(|| door.status().reload_failure.is_none()).await;
    assert!(door.still_admitted(&peer));

    // What time alone makes good is noticed too.
    let old = door.tls_config();
    site.write_server(&Request::server(&["localhost"], &[LOOPBACK], days(2, 20)));
    wait_until(|| door.status().reload_failure.is_some()).await;
    site.clock.set(START + 2 * DAY);
    wait_until(|| door.status().reload_failure.is_none()).await;
    assert!(!Arc::ptr_eq(&old, &door.tls_config()));
    assert_eq!(alarms.load(Ordering::SeqCst), 2);
}

async fn wait_until(mut condition: impl FnMut() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not happen within ten seconds");
}

#[tokio::test]
async fn a_bad_file_keeps_what_was_good() {
    let site = Site::new(Revocation::Crl);
    let (door, leaf) = (site.open(), site.client());
    let peer = assert_admitted(&door, site.client_config(Some(&leaf))).await;
    let good: Vec<(PathBuf, Vec<u8>)> = fs::read_dir(site.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    let other_ca = Authority::root("clients", days(0, 100)).unwrap();
    let other_server = site.server_ca.issue(&Request::server(&["localhost"], &[LOOPBACK], usual())).unwrap();
    let expired = Request::server(&["localhost"], &[LOOPBACK], days(0, 0));
    let expired = site.server_ca.issue(&expired).unwrap();
    let second_before = Timestamp::from_seconds(usual().not_before.seconds() - 1);
    let earlier = |number| {
        let validity = Validity { not_before: second_before, ..usual() };
        site.client_ca.revocation_list(&[], number, validity).unwrap()
    };
    let bad = [
        ("clients.crl", String::new(), "neither DER nor PEM"),
        ("clients.crl", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".to_owned(), "malformed"),
        ("clients.crl", other_ca.revocation_list(&[], 9, usual()).unwrap(), "not signed by the CA"),
        ("clients.crl", site.client_ca.revocation_list(&[], 0, usual()).unwrap(), "older"),
        ("clients.crl", earlier(1), "older"),
        ("clients.crl", earlier(2), "older"),
        ("clients.pem", leaf.chain_pem.clone(), "is no CA"),
        ("clients.pem", other_ca.certificate_pem(), "not signed by the CA"),
        ("clients.pem", "nothing".to_owned(), "not PEM"),
        ("server.key", other_server.private_key_pem.to_string(), "cannot be used together"),
        ("server.key", "nothing".to_owned(), "not PEM"),
        ("server.pem", expired.chain_pem.clone(), "has expired"),
    ];
    for (name, content, why) in bad {
        site.write(name, &content);
        let error = door.reload().expect_err(why).to_string();
        assert!(error.contains(why), "{error} should say {why}");
        assert_eq!(door.status().reload_failure, Some(error));
        assert!(door.still_admitted(&peer));
        assert_admitted(&door, site.client_config(Some(&leaf))).await;
        for (path, content) in &good {
            fs::write(path, content).unwrap();
        }
        door.reload().unwrap();
        assert_eq!(door.status().reload_failure, None);
    }

    fs::set_permissions(site.path("server.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(door.reload().unwrap_err(), TlsError::Exposed { .. }));
    fs::set_permissions(site.path("server.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(site.path("clients.crl")).unwrap();
    assert!(matches!(door.reload().unwrap_err(), TlsError::Read { .. }));
    assert!(door.still_admitted(&peer));
}

#[test]
fn a_list_without_a_number_is_refused() {
    let mut site = Site::new(Revocation::Crl);
    site.add_client_ca("unnumbered", &fixture("unnumbered-ca.pem"));
    site.write("unnumbered.crl", &fixture("unnumbered.crl"));
    let refused = site.open_error().to_string();
    assert!(refused.contains("unnumbered.crl has no CRL number"), "{refused}");
}

#[test]
fn of_several_lists_of_one_ca_the_newest_counts() {
    let site = Site::new(Revocation::Crl);
    let list = |number| site.client_ca.revocation_list(&[], number, usual()).unwrap();
    site.write("clients.crl", &[list(1), list(2)].concat());
    let door = site.open();
    door.reload().unwrap();
    site.write("clients.crl", &[list(3), list(1)].concat());
    door.reload().unwrap();
    site.write("clients.crl", &[list(2), list(1)].concat());
    assert!(door.reload().unwrap_err().to_string().contains("older"));
}

/// Numbers of lists are counted by each CA for itself, whatever it is called.
#[tokio::test]
async fn lists_of_two_cas_with_one_name_are_told_apart() {
    let mut site = Site::new(Revocation::Crl);
    let namesake = Authority::root("clients", days(0, 100)).unwrap();
    site.add_client_ca("namesake", &namesake.certificate_pem());
    let theirs = |revoked: &[&Serial], number| namesake.revocation_list(revoked, number, usual()).unwrap();
    let leaf = namesake.issue(&Request::client(CHECKOUT, usual())).unwrap();
    site.write("namesake.crl", &theirs(&[], 9));
    site.write_list(&[], 5, usual());
    let door = site.open();
    // A newer one of the one does not hide that the other's goes back.
    site.write("namesake.crl", &theirs(&[], 10));
    site.write_list(&[], 4, usual());
    assert!(door.reload().unwrap_err().to_string().contains("older"));
    // Nor is a lower number older than that of a namesake.
    site.write_list(&[], 6, usual());
    door.reload().unwrap();
    assert_admitted(&door, site.client_config(Some(&leaf))).await;

    // Old and new certificate of one CA under one name, each with a list: each is asked its own.
    let both = [site.client_ca.certificate_pem(), namesake.certificate_pem()].concat();
    site.files.client_cas.truncate(1);
    site.write("clients.pem", &both);
    let ours = |number| site.client_ca.revocation_list(&[], number, usual()).unwrap();
    site.write("clients.crl", &ours(7));
    assert!(site.open_error().to_string().contains("no revocation list of its own"));
    site.write("clients.crl", &[ours(7), theirs(&[], 11)].concat());
    let door = site.open();
    let client = site.client();
    assert_admitted(&door, site.client_config(Some(&client))).await;
    assert_admitted(&door, site.client_config(Some(&leaf))).await;
    site.write("clients.crl", &[ours(7), theirs(&[&leaf.serial], 12)].concat());
    door.reload().unwrap();
    assert_admitted(&door, site.client_config(Some(&client))).await;
    assert_refused(&door, site.client_config(Some(&leaf)), Refused::Revoked).await;
}

#[tokio::test]
async fn a_new_server_certificate_is_shown_without_a_restart() {
    let site = Site::new(Revocation::Crl);
    let (door, leaf) = (site.open(), site.client());
    assert_admitted(&door, site.client_config(Some(&leaf))).await;
    let first = door.tls_config();
    site.write_server(&Request::server(&["localhost"], &[LOOPBACK], days(0, 40)));
    door.reload().unwrap();
    assert!(!Arc::ptr_eq(&first, &door.tls_config()));
    assert_admitted(&door, site.client_config(Some(&leaf))).await;
    let ends = door.status().deadlines.into_iter().find(|deadline| deadline.what == "server certificate");
    assert_eq!(ends.unwrap().at, days(0, 40).not_after);
}

#[test]
fn a_door_without_lists_or_cas_does_not_open() {
    let mut site = Site::new(Revocation::Crl);
    site.files.client_cas[0].revocation_lists.clear();
    assert!(site.open_error().to_string().contains("no revocation list"));
    site.files.client_cas.clear();
    assert!(site.open_error().to_string().contains("nobody could come in"));

    let mut site = Site::new(Revocation::ShortLived);
    let certificate = site.client_ca.certificate_pem();
    site.add_client_ca("again", &certificate);
    assert!(site.open_error().to_string().contains("key of another"));
}

/// Every single-bit change of a good leaf: refused, and never a panic.
#[test]
fn a_flipped_bit_opens_nothing() {
    let site = Site::new(Revocation::Crl);
    let (door, leaf) = (site.open(), site.client());
    let peer = |der: Vec<u8>| {
        let name = identity(IdentityKind::Uri, CHECKOUT, "clients");
        Peer::new(Some(name), vec![CertificateDer::from(der)], usual().not_after)
    };
    let good = leaf.chain[0].to_vec();
    assert!(door.still_admitted(&peer(good.clone())), "the unchanged leaf is the control");
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << bit;
            assert!(!door.still_admitted(&peer(flipped)), "byte {at}, bit {bit}");
        }
    }
    let trailing = [good, vec![0]].concat();
    assert!(!door.still_admitted(&peer(trailing)));
}
