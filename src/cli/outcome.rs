//! What `run` and `bench` share: how they measure, and what they say when it is over.

use std::process::ExitCode;

use super::printer::{Format, Printer};
use super::progress::Display;
use super::report::render;
use super::{EXIT_USAGE, Folders};
use crate::record;
use crate::record::{EXTERNAL_CAUSE, FinishState};
use crate::report;
use crate::report::summary::{CellSummary, Determinism, Problem, Summary};
use crate::run::driver::{Options, Outcome};
use crate::run::error::RunError;
use crate::run::interrupt::Interrupt;

/// Something failed.
pub const EXIT_FAILED: u8 = 1;
/// Something is invalid, or tokens differ that must not.
pub const EXIT_INVALID: u8 = 4;
/// The user stopped it.
pub const EXIT_INTERRUPTED: u8 = 130;

/// How a run is made and shown.
#[derive(Debug, clap::Args)]
pub struct Execution {
    #[command(flatten)]
    pub folders: Folders,
    /// Do not make a report at the end
    #[arg(long)]
    no_report: bool,
    /// Fail if another measurement runs on this machine instead of waiting for it
    #[arg(long)]
    no_wait: bool,
    /// How the summary on stdout is laid out
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

impl Execution {
    /// What a run needs of the command line and the terminal; Ctrl-C is handled from when the run arms it.
    pub fn begin(&self, printer: &Printer, allow_changed: bool) -> (Options, Display) {
        let own = *printer;
        let interrupt = Interrupt::new(move |signals| match signals {
            1 => own.note("stopping after the iteration in flight; once more to stop at once"),
            _ => own.note("stopping at once"),
        });
        (Options { wait: !self.no_wait, allow_changed, interrupt }, Display::new(*printer))
    }

    /// How data on stdout is laid out.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether a report is wanted at the end.
    pub fn wants_report(&self) -> bool {
        !self.no_report
    }

    /// Runs `work` with a display and with Ctrl-C handled, then says what came of it.
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
                printer.note(format_args!(
                    "what was measured is kept; go on with `inferometer run --resume {}`",
                    dir.display()
                ));
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
        let record = record::read(&outcome.dir)?;
        let summary = Summary::of(&record);
        printer.data(render(&summary, self.format));
        printer.note(format_args!("record: {dir}"));
        if summary.validity.counts.failed > 0 {
            printer.note(format_args!("what the engines said on stderr: {dir}/logs/"));
        }
        if outcome.state == FinishState::Interrupted {
            printer.note(format_args!("interrupted; go on with `inferometer run --resume {dir}`"));
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
        if !self.no_report {
            let page = report::write(&record, &self.folders.reports)?;
            printer.note(format_args!("report: {}", page.display()));
        }
        Ok(ExitCode::from(verdict(&summary)))
    }
}

/// The exit code that a finished run earns (METHOD section 3).
fn verdict(summary: &Summary) -> u8 {
    let differs = |determinism| summary.cells.iter().any(|cell| cell.determinism == determinism);
    if summary.cells.iter().any(|cell| is_invalid(summary, cell)) || differs(Determinism::Nondeterministic) {
        EXIT_INVALID
    } else if summary.validity.counts.failed > 0 {
        EXIT_FAILED
    } else {
        0
    }
}

/// Whether a cell's figures are spoilt: by a measurement that cannot be trusted, or by external causes in half of its iterations or
/// more. A few iterations that something outside disturbed are left out, and what is left is good.
fn is_invalid(summary: &Summary, cell: &CellSummary) -> bool {
    let disturbed = |problem: &&Problem| problem.cell == cell.cell && problem.reason.ends_with(EXTERNAL_CAUSE);
    let disturbed = summary.validity.problems.iter().filter(disturbed).map(|problem| problem.iterations.len());
    let disturbed: usize = disturbed.sum();
    cell.counts.invalid > disturbed || disturbed > 0 && 2 * disturbed >= cell.counts.planned
}
