//! `inferometer history`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::open;
use super::printer::{Format, Printer};
use crate::compare::history;
use crate::compare::history::{Entry, Filter};
use crate::record::manifest;
use crate::record::metric;
use crate::record::metric::{DECODE_TPS, ITL_P99_MS, METRICS, Metric, PEAK_MEMORY, PREFILL_TPS, TTFT_MS};
use crate::report::history as shown;

/// Metrics shown by default.
const USUAL: [&str; 4] = [PREFILL_TPS, DECODE_TPS, TTFT_MS, ITL_P99_MS];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with the recorded runs
    #[arg(value_name = "RESULTS_DIR", default_value = "results")]
    results: PathBuf,
    /// Metric to show, by its name in summary.json, such as `decode_tps`, or `all`; may be repeated
    #[arg(long, value_name = "METRIC", value_delimiter = ',')]
    metric: Vec<String>,
    /// Only cells whose name contains this text
    #[arg(long, value_name = "TEXT")]
    cell: Option<String>,
    /// Only runs of the scenario with this name
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Also show series that only one run measured
    #[arg(long)]
    all: bool,
    /// Format of the history on stdout
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Folder for the reports
    #[arg(long, value_name = "DIR", default_value = "reports")]
    reports: PathBuf,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let metrics = metrics(&args.metric)?;
    let runs = read_all(&args.results, printer)?;
    if runs.is_empty() {
        bail!("no runs in {}; record one with `inferometer run SCENARIO`", args.results.display());
    }
    let filter = Filter { metrics, cell: args.cell.clone(), scenario: args.scenario.clone() };
    let history = history::history(runs, &filter);
    if history.series.is_empty() {
        bail!("none of the {} in {} matches --metric, --cell and --scenario", history.runs, args.results.display());
    }
    printer.data(match args.format {
        Format::Table if args.all => shown::table(&history),
        Format::Table => several(history.clone()),
        Format::Json => shown::json(&history),
        Format::Csv => shown::csv(&history),
        Format::Md => shown::markdown(&history),
    });
    let page = shown::write(&history, &args.reports)?;
    printer.note(format_args!("history: {}", page.display()));
    Ok(ExitCode::SUCCESS)
}

/// The series of several runs for the terminal, and how many are left out.
fn several(mut history: history::History) -> String {
    let hidden = history.leave_out_single();
    let mut out = shown::table(&history);
    if hidden > 0 {
        out.push_str(&format!("{hidden} series with one run are not shown; --all shows them\n"));
    }
    out
}

fn metrics(names: &[String]) -> anyhow::Result<Vec<&'static Metric>> {
    let known = || METRICS.iter().chain([&metric::LOAD]);
    match names {
        [] => Ok(known().filter(|m| USUAL.contains(&m.key) || PEAK_MEMORY.contains(&m.key)).collect()),
        [all] if all == "all" => Ok(known().collect()),
        names => names
            .iter()
            .map(|name| {
                let keys = || known().map(|m| m.key).collect::<Vec<_>>().join(", ");
                metric::find(name).with_context(|| format!("unknown metric `{name}`: use one of {}, or all", keys()))
            })
            .collect(),
    }
}

/// Reads every run in the folder. Unreadable ones are reported and skipped; A/B sessions are not
/// runs.
fn read_all(results: &Path, printer: &Printer) -> anyhow::Result<Vec<Entry>> {
    let mut folders = Vec::new();
    for entry in fs_err::read_dir(results).context("cannot read the results folder; name it with --results")? {
        let path = entry?.path();
        if path.is_dir() && path.join(manifest::FILE).exists() {
            folders.push(path);
        }
    }
    folders.sort();
    let mut runs = Vec::new();
    for folder in folders {
        let opened = open(&folder, printer).map_err(|e| e.to_string());
        let entry = opened.and_then(|record| Entry::of(&record));
        match entry {
            Ok(entry) => runs.push(entry),
            Err(problem) => printer.warning(format_args!("skipped {}: {problem}", folder.display())),
        }
    }
    Ok(runs)
}
