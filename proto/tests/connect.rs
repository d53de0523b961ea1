//! The connector against servers of every kind: which it accepts, and what it says of the others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests may stop loudly"
)]

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use vault_proto::v1::GetStatusRequest;
use vault_proto::v1::custody_client::CustodyClient;
use vault_proto::{ConnectError, Connector};

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn leaf(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        Leaf { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    fn client(&self) -> Leaf {
        self.leaf("checkout.test", ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn server_config(&self, server: &Leaf, alpn: &[&[u8]]) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        let pem = rustls_pki_types::pem::PemObject::from_pem_slice(self.pem.as_bytes()).unwrap();
        roots.add(pem).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![server.certificate.der().clone()],
                PrivateKeyDer::Pkcs8(server.key.serialize_der().into()),
            )
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

/// Accepts connections for ever, finishes TLS and holds them; answers its endpoint.
async fn serve(config: Arc<ServerConfig>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = TlsAcceptor::from(Arc::clone(&config));
            tokio::spawn(async move {
                if let Ok(mut tls) = acceptor.accept(tcp).await {
                    let mut sink = [0; 1024];
                    while tls.read(&mut sink).await.is_ok_and(|count| count > 0) {}
                }
            });
        }
    });
    endpoint
}

async fn vault(authority: &Authority) -> String {
    let server = authority.leaf("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    serve(authority.server_config(&server, &[b"h2"])).await
}

fn connector(endpoint: &str, ca: &Authority, client: &Leaf) -> Connector {
    Connector::new(
        endpoint,
        ca.pem.as_bytes(),
        client.certificate.pem().as_bytes(),
        client.key.serialize_pem().as_bytes(),
    )
    .unwrap()
    .with_timeout(Duration::from_secs(5))
}

async fn refused(connector: &Connector) -> ConnectError {
    connector.connect().await.expect_err("the connection must not stand")
}

#[tokio::test]
async fn a_vault_under_the_ca_is_accepted() {
    let ca = Authority::new();
    connector(&vault(&ca).await, &ca, &ca.client()).connect().await.unwrap();
}

#[tokio::test]
async fn a_server_of_another_ca_is_refused() {
    let (ca, other) = (Authority::new(), Authority::new());
    let endpoint = vault(&other).await;
    assert_eq!(refused(&connector(&endpoint, &ca, &ca.client())).await, ConnectError::ServerRefused);
}

#[tokio::test]
async fn a_server_of_another_name_is_refused_unless_that_name_is_asked_for() {
    let ca = Authority::new();
    let server = ca.leaf("vault.test", ExtendedKeyUsagePurpose::ServerAuth);
    let endpoint = serve(ca.server_config(&server, &[b"h2"])).await;
    let connector = connector(&endpoint, &ca, &ca.client());
    assert_eq!(refused(&connector).await, ConnectError::ServerRefused);
    connector.with_server_name("vault.test").unwrap().connect().await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_as_server_certificate_is_refused() {
    let ca = Authority::new();
    let server = ca.leaf("127.0.0.1", ExtendedKeyUsagePurpose::ClientAuth);
    let endpoint = serve(ca.server_config(&server, &[b"h2"])).await;
    assert_eq!(refused(&connector(&endpoint, &ca, &ca.client())).await, ConnectError::ServerRefused);
}

#[tokio::test]
async fn a_refused_client_certificate_is_named_at_the_latest_at_the_first_call() {
    let (ca, other) = (Authority::new(), Authority::new());
    let endpoint = vault(&ca).await;
    // The server looks at the certificate after the client has finished, so both orders occur.
    let error = match connector(&endpoint, &ca, &other.client()).connect().await {
        Err(error) => error,
        Ok(channel) => {
            let status = CustodyClient::new(channel).get_status(GetStatusRequest {}).await.unwrap_err();
            ConnectError::of(&status).unwrap_or_else(|| panic!("not named: {status:?}"))
        }
    };
    assert_eq!(error, ConnectError::CertificateRefused);
}

#[tokio::test]
async fn a_lazy_channel_names_the_same_causes() {
    let (ca, other) = (Authority::new(), Authority::new());
    let channel = connector(&vault(&other).await, &ca, &ca.client()).connect_lazy().unwrap();
    let status = CustodyClient::new(channel).get_status(GetStatusRequest {}).await.unwrap_err();
    assert_eq!(ConnectError::of(&status), Some(ConnectError::ServerRefused));
}

#[tokio::test]
async fn a_server_without_http2_is_refused() {
    let ca = Authority::new();
    let server = ca.leaf("127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth);
    let endpoint = serve(ca.server_config(&server, &[])).await;
    assert_eq!(refused(&connector(&endpoint, &ca, &ca.client())).await, ConnectError::NotGrpc);
}

#[tokio::test]
async fn a_server_without_tls_is_refused() {
    let ca = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    assert_eq!(refused(&connector(&endpoint, &ca, &ca.client())).await, ConnectError::NoTls);
}

#[tokio::test]
async fn a_silent_server_is_given_up() {
    let ca = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let connector = connector(&endpoint, &ca, &ca.client()).with_timeout(Duration::from_millis(200));
    assert_eq!(refused(&connector).await, ConnectError::TimedOut);
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let ca = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = refused(&connector(&endpoint, &ca, &ca.client())).await;
    assert_eq!(error, ConnectError::Unreachable(ErrorKind::ConnectionRefused));
}

#[test]
fn malformed_parts_are_named() {
    let ca = Authority::new();
    let client = ca.client();
    let (certificate, key) = (client.certificate.pem(), client.key.serialize_pem());
    let new = |endpoint: &str, ca_pem: &str, certificate: &str, key: &str| {
        Connector::new(endpoint, ca_pem.as_bytes(), certificate.as_bytes(), key.as_bytes()).err()
    };
    for endpoint in ["", "vault", "vault:", "vault:70000", ":1", "https://vault:1", "a b:1", "u@vault:1"] {
        let error = new(endpoint, &ca.pem, &certificate, &key);
        assert_eq!(error, Some(ConnectError::EndpointMalformed), "{endpoint:?}");
    }
    for endpoint in ["vault.test:8443", "127.0.0.1:1", "[::1]:1"] {
        assert_eq!(new(endpoint, &ca.pem, &certificate, &key), None, "{endpoint:?}");
    }
    let other = ca.client().key.serialize_pem();
    assert_eq!(new("vault:1", "", &certificate, &key), Some(ConnectError::Ca));
    assert_eq!(new("vault:1", &ca.pem, "", &key), Some(ConnectError::Certificate));
    assert_eq!(new("vault:1", &ca.pem, &certificate, ""), Some(ConnectError::Key));
    assert_eq!(new("vault:1", &ca.pem, &certificate, &other), Some(ConnectError::Key));
}

#[tokio::test]
async fn a_development_folder_is_enough() {
    let ca = Authority::new();
    let client = ca.client();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("certs")).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("endpoint", &format!("{}\n", vault(&ca).await));
    write("certs/ca.pem", &ca.pem);
    write("certs/checkout.pem", &client.certificate.pem());
    write("certs/checkout.key", &client.key.serialize_pem());
    Connector::from_dev_folder(folder.path(), "checkout").unwrap().connect().await.unwrap();
    let missing = Connector::from_dev_folder(folder.path(), "billing").err().unwrap();
    let path = folder.path().join("certs/billing.pem");
    assert_eq!(missing, ConnectError::File { path, why: ErrorKind::NotFound });
}
