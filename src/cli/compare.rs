//! `inferometer compare`

use std::path::PathBuf;
use std::process::ExitCode;

use super::printer::{Format, Printer};
use super::run_folder;
use crate::compare::baseline;
use crate::compare::profile::flamegraphs;
use crate::compare::runs;
use crate::compare::runs::Comparison;
use crate::record;
use crate::report;
use crate::report::compare;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The runs A and B, each by folder or by name in the results folder; one run with --baseline
    /// or --save-baseline
    #[arg(value_name = "RUN", required = true, num_args = 1..=2)]
    runs: Vec<PathBuf>,
    /// Compare the run with this baseline file (A) instead of a run
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Save the run's medians and intervals to this file as a baseline for later runs
    #[arg(long, value_name = "FILE")]
    save_baseline: Option<PathBuf>,
    /// Write differential flamegraphs and function tables (CSV) of the profiling passes to this
    /// folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["baseline", "save_baseline"])]
    profiles: Option<PathBuf>,
    /// Show every metric, not only the headline metrics and those that changed
    #[arg(long)]
    all: bool,
    /// Format of the comparison
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Folder with the recorded runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

/// A slower run is not an error: comparing two runs gives a trend, not a verdict.
pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let read = |run: &PathBuf| anyhow::Ok(record::read(&run_folder(run, &args.results)?)?);
    match (args.runs.as_slice(), &args.baseline, &args.save_baseline) {
        ([a, b], None, None) => {
            let (a, b) = (read(a)?, read(b)?);
            let comparison = runs::compare(&a, &b);
            args.show(&comparison, printer);
            if let Some(folder) = &args.profiles {
                let drawn = flamegraphs(&a, &b, &comparison.profiles);
                if comparison.profiles.iter().all(|cell| cell.phases.is_empty()) {
                    anyhow::bail!("no profiles to compare: run both with `--profile`, or `[profile]` in the scenario");
                }
                report::write_profiles(folder, &comparison.profiles, &drawn)?;
                printer.note(format_args!("profiles: {}", folder.display()));
            }
        }
        ([run], None, None) => anyhow::bail!(
            "nothing to compare {} with: give a second run, or a baseline with --baseline FILE",
            run.display()
        ),
        ([run], old, new) => {
            // Read the old baseline before the new one may replace it.
            let old = old.as_deref().map(baseline::read).transpose()?;
            let record = read(run)?;
            if let Some(old) = old {
                args.show(&baseline::against(&old, &record), printer);
            }
            if let Some(new) = new {
                baseline::save(&record, new)?;
                printer.note(format_args!("baseline: {}", new.display()));
            }
        }
        _ => anyhow::bail!("give exactly one run with --baseline or --save-baseline"),
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn show(&self, comparison: &Comparison, printer: &Printer) {
        printer.data(match self.format {
            Format::Table => compare::table(comparison, self.all),
            Format::Json => compare::json(comparison),
            Format::Csv => compare::csv(comparison),
            Format::Md => compare::markdown(comparison),
        });
    }
}
