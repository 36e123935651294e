//! Estimates how long a plan will take, from an earlier run of the same work; `None` without one.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::record;
use crate::record::metric;
use crate::record::{Record, RequestRow, Status};
use crate::scenario::Outline;
use crate::secret::masked_scenario;
use crate::spec::{Cell, Plan, Scenario};
use inferometer_stats::robust;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    pub seconds: f64,
    /// The run that the estimate is based on.
    pub run: PathBuf,
}

/// The newest run under `results` that did the same work in every cell of the plan, scaled to this
/// plan's counts.
pub fn estimate(results: &Path, scenario: &Scenario, plan: &Plan, outline: &Outline) -> Option<Estimate> {
    let entries = fs_err::read_dir(results).ok()?;
    let mut runs: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| p.is_dir()).collect();
    // Names begin with the time, so the last one is the newest.
    runs.sort_unstable();
    // As records store them.
    let engines = masked_scenario(scenario).engines;
    runs.into_iter().rev().find_map(|run| {
        let manifest = record::manifest::read(&run).ok()?;
        let same = manifest.scenario.model == scenario.model
            && manifest.scenario.engines == engines
            && manifest.scenario.workload == scenario.workload;
        let covered = plan.cells.iter().all(|cell| manifest.plan.cells.iter().any(|c| same_work(c, cell)));
        if !same || !covered {
            return None;
        }
        let seconds = seconds(&record::read(&run).ok()?, scenario, plan, outline)?;
        Some(Estimate { seconds, run })
    })
}

fn same_work(a: &Cell, b: &Cell) -> bool {
    a.engine == b.engine && a.length == b.length && a.toggles == b.toggles && a.sampling == b.sampling
}

fn seconds(record: &Record, scenario: &Scenario, plan: &Plan, outline: &Outline) -> Option<f64> {
    let mut total = f64::from(scenario.run.cooldown_s as f32) * plan.iterations() as f64;
    let warmups_each = outline.warmup_requests as f64 / outline.cells as f64;
    for cell in &plan.cells {
        let id = record.manifest.plan.cells.iter().find(|c| same_work(c, cell))?.id;
        let good = record.requests.iter().filter(|r| r.cell == id && r.status == Status::Ok);
        let (warmups, measured): (Vec<&RequestRow>, Vec<&RequestRow>) = good.partition(|r| r.warmup);
        let iteration = median(metric::iterations(&measured).map(took))?;
        // Requests of a warm-up one by one: those of several warm-ups are adjacent in the record.
        let warmup = median(warmups.chunks(1).map(took)).unwrap_or(iteration);
        total += iteration * f64::from(scenario.run.iterations) + warmup * warmups_each;
    }
    let loads: Vec<f64> = record.manifest.hosts.iter().map(|h| h.load_s).collect();
    Some(total + robust::summarize(&loads)?.median * outline.hosts as f64)
}

/// Seconds from the first request to the last reply.
fn took(rows: &[&RequestRow]) -> f64 {
    let ends = rows.first().zip(rows.last());
    ends.map_or(0.0, |(first, last)| last.end_ns.saturating_sub(first.start_ns) as f64 / 1e9)
}

fn median(times: impl Iterator<Item = f64>) -> Option<f64> {
    robust::summarize(&times.collect::<Vec<_>>()).map(|s| s.median)
}
