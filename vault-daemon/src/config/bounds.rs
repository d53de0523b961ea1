//! What a key may be set to, both ends inclusive.

use std::ops::RangeInclusive;

/// The engines need their journals and memtables free; above a tebibyte it is a mistake.
pub(super) const FREE_SPACE_FLOOR_MIB: RangeInclusive<u64> = 512..=1_048_576;
/// Less makes every read a disk read; more is not ours to plan.
pub(super) const CACHE_MIB: RangeInclusive<u64> = 16..=65_536;
/// Reads of auditors beside the lane's; each is a process of the database.
/// One is left to the lane, whatever else is read.
pub(super) const POSTGRES_CONNECTIONS: RangeInclusive<u64> = 2..=64;
/// Seconds; the server's own timeouts are halves and quarters of it.
pub(super) const POSTGRES_ANSWER_SECONDS: RangeInclusive<u64> = 1..=60;
/// Bytes of an identifier; PostgreSQL's own bound.
pub(super) const POSTGRES_NAME_BYTES_MAX: usize = 63;
/// Threads of a large machine.
pub(super) const CORES: RangeInclusive<u64> = 1..=256;
/// The descriptors that one process may sensibly hold.
pub(super) const CONNECTIONS: RangeInclusive<u64> = 1..=65_536;
/// HTTP/2 clients assume at least 1; RFC 9113 recommends 100 and more.
pub(super) const STREAMS: RangeInclusive<u64> = 1..=1_024;
/// Seconds.
pub(super) const HANDSHAKE_SECONDS: RangeInclusive<u64> = 1..=60;
/// Seconds; shorter than keepalives makes clients reconnect without end.
pub(super) const IDLE_SECONDS: RangeInclusive<u64> = 10..=3_600;
/// Seconds; a handshake costs half a millisecond, so no shorter than a minute.
pub(super) const AGE_SECONDS: RangeInclusive<u64> = 60..=86_400;
/// Seconds.
pub(super) const DRAIN_SECONDS: RangeInclusive<u64> = 1..=300;
/// Milliseconds.
pub(super) const DEADLINE_MILLISECONDS: RangeInclusive<u64> = 100..=600_000;
/// Bytes of a path; the system's own bound.
pub(super) const PATH_BYTES_MAX: usize = 4_096;
/// Bytes of a Unix socket's path; the system's own bound with its final zero.
pub(super) const SOCKET_PATH_BYTES_MAX: usize = 107;
