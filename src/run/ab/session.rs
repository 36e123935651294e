//! One run segment of an A/B session.

mod gating;

use std::time::{Duration, Instant};

use super::start::Setup;
use super::{order, outputs, short};
use crate::compare::ab::{Evidence, Judgement, PairOutcome, judge};
use crate::record::ab::{AbStore, OutputsFinding, PairKind, PairRow, SideFailure};
use crate::record::{RequestRow, Status, Store};
use crate::run::error::RunError;
use crate::run::interrupt::Interrupt;
use crate::run::pool::Key;
use crate::run::progress::{Event, Observer};
use crate::run::schedule::{Done, Step};
use crate::run::worker::{Output, Worker};
use crate::spec::{Cell, Isolation, OutputsRule, Scale, Side};
use inferometer_stats::sequential::{LOOKS, Verdict};

pub struct Session<'a> {
    pub store: AbStore,
    pub workers: [Worker<'a>; 2],
    pub pairs: Vec<PairRow>,
    /// Each side's rows so far.
    pub rows: [Vec<RequestRow>; 2],
    /// Each side's last iteration.
    pub iterations: [u32; 2],
    /// Steps of each side's profiled pass that are done.
    pub profiled: [Done; 2],
    pub interrupt: Interrupt,
    pub observer: &'a mut dyn Observer,
    pub pace: Pace,
}

/// Mean duration of the pairs.
#[derive(Debug, Default)]
pub struct Pace {
    spent: Duration,
    pairs: u32,
}

impl Pace {
    fn note(&mut self, took: Duration) {
        self.spent += took;
        self.pairs += 1;
    }

    fn left(&self, pairs: usize) -> Option<Duration> {
        let one = self.spent.checked_div(self.pairs)?;
        Some(one * u32::try_from(pairs).unwrap_or(u32::MAX))
    }
}

/// The result of a side's turn.
enum Turn {
    Done {
        iteration: u32,
    },
    /// The user asked to stop; the rows of this turn are ignored.
    Stopped,
}

impl Session<'_> {
    /// Continues until the verdict and the profiled pass are complete, or the user asks to stop
    /// (`false`). Returns the records.
    pub fn drive(mut self) -> (AbStore, [Store; 2], Result<bool, RunError>) {
        let mut result = self.go_on().and_then(|done| self.same_memory_gauge().map(|()| done));
        let [a, b] = self.workers;
        let stores = [a, b].map(|worker| {
            let (store, closed) = worker.close(self.observer);
            if let (Ok(_), Err(error)) = (&result, closed) {
                result = Err(error);
            }
            store
        });
        (self.store, stores, result)
    }

    fn go_on(&mut self) -> Result<bool, RunError> {
        Ok(self.decide()? && self.score() && self.profile())
    }

    /// Runs pairs until the verdict.
    fn decide(&mut self) -> Result<bool, RunError> {
        let name = self.store.manifest().session.clone();
        let done = u64::from(self.judge().counts.ok);
        self.observer.event(Event::Began { run: &name, done, total: LOOKS[LOOKS.len() - 1] as u64 });
        let margin = matches!(self.rule(), OutputsRule::Margin { .. });
        // Under `margin` A's tokens are needed again, to force them.
        if (self.store.manifest().outputs.is_none() || margin) && !self.compare_outputs()? {
            return Ok(false);
        }
        if self.judge().is_over() {
            return Ok(true);
        }
        if !self.pilot()? {
            return Ok(false);
        }
        loop {
            let judgement = self.judge();
            if judgement.counts.ok > 0 {
                self.tell(&judgement);
            }
            if judgement.is_over() {
                return Ok(true);
            }
            let first = order::orders(self.seed(), judgement.counts.ok as usize + 1).pop().unwrap_or(Side::A);
            if !self.pair(PairKind::Pair, [first, first.other()])? {
                return Ok(false);
            }
        }
    }

    fn rule(&self) -> OutputsRule {
        self.store.manifest().settings.outputs
    }

    fn seed(&self) -> u64 {
        self.store.manifest().settings.seed
    }

    pub(super) fn cells(&self) -> &[Cell] {
        &self.workers[0].work.plan.cells
    }

    /// Judges the record so far.
    pub(super) fn judge(&self) -> Judgement {
        judge(&Evidence {
            manifest: self.store.manifest(),
            pairs: &self.pairs,
            cells: self.cells(),
            a: &self.rows[0],
            b: &self.rows[1],
        })
    }

    /// Generates once on both sides, unmeasured; `false` if the user asked to stop.
    fn compare_outputs(&mut self) -> Result<bool, RunError> {
        let rule = self.rule();
        let margin = matches!(rule, OutputsRule::Margin { .. });
        if margin {
            self.can_follow()?;
        }
        let Some(a) = self.generate(Side::A, false)? else { return Ok(false) };
        let failed = failure(Side::A, &a);
        let mut finding = OutputsFinding { rule, tokens: 0, divergences: Vec::new(), unstable: false, failed };
        if finding.failed.is_none() {
            self.check_gates()?;
            if margin {
                for output in a.iter().flatten() {
                    for worker in &mut self.workers {
                        worker.force(output.row.cell, output.row.turn, output.ids.clone());
                    }
                }
            }
            let Some(b) = self.generate(Side::B, margin)? else { return Ok(false) };
            finding.failed = failure(Side::B, &b).or_else(|| if margin { silent(&a, &b) } else { None });
            self.verify_gates(Side::B)?;
            self.check_gauges()?;
            self.tell_equal_settings(&a, &b)?;
            self.tell_short_requests(&a)?;
            for (cell, (a, b)) in self.workers[0].work.plan.cells.iter().zip(a.iter().zip(&b)) {
                finding.tokens += outputs::compared(a, b);
                finding.divergences.extend(outputs::divergences(cell, a, b, rule));
            }
        }
        // Before B is blamed, check that A repeats its own output.
        if rule == OutputsRule::Identical && !finding.divergences.is_empty() {
            let Some(again) = self.generate(Side::A, false)? else { return Ok(false) };
            let same = |(a, b): (&Output, &Output)| a.ids == b.ids;
            finding.unstable = !std::iter::zip(a.iter().flatten(), again.iter().flatten()).all(same);
        }
        self.store.update(|manifest| manifest.outputs = Some(finding))?;
        Ok(true)
    }

    fn tell_equal_settings(&mut self, a: &[Vec<Output>], b: &[Vec<Output>]) -> Result<(), RunError> {
        let cells = self.workers.each_ref().map(|worker| worker.work.plan.cells.as_slice());
        match outputs::equal_settings(cells, a, b) {
            Some(told) => self.warn_once(told),
            None => Ok(()),
        }
    }

    /// Warns about requests so short that a host could report a speed-up of delta undetected,
    /// unless all hosts are this program.
    fn tell_short_requests(&mut self, a: &[Vec<Output>]) -> Result<(), RunError> {
        let own = |worker: &Worker| worker.work.program.is_none() && worker.hosts_are_built_in();
        if self.workers.iter().all(own) {
            return Ok(());
        }
        let gates = self.store.manifest().gates.iter().filter(|gate| gate.gate.metric.scale() == Scale::Ratio);
        let least = gates.map(|gate| gate.least).fold(f64::INFINITY, f64::min);
        let took = a.iter().flatten().map(|output| output.row.end_ns.saturating_sub(output.row.start_ns));
        let Some(shortest) = took.min() else { return Ok(()) };
        match short::request(shortest, least) {
            Some(told) => self.warn_once(told),
            None => Ok(()),
        }
    }

    /// Refuses, before anything is generated, sides whose engines cannot do what `margin` needs.
    fn can_follow(&mut self) -> Result<(), RunError> {
        for side in Side::BOTH {
            self.begin(side);
            let (worker, observer) = (&mut self.workers[side as usize], &mut *self.observer);
            let mut hosts: Vec<Key> = worker.work.plan.cells.iter().map(key).collect();
            hosts.dedup();
            let able = hosts.iter().try_for_each(|key| {
                worker.close_others(key);
                worker.can_follow(key, &mut *observer)
            });
            self.end(side);
            able?;
        }
        Ok(())
    }

    /// A side's outputs in each cell, in the order of the plan; fewer cells if one failed.
    fn generate(&mut self, side: Side, choices: bool) -> Result<Option<Vec<Vec<Output>>>, RunError> {
        self.begin(side);
        // Load-time settings are a side's own.
        let plan = self.workers[side as usize].work.plan;
        let mut all = Vec::new();
        for cell in &plan.cells {
            let (worker, observer) = (&mut self.workers[side as usize], &mut *self.observer);
            worker.close_others(&key(cell));
            let Some(outputs) = worker.outputs(cell.id, &key(cell), choices, observer)? else { return Ok(None) };
            self.rows[side as usize].extend(worker.take_loads());
            self.rows[side as usize].extend(outputs.iter().map(|output| output.row.clone()));
            let failed = outputs.iter().any(|output| output.row.status == Status::Failed);
            all.push(outputs);
            if failed {
                break;
            }
        }
        self.end(side);
        Ok(Some(all))
    }

    /// Runs A/A pairs until there are enough, then assesses them; `false` if the user asked to
    /// stop.
    fn pilot(&mut self) -> Result<bool, RunError> {
        let wanted = self.store.manifest().settings.pilot;
        loop {
            let judgement = self.judge();
            if judgement.is_over() || judgement.counts.ok > 0 {
                return Ok(true);
            }
            if judgement.counts.pilot_ok >= wanted {
                return self.assess(&judgement).map(|()| true);
            }
            let (done, left) =
                (judgement.counts.pilot_ok, self.pace.left((wanted - judgement.counts.pilot_ok) as usize));
            self.observer.event(Event::Pairs { what: "pilot", done, of: wanted, text: "", left });
            if !self.pair(PairKind::Pilot, [Side::A, Side::A])? {
                return Ok(false);
            }
        }
    }

    /// Refuses a session if noise on this machine hides its deltas even at the last look.
    fn assess(&mut self, judgement: &Judgement) -> Result<(), RunError> {
        let hopeless: Vec<String> = judgement
            .pilot
            .iter()
            .filter(|pilot| pilot.pilot.hopeless)
            .map(|pilot| {
                let gate = &judgement.gates[pilot.gate];
                format!(
                    "{} can be measured to {} at best, but delta is {}; this machine can decide a delta of {}",
                    gate.metric().title(),
                    format_args!("±{}", gate.scale.size(pilot.pilot.half_width)),
                    gate.scale.size(gate.bound()),
                    gate.scale.size_up(pilot.pilot.supported),
                )
            })
            .collect();
        if hopeless.is_empty() {
            return Ok(());
        }
        let pairs = judgement.counts.pilot_ok;
        let last = LOOKS[LOOKS.len() - 1];
        let told = format!(
            "{pairs} A/A pairs show that this machine is too noisy for this delta: after {last} pairs {}",
            hopeless.join("; ")
        );
        self.store.update(|manifest| manifest.refused = Some(told))?;
        Ok(())
    }

    /// Runs both turns of a pair and commits its row; `false` if the user asked to stop.
    fn pair(&mut self, kind: PairKind, sides: [Side; 2]) -> Result<bool, RunError> {
        let began = Instant::now();
        let pair = self.pairs.last().map_or(1, |last| last.pair + 1);
        let mut iterations = [0; 2];
        for (at, side) in sides.into_iter().enumerate() {
            match self.turn(side, pair)? {
                Turn::Done { iteration } => iterations[at] = iteration,
                Turn::Stopped => return Ok(false),
            }
        }
        let [first, second] = sides;
        let [first_iteration, second_iteration] = iterations;
        let row = PairRow { pair, kind, first, first_iteration, second, second_iteration };
        self.store.commit(&row)?;
        self.pairs.push(row);
        self.tell_outcome();
        self.check_gates()?;
        self.check_gauges()?;
        self.pace.note(began.elapsed());
        Ok(true)
    }

    /// Runs every cell of a side once. Stops after a failure, which decides the pair's outcome.
    fn turn(&mut self, side: Side, pair: u32) -> Result<Turn, RunError> {
        if self.interrupt.requested() {
            return Ok(Turn::Stopped);
        }
        self.begin(side);
        let at = side as usize;
        let iteration = self.iterations[at] + 1;
        self.iterations[at] = iteration;
        let cells = self.by_host(order::cells(self.seed(), pair, self.cells().len()));
        let resident = self.store.manifest().settings.resident;
        let mut ran = Vec::new();
        for id in cells {
            let (worker, observer) = (&mut self.workers[at], &mut *self.observer);
            let key = key(worker.cell(id));
            if !resident {
                worker.close_others(&key);
            }
            let Some(rows) = worker.measure(Step { cell: id, iteration }, &key, observer)? else {
                return Ok(Turn::Stopped);
            };
            ran.push(id);
            let failed = rows[0].status == Status::Failed;
            self.rows[at].extend(self.workers[at].take_loads());
            self.rows[at].extend(rows);
            if failed {
                break;
            }
        }
        self.end(side);
        self.workers[at].log.store.update(|manifest| manifest.plan.order.push(ran))?;
        Ok(Turn::Done { iteration })
    }

    /// Sorts the cells so that those of one host are adjacent.
    pub(super) fn by_host(&self, ids: Vec<u32>) -> Vec<u32> {
        let keys: Vec<Key> = self.cells().iter().map(key).collect();
        let first_of = |id: &u32| ids.iter().position(|other| keys[*other as usize] == keys[*id as usize]);
        let mut sorted = ids.clone();
        sorted.sort_by_key(first_of);
        sorted
    }

    /// Samples only this side during its turn.
    pub(super) fn begin(&mut self, side: Side) {
        self.observer.event(Event::Side(side));
        self.workers[side as usize].log.sampler.rest(false);
    }

    pub(super) fn end(&mut self, side: Side) {
        let resident = self.store.manifest().settings.resident;
        let worker = &mut self.workers[side as usize];
        if !resident {
            worker.close_hosts();
        }
        worker.log.sampler.rest(true);
    }

    /// Reports why the last pair is excluded.
    fn tell_outcome(&mut self) {
        let judgement = self.judge();
        let told = match judgement.pairs.last().map(|pair| (pair.row.pair, &pair.outcome)) {
            Some((pair, PairOutcome::Dropped { reason, .. })) => format!("pair {pair} is dropped: {reason}"),
            Some((pair, PairOutcome::Contradicted { reason, .. })) => {
                format!("pair {pair} contradicts itself: {reason}")
            }
            Some((pair, PairOutcome::Failed { reason, .. })) => format!("pair {pair} failed: {reason}"),
            _ => return,
        };
        self.observer.event(Event::Warning(&told));
    }

    fn tell(&mut self, judgement: &Judgement) {
        let done = judgement.counts.ok;
        let left = judgement.pairs_to_next_look();
        let of = done + u32::try_from(left).unwrap_or(0);
        let gates = judgement.gates.iter().filter_map(|gate| {
            let range = gate.interval.map(|i| format!(" [{}, {}]", gate.scale.change(i.lo), gate.scale.change(i.hi)));
            let range = range.unwrap_or_default();
            let frozen = match gate.verdict() {
                Verdict::NotDecided => String::new(),
                verdict => format!(" {}", verdict.name()),
            };
            Some(format!("{} {}{range}{frozen}", gate.metric().title(), gate.scale.change(gate.estimate?)))
        });
        let text = gates.collect::<Vec<_>>().join(", ");
        self.observer.event(Event::Pairs { what: "pair", done, of, text: &text, left: self.pace.left(left) });
    }
}

/// A side's hosts live for a turn, or for the whole session.
pub(super) fn key(cell: &Cell) -> Key {
    Key::of(Step { cell: cell.id, iteration: 0 }, cell, Isolation::Run)
}

/// The first failed request of a side.
fn failure(side: Side, outputs: &[Vec<Output>]) -> Option<SideFailure> {
    let row = outputs.iter().flatten().map(|output| &output.row).find(|row| row.status == Status::Failed)?;
    Some(SideFailure { side, cell: row.cell, reason: row.reason.clone() })
}

/// The first request of B without a choice for every token.
fn silent(a: &[Vec<Output>], b: &[Vec<Output>]) -> Option<SideFailure> {
    let short = |(a, b): &(&Output, &Output)| b.choices.len() != a.ids.len() || b.ids != a.ids;
    let (a, b) = std::iter::zip(a.iter().flatten(), b.iter().flatten()).find(short)?;
    let reason = format!("{} choices for {} forced tokens", b.choices.len(), a.ids.len());
    Some(SideFailure { side: Side::B, cell: b.row.cell, reason })
}

/// Refuses sides whose cells differ.
pub fn cells_match(a: &Setup, b: &Setup) -> Result<(), RunError> {
    let (cells_a, cells_b) = (&a.plan.cells, &b.plan.cells);
    let lengths = |cells: &[Cell]| cells.iter().map(|cell| cell.length).collect::<Vec<_>>();
    if lengths(cells_a) != lengths(cells_b) {
        return Err(RunError::Ab(format!(
            "the sides do not have the same cells: A has {} and B has {}; vary toggles in the scenario, and give each side one \
             value of the setting to compare",
            cells_a.len(),
            cells_b.len()
        )));
    }
    Ok(())
}
