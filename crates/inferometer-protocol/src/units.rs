//! Formatting of quantities for people. Files carry plain numbers; the column's name states the
//! unit.

/// `1536 * 1024` → `"1.50 MiB"`. Binary units, three significant figures.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{} {}", significant(value), UNITS[unit]) }
}

/// Three significant figures without an exponent: `0.0123`, `1.23`, `12.3`, `123`, `1234`.
#[must_use]
pub fn significant(value: f64) -> String {
    let magnitude = value.abs();
    let decimals = match magnitude {
        m if m == 0.0 || !m.is_finite() => 0,
        m if m >= 100.0 => 0,
        m if m >= 10.0 => 1,
        m if m >= 1.0 => 2,
        m if m >= 0.1 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

/// Decimals for a percentage: one; below 1 %, enough for two significant figures (`3.2`, `0.50`,
/// `0.041`).
#[must_use]
pub fn percent_decimals(percent: f64) -> usize {
    let size = percent.abs();
    if size == 0.0 || !size.is_finite() || size >= 0.995 {
        return 1;
    }
    (1.0 - size.log10().floor()).clamp(1.0, 9.0) as usize
}

/// A duration in a suitable unit, such as `850 ns`, `12.3 µs`, `4.56 ms`, `7.89 s`, `3 min 20 s` or
/// `2 h 5 min`.
#[must_use]
pub fn duration_ns(ns: u64) -> String {
    let n = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{} µs", significant(n / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", significant(n / 1e6)),
        1_000_000_000..120_000_000_000 => format!("{} s", significant(n / 1e9)),
        _ => {
            let seconds = ns / 1_000_000_000;
            if seconds < 7200 {
                format!("{} min {} s", seconds / 60, seconds % 60)
            } else {
                format!("{} h {} min", seconds / 3600, seconds % 3600 / 60)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_below_one_keep_two_figures() {
        let decimals = [0.0, 12.0, 1.0, 0.996, 0.5, 0.1, 0.05, -0.04, 1e-30, f64::NAN].map(percent_decimals);
        assert_eq!(decimals, [1, 1, 1, 1, 2, 2, 3, 3, 9, 1]);
    }

    #[test]
    fn quantities_read_as_people_write_them() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536 * 1024), "1.50 MiB");
        assert_eq!(bytes(25 << 30), "25.0 GiB");
        assert_eq!(significant(0.0), "0");
        assert_eq!(significant(12.345), "12.3");
        assert_eq!(significant(-123.4), "-123");
        assert_eq!(duration_ns(999), "999 ns");
        assert_eq!(duration_ns(12_300), "12.3 µs");
        assert_eq!(duration_ns(200_000_000_000), "3 min 20 s");
        assert_eq!(duration_ns(7_500_000_000_000), "2 h 5 min");
    }
}
