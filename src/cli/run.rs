//! `inferometer run`

use std::path::PathBuf;
use std::process::ExitCode;

use super::outcome::Execution;
use super::printer::Printer;
use crate::run::start;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file
    #[arg(value_name = "SCENARIO", required_unless_present = "resume", conflicts_with = "resume")]
    scenario: Option<PathBuf>,
    /// Override a key of the scenario, such as `run.iterations=3`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "resume")]
    set: Vec<String>,
    /// Add a profiling pass, with the defaults of `[profile]` if the scenario has none
    #[arg(long, conflicts_with = "resume")]
    profile: bool,
    /// Resume the interrupted run recorded in this folder
    #[arg(long, value_name = "DIR")]
    resume: Option<PathBuf>,
    /// Resume even if the engine, the model or this program has changed since the run began
    #[arg(long, requires = "resume")]
    allow_changed: bool,
    #[command(flatten)]
    execution: Execution,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    match (&args.resume, &args.scenario) {
        (Some(dir), _) => {
            args.execution.conduct(printer, args.allow_changed, |options, display| start::resume(dir, options, display))
        }
        (None, Some(path)) => {
            let scenario = super::load_scenario(path, &args.set, args.profile)?;
            let results = &args.execution.folders.results;
            args.execution.conduct(printer, false, |options, display| start::run(&scenario, results, options, display))
        }
        (None, None) => anyhow::bail!("give a scenario file, or a run to resume (`--resume DIR`)"),
    }
}
