//! From what the file says to what the daemon can rely on.

mod postgres;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use vault_core::data::Environment;
use vault_core::limits::ORIGIN_BYTES_MAX;

use super::file::{
    ClientCaTable, DeadlinesTable, File, HardeningTable, HsmTable, ListenTable, LogTable, MetricsTable,
    SealTable, StoreTable, VaultTable,
};
use super::{
    Config, ConfigError, DeadlinesConfig, EmbeddedConfig, Engine, HardeningConfig, HsmConfig, ListenConfig,
    LogConfig, LogFormat, LogLevel, MetricsListen, SealConfig, StoreConfig, VaultConfig, bounds, defaults,
};
use crate::limits::{
    CLIENT_CAS_MAX, CRLS_PER_CA_MAX, HARDENING_ENTRIES_MAX, HSM_LABEL_BYTES_MAX, HSM_SERIAL_BYTES_MAX,
};
use crate::tls::{ClientCaFiles, Revocation, TlsFiles};

type Checked<T> = Result<T, ConfigError>;

pub(super) fn config(file: File) -> Checked<Config> {
    let config = Config {
        vault: vault(file.vault)?,
        store: store(file.store)?,
        listen: listen(file.listen)?,
        seal: seal(file.seal)?,
        metrics: metrics(file.metrics)?,
        log: log(&file.log)?,
        hardening: hardening(file.hardening)?,
        deadlines: deadlines(&file.deadlines)?,
    };
    check_folders(&config)?;
    Ok(config)
}

fn vault(table: VaultTable) -> Checked<VaultConfig> {
    let environment = Environment::parse(&required(table.environment, "vault.environment")?)
        .map_err(|error| ConfigError::new("vault.environment", error.to_string()))?;
    Ok(VaultConfig {
        environment,
        keyring_folder: path(table.keyring_folder, "vault.keyring_folder")?,
        anchor_file: path(table.anchor_file, "vault.anchor_file")?,
        policy_file: path(table.policy_file, "vault.policy_file")?,
        audit_origin: origin(required(table.audit_origin, "vault.audit_origin")?)?,
    })
}

/// C2SP tlog-checkpoint: not empty, no space, no plus; recommended to look like a URL without its scheme.
fn origin(text: String) -> Checked<String> {
    let fits = (1..=ORIGIN_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte));
    if fits {
        Ok(text)
    } else {
        Err(ConfigError::new("vault.audit_origin", "must have 1 to 80 characters of A-Z a-z 0-9 - . _ /"))
    }
}

pub(super) fn store(table: StoreTable) -> Checked<StoreConfig> {
    let engine = match table.engine.as_deref() {
        None => defaults::engine(),
        Some("fjall") => Engine::Fjall,
        Some("sled") => Engine::Sled,
        Some("postgres") => return postgres::store(table).map(StoreConfig::Postgres),
        Some(_) => return Err(ConfigError::new("store.engine", "must be fjall, sled or postgres")),
    };
    if table.postgres.is_some() {
        return Err(ConfigError::new("store.postgres", "must not be there, since the engine is embedded"));
    }
    let mib =
        |value: Option<u64>, default, range, path| number(value, default, range, path).map(|mib| mib << 20);
    Ok(StoreConfig::Embedded(EmbeddedConfig {
        engine,
        folder: path(table.folder, "store.folder")?,
        free_space_floor_bytes: mib(
            table.free_space_floor_mib,
            defaults::free_space_floor_mib(),
            bounds::FREE_SPACE_FLOOR_MIB,
            "store.free_space_floor_mib",
        )?,
        cache_bytes: mib(table.cache_mib, defaults::cache_mib(), bounds::CACHE_MIB, "store.cache_mib")?,
    }))
}

fn listen(table: ListenTable) -> Checked<ListenConfig> {
    let address = required(table.address, "listen.address")?;
    let address = address.parse::<SocketAddr>().map_err(|_| {
        ConfigError::new("listen.address", "must be an IP address and a port, such as 0.0.0.0:7443")
    })?;
    let revocation = revocation(&required(table.revocation, "listen.revocation")?)?;
    let tls = TlsFiles {
        certificate: path(table.certificate_file, "listen.certificate_file")?,
        private_key: path(table.private_key_file, "listen.private_key_file")?,
        client_cas: client_cas(table.client_ca, revocation)?,
        revocation,
    };
    let connections = number(
        table.connections_max,
        defaults::connections_max(),
        bounds::CONNECTIONS,
        "listen.connections_max",
    )?;
    let streams = number(
        table.streams_per_connection_max,
        defaults::streams_per_connection_max(),
        bounds::STREAMS,
        "listen.streams_per_connection_max",
    )?;
    let cores = table.cores.map(|cores| number(Some(cores), 1, bounds::CORES, "listen.cores")).transpose()?;
    Ok(ListenConfig {
        address,
        tls,
        cores: cores.and_then(|cores| usize::try_from(cores).ok()),
        connections_max: usize::try_from(connections).unwrap_or(usize::MAX),
        streams_per_connection_max: u32::try_from(streams).unwrap_or(u32::MAX),
        handshake_timeout: seconds(
            table.handshake_timeout_seconds,
            defaults::handshake_timeout(),
            bounds::HANDSHAKE_SECONDS,
            "listen.handshake_timeout_seconds",
        )?,
        idle_timeout: seconds(
            table.idle_timeout_seconds,
            defaults::idle_timeout(),
            bounds::IDLE_SECONDS,
            "listen.idle_timeout_seconds",
        )?,
        connection_age_max: seconds(
            table.connection_age_max_seconds,
            defaults::connection_age_max(),
            bounds::AGE_SECONDS,
            "listen.connection_age_max_seconds",
        )?,
        drain: seconds(
            table.drain_seconds,
            defaults::drain(),
            bounds::DRAIN_SECONDS,
            "listen.drain_seconds",
        )?,
    })
}

/// No default: whoever sets up a vault decides how a stolen certificate is kept out.
fn revocation(text: &str) -> Checked<Revocation> {
    match text {
        "crl" => Ok(Revocation::Crl),
        "short-lived" => Ok(Revocation::ShortLived),
        _ => Err(ConfigError::new("listen.revocation", "must be crl or short-lived")),
    }
}

fn client_cas(tables: Vec<ClientCaTable>, revocation: Revocation) -> Checked<Vec<ClientCaFiles>> {
    if tables.is_empty() || tables.len() > CLIENT_CAS_MAX {
        return Err(ConfigError::new("listen.client_ca", "must stand there 1 to 32 times"));
    }
    let mut names = HashSet::new();
    let mut checked = Vec::new();
    for (at, table) in tables.into_iter().enumerate() {
        let ca = client_ca(table, revocation, &format!("listen.client_ca[{at}]"))?;
        if !names.insert(ca.name.clone()) {
            return Err(ConfigError::new(
                format!("listen.client_ca[{at}].name"),
                "is the name of another client CA",
            ));
        }
        checked.push(ca);
    }
    Ok(checked)
}

fn client_ca(table: ClientCaTable, revocation: Revocation, at: &str) -> Checked<ClientCaFiles> {
    let name_path = format!("{at}.name");
    let name = required(table.name, &name_path)?;
    // The same form as every name in the policy, which pins the CA by it.
    Environment::parse(&name).map_err(|error| ConfigError::new(name_path, error.to_string()))?;
    let lists_path = format!("{at}.crl_files");
    let lists = table.crl_files;
    match revocation {
        Revocation::Crl if lists.is_empty() || lists.len() > CRLS_PER_CA_MAX => {
            return Err(ConfigError::new(lists_path, "must name 1 to 32 files, since revocation is crl"));
        }
        // Lists that nobody looks at would be worse than none.
        Revocation::ShortLived if !lists.is_empty() => {
            return Err(ConfigError::new(lists_path, "must not be there, since revocation is short-lived"));
        }
        _ => {}
    }
    let revocation_lists = lists
        .into_iter()
        .enumerate()
        .map(|(index, list)| path(Some(list), &format!("{lists_path}[{index}]")))
        .collect::<Checked<Vec<_>>>()?;
    let certificate = path(table.certificate_file, &format!("{at}.certificate_file"))?;
    Ok(ClientCaFiles { name, certificate, revocation_lists })
}

fn seal(table: SealTable) -> Checked<SealConfig> {
    let passphrase_file =
        table.passphrase_file.map(|file| path(Some(file), "seal.passphrase_file")).transpose()?;
    let hsm = table.hsm.map(hsm).transpose()?;
    if passphrase_file.is_some() && hsm.is_some() {
        return Err(ConfigError::new("seal.passphrase_file", "must not stand beside seal.hsm"));
    }
    Ok(SealConfig { passphrase_file, hsm })
}

fn hsm(table: HsmTable) -> Checked<HsmConfig> {
    let printable = |text: Option<String>, bytes_max: usize, key: &str| {
        let fits = text.as_ref().is_none_or(|text| {
            (1..=bytes_max).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        });
        let problem = format!("must have 1 to {bytes_max} printable ASCII characters");
        if fits { Ok(text) } else { Err(ConfigError::new(key, problem)) }
    };
    let token_label = printable(table.token_label, HSM_LABEL_BYTES_MAX, "seal.hsm.token_label")?;
    let token_serial = printable(table.token_serial, HSM_SERIAL_BYTES_MAX, "seal.hsm.token_serial")?;
    if token_label.is_none() && token_serial.is_none() {
        return Err(ConfigError::new("seal.hsm.token_label", "is missing, and so is token_serial"));
    }
    let module = path(table.module, "seal.hsm.module")?;
    Ok(HsmConfig { module, token_label, token_serial, pin_file: path(table.pin_file, "seal.hsm.pin_file")? })
}

fn metrics(table: MetricsTable) -> Checked<MetricsListen> {
    let refuse = |problem: &str| Err(ConfigError::new("metrics.listen", problem));
    let Some(text) = table.listen else { return Ok(defaults::metrics()) };
    if text == "off" {
        return Ok(MetricsListen::Off);
    }
    if let Some(socket) = text.strip_prefix("unix:") {
        let socket = path(Some(socket.to_owned()), "metrics.listen")?;
        if socket.as_os_str().len() > bounds::SOCKET_PATH_BYTES_MAX {
            return refuse("must have a socket path of at most 107 bytes");
        }
        return Ok(MetricsListen::Unix(socket));
    }
    match text.parse::<SocketAddr>() {
        // It is plaintext and asks nobody for a certificate.
        Ok(address) if address.ip().is_loopback() => Ok(MetricsListen::Loopback(address)),
        Ok(_) => refuse("must be a loopback address: it is plaintext"),
        Err(_) => refuse("must be a loopback address with a port, unix: and a path, or off"),
    }
}

fn log(table: &LogTable) -> Checked<LogConfig> {
    let format = match table.format.as_deref() {
        None => defaults::log_format(),
        Some("json") => LogFormat::Json,
        Some("text") => LogFormat::Text,
        Some(_) => return Err(ConfigError::new("log.format", "must be json or text")),
    };
    let level = match table.level.as_deref() {
        None => defaults::log_level(),
        Some("error") => LogLevel::Error,
        Some("warn") => LogLevel::Warn,
        Some("info") => LogLevel::Info,
        Some("debug") => LogLevel::Debug,
        Some("trace") => LogLevel::Trace,
        Some(_) => return Err(ConfigError::new("log.level", "must be error, warn, info, debug or trace")),
    };
    Ok(LogConfig { format, level })
}

fn hardening(table: HardeningTable) -> Checked<HardeningConfig> {
    let landlock_required = match table.landlock.as_deref() {
        None => defaults::landlock_required(),
        Some("required") => true,
        Some("if-available") => false,
        Some(_) => {
            return Err(ConfigError::new("hardening.landlock", "must be required or if-available"));
        }
    };
    let seccomp_required = match table.seccomp.as_deref() {
        None => defaults::seccomp_required(),
        Some("required") => true,
        Some("off") => false,
        Some(_) => return Err(ConfigError::new("hardening.seccomp", "must be required or off")),
    };
    Ok(HardeningConfig {
        landlock_required,
        seccomp_required,
        read_paths: entries(table.read_paths, "hardening.read_paths", |text, key| path(Some(text), key))?,
        write_paths: entries(table.write_paths, "hardening.write_paths", |text, key| path(Some(text), key))?,
        connect_ports: entries(table.connect_ports, "hardening.connect_ports", |port, key| {
            let problem = || ConfigError::new(key, "must be from 1 to 65535");
            u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(problem)
        })?,
    })
}

fn entries<T, U>(values: Vec<T>, key: &str, checked: impl Fn(T, &str) -> Checked<U>) -> Checked<Vec<U>> {
    if values.len() > HARDENING_ENTRIES_MAX {
        return Err(ConfigError::new(key, "must not have more than 32 entries"));
    }
    values.into_iter().enumerate().map(|(at, value)| checked(value, &format!("{key}[{at}]"))).collect()
}

fn deadlines(table: &DeadlinesTable) -> Checked<DeadlinesConfig> {
    let milliseconds = |value, default: Duration, path| {
        let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        number(value, default, bounds::DEADLINE_MILLISECONDS, path).map(Duration::from_millis)
    };
    let checked = DeadlinesConfig {
        unary_default: milliseconds(
            table.unary_default_milliseconds,
            defaults::unary_default(),
            "deadlines.unary_default_milliseconds",
        )?,
        batch_default: milliseconds(
            table.batch_default_milliseconds,
            defaults::batch_default(),
            "deadlines.batch_default_milliseconds",
        )?,
        max: milliseconds(table.max_milliseconds, defaults::deadline_max(), "deadlines.max_milliseconds")?,
    };
    if checked.max < checked.unary_default.max(checked.batch_default) {
        return Err(ConfigError::new("deadlines.max_milliseconds", "must not be below the other two"));
    }
    Ok(checked)
}

/// Keys beside the data they open, or the anchor beside what it anchors, would fall into one backup and one
/// thief's hands, and would be rolled back together.
fn check_folders(config: &Config) -> Checked<()> {
    let keyring = resolved(&config.vault.keyring_folder);
    let anchor = resolved(&config.vault.anchor_file);
    if let StoreConfig::Embedded(embedded) = &config.store {
        let store = resolved(&embedded.folder);
        if keyring.starts_with(&store) || store.starts_with(&keyring) {
            return Err(ConfigError::new("vault.keyring_folder", "must lie apart from store.folder"));
        }
        if anchor.starts_with(&store) || anchor.parent().is_some_and(|folder| store == folder) {
            return Err(ConfigError::new(
                "vault.anchor_file",
                "must lie in another folder than store.folder",
            ));
        }
        if store.starts_with(&anchor) {
            return Err(ConfigError::new("vault.anchor_file", "must be a file, not a folder above others"));
        }
    }
    if keyring.starts_with(&anchor) {
        return Err(ConfigError::new("vault.anchor_file", "must be a file, not a folder above others"));
    }
    Ok(())
}

/// The path behind symbolic links, as far as it exists yet.
fn resolved(path: &Path) -> PathBuf {
    for ancestor in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (ancestor.canonicalize(), path.strip_prefix(ancestor)) {
            return real.join(rest);
        }
    }
    path.to_owned()
}

fn required(value: Option<String>, path: &str) -> Checked<String> {
    value.ok_or_else(|| ConfigError::new(path, "is missing"))
}

fn path(value: Option<String>, key: &str) -> Checked<PathBuf> {
    let path = PathBuf::from(required(value, key)?);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // A relative path would mean another file whenever somebody starts the daemon elsewhere.
    if !path.is_absolute() || !plain || path.as_os_str().len() > bounds::PATH_BYTES_MAX {
        return Err(ConfigError::new(key, "must be an absolute path without .."));
    }
    Ok(path)
}

fn number(value: Option<u64>, default: u64, range: RangeInclusive<u64>, path: &str) -> Checked<u64> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        Ok(value)
    } else {
        Err(ConfigError::new(path, format!("must be from {} to {}", range.start(), range.end())))
    }
}

fn seconds(
    value: Option<u64>,
    default: Duration,
    range: RangeInclusive<u64>,
    path: &str,
) -> Checked<Duration> {
    number(value, default.as_secs(), range, path).map(Duration::from_secs)
}
