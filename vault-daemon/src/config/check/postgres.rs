//! `[store.postgres]`.

use rustls::pki_types::ServerName;

use super::super::bounds;
use super::super::defaults;
use super::super::file::{PostgresTable, StoreTable};
use super::{Checked, ConfigError, number, path, required, seconds};
use crate::limits::POSTGRES_HOSTS_MAX;
use crate::store::postgres::{Credentials, Host, PostgresOptions};

pub(super) fn store(table: StoreTable) -> Checked<PostgresOptions> {
    // What would not be looked at is refused, rather than believed to hold.
    for (there, key) in [
        (table.folder.is_some(), "store.folder"),
        (table.free_space_floor_mib.is_some(), "store.free_space_floor_mib"),
        (table.cache_mib.is_some(), "store.cache_mib"),
    ] {
        if there {
            return Err(ConfigError::new(key, "must not be there, since the engine is postgres"));
        }
    }
    let table = table.postgres.ok_or_else(|| ConfigError::new("store.postgres", "is missing"))?;
    let connections = number(
        table.connections,
        defaults::postgres_connections(),
        bounds::POSTGRES_CONNECTIONS,
        "store.postgres.connections",
    )?;
    Ok(PostgresOptions {
        hosts: hosts(&table.hosts)?,
        credentials: credentials(&table)?,
        channel_binding_required: channel_binding(&table)?,
        database: name(table.database, "store.postgres.database")?,
        user: name(table.user, "store.postgres.user")?,
        ca_file: path(table.ca_file, "store.postgres.ca_file")?,
        connections: usize::try_from(connections).unwrap_or(usize::MAX),
        answer_timeout: seconds(
            table.answer_timeout_seconds,
            defaults::postgres_answer_timeout(),
            bounds::POSTGRES_ANSWER_SECONDS,
            "store.postgres.answer_timeout_seconds",
        )?,
        synchronous_standby_required: table.synchronous_standby_required.unwrap_or(false),
    })
}

fn hosts(texts: &[String]) -> Checked<Vec<Host>> {
    if texts.is_empty() || texts.len() > POSTGRES_HOSTS_MAX {
        return Err(ConfigError::new("store.postgres.hosts", "must name 1 to 8 servers"));
    }
    let parse = |(at, text): (usize, &String)| {
        let problem = "must be a name or an address, and a port after a colon if it is not 5432";
        host(text).ok_or_else(|| ConfigError::new(format!("store.postgres.hosts[{at}]"), problem))
    };
    texts.iter().enumerate().map(parse).collect()
}

/// `name`, `name:port`, `address`, `[IPv6]:port`.
fn host(text: &str) -> Option<Host> {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, "")) => (name, None),
        Some((name, port)) => (name, Some(port.strip_prefix(':')?)),
        None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let port = port.map_or(Ok(defaults::POSTGRES_PORT), str::parse).ok()?;
    // What no certificate could be for, no connection could be verified with.
    ServerName::try_from(name).ok()?;
    Some(Host { name: name.to_owned(), port })
}

fn credentials(table: &PostgresTable) -> Checked<Credentials> {
    match (&table.password_file, &table.certificate_file, &table.private_key_file) {
        (Some(file), None, None) => {
            Ok(Credentials::Password(path(Some(file.clone()), "store.postgres.password_file")?))
        }
        (None, Some(certificate), Some(private_key)) => Ok(Credentials::Certificate {
            certificate: path(Some(certificate.clone()), "store.postgres.certificate_file")?,
            private_key: path(Some(private_key.clone()), "store.postgres.private_key_file")?,
        }),
        _ => Err(ConfigError::new(
            "store.postgres.password_file",
            "must be there, or certificate_file with private_key_file in its place",
        )),
    }
}

/// Only a password is bound to the channel.
fn channel_binding(table: &PostgresTable) -> Checked<bool> {
    if table.password_file.is_none() && table.channel_binding_required.is_some() {
        let key = "store.postgres.channel_binding_required";
        return Err(ConfigError::new(key, "must not be there without password_file"));
    }
    Ok(table.channel_binding_required.unwrap_or(true))
}

/// Names that need no quotes in SQL.
fn name(value: Option<String>, key: &str) -> Checked<String> {
    let name = required(value, key)?;
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let fits = (1..=bounds::POSTGRES_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().next().is_some_and(letters)
        && name.bytes().all(|byte| letters(byte) || byte.is_ascii_digit());
    if fits {
        Ok(name)
    } else {
        Err(ConfigError::new(key, "must have 1 to 63 characters of a-z 0-9 _ and not begin with a digit"))
    }
}
