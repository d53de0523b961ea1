//! Who stands at the door: the identity in a client certificate, and why a client was refused.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, OtherError, PeerIncompatible};
use thiserror::Error;
use vault_core::clock::Timestamp;
use vault_core::policy::{Identity, IdentityError};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::lane::Share;

/// One admitted client: what its certificate says about it, checked against the door's trust.
///
/// The server puts an `Arc<Peer>` into the extensions of every request of the connection. The principal is
/// resolved from [`Peer::identity`] per request, never per connection.
pub struct Peer {
    identity: Option<Identity>,
    certificates: Vec<CertificateDer<'static>>,
    not_after: Timestamp,
    /// What its identity holds of the lane: found once, so that calls need not look for it.
    lane_share: OnceLock<Arc<Share>>,
}

impl Peer {
    /// A peer as a door admits it; `certificates` is the chain as the client sent it, leaf first.
    pub fn new(
        identity: Option<Identity>,
        certificates: Vec<CertificateDer<'static>>,
        not_after: Timestamp,
    ) -> Self {
        Self { identity, certificates, not_after, lane_share: OnceLock::new() }
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

    /// What its identity holds of the lane, looked for at the first call.
    pub(crate) fn lane_share(&self, find: impl FnOnce() -> Arc<Share>) -> &Arc<Share> {
        self.lane_share.get_or_init(find)
    }

    /// The same, if a call was made.
    pub(crate) fn own_lane_share(&self) -> Option<&Arc<Share>> {
        self.lane_share.get()
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

impl Refused {
    /// The reason behind a failed handshake: tokio-rustls hides the TLS error in an I/O error.
    pub fn from_handshake(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(error)) => Self::from_certificate(error),
            Some(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(rustls::Error::NoApplicationProtocol) => Self::NoHttp2,
            Some(rustls::Error::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::ServerDoesNotSupportTls12Or13,
            )) => Self::Version,
            // A broken transport counts as a failed protocol too.
            _ => Self::Protocol,
        }
    }

    fn from_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::BadEncoding => Self::Malformed,
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::Expired => Self::Expired,
            CertificateError::InvalidPurpose => Self::WrongUsage,
            CertificateError::NotValidYet => Self::NotYetValid,
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::UnknownRevocationStatus => Self::RevocationUnknown,
            CertificateError::Other(OtherError(reason)) => {
                reason.downcast_ref::<Self>().copied().unwrap_or(Self::Protocol)
            }
            _ => Self::Protocol,
        }
    }
}

/// In rustls's own words where it has them, since they choose the alert that the client sees.
impl From<Refused> for rustls::Error {
    fn from(refused: Refused) -> Self {
        Self::InvalidCertificate(match refused {
            Refused::BadSignature => CertificateError::BadSignature,
            Refused::Expired => CertificateError::Expired,
            Refused::Malformed => CertificateError::BadEncoding,
            Refused::NotYetValid => CertificateError::NotValidYet,
            Refused::Revoked => CertificateError::Revoked,
            Refused::RevocationUnknown => CertificateError::UnknownRevocationStatus,
            Refused::UnknownIssuer => CertificateError::UnknownIssuer,
            Refused::WrongUsage => CertificateError::InvalidPurpose,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }
}

/// From when to when something counts: seconds since 1970, both inclusive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Period {
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

impl Period {
    /// The validity of a certificate.
    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Result<Self, Refused> {
        let validity = certificate.validity();
        let seconds = |time: i64| u64::try_from(time).map_err(|_| Refused::Malformed);
        Ok(Self {
            not_before: seconds(validity.not_before.timestamp())?,
            not_after: seconds(validity.not_after.timestamp())?,
        })
    }

    /// Whether a point in time lies within.
    pub(crate) const fn check(self, now: u64) -> Result<(), Refused> {
        if now < self.not_before {
            Err(Refused::NotYetValid)
        } else if now > self.not_after {
            Err(Refused::Expired)
        } else {
            Ok(())
        }
    }

    /// What both cover.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            not_before: self.not_before.max(other.not_before),
            not_after: self.not_after.min(other.not_after),
        }
    }

    /// From its beginning to its end.
    pub(crate) const fn seconds(self) -> u64 {
        self.not_after.saturating_sub(self.not_before)
    }
}

/// One certificate and nothing behind it.
pub(crate) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Refused> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(Refused::Malformed),
    }
}

/// Extended key usage clientAuth, stated and not implied; a key usage, if any, with digitalSignature; no CA.
pub(crate) fn check_usage(certificate: &X509Certificate<'_>) -> Result<(), Refused> {
    let extended = certificate.extended_key_usage().map_err(|_| Refused::Malformed)?;
    let usage = certificate.key_usage().map_err(|_| Refused::Malformed)?;
    let authenticates = extended.is_some_and(|extended| extended.value.client_auth);
    let signs = usage.is_none_or(|usage| usage.value.digital_signature());
    if authenticates && signs && !certificate.is_ca() { Ok(()) } else { Err(Refused::WrongUsage) }
}

/// Exactly one URI, else exactly one DNS name, of the subject alternative names; never the common name.
pub(crate) fn name(certificate: &X509Certificate<'_>) -> Result<Identity, Refused> {
    let names = certificate.subject_alternative_name().map_err(|_| Refused::Malformed)?;
    let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let uris: Vec<&str> = names
        .iter()
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    let dns_names: Vec<&str> = names
        .iter()
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None })
        .collect();
    let malformed = |_: IdentityError| Refused::MalformedName;
    match (uris.as_slice(), dns_names.as_slice()) {
        ([uri], _) => Identity::uri(uri).map_err(malformed),
        ([], [name]) => Identity::dns(name).map_err(malformed),
        ([], []) => Err(Refused::NoName),
        _ => Err(Refused::AmbiguousName),
    }
}
