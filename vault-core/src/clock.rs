//! Time is given, never taken: the core has no clock of its own.

/// A point in time: microseconds since 1970-01-01T00:00:00Z, UTC, without leap seconds.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From microseconds since the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// From seconds since the Unix epoch; saturates far beyond the year 500,000.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whole minutes since the Unix epoch: the window of request quotas.
    pub const fn minute(self) -> u64 {
        self.seconds() / 60
    }

    /// Whole UTC days since the Unix epoch: the window of distinct-token quotas.
    pub const fn day(self) -> u64 {
        self.seconds() / 86_400
    }

    /// This time plus whole seconds, saturating.
    pub const fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1_000_000)))
    }
}

/// Gives the time. The daemon gives the system's; tests and simulations give their own.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;
}
