//! `--set key=value`: overrides of single keys, read as TOML and applied to the file's tree.

use toml::de::{DeTable, DeValue};

use super::diagnose::{Problem, Source, Span, echo};
use super::tree::{self, Data, Entry, Node, syntax};

/// Shown before the override's text, so that the diagnostic reads as the user typed it.
const PREFIX: &str = "--set ";

/// The override as a source for diagnostics.
pub fn source(text: &str) -> Source {
    Source { name: "command line".to_owned(), text: format!("{PREFIX}{text}") }
}

/// Applies one override to `root`.
///
/// # Errors
/// When it is not `key=value`, or the key passes through a value that is neither a table nor a
/// list.
pub fn apply(root: &mut Node, text: &str, source: usize) -> Result<(), Problem> {
    let whole = Span { source, start: PREFIX.len(), end: PREFIX.len() + text.len() };
    let shape = "an override is key=value with a dotted key, such as run.iterations=3";
    let Some(split) = first_equals(text) else {
        return Err(Problem::new("missing `=` in this override").at(whole).help(shape));
    };
    let (key, value) = (&text[..split], &text[split + 1..]);
    let path = path(key, source).map_err(|p| p.help(shape))?;
    let value = read(value, source, PREFIX.len() + split + 1).map_err(|p| p.help(shape))?;
    put(root, &path, value)
}

/// The first `=` outside quotes.
fn first_equals(text: &str) -> Option<usize> {
    let mut quote = None;
    text.char_indices().find_map(|(at, c)| {
        match quote {
            None if c == '=' => return Some(at),
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ => {}
        }
        None
    })
}

/// A step of a dotted key, and its place.
struct Step {
    name: String,
    span: Span,
}

/// Reads the dotted key with the TOML parser, so that quoting works as in the file.
fn path(key: &str, source: usize) -> Result<Vec<Step>, Problem> {
    let at = Span { source, start: PREFIX.len(), end: PREFIX.len() + key.len() };
    if key.contains(['\n', '\r', '[', '#']) {
        return Err(Problem::new("invalid key in this override: not a dotted key").at(at));
    }
    let line = format!("{key}=0");
    let document = DeTable::parse(&line).map_err(|error| syntax(&error, source, PREFIX.len()))?;
    let mut steps = Vec::new();
    let mut table = document.get_ref();
    while let Some((name, value)) = table.iter().next() {
        let span = name.span();
        let span = Span { source, start: PREFIX.len() + span.start, end: PREFIX.len() + span.end };
        steps.push(Step { name: name.get_ref().to_string(), span });
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    Ok(steps)
}

/// The value as TOML; a bare word (such as a path) is taken as a text.
fn read(text: &str, source: usize, offset: usize) -> Result<Node, Problem> {
    let trimmed = text.trim();
    let offset = offset + (text.len() - text.trim_start().len());
    let span = Span { source, start: offset, end: offset + trimmed.len() };
    if trimmed.is_empty() {
        return Err(Problem::new("missing value in this override").at(span).label("expected a value"));
    }
    match tree::value(trimmed, source, offset) {
        Ok(node) => Ok(node),
        Err(problem) if trimmed.starts_with(['[', '{', '"', '\'']) => Err(problem),
        Err(_) => Ok(Node { span, data: Data::Text(trimmed.to_owned()) }),
    }
}

fn put(root: &mut Node, path: &[Step], value: Node) -> Result<(), Problem> {
    let mut node = root;
    for (i, step) in path.iter().enumerate() {
        node = child(node, step, i + 1 == path.len())?;
    }
    *node = value;
    Ok(())
}

/// The node that `step` leads to, created if absent. A step into a list is an index. The last
/// step's key then belongs to the override, even if the file had it.
fn child<'a>(node: &'a mut Node, step: &Step, last: bool) -> Result<&'a mut Node, Problem> {
    match &mut node.data {
        Data::Table(entries) => {
            let at = entries.iter().position(|e| e.key == step.name).unwrap_or_else(|| {
                let value = Node { span: step.span, data: Data::Table(Vec::new()) };
                entries.push(Entry { key: step.name.clone(), key_span: step.span, value });
                entries.len() - 1
            });
            if last {
                entries[at].key_span = step.span;
            }
            Ok(&mut entries[at].value)
        }
        Data::List(items) => {
            let count = items.len();
            let index = step.name.parse::<usize>().ok().filter(|i| *i < count);
            match index {
                Some(index) => Ok(&mut items[index]),
                None => Err(Problem::new(format!("this list has no entry {}", echo(&step.name))).at(step.span).label(
                    match count {
                        0 => "the list is empty".to_owned(),
                        1 => "the list has one entry, number 0".to_owned(),
                        n => format!("entries are numbered from 0 to {}", n - 1),
                    },
                )),
            }
        }
        _ => Err(Problem::new(format!("{} is inside a single value", echo(&step.name)))
            .at(step.span)
            .label("the key before this one is neither a table nor a list")),
    }
}
