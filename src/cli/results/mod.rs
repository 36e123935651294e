//! `inferometer results`

mod prune;
mod redact;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;

use super::printer::{Format, Layout, Printer};
use super::run_folder;
use crate::record::folder;
use crate::report::results::{self, Entry, Known};
use crate::report::table::Table;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the runs and A/B sessions in the results folder
    List(List),
    /// Show what one record contains: engines, model, machine, commit, validity, files
    Show(Show),
    /// Write a copy of a record without prompts, texts, paths, names and secrets, to share it
    Redact(redact::Args),
    /// Remove old records
    Prune(prune::Args),
}

/// Where records are.
#[derive(Debug, clap::Args)]
struct Where {
    /// Folder with the records
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    place: Where,
    /// Format of the list
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Folder of the run or A/B session, or its name in the results folder
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    #[command(flatten)]
    place: Where,
    /// Format of the output
    #[arg(long, value_enum, default_value_t = Layout::Table)]
    format: Layout,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Verb::List(args) => list(args, printer)?,
        Verb::Show(args) => show(args, printer)?,
        Verb::Redact(args) => redact::run(args, printer)?,
        Verb::Prune(args) => prune::run(args, printer)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl Where {
    /// The folders of the records, oldest first.
    fn folders(&self) -> anyhow::Result<Vec<PathBuf>> {
        folder::all(&self.results).context("cannot read the results folder; name it with --results")
    }
}

fn list(args: &List, printer: &Printer) -> anyhow::Result<()> {
    let entries: Vec<Entry> = args.place.folders()?.iter().map(|dir| results::entry(dir)).collect();
    if args.format == Format::Table && entries.is_empty() {
        printer.note(format_args!("no records in {}", args.place.results.display()));
    }
    printer.data(match args.format {
        Format::Table => results::table(&entries).terminal(),
        Format::Json => crate::report::json(&entries),
        Format::Csv => results::csv(&entries),
        Format::Md => results::table(&entries).markdown(),
    });
    Ok(())
}

fn show(args: &Show, printer: &Printer) -> anyhow::Result<()> {
    let dir = run_folder(&args.run, &args.place.results)?;
    let known = Known::read(&dir)?;
    let facts = results::facts(&dir, &known);
    match args.format {
        Layout::Json => printer.line(serde_json::to_string_pretty(&facts)?),
        Layout::Table => {
            printer.data(Table::of("Facts", facts).text("", |row| row.0).said("", |row| row.1.clone()).terminal());
        }
    }
    Ok(())
}
