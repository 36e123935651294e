//! The comparison as GitHub Markdown: the headlines and what changed; every metric unfolds.

use super::{Comparison, after, before, differences, metrics, side, unmeasured};
use crate::profile::difference::SHOWN;
use crate::report::markdown::{escape, escape_sentence, folded};
use crate::report::profiles;
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
        out.push_str(&format!("**{}**\n\n", escape_sentence(&first)));
    }
    lines.for_each(|line| out.push_str(&format!("- {}\n", escape_sentence(&line))));
    out.push('\n');
    out.push_str(&metrics(comparison, &comparison.cells, false).markdown());
    after(comparison, false).iter().for_each(|line| out.push_str(&format!("- {}\n", escape_sentence(line))));
    let titles = unmeasured(comparison);
    if !titles.is_empty() {
        out.push_str(&format!("- not measured: {}\n", text::list(&titles, titles.len())));
    }
    out.push('\n');
    out.push_str(&folded("Every metric", &metrics(comparison, &comparison.cells, true).markdown()));
    match comparison.differences.len() {
        0 => out.push_str("Program, machine, engine and scenario are the same in both records.\n"),
        n => {
            let title = format!("{} in program, machine, engine or scenario", text::plural(n, "difference"));
            out.push_str(&folded(&title, &differences(comparison).markdown()));
        }
    }
    if !comparison.profiles.is_empty() {
        out.push_str(&format!("\n{}", profiles::markdown(&comparison.profiles, SHOWN)));
    }
    out
}
