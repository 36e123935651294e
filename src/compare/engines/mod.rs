//! The engines of one run, side by side: what differs between them, whether they generate the same
//! tokens for the same work, and how their speed and memory rank.
//!
//! Iterations of the engines alternate, but all come from one session of a few processes. So the
//! samples are compared like those of two runs ([`super::runs`]), and a rank is no verdict.

mod facts;

use serde::{Deserialize, Serialize};

use super::cells::{self, Measured};
use super::outputs::{self, Outputs};
use super::runs::{self, Change, MetricComparison};
use crate::record::metric::{DECODE_TPS, Metric, PREFILL_TPS, TTFT_MS};
use crate::record::{Counts, Record, Timing, TokenIndex, metric};
use crate::spec::{Axis, Cell, Isolation, Scenario};
use inferometer_protocol::Settings;
use inferometer_stats::robust;

pub use facts::{EngineDifference, Topic};

/// A run with several engines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SideBySide {
    /// Labels, in the scenario's order.
    pub engines: Vec<String>,
    /// Whether the engines take turns, so that drift of the machine meets all of them.
    pub interleaved: bool,
    pub differences: Vec<EngineDifference>,
    /// In the plan's order.
    pub works: Vec<Work>,
    /// Number of tests over which false discoveries are controlled.
    pub tests: usize,
}

/// Work that several engines did: one prompt length with the toggles that all engines share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// Prompt length asked for, in tokens; null = the text as it is.
    pub length: Option<u32>,
    /// The shared toggles that the scenario varies.
    pub toggles: Settings,
    /// Temperature 0: the engines should generate the same tokens.
    pub greedy: bool,
    /// The cells with this work, in the plan's order. An engine with varied toggles of its own has
    /// several.
    pub sides: Vec<Side>,
    pub rankings: Vec<Ranking>,
}

/// One engine's cell of a work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    pub cell: u32,
    /// The engine's label, with its varied toggles that the engines do not share.
    pub name: String,
    pub engine: String,
    pub counts: Counts,
    /// The lowest grade of its token times; null if unknown.
    pub timing: Option<Timing>,
    /// Tokens of each valid iteration, if all agree.
    pub generated_tokens: Option<u32>,
    /// Compared with the first side; null for the first side itself.
    pub outputs: Option<Outputs>,
    /// Whether its prompt is another one than the first side's; null if a record has no prompts.
    pub prompts_differ: Option<bool>,
}

/// The sides of a work by one metric, the best first; those that are not ranked are last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// Key of the metric.
    pub metric: String,
    pub places: Vec<Place>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub cell: u32,
    /// Null if not measured, or measured with times that are not verified.
    pub figures: Option<robust::Summary>,
    /// A is the first side that has the metric, B this one. Null for that first side.
    pub against: Option<MetricComparison>,
}

impl Work {
    /// The side of a cell.
    #[must_use]
    pub fn side(&self, cell: u32) -> Option<&Side> {
        self.sides.iter().find(|side| side.cell == cell)
    }
}

impl Ranking {
    /// The side with which the others are compared.
    #[must_use]
    pub fn reference(&self) -> Option<&Place> {
        self.places.iter().find(|place| place.figures.is_some() && place.against.is_none())
    }
}

/// Compares the engines of a run; `None` unless several engines did the same work.
#[must_use]
pub fn side_by_side(record: &Record) -> Option<SideBySide> {
    let measured = cells::measured(record);
    let tokens = TokenIndex::new(&record.tokens);
    let peak = metric::peak_memory(|key| {
        metric::find(key).is_some_and(|peak| measured.iter().any(|cell| !cell.values(peak).is_empty()))
    });
    let metrics: Vec<&Metric> = [PREFILL_TPS, DECODE_TPS, TTFT_MS, peak].into_iter().filter_map(metric::find).collect();
    let mut works: Vec<Work> = groups(record, &measured)
        .into_iter()
        .map(|cells| Work {
            length: cells[0].cell.length,
            toggles: shared(record, cells[0].cell, |axis| axis.values.len() > 1),
            greedy: cells[0].cell.sampling.temperature == 0.0,
            sides: cells.iter().map(|cell| side(record, cells[0], cell, &tokens)).collect(),
            rankings: metrics.iter().map(|metric| ranking(metric, &cells)).collect(),
        })
        .collect();
    let places = works.iter_mut().flat_map(|work| &mut work.rankings).flat_map(|ranking| &mut ranking.places);
    let tests = runs::judge(places.filter_map(|place| place.against.as_mut()));
    let scenario = &record.manifest.scenario;
    (!works.is_empty()).then(|| SideBySide {
        engines: scenario.engines.iter().map(|engine| engine.label.clone()).collect(),
        interleaved: matches!(scenario.run.isolation, Isolation::Run | Isolation::Iteration),
        differences: facts::differences(record, &measured),
        works,
        tests,
    })
}

/// The cells that do the same work in several engines, grouped.
fn groups<'m, 'a>(record: &Record, measured: &'m [Measured<'a>]) -> Vec<Vec<&'m Measured<'a>>> {
    let mut groups: Vec<Vec<&Measured>> = Vec::new();
    for cell in measured {
        match groups.iter_mut().find(|group| same_work(record, group[0].cell, cell.cell)) {
            Some(group) => group.push(cell),
            None => groups.push(vec![cell]),
        }
    }
    groups.retain(|group| group.iter().any(|cell| cell.cell.engine != group[0].cell.engine));
    groups
}

/// Whether two cells do the same work, whatever their engine. Toggles that an engine has for itself
/// are part of the engine.
fn same_work(record: &Record, a: &Cell, b: &Cell) -> bool {
    let shared = |cell| shared(record, cell, |_| true);
    a.length == b.length && a.level == b.level && a.sampling == b.sampling && shared(a) == shared(b)
}

/// Whether some engine has the toggle for itself.
fn is_own(scenario: &Scenario, toggle: &str) -> bool {
    scenario.engine_toggles.values().flatten().any(|axis| axis.toggle == toggle)
}

/// The toggles of a cell that no engine has for itself, as far as they are wanted.
fn shared(record: &Record, cell: &Cell, wanted: impl Fn(&Axis) -> bool) -> Settings {
    let scenario = &record.manifest.scenario;
    let axes = scenario.toggles.iter().filter(|axis| !is_own(scenario, &axis.toggle) && wanted(axis));
    axes.filter_map(|axis| Some((axis.toggle.clone(), cell.toggles.get(&axis.toggle)?.clone()))).collect()
}

fn side(record: &Record, first: &Measured, cell: &Measured, tokens: &TokenIndex) -> Side {
    let is_first = first.cell.id == cell.cell.id;
    let prompts = runs::prompt(record, first.cell.id).zip(runs::prompt(record, cell.cell.id));
    let mut counts = cell.valid.iter().map(|row| row.generated_tokens);
    let generated = counts.next().flatten();
    Side {
        cell: cell.cell.id,
        name: name(record, cell),
        engine: cell.engine.to_owned(),
        counts: cell.counts,
        timing: cell.valid.iter().filter_map(|row| row.timing).max(),
        generated_tokens: generated.filter(|_| counts.all(|count| count == generated)),
        outputs: (!is_first).then(|| outputs::compare((first, tokens), (cell, tokens))),
        prompts_differ: prompts.map(|(a, b)| a != b).filter(|_| !is_first),
    }
}

/// The engine's label, with its varied toggles that the engines do not share.
fn name(record: &Record, cell: &Measured) -> String {
    let scenario = &record.manifest.scenario;
    let engine = scenario.engines.get(cell.cell.engine as usize);
    let axes = engine.map_or_else(Vec::new, |engine| scenario.toggles_of(engine));
    let varied = axes.iter().filter(|axis| axis.values.len() > 1 && is_own(scenario, &axis.toggle));
    let values = varied.filter_map(|axis| Some(format!(" {}={}", axis.toggle, cell.cell.toggles.get(&axis.toggle)?)));
    values.fold(cell.engine.to_owned(), |name, value| name + &value)
}

fn ranking(metric: &Metric, cells: &[&Measured]) -> Ranking {
    let figures = |cell: &Measured| robust::summarize(&cell.values(metric));
    let reference = cells.iter().find(|cell| figures(cell).is_some());
    let mut places: Vec<Place> = cells
        .iter()
        .map(|cell| Place {
            cell: cell.cell.id,
            figures: figures(cell),
            against: reference.filter(|first| first.cell.id != cell.cell.id).map(|first| judged(metric, first, cell)),
        })
        .collect();
    // Ranked by the ratio, which is what is shown; the reference is 1.
    let cost = |place: &Place| match (&place.figures, &place.against) {
        (Some(_), None) => Some(metric.cost(1.0)),
        (_, against) => against.as_ref().and_then(|against| against.ratio).map(|ratio| metric.cost(ratio)),
    };
    places.sort_by(|a, b| cost(a).unwrap_or(f64::INFINITY).total_cmp(&cost(b).unwrap_or(f64::INFINITY)));
    Ranking { metric: metric.key.to_owned(), places }
}

/// A side against the first one. Without a figure because its times are not verified, it is not
/// ranked; without a figure for another reason it is not measured.
fn judged(metric: &Metric, first: &Measured, cell: &Measured) -> MetricComparison {
    let mut comparison = runs::test(metric, first, cell);
    let unverified = metric.is_token_time && cell.valid.iter().any(|row| !row.has_token_times());
    if comparison.b.is_none() && unverified {
        comparison.change = Change::NotRanked;
    }
    comparison
}
