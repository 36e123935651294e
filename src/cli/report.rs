//! `inferometer report`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::printer::{Format, Printer};
use super::{Folders, open, open_session, run_folder};
use crate::record;
use crate::record::Record;
use crate::report;
use crate::report::ab;
use crate::report::ab::{AbSummary, Telling};
use crate::report::summary::Summary;
use crate::report::{export, markdown, terminal};
use crate::run::profile::files;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the run or A/B session, or its name in the results folder; default: the newest one
    #[arg(value_name = "RUN_DIR")]
    run: Option<PathBuf>,
    /// Also print the summary to stdout in this format
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    folders: Folders,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let folder = find(args)?;
    let reports = &args.folders.reports;
    let page = if record::ab::is_session(&folder) {
        session(&folder, reports, args.format, printer)?
    } else {
        let record = open(&folder, printer)?;
        make_profiles(&folder, &record, printer);
        let page = report::write(&record, reports)?;
        if let Some(format) = args.format {
            show(&Summary::of(&record), format, printer);
        }
        page
    };
    match args.format {
        Some(_) => printer.note(format_args!("report: {}", page.display())),
        None => printer.line(page.display()),
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of an A/B session, and prints its summary if a format was requested.
fn session(folder: &Path, reports: &Path, format: Option<Format>, printer: &Printer) -> anyhow::Result<PathBuf> {
    let record = open_session(folder, printer)?;
    for (side, of) in [("a", &record.a), ("b", &record.b)] {
        make_profiles(&folder.join(side), of, printer);
    }
    let summary = AbSummary::of(&record, Telling::default());
    let told = match format {
        Some(Format::Csv) => bail!(
            "no CSV summary for an A/B session: its pairs are in {}, its sides' runs in a/ and b/",
            folder.join(record::ab::PAIRS).display()
        ),
        Some(Format::Table) => Some(ab::terminal::render(&summary)),
        Some(Format::Json) => Some(summary.to_json()),
        Some(Format::Md) => Some(ab::markdown::render(&summary)),
        None => None,
    };
    let page = ab::write(&record, &summary, reports)?;
    told.into_iter().for_each(|told| printer.data(told));
    Ok(page)
}

/// Regenerates the files of a record's profiles. A record that cannot be written to still gets a
/// report.
fn make_profiles(folder: &Path, record: &Record, printer: &Printer) {
    if let Err(problem) = files::write(folder, record) {
        printer.warning(format_args!("cannot regenerate the profile files: {problem}"));
    }
}

/// Prints a summary in a format.
pub fn show(summary: &Summary, format: Format, printer: &Printer) {
    match format {
        Format::Table => {
            printer.data(terminal::render(summary));
            printer.dimmed(&terminal::rejected(summary));
        }
        Format::Json => printer.data(summary.to_json()),
        Format::Csv => printer.data(export::csv(summary)),
        Format::Md => printer.data(markdown::render(summary)),
    }
}

fn find(args: &Args) -> anyhow::Result<PathBuf> {
    let results = &args.folders.results;
    let Some(named) = &args.run else { return newest(results) };
    run_folder(named, results)
}

/// The most recently started run or session. Folders with an unreadable manifest sort first.
fn newest(results: &Path) -> anyhow::Result<PathBuf> {
    let hint = "record one with `inferometer run SCENARIO`, or name the folder with --results";
    let mut runs = Vec::new();
    for entry in fs_err::read_dir(results).with_context(|| hint)? {
        let path = entry?.path();
        let started = if record::ab::is_session(&path) {
            record::ab::manifest(&path).map(|manifest| manifest.origin_utc)
        } else if path.join("run.json").is_file() {
            record::manifest::read(&path).map(|manifest| manifest.origin_utc)
        } else {
            continue;
        };
        runs.push((started.unwrap_or_default(), path));
    }
    let newest = runs.into_iter().max().with_context(|| format!("no runs in {}; {hint}", results.display()))?;
    Ok(newest.1)
}
