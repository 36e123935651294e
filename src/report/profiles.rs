//! Differences of profiled passes for people: which functions took more or less time, and who calls
//! them.

use maud::{Markup, html};

use super::markdown::escape;
use super::table::{Cell, HTML, MARKDOWN, TERMINAL, Table};
use super::text::{self, paragraph, plural};
use crate::compare::profile::{CellProfiles, Flamegraph, phase_name};
use crate::profile::difference::{Difference, FunctionChange, SHOWN, SideFacts, TimeChange};
use inferometer_protocol::units::significant;

/// Functions shown for each phase in a terminal if there are several tables.
const FEW: usize = 5;
/// Width of a function's name in a terminal.
const NAME_WIDTH: usize = 33;
/// Callers named in a line.
const CALLERS: usize = 3;

const LEGEND: &str = "ms per token of CPU time, or of elapsed time if the profiler counts that. * marks a clear change; 5 % or less of \
                      these are false positives on average (Benjamini-Hochberg). Inlining may move time from one function to \
                      another between builds: then compare the callers";

/// For a terminal, in 80 columns; empty without profiles.
#[must_use]
pub fn table(cells: &[CellProfiles]) -> String {
    let mut out = String::new();
    if cells.is_empty() {
        return out;
    }
    let rows = fitting(cells);
    out.push_str("profiles: functions whose self time per token changed most, B minus A\n");
    for cell in cells {
        if let Some(remark) = &cell.remark {
            paragraph(&mut out, &format!("{}: {}", text::label(&cell.name), text::sentence(remark)), "  ");
        }
        for phase in &cell.phases {
            out.push('\n');
            paragraph(&mut out, &format!("{}, {}", text::label(&cell.name), headline(phase)), "  ");
            out.push_str(&functions("function", own(phase), rows).terminal());
        }
    }
    if cells.iter().any(|cell| !cell.phases.is_empty()) {
        out.push('\n');
        paragraph(&mut out, LEGEND, "");
    }
    if rows < SHOWN {
        paragraph(&mut out, &format!("{rows} of up to {SHOWN} functions are shown; `--format json` has all"), "");
    }
    out
}

/// Rows of each table, fewer if there are several tables.
#[must_use]
pub fn fitting(cells: &[CellProfiles]) -> usize {
    let tables: usize = cells.iter().map(|cell| cell.phases.len()).sum();
    if tables > 2 { FEW } else { SHOWN }
}

/// `decode: A 0.412 ms per token (3 iterations, 2739 samples at 913 Hz), B ...`
fn headline(phase: &Difference) -> String {
    let side = |facts: &SideFacts| {
        let rate = facts.rate_hz.map(|hz| format!(" at {} Hz", significant(hz))).unwrap_or_default();
        format!(
            "{} ms per token ({}, {}{rate})",
            significant(facts.ms_per_token),
            plural(facts.iterations, "iteration"),
            plural(usize::try_from(facts.samples).unwrap_or(usize::MAX), "sample")
        )
    };
    let alone = match phase.counting_only {
        true => {
            "; with one iteration on each side, the intervals cover sampling error only, not variation between iterations"
        }
        false => "",
    };
    format!("{}: A {}, B {}{alone}", phase_name(phase.phase), side(&phase.a), side(&phase.b))
}

/// The end of a name, its most specific part: `…::attention::one`.
fn shortened(name: &str, width: usize) -> String {
    let name = text::visible(name).replace(['\n', '\t'], " ");
    let length = name.chars().count();
    if length <= width {
        return name;
    }
    let end: String = name.chars().skip(length + 1 - width).collect();
    format!("…{end}")
}

/// Who calls it, and the call that only one side makes: `by a < b < c; only in B: c calls b`.
fn way(function: &FunctionChange) -> Option<String> {
    let names = |names: &[String]| names.iter().map(|name| last_words(name)).collect::<Vec<_>>().join(" < ");
    let shown = function.callers.len().min(CALLERS);
    let callers = (shown > 0).then(|| format!("by {}", names(&function.callers[..shown])));
    let new = function.new_call.as_ref().map(|new| {
        let side = if new.by_b { "B" } else { "A" };
        format!("only in {side}: {} calls {}", last_words(&new.caller), last_words(&new.callee))
    });
    match (callers, new) {
        (Some(callers), Some(new)) => Some(format!("{callers}; {new}")),
        (callers, new) => callers.or(new),
    }
}

/// The last two segments of a path, without generic arguments: `attention::one`, of `<a::B as
/// c::D>::f` `B::f`.
fn last_words(name: &str) -> String {
    let of_trait = name.strip_prefix('<').and_then(|name| name.split_once(" as ")).and_then(|(of, rest)| {
        let (_, method) = rest.rsplit_once(">::")?;
        (!of.contains('<')).then(|| format!("{of}::{method}"))
    });
    let name = of_trait.as_deref().unwrap_or(name);
    let mut depth = 0_u32;
    let mut plain = String::new();
    for c in name.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let segments: Vec<&str> = plain.split("::").filter(|part| !part.trim().is_empty()).collect();
    let words = match segments.len() {
        // The name is nothing but generic arguments.
        0 => name.to_owned(),
        n => segments[n.saturating_sub(2)..].join("::"),
    };
    shortened(&words, 2 * NAME_WIDTH)
}

/// A function with the time that a table is about.
type Row<'a> = (&'a FunctionChange, &'a TimeChange);

fn functions<'a>(title: &str, rows: Vec<Row<'a>>, most: usize) -> Table<Row<'a>> {
    let marked = |(function, time): &Row<'_>| {
        format!("{} {}", if time.is_clear() { '*' } else { ' ' }, shortened(&function.name, NAME_WIDTH - 1))
    };
    Table::of(title, rows.into_iter().take(most))
        .text("  function", marked)
        .only(TERMINAL)
        .exactly(NAME_WIDTH as u16 + 1)
        .head(format!("function, by {title}"), |(function, _)| &function.name)
        .only(MARKDOWN | HTML)
        .number("A ms", |(_, time)| significant(time.a_ms_per_token))
        .number("B ms", |(_, time)| significant(time.b_ms_per_token))
        .number("B-A", |(_, time)| Cell::from(signed(time.change_ms_per_token)).strong(time.is_clear()))
        .number("interval 95 %", |(_, time)| format!("[{}, {}]", signed(time.interval.lo), signed(time.interval.hi)))
        .said("called by", |(function, _)| way(function))
        .beneath()
}

fn signed(ms: f64) -> String {
    let number = significant(ms);
    if ms > 0.0 { format!("+{number}") } else { number }
}

/// As Markdown, folded for each cell and phase, with at most `most` rows in a table; empty without
/// profiles.
#[must_use]
pub fn markdown(cells: &[CellProfiles], most: usize) -> String {
    let mut out = String::new();
    for cell in cells {
        if let Some(remark) = &cell.remark {
            out.push_str(&format!("- {}: {}\n", escape(&cell.name), escape(remark)));
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    for cell in cells {
        for phase in &cell.phases {
            let (name, headline) = (escape(&cell.name), escape(&headline(phase)));
            out.push_str(&format!(
                "<details><summary>Functions: {name}, {}</summary>\n\n{headline}\n",
                phase_name(phase.phase)
            ));
            for (title, rows) in tables(phase) {
                out.push_str(&format!("\n{}", functions(title, rows, most).markdown()));
            }
            out.push_str("\n</details>\n\n");
        }
    }
    out
}

/// Every function with its self time.
fn own(phase: &Difference) -> Vec<Row<'_>> {
    phase.functions.iter().map(|function| (function, &function.own)).collect()
}

/// The two tables of a phase: a title, and each function with the time that it is about.
fn tables(phase: &Difference) -> [(&'static str, Vec<Row<'_>>); 2] {
    let total = phase.callers.iter().map(|function| (function, &function.total)).collect();
    [("self time", own(phase)), ("total time, including callees", total)]
}

/// For a page; `drawn` are the flamegraphs, which are in `folder` beside the page.
#[must_use]
pub fn page(cells: &[CellProfiles], drawn: &[Flamegraph], folder: &str) -> Markup {
    html! {
        @for cell in cells {
            @if let Some(remark) = &cell.remark { p.note { (text::label(&cell.name)) ": " (text::sentence(remark)) } }
            @for phase in &cell.phases {
                h3 { (text::label(&cell.name)) ", " (phase_name(phase.phase)) }
                p { (headline(phase)) "." }
                @for (at, (title, rows)) in tables(phase).into_iter().enumerate() {
                    details open[at == 0] {
                        summary { "By " (title) }
                        (functions(title, rows, usize::MAX).html())
                    }
                }
            }
        }
        @if !drawn.is_empty() {
            p { "Differential flamegraphs, in nanoseconds per token; red grew, blue shrank:" }
            ul {
                @for one in drawn {
                    li { a href={ (folder) "/" (one.name) ".svg" } { (text::label(&one.title)) } }
                }
            }
        }
        p.note { (LEGEND) "." }
    }
}

/// A row for every function of both tables of each phase.
#[must_use]
pub fn csv(cells: &[CellProfiles]) -> String {
    let phases = cells.iter().flat_map(|cell| cell.phases.iter().map(move |phase| (cell, phase)));
    let rows = phases.flat_map(|(cell, phase)| {
        ["self", "total"].into_iter().zip(tables(phase)).flat_map(move |(by, (_, rows))| {
            (1_u32..).zip(rows).map(move |(rank, (function, time))| (cell, phase, by, rank, function, time))
        })
    });
    Table::of("", rows)
        .text("cell", |(cell, ..)| &cell.name)
        .number("cell_a", |(cell, ..)| cell.cell_a)
        .number("cell_b", |(cell, ..)| cell.cell_b)
        .text("phase", |(_, phase, ..)| phase_name(phase.phase).replace(' ', "_"))
        .text("by", |(_, _, by, ..)| *by)
        .number("rank", |(_, _, _, rank, ..)| *rank)
        .text("function", |(.., function, _)| &function.name)
        .number("a_ms_per_token", |(.., time)| time.a_ms_per_token)
        .number("b_ms_per_token", |(.., time)| time.b_ms_per_token)
        .number("change_ms_per_token", |(.., time)| time.change_ms_per_token)
        .number("lo", |(.., time)| time.interval.lo)
        .number("hi", |(.., time)| time.interval.hi)
        .number("confidence", |(.., time)| time.interval.confidence)
        .number("p_value", |(.., time)| time.p_value)
        .number("p_adjusted", |(.., time)| time.p_adjusted)
        .text("clear", |(.., time)| time.is_clear())
        .text("called_by", |(.., function, _)| function.callers.join(" < "))
        .csv()
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferometer_stats::robust::Interval;

    #[test]
    fn large_times_stand_apart_and_names_are_no_formulas() {
        let ms = 123_456_789_012.0;
        let time = TimeChange {
            a_ms_per_token: ms,
            b_ms_per_token: ms,
            change_ms_per_token: ms,
            interval: Interval { lo: ms, hi: ms, confidence: 0.95 },
            p_value: None,
            p_adjusted: None,
        };
        let function = FunctionChange {
            name: "=f".repeat(30),
            own: time,
            total: time,
            callers: vec!["-[A b]".to_owned(), "main".to_owned()],
            new_call: None,
        };
        let out = functions("function", vec![(&function, &function.own)], 1).terminal();
        let row: Vec<&str> = out.lines().nth(2).unwrap().split_whitespace().collect();
        let (a, change) = (significant(ms), signed(ms));
        assert_eq!(row[1..4], [a.as_str(), a.as_str(), change.as_str()], "{out}");
        let facts = SideFacts { iterations: 1, samples: 1, rate_hz: None, ms_per_token: ms };
        let phase = Difference {
            phase: None,
            a: facts.clone(),
            b: facts,
            functions: vec![function],
            callers: Vec::new(),
            tested: 0,
            counting_only: true,
        };
        let cell =
            CellProfiles { name: "c".to_owned(), cell_a: 0, cell_b: 0, clock: None, phases: vec![phase], remark: None };
        let table = csv(&[cell]);
        assert!(table.contains(",'=f=f") && table.contains(",'-[A b] < main"), "{table}");
    }
}
