//! What the daemon says about itself: structured events on stderr, metrics for Prometheus.
//!
//! Both come from an allow-list. Only the daemon's own lines reach the log, their fields have the names that
//! tests/tidy lists, and none holds a request, a value or a token. Metric labels are from closed sets: RPC
//! names and stable reasons.

mod listener;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry as Counts;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::set_global_default;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::{Registry, fmt};

pub use listener::{Listener, ListenerError};

use crate::config::{LogConfig, LogFormat, LogLevel};
use crate::custody::{Custody, Standing};
use crate::server::{Counters, Ending};
use crate::tls::TlsDoor;

/// The reason of a call that succeeded.
const OK: &str = "OK";

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CallLabels {
    rpc: &'static str,
    reason: &'static str,
}

/// Counts and times of one daemon since its start.
pub struct Metrics {
    registry: Counts,
    calls: Family<CallLabels, Counter>,
    call_seconds: Histogram,
    commit_seconds: Histogram,
    commit_calls: Histogram,
    alarms: Counter,
}

impl Metrics {
    /// All zero.
    pub fn new() -> Self {
        let mut registry = Counts::with_prefix("vaultd");
        let calls = Family::default();
        // From 50 µs, a commit on a fast disk, to 13 s, beyond every default deadline.
        let seconds = || Histogram::new(exponential_buckets(50e-6, 2.0, 19));
        let (call_seconds, commit_seconds) = (seconds(), seconds());
        let commit_calls = Histogram::new(exponential_buckets(1.0, 2.0, 12));
        let alarms = Counter::default();
        registry.register("calls", "Calls answered, by RPC and reason", calls.clone());
        registry.register("call_seconds", "From a decoded request to its answer", call_seconds.clone());
        registry.register("commit_seconds", "One commit of the lane", commit_seconds.clone());
        registry.register("commit_calls", "Calls answered by one commit", commit_calls.clone());
        registry.register("alarms", "Events that somebody has to look at", alarms.clone());
        Self { registry, calls, call_seconds, commit_seconds, commit_calls, alarms }
    }

    /// A call was answered.
    pub fn called(&self, rpc: &'static str, refused: Option<&'static str>, took: Duration) {
        let reason = refused.unwrap_or(OK);
        self.calls.get_or_create(&CallLabels { rpc, reason }).inc();
        self.call_seconds.observe(took.as_secs_f64());
    }

    /// The lane made one commit.
    pub fn committed(&self, calls: usize, took: Duration) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.commit_calls.observe(calls as f64);
    }

    /// Something happened that somebody has to look at; an event says what.
    pub fn alarm(&self) {
        self.alarms.inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// All that is exposed: the daemon's metrics, its connections, the state of its vault.
#[derive(Clone)]
pub struct Exposition {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whose state is told.
    pub custody: Arc<Custody>,
    /// The connections.
    pub connections: Arc<Counters>,
    /// The door they come in by.
    pub door: Arc<TlsDoor>,
}

impl Exposition {
    /// Whether calls are served now.
    pub fn is_ready(&self) -> bool {
        self.custody.standing() == Standing::Unsealed
    }

    /// The OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String never fails.
        let _ = encode(&mut text, &self.metrics.registry);
        let end = text.rfind("# EOF").unwrap_or(text.len());
        text.truncate(end);
        self.write_connections(&mut text);
        self.write_door(&mut text);
        self.write_vault(&mut text);
        text.push_str("# EOF\n");
        text
    }

    fn write_connections(&self, text: &mut String) {
        let counters = &self.connections;
        gauge(text, "vaultd_connections", "Connections open now", counters.open());
        counter(
            text,
            "vaultd_connections_accepted",
            "Connections taken from the kernel",
            counters.accepted(),
        );
        counter(
            text,
            "vaultd_connections_admitted",
            "Connections that passed handshake and door",
            counters.admitted(),
        );
        counter(text, "vaultd_accept_errors", "Failed accepts", counters.accept_errors());
        text.push_str("# HELP vaultd_connections_ended Admitted connections that ended\n");
        text.push_str("# TYPE vaultd_connections_ended counter\n");
        for ending in Ending::ALL {
            let (label, count) = (ending.as_str(), counters.ended(ending));
            let _ = writeln!(text, "vaultd_connections_ended_total{{ending=\"{label}\"}} {count}");
        }
        text.push_str("# HELP vaultd_connections_refused Connections refused at the door\n");
        text.push_str("# TYPE vaultd_connections_refused counter\n");
        let mut refused: Vec<(String, u64)> =
            counters.refused().into_iter().map(|(reason, count)| (format!("{reason:?}"), count)).collect();
        refused.sort();
        for (reason, count) in refused {
            let _ = writeln!(text, "vaultd_connections_refused_total{{reason=\"{reason}\"}} {count}");
        }
    }

    fn write_door(&self, text: &mut String) {
        let status = self.door.status();
        gauge(
            text,
            "vaultd_tls_files_refused",
            "1 while certificates, keys or lists as they are now are not the ones in force",
            u64::from(status.reload_failure.is_some()),
        );
        if let Some(first) = status.deadlines.first() {
            gauge(
                text,
                "vaultd_tls_first_end_seconds",
                "When the first certificate or revocation list of the door ends, seconds since 1970",
                first.at.seconds(),
            );
        }
    }

    fn write_vault(&self, text: &mut String) {
        let standing = self.custody.standing();
        gauge(text, "vaultd_unsealed", "1 while calls are served", u64::from(standing == Standing::Unsealed));
        gauge(
            text,
            "vaultd_suspended",
            "1 while the store is away",
            u64::from(standing == Standing::Suspended),
        );
        if let Some(vault) = self.custody.open() {
            gauge(text, "vaultd_log_entries", "Durable entries of the audit log", vault.tree_head().size);
            gauge(text, "vaultd_keyring_generation", "Generation of the keyring", vault.keyring_generation());
        }
    }
}

fn gauge(text: &mut String, name: &str, help: &str, value: u64) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
}

fn counter(text: &mut String, name: &str, help: &str, value: u64) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name}_total {value}");
}

/// Whose lines reach the log: the daemon's own. What libraries write about themselves, at whatever level, is
/// theirs to decide; here it would be a way past every other rule.
const TARGETS: [&str; 2] = ["vault_daemon", "vaultd"];

/// Sends events to stderr from here on; the first call of the process counts.
pub fn log_to_stderr(config: LogConfig) {
    let stderr = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    // A line that cannot be written is lost: to complain about it on stderr would be a panic.
    let stderr = stderr.log_internal_errors(false);
    // A second subscriber is refused; the first one, of another vault in the same process, stays. Nothing
    // listens for lines of the crate `log`, which fjall and rustls use.
    let _ = match config.format {
        LogFormat::Json => set_global_default(own_lines(config.level, stderr.json().flatten_event(true))),
        LogFormat::Text => set_global_default(own_lines(config.level, stderr)),
    };
}

/// Own lines up to a level, into a layer.
fn own_lines<L: Layer<Registry> + Send + Sync>(level: LogLevel, layer: L) -> impl Subscriber + Send + Sync {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let passes = move |line: &Metadata<'_>| {
        let module = line.target().split("::").next();
        *line.level() <= level && module.is_some_and(|module| TARGETS.contains(&module))
    };
    let own = filter_fn(passes).with_max_level_hint(level);
    tracing_subscriber::registry().with(layer).with(own)
}
