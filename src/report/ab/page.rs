//! The page of a session, in the style of a run's page: one file, no network, readable without
//! JavaScript.

use maud::{Markup, html};

use super::charts::Charts;
use super::summary::AbSummary;
use super::{detail, quality, tables, words};
use crate::compare::profile::Flamegraph;
use crate::record::ab::AbRecord;
use crate::report::html::{Head, document, drawings, in_banner, machine_words, section, when};
use crate::report::profiles;
use crate::report::text;
use crate::report::text::capital;
use crate::spec::Side;

/// The whole page.
#[must_use]
pub fn page(record: &AbRecord, summary: &AbSummary, drawn: &Charts, flamegraphs: &[Flamegraph]) -> String {
    let body = html! {
        (head(summary))
        (section("gates", "Gates", gates(summary, drawn)))
        (quality::page(summary))
        @if !drawn.pairs.is_empty() {
            (section("pairs", "Every pair", html! {
                (drawings("pair", &drawn.pairs))
                p.note {
                    "Each dot is a pair: A and B once each, one right after the other. A slope is drift, which the pairing cancels. If the "
                    "colours separate, the result depends on which side ran first, which the balanced order cancels."
                }
            }))
        }
        (detail::lengths(summary, &drawn.lengths))
        (detail::laws(summary))
        (detail::advisory(summary))
        @if !summary.profiles.is_empty() {
            (section("profiles", "Where the time went", html! {
                p { "From the profiled pass, which ran after the pairs and took both sides in turn. No verdict depends on it." }
                (profiles::page(&summary.profiles, flamegraphs, super::PROFILES))
            }))
        }
        (detail::outputs(summary))
        (detail::differences(summary))
        (detail::lost(summary))
        (detail::provenance(record, summary))
    };
    document(&format!("A/B {}", summary.scenario), &summary.inferometer_version, &body)
}

fn head(summary: &AbSummary) -> Markup {
    let facts = [
        ("Side A", words::side(summary, Side::A)),
        ("Side B", words::side(summary, Side::B)),
        ("Pairs", words::counts(summary)),
        ("Outputs", words::outputs(summary)),
        ("Machine", machine_words(&summary.machine)),
        ("When", when(&summary.started_utc)),
    ];
    Head {
        kicker: "Inferometer A/B report",
        title: &summary.scenario,
        badges: summary.marks().into_iter().map(|mark| (mark, text::mark(mark))).collect(),
        lead: summary.description.as_deref(),
        facts: &facts,
        banner: banner(summary),
    }
    .html()
}

fn banner(summary: &AbSummary) -> Markup {
    let lines = summary.reasons.iter().chain(&summary.warnings);
    in_banner(
        words::sign(summary.verdict),
        html! {
            p {
                strong { (capital(&words::verdict(summary.verdict))) ". " }
                "Exit code " (summary.exit_code)
                @if summary.neutral { " (3 without " code { "--neutral-ok" } ")" }
                "."
            }
            ul { @for line in lines { li { (text::sentence(line)) } } }
            @for advice in &summary.advice { p { (sentence(advice)) } }
        },
    )
}

/// A sentence of ours: text in backticks becomes code.
fn sentence(words: &str) -> Markup {
    html! {
        @for (at, part) in words.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn gates(summary: &AbSummary, drawn: &Charts) -> Markup {
    html! {
        @if summary.gates.is_empty() {
            p { "The session has no gates." }
        } @else {
            (tables::gates(summary).html())
            p.note {
                "B vs A: change of " (words::compared(summary)) ", with its interval; above 0 is worse. "
                "Caught: the smallest slow-down that this session would have caught nine times in ten. A gate is unchanged only if a change of "
                "delta or more is ruled out, not if no change was found."
            }
            (drawings("single", &drawn.gates))
            details {
                summary { "Every look at every gate" }
                (tables::looks(summary).html())
            }
        }
    }
}
