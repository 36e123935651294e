//! The one clock of a process: monotonic nanoseconds since an arbitrary origin shared by every thread.
//!
//! On Linux the source is `CLOCK_MONOTONIC`, on macOS `CLOCK_UPTIME_RAW` (what `std::time::Instant` uses there).
//! Both are counted from boot, so two processes of one machine read comparable values; the protocol's `ping`
//! measures the offset anyway instead of trusting that.

#[cfg(target_os = "macos")]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::UptimeRaw;
#[cfg(not(target_os = "macos"))]
const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;

/// Name of the clock that [`now_ns`] reads, as receipts and `pong` messages state it.
pub const CLOCK_ID: &str = if cfg!(target_os = "macos") { "CLOCK_UPTIME_RAW" } else { "CLOCK_MONOTONIC" };

/// Monotonic time in nanoseconds. Never allocates, never locks.
#[inline]
#[must_use]
pub fn now_ns() -> u64 {
    let t = rustix::time::clock_gettime(CLOCK);
    (t.tv_sec as u64) * 1_000_000_000 + t.tv_nsec as u64
}

/// Wall-clock time now, UTC, RFC 3339 with milliseconds; for people and file names, never for durations.
#[must_use]
pub fn utc_now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
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
}
