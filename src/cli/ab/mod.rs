//! `inferometer ab`: is side B slower than side A, and how sure is that?

mod sides;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;

pub use sides::SideArgs;

use super::named;
use super::outcome::{EXIT_INTERRUPTED, Execution, how_to_resume};
use super::printer::{Format, Printer};
use crate::record;
use crate::record::FinishState;
use crate::record::ab::AbRecord;
use crate::report;
use crate::report::ab::{AbSummary, Telling, markdown, terminal};
use crate::run::ab;
use crate::run::ab::{Outcome, Setup};
use crate::run::error::RunError;
use crate::spec::{AbSettings, OutputsRule, Scenario};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file; with `--resume`, needed only if the record masks secrets
    #[arg(value_name = "SCENARIO", required_unless_present = "resume")]
    scenario: Option<PathBuf>,
    #[command(flatten)]
    pub sides: SideArgs,
    #[command(flatten)]
    pub how: How,
    /// Resume the interrupted session recorded in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = OF_A_NEW_SESSION)]
    resume: Option<PathBuf>,
    /// Resume even if an engine, a model or this program has changed since the session began
    #[arg(long, requires = "resume")]
    allow_changed: bool,
    #[command(flatten)]
    execution: Execution,
}

/// Arguments that define a session and so cannot be combined with `--resume`. Listed here because
/// [`How`] and [`SideArgs`] are also part of verbs without `--resume`, where clap would not find
/// the name.
pub const OF_A_NEW_SESSION: [&str; 23] = [
    "set",
    "delta",
    "outputs",
    "margin",
    "pilot",
    "resident",
    "seed",
    "profile",
    "quality",
    "base",
    "head",
    "repo",
    "allow_dirty",
    "a",
    "b",
    "a_engine",
    "b_engine",
    "a_model",
    "b_model",
    "build",
    "program",
    "cache",
    "same",
];

/// Parameters of a session that override the scenario's.
#[derive(Debug, clap::Args)]
pub struct How {
    /// Override a key of the scenario on both sides, such as `workload.max_tokens=32`; may be
    /// repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Smallest change that matters, such as `3%`, for gates without their own
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    delta: Option<f64>,
    /// How far the outputs of the sides must agree
    #[arg(long, value_name = "RULE", value_parser = ["identical", "margin", "any"])]
    outputs: Option<String>,
    /// With `--outputs margin`: accept a different token from B if B's two best logits differ by
    /// less than this
    #[arg(long, value_name = "LOGITS")]
    margin: Option<f64>,
    /// Number of A/A pairs before the first pair; 0 = no pilot
    #[arg(long, value_name = "N", value_parser = pilot)]
    pilot: Option<u32>,
    /// Keep one host per side for the whole session instead of starting a fresh host for each run
    #[arg(long)]
    resident: bool,
    /// Seed for the order of the sides within each pair
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Add a profiling pass after the pairs, with the defaults of `[profile]` if the scenario has
    /// none
    #[arg(long)]
    profile: bool,
    /// Add a quality pass after the pairs: perplexity of this text file on both sides, and their KL
    /// divergence
    #[arg(long, value_name = "FILE")]
    quality: Option<String>,
    /// Exit with 0 if the verdict is `inconclusive`
    #[arg(long)]
    pub neutral_ok: bool,
}

/// Default margin, in logits.
const USUAL_MARGIN: f64 = 0.05;

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    no_csv(&args.execution)?;
    let outcome = match (&args.resume, &args.scenario) {
        (Some(dir), given) => {
            let given = given.as_ref().map(|path| super::load_scenario(path, &[], false)).transpose()?;
            let (options, mut display) = args.execution.begin(printer, args.allow_changed);
            let result = ab::resume(dir, given.as_ref(), &options, &mut display);
            drop(display);
            settled(result, printer)?
        }
        (None, Some(path)) => begin(path, &args.sides, &args.how, &args.execution, |_| Ok(()), printer)?,
        (None, None) => bail!("give a scenario file, or a session to resume (`--resume DIR`)"),
    };
    let Some(outcome) = outcome else { return Ok(ExitCode::from(super::EXIT_USAGE)) };
    let record = record::ab::open(&outcome.dir)?;
    conclude(&outcome, &record, &args.execution, args.how.neutral_ok, printer).map(ExitCode::from)
}

/// Sets up both sides, checks and compares them; `None` if the session stopped with an error that
/// was shown and can be resumed.
pub fn begin(
    path: &Path,
    sides: &SideArgs,
    how: &How,
    execution: &Execution,
    check: impl FnOnce(&[Setup; 2]) -> anyhow::Result<()>,
    printer: &Printer,
) -> anyhow::Result<Option<Outcome>> {
    let load = |extra: &[String]| -> anyhow::Result<Scenario> {
        let quality = how.quality.as_deref().map(named::quality);
        let set: Vec<String> = how.set.iter().cloned().chain(quality).chain(extra.iter().cloned()).collect();
        let mut scenario = super::load_scenario(path, &set, how.profile)?;
        how.apply(&mut scenario)?;
        Ok(scenario)
    };
    let (options, mut display) = execution.begin(printer, false);
    let mut setups = sides::setups(sides, load)?;
    check(&setups)?;
    if sides.are_commits() {
        ab::before_builds(&options, &mut display)?;
        sides::build_commits(sides, &mut setups, &options.interrupt, &mut |note| printer.note(note))?;
    }
    let result = ab::run(setups, how.delta, &execution.folders.results, &options, &mut display);
    drop(display);
    settled(result, printer)
}

/// Rejects `--format csv`, since a session is not a single table, before anything is measured.
pub fn no_csv(execution: &Execution) -> anyhow::Result<()> {
    if execution.format() == Format::Csv {
        bail!(
            "`--format csv` is not available for a session; use `--format json`, or read the CSV files of its record"
        );
    }
    Ok(())
}

/// Shows an error that can be resumed, and returns `None` for it.
fn settled(result: Result<Outcome, RunError>, printer: &Printer) -> anyhow::Result<Option<Outcome>> {
    match result {
        Ok(outcome) => Ok(Some(outcome)),
        Err(RunError::Stopped { dir, source }) => {
            printer.error(&anyhow::Error::new(*source));
            printer.note(how_to_resume("ab", &dir));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

impl How {
    /// Applies the command line's settings to the scenario.
    fn apply(&self, scenario: &mut Scenario) -> anyhow::Result<()> {
        let ab = &mut scenario.ab;
        let mut noted = Vec::new();
        match self.outputs.as_deref() {
            Some("identical") => ab.outputs = OutputsRule::Identical,
            // A scenario with this rule has a margin too.
            Some("margin") if matches!(ab.outputs, OutputsRule::Margin { .. }) => {}
            Some("margin") => ab.outputs = OutputsRule::Margin { logits: USUAL_MARGIN },
            Some(_) => ab.outputs = OutputsRule::Any,
            None => {}
        }
        noted.extend(self.outputs.as_ref().map(|rule| format!("ab.outputs={rule}")));
        if let Some(given) = self.margin {
            let OutputsRule::Margin { logits } = &mut ab.outputs else {
                bail!("--margin needs `--outputs margin` (or `outputs = \"margin\"` in the scenario)")
            };
            if !given.is_finite() || given <= 0.0 {
                bail!("--margin must be a difference of logits above 0, not {given}");
            }
            *logits = given;
            noted.push(format!("ab.margin={given}"));
        }
        if let Some(pilot) = self.pilot {
            ab.pilot = pilot;
            noted.push(format!("ab.pilot={pilot}"));
        }
        if self.resident {
            ab.resident = true;
            noted.push("ab.resident=true".to_owned());
        }
        if let Some(seed) = self.seed {
            ab.seed = seed;
            noted.push(format!("ab.seed={seed}"));
        }
        scenario.overrides.extend(noted);
        Ok(())
    }
}

/// Shows the result of a session and writes its report; returns the exit code
/// (docs/explanation/method.md#verdicts).
pub fn conclude(
    outcome: &Outcome,
    record: &AbRecord,
    execution: &Execution,
    neutral_ok: bool,
    printer: &Printer,
) -> anyhow::Result<u8> {
    let dir = outcome.dir.display();
    if !outcome.worked {
        printer.note(format_args!("the session in {dir} is finished; there is nothing left to do"));
    }
    let summary = AbSummary::of(record, Telling { neutral_ok });
    printer.data(match execution.format() {
        Format::Json => summary.to_json(),
        Format::Md => markdown::render(&summary),
        Format::Csv => unreachable!("refused before anything was measured"),
        Format::Table => terminal::render(&summary),
    });
    printer.note(format_args!("record: {dir}"));
    if outcome.state == FinishState::Interrupted {
        printer.note(format_args!("interrupted; resume with `inferometer ab --resume {dir}`"));
        return Ok(EXIT_INTERRUPTED);
    }
    let mut code = summary.exit_code;
    if execution.wants_report() {
        match report::ab::write(record, &summary, &execution.folders.reports) {
            Ok(page) => printer.note(format_args!("report: {}", page.display())),
            Err(error) => code = not_written(&error.into(), code, printer),
        }
    }
    if summary.neutral {
        printer.note("exit code 0 because of `--neutral-ok`; the verdict is inconclusive");
    }
    Ok(code)
}

/// Reports that something besides the verdict could not be written, and returns the exit code: that
/// of an error, unless the verdict's is an error already.
pub fn not_written(error: &anyhow::Error, code: u8, printer: &Printer) -> u8 {
    printer.error(error);
    if code == 0 { super::EXIT_USAGE } else { code }
}

/// Parses a number of A/A pairs.
fn pilot(text: &str) -> Result<u32, String> {
    let pairs = text.parse().ok().filter(|pairs| AbSettings::is_pilot(*pairs));
    let (least, most) = (AbSettings::LEAST_PILOT, AbSettings::MOST_PILOT);
    pairs.ok_or_else(|| {
        format!("must be a whole number from {least} to {most}, or 0 for no pilot; fewer A/A pairs show nothing")
    })
}

/// Parses `3%` as a share.
pub fn percent(text: &str) -> Result<f64, String> {
    let number = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match number {
        Some(number) if number > 0.0 && number < 100.0 => Ok(number / 100.0),
        _ => Err("must be a percentage above 0 and below 100, such as 3%".to_owned()),
    }
}
