//! How long a plan will take, by what an earlier run of the same work took. Never a guess.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::record::{self, Record, RequestRow, Status};
use crate::scenario::Outline;
use crate::spec::{Cell, Plan, Scenario};
use crate::stats::robust;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    pub seconds: f64,
    /// The run that it is taken from.
    pub run: PathBuf,
}

/// The newest run under `results` that did the same work in every cell of the plan, scaled to this plan's counts.
pub fn estimate(results: &Path, scenario: &Scenario, plan: &Plan, outline: &Outline) -> Option<Estimate> {
    let entries = fs_err::read_dir(results).ok()?;
    let mut runs: Vec<PathBuf> = entries.filter_map(|e| e.ok().map(|e| e.path())).filter(|p| p.is_dir()).collect();
    // Names begin with the time, so the last one is the newest.
    runs.sort_unstable();
    runs.into_iter().rev().find_map(|run| {
        let manifest = record::manifest::read(&run).ok()?;
        let same = manifest.scenario.model == scenario.model
            && manifest.scenario.engines == scenario.engines
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
    let mut total = f64::from(scenario.run.cooldown_s as f32) * outline.requests as f64;
    let warmups_each = outline.warmup_requests as f64 / outline.cells as f64;
    for cell in &plan.cells {
        let id = record.manifest.plan.cells.iter().find(|c| same_work(c, cell))?.id;
        let took = |warmup: bool| median(record.requests.iter().filter(|r| r.cell == id && r.warmup == warmup));
        let measured = took(false)?;
        total += measured * f64::from(scenario.run.iterations) + took(true).unwrap_or(measured) * warmups_each;
    }
    let loads: Vec<f64> = record.manifest.hosts.iter().map(|h| h.load_s).collect();
    Some(total + robust::summarize(&loads)?.median * outline.hosts as f64)
}

/// Median time of the good rows in seconds, from request to reply.
fn median<'a>(rows: impl Iterator<Item = &'a RequestRow>) -> Option<f64> {
    let good = rows.filter(|r| r.status == Status::Ok);
    let times: Vec<f64> = good.map(|r| r.end_ns.saturating_sub(r.start_ns) as f64 / 1e9).collect();
    robust::summarize(&times).map(|s| s.median)
}
