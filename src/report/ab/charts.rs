//! A session's charts, from its summary.

use super::summary::{AbSummary, GateSummary};
use super::words;
use crate::compare::ab::Effect;
use crate::record::ab::PairKind;
use crate::record::metric;
use crate::report::svg::Chart;
use crate::report::svg::forest;
use crate::report::svg::forest::{Row, Tone};
use crate::report::svg::pairs;
use crate::report::svg::pairs::{Dot, Panel};
use crate::report::text;
use crate::spec::{Scale, Side};
use inferometer_stats::sequential::Verdict;

const AXIS: &str = "change of time or bytes from A to B: right of 0 is worse";
const MIB: f64 = 1_048_576.0;
/// Most rows in a chart of cells; the table has all.
const MOST_ROWS: usize = 40;

/// All charts of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Charts {
    /// Absent where no gate has an estimate.
    pub gates: Option<Chart>,
    /// One for each gate that has pairs.
    pub pairs: Vec<Chart>,
    /// One for each metric that has a gate, if there are several cells.
    pub lengths: Vec<Chart>,
}

impl Charts {
    #[must_use]
    pub fn of(summary: &AbSummary) -> Self {
        // One axis, and so one scale: differences have charts of their own.
        let by_ratio = summary.gates.iter().filter(|gate| gate.judgement.scale == Scale::Ratio);
        let rows: Vec<Row> = by_ratio.map(gate).collect();
        let drawn = rows.iter().any(|row| row.estimate.is_some());
        let lengths = metrics(summary).into_iter().filter_map(|key| by_length(summary, key));
        Self {
            gates: drawn.then(|| forest::draw("gates", "Every gate: B vs A", AXIS, &rows)),
            pairs: summary.gates.iter().enumerate().filter_map(|(at, gate)| of_pairs(summary, at, gate)).collect(),
            lengths: lengths.collect(),
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Chart> {
        self.gates.iter().chain(&self.pairs).chain(&self.lengths)
    }
}

/// A shift of ln(cost) in percent.
fn percent(shift: f64) -> f64 {
    shift.exp_m1() * 100.0
}

/// A shift in the unit of its chart.
fn drawn(scale: Scale, shift: f64) -> f64 {
    match scale {
        Scale::Ratio => percent(shift),
        Scale::Count => shift,
        Scale::Bytes => shift / MIB,
    }
}

/// The unit of a chart with that scale.
fn unit(scale: Scale) -> &'static str {
    match scale {
        Scale::Ratio => "%",
        Scale::Count => "",
        Scale::Bytes => "MiB",
    }
}

fn gate(gate: &GateSummary) -> Row {
    let judged = &gate.judgement;
    Row {
        name: judged.metric().title().to_owned(),
        detail: format!("{}, {}", words::verdict(gate.verdict), words::cells(gate)),
        estimate: judged.estimate.map(percent),
        interval: judged.interval.map(|i| (percent(i.lo), percent(i.hi))),
        delta: Some(judged.info.least * 100.0),
        tone: match gate.verdict {
            Verdict::Unchanged | Verdict::Improved => Tone::Good,
            Verdict::Inconclusive | Verdict::NotDecided => Tone::Open,
            _ => Tone::Bad,
        },
    }
}

fn of_pairs(summary: &AbSummary, at: usize, gate: &GateSummary) -> Option<Chart> {
    let judged = &gate.judgement;
    let drawn = |shift: f64| drawn(judged.scale, shift);
    let first = |number: u32| summary.pairs.iter().find(|pair| pair.row.pair == number).map(|pair| pair.row.first);
    let dots: Vec<Dot> = judged
        .x
        .iter()
        .map(|&(pair, x)| Dot { pair, change: drawn(x), a_first: first(pair) == Some(Side::A) })
        .collect();
    let lost = summary.pairs.iter().filter(|pair| pair.row.kind == PairKind::Pair && !pair.counts());
    let panel = Panel {
        name: format!("pairs-{at}"),
        unit: unit(judged.scale),
        title: format!("Every pair: {}", words::gate(gate)),
        lost: lost.map(|pair| pair.row.pair).collect(),
        delta: drawn(judged.bound()),
        estimate: judged.estimate.map(drawn),
        interval: judged.interval.map(|i| (drawn(i.lo), drawn(i.hi))),
        dots,
    };
    (!panel.dots.is_empty()).then(|| pairs::draw(&panel))
}

/// Keys of the metrics that have a gate, each once.
pub fn metrics(summary: &AbSummary) -> Vec<&'static str> {
    let mut keys = Vec::new();
    for key in summary.gates.iter().filter_map(|gate| gate.judgement.compared_by) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// The effects of a metric, cell by cell.
pub fn effects<'a>(summary: &'a AbSummary, key: &'a str) -> impl Iterator<Item = &'a Effect> {
    summary.effects.iter().filter(move |effect| effect.metric == key)
}

/// `None` also if a metric is 0 in some cell: the table then shows differences.
fn by_length(summary: &AbSummary, key: &str) -> Option<Chart> {
    if effects(summary, key).any(|effect| effect.scale != Scale::Ratio) {
        return None;
    }
    let rows: Vec<Row> = effects(summary, key)
        .take(MOST_ROWS)
        .map(|effect| Row {
            name: text::label(summary.cell(effect.cell)),
            detail: String::new(),
            estimate: Some(percent(effect.shift)),
            interval: effect.interval.map(|i| (percent(i.lo), percent(i.hi))),
            delta: None,
            tone: Tone::Open,
        })
        .collect();
    let metric = metric::find(key)?;
    let title = format!("{}, cell by cell", metric.title);
    (rows.len() > 1).then(|| forest::draw(&format!("cells-{key}"), &title, AXIS, &rows))
}
