//! `inferometer compare`

use std::path::PathBuf;
use std::process::ExitCode;

use super::printer::{Format, Printer};
use super::run_folder;
use crate::compare::runs;
use crate::record;
use crate::report::compare;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the run to compare with, or its name in the results folder
    #[arg(value_name = "RUN_A")]
    a: PathBuf,
    /// Folder or name of the run that is compared
    #[arg(value_name = "RUN_B")]
    b: PathBuf,
    /// Show every metric, not only the headlines and what changed
    #[arg(long)]
    all: bool,
    /// How the comparison is laid out
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Folder that holds the records of runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

/// A slower run is no error: two sessions give a trend, and a trend is no verdict.
pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let (a, b) = (run_folder(&args.a, &args.results)?, run_folder(&args.b, &args.results)?);
    let comparison = runs::compare(&record::read(&a)?, &record::read(&b)?);
    printer.data(match args.format {
        Format::Table => compare::table(&comparison, args.all),
        Format::Json => compare::json(&comparison),
        Format::Csv => compare::csv(&comparison),
        Format::Md => compare::markdown(&comparison),
    });
    Ok(ExitCode::SUCCESS)
}
