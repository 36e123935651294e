//! The command line: one file per verb, each with one `run`; only `printer` prints.

pub mod printer;

mod ab;
mod bench;
mod check;
mod compare;
mod completions;
mod doctor;
mod engines;
mod export;
mod gate;
mod gauges;
mod history;
mod host;
mod import;
mod man;
#[cfg(feature = "engine")]
mod model;
mod named;
mod oscillation;
mod outcome;
mod progress;
mod report;
mod results;
mod run;
mod schema;
mod selftest;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use printer::Printer;

use crate::record;
use crate::record::Record;
use crate::record::ab::AbRecord;
use crate::scenario;
use crate::scenario::ScenarioError;
use crate::spec::Scenario;

/// Usage, configuration or build error.
pub const EXIT_USAGE: u8 = 2;

/// Benchmark and profile LLM inference engines, and trust the result.
#[derive(Debug, Parser)]
#[command(name = "inferometer", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Args)]
pub struct Global {
    /// Print only errors, warnings and data
    #[arg(short, long, global = true, display_order = 1000)]
    quiet: bool,
    /// Also print the harness's own log
    #[arg(short, long, global = true, display_order = 1000, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// Folders for runs and reports.
#[derive(Debug, Clone, Args)]
pub struct Folders {
    /// Folder for the records of runs
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,
    /// Folder for the reports
    #[arg(long, value_name = "DIR", default_value = "reports")]
    pub reports: PathBuf,
}

/// A scenario file as the command line asks for it; `profile` adds the profiled pass where the
/// scenario has none.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
fn load_scenario(path: &Path, set: &[String], profile: bool) -> Result<Scenario, ScenarioError> {
    let offers = crate::engines::offers();
    let scenario = scenario::load(path, set, &offers)?;
    if scenario.profile.is_some() || !profile {
        return Ok(scenario);
    }
    scenario::load(path, &[set, &["profile={}".to_owned()]].concat(), &offers)
}

/// The folder of a run, given by path or by its name in the results folder.
///
/// # Errors
/// When neither exists.
fn run_folder(named: &Path, results: &Path) -> anyhow::Result<PathBuf> {
    let inside = results.join(named);
    match (named.is_dir(), inside.is_dir()) {
        (true, _) => Ok(named.to_owned()),
        (false, true) => Ok(inside),
        _ => anyhow::bail!(
            "no run {} (also looked in {}); `inferometer results list` shows the recorded runs",
            named.display(),
            results.display()
        ),
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure a model without a scenario file
    Bench(bench::Args),
    /// Compare two commits, settings, engines or models, and decide whether they differ
    Ab(ab::Args),
    /// Compare two commits for CI: verdict as exit code, Markdown, JSON and JUnit
    Gate(gate::Args),
    /// Run a scenario and record it
    Run(run::Args),
    /// Write the report of a recorded run
    Report(report::Args),
    /// Compare two recorded runs; shows trends, not a verdict
    Compare(compare::Args),
    /// Show recorded runs over time, with change points; shows trends, not a verdict
    History(history::Args),
    /// List, show, redact or prune the records of runs and A/B sessions
    Results(results::Args),
    /// Export a run's timeline or figures for other programs
    Export(export::Args),
    /// Import the results of another benchmark program as a record
    Import(import::Args),
    /// Analyse how a column of a file oscillates: CSV, or the output of vm_stat or powermetrics
    Oscillation(oscillation::Args),
    /// Check a scenario and print its plan without running it
    Check(check::Args),
    /// List the engines, or check that a program implements the engine protocol
    Engines(engines::Args),
    #[cfg(feature = "engine")]
    /// Fetch, create, list, show or verify models
    Model(model::Args),
    /// Check whether this machine is fit for measurements
    Doctor(doctor::Args),
    /// List available and missing gauges, or sample a process
    Gauges(gauges::Args),
    /// Measure how often verdicts are wrong when the truth is known
    Selftest(selftest::Args),
    /// Print a JSON Schema
    Schema(schema::Args),
    /// Print a shell completion script
    Completions(completions::Args),
    /// Print the manual page
    Man(man::Args),
    /// Host a built-in engine (started by the harness, speaks the engine protocol)
    #[command(hide = true)]
    Host(host::Args),
}

/// Parses the command line, runs the verb, returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print().and_then(|()| std::io::Write::flush(&mut std::io::stdout()));
            let code = if error.use_stderr() || printed.is_err() { EXIT_USAGE } else { 0 };
            return ExitCode::from(code);
        }
    };
    let printer = Printer::new(cli.global.quiet);
    log_to_stderr(cli.global.verbose);
    let outcome = match &cli.verb {
        Verb::Bench(args) => bench::run(args, &printer),
        Verb::Ab(args) => ab::run(args, &printer),
        Verb::Gate(args) => gate::run(args, &printer),
        Verb::Run(args) => run::run(args, &printer),
        Verb::Report(args) => report::run(args, &printer),
        Verb::Compare(args) => compare::run(args, &printer),
        Verb::History(args) => history::run(args, &printer),
        Verb::Results(args) => results::run(args, &printer),
        Verb::Export(args) => export::run(args, &printer),
        Verb::Import(args) => import::run(args, &printer),
        Verb::Oscillation(args) => oscillation::run(args, &printer),
        Verb::Check(args) => check::run(args, &printer),
        Verb::Engines(args) => engines::run(args, &printer),
        #[cfg(feature = "engine")]
        Verb::Model(args) => model::run(args, &printer),
        Verb::Doctor(args) => doctor::run(args, &printer),
        Verb::Gauges(args) => gauges::run(args, &printer),
        Verb::Selftest(args) => selftest::run(args, &printer),
        Verb::Schema(args) => schema::run(args, &printer),
        Verb::Completions(args) => completions::run(args, &printer),
        Verb::Man(args) => man::run(args, &printer),
        Verb::Host(args) => host::run(args, &printer),
    };
    let code = outcome.unwrap_or_else(|error| {
        printer.error(&error);
        ExitCode::from(EXIT_USAGE)
    });
    printer.settle(code)
}

/// The whole command tree, for completions and the manual page.
fn command() -> clap::Command {
    Cli::command()
}

/// Opens the record of a run to use its figures; warns of iterations that contradict themselves.
fn open(dir: &Path, printer: &Printer) -> anyhow::Result<Record> {
    let record = record::open(dir)?;
    warn_of_contradictions(dir, &record, printer);
    Ok(record)
}

/// [`open`] for an A/B session.
fn open_session(dir: &Path, printer: &Printer) -> anyhow::Result<AbRecord> {
    let record = record::ab::open(dir)?;
    for (side, of) in [("a", &record.a), ("b", &record.b)] {
        warn_of_contradictions(&dir.join(side), of, printer);
    }
    Ok(record)
}

fn warn_of_contradictions(dir: &Path, record: &Record, printer: &Printer) {
    let mut found = record.contradictions();
    let Some(first) = found.next() else { return };
    let more = match found.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    printer.warning(format_args!("{}: {first}{more}; such iterations are left out", dir.display()));
}

fn log_to_stderr(verbose: u8) {
    if verbose == 0 && std::env::var_os("RUST_LOG").is_none() {
        return;
    }
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("inferometer=debug"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

#[cfg(test)]
mod tests {
    /// Clap checks a verb only when it is used: unknown names in `requires` and `conflicts_with`
    /// would panic there.
    #[test]
    fn every_verb_s_arguments_fit_together() {
        super::command().debug_assert();
    }
}
