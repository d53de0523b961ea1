//! The client's way in: mutual TLS 1.3 to a vault, as a tonic channel.
//!
//! Nothing here logs, and no error repeats what a file holds. TLS sessions are never resumed: the vault
//! refuses resumption, and a client that offered it would only be recognisable.

use std::error::Error as StdError;
use std::fs;
use std::io;
use std::iter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};
use zeroize::Zeroizing;

/// How long a connection may take when nobody says otherwise: name, TCP and TLS together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

const HTTP2: &[u8] = b"h2";

/// Why there is no connection to the vault.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ConnectError {
    /// Not `host:port`.
    #[error("the endpoint is not of the form host:port")]
    EndpointMalformed,
    /// Not a DNS name or IP address.
    #[error("the server name is neither a DNS name nor an IP address")]
    ServerNameMalformed,
    /// No certificate could be read from the CA's PEM.
    #[error("the CA file holds no usable certificate")]
    Ca,
    /// No certificate could be read from the client's PEM.
    #[error("the certificate file holds no usable certificate")]
    Certificate,
    /// No private key could be read, or it is not the certificate's.
    #[error("the key file holds no usable private key, or another than the certificate's")]
    Key,
    /// A file of the development folder could not be read.
    #[error("cannot read {path}: {why}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: io::ErrorKind,
    },
    /// Nobody answers there.
    #[error("nobody answers at this endpoint: {0}")]
    Unreachable(io::ErrorKind),
    /// It took too long.
    #[error("the endpoint did not answer in time")]
    TimedOut,
    /// The server's certificate is not one that the CA vouches for, or not for this name, or out of date.
    #[error("the server's certificate is not acceptable")]
    ServerRefused,
    /// The server ended the handshake: as a rule because it does not accept the client's certificate.
    #[error("the server does not accept this client certificate")]
    CertificateRefused,
    /// The server does not speak TLS 1.3, or broke off.
    #[error("there is no TLS 1.3 at this endpoint")]
    NoTls,
    /// TLS stands, but there is no HTTP/2 behind it.
    #[error("the server does not speak gRPC")]
    NotGrpc,
    /// Anything else that the transport reports.
    #[error("the connection broke")]
    Broken,
}

/// All that is needed to connect to one vault as one principal.
#[derive(Clone)]
pub struct Connector {
    authority: Arc<str>,
    server_name: ServerName<'static>,
    tls: TlsConnector,
    timeout: Duration,
}

impl Connector {
    /// A connector to `endpoint` (`host:port`; IPv6 in brackets), trusting servers under the CA, showing the
    /// client certificate (leaf first) and holding its key (PKCS#8, SEC1 or PKCS#1), all in PEM.
    ///
    /// The server's certificate must be for the endpoint's host: see [`Connector::with_server_name`].
    ///
    /// # Errors
    /// [`ConnectError`] naming the part that is malformed. Nothing is connected yet.
    pub fn new(
        endpoint: &str,
        ca_pem: &[u8],
        certificate_pem: &[u8],
        key_pem: &[u8],
    ) -> Result<Self, ConnectError> {
        let host = parse_endpoint(endpoint)?;
        Ok(Self {
            authority: endpoint.into(),
            server_name: parse_server_name(host).map_err(|_| ConnectError::EndpointMalformed)?,
            tls: TlsConnector::from(Arc::new(tls_config(ca_pem, certificate_pem, key_pem)?)),
            timeout: CONNECT_TIMEOUT,
        })
    }

    /// A connector as `principal` to the vault of a development folder, as `vaultd dev` lays it out:
    /// `endpoint`, `certs/ca.pem`, `certs/<principal>.pem`, `certs/<principal>.key`.
    ///
    /// # Errors
    /// As [`Connector::new`], or [`ConnectError::File`] when one of the four cannot be read.
    pub fn from_dev_folder(folder: &Path, principal: &str) -> Result<Self, ConnectError> {
        let certificates = folder.join("certs");
        let endpoint = read(&folder.join("endpoint"))?;
        let endpoint = std::str::from_utf8(&endpoint).map_err(|_| ConnectError::EndpointMalformed)?;
        Self::new(
            endpoint.trim(),
            &read(&certificates.join("ca.pem"))?,
            &read(&certificates.join(format!("{principal}.pem")))?,
            &read(&certificates.join(format!("{principal}.key")))?,
        )
    }

    /// Expects the server's certificate to be for `name` instead of the endpoint's host.
    ///
    /// # Errors
    /// [`ConnectError::ServerNameMalformed`].
    pub fn with_server_name(mut self, name: &str) -> Result<Self, ConnectError> {
        self.server_name = parse_server_name(name)?;
        Ok(self)
    }

    /// Gives up connecting after `timeout` instead of [`CONNECT_TIMEOUT`]; it covers name, TCP and TLS
    /// together.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Connects now. The channel connects again by itself when the connection is lost.
    ///
    /// # Errors
    /// [`ConnectError`]. In TLS 1.3 a server looks at the client's certificate after the client has finished:
    /// its refusal may show only at the first call ([`ConnectError::of`]).
    pub async fn connect(&self) -> Result<Channel, ConnectError> {
        let endpoint = self.endpoint()?;
        let connecting = endpoint.connect_with_connector(self.service());
        connecting.await.map_err(|error| cause(&error).unwrap_or(ConnectError::Broken))
    }

    /// A channel that connects at its first call.
    ///
    /// # Errors
    /// [`ConnectError::EndpointMalformed`].
    pub fn connect_lazy(&self) -> Result<Channel, ConnectError> {
        Ok(self.endpoint()?.connect_with_connector_lazy(self.service()))
    }

    fn endpoint(&self) -> Result<Endpoint, ConnectError> {
        let uri = |scheme: &str| {
            let text = format!("{scheme}://{}", self.authority);
            text.parse::<Uri>().map_err(|_| ConnectError::EndpointMalformed)
        };
        // `http` keeps tonic from adding TLS of its own below ours; the calls themselves say `https`.
        Ok(Endpoint::from(uri("http")?).origin(uri("https")?))
    }

    fn service(
        &self,
    ) -> impl tower::Service<
        Uri,
        Response = TokioIo<TlsStream<TcpStream>>,
        Error = ConnectError,
        Future = impl Future<Output = Result<TokioIo<TlsStream<TcpStream>>, ConnectError>> + Send,
    > + Send
    + 'static {
        let connector = self.clone();
        tower::service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let timed = tokio::time::timeout(connector.timeout, connector.dial());
                timed.await.map_err(|_| ConnectError::TimedOut)?.map(TokioIo::new)
            }
        })
    }

    async fn dial(&self) -> Result<TlsStream<TcpStream>, ConnectError> {
        let tcp = TcpStream::connect(&*self.authority).await.map_err(|error| unreachable(&error))?;
        tcp.set_nodelay(true).map_err(|error| unreachable(&error))?;
        let tls = self
            .tls
            .connect(self.server_name.clone(), tcp)
            .await
            .map_err(|error| handshake_failed(&error))?;
        if tls.get_ref().1.alpn_protocol() == Some(HTTP2) { Ok(tls) } else { Err(ConnectError::NotGrpc) }
    }
}

impl ConnectError {
    /// Whether this is certain to have come before the vault read a call: there never was a connection.
    pub const fn is_before_any_call(&self) -> bool {
        // An alert is as a rule about the certificate, and may be about a connection that served before.
        !matches!(self, Self::Broken | Self::CertificateRefused)
    }

    /// Why a call failed below gRPC; `None` for a status that the vault itself sent.
    pub fn of(status: &Status) -> Option<Self> {
        let below = status.source()?;
        Some(cause(below).unwrap_or(Self::Broken))
    }
}

/// The host of a `host:port`.
fn parse_endpoint(endpoint: &str) -> Result<&str, ConnectError> {
    let parsed = endpoint.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let (host, _) = parsed.ok_or(ConnectError::EndpointMalformed)?;
    Ok(host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host))
}

fn parse_server_name(name: &str) -> Result<ServerName<'static>, ConnectError> {
    ServerName::try_from(name.to_owned()).map_err(|_| ConnectError::ServerNameMalformed)
}

fn tls_config(ca_pem: &[u8], certificate_pem: &[u8], key_pem: &[u8]) -> Result<ClientConfig, ConnectError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem).ok_or(ConnectError::Ca)? {
        roots.add(certificate).map_err(|_| ConnectError::Ca)?;
    }
    let chain = certificates(certificate_pem).ok_or(ConnectError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| ConnectError::Key)?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| ConnectError::Key)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|_| ConnectError::Key)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// All certificates of a PEM text; `None` when there is none or one cannot be read.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!all.is_empty()).then_some(all)
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, ConnectError> {
    let bytes = fs::read(path).map(Zeroizing::new);
    bytes.map_err(|error| ConnectError::File { path: path.to_owned(), why: error.kind() })
}

fn unreachable(error: &io::Error) -> ConnectError {
    ConnectError::Unreachable(error.kind())
}

fn handshake_failed(error: &io::Error) -> ConnectError {
    match tls_error(error) {
        Some(rustls::Error::InvalidCertificate(_)) => ConnectError::ServerRefused,
        _ if is_alert(error) => ConnectError::CertificateRefused,
        _ => ConnectError::NoTls,
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What a [`ConnectError`] can name among an error and its sources.
fn cause(error: &(dyn StdError + 'static)) -> Option<ConnectError> {
    iter::successors(Some(error), |&error| error.source()).find_map(|error| {
        if let Some(ours) = error.downcast_ref::<ConnectError>() {
            return Some(ours.clone());
        }
        let refused = error.downcast_ref::<io::Error>().is_some_and(is_alert);
        refused.then_some(ConnectError::CertificateRefused)
    })
}

/// Whether this is the server's TLS alert. HTTP/2 keeps only the text of an error below it.
fn is_alert(error: &io::Error) -> bool {
    matches!(tls_error(error), Some(rustls::Error::AlertReceived(_)))
        || error.kind() == io::ErrorKind::InvalidData && error.to_string().starts_with("received fatal alert")
}
