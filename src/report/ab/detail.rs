//! The lower sections of a session's page: what a reader asks who does not take the verdict's word for it.

use maud::{Markup, html};

use super::page::{figures, metrics};
use super::summary::AbSummary;
use super::{charts, words};
use crate::compare::ab::{Effect, LawChange};
use crate::record::ab::AbRecord;
use crate::record::metric;
use crate::report::html::{facts, machine, scrolling, section};
use crate::report::summary::NOT_MEASURED;
use crate::report::svg::Chart;
use crate::report::text;
use crate::report::text::plural;
use crate::spec::Side;
use inferometer_stats::growth::{Change, TermChange};

/// Rows shown before a table says that the files have more.
const SHOWN: usize = 60;

fn head(words: &[&str], numbers: &[&str]) -> Markup {
    html! {
        thead {
            tr {
                @for heading in words { th scope="col" { (heading) } }
                @for heading in numbers { th.number scope="col" { (heading) } }
            }
        }
    }
}

fn title(effect: &Effect) -> &'static str {
    metric::find(effect.metric).map_or(effect.metric, |metric| metric.title)
}

/// What was seen at each look, gate by gate.
pub fn looks(summary: &AbSummary) -> Markup {
    html! {
        table.dense {
            (head(&["Gate"], &["Pairs", "B against A", "Proven within", "p, not adjusted", "Said"]))
            tbody {
                @for gate in &summary.gates {
                    @for look in &gate.judgement.decision.looks {
                        tr {
                            th scope="row" { (gate.judgement.metric().title()) ", " (words::cells(gate)) }
                            td.number { (look.pairs) }
                            td.number { (words::effect(gate.judgement.scale, Some(look.estimate), Some(look.interval))) }
                            td.number { (words::range(gate.judgement.scale, look.equivalence)) }
                            td.number { (words::p_value(look.p_value)) }
                            td.number { (look.verdict.map_or_else(|| "take more pairs".to_owned(), words::verdict)) }
                        }
                    }
                }
            }
        }
    }
}

/// B against A in each cell, for the metrics that gates are about.
pub fn lengths(summary: &AbSummary, drawn: &[Chart]) -> Markup {
    if summary.cells.len() < 2 || summary.effects.is_empty() {
        return html! {};
    }
    section(
        "lengths",
        "Cell by cell",
        html! {
            @if !drawn.is_empty() { (figures("pair", drawn)) }
            details {
                summary { "In figures" }
                (scrolling("B against A in each cell", html! {
                    table.dense {
                        (head(&["Metric", "Cell"], &["Prompt tokens", "B against A", "Pairs"]))
                        tbody {
                            @for key in metrics(summary) {
                                @for effect in charts::effects(summary, key).take(SHOWN) {
                                    tr {
                                        th scope="row" { (title(effect)) }
                                        td { (text::label(summary.cell(effect.cell))) }
                                        td.number { (length(summary, effect.cell)) }
                                        td.number { (words::effect(effect.scale, Some(effect.shift), effect.interval)) }
                                        td.number { (effect.pairs) }
                                    }
                                }
                            }
                        }
                    }
                }))
            }
            p.note { "Intervals here are 95 % for each cell alone: to read, not to decide by." }
        },
    )
}

fn length(summary: &AbSummary, cell: u32) -> String {
    let length = summary.cells.get(cell as usize).and_then(|cell| cell.length);
    length.map_or_else(|| NOT_MEASURED.to_owned(), |tokens| tokens.to_string())
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
                "Time of a token: a + b n, n the tokens of context. Time of a prefill: c + d n + e n², n the tokens of the prompt. The change of each "
                "coefficient is fitted to the pairs; intervals are for all coefficients of a law together."
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
                (None, None) => "No coefficient moved for certain.",
            }
        }
        @if let Some(change) = &law.change { (scrolling("Coefficients", coefficients(change))) }
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

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

fn coefficients(change: &Change) -> Markup {
    let said = |term: &TermChange| match (term.moved, term.identifiable) {
        (true, _) => "moved",
        (false, true) => "not for certain",
        (false, false) => "not identifiable",
    };
    html! {
        table.dense {
            (head(&["Cost"], &["A", "B", "Change", "Interval", "At the longest", "Moved"]))
            tbody {
                @for term in &change.terms {
                    tr {
                        th scope="row" { (term.term.symbol()) ", " (term.term.name()) " " span.unit { (term.term.unit()) } }
                        td.number { (words::signed(term.a)) }
                        td.number { (words::signed(term.b)) }
                        td.number { (words::signed(term.change)) }
                        td.number { "[" (words::signed(term.interval.lo)) ", " (words::signed(term.interval.hi)) "]" }
                        td.number { (format!("{:+.1} %", term.contribution * 100.0)) }
                        td.number.alarm[term.moved] { (said(term)) }
                    }
                }
            }
        }
    }
}

/// Every other metric in every cell.
pub fn advisory(summary: &AbSummary) -> Markup {
    if summary.effects.is_empty() {
        return html! {};
    }
    let found = summary.standing_out();
    section(
        "advisory",
        "Every metric, to read and not to gate by",
        html! {
            @if found.is_empty() {
                p { "None of " (plural(summary.effects.len(), "figure")) " stands out." }
            } @else {
                p { (found.len()) " of " (plural(summary.effects.len(), "figure")) " stand out." }
                (scrolling("What stands out", effects(summary, &found)))
            }
            details {
                summary { "All of them" }
                (scrolling("Every metric in every cell", effects(summary, &summary.effects.iter().collect::<Vec<_>>())))
            }
            p.note {
                "p by the exact signed-rank test, adjusted after Benjamini and Hochberg over all figures here: of those at 0.05 or below, one in twenty is "
                "false on average. Costs as in the gates: above 0 is worse, for rates as well."
            }
        },
    )
}

fn effects(summary: &AbSummary, found: &[&Effect]) -> Markup {
    html! {
        table.dense {
            (head(&["Metric", "Cell"], &["B against A", "p", "adjusted p"]))
            tbody {
                @for effect in found.iter().take(4 * SHOWN) {
                    tr {
                        th scope="row" { (title(effect)) }
                        td { (text::label(summary.cell(effect.cell))) }
                        td.number { (words::effect(effect.scale, Some(effect.shift), effect.interval)) }
                        td.number { (words::p_value(effect.p_value)) }
                        td.number.alarm[effect.stands_out()] { (words::p_value(effect.adjusted)) }
                    }
                }
            }
        }
    }
}

/// Where the sides' tokens part.
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
                (scrolling("Divergences", html! {
                    table.dense {
                        (head(&["Cell"], &["Turn", "Position", "Token of A", "Token of B", "Gap of B's logits", "Allowed"]))
                        tbody {
                            @for divergence in divergences.iter().take(SHOWN) {
                                @let [a, b] = words::tokens(divergence);
                                tr {
                                    th scope="row" { (text::label(summary.cell(divergence.cell))) }
                                    td.number { (divergence.turn) }
                                    td.number { (divergence.index) }
                                    td.number { (a) }
                                    td.number { (b) }
                                    td.number { (divergence.gap.map_or_else(|| NOT_MEASURED.to_owned(), |gap| gap.to_string())) }
                                    td.number.alarm[!divergence.allowed] { (if divergence.allowed { "yes" } else { "no" }) }
                                }
                            }
                        }
                    }
                }))
                @if divergences.len() > SHOWN { p.note { "The first " (SHOWN) " of " (divergences.len()) "; ab.json has all." } }
            }
        },
    )
}

/// What is not the same on both sides.
pub fn differences(summary: &AbSummary) -> Markup {
    section(
        "differences",
        "What differs between the sides",
        html! {
            @if summary.differences.is_empty() {
                p { "Nothing that their records say: an A/A session." }
            } @else {
                (scrolling("What differs", html! {
                    table.dense {
                        (head(&["What", "A", "B"], &[]))
                        tbody {
                            @for difference in summary.differences.iter().take(SHOWN) {
                                tr {
                                    th scope="row" { (text::label(&difference.what)) }
                                    td.said { (words::or_nothing(difference.a.as_deref())) }
                                    td.said { (words::or_nothing(difference.b.as_deref())) }
                                }
                            }
                        }
                    }
                }))
            }
        },
    )
}

/// Pairs that do not count, and why.
pub fn lost(summary: &AbSummary) -> Markup {
    let lost: Vec<_> = summary.pairs.iter().filter_map(|pair| Some((pair, words::outcome(pair)?))).collect();
    section(
        "lost",
        "Pairs that do not count",
        html! {
            p { (capital(&words::counts(summary))) "." }
            @if !lost.is_empty() {
                (scrolling("Pairs that do not count", html! {
                    table.dense {
                        (head(&["Pair", "Order", "Became", "For", "Reason"], &[]))
                        tbody {
                            @for (pair, (what, sides, reason)) in lost.iter().take(SHOWN) {
                                tr {
                                    th scope="row" { (pair.row.pair) }
                                    td { (words::order(pair)) }
                                    td { (what) }
                                    td { (sides) }
                                    td.said { (reason) }
                                }
                            }
                        }
                    }
                }))
            }
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
                "The folder of the session holds each side's whole record in " code { "a/" } " and " code { "b/" } ": "
                code { "inferometer report" } " makes a page of either."
            }
        },
    )
}

fn session(record: &AbRecord, summary: &AbSummary) -> Vec<(&'static str, String)> {
    let manifest = &record.manifest;
    let git = manifest.git.as_ref().map_or_else(
        || "not in a repository".to_owned(),
        |git| format!("{}{}", git.commit, if git.dirty { " with uncommitted changes" } else { "" }),
    );
    let hosts = if summary.resident { "two resident ones take turns" } else { "a fresh one each turn" };
    vec![
        ("Record", manifest.session.clone()),
        ("Schema version", manifest.schema_version.to_string()),
        ("Started", manifest.origin_utc.clone()),
        ("Ended", manifest.finished_utc.clone().unwrap_or_else(|| "not recorded".to_owned())),
        ("Run segments", manifest.segments.to_string()),
        ("Hosts", hosts.to_owned()),
        ("Order seed", manifest.settings.seed.to_string()),
        ("Pilot", format!("{} asked for", plural(manifest.settings.pilot as usize, "null pair"))),
        ("Commit of the working folder", git),
        ("Inferometer", manifest.inferometer_version.clone()),
    ]
}

fn of_side(record: &AbRecord, side: Side) -> Vec<(&'static str, String)> {
    let info = record.manifest.side(side);
    let own = match side {
        Side::A => &record.a.manifest,
        Side::B => &record.b.manifest,
    };
    let mut rows = vec![("What it is", info.label.clone())];
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
        rows.push(("Model fingerprint", fingerprint.unwrap_or_else(|| "the engine gives none".to_owned())));
        rows.extend(host.executable_sha256.iter().map(|sum| ("Executable SHA-256", sum.clone())));
    }
    rows.push(("Hosts", own.hosts.len().to_string()));
    rows
}
