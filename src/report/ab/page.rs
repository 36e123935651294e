//! The page of a session: one file, no network, readable without JavaScript; in the look of a run's page.

use maud::{Markup, PreEscaped, html};

use super::charts::{self, Charts};
use super::summary::{AbSummary, GateSummary};
use super::{detail, words};
use crate::compare::profile::Flamegraph;
use crate::record::ab::AbRecord;
use crate::report::html::{document, machine_words, scrolling, section, when};
use crate::report::profiles;
use crate::report::svg::Chart;
use crate::report::text;
use crate::spec::Side;

/// The whole page.
#[must_use]
pub fn page(record: &AbRecord, summary: &AbSummary, drawn: &Charts, flamegraphs: &[Flamegraph]) -> String {
    let body = html! {
        (head(summary))
        (section("gates", "Gates", gates(summary, drawn)))
        @if !drawn.pairs.is_empty() {
            (section("pairs", "Every pair", html! {
                (figures("pair", &drawn.pairs))
                p.note {
                    "Each dot is a pair: A and B once each, right after one another. A slope is drift, which pairs cancel; dots that part by "
                    "colour say that whoever runs second has it worse, which the balanced order cancels."
                }
            }))
        }
        (detail::lengths(summary, &drawn.lengths))
        (detail::laws(summary))
        (detail::advisory(summary))
        @if !summary.profiles.is_empty() {
            (section("profiles", "Where the time went", html! {
                p { "The profiled pass after the pairs, both sides in turn. No verdict depends on it." }
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
    html! {
        header {
            p.kicker { "Inferometer A/B report" }
            h1 {
                (text::label(&summary.scenario))
                @for mark in summary.marks() { " " span.badge title=(words::mark(mark)) { (mark) } }
            }
            @if let Some(description) = &summary.description { p.lead { (text::sentence(description)) } }
            dl.facts {
                @for side in Side::BOTH {
                    div { dt { "Side " (side.name()) } dd { (words::side(summary, side)) } }
                }
                div { dt { "Pairs" } dd { (words::counts(summary)) } }
                div { dt { "Outputs" } dd { (words::outputs(summary)) } }
                div { dt { "Machine" } dd { (machine_words(&summary.machine)) } }
                div { dt { "When" } dd { (when(&summary.started_utc)) } }
            }
            (banner(summary))
        }
    }
}

fn banner(summary: &AbSummary) -> Markup {
    let (class, sign) = words::sign(summary.verdict);
    let name = words::verdict(summary.verdict);
    let mut letters = name.chars();
    let name =
        letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default();
    html! {
        div class={ "banner " (class) } {
            span.sign aria-hidden="true" { (sign) }
            div {
                p {
                    strong { (name) ". " }
                    "Exit code " (summary.exit_code)
                    @if summary.neutral { " (3 without " code { "--neutral-ok" } ")" }
                    "."
                }
                ul {
                    @for reason in &summary.reasons { li { (text::sentence(reason)) } }
                    @for warning in &summary.warnings { li { (text::sentence(warning)) } }
                }
                @for advice in &summary.advice { p { (sentence(advice)) } }
            }
        }
    }
}

/// Our own sentence: what stands in backticks is code.
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
            (scrolling("Every gate", table(summary)))
            p.note {
                "B against A: change of " (words::compared(summary)) " that something takes, so above 0 is worse, with its interval. "
                "Caught: the smallest slow-down that this session would have caught nine times in ten. A gate is unchanged only where a change of "
                "delta or more is ruled out, not because nothing was found."
            }
            @if let Some(chart) = &drawn.gates { (figures("single", std::slice::from_ref(chart))) }
            details {
                summary { "Every look at every gate" }
                (scrolling("Looks", detail::looks(summary)))
            }
        }
    }
}

fn table(summary: &AbSummary) -> Markup {
    html! {
        table {
            thead {
                tr {
                    @for heading in ["Gate", "Cells"] { th scope="col" { (heading) } }
                    @for heading in ["B against A", "Delta", "Pairs", "Caught"] { th.number scope="col" { (heading) } }
                    th scope="col" { "Verdict" }
                }
            }
            tbody { @for gate in &summary.gates { (row(summary, gate)) } }
        }
    }
}

fn row(summary: &AbSummary, gate: &GateSummary) -> Markup {
    let judged = &gate.judgement;
    let (class, sign) = words::sign(gate.verdict);
    let ids = &judged.info.cell_ids;
    let labels: Vec<String> = ids.iter().map(|id| text::label(summary.cell(*id))).collect();
    html! {
        tr {
            th scope="row" { (judged.metric().title()) }
            td title=(text::list(&labels, 12)) { (words::cells(gate)) " (" (ids.len()) ")" }
            td.number {
                @match judged.estimate {
                    Some(shift) => {
                        span.median { (words::effect(judged.scale, Some(shift), None)) }
                        @if let Some(interval) = judged.interval { br; span.interval { (words::range(judged.scale, interval)) } }
                    }
                    None => (words::effect(judged.scale, None, None)),
                }
            }
            td.number title=(text::sentence(&judged.info.because)) { (words::delta(gate)) }
            td.number { (judged.x.len()) }
            td.number { (words::caught(gate)) }
            td { span class={ "verdict " (class) } { (sign) " " (words::verdict(gate.verdict)) } }
        }
    }
}

/// `layout` is a class: how the charts stand beside each other.
pub(super) fn figures(layout: &str, charts: &[Chart]) -> Markup {
    html! {
        div class={ "charts " (layout) } {
            // The drawing code escapes every text in it.
            @for chart in charts { figure { (PreEscaped(&chart.svg)) } }
        }
    }
}

/// Names of the gates' metrics for headings.
pub(super) fn metrics(summary: &AbSummary) -> Vec<&'static str> {
    charts::metrics(summary)
}
