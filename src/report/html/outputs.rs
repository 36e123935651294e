//! What was generated: hashes, where they differ, and the text where there is one.

use maud::{Markup, html};

use super::{excerpt, scrolling, section as titled};
use crate::record::Record;
use crate::report::summary::{CellSummary, HashGroup, NOT_MEASURED, Summary};
use crate::report::text;
use crate::spec::{Replies, Workload};

pub fn section(record: &Record, summary: &Summary) -> Markup {
    titled(
        "outputs",
        "Outputs",
        html! {
            @if summary.run.synthetic {
                p.note { "The model's weights are random, so its text is noise; equal hashes still mean equal tokens." }
            }
            @if summary.cells.iter().all(|cell| cell.hashes.is_empty()) {
                p { "No valid iteration has a token hash." }
            } @else {
                (scrolling("Outputs of each cell", table(record, summary)))
            }
            (input(&record.manifest.scenario.workload))
        },
    )
}

/// What was asked.
fn input(work: &Workload) -> Markup {
    let from = |file: &Option<String>| {
        html! { @if let Some(file) = file { p.note { "From " code { (text::label(file)) } "." } } }
    };
    html! {
        details {
            @match work {
                Workload::Prompt(work) => {
                    summary { "The prompt" }
                    (from(&work.text_file))
                    pre { (excerpt(&work.text)) }
                }
                Workload::Conversation(work) => {
                    summary { "The conversation" }
                    (from(&work.turns_file))
                    @if let Some(system) = &work.system { h3 { "System" } pre { (excerpt(system)) } }
                    @for (turn, said) in work.turns.iter().enumerate() {
                        h3 { "Turn " (turn) }
                        pre { (excerpt(&said.user)) }
                        @if let (Replies::Fixed, Some(reply)) = (work.replies, &said.reply) {
                            p.note { "Taken as the reply:" }
                            pre { (excerpt(reply)) }
                        }
                    }
                }
            }
        }
    }
}

fn table(record: &Record, summary: &Summary) -> Markup {
    html! {
        table.outputs {
            thead {
                tr {
                    @for heading in ["Cell", "Token hash", "Iterations", "First difference", "Text"] {
                        th scope="col" { (heading) }
                    }
                }
            }
            @for cell in summary.cells.iter().filter(|cell| !cell.hashes.is_empty()) {
                tbody {
                    @for (i, group) in cell.hashes.iter().enumerate() {
                        tr {
                            @if i == 0 {
                                th scope="rowgroup" rowspan=(cell.hashes.len()) { (text::label(cell.name())) }
                            }
                            td { code { (text::label(&group.hash)) } }
                            td { (iterations(group, cell.counts.ok)) }
                            td.alarm[i > 0] { (difference(i, group)) }
                            td.generated {
                                @if cell.turns.is_empty() { (generated(record, group)) }
                                @else if i == 0 { (replies(record, cell)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn iterations(group: &HashGroup, all: usize) -> String {
    match group.iterations.len() {
        n if n == all && n > 1 => format!("all {n}"),
        _ => text::list(&group.iterations, 12),
    }
}

fn difference(place: usize, group: &HashGroup) -> String {
    match (place, group.first_differing_index) {
        (0, _) => NOT_MEASURED.to_owned(),
        (_, Some(index)) => match group.first_differing_turn {
            Some(turn) => format!("turn {turn}, token index {index}"),
            None => format!("token index {index}"),
        },
        (_, None) => match group.first_differing_turn {
            Some(turn) => format!("turn {turn}; tokens not in the record"),
            None => "differs; tokens not in the record".to_owned(),
        },
    }
}

/// What each turn of a cell generated, where the iterations agree.
fn replies(record: &Record, cell: &CellSummary) -> Markup {
    html! {
        details {
            summary { (text::plural(cell.turns.len(), "turn")) }
            ol start="0" {
                @for turn in &cell.turns {
                    li {
                        @match turn.token_hash.as_ref().map(|hash| (hash, record.manifest.texts.get(hash))) {
                            Some((hash, words)) => {
                                code { (text::label(hash)) } " "
                                @match words {
                                    Some(words) => (excerpt(words)),
                                    None => span.cut { "not in the record" },
                                }
                            }
                            None => span.cut { "not the same in all iterations" },
                        }
                    }
                }
            }
        }
    }
}

fn generated(record: &Record, group: &HashGroup) -> Markup {
    html! {
        @match record.manifest.texts.get(&group.hash) {
            Some(words) => (excerpt(words)),
            None => span.cut { "not in the record" },
        }
    }
}
