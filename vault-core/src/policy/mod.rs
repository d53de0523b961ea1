//! Room policy.

/// The name in a client certificate, and the CA that vouched for it.
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
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum IdentityKind {
    /// A URI, such as a SPIFFE ID.
    Uri,
    /// A DNS name.
    Dns,
}
