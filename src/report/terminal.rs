//! A run for the terminal: a table with one row for each cell, then a line for each problem or
//! remark.

use super::summary::Summary;
use super::{engines, figures, leaks, quality, text, traffic, turns};
use crate::record::metric::{DECODE_TPS, PREFILL_TPS};
use inferometer_stats::robust;

/// The table and its remarks, each line ended by a newline.
#[must_use]
pub fn render(summary: &Summary) -> String {
    let mut out = String::new();
    for line in before(summary) {
        text::paragraph(&mut out, &line, "  ");
    }
    if traffic::cells(summary).next().is_some() {
        out.extend([&traffic::table(summary).terminal(), "\n"]);
    } else if !summary.cells.is_empty() {
        out.extend([&figures::headlines(summary).terminal(), "\n"]);
    }
    if let Some(side_by_side) = &summary.side_by_side {
        text::paragraph(&mut out, &engines::heading(side_by_side), "  ");
        for line in engines::lines(side_by_side) {
            text::paragraph(&mut out, &format!("  {line}"), "    ");
        }
        out.push('\n');
    }
    if turns::cells(summary).next().is_some() {
        out.extend([&turns::some(summary).terminal(), "\n"]);
    }
    for line in remarks(summary) {
        text::paragraph(&mut out, &line, "  ");
    }
    out
}

/// How to read the tables of a conversation.
fn turns_note(summary: &Summary) -> Option<String> {
    let count = turns::cells(summary).count();
    let all = turns::cells(summary).map(|cell| cell.turns.len()).max()?;
    let shown = turns::cells(summary).map(|cell| turns::shown(&cell.turns, count).len()).max()?;
    let some = if shown < all { format!("; {shown} of {all} turns shown, the report has all") } else { String::new() };
    Some(format!(
        "an iteration is a whole conversation: rates are over all its turns, TTFT is the mean of its turns{some}"
    ))
}

/// The lines below the tables.
#[must_use]
pub fn remarks(summary: &Summary) -> Vec<String> {
    let mut lines = vec![standing(summary)];
    let identities = summary.run.engines.iter().map(|engine| (engine, engine.identity()));
    lines.extend(
        identities
            .filter(|(_, what)| !what.is_empty())
            .map(|(engine, what)| format!("{}: {}", text::label(&engine.label), text::sentence(&what))),
    );
    lines.extend(summary.side_by_side.as_ref().map(|of| engines::note(of, &summary.run.interval_scope)));
    lines.extend(interval_note(summary));
    lines.extend(no_interval_note(summary));
    lines.extend(summary.leaks.iter().map(leaks::sentence));
    lines.extend(turns_note(summary));
    lines.extend(traffic::findings(summary));
    lines.extend(traffic::note(summary).map(str::to_owned));
    lines.extend(quality::notes(summary));
    lines.extend(figures::speculating(summary).map(str::to_owned));
    lines.extend(summary.run.marks().into_iter().map(|mark| format!("{mark}: {}", text::mark(mark))));
    for problem in &summary.validity.problems {
        lines.push(format!("{}: {}", text::label(&problem.label), problem.sentence()));
    }
    lines.extend(summary.validity.remarks.iter().skip(summary.validity.first).map(|remark| line(remark)));
    lines
}

/// The lines above the tables: that the figures below are not of the same work.
#[must_use]
pub fn before(summary: &Summary) -> Vec<String> {
    summary.validity.remarks.iter().take(summary.validity.first).map(|remark| line(remark)).collect()
}

fn line(remark: &str) -> String {
    text::sentence(remark).trim_end_matches('.').to_owned()
}

fn standing(summary: &Summary) -> String {
    format!("{}: {}", summary.validity.standing.words(), text::tally(summary.validity.counts))
}

/// The values of rejected iterations, to be shown greyed below everything else; each line ended by
/// a newline.
#[must_use]
pub fn rejected(summary: &Summary) -> String {
    let mut out = String::new();
    figures::rejected(summary).iter().for_each(|line| text::paragraph(&mut out, line, "  "));
    out
}

/// What the brackets mean, if there are any.
#[must_use]
pub fn interval_note(summary: &Summary) -> Option<String> {
    let mut levels: Vec<f64> = summary
        .cells
        .iter()
        .flat_map(|cell| [PREFILL_TPS, DECODE_TPS].map(|key| cell.metric(key).and_then(|s| s.interval)))
        .flatten()
        .map(|interval| interval.confidence * 100.0)
        .collect();
    levels.sort_by(f64::total_cmp);
    let (low, high) = (levels.first()?, levels.last()?);
    let level = match (format!("{low:.1}"), format!("{high:.1}")) {
        (low, high) if low == high => format!("{low} %"),
        (low, high) => format!("{low} to {high} %"),
    };
    Some(format!("[lo, hi]: {level} interval of the median, {}", summary.run.interval_scope))
}

/// Where iterations are too few for an interval: how many cells, and how many iterations it needs.
#[must_use]
pub fn no_interval_note(summary: &Summary) -> Option<String> {
    let least = robust::least_for_interval();
    let few: Vec<usize> =
        summary.cells.iter().map(|cell| cell.counts.ok).filter(|ok| (1..least).contains(ok)).collect();
    let most = few.iter().max()?;
    let cells = match (few.len(), summary.cells.len()) {
        (few, all) if few == all => String::new(),
        (few, all) => format!(" in {few} of {all} cells"),
    };
    let iterations = text::plural(*most, "valid iteration");
    let verb = if *most == 1 { "is" } else { "are" };
    let advice = match summary.run.imported {
        Some(_) => String::new(),
        None => format!(" (`run.iterations = {least}` or more)"),
    };
    Some(format!("no confidence interval{cells}: {iterations} {verb} too few, {least} are needed{advice}"))
}
