//! The TLS door: TLS 1.3 with a required client certificate, and nothing that would skip its check.
//!
//! - ring as provider, TLS 1.3 only (TLS 1.2 is not even compiled in), ALPN `h2` required.
//! - **No resumption**: a resumed session never shows its certificate again, so a revoked client would come
//!   back. No tickets, no session store, no early data.
//! - Revocation by lists (every certificate of the chain, unknown and stale are refused) or by short lives.
//! - Files are looked at every 10 s. A bad one changes nothing and alarms ([`TlsDoor::status`]); a stale list
//!   refuses, since time alone makes it stale.

mod files;
mod trust;
mod verifier;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
pub use files::{ClientCaFiles, TlsError, TlsFiles};
pub(crate) use files::{certificates, private_key};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
pub use trust::Deadline;
use vault_core::clock::{Clock, Timestamp};
pub use watch::FilesWatch;

use self::files::Stamp;
use self::trust::Trust;
use self::verifier::{ClientVerifier, DoorTime};
use crate::identity::{Peer, Period, Refused, parse};

/// What the server asks of the TLS door.
pub trait Door: Send + Sync + 'static {
    /// The configuration for the next handshake; another one after a reload.
    fn tls_config(&self) -> Arc<rustls::ServerConfig>;

    /// Asked once, after the handshake and before any application byte is read.
    ///
    /// # Errors
    /// Why this client gets no connection; the server closes it and counts the reason.
    fn admit(&self, connection: &rustls::ServerConnection) -> Result<Arc<Peer>, Refused>;

    /// Asked every 15 s for every open connection, and cheap unless the trust has changed. `false`: the
    /// server closes gracefully, and hard 5 s later.
    fn still_admitted(&self, peer: &Peer) -> bool;
}

/// How a client certificate that must no longer open the door is kept out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Revocation {
    /// Every certificate of the chain must be covered by a revocation list that is not stale and does not
    /// name it.
    Crl,
    /// No lists: every certificate below the configured CA, intermediates too, is valid for at most 7 days.
    ShortLived,
}

/// HTTP/2 in ALPN (RFC 9113 3.2).
const HTTP2: &[u8] = b"h2";

/// The door of production: certificates, CAs and lists from files, reloaded while it serves.
pub struct TlsDoor {
    files: TlsFiles,
    clock: Arc<dyn Clock>,
    current: ArcSwap<Snapshot>,
    reloading: Mutex<Reloading>,
}

struct Snapshot {
    config: Arc<ServerConfig>,
    trust: Arc<Trust>,
    server_not_after: Timestamp,
}

/// One reload at a time; what the last one saw and why it failed.
struct Reloading {
    stamps: Vec<Stamp>,
    failure: Option<String>,
}

/// What health and metrics need to know about the door.
#[derive(Clone, Debug)]
pub struct TlsStatus {
    /// Why the files as they are now were not taken; the ones before stay in force.
    pub reload_failure: Option<String>,
    /// Everything that ends some day, soonest first.
    pub deadlines: Vec<Deadline>,
}

impl TlsStatus {
    /// Whether all that the door stands on is in force: nothing refused, nothing ended.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.reload_failure.is_none() && self.deadlines.first().is_none_or(|first| first.at > now)
    }
}

impl TlsDoor {
    /// Reads all files and opens the door.
    ///
    /// # Errors
    /// [`TlsError`] naming the file that is missing, malformed, exposed or does not fit the others.
    pub fn open(files: TlsFiles, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let snapshot = Snapshot::load(&files, &clock)?;
        let reloading = Mutex::new(Reloading { stamps, failure: None });
        Ok(Self { current: ArcSwap::from_pointee(snapshot), files, clock, reloading })
    }

    /// Reads all files again and takes them if all are good; handshakes from now on see them, and
    /// [`Door::still_admitted`] asks them about connections that are open.
    ///
    /// # Errors
    /// What is wrong with the files; then everything stays as it was and [`TlsDoor::status`] says so.
    pub fn reload(&self) -> Result<(), TlsError> {
        let mut reloading = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        self.reload_under(&mut reloading)
    }

    /// Looks whether a file has changed, or the last reload failed, and if so reloads.
    fn reload_if_changed(&self, alarm: &impl Fn()) {
        let mut reloading = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        if reloading.failure.is_none() && reloading.stamps == stamps(&self.files) {
            return;
        }
        let before = reloading.failure.clone();
        match self.reload_under(&mut reloading) {
            Ok(()) => tracing::info!(event = "tls_files_reloaded"),
            Err(_) if before == reloading.failure => {}
            Err(error) => {
                alarm();
                tracing::error!(event = "tls_reload_failed", error = %error);
            }
        }
    }

    fn reload_under(&self, reloading: &mut Reloading) -> Result<(), TlsError> {
        // The stamps are taken first: a file that changes while it is read is read again next time.
        reloading.stamps = stamps(&self.files);
        let taken = self.load_successor().map(|next| self.current.store(Arc::new(next)));
        reloading.failure = taken.as_ref().err().map(ToString::to_string);
        taken
    }

    fn load_successor(&self) -> Result<Snapshot, TlsError> {
        let next = Snapshot::load(&self.files, &self.clock)?;
        self.current.load().trust.check_successor(&next.trust)?;
        Ok(next)
    }

    /// How the door stands.
    pub fn status(&self) -> TlsStatus {
        let snapshot = self.current.load();
        let mut deadlines = snapshot.trust.deadlines(&self.files);
        deadlines.push(Deadline {
            what: "server certificate".to_owned(),
            file: self.files.certificate.clone(),
            at: snapshot.server_not_after,
        });
        deadlines.sort_by_key(|deadline| deadline.at);
        let reloading = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        TlsStatus { reload_failure: reloading.failure.clone(), deadlines }
    }
}

impl Door for TlsDoor {
    fn tls_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    fn admit(&self, connection: &rustls::ServerConnection) -> Result<Arc<Peer>, Refused> {
        // A client that offers no ALPN at all gets through rustls without one.
        if connection.alpn_protocol() != Some(HTTP2) {
            return Err(Refused::NoHttp2);
        }
        let chain = connection.peer_certificates().ok_or(Refused::NoCertificate)?;
        // Once more, since the trust may have changed while the handshake ran; remembered, so nearly free.
        let verified = self.current.load().trust.verify(chain, self.clock.now())?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Ok(Arc::new(Peer::new(Some(verified.identity.clone()), chain, verified.leaf_not_after)))
    }

    fn still_admitted(&self, peer: &Peer) -> bool {
        let verified = self.current.load().trust.verify(peer.certificates(), self.clock.now());
        // Under new trust the same chain may lead to another CA, which is another identity.
        verified.is_ok_and(|verified| Some(&verified.identity) == peer.identity())
    }
}

impl Snapshot {
    fn load(files: &TlsFiles, clock: &Arc<dyn Clock>) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let trust = Arc::new(Trust::load(files, provider.signature_verification_algorithms)?);
        let (config, server_not_after) = server_config(files, &trust, provider, clock)?;
        Ok(Self { config: Arc::new(config), trust, server_not_after })
    }
}

fn server_config(
    files: &TlsFiles,
    trust: &Arc<Trust>,
    provider: Arc<CryptoProvider>,
    clock: &Arc<dyn Clock>,
) -> Result<(ServerConfig, Timestamp), TlsError> {
    let chain = files::certificates(&files.certificate)?;
    let period = server_period(files, &chain, clock.now())?;
    let verifier = ClientVerifier::new(Arc::clone(trust), provider.signature_verification_algorithms, clock);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Server)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(chain, files::private_key(&files.private_key)?)
        .map_err(TlsError::Server)?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    config.time_provider = Arc::new(DoorTime::new(clock));
    // No resumption of any kind: a resumed session skips the client verifier.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // No early data: it could be replayed.
    config.max_early_data_size = 0;
    // Nothing to a client before it has shown its certificate.
    config.send_half_rtt_data = false;
    Ok((config, Timestamp::from_seconds(period.not_after)))
}

/// A server certificate that no client would take is no reason to stop serving with the one before.
fn server_period(
    files: &TlsFiles,
    chain: &[rustls::pki_types::CertificateDer<'_>],
    now: Timestamp,
) -> Result<Period, TlsError> {
    let bad = |problem| TlsError::unusable(&files.certificate, problem);
    let leaf = chain.first().ok_or_else(|| bad("has no certificate"))?;
    let parsed = parse(leaf).map_err(|_| bad("begins with a malformed certificate"))?;
    let period = Period::of(&parsed).map_err(|_| bad("begins with a malformed validity"))?;
    match period.check(now.seconds()) {
        Ok(()) => Ok(period),
        Err(Refused::NotYetValid) => Err(bad("begins with a certificate that is not valid yet")),
        Err(_) => Err(bad("begins with a certificate that has expired")),
    }
}

fn stamps(files: &TlsFiles) -> Vec<Stamp> {
    files.paths().map(Stamp::of).collect()
}
