//! `[[engine]]`: names, labels and options, checked against what the engines of this build offer.

use std::path::Path;

use super::Offers;
use super::cursor::Table;
use super::diagnose::{Problem, echo, list, nearest};
use super::parse::resolve_path;
use super::tree::{Data, Entry};
use inferometer_protocol::{EngineSpec, Kind, Offer, OptionSpec, Settings, Value, toggle};

const MOST_ENGINES: usize = 100;
/// Longest label, since labels appear in tables and charts.
const MOST_LABEL: usize = 32;

/// The scenario's engines, each with the table of its own toggles; at least one unless a problem
/// was reported.
pub fn engines<'a>(table: &Table<'a>, base: &Path, offers: &Offers) -> Vec<(EngineSpec, Table<'a>)> {
    let tables = table.tables("engine").unwrap_or_default();
    if let (true, Some(entry)) = (tables.is_empty(), table.entry("engine")) {
        let problem = Problem::new("empty list of engines").at(entry.key_span);
        table.problem(problem.help("remove the key to use the built-in `transformer`, or add an `[[engine]]`"));
    }
    if let (true, Some(entry)) = (tables.len() > MOST_ENGINES, table.entry("engine")) {
        let problem = Problem::new(format!("there are {} engines; the limit is {MOST_ENGINES}", tables.len()));
        table.problem(problem.at(entry.key_span));
        return Vec::new();
    }
    let mut found: Vec<(EngineSpec, Table<'a>)> = Vec::new();
    for table in &tables {
        let Some(spec) = engine(table, base, offers) else { continue };
        if found.iter().any(|(other, _)| other.label == spec.label) {
            let place = table.entry("label").or_else(|| table.entry("name")).map(|e| e.value.span).or(table.span);
            let problem = Problem::new(format!("two engines have the name {}", echo(&spec.label)));
            let problem = problem.help("give each a distinct `label`; tables and charts show it");
            table.problem(place.map_or(problem.clone(), |span| problem.at(span)));
        }
        found.push((spec, table.table("toggles")));
    }
    found
}

fn engine(table: &Table<'_>, base: &Path, offers: &Offers) -> Option<EngineSpec> {
    let name = table.text("name").unwrap_or("transformer");
    let entry = table.entry("name");
    let Some(offer) = offers.engines.iter().find(|o| o.name == name) else {
        let problem = Problem::new(format!("unknown engine {}", echo(name)));
        let problem = match nearest(name, offers.engines.iter().map(|o| o.name)) {
            Some(near) => problem.label(format!("did you mean `{near}`?")),
            None => problem,
        };
        let problem = problem.help(format!("this build has {}", list(offers.engines.iter().map(|o| o.name))));
        table.problem(match entry.map(|e| e.value.span).or(table.span) {
            Some(span) => problem.at(span),
            None => problem,
        });
        return None;
    };
    let label = table.text("label").unwrap_or(offer.label);
    if let (true, Some(entry)) =
        (label.chars().count() > MOST_LABEL || label.contains(char::is_control), table.entry("label"))
    {
        table.wrong("label", &entry.value, &format!("must be one line of at most {MOST_LABEL} characters"));
    }
    let options = options(table, base, offer);
    Some(EngineSpec { name: name.to_owned(), label: label.to_owned(), options })
}

fn options(table: &Table<'_>, base: &Path, offer: &Offer) -> Settings {
    let entry = table.entry("options");
    let given: &[Entry] = match entry.map(|e| &e.value.data) {
        None => &[],
        Some(Data::Table(entries)) => entries,
        Some(_) => {
            let node = &entry.expect("it is there").value;
            table.wrong("options", node, &format!("must be a table, not {}", node.words()));
            return Settings::new();
        }
    };
    let mut settings = Settings::new();
    for entry in given {
        match offer.options.iter().find(|o| o.name == entry.key) {
            None => table.problem(unknown(entry, offer)),
            Some(spec) => match checked(entry, spec) {
                Ok(value) => {
                    at_hand(table, entry, &value, offer);
                    let value = if spec.paths { placed(value, entry, base) } else { value };
                    settings.insert(entry.key.clone(), value);
                }
                Err(problem) => table.problem(problem.help(format!("`{}`: {}", spec.name, spec.meaning))),
            },
        }
    }
    for required in offer.required.iter().filter(|r| given.iter().all(|e| e.key != **r)) {
        let problem = Problem::new(format!("engine `{}` needs the option `{required}`", offer.name));
        let meaning = offer.options.iter().find(|o| o.name == *required).map_or("", |o| o.meaning);
        let place = entry.map(|e| e.key_span).or(table.entry("name").map(|e| e.value.span)).or(table.span);
        let problem = problem.help(format!("`{required}`: {meaning}"));
        table.problem(place.map_or(problem.clone(), |span| problem.at(span)));
    }
    settings
}

/// A path, or the paths in a command, as absolute ones. In a command these are the program, if it
/// has a slash, and every argument that begins as only a path does. Another argument with a slash
/// may be anything, such as a model's name, whatever lies in the scenario's folder.
fn placed(value: Value, entry: &Entry, base: &Path) -> Value {
    let absolute = |text: &str| resolve_path(text, entry, base).into_os_string().into_string();
    let word = |(at, value): (usize, &Value)| {
        let is_path = |text: &str| match at {
            0 => text.contains('/'),
            _ => ["./", "../", "~/"].iter().any(|begin| text.starts_with(begin)),
        };
        let path = value.as_text().filter(|text| is_path(text)).map(absolute);
        path.and_then(Result::ok).map_or_else(|| value.clone(), Value::Text)
    };
    match &value {
        Value::Text(text) => absolute(text).map_or_else(|_| value.clone(), Value::Text),
        Value::List(words) => Value::List(words.iter().enumerate().map(word).collect()),
        _ => value,
    }
}

fn checked(entry: &Entry, spec: &OptionSpec) -> Result<Value, Problem> {
    let key = &entry.key;
    let node = &entry.value;
    let value = node.as_value().filter(|v| spec.kind.admits(v));
    let Some(value) = value else {
        return Err(
            Problem::new(format!("option `{key}` must be {}, not {}", spec.kind.words(), node.words())).at(node.span)
        );
    };
    if let (Kind::Text, Some(text), false) = (spec.kind, value.as_text(), spec.choices.is_empty())
        && !spec.choices.contains(&text)
    {
        let problem = Problem::new(format!("option `{key}` cannot be {}", echo(text))).at(node.span);
        let problem = match nearest(text, spec.choices.iter().copied()) {
            Some(near) => problem.label(format!("did you mean `{near}`?")),
            None => problem,
        };
        return Err(problem.help(format!("it must be {}", list(spec.choices.iter().copied()).replace(" and ", " or "))));
    }
    if value.as_texts().is_some_and(|texts| texts.is_empty()) {
        return Err(Problem::new(format!("option `{key}` must not be an empty list")).at(node.span));
    }
    Ok(value)
}

/// Reports a value that selects a variant of the engine missing in this build or on this machine.
fn at_hand(table: &Table<'_>, entry: &Entry, value: &Value, offer: &Offer) {
    let chosen = offer.variants.iter().find(|v| v.option == entry.key && value.as_text() == Some(v.value));
    if let Some(why) = chosen.and_then(|variant| variant.missing.clone()) {
        let problem = Problem::new(format!("option `{}` cannot be {value} here", entry.key));
        table.problem(problem.at(entry.value.span).label(why));
    }
}

fn unknown(entry: &Entry, offer: &Offer) -> Problem {
    let problem =
        Problem::new(format!("engine `{}` has no option {}", offer.name, echo(&entry.key))).at(entry.key_span);
    let near = nearest(&entry.key, offer.options.iter().map(|o| o.name));
    let problem = match (toggle::find(&entry.key), near) {
        (Some(_), _) => problem.label("this is a toggle: put it under [toggles], or under `toggles` of this engine"),
        (None, Some(near)) => problem.label(format!("did you mean `{near}`?")),
        (None, None) => problem,
    };
    problem.help(match offer.options.as_slice() {
        [] => "it has no options".to_owned(),
        options => format!("valid options: {}", list(options.iter().map(|o| o.name))),
    })
}
