//! The folder of a throwaway vault: everything a daemon and its clients need, made in one step.
//!
//! ```text
//! X/.vaultd-dev            marks the folder as one of these
//! X/endpoint               host:port, while a daemon serves it
//! X/metrics-endpoint       host:port of /metrics, /live and /ready, in plain HTTP
//! X/passphrase             opens the keyring
//! X/policy.toml            one shop and its principals
//! X/certs/ca.pem           verifies the server and issues the clients
//! X/certs/<principal>.pem  X/certs/<principal>.key (PKCS#8): one of PRINCIPALS
//! X/keyring/ X/anchor/ X/store/
//! ```
//!
//! Its environment is `dev`, which `vaultd serve` refuses: nothing real is ever kept under such keys.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;
use vault_core::clock::Clock;
use vault_core::crypto::passphrase::Params;
use vault_core::crypto::{Entropy, SystemEntropy};
use vault_core::keys::{Credential, Seal};
use zeroize::Zeroizing;

use crate::certificates::{Authority, CertificateError, Request, Validity};
use crate::config::{Config, ConfigError, Engine, MetricsListen};
use crate::daemon::{Daemon, Site, StartError};

/// The environment of throwaway vaults.
pub const ENVIRONMENT: &str = "dev";
/// The principals of the policy, each with a certificate in `certs/`.
pub const PRINCIPALS: [&str; 5] = ["checkout", "billing", "care", "auditor", "custodian"];

const MARK: &str = ".vaultd-dev";
const MARK_TEXT: &str =
    "A throwaway vault of `vaultd dev`. Delete the whole folder when it is no longer needed.\n";
const POLICY: &str = include_str!("dev/policy.toml");
/// Below the 7 days of short-lived certificates; made anew whenever the folder is opened.
const CERTIFICATE_HOURS: u64 = 6 * 24;
const PASSPHRASE_RANDOM_BYTES: usize = 16;
/// A throwaway vault may live on a nearly full laptop.
const FREE_SPACE_FLOOR_MIB: u64 = 512;
const CACHE_MIB: u64 = 64;

/// Why there is no throwaway vault.
#[derive(Debug, Error)]
pub enum DevError {
    /// The folder holds something else.
    #[error("{0} exists and is not a folder of vaultd dev; nothing was changed")]
    NotOurs(PathBuf),
    /// A file could not be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
    /// A certificate could not be made.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    /// The daemon did not start.
    #[error("{0}")]
    Start(#[from] StartError),
}

/// The folder of a throwaway vault.
pub struct DevFolder {
    path: PathBuf,
}

impl DevFolder {
    /// Makes the folder, or opens it again if it is one of these.
    ///
    /// # Errors
    /// [`DevError`]; a folder of anything else is left as it is.
    pub fn open(path: &Path) -> Result<Self, DevError> {
        let folder = Self { path: path.to_owned() };
        if fs::read_to_string(path.join(MARK)).is_ok_and(|text| text == MARK_TEXT) {
            return Ok(folder);
        }
        let is_free =
            fs::read_dir(path).map_or_else(|_| !path.exists(), |mut inside| inside.next().is_none());
        if !is_free {
            return Err(DevError::NotOurs(path.to_owned()));
        }
        folder.make_folder("")?;
        for part in ["certs", "keyring", "anchor", "store"] {
            folder.make_folder(part)?;
        }
        folder.write("policy.toml", POLICY.as_bytes())?;
        folder.write("passphrase", new_passphrase().as_bytes())?;
        folder.write(MARK, MARK_TEXT.as_bytes())?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes fresh certificates, creates the vault if there is none, unseals it and serves on a free loopback
    /// port.
    ///
    /// # Errors
    /// [`DevError`].
    pub fn serve(&self, engine: Engine, clock: Arc<dyn Clock>) -> Result<Daemon, DevError> {
        self.serve_with(self.config(engine)?, clock)
    }

    /// As [`DevFolder::serve`], from a configuration of [`DevFolder::config`] that was changed.
    ///
    /// # Errors
    /// [`DevError`].
    pub fn serve_with(&self, config: Config, clock: Arc<dyn Clock>) -> Result<Daemon, DevError> {
        self.issue_certificates(clock.as_ref())?;
        let passphrase = config.seal.read_passphrase().map_err(StartError::from)?.unwrap_or_default();
        let site = Site::open(&config)?;
        let vault = if site.sealed.describe().is_ok() {
            site.unseal(Credential::Passphrase(&passphrase), clock.as_ref()).map_err(StartError::from)?
        } else {
            // The floor: a throwaway vault should start at once.
            let seal = Seal::Passphrase { passphrase: &passphrase, params: Params::FLOOR };
            site.init(&config, seal, clock.as_ref()).map_err(StartError::from)?
        };
        let daemon = Daemon::serve(config, site, Some(vault), clock)?;
        if let Some(metrics) = daemon.metrics_addr() {
            self.write("metrics-endpoint", metrics.to_string().as_bytes())?;
        }
        // Last: whoever sees it finds everything else in its place.
        self.write("endpoint", daemon.local_addr().to_string().as_bytes())?;
        Ok(daemon)
    }

    /// The configuration of a daemon for this folder: any free loopback ports.
    ///
    /// # Errors
    /// [`DevError`] when the folder's path cannot stand in a configuration.
    pub fn config(&self, engine: Engine) -> Result<Config, DevError> {
        let folder = fs::canonicalize(&self.path).map_err(|error| self.io("", error))?;
        let path = |part: &str| toml::Value::String(folder.join(part).display().to_string()).to_string();
        let loopback = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let address = loopback(1);
        let text = format!(
            "[vault]\nenvironment = \"{ENVIRONMENT}\"\nkeyring_folder = {}\nanchor_file = {}\n\
             policy_file = {}\naudit_origin = \"vaultd-dev.invalid/log\"\n\
             [store]\nengine = \"{}\"\nfolder = {}\nfree_space_floor_mib = {FREE_SPACE_FLOOR_MIB}\n\
             cache_mib = {CACHE_MIB}\n\
             [listen]\naddress = \"{address}\"\ncertificate_file = {}\nprivate_key_file = {}\n\
             revocation = \"short-lived\"\n\
             [[listen.client_ca]]\nname = \"dev\"\ncertificate_file = {}\n\
             [seal]\npassphrase_file = {}\n[metrics]\nlisten = \"off\"\n",
            path("keyring"),
            path("anchor/anchor"),
            path("policy.toml"),
            engine.as_str(),
            path("store"),
            path("certs/server.pem"),
            path("certs/server.key"),
            path("certs/ca.pem"),
            path("passphrase"),
        );
        let mut config = Config::parse(&text).map_err(StartError::from)?;
        config.listen.address.set_port(0);
        config.metrics = MetricsListen::Loopback(loopback(0));
        Ok(config)
    }

    fn issue_certificates(&self, clock: &dyn Clock) -> Result<(), DevError> {
        let validity = Validity::hours_from(clock.now(), CERTIFICATE_HOURS);
        let authority = Authority::root("vaultd dev", validity)?;
        self.write("certs/ca.pem", authority.certificate_pem().as_bytes())?;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut leaves = vec![("server".to_owned(), Request::server(&["localhost"], &[loopback], validity))];
        leaves.extend(PRINCIPALS.map(|name| {
            (name.to_owned(), Request::client(&format!("spiffe://vaultd-dev/{name}"), validity))
        }));
        // Somebody with a good certificate whom no policy knows.
        leaves.push(("stranger".to_owned(), Request::client("spiffe://vaultd-dev/stranger", validity)));
        for (name, request) in leaves {
            let leaf = authority.issue(&request)?;
            self.write(&format!("certs/{name}.pem"), leaf.chain_pem.as_bytes())?;
            self.write(&format!("certs/{name}.key"), leaf.private_key_pem.as_bytes())?;
        }
        Ok(())
    }

    fn make_folder(&self, part: &str) -> Result<(), DevError> {
        let path = self.path.join(part);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|error| DevError::Io(path, error))
    }

    /// Whole or not at all: a client may read `endpoint` while it is replaced.
    fn write(&self, part: &str, content: &[u8]) -> Result<(), DevError> {
        let target = self.path.join(part);
        let fresh = self.path.join(format!("{part}.new"));
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(content)?;
            fs::rename(&fresh, &target)
        };
        write().map_err(|error| self.io(part, error))
    }

    fn io(&self, part: &str, error: io::Error) -> DevError {
        DevError::Io(self.path.join(part), error)
    }
}

impl From<ConfigError> for DevError {
    fn from(error: ConfigError) -> Self {
        Self::Start(error.into())
    }
}

fn new_passphrase() -> Zeroizing<String> {
    let mut random = Zeroizing::new([0; PASSPHRASE_RANDOM_BYTES]);
    // Without randomness there are no keys either, so that init fails right after.
    let _ = SystemEntropy::new().fill(random.as_mut_slice());
    let hex = random.iter().map(|byte| format!("{byte:02x}"));
    Zeroizing::new(hex.collect::<String>() + "\n")
}
