//! What differs between the engines of one run: settings, what their times include, model, build.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::cells::Measured;
use super::super::difference::{short, shown};
use crate::record::Record;
use inferometer_protocol::effective::EFFECTIVE_CHUNK;
use inferometer_protocol::toggle::{DTYPE, THREADS};
use inferometer_protocol::{Receipt, TokenTiming};

/// Settings that decide speed: they are headlines even if some engines do not report them.
const DECIDING: [&str; 3] = [DTYPE, THREADS, EFFECTIVE_CHUNK];

/// The subject of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// A setting in force.
    Setting,
    /// What the times include, and how far they can be trusted.
    Timing,
    Model,
    /// Name, version and platform of the engine.
    Build,
    /// An option of the scenario that the engine does not report as a setting.
    Option,
}

impl Topic {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Topic::Setting => "setting",
            Topic::Timing => "timing",
            Topic::Model => "model",
            Topic::Build => "build",
            Topic::Option => "option",
        }
    }
}

/// A fact in which the engines of a run differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineDifference {
    pub topic: Topic,
    pub what: String,
    /// One for each engine, in their order; null if the engine does not report it.
    pub values: Vec<Option<String>>,
}

impl EngineDifference {
    /// Whether the difference may explain one in speed or memory: a setting, timing or model that
    /// two engines report differently, or a setting that decides speed and that only some report.
    #[must_use]
    pub fn is_headline(&self) -> bool {
        let reported: BTreeSet<&String> = self.values.iter().flatten().collect();
        match self.topic {
            Topic::Setting if DECIDING.contains(&self.what.as_str()) => true,
            Topic::Setting | Topic::Timing | Topic::Model => reported.len() > 1,
            Topic::Build | Topic::Option => false,
        }
    }
}

/// An engine's facts by topic and name. A fact has several values where the scenario varies it, in
/// the order of the cells.
type Facts = BTreeMap<(Topic, String), Vec<String>>;

/// The facts that are not the same for all engines that started, by topic and name.
pub fn differences(record: &Record, measured: &[Measured]) -> Vec<EngineDifference> {
    let engines = 0..record.manifest.scenario.engines.len();
    let facts: Vec<Facts> = engines.map(|engine| of_engine(record, measured, engine)).collect();
    let names: BTreeSet<&(Topic, String)> = facts.iter().flat_map(BTreeMap::keys).collect();
    let value = |facts: &Facts, name: &(Topic, String)| facts.get(name).map(|values| values.join(", "));
    names
        .into_iter()
        .map(|name| (name, facts.iter().map(|facts| value(facts, name)).collect::<Vec<_>>()))
        .filter(|(_, values)| values.iter().any(|value| *value != values[0]))
        .map(|((topic, what), values)| EngineDifference { topic: *topic, what: what.clone(), values })
        .collect()
}

fn of_engine(record: &Record, measured: &[Measured], engine: usize) -> Facts {
    let mut facts = Facts::new();
    let mut put = |topic, what: &str, value: String| {
        let (values, value) = (facts.entry((topic, what.to_owned())).or_default(), shown(&value));
        if !values.contains(&value) {
            values.push(value);
        }
    };
    let cells = || measured.iter().filter(|cell| cell.cell.engine as usize == engine);
    let mut reported = BTreeSet::new();
    for row in cells().flat_map(|cell| &cell.valid) {
        for (name, value) in &row.effective {
            reported.insert(name.as_str());
            put(Topic::Setting, name, value.to_string());
        }
        if let Some(timing) = row.timing {
            put(Topic::Timing, "grade of token times", timing.name().to_owned());
        }
    }
    let in_force: BTreeSet<&str> = reported.clone();
    for host in record.manifest.hosts.iter().filter(|host| host.engine as usize == engine) {
        // Rows have what was in force for the requests, which may be less than what was loaded.
        for (name, value) in host.receipt.settings.iter().filter(|(name, _)| !in_force.contains(name.as_str())) {
            reported.insert(name);
            put(Topic::Setting, name, value.to_string());
        }
        of_receipt(&host.receipt, &mut put);
    }
    if let Some(spec) = record.manifest.scenario.engines.get(engine) {
        put(Topic::Build, "engine", spec.name.clone());
        for (name, value) in spec.options.iter().filter(|(name, _)| !reported.contains(name.as_str())) {
            put(Topic::Option, name, value.to_string());
        }
    }
    facts
}

fn of_receipt(receipt: &Receipt, put: &mut impl FnMut(Topic, &str, String)) {
    let includes = receipt.includes.iter().map(String::as_str);
    put(Topic::Timing, "times include", std::iter::once("the model").chain(includes).collect::<Vec<_>>().join(", "));
    let stamps = match receipt.token_timing {
        TokenTiming::Exact => "one a token",
        TokenTiming::Inexact => "one for several tokens",
    };
    put(Topic::Timing, "time stamps", stamps.to_owned());
    put(Topic::Build, "version", receipt.version.clone());
    let optional = [
        (Topic::Build, "commit", receipt.commit.clone()),
        (Topic::Build, "backend", receipt.backend.clone()),
        (Topic::Build, "device", receipt.device.clone()),
        (Topic::Model, "weight format", receipt.model.weight_format.clone()),
        (Topic::Model, "fingerprint", receipt.model.fingerprint.as_deref().map(short)),
    ];
    for (topic, what, value) in optional {
        if let Some(value) = value {
            put(topic, what, value);
        }
    }
    if !receipt.model.name.is_empty() {
        put(Topic::Model, "model", receipt.model.name.clone());
    }
}
