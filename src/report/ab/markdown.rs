//! A session as GitHub Markdown: what a pull request has to know, the rest folded away.

use super::summary::{AbSummary, GateSummary};
use super::words;
use crate::record::ab::PairKind;
use crate::record::metric;
use crate::report::markdown::{escape, escape_sentence};
use crate::report::profiles;
use crate::spec::Side;

/// Divergences, pairs and effects shown; the page has all.
const SHOWN: usize = 20;

/// `summary.md`.
#[must_use]
pub fn render(summary: &AbSummary) -> String {
    let (_, sign) = words::sign(summary.verdict);
    let mut out = format!("## {sign} {}: {}\n\n", escape(&summary.scenario), words::verdict(summary.verdict));
    for reason in &summary.reasons {
        out.push_str(&format!("**{}**\n\n", escape_sentence(reason)));
    }
    if summary.neutral {
        out.push_str("Not proven either way; it counts as passed here because of `--neutral-ok`.\n\n");
    }
    for mark in summary.marks() {
        out.push_str(&format!("> {mark}: {}\n\n", words::mark(mark)));
    }
    out.push_str(&gates(summary));
    for advice in &summary.advice {
        // Our own words, with the code that is meant.
        out.push_str(&format!("- {advice}\n"));
    }
    out.push('\n');
    for (title, body) in [
        ("What is compared", sides(summary)),
        ("Which cost moved", laws(summary)),
        ("Cell by cell", cells(summary)),
        ("Other metrics that stand out (advisory)", effects(summary)),
        ("Outputs", outputs(summary)),
        ("Pairs that do not count", lost(summary)),
    ] {
        if !body.is_empty() {
            out.push_str(&format!("<details><summary>{title}</summary>\n\n{}\n\n</details>\n\n", body.trim_end()));
        }
    }
    out.push_str(&profiles::markdown(&summary.profiles, profiles::fitting(&summary.profiles)));
    out.push_str(&format!("{}\n", provenance(summary)));
    out
}

fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |fields: Vec<String>| format!("| {} |\n", fields.join(" | "));
    let rows: String = rows.into_iter().map(line).collect();
    if rows.is_empty() {
        return rows;
    }
    let names: Vec<String> = heads.iter().map(|head| head.trim_start_matches('>').to_owned()).collect();
    let rule: Vec<String> = heads.iter().map(|h| if h.starts_with('>') { "--:" } else { "---" }.to_owned()).collect();
    format!("{}{}{rows}\n", line(names), line(rule))
}

/// Heads that begin with `>` stand over figures.
fn gates(summary: &AbSummary) -> String {
    let heads = ["gate", "cells", ">B against A", ">delta", ">pairs", "verdict", ">caught 9 times in 10"];
    let row = |gate: &GateSummary| {
        let judged = &gate.judgement;
        vec![
            judged.metric().title().to_owned(),
            escape(&words::cells(gate)),
            escape(&words::effect(judged.scale, judged.estimate, judged.interval)),
            words::delta(gate),
            judged.x.len().to_string(),
            format!("**{}**", words::verdict(gate.verdict)),
            words::caught(gate),
        ]
    };
    let table = table(&heads, summary.gates.iter().map(row));
    if table.is_empty() {
        return table;
    }
    format!("{table}B against A: change of {} with its interval; + is worse.\n\n", words::compared(summary))
}

fn sides(summary: &AbSummary) -> String {
    let sides = Side::BOTH.map(|side| format!("- **{}**: {}\n", side.name(), escape(&words::side(summary, side))));
    let rows = summary.differences.iter().take(SHOWN).map(|difference| {
        let value = |of: &Option<String>| escape_sentence(&words::or_nothing(of.as_deref()));
        vec![escape(&difference.what), value(&difference.a), value(&difference.b)]
    });
    format!("{}\n{}", sides.concat(), table(&["differs", "A", "B"], rows))
}

fn laws(summary: &AbSummary) -> String {
    let mut out = String::new();
    for law in &summary.laws {
        let series = escape(words::series(summary, law));
        let what = match (words::moved(law), &law.not_identifiable) {
            (Some(moved), _) => escape_sentence(&moved),
            (None, Some(why)) => format!("{}: not identifiable, {}", law.law.name(), escape_sentence(why)),
            (None, None) => format!("{}: no coefficient moved for certain", law.law.name()),
        };
        out.push_str(&format!("- {series}, {what}\n"));
    }
    out
}

fn cells(summary: &AbSummary) -> String {
    if summary.cells.len() < 2 {
        return String::new();
    }
    let rows = super::charts::metrics(summary).into_iter().flat_map(|key| {
        super::charts::effects(summary, key).map(|effect| {
            vec![
                title(effect.metric),
                escape(summary.cell(effect.cell)),
                escape(&words::effect(effect.scale, Some(effect.shift), effect.interval)),
            ]
        })
    });
    table(&["metric", "cell", ">B against A, 95 %"], rows)
}

fn title(key: &str) -> String {
    metric::find(key).map_or_else(|| escape(key), |metric| metric.title.to_owned())
}

fn effects(summary: &AbSummary) -> String {
    let rows = summary.standing_out().into_iter().take(SHOWN).map(|effect| {
        vec![
            title(effect.metric),
            escape(summary.cell(effect.cell)),
            effect.scale.change(effect.shift),
            words::p_value(effect.adjusted).replace('<', "&lt;"),
        ]
    });
    table(&["metric", "cell", ">B against A", ">adjusted p"], rows)
}

fn outputs(summary: &AbSummary) -> String {
    let rows = summary.outputs.divergences.iter().take(SHOWN).map(|divergence| {
        let [a, b] = words::tokens(divergence);
        vec![
            escape(summary.cell(divergence.cell)),
            divergence.turn.to_string(),
            divergence.index.to_string(),
            a,
            b,
            divergence.gap.map_or_else(String::new, |gap| gap.to_string()),
            if divergence.allowed { "yes" } else { "**no**" }.to_owned(),
        ]
    });
    let heads = ["cell", ">turn", ">position", ">token of A", ">of B", ">gap", "allowed"];
    format!("{}\n\n{}", escape_sentence(&words::outputs(summary)), table(&heads, rows))
}

fn lost(summary: &AbSummary) -> String {
    let pairs = summary.pairs.iter().filter(|pair| pair.row.kind == PairKind::Pair);
    let rows = pairs.filter_map(|pair| {
        let (what, sides, reason) = words::outcome(pair)?;
        Some(vec![pair.row.pair.to_string(), words::order(pair), what.to_owned(), sides, escape_sentence(&reason)])
    });
    table(&[">pair", "order", "became", "for", "reason"], rows.take(SHOWN))
}

fn provenance(summary: &AbSummary) -> String {
    let machine = &summary.machine;
    let cpu = machine.cpu.as_deref().unwrap_or("unknown CPU");
    escape_sentence(&format!(
        "{}; {}, on {cpu} ({} {}), order by seed {}, inferometer {}",
        words::counts(summary),
        summary.session,
        machine.os,
        machine.arch,
        summary.order_seed,
        summary.inferometer_version
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_rows_is_nothing() {
        assert_eq!(table(&["a"], []), "");
        assert_eq!(
            table(&["a", ">b"], [vec!["x".to_owned(), "1".to_owned()]]),
            "| a | b |\n| --- | --: |\n| x | 1 |\n\n"
        );
    }
}
