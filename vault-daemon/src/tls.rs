//! The TLS door: TLS 1.3 with a required client certificate.

use std::sync::Arc;

use crate::identity::{Peer, Refused};

/// What the server asks of the TLS door.
pub trait Door: Send + Sync + 'static {
    /// The configuration for the next handshake; another one after a reload.
    fn tls_config(&self) -> Arc<rustls::ServerConfig>;

    /// Asked once, after the handshake and before any application byte is read.
    ///
    /// # Errors
    /// Why this client gets no connection; the server closes it and counts the reason.
    fn admit(&self, connection: &rustls::ServerConnection) -> Result<Arc<Peer>, Refused>;

    /// Asked every 15 s for every open connection, and cheap unless the trust has changed. `false`: the server
    /// closes gracefully, and hard 5 s later.
    fn still_admitted(&self, peer: &Peer) -> bool;
}
