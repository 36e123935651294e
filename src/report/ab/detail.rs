//! The lower sections of a session's page: the evidence behind the verdict.

use maud::{Markup, html};

use super::summary::AbSummary;
use super::{tables, words};
use crate::compare::ab::LawChange;
use crate::record::ab::AbRecord;
use crate::report::html::{commit, drawings, ended, facts, machine, section};
use crate::report::svg::Chart;
use crate::report::text;
use crate::report::text::{capital, plural};
use crate::spec::Side;

/// Most rows in a table; the files have all.
const SHOWN: usize = 60;

/// B vs A in each cell, for the metrics that gates are about.
pub fn lengths(summary: &AbSummary, drawn: &[Chart]) -> Markup {
    if summary.cells.len() < 2 || summary.effects.is_empty() {
        return html! {};
    }
    section(
        "lengths",
        "Cell by cell",
        html! {
            (drawings("pair", drawn))
            details {
                summary { "In figures" }
                (tables::by_cell(summary, SHOWN).html())
            }
            p.note { "Each interval is at 95 % for its cell alone. No verdict is based on it." }
        },
    )
}

/// Which coefficient of the growth laws moved.
pub fn laws(summary: &AbSummary) -> Markup {
    if summary.laws.is_empty() {
        return html! {};
    }
    section(
        "laws",
        "Which cost moved",
        html! {
            @for law in &summary.laws { (one_law(summary, law)) }
            p.note {
                "Time per token: a + b n, where n is the number of tokens in the context. Time of a prefill: c + d n + e n², where n is the number of "
                "tokens in the prompt. The change of each coefficient is fitted to the pairs. Intervals hold for all coefficients of a law together."
            }
        },
    )
}

fn one_law(summary: &AbSummary, law: &LawChange) -> Markup {
    html! {
        h3 { (capital(law.law.name())) ", " (text::label(words::series(summary, law))) }
        p {
            @match (words::moved(law), &law.not_identifiable) {
                (Some(moved), _) => strong { (capital(&moved)) "." },
                (None, Some(why)) => { "Not identifiable: " (text::sentence(why)) "." },
                (None, None) => "No coefficient clearly moved.",
            }
        }
        @if let Some(change) = &law.change { (tables::coefficients(change).html()) }
        @if !law.ratios.is_empty() {
            p.note {
                "B / A: "
                @for (at, ratio) in law.ratios.iter().take(SHOWN).enumerate() {
                    @if at > 0 { ", " }
                    (format!("{:.3}", ratio.ratio)) " at " (format!("{:.0}", ratio.n))
                }
                " tokens."
            }
        }
    }
}

/// Every other metric in every cell.
pub fn advisory(summary: &AbSummary) -> Markup {
    if summary.effects.is_empty() {
        return html! {};
    }
    let mut found = summary.standing_out();
    let count = found.len();
    found.truncate(4 * SHOWN);
    let all = summary.effects.iter().take(4 * SHOWN).collect();
    section(
        "advisory",
        "Every metric (advisory)",
        html! {
            @if count == 0 {
                p { "None of " (plural(summary.effects.len(), "figure")) " stands out." }
            } @else {
                p { (count) " of " (plural(summary.effects.len(), "figure")) " stand out." }
                (tables::effects("What stands out", summary, found).html())
            }
            details {
                summary { "All of them" }
                (tables::effects("Every metric in every cell", summary, all).html())
            }
            p.note {
                "p is from the exact signed-rank test. Adjusted p corrects for all figures here (Benjamini-Hochberg): of those at 0.05 or below, one in "
                "twenty is a false positive on average. Changes are of costs, as in the gates: above 0 is worse, also for rates."
            }
        },
    )
}

/// Where the tokens of the two sides differ.
pub fn outputs(summary: &AbSummary) -> Markup {
    let divergences = &summary.outputs.divergences;
    section(
        "outputs",
        "Outputs",
        html! {
            p { (capital(&words::outputs(summary))) "." }
            @if let Some((side, cell, pair)) = summary.outputs.unstable {
                p {
                    "Side " (side.name()) " did not generate the same tokens each time: first in pair " (pair) ", cell " code {
                        (text::label(summary.cell(cell)))
                    } "."
                }
            }
            @if let Some((pair, cell)) = summary.outputs.differs {
                p { "The sides' tokens differ first in pair " (pair) ", cell " code { (text::label(summary.cell(cell))) } "." }
            }
            @if !divergences.is_empty() {
                (tables::divergences(summary, SHOWN).html())
                @if divergences.len() > SHOWN { p.note { "The first " (SHOWN) " of " (divergences.len()) "; ab.json has all." } }
            }
        },
    )
}

/// What differs between the sides.
pub fn differences(summary: &AbSummary) -> Markup {
    section(
        "differences",
        "What differs between the sides",
        html! {
            @if summary.differences.is_empty() {
                p { "Nothing in their records: this is an A/A session." }
            } @else {
                (tables::differences(summary, SHOWN).html())
            }
        },
    )
}

/// Excluded pairs, with the reason.
pub fn lost(summary: &AbSummary) -> Markup {
    let lost = tables::lost(summary.pairs.iter(), SHOWN);
    section(
        "lost",
        "Excluded pairs",
        html! {
            p { (capital(&words::counts(summary))) "." }
            @if !lost.is_empty() { (lost.html()) }
        },
    )
}

/// Where every figure comes from.
pub fn provenance(record: &AbRecord, summary: &AbSummary) -> Markup {
    section(
        "provenance",
        "Provenance",
        html! {
            div.columns {
                div { h3 { "Session" } (facts(&session(record, summary))) }
                div { h3 { "Machine" } (facts(&machine(&record.a))) }
                @for side in Side::BOTH { div { h3 { "Side " (side.name()) } (facts(&of_side(record, side))) } }
            }
            p.note {
                "The session's folder has the full record of each side in " code { "a/" } " and " code { "b/" } ". "
                code { "inferometer report" } " makes a page of either."
            }
        },
    )
}

fn session(record: &AbRecord, summary: &AbSummary) -> Vec<(&'static str, String)> {
    let manifest = &record.manifest;
    let hosts = if summary.resident { "two resident hosts, which take turns" } else { "a fresh host for each turn" };
    vec![
        ("Record", manifest.session.clone()),
        ("Schema version", manifest.schema_version.to_string()),
        ("Started", manifest.origin_utc.clone()),
        ended(manifest.finished_utc.as_ref()),
        ("Run segments", manifest.segments.to_string()),
        ("Hosts", hosts.to_owned()),
        ("Tokens of a request", tokens(record)),
        ("Order seed", manifest.settings.seed.to_string()),
        ("Pilot", format!("{} requested", plural(manifest.settings.pilot as usize, "A/A pair"))),
        commit(manifest.git.as_ref()),
        ("Inferometer", manifest.inferometer_version.clone()),
    ]
}

/// Most tokens that a request generates, and why if the session chose it.
fn tokens(record: &AbRecord) -> String {
    match &record.manifest.length {
        Some(length) => format!("{}, chosen by the session: {}", length.chosen, length.because),
        None => record.a.manifest.scenario.workload.max_tokens().to_string(),
    }
}

fn of_side(record: &AbRecord, side: Side) -> Vec<(&'static str, String)> {
    let info = record.manifest.side(side);
    let own = match side {
        Side::A => &record.a.manifest,
        Side::B => &record.b.manifest,
    };
    let mut rows = vec![("Label", info.label.clone())];
    if !info.settings.is_empty() {
        rows.push(("Settings", info.settings.join(", ")));
    }
    if let Some(commit) = &info.commit {
        rows.push(("Commit", format!("{} ({})", commit.hash, commit.revision)));
        rows.push(("Program", commit.program.join(" ")));
        rows.push(("Program SHA-256", commit.program_sha256.clone()));
        rows.extend(commit.toolchain.iter().map(|words| ("Toolchain", words.clone())));
    }
    rows.push(("Scenario SHA-256", own.scenario_sha256.clone()));
    if let Some(host) = own.hosts.first() {
        let receipt = &host.receipt;
        let backend = receipt.backend.as_ref().map(|backend| format!(", {backend}")).unwrap_or_default();
        rows.push(("Engine", format!("{} {}{backend}", receipt.engine, receipt.version)));
        rows.push(("Model", receipt.model.path.clone()));
        let fingerprint = receipt.model.fingerprint.clone();
        rows.push(("Model fingerprint", fingerprint.unwrap_or_else(|| "not reported by the engine".to_owned())));
        rows.extend(host.executable_sha256.iter().map(|sum| ("Executable SHA-256", sum.clone())));
    }
    rows.push(("Hosts", own.hosts.len().to_string()));
    rows
}
