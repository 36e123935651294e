//! Values of rate gauges over time: a value covers the time since the previous sample.

use crate::record::TelemetryRow;

/// The time between two samples of a gauge, with the value of the later one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    pub from_ns: u64,
    pub to_ns: u64,
    pub value: f64,
}

impl Stretch {
    /// Length of the overlap with an interval.
    #[must_use]
    pub fn within(&self, (start_ns, end_ns): (u64, u64)) -> u64 {
        self.to_ns.min(end_ns).saturating_sub(self.from_ns.max(start_ns))
    }
}

/// The stretches of a gauge; `value` reads it from a row. Rows without a value are skipped, because
/// a source may be slower than the sampler. The first value has no previous sample and so no
/// stretch.
pub fn stretches<'a>(
    rows: &'a [TelemetryRow],
    value: impl Fn(&TelemetryRow) -> Option<f64> + 'a,
) -> impl Iterator<Item = Stretch> + 'a {
    let mut before = None;
    rows.iter().filter_map(move |row| {
        let value = value(row).filter(|value| value.is_finite())?;
        let from_ns = before.replace(row.t_ns)?;
        Some(Stretch { from_ns, to_ns: row.t_ns, value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_covers_the_time_since_the_one_before() {
        let row = |t_ns, value| TelemetryRow { t_ns, host: None, values: vec![value] };
        let rows = [row(10, Some(1.0)), row(20, None), row(30, Some(2.0)), row(40, Some(f64::NAN)), row(60, Some(3.0))];
        let found: Vec<Stretch> = stretches(&rows, |row| row.values[0]).collect();
        let stretch = |from_ns, to_ns, value| Stretch { from_ns, to_ns, value };
        assert_eq!(found, [stretch(10, 30, 2.0), stretch(30, 60, 3.0)]);
        assert_eq!([(0, 10), (0, 20), (15, 25), (25, 90)].map(|part| found[0].within(part)), [0, 10, 10, 5]);
    }
}
