//! `inferometer run`

use std::path::PathBuf;
use std::process::ExitCode;

use super::named;
use super::outcome::Execution;
use super::printer::Printer;
use super::progress::Display;
use crate::run::options::Options;
use crate::run::start;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file; with `--resume`, needed only if the record masks secrets
    #[arg(value_name = "SCENARIO", required_unless_present = "resume")]
    scenario: Option<PathBuf>,
    /// Override a key of the scenario, such as `run.iterations=3`; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "resume")]
    set: Vec<String>,
    /// Replace the scenario's model: a path, a name that `inferometer model list` shows, or
    /// synthetic:ARCH/PRESET
    #[arg(long, value_name = "MODEL", conflicts_with = "resume")]
    model: Option<String>,
    /// Add a profiling pass, with the defaults of `[profile]` if the scenario has none
    #[arg(long, conflicts_with = "resume")]
    profile: bool,
    /// Add a quality pass: the perplexity of this text file under each cell's settings
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    quality: Option<String>,
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
        (Some(dir), given) => {
            let given = given.as_ref().map(|path| super::load_scenario(path, &[], false)).transpose()?;
            let resume =
                |options: &Options, display: &mut Display| start::resume(dir, given.as_ref(), options, display);
            args.execution.conduct(printer, args.allow_changed, resume)
        }
        (None, Some(path)) => {
            let mut set = named::with_model(&args.set, args.model.as_deref())?;
            set.extend(args.quality.as_deref().map(named::quality));
            let scenario = super::load_scenario(path, &set, args.profile)?;
            let results = &args.execution.folders.results;
            args.execution.conduct(printer, false, |options, display| start::run(&scenario, results, options, display))
        }
        (None, None) => anyhow::bail!("give a scenario file, or a run to resume (`--resume DIR`)"),
    }
}
