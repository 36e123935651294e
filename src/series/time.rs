//! Times of a table: numbers with a unit, or dates.

/// What a number in the time column counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    Seconds,
    Milliseconds,
    Microseconds,
    Nanoseconds,
}

impl TimeUnit {
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "s" | "sec" | "secs" | "second" | "seconds" => Self::Seconds,
            "ms" | "millis" | "milliseconds" => Self::Milliseconds,
            "us" | "µs" | "micros" | "microseconds" => Self::Microseconds,
            "ns" | "nanos" | "nanoseconds" => Self::Nanoseconds,
            _ => return None,
        })
    }

    /// The unit that a column's name ends with: `t_ms`, `elapsed [s]`, `seconds`.
    pub(super) fn of_column(name: &str) -> Option<Self> {
        let name = name.trim_end_matches([')', ']', ' ']).to_lowercase();
        let last = name.rsplit(['_', '(', '[', ' ', '-']).next()?;
        Self::from_name(last)
    }

    /// As a number of nanoseconds.
    fn nanoseconds(self) -> i128 {
        match self {
            Self::Seconds => 1_000_000_000,
            Self::Milliseconds => 1_000_000,
            Self::Microseconds => 1_000,
            Self::Nanoseconds => 1,
        }
    }
}

/// Whether a column of this name may hold times.
pub(super) fn is_time(name: &str) -> bool {
    const WORDS: [&str; 11] =
        ["t", "time", "timestamp", "ts", "elapsed", "date", "datetime", "utc", "seconds", "sec", "clock"];
    let name = name.to_lowercase();
    let first = name.split(['_', ' ', '(', '[', '-']).next().unwrap_or_default();
    WORDS.contains(&first)
}

/// A time in nanoseconds from any origin, exact for whole nanoseconds: a date in RFC 3339, a date
/// and time without a zone, or a number in `unit`.
pub(super) fn parse(text: &str, unit: Option<TimeUnit>) -> Result<i128, String> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        let unit = unit.ok_or("a number whose unit is not known; state it with `--time-unit s`, `ms`, `us` or `ns`")?;
        if let Ok(whole) = text.parse::<i64>() {
            return Ok(i128::from(whole) * unit.nanoseconds());
        }
        let ns = number * unit.nanoseconds() as f64;
        return if ns.is_finite() { Ok(ns.round() as i128) } else { Err("not a time".to_owned()) };
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(at.as_nanosecond());
    }
    let civil = text.parse::<jiff::civil::DateTime>().map_err(|_| "neither a number nor a date".to_owned())?;
    // Without a zone: only distances count, as if it had no change of the clock.
    let at = civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|e| e.to_string())?;
    Ok(at.timestamp().as_nanosecond())
}
