//! Costs that gates compare, computed from a side's rows: times and bytes, less is better.

use std::collections::BTreeMap;

use crate::record::RequestRow;
use crate::record::metric;
use crate::record::metric::{LOAD_S, PEAK_MEMORY, Unit};
use crate::spec::{GateMetric, Scale};

/// The measured iterations of a side, by cell and number.
#[derive(Debug, Clone, Default)]
pub struct Iterations<'a> {
    rows: BTreeMap<(u32, u32), Vec<&'a RequestRow>>,
    /// Load time of each host, in seconds.
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

    /// The rows of an iteration of a cell: one, or one per turn; empty if it was not run.
    #[must_use]
    pub fn rows(&self, cell: u32, iteration: u32) -> &[&'a RequestRow] {
        self.rows.get(&(cell, iteration)).map_or(&[], Vec::as_slice)
    }

    /// The first row of an iteration of a cell, whose outcome all its rows share; `None` if it was
    /// not run.
    #[must_use]
    pub fn first(&self, cell: u32, iteration: u32) -> Option<&'a RequestRow> {
        self.rows(cell, iteration).first().copied()
    }

    /// Load time of an iteration's host, in seconds.
    fn load(&self, cell: u32, iteration: u32) -> Option<f64> {
        self.loads.get(&self.rows(cell, iteration).first()?.host).copied()
    }

    /// A metric's cost in an iteration of a cell; `None` if not measured or not positive.
    #[must_use]
    pub fn cost(&self, metric: &metric::Metric, cell: u32, iteration: u32) -> Option<f64> {
        let value = self.value(metric, cell, iteration);
        value.map(|value| metric.cost(value)).filter(|cost| cost.is_finite() && *cost > 0.0)
    }

    /// A metric's value in an iteration of a cell, possibly 0; `None` if not measured.
    #[must_use]
    pub fn value(&self, metric: &metric::Metric, cell: u32, iteration: u32) -> Option<f64> {
        if metric.key == LOAD_S {
            return self.load(cell, iteration);
        }
        metric.of_iteration(self.rows(cell, iteration))
    }

    /// Whether a metric was measured in an iteration of a cell and can be compared on that scale.
    #[must_use]
    pub fn has(&self, metric: &metric::Metric, scale: Scale, cell: u32, iteration: u32) -> bool {
        match scale {
            Scale::Ratio => self.cost(metric, cell, iteration).is_some(),
            Scale::Count | Scale::Bytes => self.value(metric, cell, iteration).is_some(),
        }
    }
}

/// The metrics that a gate may use, the best first: it uses the first that was measured throughout.
#[must_use]
pub fn candidates(gate: GateMetric) -> Vec<&'static metric::Metric> {
    let keys: &[&str] = match gate {
        GateMetric::DecodeTps => &["decode_tps"],
        GateMetric::PrefillTps => &["prefill_tps"],
        GateMetric::Ttft => &["ttft_ms"],
        GateMetric::E2e => &["e2e_ms"],
        GateMetric::ItlP95 => &["itl_p95_ms"],
        GateMetric::Cpu => &["cpu_ms_per_token"],
        GateMetric::PeakMemory => &PEAK_MEMORY,
        GateMetric::Load => &[LOAD_S],
        GateMetric::MemoryCycles => &["memory_cycles"],
        GateMetric::MemorySwing => &["memory_swing_bytes"],
        GateMetric::MemoryReclaimed => &["memory_reclaimed_bytes"],
    };
    keys.iter().map(|key| metric::find(key).expect("the table of metrics has it")).collect()
}

/// Change of a metric from A to B in a cell, positive is worse: ln(cost_B / cost_A), or B - A for
/// metrics compared by differences.
#[must_use]
pub fn shift(
    metric: &metric::Metric,
    scale: Scale,
    cell: u32,
    (a, iteration_a): (&Iterations<'_>, u32),
    (b, iteration_b): (&Iterations<'_>, u32),
) -> Option<f64> {
    match scale {
        Scale::Ratio => Some((b.cost(metric, cell, iteration_b)? / a.cost(metric, cell, iteration_a)?).ln()),
        // Less is better for each of these.
        Scale::Count | Scale::Bytes => Some(b.value(metric, cell, iteration_b)? - a.value(metric, cell, iteration_a)?),
    }
}

/// The default scale of `metric`.
#[must_use]
pub fn scale(metric: &metric::Metric) -> Scale {
    if metric.by_difference { difference(metric).unwrap_or(Scale::Count) } else { Scale::Ratio }
}

/// The scale for differences of a metric; `None` if it cannot be 0.
#[must_use]
pub fn difference(metric: &metric::Metric) -> Option<Scale> {
    match metric.unit {
        Unit::Count => Some(Scale::Count),
        Unit::Bytes => Some(Scale::Bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::metric::Better;

    #[test]
    fn a_gate_is_compared_as_its_metrics_are() {
        for gate in GateMetric::ALL {
            for metric in candidates(gate) {
                assert_eq!(scale(metric), gate.scale(), "{}", metric.key);
                assert!(gate.scale() == Scale::Ratio || metric.better == Better::Lower, "{}", metric.key);
            }
        }
    }
}
