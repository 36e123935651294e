//! The run driver: a scenario in, a record out.
//!
//! Decided first, then done: the plan, the model and the prompts are made before the machine is locked and a host is
//! started. Each iteration is committed to the record before the next begins, so a run that ends early, for whatever
//! reason, is resumed from there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::RunError;
use super::interrupt::Interrupt;
use super::lock::Measuring;
use super::outputs::Outputs;
use super::progress::{Event, Observer};
use super::prompts::Prompts;
use super::schedule::Done;
use super::session::Session;
use super::worker::{Log, Past, Work};
use crate::origin::{Origin, utc_now};
use crate::record;
use crate::record::{FinishState, GaugeInfo, Manifest, Record, Store};
use crate::spec::{Plan, Scenario};
use crate::telemetry;
use crate::telemetry::Sampler;
use crate::{engines, scenario};

/// Most changed prompts that an error names.
const CHANGES_SHOWN: usize = 3;

/// How a run is to go, beside what the scenario says.
pub struct Options {
    /// Wait for another measuring process instead of refusing to run beside it.
    pub wait: bool,
    /// Go on even where the engine or this program is not what the record began with.
    pub allow_changed: bool,
    pub interrupt: Interrupt,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The record's folder.
    pub dir: PathBuf,
    pub state: FinishState,
    /// Whether there was anything left to do.
    pub worked: bool,
}

/// Runs a scenario into a new folder below `results`.
///
/// # Errors
/// When the run cannot begin (plan, model, tokenizer, lock, results folder, first host) or the record cannot be
/// written. Failures of the engine after the first host is up are rows, not errors.
pub fn run(
    scenario: &Scenario,
    results: &Path,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Outcome, RunError> {
    let plan = scenario::plan(scenario, &engines::offers())?;
    let (model, prompts) = prepare(scenario, &plan, observer)?;
    let _measuring = acquire(options, observer)?;
    let origin = Origin::start();
    let sampler = sampler(scenario, origin);
    let store = Store::create(results, manifest(scenario, &plan, &prompts, &origin, sampler.gauges()))?;
    options.interrupt.arm()?;
    let work =
        Work { scenario, plan: &plan, prompts: &prompts, model: &model, options, program: None, must_open: true };
    finish(Session::new(work, Log { store, sampler, origin }, Past::default(), observer)?)
}

/// Goes on with the run recorded in `dir`, with the plan and the scenario it began with. A finished run is left alone.
///
/// # Errors
/// As [`run`]; and when this program's version, a prompt, the engine or the model is not what the record began with, unless
/// [`Options::allow_changed`].
pub fn resume(dir: &Path, options: &Options, observer: &mut dyn Observer) -> Result<Outcome, RunError> {
    let begun = record::manifest::read(dir)?;
    if begun.state == FinishState::Finished {
        return Ok(Outcome { dir: dir.to_owned(), state: FinishState::Finished, worked: false });
    }
    let mut warnings = same_version(&begun, options)?;
    let (scenario, plan) = (&begun.scenario, &begun.plan);
    let (model, prompts) = prepare(scenario, plan, observer)?;
    warnings.extend(same_prompts(&begun, &prompts, options)?);
    for warning in &warnings {
        observer.event(Event::Warning(warning));
    }
    let _measuring = acquire(options, observer)?;
    let (mut store, record) = Store::resume(dir)?;
    let origin = Origin::resume(&begun.origin_utc, last_ns(&record)).map_err(RunError::Origin)?;
    let sampler = sampler_again(&begun, origin);
    store.update(|manifest| {
        manifest.state = FinishState::Running;
        manifest.finished_utc = None;
        manifest.sessions += 1;
        manifest.warnings.append(&mut warnings);
    })?;
    options.interrupt.arm()?;
    let past = Past {
        done: Done::of(&record.requests),
        profiled: Done::of(&record.profile.requests),
        outputs: Outputs::of(&record),
        next_request: next_request(&record),
        next_host: next_host(&record),
    };
    let work = Work { scenario, plan, prompts: &prompts, model: &model, options, program: None, must_open: true };
    finish(Session::new(work, Log { store, sampler, origin }, past, observer)?)
}

/// Drives a session and closes the record, also when the run could not go on.
fn finish(session: Session<'_>) -> Result<Outcome, RunError> {
    let (mut store, any_done, result) = session.drive();
    let state = if matches!(result, Ok(true)) { FinishState::Finished } else { FinishState::Interrupted };
    let closed = store.update(|manifest| {
        manifest.state = state;
        manifest.finished_utc = Some(utc_now());
    });
    let dir = store.dir().to_owned();
    match result.and_then(|_| Ok(closed?)) {
        Ok(()) => Ok(Outcome { dir, state, worked: true }),
        Err(source) if any_done => Err(RunError::Stopped { dir, source: Box::new(source) }),
        Err(source) => Err(source),
    }
}

pub(super) fn sampler(scenario: &Scenario, origin: Origin) -> Sampler {
    let telemetry = &scenario.telemetry;
    Sampler::start(Duration::from_millis(u64::from(telemetry.interval_ms)), &telemetry.gauges, origin)
}

/// For a record that was begun before: with its columns.
pub(super) fn sampler_again(begun: &Manifest, origin: Origin) -> Sampler {
    let interval = Duration::from_millis(u64::from(begun.scenario.telemetry.interval_ms));
    Sampler::go_on(interval, &begun.gauges, origin)
}

/// The model on disk and every cell's prompt.
pub(super) fn prepare(
    scenario: &Scenario,
    plan: &Plan,
    observer: &mut dyn Observer,
) -> Result<(PathBuf, Prompts), RunError> {
    let model = engines::models::resolve(&scenario.model, &mut |note| observer.event(Event::Note(note)))?;
    let prompts = Prompts::make(&scenario.workload, &plan.cells, &model)?;
    Ok((model, prompts))
}

pub(super) fn acquire(options: &Options, observer: &mut dyn Observer) -> Result<Measuring, RunError> {
    Ok(Measuring::acquire(options.wait, |holder| {
        observer.event(Event::Note(&format!("waiting for another measurement to end ({holder})")));
    })?)
}

pub(super) fn manifest(
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
        sessions: 1,
        scenario: scenario.clone(),
        scenario_sha256: sha256_of(scenario),
        plan: plan.clone(),
        prompts: prompts.hashes(&plan.cells),
        machine: telemetry::machine::machine(),
        git: telemetry::git_state(Path::new(".")),
        gauges,
        sampling: Vec::new(),
        hosts: Vec::new(),
        warnings: Vec::new(),
        texts: Default::default(),
    }
}

/// SHA-256 in hex over the resolved scenario as JSON, whose keys have a fixed order.
pub(super) fn sha256_of(scenario: &Scenario) -> String {
    let json = serde_json::to_vec(scenario).expect("a scenario is plain data");
    Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Refuses a record that another version of this program began; a warning for the record where that is allowed.
pub(super) fn same_version(begun: &Manifest, options: &Options) -> Result<Vec<String>, RunError> {
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

/// Refuses prompts other than those the run began with: its iterations would not do the same work. Their text is in the
/// record, but the tokenizer that cuts it to length is the model's.
pub(super) fn same_prompts(begun: &Manifest, prompts: &Prompts, options: &Options) -> Result<Option<String>, RunError> {
    let now = prompts.hashes(&begun.plan.cells);
    let short = |hash: &str| hash.chars().take(16).collect::<String>();
    let mut changes: Vec<String> = now
        .iter()
        .filter_map(|(cell, new)| begun.prompts.get(cell).filter(|old| *old != new).map(|old| (cell, old, new)))
        .map(|(cell, old, new)| format!("SHA-256 of cell {cell}'s prompt was {}, is {}", short(old), short(new)))
        .collect();
    let Some(first) = changes.first() else { return Ok(None) };
    if options.allow_changed {
        return Ok(Some(format!("the prompts changed during the run: {first}")));
    }
    let more = changes.len().saturating_sub(CHANGES_SHOWN);
    changes.truncate(CHANGES_SHOWN);
    if more > 0 {
        changes.push(format!("and so on for {more} more"));
    }
    let what = "what the model's tokenizer makes of the prompt".to_owned();
    Err(RunError::Changed { what, changes })
}

/// The latest time in the record.
pub(super) fn last_ns(record: &Record) -> u64 {
    let requests = record.requests.iter().chain(&record.profile.requests).map(|row| row.end_ns);
    requests.chain(record.telemetry.iter().map(|row| row.t_ns)).max().unwrap_or(0)
}

/// The first number no request of the record has, the profiled pass included.
pub(super) fn next_request(record: &Record) -> u64 {
    let last = [&record.requests, &record.profile.requests].into_iter().filter_map(|rows| rows.last());
    last.map(|row| row.request + 1).max().unwrap_or(0)
}

/// The first number no host of the record has. A host that never opened has left a number in rows only.
pub(super) fn next_host(record: &Record) -> u32 {
    let rows = record.requests.iter().chain(&record.profile.requests).map(|row| row.host);
    rows.chain(record.manifest.hosts.iter().map(|info| info.host)).max().map_or(0, |last| last + 1)
}
