//! Starts a session of two sides, or resumes one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::session::{Pace, Session, cells_match};
use super::{gates, length};
use crate::compare::ab::{Evidence, Judgement, judge};
use crate::origin::{Origin, utc_now};
use crate::record::ab::{AbManifest, AbStore, PairRow, Resumed, SCHEMA_VERSION, SideInfo};
use crate::record::{FinishState, Manifest, Record, RequestRow, Store};
use crate::run::error::RunError;
use crate::run::foresee;
use crate::run::options::Options;
use crate::run::progress::{Event, Observer};
use crate::run::prompts::Prompts;
use crate::run::schedule::Done;
use crate::run::segment::{self, Log, Past};
use crate::run::worker::{Work, Worker};
use crate::secret;
use crate::secret::Secrets;
use crate::spec::{Machine, Plan, Scenario, Side};
use crate::telemetry;
use inferometer_protocol::units::bytes;

/// One side.
#[derive(Debug, Clone)]
pub struct Setup {
    pub info: SideInfo,
    pub scenario: Scenario,
    /// Has the cells of the other side, by position; its order is not used.
    pub plan: Plan,
}

/// The outcome of a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The session's folder.
    pub dir: PathBuf,
    pub state: FinishState,
    /// Whether anything was left to do.
    pub worked: bool,
    pub judgement: Judgement,
}

/// Waits for, or refuses, a measurement in progress, which a build would disturb. The lock is free
/// during the build, which may take minutes. Ctrl-C is handled from here on.
///
/// # Errors
/// When another process measures and [`Options::wait`] is off, or the lock cannot be used.
pub fn before_builds(options: &Options, observer: &mut dyn Observer) -> Result<(), RunError> {
    drop(segment::acquire(options, observer)?);
    Ok(options.interrupt.arm()?)
}

/// Compares two sides in a new folder in `results`. `delta` applies to gates without one.
///
/// # Errors
/// When the session cannot start (cells that do not match, gates, model, lock, results folder, side
/// A's first host) or its record cannot be written. Later failures of an engine are outcomes, not
/// errors.
pub fn run(
    mut setups: [Setup; 2],
    delta: Option<f64>,
    results: &Path,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Outcome, RunError> {
    let _measuring = segment::acquire(options, observer)?;
    options.interrupt.arm()?;
    cells_match(&setups[0], &setups[1])?;
    if setups.iter().any(|setup| setup.scenario.traffic.is_some()) {
        let told = "an A/B session cannot measure under `[load]`; record two runs with it, and compare them";
        return Err(RunError::Ab(told.to_owned()));
    }
    for setup in setups.iter().filter(|setup| setup.info.commit.is_none()) {
        foresee::programs(&setup.scenario)?;
    }
    foresee::speculation(&setups.each_ref().map(|setup| (&setup.scenario, &setup.plan)))?;
    let machine = telemetry::machine::machine();
    let gates_of = |setup: &Setup| gates::resolve(&setup.scenario, &setup.plan.cells, &machine, delta);
    let gates = gates_of(&setups[0])?;
    let length = length::choose(&mut setups, &gates, options, observer)?;
    cells_match(&setups[0], &setups[1])?;
    for setup in &mut setups {
        setup.plan.order.clear();
    }
    let gates = gates_of(&setups[0])?;
    let ready = prepare(&setups, observer)?;
    foreseen(&setups, &ready).iter().for_each(|warning| observer.event(Event::Warning(warning)));
    let origins = [Origin::start(), Origin::start()];
    let logs = [0, 1].map(|at| segment::sampler(&setups[at].scenario, origins[at]));
    let manifest = AbManifest {
        schema_version: SCHEMA_VERSION,
        session: String::new(),
        inferometer_version: env!("CARGO_PKG_VERSION").to_owned(),
        scenario: setups[0].scenario.name.clone(),
        origin_utc: origins[0].utc(),
        finished_utc: None,
        state: FinishState::Running,
        segments: 1,
        sides: setups.each_ref().map(shown),
        gates,
        settings: setups[0].scenario.ab.clone(),
        machine,
        git: telemetry::git_state(Path::new(".")),
        outputs: None,
        length,
        gates_checked: false,
        refused: None,
        warnings: Vec::new(),
        redacted: None,
    };
    let sides = [0, 1].map(|at| {
        let (setup, (_, prompts)) = (&setups[at], &ready[at]);
        let mut manifest = segment::manifest(&setup.scenario, &setup.plan, prompts, &origins[at], logs[at].gauges());
        Side::BOTH[at].name().to_lowercase().clone_into(&mut manifest.run);
        manifest
    });
    let hash = segment::sha256_of(&setups[0].scenario);
    let (store, [a, b]) = AbStore::create(results, manifest, &hash, sides)?;
    let [sampler_a, sampler_b] = logs;
    let [origin_a, origin_b] = origins;
    let logs = [
        Log { store: a, sampler: sampler_a, origin: origin_a },
        Log { store: b, sampler: sampler_b, origin: origin_b },
    ];
    let before = Before { pairs: Vec::new(), rows: [Vec::new(), Vec::new()], past: [Past::default(), Past::default()] };
    segment_of(&setups, &ready, store, logs, before, options, observer)
}

/// Continues the session recorded in `dir`; only secrets, which the record masks, come from the
/// scenario `given`. Does nothing if the session is finished.
///
/// # Errors
/// As [`run`]; and when the machine, this program's version, a prompt, an engine or a model differs
/// from the start of the session, unless [`Options::allow_changed`] is set.
pub fn resume(
    dir: &Path,
    given: Option<&Scenario>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Outcome, RunError> {
    let begun = crate::record::ab::read(dir)?;
    if begun.manifest.state == FinishState::Finished {
        let judgement = judge(&Evidence::of(&crate::record::ab::open(dir)?));
        return Ok(Outcome { dir: dir.to_owned(), state: FinishState::Finished, worked: false, judgement });
    }
    let [a, b] = [(&begun.a, Side::A), (&begun.b, Side::B)].map(|(record, side)| {
        let info = with_program(begun.manifest.side(side), given)?;
        let scenario = segment::with_secrets(&record.manifest, given)?;
        Ok::<_, RunError>(Setup { info, scenario, plan: record.manifest.plan.clone() })
    });
    let setups = [a?, b?];
    let masked = |setup: &Setup, side: &Record| setup.scenario != side.manifest.scenario;
    let program = setups.iter().zip(&begun.manifest.sides).any(|(setup, side)| setup.info != *side);
    if given.is_some() && !program && !masked(&setups[0], &begun.a) && !masked(&setups[1], &begun.b) {
        return Err(RunError::NoSecrets);
    }
    for setup in &setups {
        program_is_there(setup)?;
    }
    let mut warnings = same_machine(&begun.manifest.machine, &telemetry::machine::machine(), options)?;
    warnings.extend(segment::same_version(&begun.a.manifest, options)?);
    let ready = prepare(&setups, observer)?;
    for (side, (_, prompts)) in [&begun.a, &begun.b].into_iter().zip(&ready) {
        warnings.extend(segment::same_prompts(&side.manifest, prompts, options)?);
    }
    for warning in &warnings {
        observer.event(Event::Warning(warning));
    }
    let _measuring = segment::acquire(options, observer)?;
    let Resumed { mut store, pairs, sides } = AbStore::resume(dir)?;
    store.update(|manifest| {
        manifest.state = FinishState::Running;
        manifest.finished_utc = None;
        manifest.segments += 1;
        manifest.warnings.append(&mut warnings);
    })?;
    let last = Side::BOTH.map(|side| last_iteration(side, &sides[side as usize].1.requests, &pairs));
    let mut rows = [Vec::new(), Vec::new()];
    let mut logs = Vec::new();
    let mut pasts = Vec::new();
    for (at, (store, record)) in sides.into_iter().enumerate() {
        let note = |manifest: &mut Manifest| note_broken_turns(&record, last[at], &mut manifest.plan.order);
        logs.push(Log::resume(store, &record, note)?);
        // `pairs.csv` decides which turns are valid.
        pasts.push(Past { done: Done::default(), ..Past::of(&record) });
        rows[at] = record.requests;
    }
    options.interrupt.arm()?;
    let before = Before { pairs, rows, past: two(pasts) };
    segment_of(&setups, &ready, store, two(logs), before, options, observer)
}

/// A side as the record stores it: without secrets.
fn shown(setup: &Setup) -> SideInfo {
    let mut info = setup.info.clone();
    let mut secrets = Secrets::of(&setup.scenario);
    if let Some(commit) = &mut info.commit {
        secrets.add_words(&commit.program);
        commit.program = secret::masked(&commit.program);
    }
    for text in info.settings.iter_mut().chain([&mut info.label]) {
        *text = secrets.hidden(&secret::masked_text(text));
    }
    info
}

/// A recorded side with the secrets of its program's arguments, from the build settings of the
/// scenario `given`.
fn with_program(side: &SideInfo, given: Option<&Scenario>) -> Result<SideInfo, RunError> {
    let mut info = side.clone();
    if let Some(commit) = &mut info.commit {
        let fresh = given.and_then(|given| given.build.as_ref()).map(|build| build.program.as_slice());
        if !secret::fill(&mut commit.program, fresh.unwrap_or_default()) {
            return Err(RunError::Secrets { missing: vec![format!("the program of {}", side.label)] });
        }
    }
    Ok(info)
}

/// Refuses a machine other than the one that the session started on; returns warnings for the
/// record if that is allowed.
fn same_machine(begun: &Machine, now: &Machine, options: &Options) -> Result<Vec<String>, RunError> {
    let change = |what: &str, was: Option<String>, is: Option<String>| match (was, is) {
        (Some(was), Some(is)) if was != is => Some(format!("{what} was {was}, is {is}")),
        // Only facts known on both sides are compared.
        _ => None,
    };
    let family = |machine: &Machine| {
        let kernel = machine.kernel.as_ref()?;
        Some(kernel.split('.').take(2).collect::<Vec<_>>().join("."))
    };
    let count = |n: Option<u32>| n.map(|n| n.to_string());
    let memory = match (begun.memory_bytes, now.memory_bytes) {
        // The kernel may reserve slightly different amounts at each boot.
        (Some(was), Some(is)) if was.abs_diff(is) > was / 50 => change("memory", Some(bytes(was)), Some(bytes(is))),
        _ => None,
    };
    let changes = [
        change("the system", Some(begun.os.clone()), Some(now.os.clone())),
        change("the kernel", family(begun), family(now)),
        change("the architecture", Some(begun.arch.clone()), Some(now.arch.clone())),
        change("the CPU", begun.cpu.clone(), now.cpu.clone()),
        change("the number of cores", count(begun.physical_cores), count(now.physical_cores)),
        change("the number of threads", count(begun.logical_cores), count(now.logical_cores)),
        memory,
    ];
    let changes: Vec<String> = changes.into_iter().flatten().collect();
    if options.allow_changed || changes.is_empty() {
        return Ok(changes
            .into_iter()
            .map(|change| format!("the machine changed during the session: {change}"))
            .collect());
    }
    Err(RunError::Changed { what: "this machine".to_owned(), changes })
}

/// Refuses a program that differs from the one that was built; this is not a failure of a side.
fn program_is_there(setup: &Setup) -> Result<(), RunError> {
    let Some(commit) = &setup.info.commit else { return Ok(()) };
    let program = Path::new(commit.program.first().map_or("", String::as_str));
    if telemetry::machine::file_sha256(program).as_ref() == Some(&commit.program_sha256) {
        return Ok(());
    }
    Err(RunError::Ab(format!(
        "the program of {} was removed or changed since it was built ({}): start a new session, which builds it again",
        setup.info.label,
        program.display()
    )))
}

/// The last iteration that a side started. Iterations named by a pair are included even if their
/// rows are lost: a pair must never refer to rows that were measured later.
fn last_iteration(side: Side, rows: &[RequestRow], pairs: &[PairRow]) -> u32 {
    let named =
        pairs.iter().flat_map(PairRow::iterations).filter(|(who, _)| *who == side).map(|(_, iteration)| iteration);
    rows.iter().map(|row| row.iteration).chain(named).max().unwrap_or(0)
}

/// An interrupted turn has rows but no entry in the order: adds one, so that both agree.
fn note_broken_turns(record: &Record, last: u32, order: &mut Vec<Vec<u32>>) {
    for iteration in (order.len() as u32 + 1)..=last {
        let mut ran: Vec<u32> = record
            .requests
            .iter()
            .filter(|row| !row.warmup && row.iteration == iteration)
            .map(|row| row.cell)
            .collect();
        ran.dedup();
        order.push(ran);
    }
}

/// One per side.
fn two<T>(sides: Vec<T>) -> [T; 2] {
    sides.try_into().unwrap_or_else(|_| unreachable!("there are two sides"))
}

/// State from earlier segments.
struct Before {
    pairs: Vec<PairRow>,
    rows: [Vec<RequestRow>; 2],
    past: [Past; 2],
}

fn segment_of(
    setups: &[Setup; 2],
    ready: &[(PathBuf, Prompts); 2],
    mut store: AbStore,
    logs: [Log; 2],
    before: Before,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Outcome, RunError> {
    let timed = store.manifest().gates.iter().any(|info| info.gate.metric.is_token_time());
    let mut workers = Vec::new();
    let mut profiled = Vec::new();
    let mut secrets = Secrets::default();
    for (at, (log, mut past)) in logs.into_iter().zip(before.past).enumerate() {
        profiled.push(std::mem::take(&mut past.profiled));
        log.sampler.rest(true);
        let setup = &setups[at];
        let work = Work {
            scenario: &setup.scenario,
            plan: &setup.plan,
            prompts: &ready[at].1,
            model: &ready[at].0,
            options,
            program: setup.info.commit.as_ref().map(|commit| commit.program.as_slice()),
            // If B does not start, that is an outcome of B.
            must_open: at == 0,
            verified_only: timed,
        };
        secrets.extend(work.secrets());
        workers.push(Worker::new(work, log, past)?);
    }
    store.hide(secrets);
    let session = Session {
        iterations: Side::BOTH.map(|side| last_iteration(side, &before.rows[side as usize], &before.pairs)),
        store,
        workers: two(workers),
        pairs: before.pairs,
        rows: before.rows,
        profiled: two(profiled),
        interrupt: options.interrupt.clone(),
        observer,
        pace: Pace::default(),
    };
    finish(session)
}

/// Drives a session and closes its records, also if it could not continue.
fn finish(session: Session<'_>) -> Result<Outcome, RunError> {
    let (mut store, mut stores, result) = session.drive();
    let state = if matches!(result, Ok(true)) { FinishState::Finished } else { FinishState::Interrupted };
    let dir = store.dir().to_owned();
    let closed = close(&mut store, &mut stores, state);
    drop((store, stores));
    match result.and(closed) {
        Ok(()) => {
            let judgement = judge(&Evidence::of(&crate::record::ab::open(&dir)?));
            Ok(Outcome { dir, state, worked: true, judgement })
        }
        Err(source @ (RunError::Ab(_) | RunError::NotHonoured { .. } | RunError::Open { .. })) => Err(source),
        Err(source) => Err(RunError::Stopped { dir, source: Box::new(source) }),
    }
}

fn close(store: &mut AbStore, stores: &mut [Store; 2], state: FinishState) -> Result<(), RunError> {
    for side in stores {
        side.update(|manifest: &mut Manifest| {
            manifest.state = state;
            manifest.finished_utc = Some(utc_now());
        })?;
    }
    store.update(|manifest| {
        manifest.state = state;
        manifest.finished_utc = Some(utc_now());
    })?;
    Ok(())
}

/// The path of each side's model, and its prompts.
fn prepare(setups: &[Setup; 2], observer: &mut dyn Observer) -> Result<[(PathBuf, Prompts); 2], RunError> {
    let a = segment::prepare(&setups[0].scenario, &setups[0].plan, observer)?;
    let b = segment::prepare(&setups[1].scenario, &setups[1].plan, observer)?;
    Ok([a, b])
}

/// What either side begins with, once.
fn foreseen(setups: &[Setup; 2], ready: &[(PathBuf, Prompts); 2]) -> BTreeSet<String> {
    let of = |(setup, (_, prompts)): (&Setup, &(PathBuf, Prompts))| {
        foresee::warnings(&setup.scenario, &setup.plan, Some(prompts))
    };
    setups.iter().zip(ready).flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::interrupt::Interrupt;

    fn options(allow_changed: bool) -> Options {
        Options { wait: false, allow_changed, interrupt: Interrupt::new(|_| {}) }
    }

    fn one() -> Machine {
        Machine {
            os: "Linux (Debian 13)".to_owned(),
            kernel: Some("6.12.41-cloud".to_owned()),
            arch: "x86_64".to_owned(),
            cpu: Some("EPYC".to_owned()),
            physical_cores: Some(2),
            logical_cores: Some(4),
            memory_bytes: Some(8 << 30),
            ..Machine::default()
        }
    }

    #[test]
    fn a_session_goes_on_where_it_began() {
        // Load, a kernel's patch version and unknown facts do not make a different machine.
        let mut later = one();
        (later.load_at_start, later.kernel) = (Some(3.0), Some("6.12.57-cloud".to_owned()));
        (later.memory_bytes, later.physical_cores) = (Some((8 << 30) - 4096), None);
        assert_eq!(same_machine(&one(), &later, &options(false)).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_session_on_another_machine_is_refused_unless_that_is_allowed() {
        type Change = fn(&mut Machine);
        let changes: [(Change, &str); 7] = [
            (|m| m.os = "Linux (Ubuntu 24.04)".to_owned(), "the system was"),
            (|m| m.kernel = Some("6.13.1".to_owned()), "the kernel was 6.12, is 6.13"),
            (|m| m.arch = "aarch64".to_owned(), "the architecture was"),
            (|m| m.cpu = Some("Xeon".to_owned()), "the CPU was EPYC, is Xeon"),
            (|m| m.physical_cores = Some(4), "the number of cores was 2, is 4"),
            (|m| m.logical_cores = Some(8), "the number of threads was 4, is 8"),
            (|m| m.memory_bytes = Some(16 << 30), "memory was 8.00 GiB, is 16.0 GiB"),
        ];
        for (change, words) in changes {
            let mut other = one();
            change(&mut other);
            let error = same_machine(&one(), &other, &options(false)).unwrap_err();
            let RunError::Changed { what, changes } = &error else { panic!("{error}") };
            assert!(what == "this machine" && changes.len() == 1 && changes[0].starts_with(words), "{changes:?}");
            let warnings = same_machine(&one(), &other, &options(true)).unwrap();
            assert!(warnings[0].contains(words), "{warnings:?}");
        }
    }
}
