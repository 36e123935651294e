//! The custom formats of the action github-action-benchmark: a list of results, in one file those
//! of which more is better, in another those of which less is
//! (<https://github.com/benchmark-action/github-action-benchmark>).

use serde_json::{Value, json};

use super::{measured, name};
use crate::record::metric::Better;
use crate::report::summary::Summary;

/// The medians of all metrics that improve in this direction: for the tools `customBiggerIsBetter`
/// and `customSmallerIsBetter`.
#[must_use]
pub fn github(summary: &Summary, better: Better) -> String {
    let results: Vec<Value> = measured(summary)
        .filter(|one| one.metric.better == better)
        .map(|one| {
            let figures = one.figures;
            let over = match figures.n {
                0 => "stated without samples".to_owned(),
                n => format!("median of {n} iterations"),
            };
            let mut result = json!({
                "name": format!("{}: {}", name(summary, one.cell), one.metric.title),
                "unit": match one.metric.unit.symbol() { "" => "count", symbol => symbol },
                "value": figures.median,
                "extra": format!("{over}; run {}", summary.run.name),
            });
            if let Some(interval) = figures.interval {
                result["range"] = format!("{} to {}", interval.lo, interval.hi).into();
            }
            result
        })
        .collect();
    format!("{:#}\n", Value::Array(results))
}
