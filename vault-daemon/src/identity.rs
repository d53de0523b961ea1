//! Who stands at the door: the identity in a client certificate, and why a client was refused.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, OtherError, PeerIncompatible};
use thiserror::Error;
use vault_core::clock::Timestamp;
use vault_core::policy::{Identity, IdentityError};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// One admitted client: what its certificate says about it, checked against the door's trust.
///
/// The server puts an `Arc<Peer>` into the extensions of every request of the connection. The principal is
/// resolved from [`Peer::identity`] per request, never per connection.
pub struct Peer {
    identity: Option<Identity>,
    certificates: Vec<CertificateDer<'static>>,
    not_after: Timestamp,
}

impl Peer {
    /// A peer as a door admits it; `certificates` is the chain as the client sent it, leaf first.
    pub fn new(
        identity: Option<Identity>,
        certificates: Vec<CertificateDer<'static>>,
        not_after: Timestamp,
    ) -> Self {
        Self { identity, certificates, not_after }
    }

    /// The one name of the certificate. [`crate::tls::TlsDoor`] admits nobody without one; `None` exists for
    /// doors of benches, and policy denies it everything.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The chain as the client sent it, leaf first, DER.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// When the leaf certificate ends.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// Why a client got no connection: a closed list, the label of the refusal metric.
#[derive(Clone, Copy, Debug, Eq, Error, Hash, PartialEq)]
#[repr(u8)]
pub enum Refused {
    /// More names of the deciding kind than one.
    #[error("the client certificate has more than one name")]
    AmbiguousName,
    /// A certificate's signature does not verify, or the client does not hold the key.
    #[error("a signature of the client does not verify")]
    BadSignature,
    /// The connection bound is reached.
    #[error("too many connections")]
    Connections,
    /// A certificate of the chain, or the CA itself, has ended.
    #[error("the client certificate has expired")]
    Expired,
    /// Not parseable as X.509, or a chain that breaks RFC 5280.
    #[error("the client certificate is malformed")]
    Malformed,
    /// A name that is a wildcard, empty, too long or not well-formed.
    #[error("the name in the client certificate is malformed")]
    MalformedName,
    /// TLS 1.3 was offered without a client certificate.
    #[error("the client showed no certificate")]
    NoCertificate,
    /// `h2` was not negotiated by ALPN.
    #[error("the client did not negotiate HTTP/2")]
    NoHttp2,
    /// Neither a URI nor a DNS subject alternative name; the common name never counts.
    #[error("the client certificate has no usable name")]
    NoName,
    /// A certificate of the chain, or the CA itself, begins later.
    #[error("the client certificate is not valid yet")]
    NotYetValid,
    /// Anything else that TLS refuses.
    #[error("the TLS handshake failed")]
    Protocol,
    /// A CRL names a certificate of the chain.
    #[error("the client certificate is revoked")]
    Revoked,
    /// The CRL for a certificate of the chain has passed its next update.
    #[error("the revocation list is out of date")]
    RevocationStale,
    /// No usable CRL speaks for a certificate of the chain.
    #[error("the revocation status is unknown")]
    RevocationUnknown,
    /// The handshake took too long.
    #[error("the TLS handshake took too long")]
    Timeout,
    /// With `revocation = "short-lived"`: a certificate of the chain is valid for more than 7 days.
    #[error("the client certificate is valid for too long")]
    TooLongLived,
    /// No configured client CA issued it.
    #[error("no trusted CA issued the client certificate")]
    UnknownIssuer,
    /// TLS 1.2 or older only.
    #[error("the client does not speak TLS 1.3")]
    Version,
    /// A signature algorithm or key size that is not accepted (SHA-1, RSA below 2,048 bits, …).
    #[error("the client certificate uses an algorithm that is not accepted")]
    WeakAlgorithm,
    /// Without the extended key usage clientAuth, or with a key usage without digitalSignature.
    #[error("the client certificate is not meant for client authentication")]
    WrongUsage,
}
