//! Bytes below gRPC: in place of TLS, in place of HTTP/2, and certificates that no CA wrote.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::default_provider;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use vault_daemon::TestVault;

use crate::daemon::{serves, sound_calls};
use crate::mutation::{Random, mutated};
use crate::panics::Watch;
use crate::rounds;

/// Attackers at once: each waits most of the time.
const ATTACKERS: u32 = 8;
/// What HTTP/2 and gRPC look for.
const WORDS: [&[u8]; 5] = [&[0; 9], b"application/grpc", &[0xff; 4], b"grpc-timeout", b"99999999H"];
/// How long a silent server is listened to. A sound answer takes far less.
const SILENCE: Duration = Duration::from_millis(30);

#[test]
fn a_daemon_that_is_sent_anything_at_all_serves_on() {
    let watch = Watch::begin();
    let vault = TestVault::start().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let token = runtime.block_on(serves(&vault));
    let site = Arc::new(Site::new(&vault, &token));
    assert!(site.answers_sound_bytes(), "mutations begin at what is understood");
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|attacker| {
            let site = Arc::clone(&site);
            thread::spawn(move || {
                let mut random = Random::of(&format!("bytes {attacker}"));
                (0..rounds(700)).for_each(|_| site.attack(&mut random));
            })
        })
        .collect();
    for attacker in attackers {
        attacker.join().unwrap();
    }
    runtime.block_on(serves(&vault));
    watch.end();
}

/// What an attacker has: an address, a good certificate, and bytes that are understood.
struct Site {
    address: SocketAddr,
    roots: RootCertStore,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    /// HTTP/2 connections with one call each.
    sessions: Vec<Vec<u8>>,
    hellos: Vec<Vec<u8>>,
}

impl Site {
    fn new(vault: &TestVault, token: &str) -> Self {
        let certs = vault.folder().join("certs");
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&certs.join("ca.pem"))).unwrap();
        let calls = sound_calls(token);
        let sessions = calls.iter().filter(|(principal, ..)| *principal == "checkout");
        let mut site = Self {
            address: vault.local_addr(),
            roots,
            certificate: certificate(&certs.join("checkout.pem")),
            key: PrivateKeyDer::from_pem_file(certs.join("checkout.key")).unwrap(),
            sessions: sessions.map(|(_, path, message)| session(path, message)).collect(),
            hellos: Vec::new(),
        };
        let mut hello = Vec::new();
        site.client(site.certificate.clone()).write_tls(&mut hello).unwrap();
        site.hellos.push(hello);
        site
    }

    fn answers_sound_bytes(&self) -> bool {
        let answer = self.send_tls(self.certificate.clone(), &self.sessions[0]);
        answer.windows(8).any(|letters| letters == b"tok_pan_")
    }

    fn attack(&self, random: &mut Random) {
        match random.below(5) {
            0 => self.send_tcp(&mutated(random, &self.hellos, &[])),
            1 => {
                let der = mutated(random, &[self.certificate.to_vec()], &[b"spiffe://", &[0x30, 0x84]]);
                self.send_tls(der.into(), &self.sessions[0]);
            }
            2 => {
                let bytes = mutated(random, &self.sessions, &WORDS);
                self.send_tls(self.certificate.clone(), &bytes);
            }
            _ => {
                let session = random.pick(&self.sessions).clone();
                let bytes = with_a_changed_frame(random, &session);
                self.send_tls(self.certificate.clone(), &bytes);
            }
        }
    }

    fn send_tcp(&self, bytes: &[u8]) {
        let mut tcp = self.connect();
        // A server may hang up in the middle of what it does not like.
        let _ = tcp.write_all(bytes);
        listen(&mut tcp);
    }

    /// What the server says to these bytes inside TLS.
    fn send_tls(&self, certificate: CertificateDer<'static>, bytes: &[u8]) -> Vec<u8> {
        let mut tls = StreamOwned::new(self.client(certificate), self.connect());
        let _ = tls.write_all(bytes);
        let _ = tls.flush();
        let heard = listen(&mut tls);
        tls.conn.send_close_notify();
        let _ = tls.flush();
        let _ = tls.sock.shutdown(Shutdown::Both);
        heard
    }

    fn connect(&self) -> TcpStream {
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_read_timeout(Some(SILENCE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        tcp
    }

    /// A client that shows any bytes as its certificate, and signs with the key of the sound one.
    fn client(&self, certificate: CertificateDer<'static>) -> ClientConnection {
        let provider = default_provider();
        let key = provider.key_provider.load_private_key(self.key.clone_key()).unwrap();
        let shown = Shown(Arc::new(CertifiedKey::new(vec![certificate], key)));
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_client_cert_resolver(Arc::new(shown));
        config.alpn_protocols = vec![b"h2".to_vec()];
        ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap()
    }
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// All that is said before the other side ends or falls silent.
fn listen(from: &mut impl Read) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return heard,
            Ok(length) => heard.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return heard,
        }
    }
}

/// How an HTTP/2 connection begins (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Three bytes of length, one of type, one of flags, four of the stream.
const FRAME_HEADER_BYTES: usize = 9;

/// A session with another type, flags or payload in one frame, whose length says the truth.
fn with_a_changed_frame(random: &mut Random, session: &[u8]) -> Vec<u8> {
    let mut rest = &session[PREFACE.len()..];
    let mut frames = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk::<FRAME_HEADER_BYTES>() {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let (payload, after) = after.split_at(length);
        frames.push((header[3], header[4], header[8], payload.to_vec()));
        rest = after;
    }
    let at = random.below(frames.len());
    let (kind, flags, _, payload) = &mut frames[at];
    match random.below(6) {
        0 => *kind = random.below(12) as u8,
        1 => *flags ^= 1 << random.below(8),
        _ => *payload = mutated(random, std::slice::from_ref(payload), &WORDS),
    }
    let frames =
        frames.iter().map(|(kind, flags, stream, payload)| frame(*kind, *flags, u32::from(*stream), payload));
    [PREFACE.to_vec()].into_iter().chain(frames).collect::<Vec<_>>().concat()
}

/// An HTTP/2 connection (RFC 9113) with one gRPC call, as its client sends it.
fn session(path: &str, message: &[u8]) -> Vec<u8> {
    const SETTINGS: u8 = 4;
    const HEADERS: (u8, u8) = (1, 4); // END_HEADERS
    const DATA: (u8, u8) = (0, 1); // END_STREAM
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", path),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("grpc-timeout", "5S"),
    ];
    let fields: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let message = [&[0], &length[..], message].concat();
    [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS.0, HEADERS.1, 1, &fields),
        frame(DATA.0, DATA.1, 1, &message),
    ]
    .concat()
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field that no table is asked about (RFC 7541 section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}
