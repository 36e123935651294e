//! What a run and an A/B session share: opens hosts, runs iterations of cells in them, commits each to the record.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::attempt::{Ask, Attempt, agree, attempt};
use super::client::HostError;
use super::disturbance::Disturbances;
use super::driver::Options;
use super::error::RunError;
use super::hosts::{self, Key, OpenError, Pool, Resident};
use super::measure::{self, Place};
use super::outputs::Outputs;
use super::progress::{Event, Observer};
use super::prompts::Prompts;
use super::schedule::{Done, Step};
use super::turns::Turns;
use super::validity;
use crate::clock::{Origin, now_ns};
use crate::record::{HostInfo, Iteration, RequestRow, Status, Store};
use crate::spec::{Cell, Choice, EngineSpec, Plan, Prompt, Request, Scenario, Workload};
use crate::telemetry::Sampler;

/// Most tokens of a warm-up's request; the prompt is run whole.
const WARMUP_TOKENS: u32 = 8;

/// Most different generated texts that `run.json` keeps.
const MOST_TEXTS: usize = 64;

/// What is to be done; does not change while it is done.
pub struct Work<'a> {
    pub scenario: &'a Scenario,
    pub plan: &'a Plan,
    pub prompts: &'a Prompts,
    pub model: &'a Path,
    pub options: &'a Options,
    /// Hosts the engines, instead of what they name themselves or this very program.
    pub program: Option<&'a [String]>,
    /// Whether it is an error, and not a failed iteration, when the first host cannot be opened.
    pub must_open: bool,
}

/// Where it is written down.
pub struct Log {
    pub store: Store,
    pub sampler: Sampler,
    pub origin: Origin,
}

pub struct Worker<'a> {
    pub work: Work<'a>,
    pub log: Log,
    pool: Pool,
    outputs: Outputs,
    disturbances: Disturbances,
    next_request: u64,
    /// Whether any host was ever up in this sitting.
    opened: bool,
    /// Warnings given already.
    said: BTreeSet<String>,
    /// Ids that turns of cells are decoded along, by cell and turn.
    forced: BTreeMap<(u32, u32), Vec<u32>>,
}

/// Why a generation is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// The whole prompt and a few tokens.
    Warmup,
    /// Whole, to see what comes out.
    Outputs {
        choices: bool,
    },
    Measured,
}

/// What a turn of a cell generated.
#[derive(Debug, Clone)]
pub struct Output {
    pub row: RequestRow,
    pub ids: Vec<u32>,
    /// What the engine would have chosen at each token; empty where that was not asked for.
    pub choices: Vec<Choice>,
}

/// What an earlier sitting left.
#[derive(Default)]
pub struct Past {
    pub done: Done,
    pub outputs: Outputs,
    pub next_request: u64,
    pub next_host: u32,
}

/// A host that is ready for a cell, or why there is none.
enum Ready {
    Warm(Box<Resident>),
    Failed { host: u32, reason: String },
    Stopped,
}

impl<'a> Worker<'a> {
    /// # Errors
    /// When the record's folder for logs cannot be made.
    pub fn new(work: Work<'a>, log: Log, past: Past) -> Result<Self, RunError> {
        let manifest = log.store.manifest();
        let disturbances = Disturbances::new(&manifest.gauges, manifest.machine.logical_cores);
        let logs = log.store.dir().join("logs");
        fs_err::create_dir_all(&logs)?;
        Ok(Self {
            pool: Pool::new(logs, past.next_host),
            outputs: past.outputs,
            next_request: past.next_request,
            disturbances,
            opened: false,
            said: BTreeSet::new(),
            forced: BTreeMap::new(),
            work,
            log,
        })
    }

    /// One measured iteration of a cell, in the record when this returns: its rows. `None` when it was not done because
    /// somebody asked to stop.
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
            Ready::Failed { host, reason } => Some(vec![self.not_tried(step, cell, host, reason)]),
            Ready::Stopped => None,
        };
        turns.map(|turns| self.commit(turns)).transpose()
    }

    /// A cell's requests once, whole but not measured, to see what they generate; with `choices` also what the engine would
    /// have chosen where its tokens are forced. `None` when somebody asked to stop.
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
                self.can_force(&resident, choices)?;
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
            Ready::Failed { host, reason } => vec![self.not_tried(step, cell, host, reason)],
            Ready::Stopped => return Ok(None),
        };
        let outputs = turns.iter().map(|turn| (turn.ids.clone(), turn.choices.clone())).collect::<Vec<_>>();
        let rows = self.commit(turns)?;
        let whole = rows.into_iter().zip(outputs);
        Ok(Some(whole.map(|(row, (ids, choices))| Output { row, ids, choices }).collect()))
    }

    /// Refuses an engine that cannot decode along given tokens, or say what it would have chosen, where that is asked for.
    fn can_force(&self, resident: &Resident, choices: bool) -> Result<(), RunError> {
        let can = resident.receipt.capabilities;
        let missing = match (choices && !can.choices, !self.forced.is_empty() && !can.forced_tokens) {
            (true, _) => "say what it would have chosen (capability `choices`)",
            (_, true) => "decode along given tokens (capability `forced_tokens`)",
            _ => return Ok(()),
        };
        let engine = &resident.receipt.engine;
        Err(RunError::Ab(format!("`outputs = \"margin\"` needs an engine that can {missing}, and `{engine}` cannot")))
    }

    /// From now on a turn of a cell is decoded along these ids.
    pub fn force(&mut self, cell: u32, turn: u32, ids: Vec<u32>) {
        self.forced.insert((cell, turn), ids);
    }

    /// Opens a host for `key` unless one lives.
    ///
    /// # Errors
    /// When it cannot be opened, or is not what its cells ask for.
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

    /// Ends the hosts that serve anything but `key`.
    pub fn close_others(&mut self, key: &Key) {
        self.pool.close_others(key);
    }

    /// Ends every host.
    pub fn close_hosts(&mut self) {
        self.log.sampler.watch(None);
        self.pool.close_all();
    }

    /// Ends every host and says what the whole sitting has to say; gives the record back.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn close(mut self, observer: &mut dyn Observer) -> (Store, Result<(), RunError>) {
        self.close_hosts();
        let said = match self.disturbances.warning() {
            Some(warning) => self.warn(warning, observer),
            None => Ok(()),
        };
        (self.log.store, said)
    }

    /// A host for the step, with the cell warmed up in it.
    fn ready(&mut self, key: &Key, cell: &'a Cell, observer: &mut dyn Observer) -> Result<Ready, RunError> {
        let mut resident = match self.pool.take(key) {
            Some(resident) => resident,
            None => match self.open(key, observer)? {
                Ok(resident) => resident,
                Err(_) if self.work.options.interrupt.at_once() => return Ok(Ready::Stopped),
                Err((_, source)) if !self.opened && self.work.must_open => return Err(self.open_error(key, source)),
                Err((host, source)) => {
                    return Ok(Ready::Failed { host, reason: format!("no host: {}", source.summary()) });
                }
            },
        };
        if resident.warm.contains(&cell.id) {
            return Ok(Ready::Warm(Box::new(resident)));
        }
        for _ in 0..self.work.scenario.run.warmup {
            if self.work.options.interrupt.requested() {
                self.pool.put_back(resident);
                return Ok(Ready::Stopped);
            }
            observer.event(Event::WarmingUp { cell: name(cell) });
            let warmup = Step { cell: cell.id, iteration: 0 };
            let turns = self.iteration(&mut resident, warmup, cell, Pass::Warmup, observer);
            if self.work.options.interrupt.at_once() {
                return Ok(Ready::Stopped);
            }
            let (host, lost) = (resident.number, host_lost(&turns));
            let rows = self.commit(turns)?;
            let row = &rows[0];
            if row.status == Status::Failed {
                if !lost {
                    self.pool.put_back(resident);
                }
                return Ok(Ready::Failed { host, reason: format!("warm-up failed: {}", row.reason) });
            }
        }
        resident.warm.insert(cell.id);
        Ok(Ready::Warm(Box::new(resident)))
    }

    /// Runs the measured iteration; `None` when somebody asked to stop before it, or at once during it.
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
        let turns = self.iteration(&mut resident, step, cell, Pass::Measured, observer);
        if interrupt.at_once() {
            return Ok(None);
        }
        self.look_at(&turns, &resident, cell, observer)?;
        if !host_lost(&turns) {
            self.pool.put_back(resident);
        }
        Ok(Some(turns))
    }

    /// One iteration, measured or as a warm-up (iteration 0): a generation, or one a turn up to the first that fails. All
    /// have the outcome of the iteration.
    fn iteration(
        &mut self,
        resident: &mut Resident,
        step: Step,
        cell: &'a Cell,
        pass: Pass,
        observer: &mut dyn Observer,
    ) -> Vec<Attempt> {
        let work = &self.work.scenario.workload;
        let mut turns = Turns::new(work, self.work.prompts.of(cell), pass == Pass::Warmup);
        // A name of its own, so that an engine that cannot reset begins with an empty cache too.
        let conversation = matches!(work, Workload::Conversation(_)).then(|| self.next_request.to_string());
        let mut done = Vec::new();
        while let Some((turn, prompt)) = turns.next() {
            let request = self.request(cell, turn, pass, prompt, conversation.clone());
            let mut attempt = self.attempt(resident, step, cell, (turn, pass), request, observer);
            if attempt.row.status != Status::Failed
                && let Err(reason) = turns.answered(attempt.text.as_deref())
            {
                (attempt.row.status, attempt.row.reason) = (Status::Failed, reason);
            }
            // What is invalid does not count, but the engine goes on well: the whole conversation is worth a look.
            let goes_on = attempt.row.status != Status::Failed && !self.work.options.interrupt.at_once();
            done.push(attempt);
            if !goes_on {
                break;
            }
        }
        if conversation.is_some() {
            agree(&mut done);
        }
        done
    }

    /// One generation.
    fn attempt(
        &mut self,
        resident: &mut Resident,
        step: Step,
        cell: &'a Cell,
        (turn, pass): (usize, Pass),
        request: Request,
        observer: &mut dyn Observer,
    ) -> Attempt {
        let place = Place {
            request: self.next_request,
            warmup: pass != Pass::Measured,
            cell: cell.id,
            iteration: step.iteration,
            turn: number(turn),
            host: resident.number,
        };
        self.next_request += 1;
        let ask = Ask {
            place,
            cell,
            engine: &self.engine(cell.engine).label,
            request,
            progress: pass != Pass::Measured && observer.wants_tokens(),
            choices: pass == Pass::Outputs { choices: true },
            allowed: &self.work.scenario.run.allow_mismatch,
        };
        self.log.sampler.watch(Some((resident.number, resident.host.pid())));
        let mut on_progress = |tokens| observer.event(Event::Tokens(tokens));
        attempt(resident, ask, &self.log.origin, &self.work.options.interrupt, &mut on_progress)
    }

    fn request(&self, cell: &Cell, turn: usize, pass: Pass, prompt: Prompt, conversation: Option<String>) -> Request {
        let workload = &self.work.scenario.workload;
        let most = if pass == Pass::Warmup { WARMUP_TOKENS } else { u32::MAX };
        Request {
            prompt,
            sampling: cell.sampling.clone(),
            toggles: validity::request_toggles(cell),
            max_tokens: workload.max_tokens().min(most),
            ignore_eos: workload.ignore_eos(),
            conversation,
            forced_tokens: self.forced.get(&(cell.id, number(turn))).cloned(),
        }
    }

    /// The row of an iteration for which there was no host.
    fn not_tried(&mut self, step: Step, cell: &Cell, host: u32, reason: String) -> Attempt {
        let (request, iteration) = (self.next_request, step.iteration);
        let place = Place { request, warmup: false, cell: cell.id, iteration, turn: 0, host };
        self.next_request += 1;
        let now = self.log.origin.t_ns(now_ns());
        let row = RequestRow {
            status: Status::Failed,
            reason,
            start_ns: now,
            end_ns: now,
            ..measure::blank(place, &self.engine(cell.engine).label)
        };
        Attempt::without_answer(row, true)
    }

    /// Starts a host; the outer error ends the run, the inner one says which host could not be opened and why.
    fn open(&mut self, key: &Key, observer: &mut dyn Observer) -> Result<Result<Resident, (u32, HostError)>, RunError> {
        observer.event(Event::Opening { engine: &self.engine(key.engine).label });
        self.log.sampler.watch(None);
        let number = self.pool.next_number();
        let work = &self.work;
        let (resident, info) =
            match self.pool.open(key, work.scenario, work.model, work.program, &work.options.interrupt) {
                Ok(opened) => opened,
                Err(OpenError::Engine(error)) => return Err(error.into()),
                Err(OpenError::Host(error)) => return Ok(Err((number, error))),
            };
        self.check_receipt(key, &info, observer)?;
        self.log.store.update(|manifest| manifest.hosts.push(info))?;
        self.opened = true;
        Ok(Ok(resident))
    }

    /// Refuses an engine that does not honour what its cells ask, or that is not what the run began with.
    fn check_receipt(&mut self, key: &Key, info: &HostInfo, observer: &mut dyn Observer) -> Result<(), RunError> {
        let engine = self.engine(key.engine).label.clone();
        let mut asked = BTreeSet::new();
        for cell in self.work.plan.cells.iter().filter(|c| c.engine == key.engine && c.load == key.load) {
            asked.extend(validity::not_honoured(cell, self.work.prompts.of(cell), &info.receipt));
        }
        if !asked.is_empty() {
            return Err(RunError::NotHonoured { engine, asked: asked.into_iter().collect() });
        }
        let earlier = self.log.store.manifest().hosts.iter().find(|h| h.engine == info.engine && h.load == info.load);
        let changes = earlier.map(|host| hosts::changes(host, info)).unwrap_or_default();
        if !changes.is_empty() {
            if !self.work.options.allow_changed {
                return Err(RunError::Changed { what: format!("engine `{engine}`"), changes });
            }
            self.warn(format!("engine `{engine}` changed during the run: {}", changes.join("; ")), observer)?;
        }
        if !info.receipt.capabilities.reset {
            let told = "cannot drop its KV cache: its iterations may reuse tokens of earlier ones";
            self.warn(format!("engine `{engine}` {told}"), observer)?;
        }
        Ok(())
    }

    fn open_error(&self, key: &Key, source: HostError) -> RunError {
        let log = self.pool.log(self.pool.next_number().saturating_sub(1));
        RunError::Open { engine: self.engine(key.engine).label.clone(), log, source: Box::new(source) }
    }

    /// Says live what the summary will find too: tokens that differ, spans that did not fit.
    fn look_at(
        &mut self,
        turns: &[Attempt],
        resident: &Resident,
        cell: &Cell,
        observer: &mut dyn Observer,
    ) -> Result<(), RunError> {
        let dropped: u64 = turns.iter().map(|attempt| attempt.spans_dropped).sum();
        if dropped > 0 {
            let told = format!("cell `{}`: {dropped} spans did not fit the host's buffer", name(cell));
            self.warn(told, observer)?;
        }
        self.keep_texts(turns, observer)?;
        let must_agree = cell.sampling.temperature == 0.0 || resident.receipt.deterministic;
        if !must_agree || turns.iter().any(|attempt| attempt.row.status != Status::Ok) {
            return Ok(());
        }
        let outputs = &mut self.outputs;
        let differences = turns.iter().filter_map(|attempt| {
            let index = outputs.compare(cell.id, attempt.row.turn, &attempt.ids)?;
            Some((attempt.row.iteration, attempt.row.turn, index))
        });
        // All are compared, so that each turn has one to compare with; the first tells enough.
        let first = differences.collect::<Vec<_>>().into_iter().next();
        if let Some((iteration, turn, index)) = first {
            let place = if turns.len() > 1 { format!(" of turn {turn}") } else { String::new() };
            // The summary finds it in the record by itself.
            observer.event(Event::Warning(&format!(
                "cell `{}` is nondeterministic: iteration {iteration} differs from the first from token {index}{place} on",
                name(cell),
            )));
        }
        Ok(())
    }

    /// Keeps generated texts, unless there are many already: `run.json` is written whole each time.
    fn keep_texts(&mut self, turns: &[Attempt], observer: &mut dyn Observer) -> Result<(), RunError> {
        let kept = &self.log.store.manifest().texts;
        let mut new: BTreeMap<&String, &String> =
            turns.iter().filter_map(|attempt| attempt.row.token_hash.as_ref().zip(attempt.text.as_ref())).collect();
        new.retain(|hash, _| !kept.contains_key(*hash));
        if new.is_empty() {
            return Ok(());
        }
        let room = MOST_TEXTS.saturating_sub(kept.len());
        let more = new.len() > room;
        if room > 0 {
            let some = new.into_iter().take(room).map(|(hash, text)| (hash.clone(), text.clone()));
            self.log.store.update(|manifest| manifest.texts.extend(some))?;
        }
        if more {
            let told = "different texts were generated; run.json keeps the first";
            self.warn(format!("more than {MOST_TEXTS} {told} {MOST_TEXTS}, tokens.csv all tokens"), observer)?;
        }
        Ok(())
    }

    /// Puts an iteration on the disk, with what the gauges saw since the last one; gives its rows, at least one.
    fn commit(&mut self, turns: Vec<Attempt>) -> Result<Vec<RequestRow>, RunError> {
        let telemetry = self.log.sampler.drain();
        let mut iteration = Iteration { telemetry, ..Iteration::default() };
        for attempt in turns {
            iteration.requests.push(attempt.row);
            iteration.tokens.extend(attempt.tokens);
            iteration.spans.extend(attempt.spans);
        }
        if let (Some(first), Some(last)) = (iteration.requests.first(), iteration.requests.last())
            && !first.warmup
        {
            let whole = RequestRow { end_ns: last.end_ns, ..first.clone() };
            self.disturbances.note(&whole, &iteration.telemetry);
        }
        self.log.store.commit(&iteration)?;
        Ok(iteration.requests)
    }

    /// A finding for the user and the record, once.
    pub fn warn(&mut self, text: String, observer: &mut dyn Observer) -> Result<(), RunError> {
        if self.said.insert(text.clone()) {
            observer.event(Event::Warning(&text));
            if !self.log.store.manifest().warnings.contains(&text) {
                self.log.store.update(|manifest| manifest.warnings.push(text))?;
            }
        }
        Ok(())
    }

    /// Whether this program has every engine of the scenario.
    pub fn hosts_are_built_in(&self) -> bool {
        let built_in =
            |spec: &EngineSpec| crate::engine::find(&spec.name).is_some_and(|engine| engine.offer().built_in);
        self.work.scenario.engines.iter().all(built_in)
    }

    /// The plan's cell of that id.
    pub fn cell(&self, id: u32) -> &'a Cell {
        &self.work.plan.cells[id as usize]
    }

    fn engine(&self, index: u32) -> &'a EngineSpec {
        &self.work.scenario.engines[index as usize]
    }
}

/// Whether the host of these turns cannot be used any more.
fn host_lost(turns: &[Attempt]) -> bool {
    turns.last().is_some_and(|attempt| attempt.host_lost)
}

fn number(turn: usize) -> u32 {
    u32::try_from(turn).unwrap_or(u32::MAX)
}

/// What messages call a cell; the only one of a plan has no label.
#[must_use]
pub fn name(cell: &Cell) -> &str {
    if cell.label.is_empty() { "the prompt" } else { &cell.label }
}
