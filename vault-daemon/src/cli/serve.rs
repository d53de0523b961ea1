//! `serve` and `check-config`.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use vault_daemon::clock::SystemClock;
use vault_daemon::config::Config;
use vault_daemon::daemon::{Daemon, load_policy};
use vault_daemon::dev::ENVIRONMENT;
use vault_daemon::telemetry::log_to_stderr;

use super::{Done, WithConfig};

pub(super) fn serve(options: &WithConfig) -> Done {
    let config = options.load()?;
    refuse_dev(&config)?;
    log_to_stderr(config.log);
    let daemon = Daemon::start(config, Arc::new(SystemClock))?;
    until_stopped(&daemon)?;
    if daemon.stop() { Ok(()) } else { Err("calls were cut off when the time to drain was over".into()) }
}

pub(super) fn check_config(options: &WithConfig) -> Done {
    let config = options.load()?;
    refuse_dev(&config)?;
    load_policy(&config)?;
    for line in config.plan() {
        println!("{line}");
    }
    Ok(())
}

/// Keys of throwaway vaults stand in a folder beside their passphrase.
pub(super) fn refuse_dev(config: &Config) -> Done {
    if config.vault.environment.as_str() == ENVIRONMENT {
        return Err("vault.environment: dev is for the throwaway vaults of `vaultd dev`".into());
    }
    Ok(())
}

/// Waits for SIGTERM or SIGINT; reloads at every SIGHUP.
pub(super) fn until_stopped(daemon: &Daemon) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hang_up.recv() => daemon.reload(),
            }
        }
    })
}
