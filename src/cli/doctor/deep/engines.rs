//! Every tensor library of this build: all architectures, every dtype, sampling, the settings of
//! memory and graph, and a quantized folder, on the smallest synthetic models; and whether the
//! libraries agree.

use std::collections::BTreeMap;
use std::path::Path;

use super::program::Program;
use super::{Item, State};
use crate::engines;
use crate::record;
use crate::record::{Cause, Record, Status};
use inferometer_protocol::Variant;
use inferometer_protocol::toggle::{CACHE_LIMIT, COMPILE, DTYPE, KV_CACHE, LAZY_PIPELINE, MEMORY_LIMIT, WIRED_LIMIT};

const PART: &str = "Engines";
/// Those of the synthetic models; each has operations of its own.
const ARCHITECTURES: [&str; 2] = ["llama", "qwen3"];
const SAMPLING: &str = "[sampling]\nseed = 7\ntemperature = 0.8\ntop_k = 20\ntop_p = 0.9\nmin_p = 0.02\n\
                        repetition_penalty = 1.2\n";
const GREEDY: &str = "[sampling]\nseed = 7\ntemperature = 0.0\n";

/// A toggle, and values of it as a scenario has them.
type Values = (&'static str, &'static [&'static str]);

/// Settings that are tried together, by the name of their line. Limits are above what the model
/// needs: what a limit below it does depends on the machine.
const SETTINGS: [(&str, &[Values]); 3] = [
    ("kv_cache", &[(KV_CACHE, &["\"full\"", "\"rotating:16\""])]),
    ("compile, lazy", &[(COMPILE, &["false", "true"]), (LAZY_PIPELINE, &["false", "true"])]),
    (
        "memory limits",
        &[(MEMORY_LIMIT, &["1073741824"]), (CACHE_LIMIT, &["0", "67108864"]), (WIRED_LIMIT, &["67108864"])],
    ),
];

pub fn items(program: &Program) -> Vec<Item> {
    let offers = engines::offers().engines;
    let Some(offer) = offers.into_iter().find(|offer| !offer.variants.is_empty()) else {
        return vec![Item::new(PART, "built-in engine", State::Absent, "this build has none (feature `engine`)")];
    };
    let mut items = Vec::new();
    let mut usable = Vec::new();
    for variant in &offer.variants {
        match &variant.missing {
            Some(why) => items.push(Item::new(PART, variant.value, State::Absent, why.clone())),
            None => usable.push(variant),
        }
    }
    for arch in ARCHITECTURES {
        items.extend(architecture(program, offer.name, arch, &usable));
    }
    for variant in usable {
        items.push(dtypes(program, offer.name, variant));
        items.extend(SETTINGS.iter().map(|(what, values)| settings(program, offer.name, variant, (what, values))));
        items.push(quantized(program, offer.name, variant));
        items.push(sampled(program, offer.name, variant));
    }
    items
}

/// One run of an architecture on all libraries, in f32: each works, and all give the same tokens.
fn architecture(program: &Program, engine: &str, arch: &str, libraries: &[&Variant]) -> Vec<Item> {
    let tables: String = libraries.iter().map(|library| table(engine, library)).collect();
    let text = scenario(arch, &format!("{tables}{GREEDY}[toggles]\ndtype = \"f32\"\nprefill_chunk_size = 8\n"));
    let what = |library: &Variant| format!("{} {arch}", library.value);
    let record = match recorded(program, &format!("arch-{arch}"), &text) {
        Ok(record) => record,
        Err(why) => {
            return libraries.iter().map(|library| Item::new(PART, what(library), State::Fails, why.clone())).collect();
        }
    };
    let first = libraries.first().and_then(|library| tokens(&record, library.value));
    let each = libraries.iter().map(|library| match (faults(&record, library.value), tokens(&record, library.value)) {
        (Some(why), _) => Item::new(PART, what(library), State::Fails, why),
        (None, None) => Item::new(PART, what(library), State::Differs, "equal iterations gave different tokens"),
        (None, own) if own != first => {
            Item::new(PART, what(library), State::Differs, "f32 tokens are not those of the first library")
        }
        (None, _) => Item::new(PART, what(library), State::Works, device(&record, library.value)),
    });
    each.collect()
}

/// Every dtype that the library accepts, in one run.
fn dtypes(program: &Program, engine: &str, library: &Variant) -> Item {
    let what = format!("{} dtypes", library.value);
    let choices = library.honours.choices.iter().find(|(toggle, _)| *toggle == DTYPE).map_or(&[][..], |(_, all)| all);
    let listed = choices.iter().map(|dtype| format!("{dtype:?}")).collect::<Vec<_>>().join(", ");
    let text = scenario("qwen3", &format!("{}{GREEDY}[toggles]\ndtype = [{listed}]\n", table(engine, library)));
    match recorded(program, &format!("dtypes-{}", library.value), &text) {
        Err(why) => Item::new(PART, what, State::Fails, why),
        Ok(record) => match faults(&record, library.value) {
            Some(why) => Item::new(PART, what, State::Fails, why),
            None => Item::new(PART, what, State::Works, choices.join(", ")),
        },
    }
}

/// Toggles of a library, every combination of their values in one run: each is in force, or the
/// iteration is not ok.
fn settings(program: &Program, engine: &str, library: &Variant, (name, values): (&str, &[Values])) -> Item {
    let what = format!("{} {name}", library.value);
    let honours = |toggle: &str| library.honours.toggles.as_ref().is_some_and(|all| all.contains(&toggle));
    let (able, unable): (Vec<&Values>, Vec<&Values>) = values.iter().partition(|(toggle, _)| honours(toggle));
    let why_not = |(toggle, _): &&Values| {
        let refused = library.honours.refused.iter().find(|(name, _)| name == toggle).map(|(_, why)| *why);
        format!("{toggle}: {}", refused.unwrap_or("not honoured"))
    };
    let left_out = unable.iter().map(why_not).collect::<Vec<_>>().join("; ");
    if able.is_empty() {
        return Item::new(PART, what, State::Absent, left_out);
    }
    let lines: String = able.iter().map(|(toggle, values)| format!("{toggle} = [{}]\n", values.join(", "))).collect();
    let text = scenario("qwen3", &format!("{}{GREEDY}[toggles]\n{lines}", table(engine, library)));
    match recorded(program, &format!("{}-{}", name.replace([',', ' '], "-"), library.value), &text) {
        Err(why) => Item::new(PART, what, State::Fails, why),
        Ok(record) => match faults(&record, library.value) {
            Some(why) => Item::new(PART, what, State::Fails, why),
            None => {
                let tried = able.iter().map(|(toggle, values)| format!("{toggle} {}", values.join(" and ")));
                let tried = tried.collect::<Vec<_>>().join(", ").replace('"', "");
                Item::new(PART, what, State::Works, [tried, left_out].join("; ").trim_end_matches("; "))
            }
        },
    }
}

/// A folder in MLX's quantized format.
fn quantized(program: &Program, engine: &str, library: &Variant) -> Item {
    let what = format!("{} 4-bit folder", library.value);
    let text = scenario("qwen3", &format!("{}{GREEDY}", table(engine, library)))
        .replace("seed = 1 }", "seed = 1, bits = 4, group_size = 32 }");
    match recorded(program, &format!("quantized-{}", library.value), &text) {
        Err(why) => Item::new(PART, what, State::Fails, why),
        Ok(record) => match (faults(&record, library.value), tokens(&record, library.value)) {
            (Some(why), _) => Item::new(PART, what, State::Fails, why),
            (None, None) => Item::new(PART, what, State::Differs, "equal iterations gave different tokens"),
            (None, Some(_)) => {
                let host = record.manifest.hosts.first();
                let dtype = host.and_then(|host| host.receipt.settings.get(DTYPE)).map(ToString::to_string);
                let dtype = dtype.unwrap_or_else(|| "an unnamed format".to_owned());
                Item::new(PART, what, State::Works, format!("held as {dtype}"))
            }
        },
    }
}

/// Sampling with a seed: the same tokens twice.
fn sampled(program: &Program, engine: &str, library: &Variant) -> Item {
    let what = format!("{} sampling", library.value);
    let text = scenario("qwen3", &format!("{}{SAMPLING}", table(engine, library)));
    match recorded(program, &format!("sampling-{}", library.value), &text) {
        Err(why) => Item::new(PART, what, State::Fails, why),
        Ok(record) => match (faults(&record, library.value), tokens(&record, library.value)) {
            (Some(why), _) => Item::new(PART, what, State::Fails, why),
            (None, None) => Item::new(PART, what, State::Differs, "one seed gave different tokens"),
            (None, Some(_)) => {
                Item::new(PART, what, State::Works, "penalty, top-k, top-p, min-p; repeatable by its seed")
            }
        },
    }
}

fn table(engine: &str, library: &Variant) -> String {
    let Variant { option, value, .. } = library;
    format!("[[engine]]\nname = {engine:?}\nlabel = {value:?}\noptions = {{ {option} = {value:?} }}\n")
}

fn scenario(arch: &str, rest: &str) -> String {
    format!(
        "name = \"deep\"\n[model]\nsynthetic = {{ arch = \"{arch}\", preset = \"tiny\", seed = 1 }}\n[workload]\n\
         text = \"Light goes down two paths and comes back; where the paths differ, bright turns to dark.\"\n\
         lengths = [20]\nmax_tokens = 12\nignore_eos = true\n[run]\niterations = 2\nexternal_causes = \"warn\"\n\
         [telemetry]\ninterval_ms = 20\n{rest}"
    )
}

fn recorded(program: &Program, name: &str, text: &str) -> Result<Record, String> {
    let run = || -> anyhow::Result<Record> {
        let folder = program.folder(name)?;
        fs_err::write(folder.join("scenario.toml"), text)?;
        let ended = program.run(&folder, &["run", "scenario.toml", "--no-report", "-q"])?;
        only_run(&folder.join("results")).map_err(|_| anyhow::anyhow!(ended.told()))
    };
    run().map_err(|e| format!("{e:#}"))
}

/// The record of the only run in a folder.
pub fn only_run(results: &Path) -> anyhow::Result<Record> {
    let found = fs_err::read_dir(results)?.flatten().map(|entry| entry.path()).find(|path| path.is_dir());
    Ok(record::read(&found.ok_or_else(|| anyhow::anyhow!("nothing was recorded"))?)?)
}

/// Why rows of an engine are not ok. What a busy machine can cause says nothing about the library.
fn faults(record: &Record, label: &str) -> Option<String> {
    let mut own = record.requests.iter().filter(|row| row.engine == label).peekable();
    if own.peek().is_none() {
        return Some("no request was made".to_owned());
    }
    let by_machine = |cause: Option<Cause>| cause.is_some_and(Cause::may_be_the_machine);
    own.find(|row| row.status != Status::Ok && !by_machine(row.cause)).map(|row| row.reason.clone())
}

/// The hash of an engine's tokens if all its iterations of a cell gave the same ones.
fn tokens(record: &Record, label: &str) -> Option<Vec<String>> {
    let mut cells: BTreeMap<u32, Option<String>> = BTreeMap::new();
    for row in record.requests.iter().filter(|row| row.engine == label && !row.warmup) {
        let hash = row.token_hash.clone();
        if *cells.entry(row.cell).or_insert_with(|| hash.clone()) != hash {
            return None;
        }
    }
    cells.into_values().collect()
}

/// Where the engine computed.
fn device(record: &Record, label: &str) -> String {
    let labelled =
        |engine: u32| record.manifest.scenario.engines.get(engine as usize).is_some_and(|one| one.label == label);
    let host = record.manifest.hosts.iter().find(|host| labelled(host.engine));
    let device = host.and_then(|host| host.receipt.device.as_deref());
    format!("f32 on {}", device.unwrap_or("an unnamed device"))
}
