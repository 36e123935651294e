//! `[ab]` and `[build]`: parameters of an A/B session, and how a commit becomes a program.

use super::cursor::Table;
use super::diagnose::{Problem, echo};
use super::keys::Shape;
use super::tree::{Data, Node};
use crate::spec::{AbSettings, BuildSettings, OutputsRule};

/// Longest accepted command line, in words.
const MOST_WORDS: usize = 1_000;

pub fn settings(table: &Table<'_>) -> AbSettings {
    AbSettings {
        outputs: outputs(table),
        pilot: pilot(table),
        resident: table.flag("resident"),
        seed: table.count("seed"),
        self_test: table.flag("self_test"),
    }
}

fn pilot(table: &Table<'_>) -> u32 {
    let pairs = table.count32("pilot");
    if let (false, Some(entry)) = (AbSettings::is_pilot(pairs), table.entry("pilot")) {
        let least = AbSettings::LEAST_PILOT;
        table.wrong(
            "pilot",
            &entry.value,
            &format!("must be 0 (no pilot) or at least {least}: fewer A/A pairs show nothing"),
        );
    }
    pairs
}

fn outputs(table: &Table<'_>) -> OutputsRule {
    let (rule, logits) = (table.choice("outputs"), table.number("margin"));
    let (outputs, margin) = (table.entry("outputs"), table.entry("margin"));
    // If an override changes the rule, the file's margin has no effect, which is not a mistake.
    let displaced = outputs.is_some_and(|entry| entry.value.span.is_override());
    if let (true, Some(entry)) = (rule != "margin", margin)
        && (!displaced || entry.value.span.is_override())
    {
        let problem = Problem::new("`margin` has no effect without `outputs = \"margin\"`").at(entry.key_span);
        table.problem(problem.label("remove it").help(format!("`outputs` is {rule}")));
    }
    match rule {
        "margin" => OutputsRule::Margin { logits },
        "any" => OutputsRule::Any,
        _ => OutputsRule::Identical,
    }
}

/// `None` if the scenario has no `[build]`.
pub fn build(table: &Table<'_>) -> Option<BuildSettings> {
    table.span?;
    let (command, program, toolchain) = (words(table, "command"), words(table, "program"), words(table, "toolchain"));
    let usual = BuildSettings::default();
    let foreign = command.as_ref().is_some_and(|words| words.first().is_none_or(|word| word != "cargo"));
    if let (true, None, Some(entry)) = (foreign, table.entry("program"), table.entry("command")) {
        let problem = Problem::new("`command` needs a `program`").at(entry.key_span);
        table.problem(problem.help("set `program = [...]` to the built engine host and its arguments"));
    }
    Some(BuildSettings {
        command: command.unwrap_or(usual.command),
        program: program.unwrap_or(usual.program),
        toolchain: toolchain.unwrap_or(if foreign { Vec::new() } else { usual.toolchain }),
        timeout_s: table.number("timeout_s"),
    })
}

/// A program with its arguments; `None` if the key is absent.
fn words(table: &Table<'_>, key: &str) -> Option<Vec<String>> {
    let node = &table.entry(key)?.value;
    let Some(Shape::Texts { or_none }) = table.section.key(key).map(|key| key.shape) else {
        unreachable!("`{key}` is read as texts")
    };
    let Data::List(items) = &node.data else {
        table.wrong(
            key,
            node,
            &format!("must be a list of texts such as [\"make\", \"engine\"], not {}", node.words()),
        );
        return None;
    };
    if items.is_empty() && !or_none {
        table.wrong(key, node, "must not be an empty list: remove the key, or give a program and its arguments");
        return None;
    }
    if items.len() > MOST_WORDS {
        table.wrong(key, node, &format!("has {} words; the limit is {MOST_WORDS}", items.len()));
        return None;
    }
    items.iter().map(|item| word(table, key, item)).collect()
}

fn word(table: &Table<'_>, key: &str, node: &Node) -> Option<String> {
    match &node.data {
        Data::Text(text) if text.is_empty() || text.contains('\0') => {
            table.wrong(key, node, &format!("must not contain the word {}", echo(text)));
            None
        }
        Data::Text(text) => Some(text.clone()),
        _ => {
            table.wrong(key, node, &format!("must contain texts in quotes, not {}", node.words()));
            None
        }
    }
}
