//! `inferometer doctor --deep`: tries every gauge, profiler, tensor library and gate on this
//! machine, and reports what works, what does not, and what is not as its source promises.

mod engines;
mod gate;
mod gauges;
mod peak;
mod profilers;
mod program;

use std::time::Instant;

use serde::Serialize;

use crate::report::text::{label, paragraph, plural, sentence};
use program::Program;

/// The result of one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Works,
    /// This machine or build does not have it, for a known reason.
    Absent,
    /// It gives something, but not what its source promises.
    Differs,
    Fails,
}

impl State {
    const ALL: [Self; 4] = [Self::Works, Self::Absent, Self::Differs, Self::Fails];

    fn name(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Absent => "absent",
            Self::Differs => "DIFFERS",
            Self::Fails => "FAILS",
        }
    }
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// The heading that it stands below.
    pub part: &'static str,
    pub what: String,
    pub state: State,
    /// What was seen, or the reason.
    pub seen: String,
}

impl Item {
    fn new(part: &'static str, what: impl Into<String>, state: State, seen: impl Into<String>) -> Self {
        Self { part, what: what.into(), state, seen: seen.into() }
    }
}

/// Everything that was tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub items: Vec<Item>,
    pub seconds: f64,
}

/// Tries everything, about a minute in a release build. `progress` is told what is tried.
///
/// # Errors
/// When there is no place for temporary files.
pub fn look(progress: &mut dyn FnMut(&str)) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let program = Program::new()?;
    let mut items = Vec::new();
    progress("gauges");
    items.extend(gauges::items());
    items.extend(peak::items());
    progress("engines");
    items.extend(engines::items(&program));
    progress("profilers");
    items.extend(profilers::items(&program));
    progress("the gate");
    items.extend(gate::items(&program));
    Ok(Report { items, seconds: begun.elapsed().as_secs_f64() })
}

impl Report {
    /// As text of at most 80 columns, to be pasted into an issue.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut part = "";
        let states = State::ALL.iter().map(|state| state.name().len()).max().unwrap_or(0);
        let whats = self.items.iter().map(|item| item.what.chars().count()).max().unwrap_or(0).min(MOST_WHAT);
        let indent = " ".repeat(states + whats + 4);
        for item in &self.items {
            if item.part != part {
                part = item.part;
                text += &format!("\n{part}\n");
            }
            let (what, seen) = (label(&item.what), sentence(&item.seen));
            let line = format!("{:<states$}  {what:<whats$}  {seen}", item.state.name());
            paragraph(&mut text, &line, &indent);
        }
        let count = |state: State| self.items.iter().filter(|item| item.state == state).count();
        let [works, absent, differs, fails] = State::ALL.map(count);
        text += "\n";
        let told = format!(
            "{} tried in {:.0} s: {works} work, {absent} are absent, {differs} differ from what their source promises, \
             {fails} fail.",
            plural(self.items.len(), "thing"),
            self.seconds
        );
        paragraph(&mut text, &told, "");
        text
    }
}

/// Longest name that gets a column of its own.
const MOST_WHAT: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_a_line_for_each_thing_and_fits_80_columns() {
        let long = "a reason that says at some length which call failed, with which error, and what to do about it";
        let report = Report {
            items: vec![
                Item::new("Gauges", "rss_bytes", State::Works, "60 values"),
                Item::new("Gauges", "wired_bytes", State::Differs, long),
                Item::new("Gate", "shipped gate", State::Fails, "exit code 2"),
            ],
            seconds: 61.2,
        };
        let text = report.text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ') && !line.is_empty()).collect();
        assert_eq!(lines[..2], ["Gauges", "works    rss_bytes     60 values"]);
        assert!(lines[2].starts_with("DIFFERS  wired_bytes   a reason that says"), "{text}");
        assert_eq!(lines[3..5], ["Gate", "FAILS    shipped gate  exit code 2"]);
        assert!(lines[5].starts_with("3 things tried in 61 s: 1 work, 0 are absent, 1 differ"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
