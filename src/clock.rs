//! The one clock of a process: monotonic nanoseconds since an arbitrary origin shared by every thread.
//!
//! On Linux the source is `CLOCK_MONOTONIC`. On macOS it is `CLOCK_UPTIME_RAW`, reached through `std::time::Instant`
//! and counted from the first reading: its `CLOCK_MONOTONIC` ticks in microseconds only. Two processes need not share
//! an origin; the protocol's `ping` measures the offset.

/// Name of the clock that [`now_ns`] reads, as receipts and `pong` messages state it.
pub const CLOCK_ID: &str = if cfg!(target_os = "macos") { "CLOCK_UPTIME_RAW" } else { "CLOCK_MONOTONIC" };

/// Monotonic time in nanoseconds. Never allocates, never locks.
#[cfg(not(target_os = "macos"))]
#[inline]
#[must_use]
pub fn now_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (t.tv_sec as u64) * 1_000_000_000 + t.tv_nsec as u64
}

/// Monotonic time in nanoseconds. Never allocates; locks at most in the first call of a process.
#[cfg(target_os = "macos")]
#[inline]
#[must_use]
pub fn now_ns() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Wall-clock time now, UTC, RFC 3339 with milliseconds; for people and file names, never for durations.
#[must_use]
pub fn utc_now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Zero of a run's times, on the clock that [`now_ns`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// May lie before boot, when a run is resumed after a restart of the machine.
    at_ns: i128,
    utc: jiff::Timestamp,
}

impl Origin {
    /// The origin of a run that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { at_ns: i128::from(now_ns()), utc: jiff::Timestamp::now() }
    }

    /// The origin of a run that goes on: as far back as the wall clock says, but so that now lies after `last_ns`,
    /// the latest time the run already holds (a wall clock may have been set back).
    ///
    /// # Errors
    /// When `origin_utc` is not a time in RFC 3339.
    pub fn resume(origin_utc: &str, last_ns: u64) -> Result<Self, String> {
        let utc: jiff::Timestamp =
            origin_utc.parse().map_err(|e| format!("origin_utc {origin_utc:?} is not a time in RFC 3339: {e}"))?;
        let passed = jiff::Timestamp::now().as_nanosecond() - utc.as_nanosecond();
        Ok(Self { at_ns: i128::from(now_ns()) - passed.max(i128::from(last_ns) + 1), utc })
    }

    /// Nanoseconds from the origin to `clock_ns`, a value of [`now_ns`]; 0 for what lies before it.
    #[inline]
    #[must_use]
    pub fn t_ns(&self, clock_ns: u64) -> u64 {
        u64::try_from((i128::from(clock_ns) - self.at_ns).max(0)).unwrap_or(u64::MAX)
    }

    /// The origin as the record states it: RFC 3339, UTC, with milliseconds.
    #[must_use]
    pub fn utc(&self) -> String {
        self.utc.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_never_runs_backwards() {
        let mut last = now_ns();
        for _ in 0..10_000 {
            let now = now_ns();
            assert!(now >= last, "{now} < {last}");
            last = now;
        }
    }

    #[test]
    fn a_resumed_run_goes_on_where_the_wall_clock_is_and_never_back() {
        let begun = Origin::start();
        let goes_on = Origin::resume(&begun.utc(), 0).unwrap();
        let now = now_ns();
        assert!(goes_on.t_ns(now).abs_diff(begun.t_ns(now)) < 1_000_000_000, "{goes_on:?} {begun:?}");
        let an_hour = 3_600_000_000_000;
        let clock_set_back = Origin::resume(&begun.utc(), an_hour).unwrap();
        assert!(clock_set_back.t_ns(now_ns()) > an_hour);
        let after_restart = Origin::resume("2001-01-01T00:00:00Z", 0).unwrap();
        assert!(after_restart.t_ns(now_ns()) > 20 * 365 * 24 * an_hour);
        assert_eq!(begun.t_ns(0), 0);
        assert!(Origin::resume("yesterday", 0).unwrap_err().contains("yesterday"));
    }
}
