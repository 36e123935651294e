//! A run segment: what one process contributes to a record. A run that is never resumed has one
//! segment.
//!
//! Runs and A/B sessions start and resume their records here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::RunError;
use super::foresee;
use super::lock::Measuring;
use super::options::Options;
use super::outputs::Outputs;
use super::progress::{Event, Observer};
use super::prompts::{Prompts, QUALITY};
use super::schedule::Done;
use crate::engines;
use crate::origin::Origin;
use crate::record;
use crate::record::{FinishState, GaugeInfo, Manifest, Record, Status, Store};
use crate::secret;
use crate::secret::masked_scenario;
use crate::spec::{Plan, Scenario};
use crate::telemetry;
use crate::telemetry::Sampler;
use inferometer_protocol::Value;

/// Most changed prompts that an error lists.
const CHANGES_SHOWN: usize = 3;

/// Where a segment is recorded.
pub struct Log {
    pub store: Store,
    pub sampler: Sampler,
    pub origin: Origin,
}

/// State from earlier segments.
#[derive(Default)]
pub struct Past {
    pub done: Done,
    /// Steps of the profiled pass that are done.
    pub profiled: Done,
    pub outputs: Outputs,
    /// Prompt tokens as the engine first counted them, by cell and turn.
    pub prompt_tokens: BTreeMap<(u32, u32), u32>,
    pub next_request: u64,
    pub next_host: u32,
}

impl Past {
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            done: Done::of(&record.requests),
            profiled: Done::of(&record.profile.requests),
            outputs: Outputs::of(record),
            prompt_tokens: prompt_tokens(record),
            next_request: next_request(record),
            next_host: next_host(record),
        }
    }
}

fn prompt_tokens(record: &Record) -> BTreeMap<(u32, u32), u32> {
    let measured = record.requests.iter().filter(|row| !row.warmup && row.status == Status::Ok);
    let mut first = BTreeMap::new();
    for (at, tokens) in measured.filter_map(|row| Some(((row.cell, row.turn), row.prompt_tokens?))) {
        first.entry(at).or_insert(tokens);
    }
    first
}

impl Log {
    /// Continues a record of earlier segments; `note` changes its manifest.
    ///
    /// # Errors
    /// When the manifest has no usable origin or cannot be written.
    pub fn resume(mut store: Store, record: &Record, note: impl FnOnce(&mut Manifest)) -> Result<Self, RunError> {
        let begun = &record.manifest;
        let origin = Origin::resume(&begun.origin_utc, last_ns(record)).map_err(RunError::Origin)?;
        let interval = Duration::from_millis(u64::from(begun.scenario.telemetry.interval_ms));
        // With the columns that the record started with.
        let sampler = Sampler::go_on(interval, &begun.gauges, origin);
        store.update(|manifest| {
            manifest.state = FinishState::Running;
            manifest.finished_utc = None;
            manifest.segments += 1;
            note(manifest);
        })?;
        Ok(Self { store, sampler, origin })
    }
}

/// Samples the gauges of a scenario.
#[must_use]
pub fn sampler(scenario: &Scenario, origin: Origin) -> Sampler {
    let telemetry = &scenario.telemetry;
    Sampler::start(Duration::from_millis(u64::from(telemetry.interval_ms)), &telemetry.gauges, origin)
}

/// The path of the model, and every cell's prompt.
///
/// # Errors
/// When the model cannot be found or created, or a prompt cannot be made.
pub fn prepare(scenario: &Scenario, plan: &Plan, observer: &mut dyn Observer) -> Result<(PathBuf, Prompts), RunError> {
    let model = engines::models::resolve(&scenario.model, &mut |note| observer.event(Event::Note(note)))?;
    foresee::model(scenario, &model)?;
    let prompts = Prompts::make(scenario, &plan.cells, &model)?;
    foresee::context(scenario, plan, Some(&prompts))?;
    Ok((model, prompts))
}

/// Takes the machine-wide lock.
///
/// # Errors
/// When another process measures and [`Options::wait`] is off, or the lock cannot be used.
pub fn acquire(options: &Options, observer: &mut dyn Observer) -> Result<Measuring, RunError> {
    Ok(Measuring::acquire(options.wait, &|| options.interrupt.requested(), |holder| {
        let what = "Ctrl-C stops waiting, `--no-wait` fails instead of waiting";
        observer.event(Event::Note(&format!("waiting for another measurement to end ({holder}); {what}")));
    })?)
}

/// The manifest of a new record.
#[must_use]
pub fn manifest(
    scenario: &Scenario,
    plan: &Plan,
    prompts: &Prompts,
    origin: &Origin,
    gauges: Vec<GaugeInfo>,
) -> Manifest {
    Manifest {
        schema_version: record::schema::SCHEMA_VERSION,
        run: String::new(),
        inferometer_version: env!("CARGO_PKG_VERSION").to_owned(),
        origin_utc: origin.utc(),
        finished_utc: None,
        state: FinishState::Running,
        segments: 1,
        scenario: masked_scenario(scenario),
        scenario_sha256: sha256_of(scenario),
        plan: plan.clone(),
        prompts: prompts.hashes(&plan.cells),
        machine: telemetry::machine::machine(),
        git: telemetry::git_state(Path::new(".")),
        gauges,
        sampling: Vec::new(),
        hosts: Vec::new(),
        warnings: foresee::warnings(scenario, plan, Some(prompts)),
        texts: Default::default(),
        redacted: None,
        imported: None,
    }
}

/// SHA-256 in hex of the resolved scenario, without secrets, as JSON, whose keys have a fixed
/// order.
pub fn sha256_of(scenario: &Scenario) -> String {
    let json = serde_json::to_vec(&masked_scenario(scenario)).expect("a scenario is plain data");
    Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The scenario of a record to continue, with the secrets that the record masks taken from `given`,
/// the scenario of the file it was made from.
///
/// # Errors
/// When the record was redacted, `given` is another scenario, or a secret is missing.
pub fn with_secrets(begun: &Manifest, given: Option<&Scenario>) -> Result<Scenario, RunError> {
    if begun.redacted.is_some() {
        return Err(RunError::Redacted);
    }
    if let Some(given) = given.filter(|given| given.name != begun.scenario.name) {
        let (recorded, given) = (begun.scenario.name.clone(), given.name.clone());
        return Err(RunError::OtherScenario { recorded, given });
    }
    let mut scenario = begun.scenario.clone();
    let mut missing = Vec::new();
    for engine in &mut scenario.engines {
        let fresh = given.and_then(|given| given.engines.iter().find(|fresh| fresh.label == engine.label));
        for (name, value) in &mut engine.options {
            if !put_back(value, fresh.and_then(|fresh| fresh.options.get(name))) {
                missing.push(format!("`{name}` of engine `{}`", engine.label));
            }
        }
    }
    if missing.is_empty() { Ok(scenario) } else { Err(RunError::Secrets { missing }) }
}

/// Puts the secrets of `fresh` into a recorded option; `false` if one is missing.
fn put_back(value: &mut Value, fresh: Option<&Value>) -> bool {
    let texts = |value: &Value| match value {
        Value::Text(text) => Some(vec![text.clone()]),
        value => value.as_texts(),
    };
    let Some(mut words) = texts(value) else { return true };
    // A single text is masked because of its option's name, and is taken as it is.
    let complete = match (&*value, fresh) {
        (Value::Text(text), Some(Value::Text(fresh))) if text == secret::MASK => {
            fresh.clone_into(&mut words[0]);
            true
        }
        _ => secret::fill(&mut words, &fresh.and_then(texts).unwrap_or_default()),
    };
    *value = match value {
        Value::Text(_) => words.swap_remove(0).into(),
        _ => Value::List(words.into_iter().map(Value::from).collect()),
    };
    complete
}

/// Refuses a record that another version of this program started; returns a warning for the record
/// if that is allowed.
pub fn same_version(begun: &Manifest, options: &Options) -> Result<Vec<String>, RunError> {
    let own = env!("CARGO_PKG_VERSION");
    if begun.inferometer_version == own {
        return Ok(Vec::new());
    }
    let change = format!("the version was {}, is {own}", begun.inferometer_version);
    if options.allow_changed {
        Ok(vec![format!("this program changed during the run: {change}")])
    } else {
        Err(RunError::Changed { what: "this program".to_owned(), changes: vec![change] })
    }
}

/// Refuses prompts that differ from those of the run's start: the iterations would not do the same
/// work. The record holds the text, but the model's tokenizer cuts it to length.
pub fn same_prompts(begun: &Manifest, prompts: &Prompts, options: &Options) -> Result<Option<String>, RunError> {
    let now = prompts.hashes(&begun.plan.cells);
    let short = |hash: &str| hash.chars().take(16).collect::<String>();
    let mut changes: Vec<String> = now
        .iter()
        .filter_map(|(cell, new)| begun.prompts.get(cell).filter(|old| *old != new).map(|old| (cell, old, new)))
        .map(|(cell, old, new)| {
            let what = if cell == QUALITY { "the quality text".to_owned() } else { format!("cell {cell}'s prompt") };
            format!("SHA-256 of {what} was {}, is {}", short(old), short(new))
        })
        .collect();
    let Some(first) = changes.first() else { return Ok(None) };
    if options.allow_changed {
        return Ok(Some(format!("the prompts changed during the run: {first}")));
    }
    let more = changes.len().saturating_sub(CHANGES_SHOWN);
    changes.truncate(CHANGES_SHOWN);
    if more > 0 {
        changes.push(format!("and {more} more"));
    }
    let what = "the tokenized prompt".to_owned();
    Err(RunError::Changed { what, changes })
}

/// The latest time in the record.
fn last_ns(record: &Record) -> u64 {
    let requests = record.requests.iter().chain(&record.profile.requests).map(|row| row.end_ns);
    requests.chain(record.telemetry.iter().map(|row| row.t_ns)).max().unwrap_or(0)
}

/// The first request number that the record does not use, the profiled pass included.
fn next_request(record: &Record) -> u64 {
    let last = [&record.requests, &record.profile.requests].into_iter().filter_map(|rows| rows.last());
    last.map(|row| row.request + 1).max().unwrap_or(0)
}

/// The first host number that the record does not use. A host that never opened appears in rows
/// only.
fn next_host(record: &Record) -> u32 {
    let rows = record.requests.iter().chain(&record.profile.requests).map(|row| row.host);
    rows.chain(record.manifest.hosts.iter().map(|info| info.host)).max().map_or(0, |last| last + 1)
}
