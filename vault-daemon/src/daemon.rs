//! The daemon as a whole: opened from a configuration, served, drained.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use vault_core::audit::Origin;
use vault_core::clock::Clock;
use vault_core::crypto::SystemEntropy;
use vault_core::keys::{Credential, KeyringFolder, OpenError, Seal, SealKind};
use vault_core::policy::{Identity, Policy, PolicyError};
use vault_core::store::fjall::{FjallOptions, FjallStore};
use vault_core::store::sled::{SledOptions, SledStore};
use vault_core::store::{Fault, Store};
use vault_core::vault::{InitError, SealedVault, UnsealError, Vault};
use vault_guard::wipe_stack;

use crate::config::{Config, ConfigError, EmbeddedConfig, Engine, StoreConfig};
use crate::custody::Custody;
use crate::hsm::{Opener, Token};
use crate::keeper::Keeper;
use crate::lane::Lane;
use crate::limits::FILES_POLL;
use crate::rewrapper::Rewrapper;
use crate::rpc::{self, Calls, Deadlines};
use crate::server::{Running, Server, ServerOptions};
use crate::store::postgres::PostgresStore;
use crate::telemetry::{Exposition, Listener, ListenerError, Metrics};
use crate::tls::{FilesWatch, TlsDoor, TlsError};

/// The name under which the daemon's own unsealing at start stands in the journal and the log.
const SELF: &str = "uri:vaultd:start";

/// Why a daemon did not start, or a command on its vault did not run.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The policy file.
    #[error("vault.policy_file: {0}")]
    Policy(#[from] PolicyError),
    /// The store.
    #[error("store: {0}")]
    Store(Fault),
    /// Certificates, keys or revocation lists.
    #[error("listen: {0}")]
    Tls(#[from] TlsError),
    /// The vault could not be created.
    #[error("{0}")]
    Init(#[from] InitError),
    /// The vault stays sealed, and nobody but this start could open it.
    #[error("the vault stays sealed: {0}")]
    Unseal(#[from] UnsealError),
    /// The keyring belongs to another environment than the configuration says.
    #[error("vault.environment: the keyring is of environment {0}")]
    Environment(String),
    /// Metrics could not be offered.
    #[error("metrics.listen: {0}")]
    Metrics(#[from] ListenerError),
    /// The operating system refused a socket or a thread.
    #[error("the operating system refused: {0}")]
    Io(#[from] io::Error),
}

/// What every command on a vault needs: its sealed form, its store, its policy.
pub struct Site {
    /// The sealed vault.
    pub sealed: SealedVault,
    /// Where its rows are.
    pub store: Arc<dyn Store>,
    /// Who may do what.
    pub policy: Arc<Policy>,
}

impl Site {
    /// Opens store and policy; reads no key.
    ///
    /// # Errors
    /// [`StartError`] naming the part that is missing or malformed.
    pub fn open(config: &Config) -> Result<Self, StartError> {
        let origin = Origin::parse(&config.vault.audit_origin)
            .map_err(|error| ConfigError::of("vault.audit_origin", &error))?;
        let policy = Arc::new(load_policy(config)?);
        let store = open_store(&config.store, &origin).map_err(StartError::Store)?;
        let folder = KeyringFolder::new(&config.vault.keyring_folder);
        let sealed = SealedVault::new(Arc::clone(&store), folder, &config.vault.anchor_file, origin);
        Ok(Self { sealed, store, policy })
    }

    /// Creates the vault.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn init(&self, config: &Config, seal: Seal<'_>, clock: &dyn Clock) -> Result<Vault, InitError> {
        let policy = Arc::clone(&self.policy);
        self.sealed.init(
            config.vault.environment.clone(),
            seal,
            policy,
            clock.now(),
            &mut SystemEntropy::new(),
        )
    }

    /// Unseals in the name of the daemon itself.
    ///
    /// # Errors
    /// [`UnsealError`].
    pub fn unseal(&self, given: Credential<'_>, clock: &dyn Clock) -> Result<Vault, UnsealError> {
        let policy = Arc::clone(&self.policy);
        let who = own_identity()?;
        let unsealed = self.sealed.unseal(given, &who, policy, clock.now(), &mut SystemEntropy::new());
        wipe_stack(); // as where a custodian unseals
        unsealed
    }

    /// Registers this daemon with the vault in its store.
    ///
    /// # Errors
    /// [`InitError`].
    pub fn join(&self, given: Credential<'_>, clock: &dyn Clock) -> Result<Vault, InitError> {
        let policy = Arc::clone(&self.policy);
        let who = own_identity()?;
        let joined = self.sealed.join(given, &who, policy, clock.now(), &mut SystemEntropy::new());
        wipe_stack(); // as where a custodian unseals
        joined
    }

    /// Refuses a keyring of another environment; a vault that does not exist yet is none.
    fn check_environment(&self, config: &Config) -> Result<(), StartError> {
        let found = self.sealed.describe()?.environment;
        if found == config.vault.environment {
            Ok(())
        } else {
            Err(StartError::Environment(found.to_string()))
        }
    }
}

/// The name of the daemon itself, and of commands on its host.
///
/// # Errors
/// Never: the name is a constant.
pub fn own_identity() -> Result<Identity, UnsealError> {
    Identity::parse(SELF).map_err(|_| UnsealError::Keyring(OpenError::Missing.to_string()))
}

/// Opens the engine that the configuration names, for whoever writes the log of this origin.
///
/// # Errors
/// The engine's own fault.
pub fn open_store(config: &StoreConfig, origin: &Origin) -> Result<Arc<dyn Store>, Fault> {
    match config {
        StoreConfig::Embedded(embedded) => open_embedded(embedded),
        StoreConfig::Postgres(options) => {
            Ok(Arc::new(PostgresStore::open(options.clone(), origin.as_str())?))
        }
    }
}

fn open_embedded(config: &EmbeddedConfig) -> Result<Arc<dyn Store>, Fault> {
    let (cache_bytes, free_floor_bytes) = (config.cache_bytes, config.free_space_floor_bytes);
    Ok(match config.engine {
        Engine::Fjall => {
            let options = FjallOptions { cache_bytes, free_floor_bytes, ..FjallOptions::default() };
            Arc::new(FjallStore::open(&config.folder, options)?)
        }
        Engine::Sled => {
            Arc::new(SledStore::open(&config.folder, SledOptions { cache_bytes, free_floor_bytes })?)
        }
    })
}

/// A daemon at work. Dropped, it stops at once; [`Daemon::stop`] lets calls finish.
pub struct Daemon {
    server: Option<Running>,
    custody: Arc<Custody>,
    lane: Arc<Lane>,
    door: Arc<TlsDoor>,
    metrics: Arc<Metrics>,
    config: Config,
    _keeper: Keeper,
    _rewrapper: Rewrapper,
    _opener: Option<Opener>,
    _files: FilesWatch,
    listener: Option<Listener>,
}

impl Daemon {
    /// Opens everything and serves. The vault starts sealed unless the configuration names a passphrase file;
    /// one that an HSM alone seals opens itself as soon as the HSM is there.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left listening.
    pub fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let site = Site::open(&config)?;
        site.check_environment(&config)?;
        let unsealed = match config.seal.read_passphrase()? {
            Some(passphrase) => Some(site.unseal(Credential::Passphrase(&passphrase), clock.as_ref())?),
            None => None,
        };
        Self::serve(config, site, unsealed, clock)
    }

    /// As [`Daemon::start`] with a site that is open already, and its vault if it is unsealed.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn serve(
        config: Config,
        site: Site,
        unsealed: Option<Vault>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let metrics = Arc::new(Metrics::new());
        let door = Arc::new(TlsDoor::open(config.listen.tls.clone(), Arc::clone(&clock))?);
        let alarms = Arc::clone(&metrics);
        let files = door.watch(FILES_POLL, move || alarms.alarm())?;
        let Site { sealed, store, policy } = site;
        let by_hsm = matches!(sealed.describe()?.kind, SealKind::Hsm(_));
        let hsm = config.seal.hsm.clone().map(Token::new);
        let custody = Arc::new(Custody::new(sealed, store, policy, clock).with_hsm(hsm));
        if let Some(vault) = unsealed {
            custody.install(vault);
        }
        let options = server_options(&config);
        let cores = options.cores;
        let lane = Lane::start(cores, Arc::clone(&custody), Arc::clone(&metrics))?;
        let keeper = Keeper::start(Arc::clone(&custody), Arc::clone(&lane), Arc::clone(&metrics))?;
        let rewrapper = Rewrapper::start(Arc::clone(&custody), Arc::clone(&metrics))?;
        let opener = if by_hsm && custody.open().is_none() {
            Some(Opener::start(Arc::clone(&custody), Arc::clone(&metrics))?)
        } else {
            None
        };
        let deadlines = Deadlines::from(&config.deadlines);
        let parts = (Arc::clone(&custody), Arc::clone(&lane), Arc::clone(&metrics));
        let make_core = move |core| {
            let (custody, lane, metrics) = parts.clone();
            rpc::routes(&Calls::on_core(core, custody, lane, metrics, deadlines))
        };
        let server = Server::start(options, Arc::clone(&door) as Arc<_>, Arc::new(make_core))?;
        let exposition = Exposition {
            metrics: Arc::clone(&metrics),
            custody: Arc::clone(&custody),
            connections: server.counters(),
            door: Arc::clone(&door),
        };
        let listener = Listener::start(&config.metrics, exposition)?;
        tracing::info!(event = "serving", address = %server.local_addr(), sealed = custody.open().is_none());
        Ok(Self {
            server: Some(server),
            custody,
            lane,
            door,
            metrics,
            config,
            _keeper: keeper,
            _rewrapper: rewrapper,
            _opener: opener,
            _files: files,
            listener,
        })
    }

    /// Where it serves, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.as_ref().map_or(self.config.listen.address, Running::local_addr)
    }

    /// Where metrics are, with the real port; `None` for a Unix socket or none.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(Listener::local_addr)
    }

    /// The daemon's vault.
    pub fn custody(&self) -> &Arc<Custody> {
        &self.custody
    }

    /// Reads policy, certificates and revocation lists again. Whatever is bad keeps what was before, and
    /// alarms.
    pub fn reload(&self) {
        let policy = load_policy(&self.config);
        match policy.and_then(|policy| self.custody.reload(policy).map_err(StartError::from)) {
            Ok(()) => tracing::info!(event = "policy_reloaded"),
            Err(error) => {
                self.metrics.alarm();
                tracing::error!(event = "policy_reload_failed", error = %error);
            }
        }
        match self.door.reload() {
            Ok(()) => tracing::info!(event = "tls_files_reloaded"),
            Err(error) => {
                self.metrics.alarm();
                tracing::error!(event = "tls_reload_failed", error = %error);
            }
        }
    }

    /// Stops listening, lets calls under way finish, seals, ends every thread: `true` if nothing had to be
    /// cut off.
    pub fn stop(mut self) -> bool {
        self.shut(self.config.listen.drain)
    }

    fn shut(&mut self, grace: Duration) -> bool {
        let Some(server) = self.server.take() else { return true };
        let whole = server.drain(grace);
        self.custody.stop(&self.lane);
        self.lane.stop();
        tracing::info!(event = "stopped", whole);
        whole
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.shut(Duration::ZERO);
    }
}

/// The policy that the configuration names, and whether it suits the client CAs: with several of them each
/// principal must say whose certificate counts, or any CA could vouch for it.
///
/// # Errors
/// [`StartError::Policy`] with the path in the policy.
pub fn load_policy(config: &Config) -> Result<Policy, StartError> {
    let policy = Policy::load(&config.vault.policy_file)?;
    policy.check_client_cas(config.listen.tls.client_cas.iter().map(|ca| ca.name.as_str()))?;
    Ok(policy)
}

/// How the server is bounded by this configuration.
pub fn server_options(config: &Config) -> ServerOptions {
    let listen = &config.listen;
    let standard = ServerOptions::default();
    ServerOptions {
        listen: listen.address,
        cores: listen.cores.unwrap_or(standard.cores),
        connections_max: listen.connections_max,
        handshake_timeout: listen.handshake_timeout,
        idle_timeout: listen.idle_timeout,
        connection_age_max: listen.connection_age_max,
        streams_max: listen.streams_per_connection_max,
        ..standard
    }
}
