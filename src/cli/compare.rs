//! `inferometer compare`

use std::path::PathBuf;
use std::process::ExitCode;

use super::printer::{Format, Printer};
use super::{open, run_folder};
use crate::compare::profile::flamegraphs;
use crate::compare::runs;
use crate::compare::runs::Comparison;
use crate::report;
use crate::report::compare;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of run A, or its name in the results folder
    #[arg(value_name = "RUN_A")]
    a: PathBuf,
    /// Folder or name of run B
    #[arg(value_name = "RUN_B")]
    b: PathBuf,
    /// Write differential flamegraphs and function tables (CSV) of the profiling passes to this
    /// folder
    #[arg(long, value_name = "DIR")]
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
    let read = |run: &PathBuf| open(&run_folder(run, &args.results)?, printer);
    let (a, b) = (read(&args.a)?, read(&args.b)?);
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
