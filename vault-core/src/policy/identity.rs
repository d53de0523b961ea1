//! Who a client certificate says its holder is.

use std::fmt;

use thiserror::Error;

use crate::limits::{IDENTITY_BYTES_MAX, NAME_BYTES_MAX};

/// The one name in a client certificate, and the CA that vouched for it.
///
/// Make it with [`Identity::uri`], [`Identity::dns`] or [`Identity::parse`], which bring names into the form
/// that policy compares byte by byte. A name put together otherwise can at worst match nobody.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Identity {
    /// Which kind of subject alternative name it is.
    pub kind: IdentityKind,
    /// The name: a URI as written, or a DNS name in lower case.
    pub name: String,
    /// The configured name of the CA that issued it.
    pub ca: Option<String>,
}

/// The kind of subject alternative name that identifies a client.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum IdentityKind {
    /// A URI, such as a SPIFFE ID.
    Uri,
    /// A DNS name.
    Dns,
}

/// A text that names nobody exactly.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("an identity is uri: with an absolute URI, or dns: with a host name, without wildcards")]
pub struct IdentityError;

impl Identity {
    /// From the text of a policy file: `uri:spiffe://shop/checkout` or `dns:checkout.shop.example`.
    ///
    /// # Errors
    /// [`IdentityError`] without one of the two prefixes, or when the rest does not fit it.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        match text.split_once(':') {
            Some(("uri", name)) => Self::uri(name),
            Some(("dns", name)) => Self::dns(name),
            _ => Err(IdentityError),
        }
    }

    /// From a URI subject alternative name. It is kept as written and compared byte by byte: no
    /// percent-decoding and no case-folding, so that two spellings never mean one principal.
    ///
    /// # Errors
    /// [`IdentityError`] when it is no absolute URI of RFC 3986's characters, has a `*`, or is longer than
    /// [`IDENTITY_BYTES_MAX`].
    pub fn uri(name: &str) -> Result<Self, IdentityError> {
        let (scheme, rest) = name.split_once(':').ok_or(IdentityError)?;
        let fits = name.len() <= IDENTITY_BYTES_MAX
            && scheme.starts_with(|first: char| first.is_ascii_lowercase())
            && scheme.bytes().all(is_scheme_byte)
            && !rest.is_empty()
            && rest.bytes().all(is_uri_byte);
        fits.then(|| Self::new(IdentityKind::Uri, name.to_owned())).ok_or(IdentityError)
    }

    /// From a DNS subject alternative name, brought into lower case.
    ///
    /// # Errors
    /// [`IdentityError`] when it is no host name of RFC 1123 (labels of 1–63 letters, digits and inner
    /// hyphens, 253 bytes in all, no dot at the end), is a wildcard, or reads as an IPv4 address.
    pub fn dns(name: &str) -> Result<Self, IdentityError> {
        let name = name.to_ascii_lowercase();
        let last_label = name.rsplit('.').next().unwrap_or_default();
        let fits = name.len() <= DNS_NAME_BYTES_MAX
            && name.split('.').all(is_dns_label)
            && !last_label.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| Self::new(IdentityKind::Dns, name)).ok_or(IdentityError)
    }

    /// The same name, as issued by the CA of this configured name.
    #[must_use]
    pub fn issued_by(self, ca: &str) -> Self {
        Self { ca: Some(ca.to_owned()), ..self }
    }

    fn new(kind: IdentityKind, name: String) -> Self {
        Self { kind, name, ca: None }
    }
}

/// As a policy file writes it; the CA stands in a key of its own there and is not part of the text.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            IdentityKind::Uri => "uri",
            IdentityKind::Dns => "dns",
        };
        write!(f, "{kind}:{}", self.name)
    }
}

/// Whether a text can be the configured name of a client CA: the form of all names in the configuration.
pub(super) fn is_ca_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// RFC 1035 section 2.3.4, without the root's dot.
const DNS_NAME_BYTES_MAX: usize = 253;
/// RFC 1035 section 2.3.4.
const DNS_LABEL_BYTES_MAX: usize = 63;

fn is_dns_label(label: &str) -> bool {
    (1..=DNS_LABEL_BYTES_MAX).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// RFC 3986 section 3.1, lower case only: the canonical form.
fn is_scheme_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte)
}

/// RFC 3986 section 2: unreserved, reserved and `%`, but not `*`, which reads as a wildcard.
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%:/?#[]@!$&'()+,;=".contains(&byte)
}
