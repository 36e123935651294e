//! From the rows of a side to what a gate compares: times and bytes, of which less is better.

use std::collections::BTreeMap;

use crate::record::metric::{self, LOAD_S, PEAK_RSS_BYTES};
use crate::record::{RequestRow, Status};
use crate::spec::GateMetric;

/// The measured iterations of a side, found by cell and number.
#[derive(Debug, Clone, Default)]
pub struct Iterations<'a> {
    rows: BTreeMap<(u32, u32), Vec<&'a RequestRow>>,
    /// Seconds that each host took to load.
    loads: BTreeMap<u32, f64>,
}

impl<'a> Iterations<'a> {
    #[must_use]
    pub fn of(rows: &'a [RequestRow]) -> Self {
        let mut found = Self::default();
        for row in rows {
            if let Some(load) = row.load_s {
                found.loads.insert(row.host, load);
            }
            if !row.warmup {
                found.rows.entry((row.cell, row.iteration)).or_default().push(row);
            }
        }
        found
    }

    /// The rows of an iteration of a cell: one, or one a turn; none where it was not run.
    #[must_use]
    pub fn rows(&self, cell: u32, iteration: u32) -> &[&'a RequestRow] {
        self.rows.get(&(cell, iteration)).map_or(&[], Vec::as_slice)
    }

    /// What became of an iteration of a cell, with the reason; `None` where it was not run.
    #[must_use]
    pub fn status(&self, cell: u32, iteration: u32) -> Option<(Status, &'a str)> {
        self.rows(cell, iteration).first().map(|row| (row.status, row.reason.as_str()))
    }

    /// Seconds that the host of an iteration took to load.
    fn load(&self, cell: u32, iteration: u32) -> Option<f64> {
        self.loads.get(&self.rows(cell, iteration).first()?.host).copied()
    }

    /// A metric's cost in an iteration of a cell; `None` where it was not measured, or is no positive number.
    #[must_use]
    pub fn cost(&self, metric: &metric::Metric, cell: u32, iteration: u32) -> Option<f64> {
        let value = if metric.key == LOAD_S {
            self.load(cell, iteration)
        } else {
            metric.of_iteration(self.rows(cell, iteration))
        };
        value.map(|value| metric.cost(value)).filter(|cost| cost.is_finite() && *cost > 0.0)
    }
}

/// The metrics that can stand for a gate's, the best first: it is compared by the first that was measured throughout.
#[must_use]
pub fn candidates(gate: GateMetric) -> Vec<&'static metric::Metric> {
    let keys: &[&str] = match gate {
        GateMetric::DecodeTps => &["decode_tps"],
        GateMetric::PrefillTps => &["prefill_tps"],
        GateMetric::Ttft => &["ttft_ms"],
        GateMetric::E2e => &["e2e_ms"],
        GateMetric::ItlP95 => &["itl_p95_ms"],
        GateMetric::Cpu => &["cpu_ms_per_token"],
        GateMetric::PeakMemory => &[PEAK_RSS_BYTES, "engine_peak_bytes"],
        GateMetric::Load => &[LOAD_S],
    };
    keys.iter().map(|key| metric::find(key).expect("the table of metrics has it")).collect()
}

/// ln(cost_B / cost_A) of a metric in a cell.
#[must_use]
pub fn log_ratio(
    metric: &metric::Metric,
    cell: u32,
    (a, iteration_a): (&Iterations<'_>, u32),
    (b, iteration_b): (&Iterations<'_>, u32),
) -> Option<f64> {
    Some((b.cost(metric, cell, iteration_b)? / a.cost(metric, cell, iteration_a)?).ln())
}
