//! A real vault for other projects' tests.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use vault_proto::{ConnectError, Connector};

use crate::clock::SystemClock;
use crate::config::{Config, Engine};
use crate::daemon::Daemon;
use crate::dev::{DevError, DevFolder};

/// The whole stack on loopback: TLS, lane, engine, audit log, with throwaway certificates and keys. It ends,
/// and its folder goes, when it is dropped.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use vault_daemon::TestVault;
/// use vault_proto::v1::tokenization_client::TokenizationClient;
///
/// let vault = TestVault::start()?;
/// let checkout = vault.connector("checkout")?.connect().await?;
/// let client = TokenizationClient::new(checkout);
/// # Ok(()) }
/// ```
pub struct TestVault {
    // Dropped in this order: nothing writes into a folder that is gone.
    daemon: Daemon,
    folder: DevFolder,
    _temporary: TempDir,
}

impl TestVault {
    /// Starts one on fjall.
    ///
    /// # Errors
    /// [`DevError`].
    pub fn start() -> Result<Self, DevError> {
        Self::start_with(Engine::Fjall, |_, _| {})
    }

    /// Starts one whose files and configuration were changed first; the policy is `policy.toml` in the
    /// folder.
    ///
    /// # Errors
    /// [`DevError`].
    pub fn start_with(engine: Engine, change: impl FnOnce(&Path, &mut Config)) -> Result<Self, DevError> {
        let temporary = TempDir::new().map_err(|error| DevError::Io("temporary folder".into(), error))?;
        let folder = DevFolder::open(&temporary.path().join("vault"))?;
        let mut config = folder.config(engine)?;
        change(folder.path(), &mut config);
        let daemon = folder.serve_with(config, Arc::new(SystemClock))?;
        Ok(Self { daemon, folder, _temporary: temporary })
    }

    /// A connector for a principal of the folder: `checkout`, `billing`, `auditor`, `custodian`, or
    /// `stranger`, whom no policy knows.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connector(&self, principal: &str) -> Result<Connector, ConnectError> {
        Connector::from_dev_folder(self.folder.path(), principal)
    }

    /// Where it serves.
    pub fn local_addr(&self) -> SocketAddr {
        self.daemon.local_addr()
    }

    /// Its folder, laid out as that of `vaultd dev`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The daemon.
    pub const fn daemon(&self) -> &Daemon {
        &self.daemon
    }
}
