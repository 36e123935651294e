//! `[workload]`: prompts and what to generate, with its files read.

use std::path::Path;

use super::cursor::Table;
use super::diagnose::{Problem, Source, echo};
use super::keys::{KIND, LATER_WORKLOADS, MOST_PROMPT_BYTES, MOST_SCENARIO_BYTES, TURNS_FILE};
use super::parse::{one_of, resolve_path};
use super::tree::Data;
use super::{chats, read};
use crate::spec::{ConversationWorkload, PromptWorkload, Replies, Turn, Workload};
use inferometer_protocol::Chat;

pub fn workload(scenario: &Table<'_>, base: &Path) -> Workload {
    let (kind, table) = scenario.kind("workload");
    check_kind(&table);
    match kind {
        "conversation" => Workload::Conversation(conversation(&table, base)),
        "chat" => Workload::Prompt(chat(&table, base)),
        _ => Workload::Prompt(prompt(&table, base)),
    }
}

/// Rejects kinds of the format that this version does not run, by name.
fn check_kind(table: &Table<'_>) {
    let later = table.entry(KIND).and_then(|entry| match &entry.value.data {
        Data::Text(kind) if LATER_WORKLOADS.contains(&kind.as_str()) => Some((kind, entry)),
        _ => None,
    });
    if let Some((kind, entry)) = later {
        let problem = Problem::new(format!("this version does not run `{kind}` workloads")).at(entry.value.span);
        let help = "use `kind = \"prompt\"`, `kind = \"chat\"` or `kind = \"conversation\"`";
        table.problem(problem.label("not supported by this version").help(help));
    } else {
        let _ = table.choice(KIND);
    }
}

fn prompt(table: &Table<'_>, base: &Path) -> PromptWorkload {
    let (text, text_file) = given_text(table, "the prompt", base);
    let lengths = table.counts("lengths").unwrap_or_default();
    let chat = table.flag("chat");
    if let (true, Some(entry), false) = (chat, table.entry("chat"), lengths.is_empty()) {
        let problem = Problem::new("`chat` and `lengths` cannot be used together").at(entry.key_span);
        table.problem(
            problem
                .label("the chat template adds tokens")
                .help("exact lengths need the plain text: remove `lengths` or `chat = true`"),
        );
    }
    PromptWorkload {
        text,
        text_file,
        lengths: lengths.into_iter().filter_map(|n| u32::try_from(n).ok()).collect(),
        chat,
        messages: None,
        max_tokens: table.count32("max_tokens"),
        ignore_eos: table.flag("ignore_eos"),
    }
}

fn chat(table: &Table<'_>, base: &Path) -> PromptWorkload {
    let (chat, text_file) = chats::of_workload(table, base);
    PromptWorkload {
        text: String::new(),
        text_file,
        lengths: Vec::new(),
        chat: true,
        messages: Some(chat),
        max_tokens: table.count32("max_tokens"),
        ignore_eos: table.flag("ignore_eos"),
    }
}

fn conversation(table: &Table<'_>, base: &Path) -> ConversationWorkload {
    let (system, system_file) = system(table, base);
    let replies = match table.choice("replies") {
        "fixed" => Replies::Fixed,
        _ => Replies::Generated,
    };
    let (turns, turns_file) = match one_of(table) {
        Some("turn") => (turns(table, replies), None),
        Some(_) => turns_file(table, replies, base),
        None => (Vec::new(), None),
    };
    let Chat { tools, template_arguments, .. } = chats::with_messages(table, Vec::new());
    ConversationWorkload {
        tools,
        template_arguments,
        system,
        system_file,
        turns,
        turns_file,
        replies,
        max_tokens: table.count32("max_tokens"),
        ignore_eos: table.flag("ignore_eos"),
    }
}

/// The system message and the name of its file.
fn system(table: &Table<'_>, base: &Path) -> (Option<String>, Option<String>) {
    if let (Some(_), Some(entry)) = (table.entry("system"), table.entry("system_file")) {
        let problem = Problem::new("`system` and `system_file` cannot be used together").at(entry.key_span);
        table.problem(problem.label("remove one of the two"));
    }
    match table.entry("system_file") {
        Some(_) => match file(table, "system_file", "the system message", base, MOST_PROMPT_BYTES) {
            Some((text, name)) => (Some(text), Some(name)),
            None => (None, None),
        },
        None => (table.text("system").map(str::to_owned), None),
    }
}

/// The turns of the tables under `turn`.
fn turns(table: &Table<'_>, replies: Replies) -> Vec<Turn> {
    let tables = table.tables("turn").unwrap_or_default();
    if let (true, Some(entry)) = (tables.is_empty(), table.entry("turn"))
        && matches!(&entry.value.data, Data::List(items) if items.is_empty())
    {
        table.wrong("turn", &entry.value, "has no turns: a conversation needs at least one");
    }
    let last = tables.len().saturating_sub(1);
    tables.iter().enumerate().map(|(i, one)| turn(one, i < last && replies == Replies::Fixed)).collect()
}

fn turn(table: &Table<'_>, needs_reply: bool) -> Turn {
    if let (true, None, Some(span)) = (needs_reply, table.entry("reply"), table.span) {
        let problem = Problem::new("this turn needs a `reply`, because `replies` is `fixed`").at(span);
        table.problem(problem.help("give every turn except the last a `reply` for the history"));
    }
    Turn { user: table.text("user").unwrap_or_default().to_owned(), reply: table.text("reply").map(str::to_owned) }
}

/// The turns of `turns_file`, and its name as given.
fn turns_file(table: &Table<'_>, replies: Replies, base: &Path) -> (Vec<Turn>, Option<String>) {
    let Some((text, name)) = file(table, "turns_file", "the turns", base, MOST_SCENARIO_BYTES) else {
        return (Vec::new(), None);
    };
    let source = Source { name: name.clone(), text };
    match table.document(&TURNS_FILE, source, |document| turns(&document, replies)) {
        Ok(turns) => (turns, Some(name)),
        Err(problem) => {
            table.problem(problem);
            (Vec::new(), None)
        }
    }
}

/// The text of `text` or `text_file`, and the file's name as given.
pub fn given_text(table: &Table<'_>, what: &str, base: &Path) -> (String, Option<String>) {
    match one_of(table) {
        Some("text") => (table.text("text").unwrap_or_default().to_owned(), None),
        Some(_) => split(file(table, "text_file", what, base, MOST_PROMPT_BYTES)),
        None => (String::new(), None),
    }
}

/// The content of the file that `key` names, and that name as given.
fn file(table: &Table<'_>, key: &str, what: &str, base: &Path, most: u64) -> Option<(String, String)> {
    let (name, entry) = (table.text(key)?, table.entry(key)?);
    let path = resolve_path(name, entry, base);
    let problem = |why: &str| {
        Problem::new(format!("cannot read {what} {}: {why}", echo(name)))
            .at(entry.value.span)
            .help(format!("looked for {}", path.display()))
    };
    match read::text(&path, most) {
        Ok(text) if text.trim().is_empty() => {
            table.problem(problem("it is empty"));
            None
        }
        Ok(text) => Some((text, name.to_owned())),
        Err(why) => {
            table.problem(problem(&why));
            None
        }
    }
}

fn split(file: Option<(String, String)>) -> (String, Option<String>) {
    file.map_or_else(Default::default, |(text, name)| (text, Some(name)))
}
