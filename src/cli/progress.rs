//! Shows a run's progress on stderr: a bar on a terminal, otherwise a line for each finished round.
//!
//! There is no ticking thread: the bar is drawn when an event arrives, and none arrives during a
//! measured section.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::printer::Printer;
use crate::record::{RequestRow, Status};
use crate::report::text::visible;
use crate::run::progress::{Event, Observer};
use crate::spec::Side;
use inferometer_protocol::units::{duration_ns, significant};

pub struct Display {
    printer: Printer,
    bar: Option<ProgressBar>,
    /// The last iteration's result and the time left, shown while the next iteration is measured.
    last: String,
    /// The current side of an A/B session.
    side: Option<Side>,
}

impl Display {
    #[must_use]
    pub fn new(printer: Printer) -> Self {
        Self { printer, bar: None, last: String::new(), side: None }
    }

    fn begin(&mut self, run: &str, done: u64, total: u64) {
        let going_on = if done > 0 { format!(", {done} of {total} iterations already done") } else { String::new() };
        self.printer.note(format_args!("run {run}{going_on}"));
        if self.printer.progress() {
            let style = ProgressStyle::with_template("{bar:24} {pos}/{len}  {wide_msg}")
                .expect("the template is a constant")
                .progress_chars("━╸─");
            let bar = ProgressBar::new(total).with_style(style);
            bar.set_position(done);
            self.bar = Some(bar);
        }
    }

    fn show(&self, message: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(visible(&message));
            bar.tick();
        }
    }

    /// Prints without damaging the bar.
    fn aside(&self, print: impl FnOnce(&Printer)) {
        match &self.bar {
            Some(bar) => bar.suspend(|| print(&self.printer)),
            None => print(&self.printer),
        }
    }
}

impl Observer for Display {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Note(text) => self.aside(|printer| printer.note(text)),
            Event::Warning(text) => self.aside(|printer| printer.warning(text)),
            Event::Began { run, done, total } => self.begin(run, done, total),
            Event::Opening { engine } => self.show(format!("{engine}: loading the model")),
            Event::WarmingUp { cell } => self.show(format!("{cell}: warming up")),
            Event::Comparing { cell } => self.show(format!("{cell}: generating tokens to compare outputs")),
            Event::Tokens(tokens) => {
                if let Some(bar) = &self.bar {
                    let message = bar.message();
                    let head = message.split(", ").next().unwrap_or_default();
                    bar.set_message(format!("{head}, {tokens} tokens"));
                }
            }
            Event::Measuring { cell, iteration } => {
                let what = match self.side {
                    Some(side) => format!("side {}", side.name()),
                    None => format!("iteration {iteration}"),
                };
                self.show(format!("{cell}: measuring {what}{}", self.last));
            }
            Event::Scoring { cell } => self.show(format!("{cell}: scoring the quality text")),
            Event::Profiling { cell, done, of } => {
                if let Some(bar) = &self.bar {
                    bar.set_length(of);
                    bar.set_position(done);
                }
                self.show(format!("{cell}: profiling"));
            }
            Event::Measured { cell, rows, done, left, .. } => {
                let result = result(rows);
                self.last = format!("; last: {result}{}", time_left(left));
                if let Some(bar) = &self.bar {
                    bar.set_message(visible(&format!("{cell}: {result}{}", time_left(left))));
                    bar.set_position(done);
                }
            }
            Event::Side(side) => self.side = Some(side),
            Event::Pairs { what, done, of, text, left } => {
                let told = if text.is_empty() { String::new() } else { format!(": {text}") };
                match &self.bar {
                    Some(bar) => {
                        self.last = format!("; {what} {done}/{of}{told}{}", time_left(left));
                        if what == "pair" {
                            bar.set_position(done.into());
                        }
                        bar.set_message(format!("{what} {done}/{of}{told}{}", time_left(left)));
                    }
                    None => self.printer.note(format_args!("{what} {done}/{of}{told}{}", time_left(left))),
                }
            }
            Event::Round { name, done, total, left } => {
                if self.bar.is_none() {
                    self.printer.note(format_args!("{name} done, {done}/{total}{}", time_left(left)));
                }
            }
        }
    }

    fn wants_tokens(&self) -> bool {
        self.bar.is_some()
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Summary of an iteration.
fn result(rows: &[RequestRow]) -> String {
    let Some(row) = rows.first() else { return "done".to_owned() };
    let decoded =
        |row: &RequestRow| row.has_token_times().then_some((row.decode_tps? * row.decode_ms?, row.decode_ms?));
    let (tokens, time) = rows.iter().filter_map(decoded).fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    match (row.status, (time > 0.0).then_some(tokens / time)) {
        (Status::Failed, _) => format!("failed: {}", row.reason),
        (Status::Invalid, _) => format!("invalid: {}", row.reason),
        (Status::Ok, Some(rate)) => format!("{} tok/s", significant(rate)),
        (Status::Ok, None) => "done".to_owned(),
    }
}

fn time_left(left: Option<Duration>) -> String {
    match left {
        Some(left) if !left.is_zero() => {
            format!(", about {} left", duration_ns(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)))
        }
        _ => String::new(),
    }
}
