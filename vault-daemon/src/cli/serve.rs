//! `serve` and `check-config`.

use std::io;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use vault_daemon::clock::SystemClock;
use vault_daemon::config::Config;
use vault_daemon::confine::confine;
use vault_daemon::daemon::{Daemon, load_policy};
use vault_daemon::dev::ENVIRONMENT;
use vault_daemon::server::ServerOptions;
use vault_daemon::telemetry::log_to_stderr;

use super::{Done, WithConfig};

pub(super) fn serve(options: &WithConfig) -> Done {
    let mut config = options.load()?;
    refuse_dev(&config)?;
    log_to_stderr(config.log);
    // What a control group leaves of the machine is read in files that are out of reach from here on.
    config.listen.cores.get_or_insert(ServerOptions::default().cores);
    confine(&config)?;
    let signals = Signals::catch()?;
    let daemon = Daemon::start(config, Arc::new(SystemClock))?;
    signals.until_stopped(&daemon);
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

/// What a process is told from outside. Caught before anything is opened: a reload or a stop that comes early
/// waits instead of ending the process.
pub(super) struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let hang_up = signal(SignalKind::hangup())?;
        drop(inside);
        Ok(Self { runtime, terminate, interrupt, hang_up })
    }

    /// Waits for SIGTERM or SIGINT; reloads at every SIGHUP.
    pub(super) fn until_stopped(mut self, daemon: &Daemon) {
        self.runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = self.terminate.recv() => return,
                    _ = self.interrupt.recv() => return,
                    _ = self.hang_up.recv() => daemon.reload(),
                }
            }
        });
    }
}
