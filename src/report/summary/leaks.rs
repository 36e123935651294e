//! Whether memory is left behind when a model is unloaded: under isolation `load`, how the memory
//! of a host after each unload changes from load to load.

use serde::{Deserialize, Serialize};

use crate::record::{Record, RequestRow};
use inferometer_stats::slope::slope;

/// Growth per load that matters: sixteen pages of 4 KiB. The kernel's own counts are that coarse.
pub const MATTERS: f64 = 65_536.0;
/// Share of the loads that is left out at the beginning: pools and caches of libraries fill then.
const FILLING: usize = 5;
/// Loads that a slope is made of: the last ones. A slope looks at every pair.
const MOST: usize = 1000;

/// What is left of a model after it was unloaded, load after load in one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leak {
    pub cell: u32,
    pub label: String,
    pub host: u32,
    /// Unloads that were measured, and of these the first ones, which are left out.
    pub loads: usize,
    pub left_out: usize,
    /// Memory of the process after the first and the last unload.
    pub first_bytes: u64,
    pub last_bytes: u64,
    /// Median growth per load (Theil-Sen) with its 95 % interval; null if there are too few loads.
    pub growth: Option<Growth>,
    pub verdict: Verdict,
}

/// Bytes per load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    pub bytes: f64,
    pub low: f64,
    pub high: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole interval is above what matters.
    Leaks,
    /// The whole interval is below it.
    NoLeak,
    /// The interval contains it, or there are too few loads.
    Inconclusive,
}

/// The cells whose model was unloaded after iterations. A host that was replaced begins anew: the
/// longest series of a cell counts.
#[must_use]
pub fn leaks(record: &Record) -> Vec<Leak> {
    let plan = &record.manifest.plan.cells;
    plan.iter().filter_map(|cell| of_cell(record, cell.id, &cell.label)).collect()
}

fn of_cell(record: &Record, cell: u32, label: &str) -> Option<Leak> {
    let rows: Vec<&RequestRow> =
        record.requests.iter().filter(|row| row.cell == cell && row.unloaded_bytes.is_some()).collect();
    let series = rows.chunk_by(|a, b| a.host == b.host).max_by_key(|rows| rows.len())?;
    let bytes: Vec<u64> = series.iter().filter_map(|row| row.unloaded_bytes).collect();
    let left_out = (bytes.len() / FILLING).max(bytes.len().saturating_sub(MOST));
    let settled: Vec<f64> = bytes[left_out..].iter().map(|bytes| *bytes as f64).collect();
    let growth = slope(&settled).map(|s| Growth { bytes: s.per_step, low: s.low, high: s.high });
    Some(Leak {
        cell,
        label: label.to_owned(),
        host: series.first()?.host,
        loads: bytes.len(),
        left_out,
        first_bytes: *bytes.first()?,
        last_bytes: *bytes.last()?,
        verdict: verdict(growth),
        growth,
    })
}

fn verdict(growth: Option<Growth>) -> Verdict {
    match growth {
        Some(growth) if growth.low > MATTERS => Verdict::Leaks,
        Some(growth) if growth.high < MATTERS => Verdict::NoLeak,
        _ => Verdict::Inconclusive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_interval_decides() {
        let of = |low, high| verdict(Some(Growth { bytes: f64::midpoint(low, high), low, high }));
        assert_eq!(of(MATTERS * 1.1, MATTERS * 9.0), Verdict::Leaks);
        assert_eq!(of(-1e6, MATTERS * 0.9), Verdict::NoLeak);
        assert_eq!(of(0.0, MATTERS * 2.0), Verdict::Inconclusive);
        assert_eq!(verdict(None), Verdict::Inconclusive);
    }
}
