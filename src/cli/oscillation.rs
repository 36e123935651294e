//! `inferometer oscillation`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use super::printer::{Layout, Printer};
use crate::report::series::Analysis;
use crate::series;
use crate::series::{TimeUnit, Wanted};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// CSV or TSV with a header, or the output of `vm_stat` or `powermetrics`
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Column to analyse; the beginning of its name is enough
    #[arg(long, value_name = "NAME")]
    column: String,
    /// Column with the times; default: the first whose name begins as a time's does
    #[arg(long, value_name = "NAME", conflicts_with = "every")]
    time: Option<String>,
    /// Unit of numbers in the time column: s, ms, us or ns; default: what its name ends with
    #[arg(long, value_name = "UNIT", value_parser = time_unit)]
    time_unit: Option<TimeUnit>,
    /// Seconds between two rows, for a file without times
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    every: Option<f64>,
    /// Unit of the values, such as bytes, kib, mib, gib, kb, mb or gb; default: what the column's
    /// name ends with
    #[arg(long, value_name = "UNIT")]
    unit: Option<String>,
    /// The shortest cycle to look for; says whether the samples are close enough to see it
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    cycle: Option<f64>,
    /// Length of the warm-up: level and slope are those of the rest
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    warm: Option<f64>,
    /// Format of the figures
    #[arg(long, value_enum, default_value_t = Layout::Table)]
    format: Layout,
    /// Same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

fn time_unit(text: &str) -> Result<TimeUnit, String> {
    TimeUnit::from_name(text).ok_or_else(|| "s, ms, us or ns".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= 86_400.0);
    number.ok_or_else(|| "from above 0 to 86400 seconds".to_owned())
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let wanted = Wanted {
        column: args.column.clone(),
        time: args.time.clone(),
        time_unit: args.time_unit,
        every_s: args.every,
        unit: args.unit.clone(),
    };
    let series = series::read(&args.file, &wanted)?;
    let Some(analysis) = Analysis::of(&series, args.cycle, args.warm) else {
        bail!(
            "{}: column `{}` has {} values; an oscillation needs two at least",
            args.file.display(),
            series.column,
            series.samples.len()
        );
    };
    match if args.json { Layout::Json } else { args.format } {
        Layout::Json => printer.line(serde_json::to_string_pretty(&analysis.json())?),
        Layout::Table => printer.data(analysis.terminal()),
    }
    Ok(ExitCode::SUCCESS)
}
