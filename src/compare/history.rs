//! The history of a folder of runs: each metric of each cell over time, with change points.
//!
//! Runs belong to one series if scenario, work, cell and machine are the same. Every change is a
//! trend, as no two runs were measured in the same session.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::cells::{self, Measured};
use super::difference;
use super::runs::{Change, Outcome};
use crate::record::metric;
use crate::record::metric::{METRICS, Metric};
use crate::record::{Counts, Record};
use crate::spec::{Machine, Workload};
use inferometer_protocol::units;
use inferometer_stats::{change, robust};

/// Version of the history's JSON; fields are only added under the same number.
pub const HISTORY_VERSION: u32 = 1;
/// Smallest relative noise assumed between runs: counted values, such as bytes, have none of their
/// own.
const LEAST_NOISE: f64 = 0.001;

/// The part of a run that is kept until all are read; hundreds of whole records would not fit in
/// memory.
#[derive(Debug, Clone)]
pub struct Entry {
    run: String,
    started: Timestamp,
    started_utc: String,
    commit: Option<String>,
    version: String,
    scenario: String,
    machine: String,
    cells: Vec<EntryCell>,
}

#[derive(Debug, Clone)]
struct EntryCell {
    /// Position in the run's plan.
    at: u32,
    name: String,
    engine: String,
    /// Identifies the same work in another run: engine, toggles, length, model, workload, sampling,
    /// isolation.
    work: String,
    counts: Counts,
    metrics: BTreeMap<&'static str, robust::Summary>,
}

/// A cell in every run that has it, by time.
type Course<'a> = Vec<(&'a Entry, &'a EntryCell)>;

/// Selects series.
#[derive(Debug, Clone)]
pub struct Filter {
    pub metrics: Vec<&'static Metric>,
    /// Part of the cell's name.
    pub cell: Option<String>,
    /// The scenario's name.
    pub scenario: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    pub history_version: u32,
    /// Always `trend`.
    pub outcome: Outcome,
    /// Number of runs read.
    pub runs: usize,
    /// Ordered by scenario, machine, cell and metric.
    pub series: Vec<Series>,
}

/// One metric of one cell over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub scenario: String,
    pub machine: String,
    /// The cell's name in the newest run.
    pub cell: String,
    pub engine: String,
    /// First hex digits of a hash over everything that defines the cell's work.
    pub work: String,
    /// Key of the metric.
    pub metric: String,
    /// Ordered by time.
    pub points: Vec<Point>,
    pub changes: Vec<ChangePoint>,
}

/// One run of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub run: String,
    pub started_utc: String,
    /// Commit of the working folder; null without one.
    pub commit: Option<String>,
    pub inferometer_version: String,
    pub counts: Counts,
    /// Null if not measured.
    pub figures: Option<robust::Summary>,
}

/// A shift of the level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangePoint {
    /// Position in `points` of the first run of the new level.
    pub at: usize,
    pub run: String,
    pub commit: Option<String>,
    /// Medians of the levels before and after the shift.
    pub before: f64,
    pub after: f64,
    pub change: Change,
}

impl History {
    /// Leaves out the series that fewer than two runs measured, and says how many these were.
    pub fn leave_out_single(&mut self) -> usize {
        let before = self.series.len();
        self.series.retain(|series| series.points.iter().filter(|point| point.figures.is_some()).count() > 1);
        before - self.series.len()
    }
}

impl ChangePoint {
    /// After / before.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.after / self.before
    }
}

impl Entry {
    /// Extracts a history's data from a run.
    ///
    /// # Errors
    /// When the record has no valid start time.
    pub fn of(record: &Record) -> Result<Self, String> {
        let manifest = &record.manifest;
        let started = manifest.origin_utc.parse().map_err(|_| {
            let shown: String = manifest.origin_utc.chars().take(40).collect();
            format!("its origin_utc {shown:?} is not a time")
        })?;
        Ok(Self {
            run: manifest.run.clone(),
            started,
            started_utc: manifest.origin_utc.clone(),
            commit: difference::commit(manifest),
            version: manifest.inferometer_version.clone(),
            scenario: manifest.title(),
            machine: machine(&manifest.machine),
            cells: cells::measured(record).iter().map(|measured| entry_cell(record, measured)).collect(),
        })
    }
}

fn entry_cell(record: &Record, measured: &Measured) -> EntryCell {
    let metrics = METRICS.iter().chain([&metric::LOAD]);
    EntryCell {
        at: measured.cell.id,
        name: measured.name().to_owned(),
        engine: measured.engine.to_owned(),
        work: work(record, measured),
        counts: measured.counts,
        metrics: metrics.filter_map(|m| Some((m.key, measured.figures(m)?))).collect(),
    }
}

/// Hash of everything that defines a cell's work. Versions and commits are excluded: a history
/// shows their effect.
fn work(record: &Record, measured: &Measured) -> String {
    let scenario = &record.manifest.scenario;
    let mut workload = scenario.workload.clone();
    if let Workload::Prompt(prompt) = &mut workload {
        // The lengths of other cells, and where the text came from, do not matter.
        prompt.lengths.clear();
        prompt.text_file = None;
    }
    let engine = scenario.engines.get(measured.cell.engine as usize);
    let cell = measured.cell;
    let mut all = vec![json!([
        scenario.model,
        workload,
        engine,
        cell.length,
        cell.toggles,
        cell.sampling,
        scenario.run.isolation
    ])];
    if let (Some(traffic), Some(level)) = (&scenario.traffic, cell.level) {
        all.push(json!([level, traffic.arrivals, traffic.requests, traffic.limits]));
    }
    let all = if let [one] = all.as_slice() { one.clone() } else { json!(all) };
    Sha256::digest(all.to_string())[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The machine in a few words. Different machines with equal words share a series.
fn machine(machine: &Machine) -> String {
    let mut words = vec![machine.cpu.clone().unwrap_or_else(|| "unknown CPU".to_owned())];
    words.extend(machine.logical_cores.map(|n| format!("{n} cores")));
    words.extend(machine.memory_bytes.map(units::bytes));
    words.extend(machine.accelerator.clone());
    words.extend(machine.system());
    words.join(", ")
}

/// The series of all runs that match the filter.
#[must_use]
pub fn history(mut runs: Vec<Entry>, filter: &Filter) -> History {
    runs.sort_by(|a, b| (a.started, &a.run).cmp(&(b.started, &b.run)));
    let mut cells: BTreeMap<(&str, &str, &str), Course> = BTreeMap::new();
    for run in &runs {
        let wanted = filter.scenario.as_ref().is_none_or(|name| {
            *name == run.scenario || run.scenario.strip_prefix(name).is_some_and(|rest| rest.starts_with(": "))
        });
        for cell in run.cells.iter().filter(|_| wanted) {
            cells.entry((&run.scenario, &run.machine, &cell.work)).or_default().push((run, cell));
        }
    }
    let mut cells: Vec<Course> = cells.into_values().collect();
    cells.sort_by_key(|all| all.last().map(|(run, cell)| (&run.scenario, &run.machine, cell.at, &cell.work)));
    let series = cells
        .iter()
        .filter(|all| {
            let name = all.last().map_or("", |(_, cell)| cell.name.as_str());
            filter.cell.as_ref().is_none_or(|part| name.contains(part.as_str()))
        })
        .flat_map(|all| filter.metrics.iter().filter_map(|metric| series(all, metric)))
        .collect();
    History { history_version: HISTORY_VERSION, outcome: Outcome::Trend, runs: runs.len(), series }
}

/// A metric of a cell over its runs; `None` if no run measured it.
fn series(all: &[(&Entry, &EntryCell)], metric: &Metric) -> Option<Series> {
    let (newest, cell) = all.last()?;
    let points: Vec<Point> = all.iter().map(|(run, cell)| point(run, cell, metric)).collect();
    points.iter().find(|point| point.figures.is_some())?;
    Some(Series {
        scenario: newest.scenario.clone(),
        machine: newest.machine.clone(),
        cell: cell.name.clone(),
        engine: cell.engine.clone(),
        work: cell.work.clone(),
        metric: metric.key.to_owned(),
        changes: changes(&points, metric),
        points,
    })
}

fn point(run: &Entry, cell: &EntryCell, metric: &Metric) -> Point {
    Point {
        run: run.run.clone(),
        started_utc: run.started_utc.clone(),
        commit: run.commit.clone(),
        inferometer_version: run.version.clone(),
        counts: cell.counts,
        figures: cell.metrics.get(metric.key).copied(),
    }
}

/// Change points of the medians' logarithms.
fn changes(points: &[Point], metric: &Metric) -> Vec<ChangePoint> {
    let medians: Vec<(usize, f64)> = points
        .iter()
        .enumerate()
        .filter_map(|(at, point)| Some((at, point.figures?.median)))
        .filter(|(_, median)| *median > 0.0)
        .collect();
    let logarithms: Vec<f64> = medians.iter().map(|(_, median)| median.ln()).collect();
    let begins = change::change_points(&logarithms, LEAST_NOISE);
    let edges: Vec<usize> = std::iter::once(0).chain(begins).chain([medians.len()]).collect();
    let level = |from: usize, to: usize| {
        let values: Vec<f64> = medians[from..to].iter().map(|(_, median)| *median).collect();
        robust::quantile(&robust::sorted(&values), 0.5)
    };
    edges
        .windows(3)
        .filter_map(|edge| {
            let (before, after) = (level(edge[0], edge[1])?, level(edge[1], edge[2])?);
            let at = medians[edge[1]].0;
            Some(ChangePoint {
                at,
                run: points[at].run.clone(),
                commit: points[at].commit.clone(),
                before,
                after,
                change: Change::towards(metric, after / before),
            })
        })
        .collect()
}
