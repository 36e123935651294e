//! `inferometer gate`: an A/B session for CI, with its verdict as Markdown, JSON and JUnit.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;

use super::ab::{self, How, SideArgs};
use super::open_session;
use super::outcome::Execution;
use super::printer::Printer;
use crate::compare::ab::{Evidence, judge};
use crate::record;
use crate::record::FinishState;
use crate::record::ab::AbRecord;
use crate::report::ab::{AbSummary, Telling, junit, markdown};
use crate::run::ab::{Outcome, Setup};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The scenario file; its `[[gate]]` tables define the gates
    #[arg(value_name = "SCENARIO", required_unless_present = "session", conflicts_with = "session")]
    scenario: Option<PathBuf>,
    #[command(flatten)]
    sides: SideArgs,
    #[command(flatten)]
    how: How,
    /// Judge the A/B session recorded in this folder instead of running one
    #[arg(long, value_name = "DIR", conflicts_with_all = ab::OF_A_NEW_SESSION)]
    session: Option<PathBuf>,
    /// Append the result as Markdown to this file, such as a CI job summary
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the result as JSON to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the result as JUnit XML to this file
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    #[command(flatten)]
    execution: Execution,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    ab::no_csv(&args.execution)?;
    for path in [&args.markdown, &args.json, &args.junit].into_iter().flatten() {
        writable(path)?;
    }
    let outcome = match (&args.session, &args.scenario) {
        (Some(dir), _) => recorded(dir, printer)?,
        (None, Some(path)) => {
            let check = |setups: &[Setup; 2]| {
                let engines =
                    setups.iter().flat_map(|setup| &setup.scenario.engines).map(|engine| engine.name.as_str());
                refuse_simulated(engines, setups[0].scenario.ab.self_test)?;
                if setups[0].scenario.gates.is_empty() {
                    printer.note(
                        "the scenario has no [[gate]]: using gates on decode, prefill and peak memory in all cells",
                    );
                }
                Ok(())
            };
            let begun = ab::begin(path, &args.sides, &args.how, &args.execution, check, printer)?;
            let Some(outcome) = begun else { return Ok(ExitCode::from(super::EXIT_USAGE)) };
            outcome
        }
        (None, None) => bail!("give a scenario file, or a recorded session (`--session DIR`)"),
    };
    let record = record::ab::open(&outcome.dir)?;
    let receipts = [&record.a, &record.b].into_iter().flat_map(|side| &side.manifest.hosts);
    refuse_simulated(receipts.map(|host| host.receipt.engine.as_str()), record.manifest.settings.self_test)?;
    let mut code = ab::conclude(&outcome, &record, &args.execution, args.how.neutral_ok, printer)?;
    // After the verdict was shown: a full disk must not hide it.
    if outcome.state == FinishState::Finished
        && let Err(error) = write(args, &record)
    {
        code = ab::not_written(&error, code, printer);
    }
    Ok(ExitCode::from(code))
}

/// Rejects an output file that cannot be written, before a long session starts, and changes
/// nothing. Special files such as pipes are not opened.
fn writable(path: &Path) -> anyhow::Result<()> {
    let there = path.exists();
    if there && !path.is_file() && !path.is_dir() {
        return Ok(());
    }
    drop(fs_err::OpenOptions::new().create(true).append(true).open(path)?);
    if !there {
        fs_err::remove_file(path)?;
    }
    Ok(())
}

/// A recorded session.
fn recorded(dir: &Path, printer: &Printer) -> anyhow::Result<Outcome> {
    let record = open_session(dir, printer)?;
    let judgement = judge(&Evidence::of(&record));
    let state = record.manifest.state;
    if state != FinishState::Finished {
        bail!("the session in {0} is not finished: resume it with `inferometer ab --resume {0}`", dir.display());
    }
    Ok(Outcome { dir: dir.to_owned(), state, worked: true, judgement })
}

/// Rejects simulated engines unless the session is a self-test: such a gate is about no real
/// engine.
fn refuse_simulated<'a>(mut engines: impl Iterator<Item = &'a str>, self_test: bool) -> anyhow::Result<()> {
    if !self_test && engines.any(|engine| engine == "simulated") {
        bail!(
            "the engine is simulated, so the gate tests no real engine; set `self_test = true` under [ab] to test Inferometer \
             itself"
        );
    }
    Ok(())
}

fn write(args: &Args, record: &AbRecord) -> anyhow::Result<()> {
    let summary = AbSummary::of(record, Telling { neutral_ok: args.how.neutral_ok });
    if let Some(path) = &args.markdown {
        // Append: a job summary may already contain other tools' output.
        use std::io::Write;
        let mut file = fs_err::OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(markdown::render(&summary).as_bytes())?;
    }
    if let Some(path) = &args.json {
        fs_err::write(path, summary.to_json())?;
    }
    if let Some(path) = &args.junit {
        fs_err::write(path, junit::render(&summary))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::writable;

    #[test]
    fn a_file_that_cannot_be_written_is_refused_and_others_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let (new, old) = (dir.path().join("new"), dir.path().join("old"));
        fs_err::write(&old, "words").unwrap();
        writable(&new).unwrap();
        writable(&old).unwrap();
        assert!(!new.exists());
        assert_eq!(fs_err::read_to_string(&old).unwrap(), "words");
        let error = writable(&dir.path().join("nowhere/file")).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
        assert!(writable(dir.path()).is_err());
    }
}
