//! Shared by sources: converts counts into rates, and limits how often an expensive source is read.

use rustix::time::{ClockId, clock_gettime};

use inferometer_protocol::clock::now_ns;

/// Converts a count that only rises into a rate between two readings.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate {
    /// Time in nanoseconds and the count at that time.
    last: Option<(u64, f64)>,
}

impl Rate {
    /// Counts per second since the previous reading. `None` for the first one, and if the count or
    /// the time did not advance: then something else is being counted.
    pub fn per_s(&mut self, at_ns: u64, count: Option<f64>) -> Option<f64> {
        let last = self.last;
        self.last = count.map(|count| (at_ns, count));
        let ((then_ns, before), count) = last.zip(count)?;
        let seconds = at_ns.checked_sub(then_ns).filter(|ns| *ns > 0)? as f64 / 1e9;
        (count >= before).then(|| (count - before) / seconds)
    }

    /// Makes the next reading a first one.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

/// After an expensive reading, the next one waits until the cost is at most this fraction (1 / n)
/// of a core. A dozen sources share this limit, and all sampling together must stay below 0.2 % of
/// a core at 20 samples per second.
const SPARING: u64 = 16_000;
/// The limit for gauges that validity and energy depend on, which need several readings per
/// iteration.
#[cfg(target_os = "linux")]
const LESS_SPARING: u64 = 3_000;
/// A reading is due this long before its time, since samples lie on a grid with jitter.
const SLACK_NS: u64 = 2_000_000;

/// Limits how often something is read that costs more than a sample should.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    period_ns: u64,
    sparing: u64,
    next_ns: u64,
}

impl Pace {
    /// At most once per `period_ms`, less often if a reading turns out to be expensive.
    pub const fn at_most_every(period_ms: u64) -> Self {
        Self { period_ns: period_ms * 1_000_000, sparing: SPARING, next_ns: 0 }
    }

    /// The same with the higher limit, for what is needed often.
    #[cfg(target_os = "linux")]
    pub const fn often(period_ms: u64) -> Self {
        Self { period_ns: period_ms * 1_000_000, sparing: LESS_SPARING, next_ns: 0 }
    }

    /// Runs `read` if it is due.
    pub fn when_due(&mut self, read: impl FnOnce()) {
        let now = now_ns();
        if now + SLACK_NS < self.next_ns {
            return;
        }
        let before = thread_ns();
        read();
        let cost = thread_ns().saturating_sub(before);
        self.next_ns = now + self.period_ns.max(cost.saturating_mul(self.sparing));
    }
}

/// CPU time of this thread.
pub(super) fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_readings_of_one_thing() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_s(1_000_000_000, Some(10.0)), None);
        assert_eq!(rate.per_s(1_500_000_000, Some(20.0)), Some(20.0));
        assert_eq!(rate.per_s(1_500_000_000, Some(30.0)), None, "no time passed");
        assert_eq!(rate.per_s(2_500_000_000, Some(30.0)), Some(0.0), "a rate of zero is a rate");
        assert_eq!(rate.per_s(3_500_000_000, Some(5.0)), None, "another thing");
        assert_eq!(rate.per_s(4_500_000_000, Some(7.0)), Some(2.0));
        assert_eq!(rate.per_s(5_500_000_000, None), None);
        assert_eq!(rate.per_s(6_500_000_000, Some(9.0)), None, "the one before could not be read");
        rate.forget();
        assert_eq!(rate.per_s(7_500_000_000, Some(9.0)), None);
    }

    #[test]
    fn a_pace_lets_the_first_reading_through_and_then_waits() {
        let mut pace = Pace::at_most_every(3_600_000);
        let mut readings = 0;
        for _ in 0..10 {
            pace.when_due(|| readings += 1);
        }
        assert_eq!(readings, 1);
    }

    #[test]
    fn what_is_dear_is_read_less_often() {
        let mut pace = Pace::at_most_every(0);
        let begun = thread_ns();
        pace.when_due(|| while thread_ns() - begun < 5_000_000 {});
        assert!(pace.next_ns > now_ns() + 10_000_000_000, "5 ms of work: not again for 20 s");
    }
}
