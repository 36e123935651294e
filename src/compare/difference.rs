//! Differences between two runs besides their measurements: program, machine, engine and scenario,
//! with both values.
//!
//! Each run becomes a list of named facts; facts that have different values, or are in only one
//! run, differ.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::align::SetAside;
use crate::record::{HostInfo, Manifest};
use crate::spec::{Axis, Machine};
use inferometer_protocol::TokenTiming;

/// A longer value is replaced by its length and hash.
const LONGEST: usize = 80;
/// Number of hex digits shown of a hash.
const HASH_DIGITS: usize = 12;
/// Prefix of toggle names among a scenario's keys.
const TOGGLES: &str = "toggles.";

/// The subject of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// The harness and the measured code.
    Program,
    Machine,
    /// The engine's identity and settings.
    Engine,
    Scenario,
}

impl Area {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Area::Program => "program",
            Area::Machine => "machine",
            Area::Engine => "engine",
            Area::Scenario => "scenario",
        }
    }
}

/// A fact that differs between the runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    pub area: Area,
    /// Name of the fact; for a scenario's key, its path.
    pub what: String,
    /// Null if that run does not have the fact.
    pub a: Option<String>,
    pub b: Option<String>,
}

/// A fact about a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    pub area: Area,
    pub what: String,
    pub value: String,
}

/// A fact that differs between several runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDifference {
    pub area: Area,
    pub what: String,
    /// One for each run, in their order; null if that run does not have the fact.
    pub values: Vec<Option<String>>,
}

/// All facts in which two runs differ, by area and name. Toggles that were set aside are listed
/// once, as such.
#[must_use]
pub fn between(a: &[Fact], b: &[Fact], set_aside: &[SetAside]) -> Vec<Difference> {
    let differing = among(&[a, b], set_aside).into_iter();
    differing
        .map(|RunDifference { area, what, values }| {
            let mut values = values.into_iter();
            Difference { area, what, a: values.next().flatten(), b: values.next().flatten() }
        })
        .collect()
}

/// All facts that are not the same in all of these runs, by area and name, without toggles that
/// were set aside.
#[must_use]
pub fn among(runs: &[&[Fact]], set_aside: &[SetAside]) -> Vec<RunDifference> {
    fn by_name(facts: &[Fact]) -> BTreeMap<(Area, &str), &str> {
        facts.iter().map(|fact| ((fact.area, fact.what.as_str()), fact.value.as_str())).collect()
    }
    let said = |what: &str| {
        let toggle = what.strip_prefix(TOGGLES);
        toggle.is_some_and(|name| set_aside.iter().any(|s| s.what == name))
    };
    let runs: Vec<BTreeMap<(Area, &str), &str>> = runs.iter().map(|facts| by_name(facts)).collect();
    let names: BTreeSet<(Area, &str)> = runs.iter().flat_map(|facts| facts.keys().copied()).collect();
    names
        .into_iter()
        .filter(|key| runs.iter().any(|facts| facts.get(key) != runs[0].get(key)) && !said(key.1))
        .map(|key| RunDifference {
            area: key.0,
            what: key.1.to_owned(),
            values: runs.iter().map(|facts| facts.get(&key).map(|value| (*value).to_owned())).collect(),
        })
        .collect()
}

/// The facts of a run. With `by_label`, facts about an engine carry its label; otherwise engines
/// with different labels can be compared.
#[must_use]
pub fn facts(manifest: &Manifest, by_label: bool) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut put = |area, what: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.push(Fact { area, what: what.to_owned(), value: shown(&value) });
        }
    };
    match &manifest.imported {
        None => put(Area::Program, "inferometer", Some(manifest.inferometer_version.clone())),
        Some(imported) => put(Area::Program, "imported from", Some(imported.by())),
    }
    put(Area::Program, "commit", commit(manifest));
    machine(&manifest.machine, |what, value| put(Area::Machine, what, value));
    for (index, engine) in manifest.scenario.engines.iter().enumerate() {
        let lead = if by_label { format!("{}: ", engine.label) } else { String::new() };
        put(Area::Scenario, &format!("{lead}engine"), Some(engine.name.clone()));
        for (name, value) in &engine.options {
            put(Area::Scenario, &format!("{lead}engine.options.{name}"), Some(value.to_string()));
        }
        let hosts: Vec<&HostInfo> = manifest.hosts.iter().filter(|host| host.engine as usize == index).collect();
        for (what, value) in engine_facts(&hosts) {
            put(Area::Engine, &format!("{lead}{what}"), Some(value));
        }
    }
    for (key, value) in scenario(manifest) {
        put(Area::Scenario, &key, Some(value));
    }
    facts
}

/// A long value as its length and hash, so that equal values remain equal.
pub(super) fn shown(value: &str) -> String {
    match value.chars().count() {
        n if n <= LONGEST => value.to_owned(),
        n => format!("{n} characters, SHA-256 {}", short(&hex(value))),
    }
}

fn hex(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn short(hash: &str) -> String {
    hash.chars().take(HASH_DIGITS).collect()
}

/// The commit of the working folder, `with changes` if there were uncommitted ones.
#[must_use]
pub fn commit(manifest: &Manifest) -> Option<String> {
    if let Some(imported) = &manifest.imported {
        return imported.commit.as_deref().map(short);
    }
    let git = manifest.git.as_ref()?;
    Some(format!("{}{}", short(&git.commit), if git.dirty { " with changes" } else { "" }))
}

fn machine(machine: &Machine, mut put: impl FnMut(&str, Option<String>)) {
    let number = |n: Option<u32>| n.map(|n| n.to_string());
    put("operating system", Some(machine.os.clone()).filter(|name| !name.is_empty()));
    put("kernel", machine.kernel.clone());
    put("architecture", Some(machine.arch.clone()).filter(|name| !name.is_empty()));
    put("CPU", machine.cpu.clone());
    put("physical cores", number(machine.physical_cores));
    put("logical cores", number(machine.logical_cores));
    put("memory bytes", machine.memory_bytes.map(|n| n.to_string()));
    put("accelerator", machine.accelerator.clone());
    put("virtual machine", machine.virtual_machine.map(|yes| yes_or_no(yes).to_owned()));
    put("frequency governor", machine.governor.clone());
    put("power source", machine.power_source.clone());
    for feature in &machine.cpu_features {
        put(&format!("CPU feature {feature}"), Some("yes".to_owned()));
    }
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// Facts from an engine's hosts; if a fact has several values, such as a varied number of threads,
/// they are joined.
fn engine_facts(hosts: &[&HostInfo]) -> BTreeMap<String, String> {
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut put = |what: &str, value: Option<String>| {
        if let Some(value) = value {
            values.entry(what.to_owned()).or_default().insert(value);
        }
    };
    for host in hosts {
        let receipt = &host.receipt;
        put("version", Some(receipt.version.clone()));
        put("engine's commit", receipt.commit.clone());
        put("backend", receipt.backend.clone());
        put("device", receipt.device.clone());
        put("model", Some(receipt.model.name.clone()));
        put("model's fingerprint", receipt.model.fingerprint.as_deref().map(short));
        put("weight format", receipt.model.weight_format.clone());
        let exact = receipt.token_timing == TokenTiming::Exact;
        put("token timing", Some(if exact { "exact" } else { "inexact" }.to_owned()));
        put("times include", Some(receipt.includes.join(", ")));
        put("declares itself deterministic", Some(yes_or_no(receipt.deterministic).to_owned()));
        put("executable's SHA-256", host.executable_sha256.as_deref().map(short));
        for (name, hash) in &host.command_sha256 {
            put(&format!("SHA-256 of {name}"), Some(short(hash)));
        }
        for (name, value) in &receipt.settings {
            put(&format!("settings.{name}"), Some(value.to_string()));
        }
        for (name, value) in &receipt.details {
            put(&format!("details.{name}"), Some(value.clone()));
        }
    }
    values.into_iter().map(|(what, all)| (what, all.into_iter().collect::<Vec<_>>().join(", "))).collect()
}

/// The scenario's keys by path, without engines, description and overrides.
fn scenario(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    if let Ok(Json::Object(mut scenario)) = serde_json::to_value(&manifest.scenario) {
        for left_out in ["description", "overrides", "engines", "toggles", "engine_toggles"] {
            scenario.remove(left_out);
        }
        flatten("", &Json::Object(scenario), &mut keys);
    }
    let values = |axis: &Axis| axis.values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    for axis in &manifest.scenario.toggles {
        keys.insert(format!("{TOGGLES}{}", axis.toggle), values(axis));
    }
    for (engine, axes) in &manifest.scenario.engine_toggles {
        keys.extend(axes.iter().map(|axis| (format!("{engine}: {TOGGLES}{}", axis.toggle), values(axis))));
    }
    keys
}

fn flatten(path: &str, value: &Json, keys: &mut BTreeMap<String, String>) {
    let text = match value {
        Json::Null => return,
        Json::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, keys);
            }
            return;
        }
        Json::String(text) => text.clone(),
        Json::Array(items) if items.iter().all(|item| item.is_number() || item.is_boolean()) => {
            items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    keys.insert(path.to_owned(), text);
}
