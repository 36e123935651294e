//! The figures of a run in the formats of other programs. A format is one file here and one row in
//! `cli/export.rs`. What was not measured is left out.

mod bencher;
mod github;
mod gotest;
mod llama_bench;
mod openmetrics;
mod parquet;

pub use bencher::bencher;
pub use github::github;
pub use gotest::go;
pub use llama_bench::{llama_bench, llama_bench_sql};
pub use openmetrics::openmetrics;
pub use parquet::parquet;

use super::summary::{CellSummary, Summary};
use crate::record::metric::{self, Metric};
use crate::record::{Record, RequestRow, of_valid};
use inferometer_stats::robust;

/// A metric of a cell that was measured.
struct Measured<'a> {
    cell: &'a CellSummary,
    metric: &'static Metric,
    figures: &'a robust::Summary,
}

/// Every measured metric of every cell, cell by cell in the order of the tables.
fn measured(summary: &Summary) -> impl Iterator<Item = Measured<'_>> {
    summary.cells.iter().flat_map(|cell| {
        let metrics = metric::METRICS.iter();
        metrics.filter_map(move |metric| Some(Measured { cell, metric, figures: cell.metric(metric.key)? }))
    })
}

/// A name for a cell that says what was run: the run's title, and the cell's label if it has one.
fn name(summary: &Summary, cell: &CellSummary) -> String {
    let title = if summary.run.title.is_empty() { &summary.run.scenario } else { &summary.run.title };
    match cell.label.as_str() {
        "" => title.clone(),
        label => format!("{title}: {label}"),
    }
}

/// The values of a metric in the valid iterations of a cell, in their order.
fn values(record: &Record, cell: u32, metric: &Metric) -> Vec<f64> {
    let is_of_cell = |row: &&RequestRow| !row.warmup && row.cell == cell;
    let rows: Vec<&RequestRow> = record.requests.iter().filter(is_of_cell).collect();
    metric::iterations(&of_valid(&rows)).filter_map(|iteration| metric.of_iteration(iteration)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::metric::Better;

    fn sound() -> (Record, Summary) {
        let record = crate::record::open(std::path::Path::new("tests/fixtures/record-v1-sound")).unwrap();
        let summary = Summary::of(&record);
        assert!(summary.cells.iter().all(|cell| cell.counts.ok > 1), "the formats have something to say");
        (record, summary)
    }

    #[test]
    fn every_format_has_each_measured_metric_once() {
        let (record, summary) = sound();
        let count = measured(&summary).count();
        let bencher: serde_json::Value = serde_json::from_str(&bencher(&summary)).unwrap();
        let measures = bencher.as_object().unwrap().values().map(|of| of.as_object().unwrap().len());
        assert_eq!(measures.sum::<usize>(), count);
        let cell = &summary.cells[0];
        let e2e = cell.metric("e2e_ms").unwrap();
        assert_eq!(bencher[name(&summary, cell)]["e2e-ms"]["value"], e2e.median);
        let of = |better| serde_json::from_str::<Vec<serde_json::Value>>(&github(&summary, better)).unwrap();
        assert_eq!(of(Better::Higher).len() + of(Better::Lower).len(), count);
        assert!(of(Better::Higher).iter().all(|result| result["unit"] == "tok/s" || result["unit"] == "count"));
        let text = openmetrics(&summary);
        let is_median = |line: &&str| !line.starts_with('#') && !line.contains("bound=");
        assert_eq!(text.lines().filter(is_median).count(), count);
        assert!(text.ends_with("# EOF\n") && text.contains(&format!("}} {}\n", e2e.median)), "{text}");
        let lines = go(&record);
        let iterations: usize = summary.cells.iter().map(|cell| cell.counts.ok).sum();
        assert_eq!(lines.lines().filter(|line| line.starts_with("Benchmark/")).count(), iterations);
        assert!(lines.contains("Unit decode_tps better=higher") && lines.contains(" e2e_ms"), "{lines}");
    }

    /// The import of SQL finds the means of the JSON lines.
    #[test]
    fn statements_of_llama_bench_have_the_rows_of_its_lines() {
        let (record, _) = sound();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs_err::write(file.path(), llama_bench_sql(&record)).unwrap();
        let (format, runs) = crate::import::read(file.path(), None).unwrap();
        assert_eq!(format, crate::import::Format::LlamaBench);
        let cells = runs.iter().flat_map(|run| &run.cells);
        let found: Vec<f64> = cells.flat_map(|cell| cell.averages.iter().map(|average| average.value)).collect();
        let lines = llama_bench(&record);
        let rows = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let wanted: Vec<f64> = rows.map(|row| row["avg_ts"].as_f64().unwrap()).collect();
        assert!(!wanted.is_empty());
        assert_eq!(found, wanted);
    }

    /// The mean of llama-bench is of the rates, and its times are of as many tokens as it says.
    #[test]
    fn rows_of_llama_bench_agree_with_themselves() {
        let (record, _) = sound();
        let rows: Vec<serde_json::Value> =
            llama_bench(&record).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!rows.is_empty());
        for row in &rows {
            let number = |key: &str| row[key].as_f64().unwrap();
            let tokens = number("n_prompt") + number("n_gen");
            let samples =
                |key: &str| -> Vec<f64> { row[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
            let (ns, ts) = (samples("samples_ns"), samples("samples_ts"));
            assert!((ts.iter().sum::<f64>() / ts.len() as f64 - number("avg_ts")).abs() < 1e-9 * number("avg_ts"));
            for (ns, ts) in ns.iter().zip(&ts) {
                assert!(
                    (tokens / ns * 1e9 / ts - 1.0).abs() < 1e-3,
                    "{tokens} tokens in {ns} ns are not {ts} a second"
                );
            }
        }
    }
}
