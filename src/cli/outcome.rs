//! Shared by `run` and `bench`: how they measure, and how they end.

use std::path::Path;
use std::process::ExitCode;

use super::printer::{Format, Printer};
use super::progress::Display;
use super::report::show;
use super::{EXIT_USAGE, Folders};
use crate::record;
use crate::record::FinishState;
use crate::report;
use crate::report::summary::{Standing, Summary};
use crate::run::error::RunError;
use crate::run::interrupt::Interrupt;
use crate::run::options::Options;
use crate::run::start::Outcome;

/// Something failed.
pub const EXIT_FAILED: u8 = 1;
/// A result is invalid, or tokens differ that must agree.
pub const EXIT_INVALID: u8 = 4;
/// Interrupted by the user.
pub const EXIT_INTERRUPTED: u8 = 130;

/// How to run and show a measurement.
#[derive(Debug, clap::Args)]
pub struct Execution {
    #[command(flatten)]
    pub folders: Folders,
    /// Do not write a report
    #[arg(long)]
    no_report: bool,
    /// Fail instead of waiting if another measurement is running on this machine
    #[arg(long)]
    no_wait: bool,
    /// Format of the summary on stdout
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

impl Execution {
    /// The run's options and display; Ctrl-C is handled from when the run arms it.
    pub fn begin(&self, printer: &Printer, allow_changed: bool) -> (Options, Display) {
        let own = *printer;
        let interrupt = Interrupt::new(move |signals| match signals {
            1 => own.note("stopping after the current iteration; press Ctrl-C again to stop at once"),
            _ => own.note("stopping at once"),
        });
        (Options { wait: !self.no_wait, allow_changed, interrupt }, Display::new(*printer))
    }

    /// Format of the data on stdout.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether to write a report at the end.
    pub fn wants_report(&self) -> bool {
        !self.no_report
    }

    /// Runs `work` with a display and a Ctrl-C handler, then shows the outcome.
    pub fn conduct(
        &self,
        printer: &Printer,
        allow_changed: bool,
        work: impl FnOnce(&Options, &mut Display) -> Result<Outcome, RunError>,
    ) -> anyhow::Result<ExitCode> {
        let (options, mut display) = self.begin(printer, allow_changed);
        let result = work(&options, &mut display);
        drop(display);
        match result {
            Ok(outcome) => self.conclude(&outcome, printer),
            Err(RunError::Stopped { dir, source }) => {
                printer.error(&anyhow::Error::new(*source));
                printer.note(how_to_resume("run", &dir));
                Ok(ExitCode::from(EXIT_USAGE))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn conclude(&self, outcome: &Outcome, printer: &Printer) -> anyhow::Result<ExitCode> {
        let dir = outcome.dir.display();
        if !outcome.worked {
            printer.note(format_args!("the run in {dir} is finished; there is nothing left to do"));
        }
        let record = record::open(&outcome.dir)?;
        let summary = Summary::of(&record);
        show(&summary, self.format, printer);
        printer.note(format_args!("record: {dir}"));
        if summary.validity.counts.failed > 0 {
            printer.note(format_args!("the engines' stderr is in {dir}/logs/"));
        }
        if outcome.state == FinishState::Interrupted {
            printer.note(format_args!("interrupted; resume with `inferometer run --resume {dir}`"));
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
        if !self.no_report {
            let page = report::write(&record, &self.folders.reports)?;
            printer.note(format_args!("report: {}", page.display()));
        }
        Ok(ExitCode::from(verdict(summary.validity.standing)))
    }
}

/// What is left of a measurement by `verb` that had to stop.
pub fn how_to_resume(verb: &str, dir: &Path) -> String {
    let shown = dir.display();
    if dir.is_dir() {
        format!("all measurements so far are kept; resume with `inferometer {verb} --resume {shown}`")
    } else {
        format!(
            "{shown} is not there any more; if it was moved, resume with `inferometer {verb} --resume` and its new path"
        )
    }
}

/// The exit code of a finished run (docs/explanation/method.md#verdicts).
fn verdict(standing: Standing) -> u8 {
    match standing {
        Standing::Valid | Standing::ValidWithWarnings => 0,
        Standing::Failed => EXIT_FAILED,
        // No run is imported.
        Standing::OutputsDiffer | Standing::Imported | Standing::NotValid => EXIT_INVALID,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The summary's first word never contradicts the exit code.
    #[test]
    fn valid_never_stands_beside_another_code_than_zero() {
        for standing in [
            Standing::Valid,
            Standing::ValidWithWarnings,
            Standing::Failed,
            Standing::OutputsDiffer,
            Standing::Imported,
            Standing::NotValid,
        ] {
            assert_eq!(standing.words().starts_with("valid"), verdict(standing) == 0, "{standing:?}");
        }
    }
}
