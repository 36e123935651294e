//! Requested and effective settings of a cell, side by side.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::record::{HostInfo, RequestRow};
use crate::spec::Cell;
use inferometer_protocol::effective::{EFFECTIVE_WINDOW, expected, same};
use inferometer_protocol::toggle::{REPETITION_CONTEXT_SIZE, REPETITION_PENALTY, REPETITION_WINDOW_CAP};
use inferometer_protocol::{Settings, Shape, Value};

/// Whether the engine used what was requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// The engine used the requested value.
    AsRequested,
    /// It used the value that follows from the request for this prompt and output length (a chunk
    /// no longer than the prompt).
    AsPredicted,
    /// It used something else.
    Mismatch,
    /// Something else, and the scenario allows that.
    MismatchAllowed,
    /// Nothing was requested; the engine chose.
    EngineChose,
    /// The engine does not report what it used.
    NotReported,
}

/// One setting of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SettingRow {
    pub name: String,
    /// The value that the cell requests; null if it requests none.
    pub requested: Option<Value>,
    /// The values expected for requests of this shape, from an engine that honours the toggles in
    /// this one's receipt.
    pub expected: Vec<Value>,
    /// The values that the engine reported in the cell's valid iterations; empty if it reports
    /// none.
    pub effective: Vec<Value>,
    pub agreement: Agreement,
}

/// Settings that only limit another effective value, through which they are reported.
const BOUNDS_OF_WINDOW: [&str; 2] = [REPETITION_CONTEXT_SIZE, REPETITION_WINDOW_CAP];

/// All settings of the cell, requested and effective, by name. `hosts` are those that ran the rows.
#[must_use]
pub fn rows(cell: &Cell, valid: &[&RequestRow], hosts: &[&HostInfo], allowed: &[String]) -> Vec<SettingRow> {
    let requested = requested(cell);
    let effective = distinct(valid.iter().map(|row| row.effective.clone()));
    let wanted = distinct(valid.iter().filter_map(|row| {
        let shape = Shape {
            prompt_tokens: row.prompt_tokens?,
            reused_tokens: row.reused_tokens.unwrap_or(0),
            generated_tokens: row.generated_tokens?,
        };
        let receipt = &hosts.iter().find(|host| host.host == row.host)?.receipt;
        let honoured: Vec<&str> = receipt.honoured().collect();
        Some(expected(&cell.sampling, &cell.toggles, shape, &honoured))
    }));
    let names: BTreeSet<&String> = requested.keys().chain(effective.keys()).collect();
    names
        .into_iter()
        .map(|name| {
            let mut row = SettingRow {
                name: name.clone(),
                requested: requested.get(name).cloned(),
                expected: wanted.get(name).cloned().unwrap_or_default(),
                effective: effective.get(name).cloned().unwrap_or_default(),
                agreement: Agreement::NotReported,
            };
            row.agreement = agreement(&row, &effective, allowed);
            row
        })
        .collect()
}

/// What the cell requests, including the repetition penalty of its sampling.
fn requested(cell: &Cell) -> Settings {
    let mut all = cell.toggles.clone();
    let sampling = &cell.sampling;
    all.entry(REPETITION_PENALTY.to_owned()).or_insert(sampling.repetition_penalty.into());
    if sampling.repetition_penalty != 1.0 {
        all.entry(REPETITION_CONTEXT_SIZE.to_owned()).or_insert(sampling.repetition_context_size.into());
    }
    all
}

fn distinct(settings: impl Iterator<Item = Settings>) -> BTreeMap<String, Vec<Value>> {
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (name, value) in settings.flatten() {
        let values = all.entry(name).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    all
}

fn agreement(row: &SettingRow, effective: &BTreeMap<String, Vec<Value>>, allowed: &[String]) -> Agreement {
    if row.effective.is_empty() {
        let seen_through_window = BOUNDS_OF_WINDOW.contains(&row.name.as_str());
        return match seen_through_window && effective.contains_key(EFFECTIVE_WINDOW) {
            true => Agreement::AsPredicted,
            false => Agreement::NotReported,
        };
    }
    let is = |wanted: &[Value]| same_values(wanted, &row.effective);
    match &row.requested {
        Some(requested) if is(std::slice::from_ref(requested)) => Agreement::AsRequested,
        _ if !row.expected.is_empty() && is(&row.expected) => Agreement::AsPredicted,
        None if row.expected.is_empty() => Agreement::EngineChose,
        // 0 leaves a load-time count, such as `threads`, to the engine.
        Some(Value::Int(0)) if row.expected.is_empty() => Agreement::EngineChose,
        _ if allowed.contains(&row.name) => Agreement::MismatchAllowed,
        _ => Agreement::Mismatch,
    }
}

/// Whether two cells did the same work although they requested different settings: every setting in
/// which they differ has an effective value, and all effective values are equal.
#[must_use]
pub fn same_work(a: &[SettingRow], b: &[SettingRow]) -> bool {
    let names: BTreeSet<&String> = a.iter().chain(b).map(|row| &row.name).collect();
    let used = |rows: &[SettingRow], name: &str| -> Vec<Value> {
        rows.iter().find(|row| row.name == name).map(|row| row.effective.clone()).unwrap_or_default()
    };
    let asked = |rows: &[SettingRow], name: &str| rows.iter().find(|row| row.name == name)?.requested.clone();
    let has_window = !used(a, EFFECTIVE_WINDOW).is_empty();
    let mut differ = false;
    let alike = names.into_iter().all(|name| {
        let seen = !used(a, name).is_empty() || BOUNDS_OF_WINDOW.contains(&name.as_str()) && has_window;
        let asked_alike = asked(a, name) == asked(b, name);
        differ |= !asked_alike;
        (asked_alike || seen) && same_values(&used(a, name), &used(b, name))
    });
    differ && alike
}

/// Equal as sets; whole numbers equal floats of the same value (CSV does not keep the difference).
fn same_values(a: &[Value], b: &[Value]) -> bool {
    a.len() == b.len() && a.iter().all(|x| b.iter().any(|y| same(x, y)))
}
