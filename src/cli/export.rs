//! `inferometer export`

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use super::printer::Printer;
use super::{open, run_folder};
use crate::record;
use crate::record::Record;
use crate::record::flat;
use crate::record::flat::FlatTable;
use crate::record::metric::Better;
use crate::report::summary::Summary;
use crate::report::{export, interchange, trace};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the run, or its name in the results folder
    #[arg(value_name = "RUN_DIR")]
    run: PathBuf,
    /// What to export
    #[arg(long, value_enum)]
    format: Format,
    /// Table whose rows `parquet` has; default: requests
    #[arg(long, value_enum)]
    table: Option<Table>,
    /// Output file; default: stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Folder with the recorded runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// The whole timeline as trace events, for ui.perfetto.dev or chrome://tracing
    Trace,
    /// The summary's figures, one row per cell and metric
    Csv,
    /// The summary as JSON
    Json,
    /// JSON lines as llama-bench writes them, for llama.cpp's compare-llama-bench.py
    LlamaBench,
    /// SQL as llama-bench writes it, for SQLite and compare-llama-bench.py
    LlamaBenchSql,
    /// Bencher Metric Format
    Bencher,
    /// github-action-benchmark, `customBiggerIsBetter`: rates
    GithubBigger,
    /// github-action-benchmark, `customSmallerIsBetter`: times, memory, energy
    GithubSmaller,
    /// Go's benchmark format with every iteration, for benchstat
    Go,
    /// OpenMetrics text, for Prometheus
    Openmetrics,
    /// Apache Parquet with the rows of one table (`--table`), for notebooks and DuckDB
    Parquet,
}

/// The tables of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Table {
    Requests,
    Tokens,
    Spans,
    Telemetry,
}

impl From<Table> for FlatTable {
    fn from(table: Table) -> Self {
        match table {
            Table::Requests => Self::Requests,
            Table::Tokens => Self::Tokens,
            Table::Spans => Self::Spans,
            Table::Telemetry => Self::Telemetry,
        }
    }
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let folder = run_folder(&args.run, &args.results)?;
    if record::ab::is_session(&folder) {
        bail!(
            "{} is an A/B session; export one of its sides: {} or {}",
            folder.display(),
            folder.join("a").display(),
            folder.join("b").display()
        );
    }
    match (args.format, args.table, &args.output) {
        (Format::Parquet, _, None) => bail!("Parquet is binary: name a file with `--output`"),
        (Format::Parquet, ..) | (_, None, _) => {}
        (_, Some(_), _) => bail!("`--table` is for `--format parquet` only: the other formats have figures, not rows"),
    }
    let record = open(&folder, printer)?;
    if matches!(args.format, Format::LlamaBench | Format::LlamaBenchSql) && record.manifest.imported.is_some() {
        bail!("{} is imported: the settings that llama-bench's format needs are not in it", folder.display());
    }
    match &args.output {
        None => printer.stream(|out| write(&record, args, out)),
        Some(path) => {
            let mut out = BufWriter::new(fs_err::File::create(path)?);
            write(&record, args, &mut out)?;
            out.flush()?;
            if args.format == Format::Trace {
                printer.note(format_args!("{}: open it at https://ui.perfetto.dev", path.display()));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(record: &Record, args: &Args, out: &mut dyn Write) -> std::io::Result<()> {
    let summary = || Summary::of(record);
    let text = match args.format {
        Format::Trace => return trace::write(record, out),
        Format::Parquet => {
            let table = args.table.unwrap_or(Table::Requests).into();
            return interchange::parquet(&flat::columns(record, table), out);
        }
        Format::Csv => export::csv(&summary()),
        Format::Json => summary().to_json(),
        Format::LlamaBench => interchange::llama_bench(record),
        Format::LlamaBenchSql => interchange::llama_bench_sql(record),
        Format::Bencher => interchange::bencher(&summary()),
        Format::GithubBigger => interchange::github(&summary(), Better::Higher),
        Format::GithubSmaller => interchange::github(&summary(), Better::Lower),
        Format::Go => interchange::go(record),
        Format::Openmetrics => interchange::openmetrics(&summary()),
    };
    out.write_all(text.as_bytes())
}
