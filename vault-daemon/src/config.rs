//! The configuration: one TOML file, wholly checked before anything is opened.
//!
//! Unknown keys are refused with their path, units stand in the keys' names, and every default is a named
//! function in `defaults`, with its reason. `docs/operations/configuration.md` says the same to operators.

mod bounds;
mod check;
mod defaults;
mod file;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use vault_core::data::Environment;
use vault_core::limits::{PASSPHRASE_BYTES_MAX, PASSPHRASE_BYTES_MIN};
use zeroize::Zeroizing;

use self::file::StoreFile;
use crate::file::{only_owner_writes, read, read_secret, strip_line_end};
use crate::limits::{CONFIG_BYTES_MAX, HSM_PIN_BYTES_MAX, HSM_PIN_BYTES_MIN};
use crate::store::postgres::PostgresOptions;
use crate::tls::TlsFiles;

/// Everything `vaultd serve` is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the vault is, and where its small files lie.
    pub vault: VaultConfig,
    /// Where the data lies.
    pub store: StoreConfig,
    /// The door.
    pub listen: ListenConfig,
    /// How the vault is opened without a custodian, if at all.
    pub seal: SealConfig,
    /// Where metrics and health are told.
    pub metrics: MetricsListen,
    /// What is logged, and how.
    pub log: LogConfig,
    /// How the process is confined.
    pub hardening: HardeningConfig,
    /// How long a call may take.
    pub deadlines: DeadlinesConfig,
}

/// `[vault]`.
#[derive(Clone, Debug)]
pub struct VaultConfig {
    /// Bound into every key; keys of one environment never open another.
    pub environment: Environment,
    /// The keyring's two copies and the unseal journal.
    pub keyring_folder: PathBuf,
    /// The anchor, outside the store.
    pub anchor_file: PathBuf,
    /// The policy.
    pub policy_file: PathBuf,
    /// The origin line of this daemon's log (C2SP tlog-checkpoint).
    pub audit_origin: String,
}

/// `[store]`.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// Rows in a folder, by an engine in this process.
    Embedded(EmbeddedConfig),
    /// Rows in a PostgreSQL database.
    Postgres(PostgresOptions),
}

impl StoreConfig {
    /// The engine, as the file writes it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Embedded(embedded) => embedded.engine.as_str(),
            Self::Postgres(_) => "postgres",
        }
    }
}

/// An engine in this process.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Which engine.
    pub engine: Engine,
    /// Its folder.
    pub folder: PathBuf,
    /// Free bytes of that file system below which new work is refused.
    pub free_space_floor_bytes: u64,
    /// Bytes of the engine's cache.
    pub cache_bytes: u64,
}

/// An embedded storage engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// fjall: the default.
    Fjall,
    /// sled, behind its barrier.
    Sled,
}

impl Engine {
    /// As the file writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fjall => "fjall",
            Self::Sled => "sled",
        }
    }
}

/// `[listen]`.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Where the vault's one port is.
    pub address: SocketAddr,
    /// Certificates, keys, client CAs, revocation.
    pub tls: TlsFiles,
    /// Single-threaded runtimes; `None`: one per processor.
    pub cores: Option<usize>,
    /// Connections open at once.
    pub connections_max: usize,
    /// Calls at once on one connection.
    pub streams_per_connection_max: u32,
    /// From the accepted connection to the finished handshake.
    pub handshake_timeout: Duration,
    /// A connection without a call for this long is closed.
    pub idle_timeout: Duration,
    /// A connection gets no older than this.
    pub connection_age_max: Duration,
    /// How long calls under way may take to finish when the daemon is told to stop.
    pub drain: Duration,
}

/// `[seal]`.
#[derive(Clone, Debug, Default)]
pub struct SealConfig {
    /// A file with the passphrase, which unseals at start; without it a custodian unseals.
    pub passphrase_file: Option<PathBuf>,
    /// The token of a vault that an HSM seals, alone or together with custodians.
    pub hsm: Option<HsmConfig>,
}

/// `[seal.hsm]`.
#[derive(Clone, Debug)]
pub struct HsmConfig {
    /// The vendor's PKCS#11 module.
    pub module: PathBuf,
    /// The token's label, its serial number, or both.
    pub token_label: Option<String>,
    /// See there.
    pub token_serial: Option<String>,
    /// A file with the PIN of the token's user.
    pub pin_file: PathBuf,
}

/// `[metrics] listen`: the only plaintext listener, so on this machine only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MetricsListen {
    /// Nowhere.
    Off,
    /// A loopback address.
    Loopback(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// `[log]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogConfig {
    /// How each event is written.
    pub format: LogFormat,
    /// The least urgent level that is written.
    pub level: LogLevel,
}

/// How events are written to stderr.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// How urgent an event is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogLevel {
    /// Somebody has to act.
    Error,
    /// Somebody should look.
    Warn,
    /// What the daemon does: starts, reloads, seals, stops.
    Info,
    /// For developers.
    Debug,
    /// For developers, everything.
    Trace,
}

/// `[hardening]`.
#[derive(Clone, Debug)]
pub struct HardeningConfig {
    /// Whether a kernel without Landlock is refused.
    pub landlock_required: bool,
    /// Whether system calls are filtered.
    pub seccomp_required: bool,
    /// Further files and folders that may be read.
    pub read_paths: Vec<PathBuf>,
    /// Further files and folders that are the daemon's own, or its module's.
    pub write_paths: Vec<PathBuf>,
    /// Further TCP ports that may be connected to.
    pub connect_ports: Vec<u16>,
}

/// `[deadlines]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DeadlinesConfig {
    /// For a unary call that states none.
    pub unary_default: Duration,
    /// For a batch that states none.
    pub batch_default: Duration,
    /// The longest that a caller can ask for.
    pub max: Duration,
}

/// Why a configuration was refused: the path of the key (`listen.client_ca[0].name`) or of the file, and the
/// problem.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{path}: {problem}")]
pub struct ConfigError {
    path: String,
    problem: String,
}

impl ConfigError {
    fn new(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }

    /// A value that a room of the core refuses.
    pub(crate) fn of(path: &str, problem: &dyn fmt::Display) -> Self {
        Self::new(path, problem.to_string())
    }

    /// The key's path, or the file's when the file itself is refused.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read, is larger than 1 MiB, can be changed by its group or by
    /// others (it says which CAs to trust), or for any reason of [`Config::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&trusted_text(path)?)
    }

    /// Checks the text of a configuration.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first key that is unknown, missing, out of bounds or contradicts another.
    /// No value is repeated.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        check::config(file::parse(text)?)
    }

    /// Reads a file whose only table is `[store]`: for a throwaway vault on another store than its own.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_store(path: &Path) -> Result<StoreConfig, ConfigError> {
        let file: StoreFile = file::parse(&trusted_text(path)?)?;
        check::store(file.store)
    }

    /// What a daemon with this configuration would do, a line each: for `check-config`.
    pub fn plan(&self) -> Vec<String> {
        let VaultConfig { environment, keyring_folder, anchor_file, policy_file, audit_origin } = &self.vault;
        let mut lines = vec![
            format!("vault of environment {environment}, logging as {audit_origin}"),
            format!("keyring in {}, anchor in {}", keyring_folder.display(), anchor_file.display()),
            format!("policy from {}", policy_file.display()),
            self.store.to_string(),
            self.listen.to_string(),
        ];
        lines.extend(self.listen.tls.client_cas.iter().map(|ca| {
            let lists = ca.revocation_lists.len();
            format!("clients of CA {} from {}, {lists} revocation lists", ca.name, ca.certificate.display())
        }));
        lines.push(self.seal.to_string());
        lines.push(self.metrics.to_string());
        lines.push(self.hardening.to_string());
        lines
    }
}

/// The text of a file that only its owner can change.
fn trusted_text(path: &Path) -> Result<String, ConfigError> {
    let refuse = |problem: &str| ConfigError::new(path.display().to_string(), problem);
    let (content, meta) = read(path, CONFIG_BYTES_MAX).map_err(|error| refuse(&error.to_string()))?;
    if !only_owner_writes(&meta) {
        return Err(refuse("can be changed by its group or by others; chmod go-w it"));
    }
    let text = std::str::from_utf8(&content).map_err(|_| refuse("is not UTF-8 text"))?;
    Ok(text.to_owned())
}

impl HsmConfig {
    /// The PIN, without its line end.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read, is open to group or others, or holds no PIN of 4 to 255
    /// bytes.
    pub fn read_pin(&self) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
        let refuse = |problem: &str| ConfigError::new("seal.hsm.pin_file", problem);
        let mut pin = read_secret(&self.pin_file, HSM_PIN_BYTES_MAX as u64 + 2)
            .map_err(|error| refuse(&error.to_string()))?;
        strip_line_end(&mut pin);
        if !(HSM_PIN_BYTES_MIN..=HSM_PIN_BYTES_MAX).contains(&pin.len()) {
            return Err(refuse("does not hold a PIN of 4 to 255 bytes"));
        }
        Ok(pin)
    }
}

impl SealConfig {
    /// The passphrase that unseals at start, without its line end; `None` when a custodian unseals.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read, is open to group or others, or holds no passphrase of 15
    /// to 1,024 bytes.
    pub fn read_passphrase(&self) -> Result<Option<Zeroizing<Vec<u8>>>, ConfigError> {
        let Some(path) = &self.passphrase_file else { return Ok(None) };
        let refuse = |problem: &str| ConfigError::new("seal.passphrase_file", problem);
        let mut content =
            read_secret(path, PASSPHRASE_BYTES_MAX as u64 + 2).map_err(|error| refuse(&error.to_string()))?;
        strip_line_end(&mut content);
        if !(PASSPHRASE_BYTES_MIN..=PASSPHRASE_BYTES_MAX).contains(&content.len()) {
            return Err(refuse("does not hold a passphrase of 15 to 1024 bytes"));
        }
        Ok(Some(content))
    }
}

impl fmt::Display for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(EmbeddedConfig { engine, folder, free_space_floor_bytes, .. }) => write!(
                f,
                "store on {} in {}, refusing work below {} MiB free",
                engine.as_str(),
                folder.display(),
                free_space_floor_bytes >> 20
            ),
            Self::Postgres(PostgresOptions { hosts, database, user, .. }) => {
                let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
                write!(f, "store in the PostgreSQL database {database} on {} as {user}", hosts.join(", "))
            }
        }
    }
}

impl fmt::Display for ListenConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revocation = match self.tls.revocation {
            crate::tls::Revocation::Crl => "by revocation lists",
            crate::tls::Revocation::ShortLived => "by certificates of at most 7 days",
        };
        write!(
            f,
            "TLS 1.3 on {} for {} connections, revocation {revocation}",
            self.address, self.connections_max
        )
    }
}

impl fmt::Display for SealConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.passphrase_file, &self.hsm) {
            (Some(file), _) => write!(f, "unseals itself with the passphrase in {}", file.display()),
            (None, Some(hsm)) => {
                write!(
                    f,
                    "unseals itself where an HSM alone seals the vault: {hsm}; else a custodian unseals"
                )
            }
            (None, None) => f.write_str("starts sealed; a custodian unseals"),
        }
    }
}

impl fmt::Display for HsmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("token")?;
        if let Some(label) = &self.token_label {
            write!(f, " {label}")?;
        }
        if let Some(serial) = &self.token_serial {
            write!(f, " with serial number {serial}")?;
        }
        write!(f, " of {}, PIN from {}", self.module.display(), self.pin_file.display())
    }
}

impl fmt::Display for HardeningConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |required, otherwise| if required { "required" } else { otherwise };
        write!(
            f,
            "confined: Landlock {}, seccomp {}",
            said(self.landlock_required, "if available"),
            said(self.seccomp_required, "off")
        )?;
        for (what, paths) in [("reads", &self.read_paths), ("writes", &self.write_paths)] {
            for path in paths {
                write!(f, ", {what} {}", path.display())?;
            }
        }
        for port in &self.connect_ports {
            write!(f, ", connects to port {port}")?;
        }
        Ok(())
    }
}

impl fmt::Display for MetricsListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("no metrics"),
            Self::Loopback(address) => write!(f, "metrics on http://{address}"),
            Self::Unix(path) => write!(f, "metrics on the socket {}", path.display()),
        }
    }
}
