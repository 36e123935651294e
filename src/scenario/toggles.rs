//! `[toggles]`: fixed and varied settings, checked against the toggles' table and the engines.

use std::path::Path;

use super::Offers;
use super::cursor::Table;
use super::diagnose::{Problem, list};
use super::keys::{Shape, VARY, most};
use super::parse::resolve_path;
use super::tree::{Data, Entry, Node};
use crate::spec::{Axis, Vary};
use inferometer_protocol::toggle::{DRAFT_MODEL, NO_DRAFT_MODEL, ToggleSpec, fits, written};
use inferometer_protocol::{EngineSpec, Kind, Value};

pub fn vary(table: &Table<'_>) -> Vary {
    match table.choice(VARY) {
        "one-at-a-time" => Vary::OneAtATime,
        _ => Vary::All,
    }
}

/// The toggles that are set or varied, in the order of the file. `table`: those of these engines.
pub fn axes(
    table: &Table<'_>,
    sampling: &Table<'_>,
    engines: &[&EngineSpec],
    base: &Path,
    offers: &Offers,
) -> Vec<Axis> {
    let mut axes = Vec::new();
    for entry in table.entries() {
        let Some(Shape::Toggle(spec)) = table.section.key(&entry.key).map(|k| k.shape) else { continue };
        let mut values = values(table, entry, spec);
        if spec.name == DRAFT_MODEL {
            values.iter_mut().for_each(|value| draft_model(table, entry, value, base, offers));
        }
        honoured(table, entry, engines, offers);
        taken(table, entry, &values, engines, offers);
        if sampling.section.key(spec.name).is_some() && sampling.entry(spec.name).is_some() {
            let problem = Problem::new(format!("`{}` is set in [sampling] and in {}", spec.name, table.section.title));
            table.problem(problem.at(entry.key_span).label("remove one of the two"));
        }
        if !values.is_empty() {
            axes.push(Axis { toggle: spec.name.to_owned(), values });
        }
    }
    axes
}

/// Reports a toggle that an override sets for all engines, and one engine for itself: the override
/// would have no effect on this engine.
pub fn overridden(all: &Table<'_>, own: &Table<'_>, at: usize, engine: &EngineSpec) {
    for entry in all.entries().filter(|entry| entry.key != VARY && entry.key_span.is_override()) {
        if own.entries().any(|other| other.key == entry.key && !other.key_span.is_override()) {
            let problem = Problem::new(format!(
                "engine `{}` has its own `{}`, so this has no effect on it",
                engine.label, entry.key
            ));
            own.problem(problem.at(entry.key_span).help(format!("set `engine.{at}.toggles.{}` instead", entry.key)));
        }
    }
}

fn values(table: &Table<'_>, entry: &Entry, spec: &'static ToggleSpec) -> Vec<Value> {
    match &entry.value.data {
        Data::List(items) if items.is_empty() => {
            table.wrong(
                spec.name,
                &entry.value,
                "must not be an empty list: give at least one value, or remove the key",
            );
            Vec::new()
        }
        Data::List(items) => table.different(spec.name, items, |node| value(table, node, spec)),
        _ => value(table, &entry.value, spec).into_iter().collect(),
    }
}

/// Makes a path of the path or name of a draft model.
fn draft_model(table: &Table<'_>, entry: &Entry, value: &mut Value, base: &Path, offers: &Offers) {
    let Some(text) = value.as_text().filter(|text| *text != NO_DRAFT_MODEL) else { return };
    let path = resolve_path(text, entry, base);
    if path.exists() {
        *value = path.display().to_string().into();
        return;
    }
    match (offers.model)(text) {
        Ok(path) => *value = path.display().to_string().into(),
        Err(unnamed) => {
            let problem = Problem::new(format!("no draft model at {}, and {}", path.display(), unnamed.problem));
            let problem = problem.at(entry.value.span).help(format!("give a path, a name, or \"{NO_DRAFT_MODEL}\""));
            table.problem(unnamed.help.into_iter().fold(problem, Problem::help));
        }
    }
}

/// One value of a toggle.
pub fn value(table: &Table<'_>, node: &Node, spec: &'static ToggleSpec) -> Option<Value> {
    let Some(value) = node.as_value() else {
        table.wrong(spec.name, node, &format!("must be {}, not {}", spec.kind.words(), node.words()));
        return None;
    };
    // For a toggle that takes any number, 1 and 1.0 are the same value.
    let value = match (spec.kind, value) {
        (Kind::Float, Value::Int(n)) => Value::Float(n as f64),
        (_, value) => value,
    };
    if let Err(why) = spec.check(&value) {
        table.wrong(spec.name, node, &why);
        return None;
    }
    if value.as_float().is_some_and(|number| number > most(spec)) {
        table.wrong(spec.name, node, &format!("must be at most {}, not {value}", most(spec)));
        return None;
    }
    Some(value)
}

/// Every engine of the scenario must honour a toggle that is set: otherwise the comparison would be
/// of a setting without effect.
fn honoured(table: &Table<'_>, entry: &Entry, engines: &[&EngineSpec], offers: &Offers) {
    for engine in engines {
        let Some(offer) = offers.engines.iter().find(|o| o.name == engine.name) else { continue };
        let honours = offer.honours(&engine.options);
        let Some(names) = honours.toggles.as_ref().filter(|names| !names.contains(&entry.key.as_str())) else {
            continue;
        };
        let problem = Problem::new(format!("engine `{}` does not honour `{}`", engine.label, entry.key));
        let known = match names.as_slice() {
            [] => "no toggle".to_owned(),
            names => list(names.iter().copied()),
        };
        let problem = problem
            .at(entry.key_span)
            .label(honours.reason(&entry.key).unwrap_or("it would have no effect"))
            .help(format!("remove it; `{}` honours {known}", engine.label));
        let problem = match engines.len() {
            1 => problem,
            _ => problem.help("or set it under `toggles` of the `[[engine]]`s that honour it"),
        };
        let other = offer.variants.iter().find(|v| v.missing.is_none() && v.honours.honours(&entry.key) == Some(true));
        table.problem(match other {
            Some(v) => problem.help(format!("it is honoured with `options = {{ {} = \"{}\" }}`", v.option, v.value)),
            None => problem,
        });
    }
}

/// Reports a value that the toggle allows but an engine of the scenario does not accept.
fn taken(table: &Table<'_>, entry: &Entry, values: &[Value], engines: &[&EngineSpec], offers: &Offers) {
    for engine in engines {
        let offer = offers.engines.iter().find(|offer| offer.name == engine.name);
        let choices = offer.and_then(|offer| offer.honours(&engine.options).choices_of(&entry.key));
        let Some(choices) = choices else { continue };
        for text in values.iter().filter_map(Value::as_text).filter(|text| !fits(choices, text)) {
            let problem =
                Problem::new(format!("engine `{}` does not accept `{text}` for `{}`", engine.label, entry.key));
            let written = written(choices);
            let help = format!("`{}` accepts {}", engine.label, list(written.iter().map(String::as_str)));
            table.problem(problem.at(entry.value.span).help(help));
        }
    }
}
