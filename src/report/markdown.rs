//! The summary as GitHub Markdown, for pull requests.

use super::summary::{CellSummary, NOT_MEASURED, Summary};
use super::{flamegraphs as functions, growth, memory, spans, table, text, turns};
use crate::record::metric;
use crate::record::metric::{DECODE_TPS, ITL_P50_MS, ITL_P99_MS, PEAK_RSS_BYTES, PREFILL_TPS, TTFT_MS};
use inferometer_stats::robust;

/// `summary.md`.
#[must_use]
pub fn render(summary: &Summary) -> String {
    let run = &summary.run;
    let mut out = format!("## {}\n\n", escape(&run.scenario));
    if let Some(description) = &run.description {
        out.push_str(&format!("{}\n\n", escape(description)));
    }
    let mut lines = table::remarks(summary).into_iter();
    if let Some(standing) = lines.next() {
        out.push_str(&format!("**{}**\n\n", escape(&standing)));
    }
    out.push_str(&figures(summary));
    out.push_str(&turn_figures(summary));
    out.push_str(&memory_figures(summary));
    out.push_str(&function_figures(summary));
    out.push_str(&span_figures(summary));
    for law in &summary.growth {
        out.push_str(&format!("- {}: {}\n", escape(&law.series), growth::sentence(law)));
    }
    for line in lines {
        out.push_str(&format!("- {}\n", escape(&line)));
    }
    out.push_str(&format!("- {}\n", escape(&provenance(summary))));
    out
}

fn figures(summary: &Summary) -> String {
    let mut out = String::from(
        "| cell | n | prefill tok/s | decode tok/s | TTFT ms | ITL p50 ms | ITL p99 ms | peak memory | same tokens |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for cell in &summary.cells {
        let counts = cell.counts;
        let mut fields = vec![escape(cell.name()), format!("{}/{}", counts.ok, counts.planned)];
        for key in [PREFILL_TPS, DECODE_TPS, TTFT_MS, ITL_P50_MS, ITL_P99_MS, PEAK_RSS_BYTES] {
            fields.push(figure(cell, key));
        }
        fields.push(cell.deterministic().to_owned());
        out.push_str(&format!("| {} |\n", fields.join(" | ")));
    }
    out.push('\n');
    out
}

/// Every turn of the conversations, folded away.
fn turn_figures(summary: &Summary) -> String {
    if turns::cells(summary).next().is_none() {
        return String::new();
    }
    let heads: Vec<String> = turns::COLUMNS.iter().map(|column| column.head.join(" ")).collect();
    let mut out = format!(
        "<details><summary>Turn by turn: medians over the iterations</summary>\n\n| cell | turn | {} |\n|---|--:|{}\n",
        heads.join(" | "),
        "--:|".repeat(heads.len())
    );
    for cell in turns::cells(summary) {
        for turn in &cell.turns {
            let figures: Vec<String> = turns::COLUMNS.iter().map(|column| (column.of)(turn)).collect();
            out.push_str(&format!("| {} | {} | {} |\n", escape(cell.name()), turn.turn, figures.join(" | ")));
        }
    }
    out + "\n</details>\n\n"
}

/// How memory went up and down, folded away.
fn memory_figures(summary: &Summary) -> String {
    if summary.memory.is_empty() {
        return String::new();
    }
    let heads: Vec<&str> = memory::COLUMNS.iter().map(|column| column.head).collect();
    let mut out = String::from("<details><summary>How memory goes up and down</summary>\n\n");
    for gauge in &summary.memory {
        out.push_str(&format!("| `{}` | {} |\n|---|{}\n", gauge.gauge, heads.join(" | "), "--:|".repeat(heads.len())));
        for (name, found) in memory::rows(summary, gauge) {
            let figures: Vec<String> = memory::COLUMNS.iter().map(|column| (column.of)(found)).collect();
            out.push_str(&format!("| {} | {} |\n", escape(&name), figures.join(" | ")));
        }
        out.push('\n');
        if !gauge.falls.is_empty() {
            out.push_str(
                "| while memory fell | falls | bytes | of all that fell | of the time |\n|---|--:|--:|--:|--:|\n",
            );
            for share in &gauge.causes {
                let (bytes, time) = (memory::bytes(Some(share.bytes)), memory::percent(Some(share.time_share)));
                let of_all = memory::percent(share.share);
                out.push_str(&format!("| {} | {} | {bytes} | {of_all} | {time} |\n", share.cause.words(), share.falls));
            }
            out.push('\n');
        }
        for note in memory::notes(gauge) {
            out.push_str(&format!("{}\n\n", escape_sentence(&note)));
        }
    }
    out + "</details>\n\n"
}

/// The functions that took the most time, folded away.
fn function_figures(summary: &Summary) -> String {
    if functions::cells(summary).next().is_none() {
        return String::new();
    }
    let mut out = String::from(
        "<details><summary>Where time goes: functions by their own time</summary>\n\n\
         | cell | phase | function | self | total | self ms per token |\n|---|---|---|--:|--:|--:|\n",
    );
    for (cell, of) in functions::cells(summary) {
        for phase in &of.phases {
            for row in &phase.functions {
                out.push_str(&format!(
                    "| {} | {} | {} | {} | {} | {} |\n",
                    escape(cell.name()),
                    phase.name(),
                    escape(&row.function),
                    functions::percent(row.self_percent),
                    functions::percent(row.total_percent),
                    functions::ms(row.self_ms_per_token)
                ));
            }
        }
    }
    out.push('\n');
    for (cell, of) in functions::cells(summary) {
        for phase in &of.phases {
            out.push_str(&format!("{}, {}: {}\n", escape(cell.name()), phase.name(), escape_sentence(&phase.sampled)));
        }
    }
    out + "\n</details>\n\n"
}

/// Where the time of a token goes, folded away.
fn span_figures(summary: &Summary) -> String {
    if spans::cells(summary).next().is_none() {
        return String::new();
    }
    let mut out = String::from(
        "<details><summary>Where the time of a token goes: the profiled pass</summary>\n\n\
         | cell | phase | span | own time per token | share |\n|---|---|---|--:|--:|\n",
    );
    for (cell, of) in spans::cells(summary) {
        for phase in &of.phases {
            for row in spans::rows(phase) {
                let figure = |shown: Option<String>| shown.unwrap_or_else(|| NOT_MEASURED.to_owned());
                out.push_str(&format!(
                    "| {} | {} | {} | {} | {} |\n",
                    escape(cell.name()),
                    phase.phase.name(),
                    row.span,
                    figure(row.per_token),
                    figure(row.share_range)
                ));
            }
        }
    }
    out.push('\n');
    let mut timings: Vec<&str> = summary.spans.iter().map(|of| spans::timing(of.timing)).collect();
    timings.sort_unstable();
    timings.dedup();
    for timing in timings {
        out.push_str(&format!("{timing}\n"));
    }
    out + "\n</details>\n\n"
}

/// Median and interval of a metric; a dash where not measured.
fn figure(cell: &CellSummary, key: &str) -> String {
    let (Some(metric), Some(summary)) = (metric::find(key), cell.metric(key)) else {
        return NOT_MEASURED.to_owned();
    };
    median_with_interval(metric, summary)
}

/// `24.5 [24.1, 24.9]`, the brackets only where there is an interval.
#[must_use]
pub fn median_with_interval(metric: &metric::Metric, summary: &robust::Summary) -> String {
    let median = metric.unit.number(summary.median);
    match summary.interval.map(|i| metric.unit.range(i.lo, i.hi)) {
        Some((lo, hi)) => format!("{median} [{lo}, {hi}]"),
        None => median,
    }
}

fn provenance(summary: &Summary) -> String {
    let run = &summary.run;
    let machine = &run.machine;
    let cpu = machine.cpu.as_deref().unwrap_or("unknown CPU");
    let commit = match &run.git {
        Some(git) if git.dirty => format!(", commit {} with changes", text::label(&git.commit)),
        Some(git) => format!(", commit {}", text::label(&git.commit)),
        None => String::new(),
    };
    format!(
        "{}, started {}, on {cpu} ({} {}){commit}, inferometer {}",
        run.name, run.started_utc, machine.os, machine.arch, run.inferometer_version
    )
}

/// Text that Markdown shows as it is: one line, no markup, no HTML, no link, no mention.
#[must_use]
pub fn escape(raw: &str) -> String {
    escaped(&text::label(raw))
}

/// [`escape`] with room for whole sentences.
#[must_use]
pub fn escape_sentence(raw: &str) -> String {
    escaped(&text::sentence(raw))
}

fn escaped(line: &str) -> String {
    let mut out = String::new();
    for c in line.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("&#64;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' => {
                out.push('\\');
                out.push(c);
            }
            ':' => out.push_str("&#58;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_shown_not_obeyed() {
        assert_eq!(escape("a|b"), "a\\|b");
        assert_eq!(escape("<script>@x"), "&lt;script&gt;&#64;x");
        assert_eq!(escape("[l](http://x)"), "\\[l\\](http&#58;//x)");
        assert_eq!(escape("two\nlines `code`"), "two lines \\`code\\`");
    }
}
