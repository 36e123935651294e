//! The summary as GitHub Markdown, for pull requests.

use std::collections::BTreeSet;

use super::summary::{GaugeOscillation, Summary};
pub use super::table::{escape, escape_sentence};
use super::{engines, figures, functions, growth, memory, spans, terminal, text, traffic, turns};
use crate::compare::engines::SideBySide;

/// `summary.md`.
#[must_use]
pub fn render(summary: &Summary) -> String {
    let run = &summary.run;
    let mut out = format!("## {}\n\n", escape(&run.title));
    if let Some(description) = &run.description {
        out.push_str(&format!("{}\n\n", escape(description)));
    }
    let mut lines = terminal::remarks(summary).into_iter();
    if let Some(standing) = lines.next() {
        out.push_str(&format!("**{}**\n\n", escape(&standing)));
    }
    for line in terminal::before(summary) {
        out.push_str(&format!("**{}**\n\n", escape_sentence(&line)));
    }
    match traffic::cells(summary).next() {
        Some(_) => out.push_str(&traffic::table(summary).markdown()),
        None => out.push_str(&figures::headlines(summary).markdown()),
    }
    if let Some(side_by_side) = &summary.side_by_side {
        out.push_str(&engines(side_by_side));
    }
    for (title, body) in [
        ("Turn by turn: medians over the iterations", turns::all(summary).markdown()),
        ("Memory oscillation", memory_figures(summary)),
        ("Where time goes: functions by self time", function_figures(summary)),
        ("Where the time of a token goes: the profiled pass", span_figures(summary)),
    ] {
        out.push_str(&folded(title, &body));
    }
    for law in &summary.growth {
        out.push_str(&format!("- {}: {}\n", escape(&law.series), growth::sentence(law)));
    }
    for line in lines {
        out.push_str(&format!("- {}\n", escape_sentence(&line)));
    }
    for line in figures::rejected(summary) {
        out.push_str(&format!("- {}\n", escape(&line)));
    }
    out.push_str(&format!("- {}\n", escape(&provenance(summary))));
    out
}

/// A folded part; empty if its body is empty.
#[must_use]
pub fn folded(title: &str, body: &str) -> String {
    if body.trim().is_empty() {
        return String::new();
    }
    format!("<details><summary>{title}</summary>\n\n{}\n\n</details>\n\n", body.trim_end())
}

/// The engines side by side: the lines of the terminal; every difference and rank unfolds.
fn engines(side_by_side: &SideBySide) -> String {
    let mut out = format!("### {}\n\n", escape(&text::capital(&engines::heading(side_by_side))));
    for line in engines::lines(side_by_side) {
        out.push_str(&format!("- {}\n", escape_sentence(&line)));
    }
    let differences = [true, false].map(|headlines| engines::differences(side_by_side, headlines).markdown());
    out.push('\n');
    out + &folded("Ranking by each metric", &engines::ranking(side_by_side).markdown())
        + &folded("Every difference between the engines", &differences.concat())
}

/// The oscillation figures of each gauge.
fn memory_figures(summary: &Summary) -> String {
    let of = |gauge: &GaugeOscillation| {
        let notes: String = memory::notes(gauge).iter().map(|note| escape_sentence(note) + "\n\n").collect();
        let (table, causes) = (memory::table(summary, gauge).markdown(), memory::causes(gauge).markdown());
        format!("**{}**\n\n{table}{causes}{notes}", escape(&gauge.gauge))
    };
    summary.memory.iter().map(of).collect()
}

/// The functions that took the most time.
fn function_figures(summary: &Summary) -> String {
    let phases = || functions::cells(summary).flat_map(|(cell, of)| of.phases.iter().map(move |phase| (cell, phase)));
    let table = functions::table("", phases().flat_map(|(cell, phase)| functions::rows(cell, phase))).markdown();
    let sampled = phases().map(|(cell, phase)| {
        format!("{}, {}: {}\n", escape(cell.name()), phase.name(), escape_sentence(&functions::sampled(phase)))
    });
    table + &sampled.collect::<String>()
}

/// Where the time of a token goes.
fn span_figures(summary: &Summary) -> String {
    let phases = spans::cells(summary).flat_map(|(cell, of)| of.phases.iter().map(move |phase| (cell, phase)));
    let table = spans::table("", phases.flat_map(|(cell, phase)| spans::rows(cell, phase))).markdown();
    let timings: BTreeSet<&str> = summary.spans.iter().map(|of| spans::timing(of.timing)).collect();
    timings.into_iter().fold(table, |out, timing| out + timing + "\n")
}

fn provenance(summary: &Summary) -> String {
    let run = &summary.run;
    let machine = &run.machine;
    let cpu = machine.cpu.as_deref().unwrap_or("unknown CPU");
    let commit = match &run.git {
        Some(git) if git.dirty => format!(", commit {} with changes", text::label(&git.commit)),
        Some(git) => format!(", commit {}", text::label(&git.commit)),
        None => String::new(),
    };
    let system = machine.system().map(|system| format!(" ({system})")).unwrap_or_default();
    format!(
        "{}, started {}, on {cpu}{system}{commit}, inferometer {}",
        run.name, run.started_utc, run.inferometer_version
    )
}
