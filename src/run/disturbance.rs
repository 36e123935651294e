//! Whether other programs were at work while an iteration was measured, from the gauges that ran anyway.

use crate::record::{GaugeInfo, RequestRow, TelemetryRow};
use crate::units::significant;

/// Cores that others may use on average before it is worth a word.
const TOLERATED_CORES: f64 = 0.5;
/// Fewer samples than this within an iteration say nothing.
const SAMPLES_AT_LEAST: usize = 3;

/// What was seen so far in one sitting.
#[derive(Debug, Clone, PartialEq)]
pub struct Disturbances {
    /// Columns of the gauges and the number of logical cores; `None` where one of them is not known.
    columns: Option<Columns>,
    judged: u32,
    disturbed: u32,
    most: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Columns {
    system: usize,
    process: usize,
    cores: f64,
}

impl Disturbances {
    /// Nothing seen yet; `gauges` are the columns of the rows to come.
    #[must_use]
    pub fn new(gauges: &[GaugeInfo], logical_cores: Option<u32>) -> Self {
        let column = |name: &str| gauges.iter().position(|gauge| gauge.name == name);
        let columns = column("system_cpu_percent")
            .zip(column("process_cpu_percent"))
            .zip(logical_cores)
            .map(|((system, process), cores)| Columns { system, process, cores: f64::from(cores) });
        Self { columns, judged: 0, disturbed: 0, most: 0.0 }
    }

    /// Takes note of a measured iteration and the samples taken around it.
    pub fn note(&mut self, row: &RequestRow, samples: &[TelemetryRow]) {
        let Some(columns) = self.columns else { return };
        let inside =
            samples.iter().filter(|s| s.host == Some(row.host) && (row.start_ns..=row.end_ns).contains(&s.t_ns));
        // A sample covers the time since the one before it: the first reaches back before the iteration.
        let foreign: Vec<f64> = inside.skip(1).filter_map(|sample| columns.foreign_cores(sample)).collect();
        if foreign.len() < SAMPLES_AT_LEAST {
            return;
        }
        let mean = foreign.iter().sum::<f64>() / foreign.len() as f64;
        self.judged += 1;
        self.disturbed += u32::from(mean > TOLERATED_CORES);
        self.most = self.most.max(mean);
    }

    /// A sentence for the record, if others were at work.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        (self.disturbed > 0).then(|| {
            format!(
                "other programs used more than {TOLERATED_CORES} cores during {} of {} iterations (up to {}): figures may \
                 be too slow; see `inferometer doctor`",
                self.disturbed,
                self.judged,
                significant(self.most)
            )
        })
    }
}

impl Columns {
    /// Cores in use by anybody but the engine; a small negative difference of two clocks counts as none.
    fn foreign_cores(self, sample: &TelemetryRow) -> Option<f64> {
        let value = |column: usize| sample.values.get(column).copied().flatten();
        let system = value(self.system)? / 100.0 * self.cores;
        Some((system - value(self.process)? / 100.0).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::measure::tests::empty_row;
    use super::*;

    fn gauges() -> Vec<GaugeInfo> {
        ["system_cpu_percent", "rss_bytes", "process_cpu_percent"]
            .map(|name| GaugeInfo { name: name.to_owned(), unit: String::new(), source: String::new(), absent: None })
            .to_vec()
    }

    /// Samples each 50 ns from 0 to 250, on a machine of 4 cores.
    fn samples(system: f64, process: f64) -> Vec<TelemetryRow> {
        let row =
            |i: u64| TelemetryRow { t_ns: i * 50, host: Some(0), values: vec![Some(system), None, Some(process)] };
        (0..6).map(row).collect()
    }

    fn row(start_ns: u64, end_ns: u64) -> RequestRow {
        RequestRow { start_ns, end_ns, ..empty_row() }
    }

    #[test]
    fn what_others_use_is_the_machine_s_load_less_the_engine_s() {
        let mut seen = Disturbances::new(&gauges(), Some(4));
        seen.note(&row(0, 250), &samples(50.0, 190.0));
        assert_eq!(seen.warning(), None, "2 cores busy, 1.9 of them the engine's");
        seen.note(&row(0, 250), &samples(75.0, 100.0));
        let warning = seen.warning().unwrap();
        assert!(warning.contains("1 of 2 iterations") && warning.contains("2.00"), "{warning}");
    }

    #[test]
    fn few_samples_say_nothing() {
        let mut seen = Disturbances::new(&gauges(), Some(4));
        seen.note(&row(0, 150), &samples(100.0, 0.0));
        assert_eq!(seen.warning().map(|_| seen.judged), Some(1), "three samples after the first");
        let mut seen = Disturbances::new(&gauges(), Some(4));
        seen.note(&row(60, 200), &samples(100.0, 0.0));
        seen.note(&row(0, 250), &[]);
        seen.note(&RequestRow { host: 7, ..row(0, 250) }, &samples(100.0, 0.0));
        assert_eq!(seen.warning(), None);
        let mut blind = Disturbances::new(&gauges()[1..], Some(4));
        blind.note(&row(0, 250), &samples(100.0, 0.0));
        assert_eq!(blind.warning(), None, "without the gauge nothing is said");
    }
}
