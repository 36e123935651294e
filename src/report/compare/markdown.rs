//! The comparison as GitHub Markdown: the headlines and what changed; every metric unfolds.

use super::{
    CellComparison, Comparison, after, before, cell_facts, interval, median, p_value, ratio, shown, side, title,
    unmeasured,
};
use crate::profile::difference::SHOWN;
use crate::report::markdown::escape;
use crate::report::profiles;
use crate::report::summary::NOT_MEASURED;
use crate::report::text;

#[must_use]
pub fn render(comparison: &Comparison) -> String {
    let mut out = String::from("## Comparison of two runs\n\n");
    for (name, run) in [("A", &comparison.a), ("B", &comparison.b)] {
        out.push_str(&format!("- {name}: **{}**, {}\n", escape(&run.run), escape(&side(run))));
    }
    out.push('\n');
    let mut lines = before(comparison).into_iter();
    if let Some(first) = lines.next() {
        out.push_str(&format!("**{}**\n\n", escape(&first)));
    }
    lines.for_each(|line| out.push_str(&format!("- {}\n", escape(&line))));
    out.push('\n');
    out.push_str(&table(comparison, false));
    after(comparison).iter().for_each(|line| out.push_str(&format!("- {}\n", escape(line))));
    let titles = unmeasured(comparison);
    if !titles.is_empty() {
        out.push_str(&format!("- not measured: {}\n", text::list(&titles, titles.len())));
    }
    if !comparison.cells.is_empty() {
        let all = table(comparison, true);
        out.push_str(&format!("\n<details><summary>Every metric</summary>\n\n{all}</details>\n"));
    }
    out.push_str(&differences(comparison));
    if !comparison.profiles.is_empty() {
        out.push_str(&format!("\n{}", profiles::markdown(&comparison.profiles, SHOWN)));
    }
    out
}

fn table(comparison: &Comparison, all: bool) -> String {
    let mut out =
        String::from("| cell | metric | A | B | B/A | interval % | p | trend |\n|---|---|--:|--:|--:|--:|--:|---|\n");
    for cell in &comparison.cells {
        rows(&mut out, comparison, cell, all);
    }
    out.push('\n');
    out
}

fn rows(out: &mut String, whole: &Comparison, cell: &CellComparison, all: bool) {
    for (at, (metric, figures)) in shown(whole, cell, all).into_iter().enumerate() {
        let name = match at {
            0 => format!("**{}**", escape(&cell.name)),
            1 => escape(&cell_facts(cell)),
            _ => String::new(),
        };
        let fields = [
            name,
            title(metric),
            median(metric, figures.a.as_ref()),
            median(metric, figures.b.as_ref()),
            ratio(figures),
            interval(figures),
            p_value(figures).replace('<', "&lt;"),
            figures.change.name().to_owned(),
        ];
        out.push_str(&format!("| {} |\n", fields.join(" | ")));
    }
}

fn differences(comparison: &Comparison) -> String {
    if comparison.differences.is_empty() {
        return "\nNothing that the records say of program, machine, engine and scenario differs.\n".to_owned();
    }
    let count = text::plural(comparison.differences.len(), "difference");
    let mut out =
        format!("\n<details><summary>{count} beside the figures</summary>\n\n| | | A | B |\n|---|---|---|---|\n");
    for difference in &comparison.differences {
        let value = |value: &Option<String>| value.as_deref().map_or_else(|| NOT_MEASURED.to_owned(), escape);
        out.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            difference.area.name(),
            escape(&difference.what),
            value(&difference.a),
            value(&difference.b)
        ));
    }
    out + "\n</details>\n"
}
