//! Wall-clock time, and the origin of a record's times.

use inferometer_protocol::clock::now_ns;

/// Current wall-clock time in UTC, RFC 3339 with milliseconds; for people and file names, never for
/// durations.
#[must_use]
pub fn utc_now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// Zero of a run's times, on the clock of [`now_ns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Negative if the run was resumed after a restart of the machine.
    at_ns: i128,
    utc: jiff::Timestamp,
}

impl Origin {
    /// The origin of a run that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { at_ns: i128::from(now_ns()), utc: jiff::Timestamp::now() }
    }

    /// The origin of a resumed run, as far back as the wall clock says. If the wall clock was set
    /// back, it is moved so that now is after `last_ns`, the latest time in the run.
    ///
    /// # Errors
    /// When `origin_utc` is not a time in RFC 3339.
    pub fn resume(origin_utc: &str, last_ns: u64) -> Result<Self, String> {
        let utc: jiff::Timestamp =
            origin_utc.parse().map_err(|e| format!("origin_utc {origin_utc:?} is not a time in RFC 3339: {e}"))?;
        let passed = jiff::Timestamp::now().as_nanosecond() - utc.as_nanosecond();
        Ok(Self { at_ns: i128::from(now_ns()) - passed.max(i128::from(last_ns) + 1), utc })
    }

    /// Nanoseconds from the origin to `clock_ns`, a value of [`now_ns`]; 0 for earlier values.
    #[inline]
    #[must_use]
    pub fn t_ns(&self, clock_ns: u64) -> u64 {
        u64::try_from((i128::from(clock_ns) - self.at_ns).max(0)).unwrap_or(u64::MAX)
    }

    /// The origin as in the record: RFC 3339, UTC, with milliseconds.
    #[must_use]
    pub fn utc(&self) -> String {
        self.utc.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
