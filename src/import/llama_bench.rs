//! llama-bench: JSON, JSON lines, CSV and SQL, of any version.
//!
//! A row is a test: `n_prompt` tokens in one go (pp), `n_gen` tokens one by one (tg), or both after
//! each other, on a cache that `n_depth` tokens fill. Columns that describe build, machine, model
//! and results have fixed names; every other column is a setting, so that columns of older and
//! newer versions are kept. Only JSON has samples; CSV and SQL have means.
//!
//! Source: llama.cpp, `tools/llama-bench/llama-bench.cpp` (`test::get_fields`).

use serde_json::Value as Json;

use super::json::Node;
use super::{Content, Fault, Found, FoundCell, sample, setting, sql};
use crate::record::metric::{DECODE_TPS, E2E_MS, PREFILL_TPS};
use crate::record::{AverageOf, RequestRow};
use crate::spec::Machine;
use inferometer_protocol::{Settings, Value};

const ABOUT: [&str; 9] = [
    "build_commit",
    "build_number",
    "cpu_info",
    "gpu_info",
    "backends",
    "model_filename",
    "model_type",
    "model_size",
    "model_n_params",
];
const RESULTS: [&str; 7] = ["test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts", "samples_ns", "samples_ts"];

/// A row: where it stands (a line, or the position in a list), and its columns as JSON.
type Row = (String, Json);

pub(super) fn runs(content: &Content<'_>) -> Result<Vec<Found>, Fault> {
    let rows = rows(content)?;
    let mut runs: Vec<(String, Found)> = Vec::new();
    for (place, row) in &rows {
        let row = Node::root(row, place);
        let cell = cell(&row)?;
        let key = identity(&row);
        // The same test once more is another run.
        let open = runs
            .iter_mut()
            .find(|(known, run)| *known == key && !run.cells.iter().any(|other| other.settings == cell.settings));
        let run = match open {
            Some((_, run)) => run,
            None => {
                runs.push((key, about(&row)));
                &mut runs.last_mut().expect("one was pushed").1
            }
        };
        run.started = [run.started, time(&row)?].into_iter().flatten().min();
        run.cells.push(cell);
    }
    Ok(runs.into_iter().map(|(_, run)| named(run)).collect())
}

fn rows(content: &Content<'_>) -> Result<Vec<Row>, Fault> {
    match content {
        Content::Json(values) => {
            let each = |(line, value): &(u64, Json)| match value {
                Json::Array(rows) => {
                    (0..).zip(rows).map(|(at, row): (u32, _)| (format!("[{at}]"), row.clone())).collect()
                }
                row => vec![(format!("line {line}"), row.clone())],
            };
            Ok(values.iter().flat_map(each).collect())
        }
        Content::Text { text, .. } if text.lines().any(|line| line.trim_start().starts_with("INSERT INTO")) => {
            let object = |row: Vec<(String, Option<String>)>| {
                row.into_iter().filter_map(|(name, value)| Some((name, Json::from(value?)))).collect()
            };
            Ok(sql::rows(text)?
                .into_iter()
                .map(|(line, row)| (format!("line {line}"), Json::Object(object(row))))
                .collect())
        }
        Content::Text { text, .. } => table(text),
    }
}

/// Rows of a CSV. A file that several runs were appended to repeats its header.
fn table(text: &str) -> Result<Vec<Row>, Fault> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(text.as_bytes());
    let mut names: Option<Vec<String>> = None;
    let mut rows = Vec::new();
    for line in reader.records() {
        let line =
            line.map_err(|error| Fault::line(error.position().map_or(0, csv::Position::line), error.to_string()))?;
        let number = line.position().map_or(0, csv::Position::line);
        if names.is_none() || line.get(0) == Some("build_commit") {
            names = Some(line.iter().map(str::to_owned).collect());
            continue;
        }
        let names = names.as_deref().unwrap_or_default();
        if line.len() != names.len() {
            return Err(Fault::line(number, format!("{} fields, but the header has {}", line.len(), names.len())));
        }
        let fields = names.iter().zip(&line).filter(|(_, value)| !value.is_empty());
        rows.push((
            format!("line {number}"),
            Json::Object(fields.map(|(name, value)| (name.clone(), value.into())).collect()),
        ));
    }
    Ok(rows)
}

/// What the rows of one run have in common.
fn identity(row: &Node<'_>) -> String {
    ABOUT.iter().map(|key| row.get(key).map_or_else(String::new, |node| plain(node.value)) + "\n").collect()
}

fn about(row: &Node<'_>) -> Found {
    let text = |key: &str| row.get(key).map(|node| plain(node.value)).filter(|text| !text.is_empty());
    let known = |key: &str| text(key).filter(|text| text != "unknown" && text != "0");
    Found {
        version: known("build_number").map(|number| format!("b{number}")),
        commit: known("build_commit"),
        engine: "llama.cpp",
        model: text("model_filename").or_else(|| text("model_type")),
        machine: Machine { cpu: text("cpu_info"), accelerator: text("gpu_info"), ..Machine::default() },
        ..Found::default()
    }
}

fn time(row: &Node<'_>) -> Result<Option<jiff::Timestamp>, Fault> {
    let Some(text) = row.text("test_time") else { return Ok(None) };
    let parsed = text.parse().map_err(|_| row.fault(format!("test_time `{text}` is not a time")))?;
    Ok(Some(parsed))
}

/// A value as CSV has it.
fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A number that may stand in quotes.
fn number(row: &Node<'_>, key: &str) -> Result<Option<f64>, Fault> {
    let Some(node) = row.get(key) else { return Ok(None) };
    let text = plain(node.value);
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    number.map(Some).ok_or_else(|| node.fault(format!("`{text}` is not a number from 0 on")))
}

fn tokens(row: &Node<'_>, key: &str) -> Result<Option<u32>, Fault> {
    let Some(found) = number(row, key)? else { return Ok(None) };
    let whole = found.fract() == 0.0 && found <= f64::from(u32::MAX);
    whole.then_some(Some(found as u32)).ok_or_else(|| row.fault(format!("{key} is {found}, not a number of tokens")))
}

/// What a test did.
struct Work {
    prompt: u32,
    generated: u32,
    /// Tokens in the cache before; absent in versions that always begin with an empty one.
    depth: Option<u32>,
}

fn cell(row: &Node<'_>) -> Result<FoundCell, Fault> {
    let needed = |key: &str| tokens(row, key)?.ok_or_else(|| row.fault(format!("no {key}: not a row of llama-bench")));
    let work = Work { prompt: needed("n_prompt")?, generated: needed("n_gen")?, depth: tokens(row, "n_depth")? };
    if work.prompt == 0 && work.generated == 0 {
        return Err(row.fault("n_prompt and n_gen are both 0"));
    }
    let depth = work.depth.filter(|depth| *depth > 0);
    let mut found = FoundCell {
        label: label(&work, depth),
        length: if work.prompt > 0 { Some(work.prompt) } else { depth },
        settings: settings(row),
        ..FoundCell::default()
    };
    for (at, ns) in samples(row, &work)?.into_iter().enumerate() {
        let whole = ns.fract() == 0.0 && ns > 0.0;
        if !whole {
            return Err(row.fault(format!("samples_ns[{at}] is {ns}, not a time above 0")));
        }
        found.rows.push(request(&work, ns / 1e6));
    }
    if found.rows.is_empty() {
        means(row, &work, &mut found)?;
    }
    Ok(found)
}

fn label(work: &Work, depth: Option<u32>) -> String {
    let parts = [("pp", work.prompt), ("tg", work.generated)].into_iter().filter(|(_, n)| *n > 0);
    let test = parts.map(|(what, n)| format!("{what}{n}")).collect::<Vec<_>>().join("+");
    depth.map_or(test.clone(), |depth| format!("{test} @ d{depth}"))
}

fn settings(row: &Node<'_>) -> Settings {
    let members = row.value.as_object().into_iter().flatten();
    members
        .filter(|(name, _)| !ABOUT.contains(&name.as_str()) && !RESULTS.contains(&name.as_str()))
        .map(|(name, value)| {
            let value = match value {
                Json::Number(number) if number.as_i64().is_none() => Value::Float(number.as_f64().unwrap_or_default()),
                other => setting(&plain(other)),
            };
            (name.clone(), value)
        })
        .collect()
}

/// The times of the samples in nanoseconds.
fn samples(row: &Node<'_>, work: &Work) -> Result<Vec<f64>, Fault> {
    let numbers = |key: &str| -> Result<Option<Vec<f64>>, Fault> {
        row.list(key)?.map(|items| items.iter().map(Node::number).collect()).transpose()
    };
    let (times, rates) = (numbers("samples_ns")?, numbers("samples_ts")?);
    if let (Some(times), Some(rates)) = (&times, &rates)
        && times.len() != rates.len()
    {
        return Err(row.fault(format!("{} samples_ns, but {} samples_ts", times.len(), rates.len())));
    }
    let done = f64::from(work.prompt) + f64::from(work.generated);
    Ok(match (times, rates) {
        (Some(times), _) => times,
        (None, Some(rates)) => rates.into_iter().map(|rate| (done / rate * 1e9).round()).collect(),
        (None, None) => Vec::new(),
    })
}

/// A sample. The time of a test with both parts belongs to neither.
fn request(work: &Work, ms: f64) -> RequestRow {
    let mut row = sample();
    let (prompt, generated) = (f64::from(work.prompt), f64::from(work.generated));
    if work.prompt > 0 {
        row.prompt_tokens = work.depth.unwrap_or(0).checked_add(work.prompt);
        row.reused_tokens = work.depth;
        row.prefill_tokens = Some(work.prompt);
    }
    if work.generated > 0 {
        row.counted_tokens = Some(work.generated);
    }
    match (work.prompt, work.generated) {
        (_, 0) => (row.prefill_ms, row.prefill_tps) = (Some(ms), Some(prompt / (ms / 1e3))),
        (0, _) => (row.decode_ms, row.decode_tps) = (Some(ms), Some(generated / (ms / 1e3))),
        _ => row.e2e_ms = Some(ms),
    }
    row
}

fn means(row: &Node<'_>, work: &Work, found: &mut FoundCell) -> Result<(), Fault> {
    let (metric, keys, size) = match (work.prompt, work.generated) {
        (_, 0) => (PREFILL_TPS, ["avg_ts", "stddev_ts"], 1.0),
        (0, _) => (DECODE_TPS, ["avg_ts", "stddev_ts"], 1.0),
        _ => (E2E_MS, ["avg_ns", "stddev_ns"], 1e-6),
    };
    if let Some(mean) = number(row, keys[0])?.filter(|mean| *mean > 0.0) {
        let deviation = number(row, keys[1])?.map(|deviation| deviation * size);
        found.average(metric, mean * size, AverageOf::Mean, None, deviation);
    }
    Ok(())
}

/// Adds to the cells' names the settings that differ between them.
fn named(mut run: Found) -> Found {
    const IN_NAME: [&str; 3] = ["n_prompt", "n_gen", "n_depth"];
    let first = run.cells.first().map(|cell| cell.settings.clone()).unwrap_or_default();
    let names: std::collections::BTreeSet<String> =
        run.cells.iter().flat_map(|cell| cell.settings.keys().cloned()).collect();
    for name in names.iter().filter(|name| !IN_NAME.contains(&name.as_str())) {
        if run.cells.iter().all(|cell| cell.settings.get(name) == first.get(name)) {
            continue;
        }
        for cell in &mut run.cells {
            if let Some(value) = cell.settings.get(name) {
                cell.label = format!("{} {name}={value}", cell.label);
            }
        }
    }
    run
}
