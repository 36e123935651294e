//! The tables of a session.

use maud::html;

use super::charts;
use super::difference::Difference;
use super::summary::{AbSummary, GateSummary};
use super::words;
use crate::compare::ab::{Effect, PairJudgement};
use crate::record::ab::Divergence;
use crate::record::metric;
use crate::report::table::{Cell, HTML, MARKDOWN, TERMINAL, Table};
use crate::report::text;
use inferometer_stats::growth::{Change, TermChange};
use inferometer_stats::sequential::Look;

/// Widest name of a gate in the terminal.
const GATE_WIDTH: u16 = 22;

/// One row for each gate.
#[must_use]
pub fn gates(summary: &AbSummary) -> Table<&GateSummary> {
    let name = |gate: &&GateSummary| match gate.judgement.info.gate.cells.is_all() {
        true => gate.judgement.metric().title().to_owned(),
        false => words::gate(gate),
    };
    let labels = |gate: &GateSummary| {
        let labels: Vec<&str> = gate.judgement.info.cell_ids.iter().map(|id| summary.cell(*id)).collect();
        text::list(&labels, 12)
    };
    Table::of("Every gate", &summary.gates)
        .roomy()
        .gap(2)
        .text("gate", name)
        .only(TERMINAL)
        .at_most(GATE_WIDTH)
        .head("gate", |gate| gate.judgement.metric().title())
        .only(MARKDOWN | HTML)
        .text("cells", |gate| {
            let cells = words::cells(gate);
            let count = html! { (cells) " (" (gate.judgement.info.cell_ids.len()) ")" };
            Cell::from(cells.clone()).hint(labels(gate)).page(count)
        })
        .only(MARKDOWN | HTML)
        .number("B vs A", |gate| {
            let scale = gate.judgement.scale;
            Cell::from(gate.judgement.estimate.map(|shift| scale.change(shift)))
                .range(gate.judgement.interval.map(|interval| words::ends(scale, interval)))
        })
        .on_one_line()
        .number("delta", |gate| Cell::from(words::delta(gate)).hint(&gate.judgement.info.because))
        .number("pairs", |gate| gate.judgement.x.len())
        .number("caught", |gate| words::caught(gate))
        .text("verdict", |gate| {
            let (class, sign) = words::sign(gate.verdict);
            Cell::from(words::verdict(gate.verdict)).badge(class, sign)
        })
}

/// The result of each look at each gate.
#[must_use]
pub fn looks<'a>(summary: &'a AbSummary) -> Table<(&'a GateSummary, &'a Look)> {
    let looks = |gate: &'a GateSummary| gate.judgement.decision.looks.iter().map(move |look| (gate, look));
    Table::of("Looks", summary.gates.iter().flat_map(looks))
        .head("gate", |row| words::gate(row.0))
        .number("pairs", |row| row.1.pairs)
        .number("B vs A", |(gate, look)| words::effect(gate.judgement.scale, look.estimate, Some(look.interval)))
        .number("proven within", |(gate, look)| words::range(gate.judgement.scale, look.equivalence))
        .number("unadjusted p", |row| words::p_value(row.1.p_value))
        .number("result", |row| row.1.verdict.map_or_else(|| "take more pairs".to_owned(), words::verdict))
}

fn of_effects<'a>(name: &str, summary: &'a AbSummary, effects: Vec<&'a Effect>) -> Table<&'a Effect> {
    Table::of(name, effects)
        .head("metric", |effect| metric::find(effect.metric).map_or(effect.metric, |metric| metric.title))
        .text("cell", |effect| summary.cell(effect.cell))
}

/// B vs A in each cell, for the metrics that have a gate; at most `most` cells of each metric.
#[must_use]
pub fn by_cell(summary: &AbSummary, most: usize) -> Table<&Effect> {
    let metrics = charts::metrics(summary).into_iter();
    let effects = metrics.flat_map(|key| charts::effects(summary, key).take(most)).collect();
    of_effects("B vs A in each cell", summary, effects)
        .number("prompt tokens", |effect| summary.cells.get(effect.cell as usize).and_then(|cell| cell.length))
        .only(HTML)
        .number("B vs A, 95 %", |effect| words::effect(effect.scale, effect.shift, effect.interval))
        .number("pairs", |effect| effect.pairs)
        .only(HTML)
}

/// These metrics in these cells.
#[must_use]
pub fn effects<'a>(name: &str, summary: &'a AbSummary, found: Vec<&'a Effect>) -> Table<&'a Effect> {
    of_effects(name, summary, found)
        .number("B vs A", |effect| words::effect(effect.scale, effect.shift, effect.interval))
        .number("p", |effect| words::p_value(effect.p_value))
        .only(HTML)
        .number("adjusted p", |effect| Cell::from(words::p_value(effect.adjusted)).alarm(effect.stands_out()))
}

/// The coefficients of a growth law on both sides.
#[must_use]
pub fn coefficients(change: &Change) -> Table<&TermChange> {
    let moved = |term: &TermChange| match (term.moved, term.identifiable) {
        (true, _) => "moved",
        (false, true) => "not clearly",
        (false, false) => "not identifiable",
    };
    Table::of("Coefficients", &change.terms)
        .head("cost", |of| Cell::from(format!("{}, {}", of.term.symbol(), of.term.name())).unit(of.term.unit()))
        .number("A", |of| words::signed(of.a))
        .number("B", |of| words::signed(of.b))
        .number("change", |of| words::signed(of.change))
        .number("interval", |of| format!("[{}, {}]", words::signed(of.interval.lo), words::signed(of.interval.hi)))
        .number("at the longest length", |of| format!("{:+.1} %", of.contribution * 100.0))
        .number("moved", |of| Cell::from(moved(of)).alarm(of.moved))
}

/// The first divergences between the sides' tokens.
#[must_use]
pub fn divergences(summary: &AbSummary, most: usize) -> Table<&Divergence> {
    Table::of("Divergences", summary.outputs.divergences.iter().take(most))
        .head("cell", |of| summary.cell(of.cell))
        .number("turn", |of| of.turn)
        .number("position", |of| of.index)
        .number("token of A", |of| words::token(of, of.a))
        .number("token of B", |of| words::token(of, of.b))
        .number("gap of B's logits", |of| of.gap.map(|gap| gap.to_string()))
        .number("allowed", |of| {
            Cell::from(if of.allowed { "yes" } else { "no" }).alarm(!of.allowed).strong(!of.allowed)
        })
}

/// What differs between the sides.
#[must_use]
pub fn differences(summary: &AbSummary, most: usize) -> Table<&Difference> {
    Table::of("What differs", summary.differences.iter().take(most))
        .head("differs", |of| &of.what)
        .said("A", |of| of.a.as_ref())
        .said("B", |of| of.b.as_ref())
}

/// Excluded pairs, with the reason.
#[must_use]
pub fn lost<'a>(
    pairs: impl Iterator<Item = &'a PairJudgement>,
    most: usize,
) -> Table<(&'a PairJudgement, words::Outcome<'a>)> {
    Table::of("Excluded pairs", pairs.filter_map(|pair| Some((pair, words::outcome(pair)?))).take(most))
        .head("pair", |row| row.0.row.pair)
        .text("order", |row| words::order(row.0))
        .text("outcome", |row| row.1.0)
        .text("side", |row| row.1.1.clone())
        .said("reason", |row| row.1.2)
}
