//! From the tree to the resolved scenario, section by section.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Offers;
use super::cursor::{Problems, Table};
use super::diagnose::{Problem, ScenarioError, Source, echo, list};
use super::keys::SCENARIO;
use super::tree::{Data, Entry, Node};
use super::workload::workload;
use super::{ab, engines, gates, overrides, profile, quality, sampling, toggles, traffic, tree};
use crate::spec::{ExternalCauses, Isolation, RunSettings, Scenario, TelemetrySettings};
use inferometer_protocol::{Architecture, EngineSpec, ModelSpec, Precision, Quantization};

/// Longer names make unwieldy folder names.
const MOST_NAME: usize = 64;

/// See [`super::from_text`].
pub fn scenario(
    name: &str,
    text: &str,
    base: &Path,
    overrides: &[String],
    offers: &Offers,
) -> Result<Scenario, ScenarioError> {
    let file = Source { name: name.to_owned(), text: text.to_owned() };
    let mut root = match tree::document(text, 0) {
        Ok(root) => root,
        Err(problem) => return Err(ScenarioError::new(vec![file], vec![problem])),
    };
    let problems = Problems::of(file);
    if root.data == Data::Table(Vec::new()) && overrides.is_empty() {
        let problem = Problem::new(format!("{name} is empty"));
        let help = "start from a copy of scenarios/quickstart.toml; docs/reference/scenarios.md explains every key";
        return Err(ScenarioError::unread(problem.help(help)));
    }
    default_engine(&mut root);
    for given in overrides {
        let source = problems.add_source(overrides::source(given));
        if let Err(problem) = overrides::apply(&mut root, given, source) {
            problems.add(problem);
        }
    }
    let Data::Table(entries) = &root.data else { unreachable!("a document is a table") };
    let table = Table::new(&SCENARIO, None, entries, &problems);
    let mut scenario = resolve(&table, base, offers);
    scenario.overrides = overrides.to_vec();
    let (sources, found) = problems.take();
    if found.is_empty() { Ok(scenario) } else { Err(ScenarioError::new(sources, found)) }
}

/// A scenario without `[[engine]]` has one `transformer`, added to the tree so that `--set
/// engine.0...` works.
fn default_engine(root: &mut Node) {
    let span = root.span;
    let Data::Table(entries) = &mut root.data else { return };
    if entries.iter().all(|e| e.key != "engine") {
        let one = Node { span, data: Data::Table(Vec::new()) };
        let value = Node { span, data: Data::List(vec![one]) };
        entries.push(Entry { key: "engine".to_owned(), key_span: span, value });
    }
}

fn resolve(table: &Table<'_>, base: &Path, offers: &Offers) -> Scenario {
    let (engines, own): (Vec<EngineSpec>, Vec<Table<'_>>) = engines::engines(table, base, offers).into_iter().unzip();
    let sampling_table = table.table("sampling");
    let toggles_table = table.table("toggles");
    let sampling = sampling::read(&sampling_table);
    sampling::honoured(&sampling_table, &sampling, &engines, offers);
    let toggles = toggles::axes(&toggles_table, &sampling_table, &engines.iter().collect::<Vec<_>>(), base, offers);
    let mut engine_toggles = BTreeMap::new();
    for (at, (engine, own)) in engines.iter().zip(&own).enumerate() {
        toggles::overridden(&toggles_table, own, at, engine);
        let axes = toggles::axes(own, &sampling_table, &[engine], base, offers);
        if !axes.is_empty() {
            engine_toggles.insert(engine.label.clone(), axes);
        }
    }
    let mut scenario = Scenario {
        name: name(table),
        description: table.text("description").map(str::to_owned),
        model: model(&table.table("model"), &engines, base, offers),
        workload: workload(table, base),
        sampling,
        run: run(&table.table("run")),
        vary: toggles::vary(&toggles_table),
        toggles,
        engine_toggles,
        telemetry: telemetry(&table.table("telemetry")),
        gates: Vec::new(),
        ab: ab::settings(&table.table("ab")),
        profile: profile::settings(&table.table("profile")),
        quality: quality::settings(&table.table("quality"), base),
        traffic: traffic::settings(&table.table("load")),
        build: ab::build(&table.table("build")),
        engines,
        default_length: !states(table, "workload", "max_tokens"),
        overrides: Vec::new(),
    };
    scenario.gates = gates::gates(table, &scenario);
    traffic::suits(table, &scenario);
    scenario
}

/// Whether the table under `section` has `key`.
fn states(table: &Table<'_>, section: &str, key: &str) -> bool {
    let has = |data: &Data| matches!(data, Data::Table(entries) if entries.iter().any(|entry| entry.key == key));
    table.entry(section).is_some_and(|entry| has(&entry.value.data))
}

fn name(table: &Table<'_>) -> String {
    let Some(name) = table.text("name") else { return String::new() };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(plain) || name.starts_with('.') || name.len() > MOST_NAME {
        let node = &table.entry("name").expect("it was just read").value;
        table.wrong("name", node, &format!("must not be {}", echo(name)));
    }
    name.to_owned()
}

fn model(table: &Table<'_>, engines: &[EngineSpec], base: &Path, offers: &Offers) -> ModelSpec {
    match one_of(table) {
        Some("path") => ModelSpec::Path(model_path(table, base)),
        Some("name") => ModelSpec::Path(model_of_name(table, offers)),
        Some("served") => served(table, engines, offers),
        Some(_) => synthetic(&table.table("synthetic"), offers),
        None => ModelSpec::Path(PathBuf::new()),
    }
}

/// Only engines that bring their own model can do without one.
fn served(table: &Table<'_>, engines: &[EngineSpec], offers: &Offers) -> ModelSpec {
    let Some(entry) = table.entry("served") else { return ModelSpec::Served };
    let (serving, loading): (Vec<_>, Vec<_>) = offers.engines.iter().partition(|offer| offer.serves);
    let loads = |engine: &&EngineSpec| loading.iter().any(|offer| offer.name == engine.name);
    if !table.flag("served") {
        let problem = Problem::new("`served` can only be true").at(entry.value.span);
        table.problem(problem.help("remove it, and name the model with `path`, `name` or `synthetic`"));
    } else if let Some(engine) = engines.iter().find(loads) {
        let problem = Problem::new(format!("engine `{}` needs a model", engine.label)).at(entry.value.span);
        let names = list(serving.iter().map(|offer| offer.name));
        table.problem(problem.help(format!("`served` is for engines that have one already: {names}")));
    }
    ModelSpec::Served
}

fn synthetic(table: &Table<'_>, offers: &Offers) -> ModelSpec {
    let (arch, preset) = (table.choice("arch"), table.text("preset").unwrap_or_default());
    let arch = Architecture::from_name(arch).unwrap_or(Architecture::Qwen3);
    let presets: Vec<&str> = offers.presets.iter().filter(|(of, _)| *of == arch).map(|(_, name)| *name).collect();
    if let (true, Some(entry), false) =
        (table.entry("arch").is_some(), table.entry("preset"), presets.contains(&preset))
    {
        let problem = Problem::new(format!("unknown preset `{preset}` of {arch} models")).at(entry.value.span);
        table.problem(problem.help(if offers.presets.is_empty() {
            "this build cannot create synthetic models: it has no `engine` feature".to_owned()
        } else {
            format!("{arch} has {}", list(presets.iter().copied()))
        }));
    }
    ModelSpec::Synthetic {
        arch,
        preset: preset.to_owned(),
        seed: table.count("seed"),
        dtype: table.entry("dtype").and_then(|_| Precision::from_name(table.choice("dtype"))),
        quantization: quantization(table),
    }
}

fn quantization(table: &Table<'_>) -> Option<Quantization> {
    let (bits, group_size) = (table.size("bits"), table.size("group_size"));
    if let (None, Some(entry)) = (table.entry("bits"), table.entry("group_size")) {
        let problem = Problem::new("`group_size` has no effect without `bits`").at(entry.value.span);
        table.problem(problem.help("add `bits = 4` or `bits = 8` for a quantized model, or remove it"));
    }
    let group_size = group_size.map_or(Quantization::USUAL_GROUP, |n| n as usize);
    Quantization::new(u32::try_from(bits?).ok()?, group_size)
}

/// The model's folder, or for other engines file, which must exist.
fn model_path(table: &Table<'_>, base: &Path) -> PathBuf {
    let (Some(text), Some(entry)) = (table.text("path"), table.entry("path")) else { return PathBuf::new() };
    let path = resolve_path(text, entry, base);
    if path.exists() {
        return path;
    }
    let problem = Problem::new(format!("no model at {}", path.display())).at(entry.value.span);
    table.problem(
        problem
            .label("no such folder")
            .help("give a folder with config.json, safetensors and tokenizer.json, a GGUF file, or a synthetic model:")
            .help("`synthetic = { arch = \"qwen3\", preset = \"small\", seed = 1 }`"),
    );
    path
}

/// The path of the model that has the name on this machine.
fn model_of_name(table: &Table<'_>, offers: &Offers) -> PathBuf {
    let (Some(name), Some(entry)) = (table.text("name"), table.entry("name")) else { return PathBuf::new() };
    match (offers.model)(name) {
        Ok(path) => path,
        Err(unnamed) => {
            let problem = Problem::new(unnamed.problem).at(entry.value.span);
            table.problem(unnamed.help.into_iter().fold(problem, Problem::help));
            PathBuf::new()
        }
    }
}

/// Absolute form of a path from the scenario (relative to `base`) or an override (relative to the
/// working folder).
pub fn resolve_path(text: &str, entry: &Entry, base: &Path) -> PathBuf {
    let home = text.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let path = match (home, std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest.trim_start_matches('/')),
        _ if entry.value.span.is_override() => PathBuf::from(text),
        _ => base.join(text),
    };
    std::path::absolute(&path).unwrap_or(path)
}

/// Which of the section's alternative keys is present. Exactly one must be; an override replaces
/// the file's other key.
pub fn one_of(table: &Table<'_>) -> Option<&'static str> {
    let keys = table.section.one_of;
    let given: Vec<(&'static str, &Entry)> = keys.iter().filter_map(|key| Some((*key, table.entry(key)?))).collect();
    let overrides: Vec<_> = given.iter().filter(|(_, entry)| entry.value.span.is_override()).collect();
    let (one, other) = match (given.as_slice(), overrides.as_slice()) {
        ([(key, _)], _) | (_, [(key, _)]) => return Some(key),
        ([], _) => {
            needs_one(table);
            return None;
        }
        (_, [one, other, ..]) => (*one, *other),
        ([one, other, ..], []) => (one, other),
    };
    let later = if one.1.key_span.start > other.1.key_span.start { one.1 } else { other.1 };
    let problem = Problem::new(format!("`{}` and `{}` cannot be used together", one.0, other.0)).at(later.key_span);
    table.problem(problem.label("remove one of the two"));
    None
}

fn needs_one(table: &Table<'_>) {
    let (Some(span), Some((last, first))) = (table.span, table.section.one_of.split_last()) else { return };
    let either = if first.len() == 1 { "either " } else { "" };
    let first = first.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    let mut problem = Problem::new(format!("{} needs {either}{first} or `{last}`", table.section.title)).at(span);
    for key in table.section.one_of {
        problem = problem.help(format!("`{key}`: {}", table.section.key(key).map_or("", |k| k.meaning)));
    }
    table.problem(problem);
}

fn run(table: &Table<'_>) -> RunSettings {
    RunSettings {
        iterations: table.count32("iterations"),
        warmup: table.count32("warmup"),
        isolation: match table.choice("isolation") {
            "cell" => Isolation::Cell,
            "iteration" => Isolation::Iteration,
            "load" => Isolation::Load,
            _ => Isolation::Run,
        },
        timeout_s: table.number("timeout_s"),
        cooldown_s: table.number("cooldown_s"),
        order_seed: table.count("order_seed"),
        allow_mismatch: table.choices("allow_mismatch"),
        external_causes: match table.choice("external_causes") {
            "warn" => ExternalCauses::Warn,
            _ => ExternalCauses::Invalidate,
        },
    }
}

fn telemetry(table: &Table<'_>) -> TelemetrySettings {
    TelemetrySettings { interval_ms: table.count32("interval_ms"), gauges: table.choices("gauges") }
}
