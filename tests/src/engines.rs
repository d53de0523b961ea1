//! Throwaway vaults on every engine that a daemon can be told to keep its rows in.

use std::path::Path;

use vault_daemon::TestVault;
use vault_daemon::config::{Config, Engine, StoreConfig};

use crate::cluster::Cluster;

/// The engines, as a configuration names them.
pub const ENGINES: [&str; 3] = ["fjall", "sled", "postgres"];

/// Puts the rows of a throwaway vault on this engine; on PostgreSQL in a database of its own.
pub fn put_on(engine: &str, config: &mut Config) {
    match &mut config.store {
        store if engine == "postgres" => {
            *store = StoreConfig::Postgres(Cluster::shared().database().options());
        }
        StoreConfig::Embedded(store) => {
            store.engine = if engine == "sled" { Engine::Sled } else { Engine::Fjall };
        }
        StoreConfig::Postgres(_) => panic!("a throwaway vault begins on an embedded engine"),
    }
}

/// A vault in this process on this engine, whose files and configuration are changed first.
pub fn test_vault(engine: &str, change: impl FnOnce(&Path, &mut Config)) -> TestVault {
    let vault = TestVault::start_with(Engine::Fjall, |folder, config| {
        put_on(engine, config);
        change(folder, config);
    });
    vault.unwrap()
}
