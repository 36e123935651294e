//! A session as GitHub Markdown for a pull request: the result, with the details folded.

use super::summary::AbSummary;
use super::{quality, tables, words};
use crate::record::ab::PairKind;
use crate::report::markdown::{escape, escape_sentence, folded};
use crate::report::profiles;
use crate::report::text;
use crate::spec::Side;

/// Divergences, pairs and effects shown; the page has all.
const SHOWN: usize = 20;

/// `summary.md`.
#[must_use]
pub fn render(summary: &AbSummary) -> String {
    let (_, sign) = words::sign(summary.verdict);
    let mut out = format!("## {sign} {}: {}\n\n", escape(&summary.scenario), words::verdict(summary.verdict));
    for reason in &summary.reasons {
        out.push_str(&format!("**{}**\n\n", escape_sentence(reason)));
    }
    if summary.neutral {
        out.push_str("Not proven either way. It counts as passed because of `--neutral-ok`.\n\n");
    }
    for mark in summary.marks() {
        out.push_str(&format!("> {mark}: {}\n\n", text::mark(mark)));
    }
    out.push_str(&gates(summary));
    out.push_str(&quality(summary));
    for advice in &summary.advice {
        // Not escaped: the text is ours, and its backticks mark code.
        out.push_str(&format!("- {advice}\n"));
    }
    out.push('\n');
    for (title, body) in [
        ("What is compared", sides(summary)),
        ("Which cost moved", laws(summary)),
        ("Cell by cell", cells(summary)),
        ("Other metrics that stand out (advisory)", effects(summary)),
        ("Outputs", outputs(summary)),
        ("Excluded pairs", lost(summary)),
    ] {
        out.push_str(&folded(title, &body));
    }
    out.push_str(&profiles::markdown(&summary.profiles, profiles::fitting(&summary.profiles)));
    out.push_str(&format!("{}\n", provenance(summary)));
    out
}

fn gates(summary: &AbSummary) -> String {
    match tables::gates(summary).markdown() {
        table if table.is_empty() => table,
        table => format!("{table}{}\n\n", words::legend(summary)),
    }
}

/// Speed and damage together, below the gates.
fn quality(summary: &AbSummary) -> String {
    let sentences: String =
        quality::sentences(summary).iter().map(|line| format!("- {}\n", escape_sentence(line))).collect();
    match quality::table(summary).markdown() {
        table if table.is_empty() => table,
        table => format!("{table}{sentences}\n"),
    }
}

fn sides(summary: &AbSummary) -> String {
    let sides = Side::BOTH.map(|side| format!("- **{}**: {}\n", side.name(), escape(&words::side(summary, side))));
    format!("{}\n{}", sides.concat(), tables::differences(summary, SHOWN).markdown())
}

fn laws(summary: &AbSummary) -> String {
    let mut out = String::new();
    for law in &summary.laws {
        let series = escape(words::series(summary, law));
        let what = match (words::moved(law), &law.not_identifiable) {
            (Some(moved), _) => escape_sentence(&moved),
            (None, Some(why)) => format!("{}: not identifiable, {}", law.law.name(), escape_sentence(why)),
            (None, None) => format!("{}: no coefficient clearly moved", law.law.name()),
        };
        out.push_str(&format!("- {series}, {what}\n"));
    }
    out
}

fn cells(summary: &AbSummary) -> String {
    if summary.cells.len() < 2 {
        return String::new();
    }
    tables::by_cell(summary, summary.cells.len()).markdown()
}

fn effects(summary: &AbSummary) -> String {
    let found = summary.standing_out().into_iter().take(SHOWN).collect();
    tables::effects("", summary, found).markdown()
}

fn outputs(summary: &AbSummary) -> String {
    let table = tables::divergences(summary, SHOWN).markdown();
    format!("{}\n\n{table}", escape_sentence(&words::outputs(summary)))
}

fn lost(summary: &AbSummary) -> String {
    let pairs = summary.pairs.iter().filter(|pair| pair.row.kind == PairKind::Pair);
    tables::lost(pairs, SHOWN).markdown()
}

fn provenance(summary: &AbSummary) -> String {
    let machine = &summary.machine;
    let cpu = machine.cpu.as_deref().unwrap_or("unknown CPU");
    escape_sentence(&format!(
        "{}; {}, on {cpu} ({} {}), order seed {}, inferometer {}",
        words::counts(summary),
        summary.session,
        machine.os,
        machine.arch,
        summary.order_seed,
        summary.inferometer_version
    ))
}
