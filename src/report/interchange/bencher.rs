//! Bencher Metric Format: a map of benchmarks, each a map of measures with a value and its lower
//! and upper end (<https://bencher.dev/docs/reference/bencher-metric-format/>).

use serde_json::{Map, Value, json};

use super::{measured, name};
use crate::report::summary::Summary;

/// The medians and their intervals. Measures have the names of the metrics, with hyphens.
#[must_use]
pub fn bencher(summary: &Summary) -> String {
    let mut benchmarks = Map::new();
    for one in measured(summary) {
        let mut figure = json!({ "value": one.figures.median });
        if let Some(interval) = one.figures.interval {
            figure["lower_value"] = interval.lo.into();
            figure["upper_value"] = interval.hi.into();
        }
        let benchmark = benchmarks.entry(name(summary, one.cell)).or_insert_with(|| Value::Object(Map::new()));
        benchmark[one.metric.key.replace('_', "-")] = figure;
    }
    format!("{:#}\n", Value::Object(benchmarks))
}
