//! Turning points with hysteresis, and rainflow counting of them (ASTM E1049-85, section 5.4.4).

/// Indices of the turning points of a series: its extremes, without swings smaller than `h`.
///
/// The first is the extreme before the first swing of at least `h`, the last is the end of the last
/// such swing; empty if no swing is that large. Values of neighbours differ by at least `h`.
#[must_use]
pub fn turning_points(values: &[f64], h: f64) -> Vec<usize> {
    let mut found = Vec::new();
    let (mut low, mut high) = (0, 0);
    // Direction since the last turn; `None` before the first swing.
    let mut rising = None;
    for (i, value) in values.iter().enumerate() {
        if *value < values[low] {
            low = i;
        }
        if *value > values[high] {
            high = i;
        }
        let swing = match rising {
            Some(true) => values[high] - value,
            Some(false) => value - values[low],
            None => values[high] - values[low],
        };
        // A swing of zero never counts, even with h = 0.
        if swing < h || swing <= 0.0 {
            continue;
        }
        let up = rising.map_or(high > low, |rising| !rising);
        found.push(if up { low } else { high });
        // A new swing begins at the turn just found and so far ends here.
        (low, high) = (i, i);
        rising = Some(up);
    }
    if let Some(rising) = rising {
        found.push(if rising { high } else { low });
    }
    found
}

/// A rainflow cycle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cycle {
    /// Difference of its two extremes, above 0.
    pub range: f64,
    /// A closed loop. Otherwise half a cycle: a rise or a fall that the series never closed.
    pub full: bool,
}

/// Counts the cycles between turning points, given by their values.
#[must_use]
pub fn cycles(turns: &[f64]) -> Vec<Cycle> {
    let mut found = Vec::new();
    let mut open: Vec<f64> = Vec::new();
    for turn in turns {
        open.push(*turn);
        while let [.., first, second, third] = open[..] {
            let (last, before) = ((third - second).abs(), (second - first).abs());
            if last < before {
                break;
            }
            let from = open.len() - 3;
            // A range that contains the start of the series is half a cycle, and the start
            // advances.
            let full = from > 0;
            found.push(Cycle { range: before, full });
            open.drain(from..if full { from + 2 } else { from + 1 });
        }
    }
    found.extend(open.windows(2).map(|pair| Cycle { range: (pair[1] - pair[0]).abs(), full: false }));
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn counted(turns: &[f64]) -> Vec<(f64, f64)> {
        cycles(turns).iter().map(|c| (c.range, if c.full { 1.0 } else { 0.5 })).collect()
    }

    /// The example of ASTM E1049-85, figure 6: -2, 1, -3, 5, -1, 3, -4, 4, -2.
    #[test]
    fn the_standards_own_example() {
        let found = counted(&[-2.0, 1.0, -3.0, 5.0, -1.0, 3.0, -4.0, 4.0, -2.0]);
        assert_eq!(found, [(3.0, 0.5), (4.0, 0.5), (4.0, 1.0), (8.0, 0.5), (9.0, 0.5), (8.0, 0.5), (6.0, 0.5)]);
    }

    /// The counts of the Python package `rainflow` (`scripts/fixtures oscillation`).
    #[test]
    fn counts_equal_those_of_another_program() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/oscillation/rainflow.json");
        let all: Value = serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap();
        let numbers = |value: &Value| value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
        let cases = all["cases"].as_array().unwrap();
        assert!(cases.len() >= 6);
        for case in cases {
            let series = numbers(&case["series"]);
            let turns: Vec<f64> = turning_points(&series, 0.0).into_iter().map(|i| series[i]).collect();
            let mut found = counted(&turns);
            found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
            let want: Vec<(f64, f64)> =
                case["cycles"].as_array().unwrap().iter().map(|c| (numbers(c)[0], numbers(c)[1])).collect();
            assert_eq!(found, want, "{}", case["name"]);
        }
    }

    #[test]
    fn small_swings_are_left_out() {
        let series = [0.0, 3.0, 2.5, 4.0, 1.0, 1.5, 0.5, 5.0, 4.5];
        assert_eq!(turning_points(&series, 1.0), [0, 3, 6, 7]);
        assert_eq!(turning_points(&series, 3.9), [0, 7]);
        assert_eq!(turning_points(&series, 6.0), [0usize; 0]);
        assert_eq!(turning_points(&[2.0; 5], 0.0), [0usize; 0]);
        assert_eq!(turning_points(&[5.0, 1.0], 1.0), [0, 1]);
        assert_eq!(turning_points(&[], 1.0), [0usize; 0]);
    }

    proptest! {
        /// Turning points alternate, differ by at least `h` and include the greatest swing; every
        /// one but the first ends half a cycle.
        #[test]
        fn turns_alternate_and_are_all_counted(
            series in proptest::collection::vec(-100i32..100, 0..200), h in 1i32..60
        ) {
            let series: Vec<f64> = series.into_iter().map(f64::from).collect();
            let h = f64::from(h);
            let at = turning_points(&series, h);
            let turns: Vec<f64> = at.iter().map(|i| series[*i]).collect();
            prop_assert!(at.windows(2).all(|w| w[0] < w[1]));
            prop_assert!(turns.windows(2).all(|w| (w[1] - w[0]).abs() >= h));
            prop_assert!(turns.windows(3).all(|w| (w[1] > w[0]) == (w[1] > w[2])));
            let halves: usize = cycles(&turns).iter().map(|c| if c.full { 2 } else { 1 }).sum();
            prop_assert_eq!(halves, turns.len().saturating_sub(1));
            let reach = |v: &[f64]| v.iter().copied().fold(f64::MIN, f64::max) - v.iter().copied().fold(f64::MAX, f64::min);
            if !series.is_empty() && reach(&series) >= h {
                prop_assert_eq!(reach(&turns), reach(&series));
            }
        }
    }
}
