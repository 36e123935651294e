//! Compares two runs: tests every metric of every cell that both have. The result is always a
//! *trend*.
//!
//! The runs were measured in different sessions. Besides the build, their difference includes the
//! time of day, the state of the machine and the luck of a process's memory layout, so it is never
//! a verdict.

use serde::{Deserialize, Serialize};

use super::align::{self, Asked, SetAside};
use super::cells::{self, Measured};
use super::difference::{self, Difference};
use super::outputs::{self, Outputs};
use super::profile::{self, Aligned, CellProfiles};
use crate::record::metric;
use crate::record::metric::{Better, METRICS, Metric, Unit};
use crate::record::{Counts, FinishState, Imported, Record, TokenIndex};
use inferometer_host::simulated;
use inferometer_stats::robust;
use inferometer_stats::robust::Interval;
use inferometer_stats::{multiple, two_sample};

/// Version of the comparison's JSON; fields are only added under the same number.
pub const COMPARISON_VERSION: u32 = 1;
/// Allowed share of false discoveries among the metrics called worse or better.
pub const FALSE_DISCOVERIES: f64 = 0.05;
/// Two-sided confidence of each ratio's interval.
pub const CONFIDENCE: f64 = 0.95;

/// The comparison of two runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub comparison_version: u32,
    /// Always `trend`: runs from different sessions give no verdict.
    pub outcome: Outcome,
    pub a: RunSide,
    pub b: RunSide,
    /// Overall differences between the runs, ignored when cells were matched.
    pub set_aside: Vec<SetAside>,
    pub differences: Vec<Difference>,
    /// In A's order.
    pub cells: Vec<CellComparison>,
    pub only_a: Vec<String>,
    pub only_b: Vec<String>,
    /// Number of tests over which false discoveries are controlled.
    pub tests: usize,
    /// Their profiling passes; empty if neither run has one.
    #[serde(default)]
    pub profiles: Vec<CellProfiles>,
}

/// Possible outcomes of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Trend,
}

/// One of the two runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSide {
    pub run: String,
    pub scenario: String,
    pub started_utc: String,
    pub state: FinishState,
    /// Number of run segments: more than one for a resumed run.
    #[serde(rename = "sessions")]
    pub segments: u32,
    /// Commit of the working folder; null without one.
    pub commit: Option<String>,
    pub counts: Counts,
    pub synthetic: bool,
    /// The program that measured, if it was another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<String>,
    /// Outputs can be compared by their hashes only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

/// A cell that both runs have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellComparison {
    /// A's name for the cell, or B's if A's is only the engine's.
    pub name: String,
    pub cell_a: u32,
    pub cell_b: u32,
    pub counts_a: Counts,
    pub counts_b: Counts,
    /// Whether the prompts differ; null if a record does not have them.
    pub prompts_differ: Option<bool>,
    pub outputs: Outputs,
    /// In the order of the table of metrics, including those not measured.
    pub metrics: Vec<MetricComparison>,
}

/// A metric of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricComparison {
    /// Key of the metric.
    pub metric: String,
    /// Null if not measured.
    pub a: Option<robust::Summary>,
    pub b: Option<robust::Summary>,
    /// B / A: the Hodges-Lehmann shift of the logarithms. Null if undefined.
    pub ratio: Option<f64>,
    /// Interval of the ratio; null if there are too few values.
    pub interval: Option<Interval>,
    /// Two-sided Mann-Whitney test; null if not tested.
    pub p_value: Option<f64>,
    /// Adjusted over all tests of the comparison, by Benjamini and Hochberg.
    pub p_adjusted: Option<f64>,
    pub change: Change,
}

/// The result for a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Worse,
    Better,
    /// The test shows no difference, which does not prove equality.
    NotShown,
    /// Too few values for any test to reach the level, or a value without a logarithm.
    NotTested,
    /// Only one side stamps every token, or another program measured one side: never ranked.
    NotRanked,
    /// A side has no value.
    NotMeasured,
}

impl Change {
    /// Meaning of a shown ratio for this metric.
    #[must_use]
    pub fn towards(metric: &Metric, ratio: f64) -> Self {
        if (ratio > 1.0) == (metric.better == Better::Higher) { Change::Better } else { Change::Worse }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Change::Worse => "worse",
            Change::Better => "better",
            Change::NotShown => "not shown",
            Change::NotTested => "not tested",
            Change::NotRanked => "not ranked",
            Change::NotMeasured => "not measured",
        }
    }
}

impl MetricComparison {
    /// The two sides before the test: `NotTested`, unless a side was not measured or the sides
    /// cannot be ranked because only one stamps every token.
    pub(super) fn unjudged(
        metric: &Metric,
        a: Option<robust::Summary>,
        b: Option<robust::Summary>,
        same_timing: bool,
    ) -> Self {
        let change = match (a, b) {
            (None, _) | (_, None) => Change::NotMeasured,
            _ if is_timed(metric) && !same_timing => Change::NotRanked,
            _ => Change::NotTested,
        };
        let metric = metric.key.to_owned();
        Self { metric, a, b, ratio: None, interval: None, p_value: None, p_adjusted: None, change }
    }
}

impl CellComparison {
    #[must_use]
    pub fn metric(&self, key: &str) -> Option<&MetricComparison> {
        self.metrics.iter().find(|m| m.metric == key)
    }
}

/// Compares two runs.
#[must_use]
pub fn compare(a: &Record, b: &Record) -> Comparison {
    let (cells_a, cells_b) = (cells::measured(a), cells::measured(b));
    let (tokens_a, tokens_b) = (TokenIndex::new(&a.tokens), TokenIndex::new(&b.tokens));
    let alignment = align::align(&Asked::of(&cells_a), &Asked::of(&cells_b));
    let mut compared: Vec<CellComparison> = alignment
        .pairs
        .iter()
        .map(|(at_a, at_b)| {
            let (one, other) = (&cells_a[*at_a], &cells_b[*at_b]);
            CellComparison {
                name: if one.cell.label.is_empty() { other.name() } else { one.name() }.to_owned(),
                cell_a: one.cell.id,
                cell_b: other.cell.id,
                counts_a: one.counts,
                counts_b: other.counts,
                prompts_differ: prompt(a, one.cell.id).zip(prompt(b, other.cell.id)).map(|(a, b)| a != b),
                outputs: outputs::compare((one, &tokens_a), (other, &tokens_b)),
                metrics: METRICS.iter().chain([&metric::LOAD]).map(|m| test(m, one, other)).collect(),
            }
        })
        .collect();
    let tests = judge(compared.iter_mut().flat_map(|cell| &mut cell.metrics));
    let aligned: Vec<Aligned> =
        compared.iter().map(|cell| Aligned { name: &cell.name, cell_a: cell.cell_a, cell_b: cell.cell_b }).collect();
    let profiles = profile::profiles(a, b, &aligned);
    // If each run has one engine, the two are compared whatever their labels.
    let by_label = [a, b].iter().any(|record| record.manifest.scenario.engines.len() > 1);
    let facts = |record: &Record| difference::facts(&record.manifest, by_label);
    let named = |cells: &[Measured], at: &[usize]| at.iter().map(|at| cells[*at].name().to_owned()).collect();
    Comparison {
        comparison_version: COMPARISON_VERSION,
        outcome: Outcome::Trend,
        a: side(a, &cells_a),
        b: side(b, &cells_b),
        differences: difference::between(&facts(a), &facts(b), &alignment.set_aside),
        cells: compared,
        only_a: named(&cells_a, &alignment.only_a),
        only_b: named(&cells_b, &alignment.only_b),
        set_aside: alignment.set_aside,
        tests,
        profiles,
    }
}

/// Describes a run, given its cells.
pub(super) fn side(record: &Record, cells: &[Measured]) -> RunSide {
    let manifest = &record.manifest;
    RunSide {
        run: manifest.run.clone(),
        scenario: manifest.scenario.name.clone(),
        started_utc: manifest.origin_utc.clone(),
        state: manifest.state,
        segments: manifest.segments,
        commit: difference::commit(manifest),
        counts: cells.iter().fold(Counts::default(), |sum, cell| sum.plus(cell.counts)),
        imported: manifest.imported.as_ref().map(Imported::by),
        redacted: manifest.redacted.is_some(),
        synthetic: manifest
            .hosts
            .iter()
            .any(|host| host.receipt.engine != simulated::NAME && host.receipt.model.synthetic),
    }
}

/// Hash of a cell's prompt.
pub(super) fn prompt(record: &Record, cell: u32) -> Option<&String> {
    record.manifest.prompts.get(&cell.to_string())
}

/// Tests a metric of a cell's two sides. [`judge`] decides over all tests together which are worse
/// or better.
pub(super) fn test(metric: &Metric, a: &Measured, b: &Measured) -> MetricComparison {
    let (values_a, values_b) = (a.values(metric), b.values(metric));
    let (figures_a, figures_b) = (a.figures(metric), b.figures(metric));
    let same_timing = a.token_timing() == b.token_timing();
    let mut comparison = MetricComparison::unjudged(metric, figures_a, figures_b, same_timing);
    if comparison.change == Change::NotTested && tool(a) != tool(b) {
        comparison.change = Change::NotRanked;
    }
    if comparison.change != Change::NotTested {
        return comparison;
    }
    // A figure without samples has a ratio and is never tested.
    if let (Some(a), Some(b)) = (figures_a, figures_b)
        && (a.n == 0 || b.n == 0)
    {
        comparison.ratio = Some(b.median / a.median).filter(|ratio| ratio.is_finite() && *ratio > 0.0);
        return comparison;
    }
    let (Some(a), Some(b)) = (logarithms(&values_a), logarithms(&values_b)) else { return comparison };
    let shift = two_sample::shift(&a, &b, 1.0 - CONFIDENCE);
    comparison.ratio = shift.map(|s| s.estimate.exp());
    // Without an interval the samples are too small for any test at this level.
    if let Some(interval) = shift.and_then(|s| s.interval) {
        comparison.interval = Some(Interval { lo: interval.lo.exp(), hi: interval.hi.exp(), ..interval });
        comparison.p_value = two_sample::mann_whitney(&a, &b).map(|test| test.p_value);
    }
    comparison
}

/// The program that measured a side, if it was another one. Programs define their figures
/// differently.
fn tool<'a>(side: &Measured<'a>) -> Option<&'a str> {
    side.imported.map(|imported| imported.tool.as_str())
}

/// Whether the metric is based on token stamps, which are not comparable between exact and inexact
/// timing.
fn is_timed(metric: &Metric) -> bool {
    matches!(metric.unit, Unit::TokensPerSecond | Unit::Milliseconds)
}

fn logarithms(values: &[f64]) -> Option<Vec<f64>> {
    values.iter().map(|v| (*v > 0.0).then(|| v.ln())).collect()
}

/// Decides for every tested metric whether a change is shown, with a share of at most
/// [`FALSE_DISCOVERIES`] false ones. Returns the number of tests.
pub(super) fn judge<'a>(metrics: impl Iterator<Item = &'a mut MetricComparison>) -> usize {
    let mut tested: Vec<&mut MetricComparison> = metrics.filter(|m| m.p_value.is_some()).collect();
    let p_values: Vec<f64> = tested.iter().filter_map(|m| m.p_value).collect();
    for (comparison, adjusted) in tested.iter_mut().zip(multiple::benjamini_hochberg(&p_values)) {
        comparison.p_adjusted = Some(adjusted);
        comparison.change = match (comparison.ratio, metric::find(&comparison.metric)) {
            (Some(ratio), Some(metric)) if adjusted <= FALSE_DISCOVERIES && ratio != 1.0 => {
                Change::towards(metric, ratio)
            }
            _ => Change::NotShown,
        };
    }
    p_values.len()
}
