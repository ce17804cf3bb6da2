//! The only reader of clocks. Nothing here decides about trust: times go to records and to people.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The machine's idea of seconds since 1970 (UTC), which nobody vouches for; 0 before 1970.
#[must_use]
pub fn unix_seconds() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the one place, for records")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Measures how long something took (CLOCK_MONOTONIC).
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// Whole microseconds since the start.
    #[must_use]
    pub fn microseconds(&self) -> u64 {
        self.elapsed().as_micros().try_into().unwrap_or(u64::MAX)
    }
}
