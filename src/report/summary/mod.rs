//! The summary of a run: the data behind the terminal table, the exports and the page. Its JSON is
//! `summary.json`.
//!
//! Only measured iterations that are valid count; warm-ups never do. What was not measured is null,
//! never a number.

pub mod determinism;
mod engines;
pub mod functions;
pub mod growth;
pub mod leaks;
pub mod oscillation;
pub mod quality;
pub mod settings;
pub mod spans;
pub mod traffic;
mod turns;
mod validity;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use determinism::{Determinism, HashGroup};
pub use functions::{CellFunctions, FunctionRow, PhaseFunctions};
pub use growth::SeriesGrowth;
pub use oscillation::GaugeOscillation;
pub use quality::{CellQuality, QualityText};
pub use settings::{Agreement, SettingRow};
pub use spans::{AllocationSummary, CellSpans};
pub use traffic::TrafficSummary;
pub use turns::{Tokens, TurnSummary};
pub use validity::{Problem, Standing, Validity, WIDE};

use crate::compare::engines::{SideBySide, side_by_side};
use crate::record::{
    Counts, FinishState, GitState, HostInfo, Imported, LoadCheck, Machine, Record, RequestRow, Status, Timing,
    TokenIndex, metric, of_valid, outcome,
};
use crate::spec::{Cell, Isolation, SamplingInfo, Workload};
use inferometer_host::simulated;
use inferometer_protocol::toggle::{DTYPE, THREADS};
use inferometer_protocol::{ModelIdentity, ModelSpec, Settings, TokenTiming};
use inferometer_stats::robust;

/// Version of `summary.json`. Fields are only added under the same version.
pub const SUMMARY_VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub summary_version: u32,
    pub run: RunIdentity,
    pub validity: Validity,
    /// In the plan's order.
    pub cells: Vec<CellSummary>,
    /// How decode and prefill grow with the number of tokens; empty for runs under five lengths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub growth: Vec<SeriesGrowth>,
    /// Memory oscillation: the memory gauge first, then others that add information; empty if none
    /// has values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<GaugeOscillation>,
    /// What repeated loads leave in memory; empty unless the isolation is `load`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaks: Vec<leaks::Leak>,
    /// Where the time of a token goes; empty without a profiled pass.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<CellSpans>,
    /// The functions that a sampling profiler found; empty without one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<CellFunctions>,
    /// Engines that did the same work, ranked; null unless there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side_by_side: Option<SideBySide>,
}

/// What was run, where and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunIdentity {
    pub name: String,
    pub scenario: String,
    /// The scenario's name, with the model's for a run of `bench`.
    #[serde(default)]
    pub title: String,
    pub description: Option<String>,
    pub scenario_sha256: String,
    pub inferometer_version: String,
    pub started_utc: String,
    pub finished_utc: Option<String>,
    pub state: FinishState,
    #[serde(rename = "sessions")]
    pub segments: u32,
    pub iterations: u32,
    pub warmup: u32,
    pub isolation: Isolation,
    /// What the medians' intervals cover: `within process` unless every iteration had a process of
    /// its own, or another program measured.
    pub interval_scope: String,
    pub order_seed: u64,
    /// An engine ran a model with random weights: speed and memory are meaningful, the text is not.
    pub synthetic: bool,
    /// Another program measured the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
    /// An engine is simulated: its figures come from its options.
    #[serde(default)]
    pub simulated: bool,
    pub git: Option<GitState>,
    pub machine: Machine,
    pub engines: Vec<EngineSummary>,
    /// How well gauges were sampled in each run segment, and what that cost.
    #[serde(default)]
    pub sampling: Vec<SamplingInfo>,
    /// The text of the quality pass; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualityText>,
}

/// An engine according to its first host's receipt; fields are null if no host started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EngineSummary {
    pub label: String,
    pub name: String,
    pub version: Option<String>,
    pub backend: Option<String>,
    pub device: Option<String>,
    pub model: Option<ModelIdentity>,
    /// Whether every token has a time stamp of its own. Exact and inexact are never ranked against
    /// each other.
    pub token_timing: Option<TokenTiming>,
    pub declares_deterministic: Option<bool>,
    /// What its times include besides the model.
    pub includes: Vec<String>,
    /// Load-time settings in force, such as `dtype` and `threads`.
    #[serde(default)]
    pub settings: Settings,
    /// The formats of its weights, if its hosts had several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dtypes: Vec<String>,
}

/// One cell: an engine with its toggles at one prompt length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellSummary {
    pub cell: u32,
    pub label: String,
    pub engine: String,
    /// Common to the cells that differ only in prompt length.
    pub series: String,
    /// Prompt length asked for, in tokens; null = the text as it is.
    pub length: Option<u32>,
    /// Measured prompt tokens, if all valid iterations agree.
    pub prompt_tokens: Option<u32>,
    pub counts: Counts,
    /// The lowest grade of its token times over the valid iterations; null in records of older
    /// versions. Token times that are not verified are left out of `metrics`.
    #[serde(default)]
    pub timing: Option<Timing>,
    /// Valid iterations of which nothing tells whether other programs slowed them down.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unjudged: usize,
    /// The values of invalid iterations, which count for nothing; empty without such iterations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
    /// By metric key; null if not measured. `n` is the number of valid iterations that have the
    /// metric.
    pub metrics: BTreeMap<String, Option<robust::Summary>>,
    pub determinism: Determinism,
    pub hashes: Vec<HashGroup>,
    pub settings: Vec<SettingRow>,
    /// Combinations that mean the same work and were not run again.
    pub merged: Vec<Settings>,
    /// A conversation's turns in their order, over the valid iterations; empty for prompts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<TurnSummary>,
    /// Absent for a cell that is not under load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficSummary>,
    /// The perplexity of a fixed text, from the quality pass; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<CellQuality>,
}

/// What an invalid iteration measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rejected {
    pub iteration: u32,
    pub prefill_tps: Option<f64>,
    pub decode_tps: Option<f64>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl EngineSummary {
    /// What it runs, on what and how: model, backend, device, dtype and threads, as far as its
    /// receipt says.
    #[must_use]
    pub fn identity(&self) -> String {
        let model = self.model.as_ref().map(|model| model.name.clone()).filter(|name| !name.is_empty());
        let setting = |name: &str| self.settings.get(name).map(ToString::to_string);
        let parts = [
            model,
            self.backend.clone(),
            self.device.clone(),
            if self.dtypes.is_empty() { setting(DTYPE) } else { Some(self.dtypes.join(" or ")) },
            setting(THREADS)
                .map(|threads| if threads == "1" { "1 thread".to_owned() } else { format!("{threads} threads") }),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl CellSummary {
    /// The metric's summary, if it was measured.
    #[must_use]
    pub fn metric(&self, key: &str) -> Option<&robust::Summary> {
        self.metrics.get(key)?.as_ref()
    }

    /// The grade of token times that are not shown because they are not verified.
    #[must_use]
    pub fn unverified(&self) -> Option<Timing> {
        self.timing.filter(|timing| !timing.is_shown())
    }

    /// The cell's name in tables.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.label.is_empty() { &self.engine } else { &self.label }
    }

    /// Prompt length in tokens: as measured, else as asked for.
    #[must_use]
    pub fn prompt_length(&self) -> Option<u32> {
        self.prompt_tokens.or(self.length)
    }

    /// Whether every valid iteration gave the same tokens: `yes`, `NO`, `varies` (allowed), or `–`
    /// (unknown).
    #[must_use]
    pub fn deterministic(&self) -> &'static str {
        match self.determinism {
            Determinism::Deterministic => "yes",
            Determinism::Nondeterministic => "NO",
            Determinism::Varies => "varies",
            Determinism::Unknown => NOT_MEASURED,
        }
    }
}

/// Whether the valid iterations of some cell come from more than one host.
fn replaced_hosts(record: &Record) -> bool {
    let mut hosts: BTreeMap<u32, u32> = BTreeMap::new();
    let counted = record.requests.iter().filter(|row| !row.warmup && row.status == Status::Ok);
    counted.into_iter().any(|row| *hosts.entry(row.cell).or_insert(row.host) != row.host)
}

/// Shown in tables for a value that was not measured.
pub const NOT_MEASURED: &str = "–";

impl Summary {
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let tokens = TokenIndex::new(&record.tokens);
        let series = series_labels(record);
        let mut by_cell: BTreeMap<u32, Vec<&RequestRow>> = BTreeMap::new();
        for row in record.requests.iter().filter(|row| !row.warmup) {
            by_cell.entry(row.cell).or_default().push(row);
        }
        let cells: Vec<CellSummary> = record
            .manifest
            .plan
            .cells
            .iter()
            .zip(series)
            .map(|(cell, series)| {
                let rows = by_cell.get(&cell.id).map_or(&[][..], Vec::as_slice);
                summarize_cell(record, cell, series, rows, &tokens)
            })
            .collect();
        for rows in by_cell.values_mut() {
            rows.retain(|row| row.status == Status::Ok);
        }
        let growth = growth::laws(&cells, &by_cell, record.manifest.scenario.run.order_seed);
        let run = identity(record);
        let side_by_side = side_by_side(record);
        let validity = validity::judge(record, &cells, side_by_side.as_ref());
        Summary {
            summary_version: SUMMARY_VERSION,
            run,
            validity,
            cells,
            growth,
            memory: oscillation::oscillations(record),
            leaks: leaks::leaks(record),
            spans: spans::cells(record),
            functions: functions::cells(record),
            side_by_side,
        }
    }

    /// `summary.json`.
    ///
    /// # Panics
    /// Never: the shapes have string keys and plain values only.
    #[must_use]
    pub fn to_json(&self) -> String {
        super::json(self)
    }
}

impl RunIdentity {
    /// Marks to show with every figure; [`crate::report::text::mark`] says what each means.
    #[must_use]
    pub fn marks(&self) -> Vec<&'static str> {
        let imported = self.imported.is_some();
        let marks = [(imported, "imported"), (self.simulated, "simulated engine"), (self.synthetic, "synthetic model")];
        marks.into_iter().filter(|(holds, _)| *holds).map(|(_, mark)| mark).collect()
    }
}

fn identity(record: &Record) -> RunIdentity {
    let manifest = &record.manifest;
    let scenario = &manifest.scenario;
    let engines: Vec<EngineSummary> = (0..scenario.engines.len()).map(|i| engine(record, i)).collect();
    let made = matches!(scenario.model, ModelSpec::Synthetic { .. });
    RunIdentity {
        name: manifest.run.clone(),
        scenario: scenario.name.clone(),
        title: manifest.title(),
        description: scenario.description.clone(),
        scenario_sha256: manifest.scenario_sha256.clone(),
        inferometer_version: manifest.inferometer_version.clone(),
        started_utc: manifest.origin_utc.clone(),
        finished_utc: manifest.finished_utc.clone(),
        state: manifest.state,
        segments: manifest.segments,
        iterations: scenario.run.iterations,
        warmup: scenario.run.warmup,
        isolation: scenario.run.isolation,
        interval_scope: match scenario.run.isolation {
            // Its processes are not known.
            _ if manifest.imported.is_some() => "over another program's samples",
            Isolation::Iteration => "across processes",
            // A crash or a resume replaced the host.
            Isolation::Run | Isolation::Cell | Isolation::Load if replaced_hosts(record) => "over a few processes",
            Isolation::Run | Isolation::Cell | Isolation::Load => "within process",
        }
        .to_owned(),
        order_seed: scenario.run.order_seed,
        synthetic: engines
            .iter()
            .filter(|engine| engine.name != simulated::NAME)
            .any(|engine| made || engine.model.as_ref().is_some_and(|model| model.synthetic)),
        imported: manifest.imported.clone(),
        simulated: engines.iter().any(|engine| engine.name == simulated::NAME),
        git: manifest.git.clone(),
        machine: manifest.machine.clone(),
        engines,
        sampling: manifest.sampling.clone(),
        quality: scenario.quality.as_ref().map(QualityText::of),
    }
}

fn engine(record: &Record, index: usize) -> EngineSummary {
    let spec = &record.manifest.scenario.engines[index];
    let receipts =
        || record.manifest.hosts.iter().filter(|host| host.engine as usize == index).map(|host| &host.receipt);
    let receipt = receipts().next();
    let dtypes: BTreeSet<String> = receipts().filter_map(|r| Some(r.settings.get(DTYPE)?.to_string())).collect();
    EngineSummary {
        label: spec.label.clone(),
        name: spec.name.clone(),
        version: receipt.map(|r| r.version.clone()),
        backend: receipt.and_then(|r| r.backend.clone()),
        device: receipt.and_then(|r| r.device.clone()),
        model: receipt.map(|r| r.model.clone()),
        token_timing: receipt.map(|r| r.token_timing),
        declares_deterministic: receipt.map(|r| r.deterministic),
        includes: receipt.map(|r| r.includes.clone()).unwrap_or_default(),
        settings: receipt.map(|r| r.settings.clone()).unwrap_or_default(),
        dtypes: if dtypes.len() > 1 { dtypes.into_iter().collect() } else { Vec::new() },
    }
}

fn summarize_cell(
    record: &Record,
    cell: &Cell,
    series: String,
    rows: &[&RequestRow],
    tokens: &TokenIndex<'_>,
) -> CellSummary {
    let manifest = &record.manifest;
    let valid: Vec<&RequestRow> = rows.iter().copied().filter(|row| row.status == Status::Ok).collect();
    let whole = of_valid(rows);
    let planned = manifest.plan.order.iter().filter(|round| round.contains(&cell.id)).count();
    let mut metrics: BTreeMap<String, Option<robust::Summary>> = metric::METRICS
        .iter()
        .map(|m| {
            let values: Vec<f64> = metric::iterations(&whole).filter_map(|turns| m.of_iteration(turns)).collect();
            let stated = || manifest.imported.as_ref()?.average(cell.id, m.key).map(robust::Summary::stated);
            (m.key.to_owned(), robust::summarize(&values).or_else(stated))
        })
        .collect();
    let hosts = hosts_of(record, rows);
    let loads: Vec<f64> = hosts.iter().flat_map(|host| host.loads_s()).collect();
    metrics.insert(metric::LOAD_S.to_owned(), robust::summarize(&loads));
    let hashes = determinism::groups(&valid, tokens);
    let declared = hosts.iter().any(|host| host.receipt.deterministic);
    let lengths: BTreeSet<Option<u32>> = valid.iter().map(|row| row.prompt_tokens).collect();
    CellSummary {
        cell: cell.id,
        label: cell.label.clone(),
        engine: engine_label(record, cell),
        series,
        length: cell.length,
        prompt_tokens: if lengths.len() == 1 { lengths.into_iter().flatten().next() } else { None },
        counts: Counts::of(planned, rows),
        timing: valid.iter().filter_map(|row| row.timing).max(),
        unjudged: metric::iterations(&valid).filter(|turns| turns[0].load_check == Some(LoadCheck::Unjudged)).count(),
        rejected: rejected(rows),
        metrics,
        determinism: determinism::judge(&hashes, cell, declared),
        hashes,
        settings: settings::rows(cell, &valid, &hosts, &manifest.scenario.run.allow_mismatch),
        merged: cell.merged.clone(),
        turns: match &manifest.scenario.workload {
            Workload::Conversation(_) => turns::turns(&valid),
            Workload::Prompt(_) => Vec::new(),
        },
        traffic: traffic::of_cell(cell, rows),
        quality: quality::of_cell(record, cell.id),
    }
}

/// The values of the invalid iterations that have any.
fn rejected(rows: &[&RequestRow]) -> Vec<Rejected> {
    let value = |key, turns: &[&RequestRow]| metric::find(key)?.of_iteration(turns);
    metric::iterations(rows)
        .filter(|turns| outcome(turns.iter().copied()).is_some_and(|row| row.status == Status::Invalid))
        .map(|turns| Rejected {
            iteration: turns[0].iteration,
            prefill_tps: value(metric::PREFILL_TPS, turns),
            decode_tps: value(metric::DECODE_TPS, turns),
        })
        .filter(|rejected| rejected.prefill_tps.or(rejected.decode_tps).is_some())
        .collect()
}

/// The hosts that ran these rows.
fn hosts_of<'a>(record: &'a Record, rows: &[&RequestRow]) -> Vec<&'a HostInfo> {
    let numbers: BTreeSet<u32> = rows.iter().map(|row| row.host).collect();
    record.manifest.hosts.iter().filter(|host| numbers.contains(&host.host)).collect()
}

fn engine_label(record: &Record, cell: &Cell) -> String {
    let engines = &record.manifest.scenario.engines;
    engines.get(cell.engine as usize).map_or_else(|| format!("engine {}", cell.engine), |e| e.label.clone())
}

/// A label for each cell's series: the engine, if there are several, and the toggles that vary.
fn series_labels(record: &Record) -> Vec<String> {
    let cells = &record.manifest.plan.cells;
    let engines: BTreeSet<u32> = cells.iter().map(|c| c.engine).collect();
    let names: BTreeSet<&String> = cells.iter().flat_map(|c| c.toggles.keys()).collect();
    let varying: Vec<&String> = names
        .into_iter()
        .filter(|name| cells.iter().any(|c| c.toggles.get(*name) != cells[0].toggles.get(*name)))
        .collect();
    cells
        .iter()
        .map(|cell| {
            let mut words = Vec::new();
            if engines.len() > 1 || varying.is_empty() {
                words.push(engine_label(record, cell));
            }
            for name in &varying {
                if let Some(value) = cell.toggles.get(*name) {
                    words.push(format!("{name}={value}"));
                }
            }
            words.join(" ")
        })
        .collect()
}
