//! The only module that prints. Data goes to stdout, everything else to stderr, where no control
//! character of a record or an engine arrives.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use crate::report::text::visible;

/// The first error of stdout.
static LOST: OnceLock<std::io::Error> = OnceLock::new();

/// Prints for all verbs, as verbosely as the user asked.
#[derive(Debug, Clone, Copy)]
pub struct Printer {
    quiet: bool,
}

/// Format of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
    Csv,
    Md,
}

/// How facts are laid out that are no figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Layout {
    Table,
    Json,
}

impl Printer {
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Prints data, the verb's result, to stdout. On a terminal control characters are made
    /// visible; into a pipe or a file every byte goes as it is. An error is remembered for
    /// [`Printer::settle`].
    pub fn data(&self, text: impl std::fmt::Display) {
        if std::io::stdout().is_terminal() {
            self.styled(visible(&text.to_string()));
        } else if !self.is_lost() {
            // Not by way of `anstream`, which takes out more than colours.
            let mut out = std::io::stdout().lock();
            if let Err(error) = write!(out, "{text}").and_then(|()| out.flush()) {
                let _ = LOST.set(error);
            }
        }
    }

    /// [`Printer::data`] with colours of its own and no foreign text.
    pub fn styled(&self, text: impl std::fmt::Display) {
        if self.is_lost() {
            return;
        }
        let mut out = anstream::stdout();
        if let Err(error) = write!(out, "{text}").and_then(|()| out.flush()) {
            let _ = LOST.set(error);
        }
    }

    /// [`Printer::data`] of less importance, greyed.
    pub fn dimmed(&self, text: &str) {
        if !text.is_empty() {
            self.styled(format_args!("\x1b[2m{}\x1b[0m", visible(text)));
        }
    }

    /// Streams data that is too long to build in memory. Errors of `write` are taken for those of
    /// stdout.
    pub fn stream(&self, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
        if std::io::stdout().is_terminal() {
            let mut text = Vec::new();
            if write(&mut text).is_ok() {
                self.data(String::from_utf8_lossy(&text));
            }
            return;
        }
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        if let Err(error) = write(&mut out).and_then(|()| out.flush()) {
            let _ = LOST.set(error);
            // Not what is still in the buffer, once more.
            let _ = out.into_parts();
        }
    }

    /// Whether stdout takes no more data.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        LOST.get().is_some()
    }

    /// The exit code in place of `code`: lost data is an error, unless `code` is one already. A
    /// closed pipe needs no message, for example below `head`.
    #[must_use]
    pub fn settle(&self, code: ExitCode) -> ExitCode {
        let Some(error) = LOST.get() else { return code };
        if error.kind() != std::io::ErrorKind::BrokenPipe {
            self.error(&anyhow::anyhow!("cannot write to standard output: {error}"));
        }
        if code == ExitCode::SUCCESS { ExitCode::from(super::EXIT_USAGE) } else { code }
    }

    /// [`Printer::data`] with a newline.
    pub fn line(&self, text: impl std::fmt::Display) {
        self.data(format_args!("{text}\n"));
    }

    /// Prints a note to stderr; silent with `-q`.
    pub fn note(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "{}", visible(&text.to_string()));
        }
    }

    /// Prints a warning to stderr, also with `-q`.
    pub fn warning(&self, text: impl std::fmt::Display) {
        let _ = writeln!(anstream::stderr(), "\x1b[33mwarning\x1b[0m: {}", visible(&text.to_string()));
    }

    /// Prints an error to stderr, with its causes.
    pub fn error(&self, error: &anyhow::Error) {
        // A scenario's diagnostic has its own colours, and its caret must stay under its column.
        let text = match error.downcast_ref::<crate::scenario::ScenarioError>() {
            Some(scenario) => scenario.styled(),
            None => visible(&with_causes(error)),
        };
        let _ = writeln!(anstream::stderr(), "\x1b[31merror\x1b[0m: {text}");
    }

    /// Whether a progress bar may be drawn.
    #[must_use]
    pub fn progress(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }
}

/// An error and its causes without repetition: many errors' texts contain their cause's text.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::with_causes;

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let inner = anyhow::anyhow!("no such file");
        let said = inner.context("cannot open a.toml: no such file").context("cannot load");
        assert_eq!(with_causes(&said), "cannot load: cannot open a.toml: no such file");
        let unsaid = anyhow::anyhow!("disk full").context("cannot write b.csv");
        assert_eq!(with_causes(&unsaid), "cannot write b.csv: disk full");
    }
}
