//! The top of the page: what was measured, and whether it is valid.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{Head, in_banner};
use crate::record::{Imported, Machine, Record};
use crate::report::summary::{EngineSummary, Standing, Summary};
use crate::report::text;
use crate::report::text::plural;
use crate::spec::{Replies, Workload};
use inferometer_protocol::units;

/// Problems shown at first; the others are folded.
const SHOWN: usize = 6;

pub fn head(record: &Record, summary: &Summary) -> Markup {
    let run = &summary.run;
    let engines = run.engines.iter().map(|engine| ("Engine", engine_words(engine, run.imported.as_ref())));
    let rest = [
        ("Model", model_words(record, summary)),
        ("Work", workload_words(record, summary)),
        ("Machine", machine_words(&run.machine)),
        ("When", when(&run.started_utc)),
    ];
    Head {
        kicker: "Inferometer report",
        title: &run.title,
        badges: run.marks().into_iter().map(|mark| (mark, text::mark(mark))).collect(),
        lead: run.description.as_deref(),
        facts: &engines.chain(rest).collect::<Vec<_>>(),
        banner: banner(summary),
    }
    .html()
}

fn banner(summary: &Summary) -> Markup {
    let validity = &summary.validity;
    let sign = match validity.standing {
        Standing::Valid => ("valid", "✓"),
        Standing::ValidWithWarnings | Standing::Imported => ("warned", "!"),
        Standing::Failed | Standing::OutputsDiffer | Standing::NotValid => ("broken", "✕"),
    };
    let word = text::capital(&validity.standing.words().to_lowercase());
    let lines: Vec<String> = validity
        .problems
        .iter()
        .map(|p| format!("{}: {}.", text::label(&p.label), p.sentence().trim_end_matches('.')))
        .chain(validity.remarks.iter().map(|remark| text::sentence(remark)))
        .collect();
    let (first, rest) = lines.split_at(lines.len().min(SHOWN));
    in_banner(
        sign,
        html! {
            p { strong { (word) ". " } (counts(summary)) }
            @if !first.is_empty() { ul { @for line in first { li { (line) } } } }
            @if !rest.is_empty() {
                details {
                    summary { (plural(rest.len(), "further remark")) }
                    ul { @for line in rest { li { (line) } } }
                }
            }
        },
    )
}

fn counts(summary: &Summary) -> String {
    let counts = summary.validity.counts;
    let lost = [(counts.failed, "failed"), (counts.invalid, "invalid"), (counts.missing(), "missing")];
    let lost: Vec<String> = lost.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let same = summary.cells.iter().filter(|cell| cell.deterministic() == "yes").count();
    let mut words = if lost.is_empty() && counts.ok > 0 {
        format!("All {} are valid.", plural(counts.ok, "iteration"))
    } else {
        let verb = if counts.ok == 1 { "is" } else { "are" };
        format!("{} of {} {verb} valid", counts.ok, plural(counts.planned, "iteration"))
            + &(if lost.is_empty() { ".".to_owned() } else { format!("; {}.", lost.join(", ")) })
    };
    if same == summary.cells.len() && same > 0 {
        words.push_str(" In every cell, all iterations generated the same tokens.");
    }
    words
}

fn engine_words(engine: &EngineSummary, imported: Option<&Imported>) -> String {
    let mut words = vec![engine.label.clone()];
    if engine.name != engine.label {
        words.push(format!("({})", engine.name));
    }
    words.extend(engine.version.clone());
    let mut line = words.join(" ");
    for more in [&engine.backend, &engine.device].into_iter().flatten() {
        line.push_str(&format!(", {more}"));
    }
    if let Some(imported) = imported {
        line.push_str(&format!(", measured by {}", imported.by()));
    } else if engine.version.is_none() {
        line.push_str(", did not start");
    }
    text::label(&line)
}

fn model_words(record: &Record, summary: &Summary) -> String {
    let Some(model) = summary.run.engines.iter().find_map(|e| e.model.as_ref()) else {
        return "not loaded".to_owned();
    };
    let mut line = model.name.clone();
    if let Some(parameters) = model.parameters {
        line.push_str(&format!(", {} parameters", short_count(parameters)));
    }
    if let Some(architecture) = &model.architecture {
        line.push_str(&format!(", {architecture}"));
    }
    let hosts = record.manifest.hosts.iter();
    let formats: BTreeSet<&String> = hosts.filter_map(|host| host.receipt.model.weight_format.as_ref()).collect();
    if !formats.is_empty() {
        line.push_str(&format!(", {}", text::list(&formats.into_iter().collect::<Vec<_>>(), 4)));
    }
    text::label(&line)
}

/// `81.2 M`, `1.72 B`.
fn short_count(n: u64) -> String {
    match n as f64 {
        v if v >= 1e9 => format!("{} B", units::significant(v / 1e9)),
        v if v >= 1e6 => format!("{} M", units::significant(v / 1e6)),
        v if v >= 1e3 => format!("{} k", units::significant(v / 1e3)),
        _ => n.to_string(),
    }
}

fn workload_words(record: &Record, summary: &Summary) -> String {
    let run = &record.manifest.scenario.run;
    let work = &record.manifest.scenario.workload;
    let (prompt, each) = match work {
        Workload::Prompt(work) if work.lengths.is_empty() => ("a prompt at its own length".to_owned(), ""),
        Workload::Prompt(work) => (format!("prompts of {} tokens", text::list(&work.lengths, 6)), ""),
        Workload::Conversation(work) => {
            let replies = match work.replies {
                Replies::Fixed => "fixed",
                Replies::Generated => "generated",
            };
            (format!("a conversation of {} with {replies} replies", plural(work.turns.len(), "turn")), " in each")
        }
    };
    let cells = plural(summary.cells.len(), "cell");
    let iterations = plural(run.iterations as usize, "iteration");
    let most = if work.ignore_eos() { "exactly" } else { "up to" };
    let tokens = plural(work.max_tokens() as usize, "token");
    format!("{prompt}, {most} {tokens} generated{each}; {cells}, {iterations} each")
}

pub(in crate::report) fn machine_words(machine: &Machine) -> String {
    let mut line = machine.cpu.clone().unwrap_or_else(|| "unknown CPU".to_owned());
    if let Some(cores) = machine.physical_cores.or(machine.logical_cores) {
        line.push_str(&format!(", {}", plural(cores as usize, "core")));
    }
    if let Some(memory) = machine.memory_bytes {
        line.push_str(&format!(", {}", units::bytes(memory)));
    }
    line.extend(machine.system().map(|system| format!(", {system}")));
    if machine.virtual_machine == Some(true) {
        line.push_str(" (virtual machine)");
    }
    text::label(&line)
}

/// `2026-11-20 09:21 UTC` of an RFC 3339 time; any other text as it is.
pub(in crate::report) fn when(utc: &str) -> String {
    match (utc.get(..10), utc.get(11..16), utc.ends_with('Z')) {
        (Some(day), Some(time), true) => format!("{} {} UTC", text::label(day), text::label(time)),
        _ => text::label(utc),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_short() {
        assert_eq!(short_count(81_234_432), "81.2 M");
        assert_eq!(short_count(1_720_000_000), "1.72 B");
        assert_eq!(when("2026-11-20T09:21:13.000Z"), "2026-11-20 09:21 UTC");
        assert_eq!(when("now"), "now");
    }
}
