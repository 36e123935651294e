//! `inferometer selftest`

mod real;

use std::process::ExitCode;

use real::Real;

use super::printer::Printer;
use crate::run::selftest::rate::percent;
use crate::run::selftest::{Check, Report, virtual_time};

/// A limit was exceeded.
const EXIT_FAILED: u8 = 1;
/// Enough to estimate a share of 0.5 % to about 0.2 points.
const SESSIONS: u64 = 5000;
const QUICK: u64 = 200;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Sessions of each kind; default: 5000 simulated or 20 real ones
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    sessions: Option<u64>,
    /// Run few sessions: a smoke test whose figures are not reliable
    #[arg(long, conflicts_with_all = ["sessions", "real"])]
    quick: bool,
    /// Seed of the simulated sessions
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Format of the figures
    #[arg(long, value_enum, default_value_t = Layout::Table)]
    format: Layout,
    #[command(flatten)]
    real: Real,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    Table,
    Json,
    Md,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    if args.real.as_load {
        return Ok(Real::load(args.seed));
    }
    if args.real.real {
        return args.real.run(args.sessions, args.format, args.seed, printer);
    }
    let sessions = if args.quick { QUICK } else { args.sessions.unwrap_or(SESSIONS) };
    let report = virtual_time(sessions, args.seed);
    match args.format {
        Layout::Table => printer.data(table(&report)),
        Layout::Md => printer.data(markdown(&report)),
        Layout::Json => printer.line(serde_json::to_string_pretty(&report)?),
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
}

/// A row as text: what, share, interval, limit, pairs, half-width, and whether the limit was kept.
fn cells(check: &Check) -> [String; 7] {
    let number = |x: f64| percent(x).replace(" %", "");
    let rate = check.rate;
    let tally = check.tally;
    [
        check.what.clone(),
        number(rate.share),
        format!("{}-{}", number(rate.lo), number(rate.hi)),
        check.limit.map(|limit| limit.to_string().replace(" %", "")).unwrap_or_default(),
        tally.map(|t| format!("{:.1}", t.mean_pairs)).unwrap_or_default(),
        tally.map(|t| format!("{:.2}", t.mean_half_width.exp_m1() * 100.0)).unwrap_or_default(),
        match (check.limit, check.passed) {
            (None, _) => "",
            (_, true) => "pass",
            (_, false) => "FAIL",
        }
        .to_owned(),
    ]
}

const HEADS: [&str; 7] = ["", "share %", "95 % interval", "limit %", "pairs", "+- %", ""];

/// The parts of the report under their headings.
fn parts(report: &Report) -> Vec<(String, Vec<&Check>)> {
    let drift = |check: &&Check| check.case.is_some_and(|case| case.drift_percent != 0.0);
    let (drifting, steady): (Vec<&Check>, Vec<&Check>) = report.verdicts.iter().partition(drift);
    let mut parts = vec![
        ("Noise: identical builds told apart, ten runs a side".to_owned(), report.calibration.iter().collect()),
        (format!("Sessions with delta = {}", percent(report.delta)), steady),
    ];
    if let Some(case) = drifting.first().and_then(|check| check.case) {
        parts.push((format!("The same while each run is {} % slower than the last", case.drift_percent), drifting));
    }
    parts
}

fn ending(report: &Report) -> String {
    let failed = report.calibration.iter().chain(&report.verdicts).filter(|check| !check.passed).count();
    let all = report.calibration.iter().chain(&report.verdicts).filter(|check| check.limit.is_some()).count();
    match failed {
        0 => format!("All {all} limits are kept."),
        failed => format!("{failed} of {all} limits are not kept."),
    }
}

fn opening(report: &Report) -> String {
    let Report { sessions, profile, seed, .. } = report;
    format!("{sessions} simulated sessions each, noise of a {profile}, seed {seed}")
}

fn table(report: &Report) -> String {
    let line = |cells: [String; 7]| {
        let [what, share, interval, limit, pairs, half, passed] = cells;
        let line = format!("{what:<30} {share:>7} {interval:>13} {limit:>9} {pairs:>5} {half:>6} {passed}");
        format!("{}\n", line.trim_end())
    };
    let mut text = format!("{}\n", opening(report));
    for (heading, checks) in parts(report) {
        text += &format!("\n{heading}\n{}", line(HEADS.map(str::to_owned)));
        checks.into_iter().for_each(|check| text += &line(cells(check)));
    }
    text + "\n" + &ending(report) + "\n"
}

fn markdown(report: &Report) -> String {
    let row = |cells: [String; 7]| format!("| {} |\n", cells.join(" | "));
    let mut text = format!("{}\n", opening(report));
    for (heading, checks) in parts(report) {
        text += &format!("\n**{heading}**\n\n{}|---|--:|--:|--:|--:|--:|---|\n", row(HEADS.map(str::to_owned)));
        checks.into_iter().for_each(|check| text += &row(cells(check)));
    }
    text + "\n" + &ending(report) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_a_terminal_and_says_what_failed() {
        let mut report = virtual_time(40, 1);
        let last = report.verdicts.last_mut().unwrap();
        last.passed = false;
        let text = table(&report);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("FAIL") && text.contains("limits are not kept"), "{text}");
        let rows = report.calibration.len() + report.verdicts.len();
        assert_eq!(markdown(&report).lines().filter(|line| line.starts_with('|')).count(), rows + 3 * 2);
    }
}
