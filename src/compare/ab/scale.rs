//! Formats shifts and bounds of a scale for people.

use crate::spec::Scale;
use inferometer_protocol::units::{bytes, percent_decimals};

impl Scale {
    /// A shift: `+3.2 %`, `+2`, `-64.0 MiB`.
    #[must_use]
    pub fn change(self, shift: f64) -> String {
        let sign = if shift < 0.0 { "-" } else { "+" };
        match self {
            Scale::Ratio => percent(shift),
            _ if shift == 0.0 => "0".to_owned(),
            _ => format!("{sign}{}", self.size(shift.abs())),
        }
    }

    /// A bound: `3.0 %`, `2`, `64.0 MiB`.
    #[must_use]
    pub fn size(self, bound: f64) -> String {
        match self {
            Scale::Ratio => size(bound),
            Scale::Count => plain(bound, 2),
            Scale::Bytes => bytes(bound.round() as u64),
        }
    }

    /// [`Scale::size`] rounded up: for the smallest bound that suffices, a smaller figure would be
    /// wrong.
    #[must_use]
    pub fn size_up(self, bound: f64) -> String {
        match self {
            Scale::Ratio => size_up(bound),
            // Counts lie on a grid: a bound on the grid was not enough.
            Scale::Count => plain(((bound * 10.0 + 1e-6).floor() + 1.0) / 10.0, 1),
            // Three figures are shown.
            Scale::Bytes => bytes((bound * 1.005).ceil() as u64),
        }
    }

    /// The smallest change that matters as a scenario writes it: `3 %`, `2`, `64.0 MiB`.
    #[must_use]
    pub fn delta(self, least: f64) -> String {
        match self {
            Scale::Ratio => plain_share(least),
            _ => self.size(least),
        }
    }
}

/// A number with at most `decimals` decimals, without trailing zeros.
fn plain(value: f64, decimals: usize) -> String {
    let words = format!("{value:.decimals$}");
    if decimals > 0 { words.trim_end_matches('0').trim_end_matches('.').to_owned() } else { words }
}

/// A share without a sign, such as a delta: `3 %`, `0.5 %`.
fn plain_share(share: f64) -> String {
    let percent = share * 100.0;
    format!("{} %", plain(percent, if percent < 9.95 { percent_decimals(percent) } else { 0 }))
}

/// A shift of ln(cost) as a percentage: `+3.2 %`.
fn percent(shift: f64) -> String {
    let percent = shift.exp_m1() * 100.0;
    if percent.abs() < 0.005 {
        return "0.0 %".to_owned();
    }
    // Smaller changes than two decimals show are noise in any time.
    format!("{percent:+.*} %", percent_decimals(percent).min(2))
}

/// A bound as a percentage: `3.0 %`.
fn size(bound: f64) -> String {
    let percent = bound.exp_m1() * 100.0;
    format!("{percent:.*} %", percent_decimals(percent))
}

/// [`size`] rounded up: for the smallest bound that suffices, a smaller figure would be wrong.
fn size_up(bound: f64) -> String {
    let percent = bound.exp_m1() * 100.0;
    let decimals = percent_decimals(percent);
    let scale = 10_f64.powi(decimals as i32);
    // Do not round up floating-point error.
    format!("{:.decimals$} %", (percent * scale - 1e-6).ceil() / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_and_bounds_are_not_rounded_away() {
        let shifts = [0.032, -0.032, 0.000_5, -0.000_4, 0.0, 1e-9].map(|share: f64| percent(share.ln_1p()));
        assert_eq!(shifts, ["+3.2 %", "-3.2 %", "+0.05 %", "-0.04 %", "0.0 %", "0.0 %"]);
        let sizes = [0.03, 0.005, 0.000_5, 0.000_04].map(|share: f64| size(share.ln_1p()));
        assert_eq!(sizes, ["3.0 %", "0.50 %", "0.050 %", "0.0040 %"]);
    }

    #[test]
    fn a_bound_that_was_just_enough_is_rounded_up() {
        let bounds = [0.03, 0.030_01, 0.032_4, 0.000_501, 0.005].map(|share: f64| size_up(share.ln_1p()));
        assert_eq!(bounds, ["3.0 %", "3.1 %", "3.3 %", "0.051 %", "0.50 %"]);
    }

    #[test]
    fn a_delta_reads_as_it_was_written() {
        let shares = [0.0, 0.000_4, 0.000_5, 0.005, 0.03, 0.035, 0.1, 0.5];
        let words = ["0 %", "0.04 %", "0.05 %", "0.5 %", "3 %", "3.5 %", "10 %", "50 %"];
        assert_eq!(shares.map(|share| Scale::Ratio.delta(share)), words);
        assert_eq!([1.0, 2.5, 12.0].map(|least| Scale::Count.delta(least)), ["1", "2.5", "12"]);
        assert_eq!(Scale::Bytes.delta(67_108_864.0), "64.0 MiB");
    }

    #[test]
    fn differences_carry_sign_and_unit() {
        let counts = [2.0, -0.5, 0.0, 1.0 / 3.0].map(|shift| Scale::Count.change(shift));
        assert_eq!(counts, ["+2", "-0.5", "0", "+0.33"]);
        let mib = 1_048_576.0;
        assert_eq!([mib, -2.5 * mib, 0.0].map(|shift| Scale::Bytes.change(shift)), ["+1.00 MiB", "-2.50 MiB", "0"]);
        // A delta of 2 does not decide a bound that reaches 2.
        assert_eq!([2.0_f64.next_up(), 2.04, 0.25].map(|bound| Scale::Count.size_up(bound)), ["2.1", "2.1", "0.3"]);
        assert_eq!(Scale::Bytes.size_up(64.3 * mib), "64.6 MiB");
    }
}
