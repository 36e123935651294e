//! The gauges during one iteration.

use std::collections::BTreeMap;

use crate::record::{GaugeInfo, TelemetryRow};
use crate::run::stretches::stretches;

/// With fewer samples within an iteration, its average is unknown.
pub const SAMPLES_AT_LEAST: usize = 3;

/// Positions of the gauges in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns(BTreeMap<String, usize>);

impl Columns {
    #[must_use]
    pub fn of(gauges: &[GaugeInfo]) -> Self {
        Self(gauges.iter().enumerate().map(|(column, gauge)| (gauge.name.clone(), column)).collect())
    }

    /// A gauge's value in a row; `None` also if the gauge is missing.
    #[must_use]
    pub fn value(&self, row: &TelemetryRow, gauge: &str) -> Option<f64> {
        row.values.get(*self.0.get(gauge)?).copied().flatten()
    }
}

/// The time from the first request of an iteration to the end of its last, in one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub host: u32,
    pub start_ns: u64,
    pub end_ns: u64,
}

/// An iteration, and the samples around it.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub columns: &'a Columns,
    pub rows: &'a [TelemetryRow],
    pub window: Window,
}

impl Look<'_> {
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.window.end_ns.saturating_sub(self.window.start_ns) as f64 / 1e9
    }

    /// Values of a level (not a rate) at the samples within the iteration; for gauges of the
    /// process, only samples of the iteration's host.
    pub fn levels<'a>(&'a self, gauge: &'a str) -> impl Iterator<Item = f64> + 'a {
        let inside = |row: &&TelemetryRow| (self.window.start_ns..=self.window.end_ns).contains(&row.t_ns);
        self.rows.iter().filter(inside).filter_map(move |row| self.of_host(row, gauge))
    }

    /// Values of a lasting state: those of [`Look::levels`], and the last one before the iteration.
    pub fn states<'a>(&'a self, gauge: &'a str) -> impl Iterator<Item = f64> + 'a {
        let before = self.rows.iter().rev().filter(|row| row.t_ns < self.window.start_ns);
        before.filter_map(move |row| self.of_host(row, gauge)).take(1).chain(self.levels(gauge))
    }

    /// Whether a rate was above zero in any stretch that overlaps the iteration.
    #[must_use]
    pub fn ever(&self, gauge: &str) -> bool {
        let window = (self.window.start_ns, self.window.end_ns);
        let touching =
            stretches(self.rows, |row| self.of_host(row, gauge)).filter(|stretch| stretch.within(window) > 0);
        let mut touching = touching;
        touching.any(|stretch| stretch.value > 0.0)
    }

    /// Mean of a rate over the stretches within the iteration; `None` if they are too few.
    #[must_use]
    pub fn mean(&self, gauge: &str) -> Option<f64> {
        let (mut samples, mut time, mut sum) = (0, 0.0, 0.0);
        for (ns, value) in self.rates(|row| self.of_host(row, gauge)) {
            samples += 1;
            time += ns;
            sum += ns * value;
        }
        (samples >= SAMPLES_AT_LEAST && time > 0.0).then(|| sum / time)
    }

    /// A gauge's value if the row belongs to the iteration's host.
    #[must_use]
    pub fn of_host(&self, row: &TelemetryRow, gauge: &str) -> Option<f64> {
        if row.host == Some(self.window.host) { self.columns.value(row, gauge) } else { None }
    }

    /// Stretches entirely within the iteration: that of the first sample starts before it.
    fn rates<'a>(&'a self, value: impl Fn(&TelemetryRow) -> Option<f64> + 'a) -> impl Iterator<Item = (f64, f64)> + 'a {
        let Window { start_ns, end_ns, .. } = self.window;
        let inside = stretches(self.rows, value).filter(move |s| s.from_ns >= start_ns && s.to_ns <= end_ns);
        inside.map(|stretch| ((stretch.to_ns - stretch.from_ns) as f64, stretch.value))
    }
}
