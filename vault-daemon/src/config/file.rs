//! The file as written. Every key is optional here, so that a missing one is reported under its own path.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ConfigError;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) vault: VaultTable,
    #[serde(default)]
    pub(super) store: StoreTable,
    #[serde(default)]
    pub(super) listen: ListenTable,
    #[serde(default)]
    pub(super) seal: SealTable,
    #[serde(default)]
    pub(super) metrics: MetricsTable,
    #[serde(default)]
    pub(super) log: LogTable,
    #[serde(default)]
    pub(super) hardening: HardeningTable,
    #[serde(default)]
    pub(super) deadlines: DeadlinesTable,
}

/// A file with nothing but a store.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreFile {
    #[serde(default)]
    pub(super) store: StoreTable,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VaultTable {
    pub(super) environment: Option<String>,
    pub(super) keyring_folder: Option<String>,
    pub(super) anchor_file: Option<String>,
    pub(super) policy_file: Option<String>,
    pub(super) audit_origin: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoreTable {
    pub(super) engine: Option<String>,
    pub(super) folder: Option<String>,
    pub(super) free_space_floor_mib: Option<u64>,
    pub(super) cache_mib: Option<u64>,
    pub(super) postgres: Option<PostgresTable>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PostgresTable {
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    pub(super) database: Option<String>,
    pub(super) user: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) password_file: Option<String>,
    pub(super) certificate_file: Option<String>,
    pub(super) private_key_file: Option<String>,
    pub(super) channel_binding_required: Option<bool>,
    pub(super) connections: Option<u64>,
    pub(super) answer_timeout_seconds: Option<u64>,
    pub(super) synchronous_standby_required: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenTable {
    pub(super) address: Option<String>,
    pub(super) certificate_file: Option<String>,
    pub(super) private_key_file: Option<String>,
    pub(super) revocation: Option<String>,
    #[serde(default)]
    pub(super) client_ca: Vec<ClientCaTable>,
    pub(super) cores: Option<u64>,
    pub(super) connections_max: Option<u64>,
    pub(super) streams_per_connection_max: Option<u64>,
    pub(super) handshake_timeout_seconds: Option<u64>,
    pub(super) idle_timeout_seconds: Option<u64>,
    pub(super) connection_age_max_seconds: Option<u64>,
    pub(super) drain_seconds: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientCaTable {
    pub(super) name: Option<String>,
    pub(super) certificate_file: Option<String>,
    #[serde(default)]
    pub(super) crl_files: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SealTable {
    pub(super) passphrase_file: Option<String>,
    pub(super) hsm: Option<HsmTable>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HsmTable {
    pub(super) module: Option<String>,
    pub(super) token_label: Option<String>,
    pub(super) token_serial: Option<String>,
    pub(super) pin_file: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsTable {
    pub(super) listen: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogTable {
    pub(super) format: Option<String>,
    pub(super) level: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HardeningTable {
    pub(super) landlock: Option<String>,
    pub(super) seccomp: Option<String>,
    #[serde(default)]
    pub(super) read_paths: Vec<String>,
    #[serde(default)]
    pub(super) write_paths: Vec<String>,
    #[serde(default)]
    pub(super) connect_ports: Vec<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeadlinesTable {
    pub(super) unary_default_milliseconds: Option<u64>,
    pub(super) batch_default_milliseconds: Option<u64>,
    pub(super) max_milliseconds: Option<u64>,
}

/// Reads a file of this shape.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    let document = toml::Deserializer::parse(text).map_err(|error| {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        ConfigError::new("configuration", format!("is not valid TOML from line {line} on"))
    })?;
    serde_path_to_error::deserialize(document)
        .map_err(|error| ConfigError::new(printable(&error.path().to_string()), shape_problem(error.inner())))
}

/// With every key optional, serde can only meet a key it does not know or a value that does not fit. Its own
/// message would repeat the value.
fn shape_problem(error: &toml::de::Error) -> &'static str {
    if error.message().starts_with("unknown field") {
        "is no known key"
    } else {
        "has a value of the wrong type"
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// An unknown key stands in the path as the file wrote it: bounded here, and unable to break a line of the
/// log.
fn printable(path: &str) -> String {
    const CHARACTERS_MAX: usize = 128;
    path.chars().take(CHARACTERS_MAX).flat_map(char::escape_default).collect()
}
