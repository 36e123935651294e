//! What was generated: hashes, where they differ, and the text if the record has it.

use maud::{Markup, html};
use serde_json::Value;

use super::{excerpt, section as titled};
use crate::record::Record;
use crate::report::harmony;
use crate::report::summary::{CellSummary, HashGroup, Summary};
use crate::report::table::{Cell, Table};
use crate::report::text;
use crate::spec::{Replies, Workload};
use inferometer_protocol::Chat;

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
                (table(record, summary).html())
            }
            (input(&record.manifest.scenario.workload))
        },
    )
}

/// The prompt or the conversation.
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
                    @match &work.messages {
                        Some(chat) => (messages(chat)),
                        None => pre { (excerpt(&work.text)) },
                    }
                }
                Workload::Conversation(work) => {
                    summary { "The conversation" }
                    (from(&work.turns_file))
                    @if let Some(system) = &work.system { h3 { "System" } pre { (excerpt(system)) } }
                    @for (turn, said) in work.turns.iter().enumerate() {
                        h3 { "Turn " (turn) }
                        pre { (excerpt(&said.user)) }
                        @if let (Replies::Fixed, Some(reply)) = (work.replies, &said.reply) {
                            p.note { "Fixed reply:" }
                            pre { (excerpt(reply)) }
                        }
                    }
                }
            }
        }
    }
}

/// What the chat template is given.
fn messages(chat: &Chat) -> Markup {
    let json = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    html! {
        @for message in &chat.messages {
            h3 { (text::label(message.role())) }
            @if !message.text().is_empty() { pre { (excerpt(&message.text())) } }
            @for call in message.fields().get("tool_calls").and_then(Value::as_array).into_iter().flatten() {
                p.note { "Tool call:" }
                pre { (excerpt(&json(call))) }
            }
        }
        @for tool in chat.tools.iter().flatten() {
            p.note { "Tool:" }
            pre { (excerpt(&json(tool))) }
        }
        @for (name, value) in &chat.template_arguments {
            p.note { "Template argument " code { (text::label(&format!("{name} = {value}"))) } }
        }
    }
}

fn table<'a>(record: &Record, summary: &'a Summary) -> Table<(&'a CellSummary, usize, &'a HashGroup)> {
    let groups = |cell: &'a CellSummary| cell.hashes.iter().enumerate().map(move |(place, group)| (cell, place, group));
    Table::of("Outputs of each cell", summary.cells.iter().flat_map(groups))
        .roomy()
        .group("cell", |row| row.0.cell, |row| row.0.name())
        .text("token hash", |row| Cell::from(&row.2.hash).code())
        .text("iterations", |row| iterations(row.2, row.0.counts.ok))
        .text("first difference", |row| difference(row.1, row.2).alarm(row.1 > 0))
        .said("text", |&(cell, place, group)| match place {
            _ if cell.turns.is_empty() => Cell::from("").page(generated(record, group)),
            0 => Cell::from("").page(replies(record, cell)),
            _ => Cell::from(""),
        })
}

fn iterations(group: &HashGroup, all: usize) -> String {
    match group.iterations.len() {
        n if n == all && n > 1 => format!("all {n}"),
        _ => text::list(&group.iterations, 12),
    }
}

fn difference(place: usize, group: &HashGroup) -> Cell {
    if place == 0 {
        return Cell::nothing();
    }
    Cell::from(match (group.first_differing_turn, group.first_differing_index) {
        (Some(turn), Some(index)) => format!("turn {turn}, token index {index}"),
        (None, Some(index)) => format!("token index {index}"),
        (Some(turn), None) => format!("turn {turn}; tokens not in the record"),
        (None, None) => "differs; tokens not in the record".to_owned(),
    })
}

/// What each turn of a cell generated, if the iterations agree.
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
                                    Some(words) => (said(words)),
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

/// A generated text; the messages of a Harmony model one by one, below their channels.
fn said(words: &str) -> Markup {
    let Some(parts) = harmony::parts(words) else { return excerpt(words) };
    html! {
        @for part in parts {
            div { strong { (text::label(&part.title())) } " " (excerpt(part.content)) }
        }
    }
}

fn generated(record: &Record, group: &HashGroup) -> Markup {
    html! {
        @match record.manifest.texts.get(&group.hash) {
            Some(words) => div.generated { (said(words)) },
            None => span.cut { "not in the record" },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_messages_the_first_ones_have_lines_of_their_own() {
        let shown = |messages: usize| said(&"<|channel|>final<|message|>A<|end|>".repeat(messages)).into_string();
        for (messages, lines, more) in [(2, 2, 0), (20, 20, 0), (21, 21, 1), (5000, 21, 1)] {
            let page = shown(messages);
            let count = |text: &str| page.matches(text).count();
            assert_eq!((count("<div>"), count("more messages")), (lines, more), "{messages}");
        }
        assert!(shown(5000).contains(" more characters"), "what follows them is shortened");
    }
}
