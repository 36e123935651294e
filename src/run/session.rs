//! One sitting of a run: takes the plan's steps in their order until all are done or somebody asks to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use super::attempt::{Ask, Attempt, agree, attempt};
use super::client::HostError;
use super::disturbance::Disturbances;
use super::driver::Options;
use super::error::RunError;
use super::hosts::{self, Key, OpenError, Pool, Resident};
use super::measure::{self, Place};
use super::outputs::Outputs;
use super::progress::{Event, Observer, Pace};
use super::prompts::Prompts;
use super::schedule::{self, Done, GIVE_UP_AFTER, Step};
use super::turns::Turns;
use super::validity;
use crate::clock::{Origin, now_ns};
use crate::record::{HostInfo, Iteration, RequestRow, Status, Store};
use crate::spec::{Cell, EngineSpec, Isolation, Plan, Prompt, Request, Scenario, Workload};
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
}

/// Where it is written down.
pub struct Log {
    pub store: Store,
    pub sampler: Sampler,
    pub origin: Origin,
}

pub struct Session<'a> {
    work: Work<'a>,
    log: Log,
    observer: &'a mut dyn Observer,
    pool: Pool,
    done: Done,
    outputs: Outputs,
    pace: Pace,
    disturbances: Disturbances,
    next_request: u64,
    /// Whether any host was ever up in this sitting.
    opened: bool,
    /// Warnings given already.
    said: BTreeSet<String>,
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

impl<'a> Session<'a> {
    pub fn new(work: Work<'a>, log: Log, past: Past, observer: &'a mut dyn Observer) -> Result<Self, RunError> {
        let manifest = log.store.manifest();
        let disturbances = Disturbances::new(&manifest.gauges, manifest.machine.logical_cores);
        let logs = log.store.dir().join("logs");
        fs_err::create_dir_all(&logs)?;
        Ok(Self {
            pool: Pool::new(logs, past.next_host),
            done: past.done,
            outputs: past.outputs,
            next_request: past.next_request,
            pace: Pace::default(),
            disturbances,
            opened: false,
            said: BTreeSet::new(),
            work,
            log,
            observer,
        })
    }

    /// Takes the steps. Gives the store back, whether any iteration is in the record, and whether all of them are, or
    /// why the run could not go on. What was committed stays.
    pub fn drive(mut self) -> (Store, bool, Result<bool, RunError>) {
        let mut result = self.take_steps();
        self.pool.close_all();
        if let (Ok(_), Some(warning)) = (&result, self.disturbances.warning())
            && let Err(error) = self.warn(warning)
        {
            result = Err(error);
        }
        (self.log.store, !self.done.is_empty(), result)
    }

    fn take_steps(&mut self) -> Result<bool, RunError> {
        let steps = schedule::steps(self.work.plan, self.work.scenario.run.isolation);
        let (done, total) = self.count(&steps);
        let run = self.log.store.manifest().run.clone();
        self.observer.event(Event::Began { run: &run, done, total });
        self.open_residents(&steps)?;
        for (at, &step) in steps.iter().enumerate() {
            if self.is_settled(step) {
                continue;
            }
            if self.work.options.interrupt.requested() || !self.step(step, &steps)? {
                return Ok(false);
            }
            self.tell_round(step, &steps[at + 1..], &steps);
        }
        Ok(true)
    }

    /// Under isolation `run` every host is opened before anything is measured, so that an engine that cannot do what
    /// the scenario asks is found at once and not after hours.
    fn open_residents(&mut self, steps: &[Step]) -> Result<(), RunError> {
        if self.work.scenario.run.isolation != Isolation::Run {
            return Ok(());
        }
        for &step in steps {
            if self.is_settled(step) {
                continue;
            }
            let key = Key::of(step, self.cell(step), Isolation::Run);
            if let Some(resident) = self.pool.take(&key) {
                self.pool.put_back(resident);
                continue;
            }
            if self.work.options.interrupt.requested() {
                return Ok(());
            }
            match self.open(&key)? {
                Ok(resident) => self.pool.put_back(resident),
                Err((_, source)) => return Err(self.open_error(&key, source)),
            }
        }
        Ok(())
    }

    /// One iteration of one cell; `false` when it was not done because somebody asked to stop.
    fn step(&mut self, step: Step, steps: &[Step]) -> Result<bool, RunError> {
        let began = Instant::now();
        let cell = self.cell(step);
        let turns = match self.ready(step, cell)? {
            Ready::Warm(resident) => self.measure(*resident, step, cell)?,
            Ready::Failed { host, reason } => Some(vec![self.not_tried(step, cell, host, reason)]),
            Ready::Stopped => None,
        };
        let Some(turns) = turns else { return Ok(false) };
        let rows = self.commit(turns)?;
        let row = &rows[0];
        self.done.note(step, row.status);
        self.pace.note(step.cell, began.elapsed());
        let ((done, total), left) = (self.count(steps), self.left(steps));
        self.observer.event(Event::Measured { cell: name(cell), rows: &rows, done, total, left });
        if self.done.given_up(step.cell) && has_more(steps, step) {
            self.warn(format!(
                "cell `{}` is given up after {GIVE_UP_AFTER} failures in a row, the last: {}",
                name(cell),
                row.reason
            ))?;
        }
        Ok(true)
    }

    /// A host for the step, with the cell warmed up in it.
    fn ready(&mut self, step: Step, cell: &'a Cell) -> Result<Ready, RunError> {
        let key = Key::of(step, cell, self.work.scenario.run.isolation);
        let mut resident = match self.pool.take(&key) {
            Some(resident) => resident,
            None => match self.open(&key)? {
                Ok(resident) => resident,
                Err(_) if self.work.options.interrupt.at_once() => return Ok(Ready::Stopped),
                Err((_, source)) if !self.opened => return Err(self.open_error(&key, source)),
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
            self.observer.event(Event::WarmingUp { cell: name(cell) });
            let warmup = Step { cell: cell.id, iteration: 0 };
            let turns = self.iteration(&mut resident, warmup, cell);
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
    fn measure(
        &mut self,
        mut resident: Resident,
        step: Step,
        cell: &'a Cell,
    ) -> Result<Option<Vec<Attempt>>, RunError> {
        let interrupt = self.work.options.interrupt.clone();
        interrupt.pause(Duration::from_secs_f64(self.work.scenario.run.cooldown_s));
        if interrupt.requested() {
            self.pool.put_back(resident);
            return Ok(None);
        }
        self.observer.event(Event::Measuring { cell: name(cell), iteration: step.iteration });
        let turns = self.iteration(&mut resident, step, cell);
        if interrupt.at_once() {
            return Ok(None);
        }
        self.look_at(&turns, &resident, cell)?;
        if !host_lost(&turns) {
            self.pool.put_back(resident);
        }
        Ok(Some(turns))
    }

    /// One iteration, measured or as a warm-up (iteration 0): a generation, or one a turn up to the first that fails. All
    /// have the outcome of the iteration.
    fn iteration(&mut self, resident: &mut Resident, step: Step, cell: &'a Cell) -> Vec<Attempt> {
        let work = &self.work.scenario.workload;
        let mut turns = Turns::new(work, self.work.prompts.of(cell), step.iteration == 0);
        // A name of its own, so that an engine that cannot reset begins with an empty cache too.
        let conversation = matches!(work, Workload::Conversation(_)).then(|| self.next_request.to_string());
        let mut done = Vec::new();
        while let Some((turn, prompt)) = turns.next() {
            let request = self.request(cell, step.iteration == 0, prompt, conversation.clone());
            let mut attempt = self.attempt(resident, step, cell, turn, request);
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
        turn: usize,
        request: Request,
    ) -> Attempt {
        let warmup = step.iteration == 0;
        let place = Place {
            request: self.next_request,
            warmup,
            cell: cell.id,
            iteration: step.iteration,
            turn: u32::try_from(turn).unwrap_or(u32::MAX),
            host: resident.number,
        };
        self.next_request += 1;
        let ask = Ask {
            place,
            cell,
            engine: &self.engine(cell.engine).label,
            request,
            progress: warmup && self.observer.wants_tokens(),
            allowed: &self.work.scenario.run.allow_mismatch,
        };
        self.log.sampler.watch(Some((resident.number, resident.host.pid())));
        let observer = &mut *self.observer;
        let mut on_progress = |tokens| observer.event(Event::Tokens(tokens));
        attempt(resident, ask, &self.log.origin, &self.work.options.interrupt, &mut on_progress)
    }

    fn request(&self, cell: &Cell, warmup: bool, prompt: Prompt, conversation: Option<String>) -> Request {
        let workload = &self.work.scenario.workload;
        let most = if warmup { WARMUP_TOKENS } else { u32::MAX };
        Request {
            prompt,
            sampling: cell.sampling.clone(),
            toggles: validity::request_toggles(cell),
            max_tokens: workload.max_tokens().min(most),
            ignore_eos: workload.ignore_eos(),
            conversation,
            forced_tokens: None,
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
    fn open(&mut self, key: &Key) -> Result<Result<Resident, (u32, HostError)>, RunError> {
        self.observer.event(Event::Opening { engine: &self.engine(key.engine).label });
        self.log.sampler.watch(None);
        let number = self.pool.next_number();
        let work = &self.work;
        let (resident, info) = match self.pool.open(key, work.scenario, work.model, &work.options.interrupt) {
            Ok(opened) => opened,
            Err(OpenError::Engine(error)) => return Err(error.into()),
            Err(OpenError::Host(error)) => return Ok(Err((number, error))),
        };
        self.check_receipt(key, &info)?;
        self.log.store.update(|manifest| manifest.hosts.push(info))?;
        self.opened = true;
        Ok(Ok(resident))
    }

    /// Refuses an engine that does not honour what its cells ask, or that is not what the run began with.
    fn check_receipt(&mut self, key: &Key, info: &HostInfo) -> Result<(), RunError> {
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
            self.warn(format!("engine `{engine}` changed during the run: {}", changes.join("; ")))?;
        }
        if !info.receipt.capabilities.reset {
            self.warn(format!(
                "engine `{engine}` cannot drop its KV cache: its iterations may reuse tokens of earlier ones"
            ))?;
        }
        Ok(())
    }

    fn open_error(&self, key: &Key, source: HostError) -> RunError {
        let log = self.pool.log(self.pool.next_number().saturating_sub(1));
        RunError::Open { engine: self.engine(key.engine).label.clone(), log, source: Box::new(source) }
    }

    /// Says live what the summary will find too: tokens that differ, spans that did not fit.
    fn look_at(&mut self, turns: &[Attempt], resident: &Resident, cell: &Cell) -> Result<(), RunError> {
        let dropped: u64 = turns.iter().map(|attempt| attempt.spans_dropped).sum();
        if dropped > 0 {
            self.warn(format!("cell `{}`: {dropped} spans did not fit the host's buffer", name(cell)))?;
        }
        self.keep_texts(turns)?;
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
            self.observer.event(Event::Warning(&format!(
                "cell `{}` is nondeterministic: iteration {iteration} differs from the first from token {index}{place} on",
                name(cell),
            )));
        }
        Ok(())
    }

    /// Keeps generated texts, unless there are many already: `run.json` is written whole each time.
    fn keep_texts(&mut self, turns: &[Attempt]) -> Result<(), RunError> {
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
            self.warn(format!(
                "more than {MOST_TEXTS} different texts were generated; run.json keeps the first {MOST_TEXTS}, tokens.csv all tokens"
            ))?;
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
    fn warn(&mut self, text: String) -> Result<(), RunError> {
        if self.said.insert(text.clone()) {
            self.observer.event(Event::Warning(&text));
            if !self.log.store.manifest().warnings.contains(&text) {
                self.log.store.update(|manifest| manifest.warnings.push(text))?;
            }
        }
        Ok(())
    }

    fn tell_round(&mut self, step: Step, rest: &[Step], steps: &[Step]) {
        let by_cell = self.work.scenario.run.isolation == Isolation::Cell;
        let same = |other: &Step| if by_cell { other.cell == step.cell } else { other.iteration == step.iteration };
        if rest.first().is_some_and(same) {
            return;
        }
        let name =
            if by_cell { format!("cell {}", name(self.cell(step))) } else { format!("iteration {}", step.iteration) };
        let ((done, total), left) = (self.count(steps), self.left(steps));
        self.observer.event(Event::Round { name: &name, done, total, left });
    }

    /// Done, or given up.
    fn is_settled(&self, step: Step) -> bool {
        self.done.contains(step) || self.done.given_up(step.cell)
    }

    fn count(&self, steps: &[Step]) -> (u64, u64) {
        (steps.iter().filter(|step| self.is_settled(**step)).count() as u64, steps.len() as u64)
    }

    fn left(&self, steps: &[Step]) -> Option<Duration> {
        self.pace.left(steps.iter().filter(|step| !self.is_settled(**step)).map(|step| step.cell))
    }

    fn cell(&self, step: Step) -> &'a Cell {
        &self.work.plan.cells[step.cell as usize]
    }

    fn engine(&self, index: u32) -> &'a EngineSpec {
        &self.work.scenario.engines[index as usize]
    }
}

/// Whether the host of these turns cannot be used any more.
fn host_lost(turns: &[Attempt]) -> bool {
    turns.last().is_some_and(|attempt| attempt.host_lost)
}

/// What messages call a cell; the only one of a plan has no label.
fn name(cell: &Cell) -> &str {
    if cell.label.is_empty() { "the prompt" } else { &cell.label }
}

/// Whether later steps belong to the same cell.
fn has_more(steps: &[Step], step: Step) -> bool {
    steps.iter().skip_while(|other| **other != step).skip(1).any(|other| other.cell == step.cell)
}
