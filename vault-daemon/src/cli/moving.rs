//! `move`: the vault's rows into another store, while no daemon serves it.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use vault_core::clock::Clock as _;
use vault_daemon::clock::SystemClock;
use vault_daemon::config::Config;
use vault_daemon::daemon::{Site, StartError, open_store, own_identity};
use vault_guard::wipe_stack;

use super::{Done, WithCredential};

/// Rows after which progress is told.
const TOLD_ROWS: u64 = 50_000;

#[derive(Args)]
pub(super) struct Options {
    #[command(flatten)]
    vault: WithCredential,
    /// The configuration that the vault is served with from then on: the same but for `[store]`.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

pub(super) fn run(options: &Options) -> Done {
    let (config, given) = options.vault.load()?;
    let target = Config::load(&options.to)?;
    check_target(&config, &target)?;
    let site = Site::open(&config)?;
    let to = open_store(&target.store, site.sealed.origin()).map_err(StartError::Store)?;
    let begun = Instant::now();
    let mut told = 0;
    let moved = site.sealed.move_to(
        given.credential(),
        &own_identity()?,
        to.as_ref(),
        SystemClock.now(),
        &mut |rows| {
            if rows / TOLD_ROWS > told {
                told = rows / TOLD_ROWS;
                eprintln!("vaultd: {rows} rows copied");
            }
        },
    );
    wipe_stack(); // the root key and the keyring
    let moved = moved?;
    println!(
        "{} rows copied and compared, {} records among them, in {:.1?}",
        moved.rows,
        moved.records,
        begun.elapsed()
    );
    println!("log {}: {} entries, proven in the new store", site.sealed.origin(), moved.entries);
    println!("serve it with {} now: from then on the old store is refused", options.to.display());
    Ok(())
}

/// Only the store may differ: with another keyring, anchor or log it would not be this vault.
fn check_target(config: &Config, target: &Config) -> Done {
    let (one, other) = (&config.vault, &target.vault);
    let parts = [
        ("vault.environment", one.environment == other.environment),
        ("vault.keyring_folder", one.keyring_folder == other.keyring_folder),
        ("vault.anchor_file", one.anchor_file == other.anchor_file),
        ("vault.audit_origin", one.audit_origin == other.audit_origin),
    ];
    if let Some((name, _)) = parts.into_iter().find(|(_, same)| !same) {
        return Err(format!("{name} is not the same in both configurations").into());
    }
    Ok(())
}
