//! A baseline: a run reduced to a small file, with each cell's medians and intervals and their
//! origin.
//!
//! Comparing a later run with it gives a *trend*, as between any two runs ([`super::runs`]), but a
//! weaker one: without the single values, a change is shown only if the medians' intervals do not
//! overlap.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::align::{self, Asked};
use super::cells::{self, Measured};
use super::difference::{self, Fact};
use super::outputs::{self, Outputs};
use super::runs::{self, Basis, CellComparison, Change, Comparison, MetricComparison, RunSide};
use crate::record::metric;
use crate::record::metric::{METRICS, Metric};
use crate::record::{Counts, Record};
use inferometer_protocol::{Settings, TokenTiming};
use inferometer_stats::robust;
use inferometer_stats::robust::Interval;

/// Version of the file; a reader refuses a newer one.
pub const BASELINE_VERSION: u32 = 1;

/// Why a baseline cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("{path}: {message}; create the baseline again with `inferometer compare --save-baseline`")]
    Invalid { path: PathBuf, message: String },
    #[error("{path} was written by a newer inferometer (file version {found}, this one reads {BASELINE_VERSION})")]
    Newer { path: PathBuf, found: u64 },
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    pub baseline_version: u32,
    pub run: RunSide,
    pub cells: Vec<BaselineCell>,
    /// Facts about the run's program, machine, engine and scenario.
    pub facts: Vec<Fact>,
}

/// A cell of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineCell {
    pub name: String,
    pub engine: String,
    pub toggles: Settings,
    /// Prompt length in tokens; null for an uncut text or a conversation.
    pub length: Option<u32>,
    /// SHA-256 of its prompt, as in the record.
    pub prompt: Option<String>,
    pub counts: Counts,
    pub token_timing: Option<TokenTiming>,
    /// Token hashes of each distinct output, one per turn.
    pub outputs: BTreeSet<Vec<String>>,
    /// By metric key; null if not measured.
    pub metrics: BTreeMap<String, Option<robust::Summary>>,
}

/// The baseline of a run.
#[must_use]
pub fn of(record: &Record) -> Baseline {
    let cells = cells::measured(record);
    Baseline {
        baseline_version: BASELINE_VERSION,
        run: runs::side(record, &cells),
        cells: cells.iter().map(|measured| cell(record, measured)).collect(),
        facts: difference::facts(&record.manifest, record.manifest.scenario.engines.len() > 1),
    }
}

fn cell(record: &Record, measured: &Measured) -> BaselineCell {
    let figures = |metric: &Metric| (metric.key.to_owned(), robust::summarize(&measured.values(metric)));
    BaselineCell {
        name: measured.name().to_owned(),
        engine: measured.engine.to_owned(),
        toggles: measured.cell.toggles.clone(),
        length: measured.cell.length,
        prompt: runs::prompt(record, measured.cell.id).cloned(),
        counts: measured.counts,
        token_timing: measured.token_timing(),
        outputs: outputs::hashes(measured),
        metrics: METRICS.iter().chain([&metric::LOAD]).map(figures).collect(),
    }
}

/// Saves a run as a baseline, atomically replacing an older one.
///
/// # Errors
/// When the file cannot be written; the message names it.
pub fn save(record: &Record, path: &Path) -> Result<(), BaselineError> {
    let mut text = serde_json::to_vec_pretty(&of(record))
        .map_err(|e| BaselineError::Invalid { path: path.to_owned(), message: e.to_string() })?;
    text.push(b'\n');
    Ok(crate::fs::write_atomic(path, &text)?)
}

/// Reads a baseline. Ignores unknown fields.
///
/// # Errors
/// When the file is missing, not a baseline, or of a newer version.
pub fn read(path: &Path) -> Result<Baseline, BaselineError> {
    #[derive(Deserialize)]
    struct Head {
        baseline_version: u64,
    }
    let text = fs_err::read(path)?;
    let invalid = |e: serde_json::Error| BaselineError::Invalid {
        path: path.to_owned(),
        message: format!("not a baseline: {e}"),
    };
    let found = serde_json::from_slice::<Head>(&text).map_err(invalid)?.baseline_version;
    if found > u64::from(BASELINE_VERSION) {
        return Err(BaselineError::Newer { path: path.to_owned(), found });
    }
    serde_json::from_slice(&text).map_err(invalid)
}

/// Compares a run (B) with a baseline (A).
#[must_use]
pub fn against(baseline: &Baseline, record: &Record) -> Comparison {
    let cells = cells::measured(record);
    let alignment = align::align(&Asked::of(&baseline.cells), &Asked::of(&cells));
    let compared = alignment.pairs.iter().map(|(a, b)| {
        let (old, new) = (&baseline.cells[*a], &cells[*b]);
        CellComparison {
            name: old.name.clone(),
            cell_a: *a as u32,
            cell_b: *b as u32,
            counts_a: old.counts,
            counts_b: new.counts,
            prompts_differ: old.prompt.as_ref().zip(runs::prompt(record, *b as u32)).map(|(a, b)| a != b),
            outputs: Outputs::of(&old.outputs, &outputs::hashes(new)),
            metrics: METRICS.iter().chain([&metric::LOAD]).map(|metric| weigh(metric, old, new)).collect(),
        }
    });
    let facts = difference::facts(&record.manifest, record.manifest.scenario.engines.len() > 1);
    Comparison {
        comparison_version: runs::COMPARISON_VERSION,
        outcome: runs::Outcome::Trend,
        basis: Basis::Medians,
        a: baseline.run.clone(),
        b: runs::side(record, &cells),
        cells: compared.collect(),
        only_a: alignment.only_a.iter().map(|at| baseline.cells[*at].name.clone()).collect(),
        only_b: alignment.only_b.iter().map(|at| cells[*at].name().to_owned()).collect(),
        differences: difference::between(&baseline.facts, &facts, &alignment.set_aside),
        set_aside: alignment.set_aside,
        tests: 0,
        profiles: Vec::new(),
    }
}

/// Compares a metric by its medians. Both intervals hold together with at least the sum of their
/// confidences minus one; the ratio of the medians then lies between the ratios of their ends.
fn weigh(metric: &Metric, old: &BaselineCell, new: &Measured) -> MetricComparison {
    let a = old.metrics.get(metric.key).copied().flatten();
    let b = robust::summarize(&new.values(metric));
    let mut comparison = MetricComparison::unjudged(metric, a, b, old.token_timing == new.token_timing());
    let (Change::NotTested, Some(a), Some(b)) = (comparison.change, a, b) else { return comparison };
    if a.median > 0.0 && b.median > 0.0 {
        comparison.ratio = Some(b.median / a.median);
    }
    if let (Some(a), Some(b)) = (a.interval, b.interval)
        && a.lo > 0.0
        && b.lo > 0.0
    {
        let interval = Interval { lo: b.lo / a.hi, hi: b.hi / a.lo, confidence: a.confidence + b.confidence - 1.0 };
        comparison.interval = Some(interval);
        comparison.change = match interval {
            i if i.lo > 1.0 => Change::towards(metric, 2.0),
            i if i.hi < 1.0 => Change::towards(metric, 0.5),
            _ => Change::NotShown,
        };
    }
    comparison
}
