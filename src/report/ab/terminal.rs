//! A session for the terminal, in 80 columns: the verdict with its reasons, the sides, a row for
//! each gate, what to do next.

use super::summary::AbSummary;
use super::{quality, tables, words};
use crate::report::profiles;
use crate::report::text;
use crate::report::text::{paragraph, plural};
use crate::spec::Side;
use inferometer_protocol::units::significant;

/// Most metrics without a gate that are shown.
const SHOWN: usize = 5;

/// Each line ended by a newline.
#[must_use]
pub fn render(summary: &AbSummary) -> String {
    let mut out = String::new();
    paragraph(&mut out, &headline(summary), "  ");
    for reason in &summary.reasons {
        paragraph(&mut out, &together(&format!("  {}", text::sentence(reason))), "  ");
    }
    out.push('\n');
    for side in Side::BOTH {
        paragraph(&mut out, &format!("{}  {}", side.name(), words::side(summary, side)), "   ");
    }
    if !summary.gates.is_empty() {
        out.push('\n');
        out.extend([&tables::gates(summary).terminal(), "\n"]);
        if summary.gates.iter().any(|gate| gate.judgement.estimate.is_some()) {
            paragraph(&mut out, &words::legend(summary), "");
            out.push('\n');
        }
    } else {
        out.push('\n');
    }
    if !summary.quality.is_empty() {
        out.extend([&quality::table(summary).terminal(), "\n"]);
    }
    for line in remarks(summary) {
        paragraph(&mut out, &together(&line), "  ");
    }
    if !summary.profiles.is_empty() {
        out.push('\n');
        out.push_str(&profiles::table(&summary.profiles));
    }
    out.replace(TOGETHER, " ")
}

/// Replaces a space at which a line must not break, until the lines are wrapped.
const TOGETHER: char = '\u{a0}';

/// A number and its percent sign stay on one line.
fn together(words: &str) -> String {
    words.replace(" %", &format!("{TOGETHER}%"))
}

/// `long-context: REGRESSED (exit 1)`.
#[must_use]
pub fn headline(summary: &AbSummary) -> String {
    let name = words::verdict(summary.verdict).to_uppercase();
    let neutral = if summary.neutral { " because of --neutral-ok" } else { "" };
    let marks = summary.marks();
    let marks = if marks.is_empty() { String::new() } else { format!("  [{}]", marks.join(", ")) };
    format!("{}: {name} (exit {}{neutral}){marks}", text::label(&summary.scenario), summary.exit_code)
}

/// The lines below the table.
fn remarks(summary: &AbSummary) -> Vec<String> {
    let mut lines = quality::sentences(summary);
    lines.extend([words::counts(summary), words::outputs(summary)]);
    lines.extend(summary.laws.iter().filter_map(words::moved));
    let found = words::standing_out(summary);
    if !found.is_empty() {
        let more = found.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {} more", plural(more, "metric")) } else { String::new() };
        lines.push(format!(
            "other metrics that stand out (advisory): {}{more}",
            found[..found.len().min(SHOWN)].join("; ")
        ));
    }
    if let Some(load) = summary.machine.load_at_start.filter(|load| *load >= 1.0) {
        lines.push(format!("the machine's load was {} when the session began", significant(load)));
    }
    lines.extend(summary.warnings.iter().map(|warning| text::sentence(warning)));
    lines.extend(summary.advice.iter().map(|advice| format!("next: {advice}")));
    lines
}
