//! What holds where the file says nothing, each with its reason.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{Engine, LogFormat, LogLevel, MetricsListen};

/// The fastest engine that survived every replayed power cut.
pub(super) const fn engine() -> Engine {
    Engine::Fjall
}

/// fjall's journals (256 MiB) and memtables, and as much again to compact in.
pub(super) const fn free_space_floor_mib() -> u64 {
    1_024
}

/// What the engines were measured with.
pub(super) const fn cache_mib() -> u64 {
    256
}

/// PostgreSQL's own port.
pub(super) const POSTGRES_PORT: u16 = 5_432;

/// The lane's, and a few auditors' reads beside it.
pub(super) const fn postgres_connections() -> u64 {
    4
}

/// A failover takes longer; a commit does not.
pub(super) const fn postgres_answer_timeout() -> Duration {
    Duration::from_secs(10)
}

/// Above a hundred client processes with a few dozen connections each.
pub(super) const fn connections_max() -> u64 {
    4_096
}

/// One client connection cannot hold more of the lane than this.
pub(super) const fn streams_per_connection_max() -> u64 {
    128
}

/// A handshake takes milliseconds; this leaves room for a slow network, not for a slow attacker.
pub(super) const fn handshake_timeout() -> Duration {
    Duration::from_secs(10)
}

/// Long enough that a pool of connections survives a quiet spell.
pub(super) const fn idle_timeout() -> Duration {
    Duration::from_secs(300)
}

/// Plaintext can linger in the buffers of a connection for as long as it lives; closing frees and so wipes
/// them.
pub(super) const fn connection_age_max() -> Duration {
    Duration::from_secs(1_800)
}

/// Below the 30 s that service managers and orchestrators wait before they kill.
pub(super) const fn drain() -> Duration {
    Duration::from_secs(20)
}

/// The port that Prometheus exporters of this kind use, on this machine only.
pub(super) const fn metrics() -> MetricsListen {
    MetricsListen::Loopback(SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9_464))
}

/// A kernel that cannot confine the daemon is refused with the key's name, so that somebody decides.
pub(super) const fn landlock_required() -> bool {
    true
}

/// Every kernel that can run the vault has it.
pub(super) const fn seccomp_required() -> bool {
    true
}

/// Logs are read by machines first.
pub(super) const fn log_format() -> LogFormat {
    LogFormat::Json
}

/// Starts, reloads, seals, refusals of whole connections; not every call, which the audit log has.
pub(super) const fn log_level() -> LogLevel {
    LogLevel::Info
}

/// A call takes milliseconds; a caller that says nothing should not wait for ever.
pub(super) const fn unary_default() -> Duration {
    Duration::from_secs(5)
}

/// A thousand items on a slow disk, behind other batches.
pub(super) const fn batch_default() -> Duration {
    Duration::from_secs(30)
}

/// A caller that waits longer has gone away.
pub(super) const fn deadline_max() -> Duration {
    Duration::from_secs(60)
}
