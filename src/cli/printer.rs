//! The only module that prints. Data goes to stdout, everything else to stderr.

use std::io::{IsTerminal, Write};

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

    /// Prints data, the verb's result, to stdout. A closed pipe ends the program quietly.
    pub fn data(&self, text: impl std::fmt::Display) {
        let mut out = anstream::stdout();
        let result = write!(out, "{text}").and_then(|()| out.flush());
        if let Err(error) = result
            && error.kind() == std::io::ErrorKind::BrokenPipe
        {
            std::process::exit(0);
        }
    }

    /// Streams data that is too long to build in memory. A closed pipe ends the program quietly.
    ///
    /// # Errors
    /// Those of `write`, and when stdout cannot be written.
    pub fn stream(&self, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> std::io::Result<()> {
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        match write(&mut out).and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
            done => done,
        }
    }

    /// [`Printer::data`] with a newline.
    pub fn line(&self, text: impl std::fmt::Display) {
        self.data(format_args!("{text}\n"));
    }

    /// Prints a note to stderr; silent with `-q`.
    pub fn note(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            let _ = writeln!(anstream::stderr(), "{text}");
        }
    }

    /// Prints a warning to stderr, also with `-q`.
    pub fn warning(&self, text: impl std::fmt::Display) {
        let _ = writeln!(anstream::stderr(), "\x1b[33mwarning\x1b[0m: {text}");
    }

    /// Prints an error to stderr, with its causes.
    pub fn error(&self, error: &anyhow::Error) {
        // A scenario's diagnostic has its own colours, and its caret must stay under its column.
        let text = match error.downcast_ref::<crate::scenario::ScenarioError>() {
            Some(scenario) => scenario.styled(),
            None => with_causes(error),
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
