//! A history for people and programs.

mod export;
mod markdown;
mod page;
mod terminal;

pub use super::json;
pub use export::csv;
pub use markdown::render as markdown;
pub use terminal::render as table;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ReportError;
use super::figures;
use super::summary::NOT_MEASURED;
use super::svg::Chart;
use super::svg::history::{Course, Dot, draw};
use super::table::Table;
use super::text::{self, plural, valid};
use crate::compare::history::{ChangePoint, History, Point, Series};
use crate::compare::runs::Change;
use crate::record::metric;
use crate::record::metric::{Metric, Unit};
use inferometer_stats::change::{FEWEST, SHORTEST};

/// Folder of the history among the reports.
const FOLDER: &str = "history";
/// Marks a commit with uncommitted changes.
const CHANGED: char = '+';
const MIB: f64 = 1_048_576.0;

/// Writes `<reports>/history/`: index.html, charts/*.svg, summary.json. Returns the path of
/// index.html.
///
/// # Errors
/// When the folder cannot be made or written; the message names the path.
pub fn write(history: &History, reports: &Path) -> Result<PathBuf, ReportError> {
    let folder = reports.join(FOLDER);
    let charts: Vec<Chart> = history.series.iter().enumerate().map(|(at, series)| chart(at, history, series)).collect();
    super::write_charts(&folder, &charts)?;
    fs_err::write(folder.join("summary.json"), json(history))?;
    let page = folder.join("index.html");
    fs_err::write(&page, page::render(history, &charts))?;
    Ok(page)
}

/// Notes that every history shows.
fn notes(history: &History) -> Vec<String> {
    let mut notes = vec![
        "trend, not a verdict: the runs were made at different times, and machines change; use `inferometer ab` for a \
         verdict"
            .to_owned(),
        format!(
            "change points need at least {FEWEST} runs, and a level of at least {SHORTEST} runs. False positives: 1 to 4 % of \
             series that never changed get a change point if runs are independent, and most get one if many runs were \
             made back to back on a machine whose speed drifts"
        ),
    ];
    let changed = |point: &Point| commit(point).ends_with(CHANGED);
    if history.series.iter().flat_map(|series| &series.points).any(changed) {
        notes.push(format!("{CHANGED} after a commit: the working folder had uncommitted changes"));
    }
    notes
}

fn metric_of(series: &Series) -> &'static Metric {
    metric::find(&series.metric).unwrap_or(&metric::LOAD)
}

/// `long-context: cap=0 len=512`, with the hash of the work if several works have that name.
fn cell_title(history: &History, series: &Series) -> String {
    let named = |other: &&Series| other.scenario == series.scenario && other.cell == series.cell;
    let works: BTreeSet<&str> = history.series.iter().filter(named).map(|other| other.work.as_str()).collect();
    let work = if works.len() > 1 { format!(" (work {})", series.work) } else { String::new() };
    format!("{}: {}{work}", text::label(&series.scenario), text::label(&series.cell))
}

/// `Decode, tok/s`.
fn metric_title(metric: &Metric) -> String {
    match metric.unit.is_in_number() {
        true => metric.title.to_owned(),
        false => format!("{}, {}", metric.title, metric.unit.symbol()),
    }
}

/// Date and time of a run, to the minute.
fn when(point: &Point) -> String {
    super::html::when(&point.started_utc).trim_end_matches(" UTC").to_owned()
}

fn commit(point: &Point) -> String {
    point.commit.as_deref().map_or_else(
        || NOT_MEASURED.to_owned(),
        |commit| text::label(&commit.replace(" with changes", &CHANGED.to_string())),
    )
}

/// The runs of a series without the first `hidden`.
fn runs(series: &Series, hidden: usize) -> Table<(usize, &Point)> {
    let metric = metric_of(series);
    let change = |at: usize| series.changes.iter().find(|change| change.at == at);
    let table = Table::of("Runs", series.points.iter().enumerate().skip(hidden))
        .text("when (UTC)", |(_, point)| when(point))
        .text("commit", |(_, point)| commit(point))
        .number("n", |(_, point)| valid(point.counts));
    figures::column(table, metric, |(_, point): &(usize, &Point)| figures::median(metric, point.figures.as_ref()))
        .number("interval", |(_, point)| figures::interval(metric, point.figures.as_ref()).unwrap_or_default())
        .text("change point", |(at, _)| change(*at).map(shift_in_words).unwrap_or_default())
}

/// `-8.1 %`.
fn shift(change: &ChangePoint) -> String {
    format!("{:+.1} %", (change.ratio() - 1.0) * 100.0)
}

/// `-8.1 %, worse`.
fn shift_in_words(change: &ChangePoint) -> String {
    format!("{}, {}", shift(change), change.change.name())
}

/// A change point in a sentence.
fn sentence(history: &History, series: &Series, change: &ChangePoint) -> String {
    let metric = metric_of(series);
    let commit = commit(&series.points[change.at]);
    format!(
        "{}, {}: {}, from {} to {}, since {} (commit {commit})",
        cell_title(history, series),
        metric.title,
        shift_in_words(change),
        metric.unit.quantity(change.before),
        metric.unit.quantity(change.after),
        when(&series.points[change.at])
    )
}

fn chart(at: usize, history: &History, series: &Series) -> Chart {
    let metric = metric_of(series);
    let (factor, unit) = match metric.unit {
        Unit::Bytes => (MIB, "MiB"),
        other => (1.0, other.symbol()),
    };
    let edges: Vec<usize> =
        std::iter::once(0).chain(series.changes.iter().map(|c| c.at)).chain([series.points.len()]).collect();
    let heights: Vec<f64> =
        series.changes.first().map(|c| c.before).into_iter().chain(series.changes.iter().map(|c| c.after)).collect();
    draw(&Course {
        name: format!("series-{at}"),
        title: format!("{}, {}", metric.title, cell_title(history, series)),
        subtitle: text::label(&series.machine),
        unit: format!("median of a run in {unit}").trim_end_matches(" in ").to_owned(),
        dots: series
            .points
            .iter()
            .map(|point| {
                let figures = point.figures?;
                let interval = figures.interval.map(|mut i| {
                    (i.lo, i.hi) = (i.lo / factor, i.hi / factor);
                    i
                });
                Some(Dot { median: figures.median / factor, interval })
            })
            .collect(),
        ticks: series.points.iter().map(|point| when(point).get(5..10).unwrap_or_default().to_owned()).collect(),
        levels: edges.windows(2).zip(heights).map(|(edge, level)| (edge[0], edge[1], level / factor)).collect(),
        shifts: series.changes.iter().map(|c| (c.at, shift(c), c.change == Change::Worse)).collect(),
    })
}

/// `12 runs, 2 change points`.
fn tally(history: &History) -> String {
    let changes = history.series.iter().map(|series| series.changes.len()).sum();
    format!("{}, {} series, {}", plural(history.runs, "run"), history.series.len(), plural(changes, "change point"))
}
