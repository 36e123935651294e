//! `inferometer export`

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use super::printer::Printer;
use super::run_folder;
use crate::record;
use crate::record::Record;
use crate::report::summary::Summary;
use crate::report::{export, trace};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the run, or its name in the results folder
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// File to write it to; stdout without it
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Folder that holds the records of runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The whole timeline as trace events: ui.perfetto.dev and chrome://tracing open it
    Trace,
    /// The summary's figures, a row for every cell and metric
    Csv,
    /// The summary
    Json,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let folder = run_folder(&args.run, &args.results)?;
    if record::ab::is_session(&folder) {
        bail!(
            "{} is an A/B session; export one of its sides, {} or {}",
            folder.display(),
            folder.join("a").display(),
            folder.join("b").display()
        );
    }
    let record = record::read(&folder)?;
    match &args.output {
        None => printer.stream(|out| write(&record, args.format, out))?,
        Some(path) => {
            let mut out = BufWriter::new(fs_err::File::create(path)?);
            write(&record, args.format, &mut out)?;
            out.flush()?;
            if args.format == Format::Trace {
                printer.note(format_args!("{}: open it at https://ui.perfetto.dev", path.display()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(record: &Record, format: Format, out: &mut dyn Write) -> std::io::Result<()> {
    match format {
        Format::Trace => trace::write(record, out),
        Format::Csv => out.write_all(export::csv(&Summary::of(record)).as_bytes()),
        Format::Json => out.write_all(Summary::of(record).to_json().as_bytes()),
    }
}
