//! `inferometer import`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::printer::Printer;
use crate::import;
use crate::record;
use crate::report::summary::Summary;
use crate::report::terminal;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Result file of another benchmark program
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The program that wrote it; default: what its content shows
    #[arg(long, value_name = "FORMAT", value_parser = formats())]
    format: Option<import::Format>,
    /// Model that was measured, for a file that does not name it
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Folder for the records of runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

fn formats() -> impl TypedValueParser<Value = import::Format> {
    let names = import::Format::ALL.map(import::Format::name);
    PossibleValuesParser::new(names).map(|name| {
        let found = import::Format::ALL.into_iter().find(|format| format.name() == name);
        found.expect("clap admits these names only")
    })
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let (format, runs) = import::read(&args.file, args.format)?;
    if args.model.is_some() && runs.iter().any(|run| run.model.is_some()) {
        bail!("{} names the model itself; leave out `--model`", args.file.display());
    }
    for dir in import::write(&args.results, &args.file, format, &runs, args.model.as_deref())? {
        printer.note(format_args!("imported: {}", dir.display()));
        printer.data(terminal::render(&Summary::of(&record::open(&dir)?)));
    }
    Ok(ExitCode::SUCCESS)
}
