//! `inferometer gauges`

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::printer::{Layout, Printer};
use crate::origin::Origin;
use crate::report::table::Table;
use crate::spec::{GaugeInfo, TelemetryRow};
use crate::telemetry;
use crate::telemetry::{GROUPS, Sampler};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sample for this many seconds and print one CSV row per sample
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    seconds: Option<f64>,
    /// Process to sample with the process gauges; without it they stay empty
    #[arg(long, value_name = "PID", requires = "seconds")]
    pid: Option<u32>,
    /// Time between samples in milliseconds, 5 to 60000
    #[arg(long = "interval", value_name = "MS", default_value_t = 50, requires = "seconds",
          value_parser = clap::value_parser!(u32).range(5..=60_000))]
    interval_ms: u32,
    /// Groups of gauges, comma-separated; default: all
    #[arg(long, value_name = "GROUPS", value_delimiter = ',', value_parser = GROUPS)]
    groups: Vec<String>,
    /// Format of the list
    #[arg(long, value_enum, default_value_t = Layout::Table, conflicts_with = "seconds")]
    format: Layout,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if number > 0.0 && number <= 86_400.0 { Ok(number) } else { Err("from above 0 to 86400 seconds".to_owned()) }
}

/// How often rows are printed.
const PRINT_EVERY: Duration = Duration::from_millis(200);

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let all = || GROUPS.map(str::to_owned).to_vec();
    let groups = if args.groups.is_empty() { all() } else { args.groups.clone() };
    match args.seconds {
        Some(seconds) => sample(args, &groups, Duration::from_secs_f64(seconds), printer)?,
        None => list(args.format, &telemetry::gauges(&groups), printer)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(format: Layout, gauges: &[GaugeInfo], printer: &Printer) -> anyhow::Result<()> {
    match format {
        Layout::Json => printer.line(serde_json::to_string_pretty(gauges)?),
        Layout::Table => printer.data(table(gauges)),
    }
    Ok(())
}

fn table(gauges: &[GaugeInfo]) -> String {
    let source = |gauge: &&GaugeInfo| match &gauge.absent {
        None => gauge.source.clone(),
        Some(reason) => format!("absent: {reason}"),
    };
    let text = Table::of("Gauges", gauges)
        .text("gauge", |gauge| &gauge.name)
        .text("unit", |gauge| &gauge.unit)
        .said("source", source)
        .terminal();
    let here = gauges.iter().filter(|gauge| gauge.absent.is_none()).count();
    text + &format!("\n{here} of {} gauges are here.\n", gauges.len())
}

fn sample(args: &Args, groups: &[String], length: Duration, printer: &Printer) -> anyhow::Result<()> {
    if let Some(pid) = args.pid {
        anyhow::ensure!(telemetry::cpu_time(pid).is_some(), "no process {pid}, or no permission to sample it");
    }
    let origin = Origin::start();
    let sampler = Sampler::start(Duration::from_millis(u64::from(args.interval_ms)), groups, origin);
    sampler.watch(args.pid.map(|pid| (0, pid)));
    let names: Vec<String> = sampler.gauges().into_iter().map(|gauge| gauge.name).collect();
    printer.note(format!("t_ns counts from {}", origin.utc()));
    printer.line(format!("t_ns,{}", names.join(",")));
    let begun = Instant::now();
    let mut ended = false;
    while !ended && !printer.is_lost() && begun.elapsed() < length {
        std::thread::sleep(PRINT_EVERY.min(length.saturating_sub(begun.elapsed())));
        ended = args.pid.is_some_and(|pid| telemetry::cpu_time(pid).is_none());
        sampler.drain().iter().for_each(|row| printer.line(csv(row)));
    }
    if ended {
        printer.note("the process has ended");
    }
    if let Some(info) = sampler.info() {
        printer.note(telemetry::describe(&info));
    }
    Ok(())
}

fn csv(row: &TelemetryRow) -> String {
    let mut line = row.t_ns.to_string();
    for value in &row.values {
        line.push(',');
        if let Some(value) = value {
            line += &value.to_string();
        }
    }
    line
}
