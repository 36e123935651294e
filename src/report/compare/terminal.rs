//! The comparison for the terminal: 80 columns.

use super::{Comparison, after, before, cell_facts, differences, metrics, side, unmeasured};
use crate::report::profiles;
use crate::report::text;

/// The comparison; with `all` every metric, also those that were not measured.
#[must_use]
pub fn render(comparison: &Comparison, all: bool) -> String {
    let mut out = String::new();
    for (name, run) in [("A", &comparison.a), ("B", &comparison.b)] {
        text::paragraph(&mut out, &format!("{name}  {}", text::label(&run.run)), "   ");
        text::paragraph(&mut out, &format!("   {}", side(run)), "   ");
    }
    out.push('\n');
    for line in before(comparison) {
        text::paragraph(&mut out, &line, "  ");
    }
    out.push('\n');
    if !comparison.differences.is_empty() {
        out.extend([&differences(comparison).terminal(), "\n"]);
    }
    for cell in &comparison.cells {
        text::paragraph(&mut out, &format!("{}: {}", text::label(&cell.name), cell_facts(cell)), "  ");
        out.extend([&metrics(comparison, std::slice::from_ref(cell), all).terminal(), "\n"]);
    }
    if all && !unmeasured(comparison).is_empty() {
        let titles = unmeasured(comparison);
        text::paragraph(&mut out, &format!("not measured: {}", text::list(&titles, titles.len())), "  ");
    }
    for line in after(comparison, all) {
        text::paragraph(&mut out, &line, "  ");
    }
    if !comparison.profiles.is_empty() {
        out.push('\n');
        out.push_str(&profiles::table(&comparison.profiles));
    }
    out
}
