//! Go's benchmark format, which benchstat reads: a line for each iteration, so that benchstat has
//! the samples (<https://go.googlesource.com/proposal/+/master/design/14313-benchmark-format.md>).

use std::fmt::Write as _;

use super::{name, values};
use crate::record::Record;
use crate::record::metric::{Better, METRICS};
use crate::report::summary::{CellSummary, Summary};

/// Metrics of all valid iterations. Units are those of the metrics' names, so that two metrics with
/// one unit stay apart; lines `Unit` say which way is better.
#[must_use]
pub fn go(record: &Record) -> String {
    let summary = Summary::of(record);
    let mut text = format!("pkg: inferometer/{}\n", word(&summary.run.scenario));
    if let Some(cpu) = &summary.run.machine.cpu {
        let _ = writeln!(text, "cpu: {}", cpu.replace(['\n', '\r'], " "));
    }
    for metric in METRICS {
        let better = match metric.better {
            Better::Higher => "higher",
            Better::Lower => "lower",
        };
        let _ = writeln!(text, "Unit {} better={better}", metric.key);
    }
    for cell in &summary.cells {
        lines(&mut text, record, cell, &format!("Benchmark/{}", word(&name(&summary, cell))));
    }
    text
}

fn lines(text: &mut String, record: &Record, cell: &CellSummary, name: &str) {
    let columns: Vec<(&str, Vec<f64>)> = METRICS
        .iter()
        .map(|metric| (metric.key, values(record, cell.cell, metric)))
        // A metric that some iterations lack would stand in the wrong lines.
        .filter(|(_, values)| values.len() == cell.counts.ok)
        .collect();
    for iteration in 0..cell.counts.ok {
        let _ = write!(text, "{name} 1");
        for (key, values) in &columns {
            let _ = write!(text, " {} {key}", values[iteration]);
        }
        text.push('\n');
    }
}

/// A text without blanks, which separate fields.
fn word(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join("_")
}
