//! `inferometer compare`

use std::path::PathBuf;
use std::process::ExitCode;

use super::printer::{Format, Printer};
use super::{open, run_folder};
use crate::compare::many;
use crate::compare::many::ManyRuns;
use crate::compare::profile::flamegraphs;
use crate::compare::runs::Comparison;
use crate::record::Record;
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
    /// Further runs; each is compared to A
    #[arg(value_name = "RUN")]
    more: Vec<PathBuf>,
    /// Write differential flamegraphs and function tables (CSV) of the profiling passes to this
    /// folder; with more than two runs into one folder for each, named B, C and so on
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

/// A slower run is not an error: comparing runs gives a trend, not a verdict.
pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let read = |run: &PathBuf| open(&run_folder(run, &args.results)?, printer);
    let records: Vec<Record> = [&args.a, &args.b].into_iter().chain(&args.more).map(read).collect::<Result<_, _>>()?;
    let (a, others) = records.split_first().expect("clap asks for two runs");
    let compared = many::compare(a, others);
    printer.data(match compared.comparisons.as_slice() {
        [two] => args.shown(two),
        _ => args.all_shown(&compared),
    });
    if let Some(folder) = &args.profiles {
        if compared.comparisons.iter().flat_map(|of| &of.profiles).all(|cell| cell.phases.is_empty()) {
            anyhow::bail!("no profiles to compare: run all of them with `--profile`, or `[profile]` in the scenario");
        }
        for (at, (record, of)) in others.iter().zip(&compared.comparisons).enumerate() {
            let folder = if others.len() == 1 { folder.clone() } else { folder.join(compare::many::letter(at + 1)) };
            report::write_profiles(&folder, &of.profiles, &flamegraphs(a, record, &of.profiles))?;
        }
        printer.note(format_args!("profiles: {}", folder.display()));
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn shown(&self, comparison: &Comparison) -> String {
        match self.format {
            Format::Table => compare::table(comparison, self.all),
            Format::Json => compare::json(comparison),
            Format::Csv => compare::csv(std::slice::from_ref(comparison)),
            Format::Md => compare::markdown(comparison),
        }
    }

    fn all_shown(&self, compared: &ManyRuns) -> String {
        match self.format {
            Format::Table => compare::many::table(compared, self.all),
            Format::Json => compare::json(compared),
            Format::Csv => compare::csv(&compared.comparisons),
            Format::Md => compare::many::markdown(compared),
        }
    }
}
