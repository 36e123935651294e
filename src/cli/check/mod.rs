//! `inferometer check`

mod ab;
mod estimate;
mod profile;
mod show;

use std::path::PathBuf;
use std::process::ExitCode;

use super::named;
use super::printer::{Format, Printer};
use crate::run::foresee;
use crate::{engines, scenario};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// Override a key of the scenario, such as `run.iterations=3`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Replace the scenario's model: a path, a name that `inferometer model list` shows, or
    /// synthetic:ARCH/PRESET
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Format of the plan
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Folder with earlier runs, used to estimate the duration
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let set = named::with_model(&args.set, args.model.as_deref())?;
    let scenario = scenario::load(&args.scenario, &set, &engines::offers())?;
    ab::able(&scenario)?;
    let plan = scenario::plan(&scenario, &engines::offers())?;
    let warnings = foresee::check(&scenario, &plan)?;
    let outline = scenario::outline(&scenario, &plan);
    let estimate = estimate::estimate(&args.results, &scenario, &plan, &outline);
    let not_known = foresee::unknown(&scenario);
    let view = show::View {
        scenario: &scenario,
        plan: &plan,
        outline: &outline,
        estimate: estimate.as_ref(),
        not_known,
        warnings,
    };
    match args.format {
        Format::Table => printer.data(view.text()),
        Format::Md => printer.data(view.markdown()),
        Format::Csv => printer.data(view.csv()),
        Format::Json => printer.line(serde_json::to_string_pretty(&view)?),
    }
    Ok(ExitCode::SUCCESS)
}
