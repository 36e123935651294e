//! Starts a run of a scenario, or resumes one.
//!
//! The plan, the model and the prompts are made before the machine is locked and a host is started.
//! Each iteration is committed to the record before the next starts, so a run that ends early for
//! any reason can be resumed from there.

use std::path::{Path, PathBuf};

use super::driver::Driver;
use super::error::RunError;
use super::foresee;
use super::options::Options;
use super::progress::{Event, Observer};
use super::prompts::Prompts;
use super::segment::{self, Log, Past};
use super::worker::Work;
use crate::origin::{Origin, utc_now};
use crate::record;
use crate::record::{FinishState, Store};
use crate::spec::{Plan, Scenario};
use crate::{engines, scenario};

/// The outcome of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The record's folder.
    pub dir: PathBuf,
    pub state: FinishState,
    /// Whether anything was left to do.
    pub worked: bool,
}

/// Runs a scenario into a new folder in `results`.
///
/// # Errors
/// When the run cannot start (plan, model, tokenizer, lock, results folder, first host) or the
/// record cannot be written. Failures of the engine after the first host has opened are rows, not
/// errors.
pub fn run(
    scenario: &Scenario,
    results: &Path,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Outcome, RunError> {
    let plan = scenario::plan(scenario, &engines::offers())?;
    foresee::programs(scenario)?;
    foresee::speculation(&[(scenario, &plan)])?;
    let (model, prompts) = segment::prepare(scenario, &plan, observer)?;
    for warning in foresee::warnings(scenario, &plan, Some(&prompts)) {
        observer.event(Event::Warning(&warning));
    }
    let _measuring = segment::acquire(options, observer)?;
    let origin = Origin::start();
    let sampler = segment::sampler(scenario, origin);
    let store = Store::create(results, segment::manifest(scenario, &plan, &prompts, &origin, sampler.gauges()))?;
    options.interrupt.arm()?;
    let work = work(scenario, &plan, &prompts, &model, options);
    finish(Driver::new(work, Log { store, sampler, origin }, Past::default(), observer)?)
}

/// Continues the run recorded in `dir`, with its original plan and scenario; only secrets, which
/// the record masks, come from the scenario `given`. Does nothing if the run is finished.
///
/// # Errors
/// As [`run`]; and when this program's version, a prompt, the engine or the model differs from the
/// start of the record, unless [`Options::allow_changed`] is set.
pub fn resume(
    dir: &Path,
    given: Option<&Scenario>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Outcome, RunError> {
    let begun = record::manifest::read(dir)?;
    if begun.state == FinishState::Finished {
        return Ok(Outcome { dir: dir.to_owned(), state: FinishState::Finished, worked: false });
    }
    let mut warnings = segment::same_version(&begun, options)?;
    let (scenario, plan) = (&segment::with_secrets(&begun, given)?, &begun.plan);
    if given.is_some() && *scenario == begun.scenario {
        return Err(RunError::NoSecrets);
    }
    let (model, prompts) = segment::prepare(scenario, plan, observer)?;
    warnings.extend(segment::same_prompts(&begun, &prompts, options)?);
    for warning in &warnings {
        observer.event(Event::Warning(warning));
    }
    let _measuring = segment::acquire(options, observer)?;
    let (store, record) = Store::resume(dir)?;
    let log = Log::resume(store, &record, |manifest| manifest.warnings.append(&mut warnings))?;
    options.interrupt.arm()?;
    let work = work(scenario, plan, &prompts, &model, options);
    finish(Driver::new(work, log, Past::of(&record), observer)?)
}

/// The work of a run, as opposed to that of an A/B side.
fn work<'a>(
    scenario: &'a Scenario,
    plan: &'a Plan,
    prompts: &'a Prompts,
    model: &'a Path,
    options: &'a Options,
) -> Work<'a> {
    Work { scenario, plan, prompts, model, options, program: None, must_open: true, verified_only: false }
}

/// Runs the driver and closes the record, also if the run could not continue.
fn finish(driver: Driver<'_>) -> Result<Outcome, RunError> {
    let (mut store, any_done, result) = driver.drive();
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
