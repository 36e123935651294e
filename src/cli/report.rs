//! `inferometer report`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use super::printer::{Format, Printer};
use super::{Folders, run_folder};
use crate::record::{self, Record};
use crate::report::summary::Summary;
use crate::report::{self, export, markdown, table};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the run, or its name in the results folder; without it the newest run there
    #[arg(value_name = "RUN_DIR")]
    run: Option<PathBuf>,
    /// Print the summary to stdout in this format, beside writing the report
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    folders: Folders,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let folder = find(args)?;
    let record = record::read(&folder)?;
    let page = report::write(&record, &args.folders.reports)?;
    match args.format {
        Some(format) => {
            printer.data(render(&record, format));
            printer.note(format_args!("report: {}", page.display()));
        }
        None => printer.line(page.display()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The summary of a record in a format for stdout, ended by a newline.
fn render(record: &Record, format: Format) -> String {
    let summary = Summary::of(record);
    match format {
        Format::Table => table::render(&summary),
        Format::Json => summary.to_json(),
        Format::Csv => export::csv(&summary),
        Format::Md => markdown::render(&summary),
    }
}

fn find(args: &Args) -> anyhow::Result<PathBuf> {
    let results = &args.folders.results;
    let Some(named) = &args.run else { return newest(results) };
    run_folder(named, results)
}

/// The run that started last. Folders whose run.json cannot be read come before all others.
fn newest(results: &Path) -> anyhow::Result<PathBuf> {
    let hint = "make one with `inferometer run SCENARIO`, or name the folder with --results";
    let mut runs = Vec::new();
    for entry in fs_err::read_dir(results).with_context(|| hint)? {
        let path = entry?.path();
        if path.join("run.json").is_file() {
            let started = record::manifest::read(&path).map(|manifest| manifest.origin_utc).unwrap_or_default();
            runs.push((started, path));
        }
    }
    let newest = runs.into_iter().max().with_context(|| format!("no run in {}; {hint}", results.display()))?;
    Ok(newest.1)
}
