//! The requests of one iteration.

use super::{Pass, Worker, number};
use crate::record::{Cause, Fault, Status};
use crate::run::attempt::{Ask, Attempt, agree, attempt};
use crate::run::pool;
use crate::run::pool::Resident;
use crate::run::measure;
use crate::run::measure::Place;
use crate::run::progress::{Event, Observer};
use crate::run::schedule::Step;
use crate::run::turns::Turns;
use crate::run::validity;
use crate::spec::{Cell, Workload};
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::{Prompt, Request};

/// Most tokens of a warm-up's request; the prompt is run whole.
const WARMUP_TOKENS: u32 = 8;

impl<'a> Worker<'a> {
    /// One iteration, measured or as a warm-up (iteration 0): a generation, or one a turn up to the first that fails. All
    /// have the outcome of the iteration.
    pub(super) fn iteration(
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
                attempt.row.mark(&Fault::new(Cause::NoText, reason));
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
    pub(super) fn attempt(
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
            warmup: !matches!(pass, Pass::Measured | Pass::Profiled { .. }),
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
            progress: !matches!(pass, Pass::Measured | Pass::Profiled { .. }) && observer.wants_tokens(),
            choices: pass == Pass::Outputs { choices: true },
            operation_spans: matches!(pass, Pass::Profiled { spans: true, .. }),
            forced_sync: pass == Pass::Profiled { spans: true, forced_sync: true },
            allowed: &self.work.scenario.run.allow_mismatch,
            memory_interval_ms: pool::memory_interval_ms(self.work.scenario),
        };
        self.log.sampler.watch(Some((resident.number, resident.host.pid())));
        let mut on_progress = |tokens| observer.event(Event::Tokens(tokens));
        attempt(resident, ask, &self.log.origin, &self.work.options.interrupt, &mut on_progress)
    }

    pub(super) fn request(
        &self,
        cell: &Cell,
        turn: usize,
        pass: Pass,
        prompt: Prompt,
        conversation: Option<String>,
    ) -> Request {
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
    pub(super) fn not_tried(&mut self, step: Step, cell: &Cell, host: u32, fault: &Fault) -> Attempt {
        let (request, iteration) = (self.next_request, step.iteration);
        let place = Place { request, warmup: false, cell: cell.id, iteration, turn: 0, host };
        self.next_request += 1;
        let now = self.log.origin.t_ns(now_ns());
        let mut row = measure::blank(place, &self.engine(cell.engine).label);
        (row.start_ns, row.end_ns) = (now, now);
        row.mark(fault);
        Attempt::without_answer(row, true)
    }
}
