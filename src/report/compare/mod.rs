//! A comparison of two runs for people and programs. Caveats come before the figures.

mod export;
pub mod many;
mod markdown;
mod terminal;

pub use super::json;
pub use export::csv;
pub use markdown::render as markdown;
pub use terminal::render as table;

use super::figures;
use super::table::{Cell, MARKDOWN, Table};
use super::text::{self, plural, tally, valid};
use crate::compare::align::{ENGINE, SetAside};
use crate::compare::difference::Difference;
use crate::compare::outputs::Outputs;
use crate::compare::runs::{
    CONFIDENCE, CellComparison, Change, Comparison, FALSE_DISCOVERIES, MetricComparison, RunSide,
};
use crate::record::FinishState;
use crate::record::metric;
use crate::record::metric::{
    DECODE_TPS, ITL_P50_MS, ITL_P99_MS, METRICS, Metric, PREFILL_TPS, REQUESTS_PER_S, TTFT_MS,
};
use inferometer_protocol::Value;

/// Metrics that are always shown. Others are shown if they changed, or with `all`.
const HEADLINES: [&str; 5] = [PREFILL_TPS, DECODE_TPS, TTFT_MS, ITL_P50_MS, ITL_P99_MS];
/// The same for a cell under load.
const UNDER_LOAD: [&str; 5] = [REQUESTS_PER_S, "total_tps", "ttft_p95_ms", "e2e_p50_ms", "e2e_p95_ms"];
/// Widest value of a difference in the terminal that leaves room for the other side's.
const VALUE_WIDTH: u16 = 24;
/// Width of a metric's name in the terminal, the same in all cells.
const METRIC_WIDTH: u16 = 15;
/// Cells named in one sentence.
const MOST_NAMED: usize = 6;

/// What a run is, in one line below its name.
fn side(side: &RunSide) -> String {
    let commit = side.commit.as_ref().map(|commit| format!(", commit {}", text::label(commit))).unwrap_or_default();
    format!(
        "{}, started {}{commit}, {}",
        text::label(&side.scenario),
        text::label(&side.started_utc),
        tally(side.counts)
    )
}

/// Why no comparison of runs is a verdict.
const TREND: &str = "trend, not a verdict: the runs were made at different times, and on a shared machine a comparison \
                     like this reports a change for more than half of identical builds; use `inferometer ab` for a verdict";

/// Caveats, shown before the figures.
fn before(comparison: &Comparison) -> Vec<String> {
    let mut lines = vec![TREND.to_owned()];
    lines.extend(about(comparison, "B"));
    for (name, side) in [("A", &comparison.a), ("B", &comparison.b)] {
        lines.extend(unfinished(name, side));
        lines.extend(redacted(name, side));
        lines.extend(imported(name, side));
    }
    lines.extend(unmatched(comparison, "B"));
    lines
}

/// Outputs, prompts and what was set aside; `b` is B's name.
fn about(comparison: &Comparison, b: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if comparison.a.run == comparison.b.run {
        lines.push(format!("A and {b} are the same run"));
    }
    lines.extend(output_lines(comparison, b));
    lines.extend(prompt_line(&comparison.cells));
    lines.extend(comparison.set_aside.iter().map(|apart| set_aside(apart, b)));
    lines
}

/// The cells that are not compared.
fn unmatched(comparison: &Comparison, b: &str) -> Vec<String> {
    let mut lines = Vec::new();
    if comparison.cells.is_empty() {
        lines.push(format!("nothing to compare: no cell of A does the same work as a cell of {b}"));
    }
    for (name, only) in [("A", &comparison.only_a), (b, &comparison.only_b)] {
        if !only.is_empty() {
            let names: Vec<String> = only.iter().map(|cell| text::label(cell)).collect();
            lines.push(format!("only in {name}: {}", text::list(&names, MOST_NAMED)));
        }
    }
    lines
}

fn output_lines(comparison: &Comparison, b: &str) -> Vec<String> {
    let cells = &comparison.cells;
    let mut lines = Vec::new();
    let differing: Vec<&CellComparison> = cells.iter().filter(|cell| cell.outputs.differ()).collect();
    if !differing.is_empty() {
        let how = |cell: &&CellComparison| format!("{}: {}", text::label(&cell.name), outputs(&cell.outputs, b));
        let words: Vec<String> = differing.iter().map(how).collect();
        lines.push(format!(
            "OUTPUTS DIFFER in {} of {}: {}",
            differing.len(),
            plural(cells.len(), "cell"),
            text::list(&words, MOST_NAMED)
        ));
    }
    if [&comparison.a, &comparison.b].iter().any(|side| side.imported.is_some()) {
        lines.push("outputs: not compared, because an imported record has no tokens".to_owned());
        return lines;
    }
    let unknown = cells.iter().filter(|cell| cell.outputs == Outputs::Unknown).count();
    if unknown > 0 {
        let cells = plural(unknown, "cell");
        lines.push(format!("the outputs of {cells} cannot be compared: a side has no valid iteration"));
    }
    lines
}

/// How the tokens of a cell compare; `b` is B's name.
fn outputs(outputs: &Outputs, b: &str) -> String {
    match outputs {
        Outputs::Same => "same tokens".to_owned(),
        Outputs::Differ { index: None, turn: None } => "other tokens".to_owned(),
        Outputs::Differ { index: Some(index), turn: None } => format!("other tokens from index {index} on"),
        Outputs::Differ { index: Some(index), turn: Some(turn) } => {
            format!("other tokens from index {index} of turn {turn} on")
        }
        Outputs::Differ { index: None, turn: Some(turn) } => format!("other tokens from turn {turn} on"),
        Outputs::Several { a, b: of_b, common } => {
            format!("{} in A, {of_b} in {b}, {common} in common", plural(*a, "output"))
        }
        Outputs::Unknown => "tokens not known".to_owned(),
    }
}

fn prompt_line(cells: &[CellComparison]) -> Option<String> {
    let other = cells.iter().filter(|cell| cell.prompts_differ == Some(true)).count();
    (other > 0).then(|| format!("the prompts of {} differ", plural(other, "cell")))
}

fn set_aside(apart: &SetAside, b: &str) -> String {
    let value =
        |value: &Option<Value>| value.as_ref().map_or_else(|| "not set".to_owned(), |v| text::label(&v.to_string()));
    let what = if apart.what == ENGINE { "engine".to_owned() } else { text::label(&apart.what) };
    format!(
        "{what} is {} in all of A and {} in all of {b}; cells are matched by everything else",
        value(&apart.a),
        value(&apart.b)
    )
}

fn unfinished(name: &str, side: &RunSide) -> Option<String> {
    match side.state {
        FinishState::Running => Some(format!("{name} is not finished: it is still running, or was killed")),
        FinishState::Interrupted => Some(format!("{name} was interrupted")),
        FinishState::Finished if side.segments > 1 => {
            Some(format!("{name} was resumed: its iterations come from {} run segments", side.segments))
        }
        FinishState::Finished => None,
    }
}

fn redacted(name: &str, side: &RunSide) -> Option<String> {
    let told = "is redacted: its outputs can be compared by their hashes only";
    side.redacted.then(|| format!("{name} {told}"))
}

fn imported(name: &str, side: &RunSide) -> Option<String> {
    let by = text::label(side.imported.as_ref()?);
    Some(format!("{name} is imported: its figures rest on what {by} claims; nothing was checked here"))
}

/// Notes that explain the figures; none without a figure.
fn after(comparison: &Comparison, all: bool) -> Vec<String> {
    if comparison.cells.is_empty() {
        return Vec::new();
    }
    let shown = comparison.cells.iter().flat_map(|cell| shown(comparison, cell, all));
    let changes: Vec<Change> = shown.map(|(_, figures)| figures.change).collect();
    let synthetic = comparison.a.synthetic || comparison.b.synthetic;
    notes("B/A", "these two runs", comparison.tests, &changes, synthetic)
}

/// What `ratio` is, of which runs, and what the shown results mean.
fn notes(ratio: &str, runs: &str, tests: usize, changes: &[Change], synthetic: bool) -> Vec<String> {
    let mut lines = vec![format!(
        "{ratio}: shift of the values of all iterations, with its {:.0} % interval. The interval is about {runs}, \
         not about the builds. Worse, better: {} (Mann-Whitney); {:.0} % or less of these results are false positives \
         on average (Benjamini-Hochberg). \"Not shown\" does not mean unchanged",
        CONFIDENCE * 100.0,
        plural(tests, "test"),
        FALSE_DISCOVERIES * 100.0,
    )];
    if changes.contains(&Change::NotTested) {
        lines.push("not tested: too few valid iterations, a mean without samples, or a value of 0".to_owned());
    }
    if changes.contains(&Change::NotRanked) {
        lines.push(
            "not ranked: one side stamps every token and the other does not, or different programs measured the sides, \
             so their times cannot be ranked"
                .to_owned(),
        );
    }
    if synthetic {
        lines.push(format!("synthetic model: {}", text::mark("synthetic model")));
    }
    lines
}

/// The metrics of a cell that are shown: the headlines and whatever changed, or with `all` every
/// one that some cell has.
fn shown<'a>(
    comparison: &Comparison,
    cell: &'a CellComparison,
    all: bool,
) -> Vec<(&'static Metric, &'a MetricComparison)> {
    let unmeasured = unmeasured(comparison);
    let is_some_measured = |m: Option<&MetricComparison>| m.is_some_and(|m| m.a.is_some() || m.b.is_some());
    let peak = metric::peak_memory(|key| is_some_measured(cell.metric(key)));
    let missing = |metric: &Metric| {
        unmeasured.contains(&metric.title) || metric::is_other_peak(metric.key, |key| is_measured(comparison, key))
    };
    let under_load = is_some_measured(cell.metric(REQUESTS_PER_S));
    let headlines: &[&str] = if under_load { &UNDER_LOAD } else { &HEADLINES };
    let is_shown = |metric: &Metric, change| {
        let changed = matches!(change, Change::Worse | Change::Better);
        changed || headlines.contains(&metric.key) || metric.key == peak || all && !missing(metric)
    };
    METRICS
        .iter()
        .chain([&metric::LOAD])
        .filter_map(|metric| Some((metric, cell.metric(metric.key)?)))
        .filter(|(metric, figures)| is_shown(metric, figures.change))
        .collect()
}

/// Iterations of both sides, and how their tokens compare: `10 and 10 iterations, same tokens`.
fn cell_facts(cell: &CellComparison) -> String {
    format!("{} and {} iterations, {}", valid(cell.counts_a), valid(cell.counts_b), outputs(&cell.outputs, "B"))
}

/// B vs A in percent, with a sign.
fn percent(ratio: f64) -> String {
    let change = (ratio - 1.0) * 100.0;
    match change.abs() {
        size if size < 0.05 => "0.0 %".to_owned(),
        size if size < 100.0 => format!("{change:+.1} %"),
        _ => format!("{change:+.0} %"),
    }
}

fn interval(comparison: &MetricComparison) -> String {
    let bare = |ratio: f64| percent(ratio).trim_end_matches(" %").to_owned();
    comparison.interval.map_or_else(String::new, |i| format!("[{}, {}]", bare(i.lo), bare(i.hi)))
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "<.001".to_owned() } else { format!("{p:.3}").replacen("0.", ".", 1) }
}

/// A metric in a cell.
type Row<'a> = (&'a CellComparison, &'static Metric, &'a MetricComparison);

/// The metrics of these cells. Markdown has one table for all cells, the terminal one for each.
fn metrics<'a>(whole: &Comparison, cells: &'a [CellComparison], all: bool) -> Table<Row<'a>> {
    let rows = cells
        .iter()
        .flat_map(|cell| shown(whole, cell, all).into_iter().map(move |(metric, figures)| (cell, metric, figures)));
    Table::of("Metrics", rows)
        .group("cell", |row| row.0.cell_a, |row| Cell::from(&row.0.name).beside(format!("({})", cell_facts(row.0))))
        .only(MARKDOWN)
        .text("metric", |row| Cell::from(row.1.title).unit(figures::unit(row.1)))
        .exactly(METRIC_WIDTH)
        .number("A", |row| figures::median(row.1, row.2.a.as_ref()))
        .number("B", |row| figures::median(row.1, row.2.b.as_ref()))
        .number("B/A", |row| row.2.ratio.map(percent))
        .number("interval %", |row| interval(row.2))
        .number("p", |row| row.2.p_value.map(p_value))
        .text("trend", |row| row.2.change.name())
}

/// What else differs between the runs.
fn differences(comparison: &Comparison) -> Table<&Difference> {
    Table::of("Differences", &comparison.differences)
        .group("differs", |of| of.area, |of| of.area.name())
        .text("", |of| &of.what)
        .at_most(VALUE_WIDTH)
        .text("A", |of| of.a.as_ref())
        .at_most(VALUE_WIDTH)
        .text("B", |of| of.b.as_ref())
        .at_most(VALUE_WIDTH)
}

/// Titles of the metrics that neither run measured in any cell that is compared.
fn unmeasured(comparison: &Comparison) -> Vec<&'static str> {
    let measured = |key: &str| is_measured(comparison, key);
    let is_missing = |m: &&Metric| !measured(m.key) && !metric::is_other_peak(m.key, measured);
    METRICS.iter().chain([&metric::LOAD]).filter(is_missing).map(|m| m.title).collect()
}

/// Whether some cell has a metric on a side.
fn is_measured(comparison: &Comparison, key: &str) -> bool {
    comparison.cells.iter().filter_map(|cell| cell.metric(key)).any(|m| m.a.is_some() || m.b.is_some())
}
