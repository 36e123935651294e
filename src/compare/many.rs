//! Compares several runs with the first one.

use serde::{Deserialize, Serialize};

use super::difference::{self, RunDifference};
use super::runs::{self, Comparison, Outcome};
use crate::record::Record;

/// Version of the JSON of [`ManyRuns`]; fields are only added under the same number.
pub const MANY_RUNS_VERSION: u32 = 1;

/// Several runs, each compared with the first one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManyRuns {
    pub many_runs_version: u32,
    /// Always `trend`.
    pub outcome: Outcome,
    /// Facts that are not the same in all runs, with a value for each run.
    pub differences: Vec<RunDifference>,
    /// In the order of the runs. A is the same run in all of them.
    pub comparisons: Vec<Comparison>,
    /// Number of tests over which false discoveries are controlled: those of all comparisons.
    pub tests: usize,
}

/// Compares every other run with `a`.
#[must_use]
pub fn compare(a: &Record, others: &[Record]) -> ManyRuns {
    let mut comparisons: Vec<Comparison> = others.iter().map(|b| runs::compare(a, b)).collect();
    // Each pair was judged alone. All of them are looked at together, so they are judged together.
    let metrics = comparisons.iter_mut().flat_map(|of| &mut of.cells).flat_map(|cell| &mut cell.metrics);
    let tests = runs::judge(metrics);
    comparisons.iter_mut().for_each(|of| of.tests = tests);
    let records = || std::iter::once(a).chain(others);
    let by_label = records().any(|record| record.manifest.scenario.engines.len() > 1);
    let facts: Vec<Vec<difference::Fact>> =
        records().map(|record| difference::facts(&record.manifest, by_label)).collect();
    let set_aside: Vec<_> = comparisons.iter().flat_map(|of| of.set_aside.iter().cloned()).collect();
    ManyRuns {
        many_runs_version: MANY_RUNS_VERSION,
        outcome: Outcome::Trend,
        differences: difference::among(&facts.iter().map(Vec::as_slice).collect::<Vec<_>>(), &set_aside),
        comparisons,
        tests,
    }
}
