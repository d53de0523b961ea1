//! TLS 1.3 to the server, verified by name, with the password bound to the server's certificate.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use vault_core::crypto::sha256;
use x509_parser::oid_registry::{OID_PKCS1_SHA256WITHRSA, OID_SIG_ECDSA_WITH_SHA256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::options::Credentials;
use crate::tls::{TlsError, certificates, private_key};

/// Makes verified connections.
#[derive(Clone)]
pub(super) struct Door(Arc<ClientConfig>);

impl Door {
    /// Reads the CAs, and the client's certificate if that is how it is known.
    pub(super) fn open(ca_file: &Path, credentials: &Credentials) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_file)? {
            roots
                .add(certificate)
                .map_err(|_| TlsError::unusable(ca_file, "holds a certificate that is no CA's"))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Client)?
            .with_root_certificates(roots);
        let config = match credentials {
            Credentials::Password(_) => config.with_no_client_auth(),
            Credentials::Certificate { certificate, private_key: key } => config
                .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
                .map_err(TlsError::Client)?,
        };
        Ok(Self(Arc::new(config)))
    }
}

impl MakeTlsConnect<Socket> for Door {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Handshake> {
        let name = ServerName::try_from(domain.to_owned()).map_err(io::Error::other)?;
        Ok(Handshake { config: Arc::clone(&self.0), name })
    }
}

/// One connection about to be made.
pub(super) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let connecting = TlsConnector::from(self.config).connect(self.name, socket);
        Box::pin(async { connecting.await.map(|stream| Stream(Box::new(stream))) })
    }
}

/// An encrypted connection.
pub(super) struct Stream(Box<TlsStream<Socket>>);

impl tokio_postgres::tls::TlsStream for Stream {
    /// RFC 5929, `tls-server-end-point`: whoever does not hold this certificate's key cannot pass the
    /// password's proof on. Only for certificates signed with SHA-256, which is nearly all.
    fn channel_binding(&self) -> ChannelBinding {
        let chain = self.0.get_ref().1.peer_certificates();
        match chain.and_then(<[_]>::first).filter(|leaf| signed_with_sha256(leaf)) {
            Some(leaf) => ChannelBinding::tls_server_end_point(sha256(&[leaf]).to_vec()),
            None => ChannelBinding::none(),
        }
    }
}

fn signed_with_sha256(certificate: &[u8]) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| {
        let algorithm = &certificate.signature_algorithm.algorithm;
        *algorithm == OID_PKCS1_SHA256WITHRSA || *algorithm == OID_SIG_ECDSA_WITH_SHA256
    })
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
