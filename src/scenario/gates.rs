//! `[[gate]]`: the decisions of an A/B session. Every condition on cells is checked against what
//! the scenario varies.

use super::cursor::Table;
use super::diagnose::{Problem, echo, list, nearest};
use super::keys::{CELLS, Shape};
use super::toggles;
use super::tree::{Data, Entry, Node};
use crate::spec::{Axis, CellSelector, Gate, GateMetric, Scale, Scenario};
use inferometer_protocol::{EngineSpec, Value};

/// With more gates, each one's share of the permitted error is too small to decide anything.
const MOST_GATES: usize = 3;

/// The data that conditions on cells are checked against.
struct Known<'a> {
    engines: &'a [EngineSpec],
    lengths: &'a [u32],
    toggles: Vec<Axis>,
}

/// The gates of a scenario that is read except for them, in its order.
pub fn gates(table: &Table<'_>, scenario: &Scenario) -> Vec<Gate> {
    let toggles = scenario.all_toggles();
    let known = Known { engines: &scenario.engines, lengths: scenario.workload.lengths(), toggles };
    let tables = table.tables("gate").unwrap_or_default();
    if let Some(fourth) = tables.get(MOST_GATES) {
        let problem = Problem::new(format!("there are {} gates; the limit is {MOST_GATES}", tables.len()));
        let help = "every additional gate makes all of them less certain; the report shows all other metrics anyway";
        table.problem(fourth.span.map_or(problem.clone(), |span| problem.at(span)).help(help));
        return Vec::new();
    }
    let mut gates: Vec<Gate> = Vec::new();
    for table in &tables {
        let Some(gate) = gate(table, &known) else { continue };
        if gates.iter().any(|other| other.metric == gate.metric && other.cells == gate.cells) {
            let problem = Problem::new(format!("two gates compare `{}` in {}", gate.metric.name(), gate.cells));
            table.problem(table.span.map_or(problem.clone(), |span| problem.at(span)).label("remove one of the two"));
        }
        gates.push(gate);
    }
    gates
}

/// `None` if no metric is named, which is reported.
fn gate(table: &Table<'_>, known: &Known<'_>) -> Option<Gate> {
    let (metric, cells) = (table.choice("metric"), cells(table, known));
    // The valid deltas depend on the metric; without a valid metric the delta is read as a share.
    let metric = table.entry("metric").and_then(|_| GateMetric::from_name(metric));
    let delta = match metric.map_or(Scale::Ratio, GateMetric::scale) {
        Scale::Ratio => share(table),
        scale => difference(table, scale, metric.map_or("", GateMetric::name)),
    };
    Some(Gate { metric: metric?, cells, delta })
}

/// The number under `delta`, in the metric's unit, for a metric that is compared by differences.
fn difference(table: &Table<'_>, scale: Scale, metric: &str) -> Option<f64> {
    let node = &table.entry("delta")?.value;
    let number = match &node.data {
        Data::Int(n) => Some(*n as f64),
        Data::Float(x) => Some(*x),
        Data::Text(text) => amount(text, scale),
        _ => None,
    };
    let number = number.filter(|number| scale.allows(*number));
    if number.is_none() {
        let (what, example) = match scale {
            Scale::Bytes => ("bytes", "`delta = \"64 MiB\"`"),
            _ => ("a count", "`delta = 2`"),
        };
        let is_share = matches!(&node.data, Data::Text(text) if text.trim_end().ends_with('%'));
        let title = match is_share {
            true => format!("`delta` cannot be a percentage: `{metric}` may be 0, so it is compared by differences"),
            false => format!("`delta` must be a number above 0 for `{metric}`, not {}", node.words()),
        };
        let help =
            format!("`{metric}` is {what}: write the smallest change that matters as a number, such as {example}");
        table.problem(Problem::new(title).at(node.span).help(help));
    }
    number
}

/// `2`, or for bytes `64 MiB`: a plain number without sign or exponent, with or without a unit.
fn amount(text: &str, scale: Scale) -> Option<f64> {
    const UNITS: [(&str, f64); 3] = [("KiB", 1024.0), ("MiB", 1_048_576.0), ("GiB", 1_073_741_824.0)];
    let unit = UNITS.iter().find(|(unit, _)| scale == Scale::Bytes && text.ends_with(unit));
    let digits = unit.map_or(text, |(unit, _)| text.trim_end_matches(unit).trim_end_matches(' '));
    let plain = Some(digits).filter(|digits| digits.chars().all(|c| c.is_ascii_digit() || c == '.'));
    Some(plain?.parse::<f64>().ok()? * unit.map_or(1.0, |(_, bytes)| *bytes))
}

/// The percentage under `delta`, as a share.
fn share(table: &Table<'_>) -> Option<f64> {
    let node = &table.entry("delta")?.value;
    let Data::Text(text) = &node.data else {
        let number = matches!(node.data, Data::Int(_) | Data::Float(_));
        let help = if number { format!("write `delta = \"{}%\"`", node.words()) } else { meaning(table) };
        let title = format!("`delta` must be a text with a percent sign, not {}", node.words());
        table.problem(Problem::new(title).at(node.span).help(help));
        return None;
    };
    let number = text.strip_suffix('%').map(|digits| digits.strip_suffix(' ').unwrap_or(digits));
    // The number parser accepts signs and exponents, which are probably typing mistakes.
    let plain = number.filter(|digits| digits.chars().all(|c| c.is_ascii_digit() || c == '.'));
    let percent = plain.and_then(|digits| digits.parse::<f64>().ok()).filter(|p| *p > 0.0 && *p < 100.0);
    if percent.is_none() {
        table.wrong("delta", node, &format!("must be above 0 % and below 100 %, such as `3%`, not {}", echo(text)));
    }
    percent.map(|percent| percent / 100.0)
}

fn meaning(table: &Table<'_>) -> String {
    format!("`delta`: {}", table.section.key("delta").map_or("", |key| key.meaning))
}

fn cells(table: &Table<'_>, known: &Known<'_>) -> CellSelector {
    let Some(entry) = table.entry("cells") else { return CellSelector::default() };
    match &entry.value.data {
        Data::Text(all) if all == "all" => CellSelector::default(),
        Data::Table(_) => match table.inside(&CELLS, Some(entry.key_span), &entry.value) {
            Some(conditions) => selector(&conditions, known),
            None => CellSelector::default(),
        },
        _ => {
            let what = format!("must be `all` or a table such as {{ length = 512 }}, not {}", entry.value.words());
            table.wrong("cells", &entry.value, &what);
            CellSelector::default()
        }
    }
}

fn selector(table: &Table<'_>, known: &Known<'_>) -> CellSelector {
    let mut selector =
        CellSelector { length: length(table, known), engine: engine(table, known), ..Default::default() };
    for entry in table.entries() {
        let Some(Shape::ToggleValue(spec)) = table.section.key(&entry.key).map(|key| key.shape) else { continue };
        if let Some(value) = toggles::value(table, &entry.value, spec) {
            varied(table, entry, &value, known);
            selector.toggles.insert(entry.key.clone(), value);
        }
    }
    selector
}

fn length(table: &Table<'_>, known: &Known<'_>) -> Option<u32> {
    let node = &table.entry("length")?.value;
    let length = table.count32("length");
    // A wrong number was already reported; the default in its place says nothing about cells.
    if node.data == Data::Int(i64::from(length)) && !known.lengths.contains(&length) {
        let lengths: Vec<String> = known.lengths.iter().map(u32::to_string).collect();
        let help = match lengths.as_slice() {
            [] => "the workload has no `lengths`, so its cells have no length".to_owned(),
            lengths => format!("the workload's `lengths` are {}", lengths.join(", ")),
        };
        nowhere(table, node, &format!("the length {length}"), None, help);
    }
    Some(length)
}

fn engine(table: &Table<'_>, known: &Known<'_>) -> Option<String> {
    let (label, node) = (table.text("engine")?, &table.entry("engine")?.value);
    let labels = || known.engines.iter().map(|engine| engine.label.as_str());
    if !known.engines.is_empty() && labels().all(|known| known != label) {
        let help = format!("the scenario's engines are {}", list(labels()));
        nowhere(table, node, &format!("the engine {}", echo(label)), nearest(label, labels()), help);
    }
    Some(label.to_owned())
}

/// Reports a value that the toggle has in no cell.
fn varied(table: &Table<'_>, entry: &Entry, value: &Value, known: &Known<'_>) {
    let axis = known.toggles.iter().find(|axis| axis.toggle == entry.key);
    let help = match axis {
        Some(axis) if axis.values.contains(value) => return,
        Some(axis) => {
            let values: Vec<String> = axis.values.iter().map(Value::to_string).collect();
            format!("the scenario has `{}` as {}", entry.key, values.join(" or "))
        }
        None => format!("cells differ only in [toggles], and `{}` is not there", entry.key),
    };
    nowhere(table, &entry.value, &format!("`{}` {value}", entry.key), None, help);
}

fn nowhere(table: &Table<'_>, node: &Node, what: &str, near: Option<&str>, help: String) {
    let problem = Problem::new(format!("no cell has {what}")).at(node.span).help(help);
    table.problem(match near {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None => problem,
    });
}
