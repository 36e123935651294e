//! Several runs, each compared with A, for people: caveats and differences, the ranking, then a
//! table with a column for each run. More runs than fit have a row each.

use std::collections::BTreeMap;

use super::{
    CellComparison, Change, Comparison, HEADLINES, METRIC_WIDTH, Metric, MetricComparison, TREND, about, imported,
    interval, notes, percent, redacted, shown, side, unfinished, unmatched,
};
use crate::compare::difference::RunDifference;
use crate::compare::many::ManyRuns;
use crate::compare::runs::RunSide;
use crate::record::metric;
use crate::record::metric::METRICS;
use crate::report::markdown::{escape, escape_sentence, folded};
use crate::report::table::{Cell, MARKDOWN, Table};
use crate::report::{engines, figures, profiles, text};

/// Runs that fit beside each other in 80 columns.
const MOST_BESIDE: usize = 4;
/// Width that the values of a difference share in the terminal.
const VALUES_WIDTH: usize = 44;

/// The name of a run by its position: A, B and so on.
#[must_use]
pub fn letter(at: usize) -> String {
    let letter = u8::try_from(at).ok().filter(|at| *at < 26).map(|at| char::from(b'A' + at));
    letter.map_or_else(|| (at + 1).to_string(), String::from)
}

/// A cell of A with the runs that have it too, by their letters.
struct Compared<'a> {
    cell_a: u32,
    name: &'a str,
    others: Vec<(usize, &'a CellComparison)>,
}

/// A metric of a cell: A's figures, and each other run against them.
struct Row<'a> {
    cell: &'a Compared<'a>,
    metric: &'static Metric,
    runs: Vec<(usize, &'a MetricComparison)>,
}

fn sides(compared: &ManyRuns) -> Vec<(String, &RunSide)> {
    let a = compared.comparisons.iter().take(1).map(|of| &of.a);
    a.chain(compared.comparisons.iter().map(|of| &of.b)).enumerate().map(|(at, side)| (letter(at), side)).collect()
}

/// Caveats, shown before the figures.
fn before(compared: &ManyRuns) -> Vec<String> {
    let mut lines = vec![TREND.to_owned()];
    for (name, side) in sides(compared) {
        lines.extend(unfinished(&name, side));
        lines.extend(imported(&name, side));
        lines.extend(redacted(&name, side));
    }
    for (at, of) in compared.comparisons.iter().enumerate() {
        let name = letter(at + 1);
        let told = about(of, &name).into_iter().chain(unmatched(of, &name));
        lines.extend(told.map(|line| format!("A and {name}: {line}")));
    }
    lines
}

/// The cells of A that some other run has.
fn cells(compared: &ManyRuns) -> Vec<Compared<'_>> {
    let mut cells: BTreeMap<u32, Compared> = BTreeMap::new();
    for (at, of) in compared.comparisons.iter().enumerate() {
        for cell in &of.cells {
            let entry = Compared { cell_a: cell.cell_a, name: &cell.name, others: Vec::new() };
            cells.entry(cell.cell_a).or_insert(entry).others.push((at + 1, cell));
        }
    }
    cells.into_values().collect()
}

/// The metrics of a cell that are shown for some run.
fn rows<'a>(compared: &ManyRuns, cell: &'a Compared<'a>, all: bool) -> Vec<Row<'a>> {
    let wanted: Vec<&str> = cell
        .others
        .iter()
        .flat_map(|(at, of)| shown(&compared.comparisons[at - 1], of, all))
        .map(|(metric, _)| metric.key)
        .collect();
    let runs =
        |metric: &Metric| cell.others.iter().filter_map(|(at, of)| Some((*at, of.metric(metric.key)?))).collect();
    let metrics = METRICS.iter().chain([&metric::LOAD]).filter(|metric| wanted.contains(&metric.key));
    metrics.map(|metric| Row { cell, metric, runs: runs(metric) }).collect()
}

/// One line for each headline metric and cell in which a run clearly differs from A: the runs that
/// do, the best first, then the others.
fn ranking(compared: &ManyRuns) -> Vec<String> {
    let cells = cells(compared);
    let rows: Vec<Row> = cells.iter().flat_map(|cell| rows(compared, cell, false)).collect();
    let is_headline =
        |metric: &Metric| HEADLINES[..3].contains(&metric.key) || metric::PEAK_MEMORY.contains(&metric.key);
    let mut lines = Vec::new();
    for metric in METRICS.iter().filter(|metric| is_headline(metric)) {
        lines.extend(rows.iter().filter(|row| row.metric.key == metric.key).filter_map(ranked_line));
    }
    match lines.is_empty() && !rows.is_empty() {
        true => vec!["no run clearly differs from A in prefill, decode, TTFT or peak memory".to_owned()],
        false => lines,
    }
}

fn ranked_line(row: &Row) -> Option<String> {
    type Runs<'a> = Vec<(usize, &'a MetricComparison)>;
    let (mut clear, others): (Runs, Runs) = row.runs.iter().copied().partition(|(_, of)| engines::is_clear(of));
    let cost = |of: &MetricComparison| row.metric.cost(of.ratio.unwrap_or(1.0));
    clear.sort_by(|a, b| cost(a.1).total_cmp(&cost(b.1)));
    let clear = clear.iter().enumerate().map(|(place, (at, of))| {
        format!("{} {}", letter(*at), engines::ratio_words(row.metric, of, (place == 0).then_some("A")))
    });
    let mut words: Vec<String> = clear.collect();
    if words.is_empty() {
        return None;
    }
    if !others.is_empty() {
        let names: Vec<String> = others.iter().map(|(at, _)| letter(*at)).collect();
        words.push(format!("no clear difference: {}", text::list(&names, names.len())));
    }
    Some(format!("{}, {}: {}", text::lower(row.metric.title), text::label(row.cell.name), words.join("; ")))
}

/// A column for each run.
fn beside<'a>(rows: Vec<Row<'a>>, runs: usize) -> Table<Row<'a>> {
    let table = Table::of("Metrics", rows)
        .group("cell", |row| row.cell.cell_a, |row| row.cell.name.to_owned())
        .only(MARKDOWN)
        .text("metric", |row| Cell::from(row.metric.title).unit(figures::unit(row.metric)))
        .exactly(METRIC_WIDTH)
        .number("A", |row| {
            let first = row.runs.iter().find_map(|(_, of)| of.a);
            figures::median(row.metric, first.as_ref())
        });
    (1..runs).fold(table, |table, at| {
        table.number(letter(at), move |row| match row.runs.iter().find(|(run, _)| *run == at) {
            None => Cell::nothing(),
            Some((_, of)) => against(of),
        })
    })
}

/// `+31.2 % better` over its interval.
fn against(of: &MetricComparison) -> Cell {
    match of.ratio {
        None => Cell::from(of.change.name()),
        Some(ratio) => {
            let ends = interval(of);
            let cell = Cell::from(format!("{} {}", percent(ratio), of.change.name()));
            if ends.is_empty() { cell } else { cell.beside(ends) }
        }
    }
}

/// A row for each run.
fn beneath<'a>(rows: Vec<Row<'a>>) -> Table<(usize, &'static Metric, &'a MetricComparison)> {
    let rows = rows.into_iter().flat_map(|row| row.runs.into_iter().map(move |(at, of)| (at, row.metric, of)));
    Table::of("Metrics", rows)
        .group("metric", |row| row.1.key, |row| Cell::from(row.1.title).unit(figures::unit(row.1)))
        .exactly(METRIC_WIDTH)
        .head("run", |row| letter(row.0))
        .number("A", |row| figures::median(row.1, row.2.a.as_ref()))
        .number("median", |row| figures::median(row.1, row.2.b.as_ref()))
        .number("to A", |row| row.2.ratio.map(percent))
        .number("interval %", |row| interval(row.2))
        .text("trend", |row| row.2.change.name())
}

fn differences(compared: &ManyRuns) -> Table<&RunDifference> {
    let runs = compared.comparisons.len() + 1;
    let table = Table::of("Differences", &compared.differences)
        .group("differs", |of| of.area, |of| of.area.name())
        .text("", |of| &of.what)
        .at_most(20);
    let width = (VALUES_WIDTH / runs).max(6) as u16;
    (0..runs).fold(table, |table, at| table.text(letter(at), move |of| of.values[at].as_ref()).at_most(width))
}

/// Differences as lines, for more runs than a table has room for.
fn difference_line(of: &RunDifference) -> String {
    let mut values: Vec<(&Option<String>, Vec<String>)> = Vec::new();
    for (at, value) in of.values.iter().enumerate() {
        match values.iter_mut().find(|(known, _)| *known == value) {
            Some((_, runs)) => runs.push(letter(at)),
            None => values.push((value, vec![letter(at)])),
        }
    }
    let words = values.into_iter().map(|(value, runs)| {
        let value = value.as_deref().map_or_else(|| "absent".to_owned(), text::label);
        format!("{value} ({})", runs.join(" "))
    });
    format!("{} {}: {}", of.area.name(), text::label(&of.what), words.collect::<Vec<_>>().join(", "))
}

fn changes(compared: &ManyRuns, all: bool) -> Vec<Change> {
    let cells = cells(compared);
    let rows = cells.iter().flat_map(|cell| rows(compared, cell, all));
    rows.flat_map(|row| row.runs.into_iter().map(|(_, of)| of.change)).collect()
}

/// Notes that explain the figures; none without a figure.
fn after(compared: &ManyRuns, all: bool) -> Vec<String> {
    if compared.comparisons.iter().all(|of| of.cells.is_empty()) {
        return Vec::new();
    }
    let synthetic = compared.comparisons.iter().any(|of| of.a.synthetic || of.b.synthetic);
    notes("to A", "these runs", compared.tests, &changes(compared, all), synthetic)
}

/// For the terminal: 80 columns. With `all` every metric that was measured.
#[must_use]
pub fn table(compared: &ManyRuns, all: bool) -> String {
    let runs = compared.comparisons.len() + 1;
    let mut out = String::new();
    for (name, run) in sides(compared) {
        text::paragraph(&mut out, &format!("{name}  {}", text::label(&run.run)), "   ");
        text::paragraph(&mut out, &format!("   {}", side(run)), "   ");
    }
    out.push('\n');
    before(compared).iter().for_each(|line| text::paragraph(&mut out, line, "  "));
    out.push('\n');
    if runs <= MOST_BESIDE && !compared.differences.is_empty() {
        out.extend([&differences(compared).terminal(), "\n"]);
    } else if !compared.differences.is_empty() {
        let lines = compared.differences.iter().map(difference_line);
        lines.for_each(|line| text::paragraph(&mut out, &format!("differs: {line}"), "  "));
        out.push('\n');
    }
    let ranked = ranking(compared);
    ranked.iter().for_each(|line| text::paragraph(&mut out, line, "  "));
    if !ranked.is_empty() {
        out.push('\n');
    }
    for cell in &cells(compared) {
        text::paragraph(&mut out, &text::label(cell.name), "  ");
        let rows = rows(compared, cell, all);
        let table = if runs <= MOST_BESIDE { beside(rows, runs).terminal() } else { beneath(rows).terminal() };
        out.extend([&table, "\n"]);
    }
    after(compared, all).iter().for_each(|line| text::paragraph(&mut out, line, "  "));
    for (name, of) in with_profiles(compared) {
        out.push_str(&format!("\nprofiles of A and {name}\n{}", profiles::table(&of.profiles)));
    }
    out
}

fn with_profiles(compared: &ManyRuns) -> impl Iterator<Item = (String, &Comparison)> {
    let named = compared.comparisons.iter().enumerate().map(|(at, of)| (letter(at + 1), of));
    named.filter(|(_, of)| !of.profiles.is_empty())
}

/// As GitHub Markdown: the ranking and the headlines; every metric unfolds.
#[must_use]
pub fn markdown(compared: &ManyRuns) -> String {
    let runs = compared.comparisons.len() + 1;
    let mut out = format!("## Comparison of {}\n\n", text::plural(runs, "run"));
    for (name, run) in sides(compared) {
        out.push_str(&format!("- {name}: **{}**, {}\n", escape(&run.run), escape(&side(run))));
    }
    let list = |lines: Vec<String>| {
        lines.iter().map(|line| format!("- {}\n", escape_sentence(line))).collect::<String>() + "\n"
    };
    out.push('\n');
    out.push_str(&list(before(compared)));
    out.push_str(&folded("Differences in program, machine, engine or scenario", &differences(compared).markdown()));
    out.push_str(&list(ranking(compared)));
    let cells = cells(compared);
    let all_rows = |all| cells.iter().flat_map(|cell| rows(compared, cell, all)).collect();
    out.push_str(&beside(all_rows(false), runs).markdown());
    out.push_str(&list(after(compared, false)));
    out.push_str(&folded("Every metric", &beside(all_rows(true), runs).markdown()));
    for (name, of) in with_profiles(compared) {
        out.push_str(&format!("\nProfiles of A and {name}\n\n"));
        out.push_str(&profiles::markdown(&of.profiles, crate::profile::difference::SHOWN));
    }
    out
}
