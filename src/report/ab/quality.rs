//! The quality of both sides: what a faster side costs in the probabilities of its tokens.

use maud::{Markup, html};

use super::summary::{AbSummary, QualityComparison};
use super::words;
use crate::compare::quality::Divergence;
use crate::report::html::section;
use crate::report::quality::{self, MEANING};
use crate::report::summary::quality::CellQuality;
use crate::report::table::{Cell, HTML, MARKDOWN, Table};
use crate::report::text;
use crate::report::text::capital;
use crate::spec::{GateMetric, Scale};
use inferometer_protocol::units::significant;
use inferometer_stats::robust::Interval;

/// Widest names of cells in the terminal.
const CELLS_WIDTH: u16 = 16;

fn share(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

fn shift(of: &Divergence) -> (f64, Interval) {
    let Interval { lo, hi, confidence } = of.ratio_interval;
    (of.ratio.ln(), Interval { lo: lo.ln(), hi: hi.ln(), confidence })
}

fn cells(summary: &AbSummary, of: &QualityComparison) -> String {
    match of.cells.len() {
        n if n == summary.cells.len() && n > 1 => "all cells".to_owned(),
        _ => text::list(&of.cells.iter().map(|id| summary.cell(*id)).collect::<Vec<_>>(), 12),
    }
}

/// One row for each setting.
#[must_use]
pub fn table(summary: &AbSummary) -> Table<&QualityComparison> {
    let of = |figure: fn(&Divergence) -> String| move |row: &&QualityComparison| row.divergence.as_ref().map(figure);
    Table::of("Quality", &summary.quality)
        .head("cell", |row| cells(summary, row))
        .at_most(CELLS_WIDTH)
        .number("perplexity\nA", |row| quality::cell(row.a.perplexity.as_ref()))
        .narrow()
        .meaning(MEANING)
        .number("perplexity\nB", |row| quality::cell(row.b.perplexity.as_ref()))
        .narrow()
        .meaning(MEANING)
        .number("B vs A", |row| {
            let found = row.divergence.as_ref().map(shift);
            Cell::from(found.map(|(shift, _)| Scale::Ratio.change(shift)))
                .range(found.map(|(_, interval)| words::ends(Scale::Ratio, interval)))
        })
        .on_one_line()
        .meaning("change of the perplexity, from the paired differences of the tokens, with its 95 % interval")
        .number("KL\ndivergence", of(|of| format!("≥ {}", significant(of.kl))))
        .meaning("mean over the tokens of the KL divergence of B from A in nats, a lower bound")
        .number("same\ntop", of(|of| share(of.same_top)))
        .meaning("share of places at which both sides have the same most likely token")
        .number("KL 99 %", of(|of| significant(of.kl_p99)))
        .only(MARKDOWN | HTML)
        .meaning("99th percentile of the KL divergence over the tokens, in nats")
        .number("RMS Δp", of(|of| share(of.rms_dp)))
        .only(MARKDOWN | HTML)
        .meaning("root of the mean square of the change of the tokens' probabilities")
        .number("rest", of(|of| share(of.rest)))
        .only(MARKDOWN | HTML)
        .meaning("A's mean probability of the tokens that the KL divergence takes together as one")
        .number("bits per byte", |row| {
            let of = |side: &CellQuality| side.perplexity.and_then(|of| bits(of.bits_per_byte));
            Some(format!("{}, {}", of(&row.a)?, of(&row.b)?))
        })
        .only(HTML)
        .meaning("of A and of B")
}

fn bits(of: Option<f64>) -> Option<String> {
    of.map(|bits| format!("{bits:.3}"))
}

/// Speed and damage in a sentence for each setting, then what is missing or in doubt.
#[must_use]
pub fn sentences(summary: &AbSummary) -> Vec<String> {
    let mut lines: Vec<String> = summary.quality.iter().map(|of| sentence(summary, of)).collect();
    for of in &summary.quality {
        let problem = |side: &str, one| quality::problem(side, one);
        lines.extend([problem("A", &of.a), problem("B", &of.b)].into_iter().flatten());
    }
    lines.dedup();
    lines
}

fn sentence(summary: &AbSummary, of: &QualityComparison) -> String {
    let place = if summary.quality.len() > 1 { format!(" ({})", cells(summary, of)) } else { String::new() };
    let Some(found) = &of.divergence else {
        let sides = [("A", &of.a), ("B", &of.b)];
        let known = sides.into_iter().filter_map(|(name, side)| {
            let perplexity = side.perplexity?;
            let bits =
                bits(perplexity.bits_per_byte).map_or_else(String::new, |bits| format!(", {bits} bits per byte"));
            Some(format!("{name} {}{bits}", significant(perplexity.perplexity)))
        });
        let known = known.collect::<Vec<_>>().join("; ");
        let known = if known.is_empty() { known } else { format!(" (perplexity: {known})") };
        let why = of.not_compared.as_deref().unwrap_or_default();
        return format!("quality{place} not compared{known}: {}", text::sentence(why));
    };
    let (shift, interval) = shift(found);
    let (figure, range) = (Scale::Ratio.change(shift), words::range(Scale::Ratio, interval));
    let change = match figure.trim_start_matches(['+', '-']) {
        _ if shift == 0.0 && interval.lo == interval.hi => "is the same".to_owned(),
        _ if interval.lo <= 0.0 && interval.hi >= 0.0 => format!("does not clearly differ: {figure} {range}"),
        size if shift > 0.0 => format!("is {size} higher {range}"),
        size => format!("is {size} lower {range}"),
    };
    format!(
        "{}its perplexity{place} {change}; KL divergence at least {} nats, same most likely token in {} of places",
        speed(summary),
        significant(found.kl),
        share(found.same_top)
    )
}

/// `B: decode 12 % faster; `, from the gate on decode, else from the first gate that was measured.
/// Without an interval, or with one that contains 0, no direction is stated.
fn speed(summary: &AbSummary) -> String {
    let measured = || summary.gates.iter().filter(|gate| gate.judgement.estimate.is_some());
    let decode = measured().find(|gate| gate.judgement.metric() == GateMetric::DecodeTps);
    let Some(gate) = decode.or_else(|| measured().next()) else { return "B: ".to_owned() };
    let (metric, scale) = (gate.judgement.metric(), gate.judgement.scale);
    let shift = gate.judgement.estimate.unwrap_or_default();
    let way = if shift > 0.0 { metric.worse() } else { metric.better() };
    let size = scale.change(shift);
    let size = size.trim_start_matches(['+', '-']);
    match gate.judgement.interval {
        Some(interval) if interval.lo > 0.0 || interval.hi < 0.0 => format!("B: {} {size} {way}; ", metric.title()),
        _ => format!("B: {} does not clearly differ; ", metric.title()),
    }
}

/// The section of the page.
#[must_use]
pub fn page(summary: &AbSummary) -> Markup {
    let Some(of) = summary.quality_text.as_ref().filter(|_| !summary.quality.is_empty()) else { return html! {} };
    section(
        "quality",
        "Quality",
        html! {
            @for line in sentences(summary) { p { (capital(&line)) "." } }
            (table(summary).html())
            p.note { (capital(&note(&quality::scored(of)))) "." }
        },
    )
}

/// What the figures are.
#[must_use]
pub fn note(scored: &str) -> String {
    format!(
        "quality is of {scored}, forced through both sides after the pairs. Intervals are at 95 %: 1.96 standard errors over the tokens to \
         each side. The KL divergence is a lower bound: the tokens that are not among the 256 most likely ones of both sides count as one \
         (rest). No verdict depends on it"
    )
}
