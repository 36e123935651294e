//! OpenMetrics text, which Prometheus reads
//! (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).

use std::fmt::Write as _;

use super::{Measured, measured};
use crate::report::summary::Summary;

/// The medians as gauges, a family for each metric; the ends of the interval have the label
/// `bound`.
#[must_use]
pub fn openmetrics(summary: &Summary) -> String {
    let mut all: Vec<Measured<'_>> = measured(summary).collect();
    // The samples of a family stand together.
    all.sort_by_key(|one| one.metric.key);
    let mut text = String::new();
    let mut family = "";
    for one in all {
        let key = one.metric.key;
        if key != family {
            let _ = writeln!(
                text,
                "# TYPE inferometer_{key} gauge\n# HELP inferometer_{key} {}",
                escaped(one.metric.meaning)
            );
            family = key;
        }
        let labels = format!(
            "scenario=\"{}\",run=\"{}\",cell=\"{}\",engine=\"{}\"",
            escaped(&summary.run.scenario),
            escaped(&summary.run.name),
            escaped(&one.cell.label),
            escaped(&one.cell.engine)
        );
        let _ = writeln!(text, "inferometer_{key}{{{labels}}} {}", one.figures.median);
        if let Some(interval) = one.figures.interval {
            for (bound, value) in [("lower", interval.lo), ("upper", interval.hi)] {
                let _ = writeln!(text, "inferometer_{key}{{{labels},bound=\"{bound}\"}} {value}");
            }
        }
    }
    text.push_str("# EOF\n");
    text
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
