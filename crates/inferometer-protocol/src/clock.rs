//! The clock of a process: monotonic nanoseconds since an arbitrary origin that all threads share.
//!
//! On Linux the source is `CLOCK_MONOTONIC`. On macOS, where `CLOCK_MONOTONIC` ticks in
//! microseconds only, it is `CLOCK_UPTIME_RAW`, read through `std::time::Instant` and counted from
//! the first reading. Two processes may have different origins; the protocol's `ping` measures the
//! offset.

/// Name of the clock that [`now_ns`] reads, as given in receipts and `pong` messages.
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
