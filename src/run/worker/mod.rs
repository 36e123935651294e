//! Shared by runs and A/B sessions: opens hosts, runs iterations of cells in them, commits each to
//! the record.

mod commit;
mod findings;
mod opening;
mod profiled;
mod quality;
mod request;
mod warming;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::record::{Cause, Fault, ProfileStore, RequestRow, Status, Store};
use crate::run::attempt::Attempt;
use crate::run::energy::Meter;
use crate::run::error::RunError;
use crate::run::external::Watch;
use crate::run::memory::Memory;
use crate::run::options::Options;
use crate::run::outputs::Outputs;
use crate::run::pool::{Key, Pool, Resident};
use crate::run::progress::{Event, Observer};
use crate::run::prompts::Prompts;
use crate::run::schedule::Step;
use crate::run::segment::{Log, Past};
use crate::secret::Secrets;
use crate::spec::{Cell, Isolation, Plan, Scenario};
use inferometer_protocol::{Choice, Detail, EngineSpec, Instrumentation, Prompt};

/// The inputs of a worker; they do not change.
pub struct Work<'a> {
    pub scenario: &'a Scenario,
    pub plan: &'a Plan,
    pub prompts: &'a Prompts,
    pub model: &'a Path,
    pub options: &'a Options,
    /// Host program for the engines, instead of their own or this program.
    pub program: Option<&'a [String]>,
    /// Whether a first host that cannot be opened is an error, not a failed iteration.
    pub must_open: bool,
    /// Whether an iteration counts as disturbed if its host sends tokens as they become readable,
    /// and they did not arrive when they were stamped.
    pub verified_only: bool,
}

impl Work<'_> {
    /// The secrets in the command lines of its hosts.
    #[must_use]
    pub fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::of(self.scenario);
        secrets.add_words(self.program.unwrap_or_default());
        secrets
    }
}

pub use quality::TOP;

pub struct Worker<'a> {
    pub work: Work<'a>,
    pub log: Log,
    pool: Pool,
    outputs: Outputs,
    external: Watch,
    meter: Meter,
    memory: Memory,
    next_request: u64,
    /// Whether a host was ever open in this run segment.
    opened: bool,
    /// Warnings already reported.
    said: BTreeSet<String>,
    /// Token ids that turns of cells are forced along, by cell and turn.
    forced: BTreeMap<(u32, u32), Vec<u32>>,
    /// Prompts that engines cut to their lengths, by engine and tokens.
    fitted: BTreeMap<(u32, u32), Prompt>,
    /// Prompt tokens as the engine first counted them, by cell and turn.
    prompt_tokens: BTreeMap<(u32, u32), u32>,
    /// Warm-up rows with the load time of their host, since they were last taken.
    loads: Vec<RequestRow>,
    /// The record of the profiled pass, once it has started.
    profiled: Option<ProfileStore>,
}

/// Purpose of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// The whole prompt and a few tokens; `stream`: each is sent as soon as it is readable.
    Warmup { stream: bool },
    /// The whole prompt and another number of tokens, to see how long they really take.
    OtherLength,
    /// A whole iteration, to compare outputs.
    Outputs { choices: bool },
    /// The timed pass.
    Measured,
    /// As measured, with profiling and detailed spans.
    Profiled(Detail),
}

impl Pass {
    /// Whether its requests are iterations of the cell, not preparation.
    fn counts(self) -> bool {
        matches!(self, Pass::Measured | Pass::Profiled(_))
    }

    /// Whether it runs only the first and the last turn of a conversation.
    fn warms_up(self) -> bool {
        matches!(self, Pass::Warmup { .. } | Pass::OtherLength)
    }

    /// Instrumentation requested from the host; `progress` if the display needs it and nothing is
    /// measured.
    fn instrumentation(self, watched: bool) -> Instrumentation {
        let quiet = Instrumentation::default();
        match self {
            Pass::Warmup { stream } => Instrumentation { progress: watched, stream, ..quiet },
            Pass::OtherLength => quiet,
            Pass::Outputs { choices } => Instrumentation { choices, progress: watched, ..quiet },
            Pass::Measured => quiet,
            Pass::Profiled(detail) => Instrumentation { detail, ..quiet },
        }
    }
}

/// The output of a turn.
#[derive(Debug, Clone)]
pub struct Output {
    pub row: RequestRow,
    pub ids: Vec<u32>,
    /// The tokens that the engine would have chosen; empty if not requested.
    pub choices: Vec<Choice>,
}

/// A host that is ready for a cell, or why there is none.
enum Ready {
    Warm(Box<Resident>),
    Failed { host: u32, fault: Fault },
    Stopped,
}

impl<'a> Worker<'a> {
    /// # Errors
    /// When the record's folder for logs cannot be created.
    pub fn new(work: Work<'a>, mut log: Log, past: Past) -> Result<Self, RunError> {
        log.store.hide(work.secrets());
        let manifest = log.store.manifest();
        let effect = work.scenario.run.external_causes;
        let external = Watch::new(&manifest.gauges, manifest.machine.logical_cores, effect);
        let meter = Meter::of(&manifest.gauges);
        let logs = log.store.dir().join("logs");
        fs_err::create_dir_all(&logs)?;
        Ok(Self {
            pool: Pool::new(logs, past.next_host),
            outputs: past.outputs,
            next_request: past.next_request,
            external,
            meter,
            memory: Memory::new(&manifest.gauges),
            opened: false,
            said: BTreeSet::new(),
            forced: BTreeMap::new(),
            fitted: BTreeMap::new(),
            prompt_tokens: past.prompt_tokens,
            loads: Vec::new(),
            profiled: None,
            work,
            log,
        })
    }

    /// Runs and commits one measured iteration of a cell; returns its rows. `None` if it was
    /// skipped because the user asked to stop.
    ///
    /// # Errors
    /// When the first host cannot be opened, or the record cannot be written.
    pub fn measure(
        &mut self,
        step: Step,
        key: &Key,
        observer: &mut dyn Observer,
    ) -> Result<Option<Vec<RequestRow>>, RunError> {
        let cell = self.cell(step.cell);
        let turns = match self.ready(key, cell, observer)? {
            Ready::Warm(resident) => self.measure_in(*resident, step, cell, observer)?,
            Ready::Failed { host, fault } => Some(vec![self.not_made(step, cell, host, fault)]),
            Ready::Stopped => None,
        };
        turns.map(|turns| self.commit(turns)).transpose()
    }

    /// Runs a cell's requests once, whole but not measured, to get their outputs; with `choices`
    /// also the engine's own choices along forced tokens. `None` if the user asked to stop.
    ///
    /// # Errors
    /// As [`Worker::measure`].
    pub fn outputs(
        &mut self,
        cell: u32,
        key: &Key,
        choices: bool,
        observer: &mut dyn Observer,
    ) -> Result<Option<Vec<Output>>, RunError> {
        let cell = self.cell(cell);
        let step = Step { cell: cell.id, iteration: 0 };
        let turns = match self.ready(key, cell, observer)? {
            Ready::Warm(mut resident) => {
                observer.event(Event::Comparing { cell: name(cell) });
                let turns = self.iteration(&mut resident, step, cell, Pass::Outputs { choices }, observer);
                if self.work.options.interrupt.at_once() {
                    return Ok(None);
                }
                self.keep_texts(&turns, observer)?;
                if !host_lost(&turns) {
                    self.pool.put_back(*resident);
                }
                turns
            }
            Ready::Failed { host, fault } => vec![self.not_made(step, cell, host, fault)],
            Ready::Stopped => return Ok(None),
        };
        let outputs = turns.iter().map(|turn| (turn.ids().to_vec(), turn.choices().to_vec())).collect::<Vec<_>>();
        let rows = self.commit(turns)?;
        let whole = rows.into_iter().zip(outputs);
        Ok(Some(whole.map(|(row, (ids, choices))| Output { row, ids, choices }).collect()))
    }

    /// Opens a host for `key`, if it can be opened, to see whether the engine can follow forced
    /// tokens and report its own choices.
    ///
    /// # Errors
    /// When it cannot.
    pub fn can_follow(&mut self, key: &Key, observer: &mut dyn Observer) -> Result<(), RunError> {
        let resident = match self.pool.take(key) {
            Some(resident) => resident,
            // Why it cannot be opened is told when it is needed.
            None => match self.open(key, observer)? {
                Ok(resident) => resident,
                Err(_) => return Ok(()),
            },
        };
        let able = opening::can_follow(&resident.receipt);
        self.pool.put_back(resident);
        able
    }

    /// From now on a turn of a cell is forced along these ids.
    pub fn force(&mut self, cell: u32, turn: u32, ids: Vec<u32>) {
        self.forced.insert((cell, turn), ids);
    }

    /// Opens a host for `key` unless it is open.
    ///
    /// # Errors
    /// When it cannot be opened, or does not honour what its cells request.
    pub fn keep_open(&mut self, key: &Key, observer: &mut dyn Observer) -> Result<(), RunError> {
        let resident = match self.pool.take(key) {
            Some(resident) => resident,
            None => match self.open(key, observer)? {
                Ok(resident) => resident,
                Err((_, source)) => return Err(self.open_error(key, source)),
            },
        };
        self.pool.put_back(resident);
        Ok(())
    }

    /// The warm-up rows with a load time since the last call: they are in the record, but no
    /// iteration returns them.
    pub fn take_loads(&mut self) -> Vec<RequestRow> {
        std::mem::take(&mut self.loads)
    }

    /// Ends the hosts that do not serve `key`.
    pub fn close_others(&mut self, key: &Key) {
        self.pool.close_others(key);
    }

    /// Name of the gauge that fills the memory columns.
    #[must_use]
    pub fn memory_gauge(&self) -> Option<&'static str> {
        self.memory.gauge()
    }

    /// What disturbed iterations of this run segment so far, in a sentence.
    #[must_use]
    pub fn busy(&self) -> Option<String> {
        self.external.busy()
    }

    /// Ends every host.
    pub fn close_hosts(&mut self) {
        self.log.sampler.watch(None);
        self.pool.close_all();
    }

    /// Ends every host, reports the findings of the whole run segment, and returns the record.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn close(mut self, observer: &mut dyn Observer) -> (Store, Result<(), RunError>) {
        self.close_hosts();
        let said = self.external.sentences().into_iter().try_for_each(|told| self.warn(told, observer));
        // Not a problem: only for readers of the record.
        let said = said.and_then(|()| self.external.not_judged().map_or(Ok(()), |told| self.write_down(told)));
        let said = said.and_then(|()| self.note_sampling());
        let said = said.and_then(|()| self.say_what_engines_did_not());
        (self.log.store, said)
    }

    /// Records the statistics of this segment's sampling.
    fn note_sampling(&mut self) -> Result<(), RunError> {
        let Some(info) = self.log.sampler.info().filter(|info| info.samples > 0) else { return Ok(()) };
        Ok(self.log.store.update(|manifest| manifest.sampling.push(info))?)
    }

    /// Returns a host for the step, with the cell warmed up in it.
    fn ready(&mut self, key: &Key, cell: &'a Cell, observer: &mut dyn Observer) -> Result<Ready, RunError> {
        let taken = self.pool.take(key);
        let mut resident = match taken {
            Some(resident) if resident.loaded => resident,
            other => match self.opened(other, key, observer)? {
                Ok(resident) => resident,
                Err(_) if self.work.options.interrupt.at_once() => return Ok(Ready::Stopped),
                Err((_, source)) if !self.opened && self.work.must_open => return Err(self.open_error(key, source)),
                Err((host, source)) => {
                    let fault = Fault::new(Cause::NoHost, format!("no host: {}", source.summary()));
                    return Ok(Ready::Failed { host, fault });
                }
            },
        };
        if resident.warm.contains(&cell.id) {
            return Ok(Ready::Warm(Box::new(resident)));
        }
        let (mut done, began, wanted) = (0, Instant::now(), self.work.scenario.run.warmup);
        while let Some(pass) = warming::next(&resident, cell.id, wanted, done, began.elapsed()) {
            if self.work.options.interrupt.requested() {
                self.pool.put_back(resident);
                return Ok(Ready::Stopped);
            }
            observer.event(Event::WarmingUp { cell: name(cell) });
            let warmup = Step { cell: cell.id, iteration: 0 };
            let turns = self.iteration(&mut resident, warmup, cell, pass, observer);
            if self.work.options.interrupt.at_once() {
                return Ok(Ready::Stopped);
            }
            warming::note(&mut resident, pass, &turns);
            let (host, lost) = (resident.number, host_lost(&turns));
            let rows = self.commit(turns)?;
            let row = &rows[0];
            self.loads.extend(rows.iter().filter(|row| row.load_s.is_some()).cloned());
            if row.status == Status::Failed {
                if !lost {
                    self.pool.put_back(resident);
                }
                // A fault of the model itself keeps its name.
                let cause = row.cause.filter(|cause| *cause == Cause::NotFinite).unwrap_or(Cause::WarmUp);
                let fault = Fault::new(cause, format!("warm-up failed: {}", row.reason));
                return Ok(Ready::Failed { host, fault });
            }
            done += 1;
        }
        self.doubt(&resident, cell, observer)?;
        resident.warm.insert(cell.id);
        Ok(Ready::Warm(Box::new(resident)))
    }

    /// Runs the measured iteration; `None` if the user asked to stop before it, or at once during
    /// it.
    fn measure_in(
        &mut self,
        mut resident: Resident,
        step: Step,
        cell: &'a Cell,
        observer: &mut dyn Observer,
    ) -> Result<Option<Vec<Attempt>>, RunError> {
        let interrupt = self.work.options.interrupt.clone();
        interrupt.pause(Duration::from_secs_f64(self.work.scenario.run.cooldown_s));
        if interrupt.requested() {
            self.pool.put_back(resident);
            return Ok(None);
        }
        observer.event(Event::Measuring { cell: name(cell), iteration: step.iteration });
        let began = Instant::now();
        let mut turns = self.iteration(&mut resident, step, cell, Pass::Measured, observer);
        resident.longest = resident.longest.max(Some(began.elapsed()));
        if interrupt.at_once() {
            return Ok(None);
        }
        self.look_at(&turns, &resident, cell, observer)?;
        if self.work.scenario.run.isolation == Isolation::Load {
            self.unload(&mut resident, &mut turns, observer)?;
        }
        if !host_lost(&turns) {
            self.pool.put_back(resident);
        }
        Ok(Some(turns))
    }

    /// The plan's cell with this id.
    pub fn cell(&self, id: u32) -> &'a Cell {
        &self.work.plan.cells[id as usize]
    }

    fn engine(&self, index: u32) -> &'a EngineSpec {
        &self.work.scenario.engines[index as usize]
    }
}

/// Whether the host of these turns can no longer be used.
fn host_lost(turns: &[Attempt]) -> bool {
    turns.last().is_some_and(|attempt| attempt.host_lost)
}

fn number(turn: usize) -> u32 {
    u32::try_from(turn).unwrap_or(u32::MAX)
}

/// The cell's name in messages; the only cell of a plan has no label.
#[must_use]
pub fn name(cell: &Cell) -> &str {
    if cell.label.is_empty() { "the prompt" } else { &cell.label }
}
