//! The requests of one iteration.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use super::{Pass, Worker, number};
use crate::record::{Cause, Fault, Status};
use crate::run::arrivals;
use crate::run::attempt::{Ask, Attempt, Place, agree, attempt, invalid_together, under_load};
use crate::run::pool;
use crate::run::pool::Resident;
use crate::run::progress::{Event, Observer};
use crate::run::schedule::Step;
use crate::run::turns::Turns;
use crate::run::validity;
use crate::spec::{Cell, Level, Replies, TrafficSettings, Workload};
use inferometer_host::simulated;
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::toggle::KV_REUSE;
use inferometer_protocol::{Instrumentation, Prompt, Request};

/// Most tokens of a warm-up request; its prompt is complete.
const WARMUP_TOKENS: u32 = 16;

impl<'a> Worker<'a> {
    /// One iteration, measured or a warm-up (iteration 0): one generation, or one per turn up to
    /// the first failure. All turns get the outcome of the iteration.
    pub(super) fn iteration(
        &mut self,
        resident: &mut Resident,
        step: Step,
        cell: &'a Cell,
        pass: Pass,
        observer: &mut dyn Observer,
    ) -> Vec<Attempt> {
        let work = &self.work.scenario.workload;
        let prompt = self.prompt(resident, cell).clone();
        if let (Some(traffic), Some(level), false) = (&self.work.scenario.traffic, cell.level, pass.warms_up()) {
            return self.traffic(resident, (step, cell, pass), &prompt, (traffic, level), observer);
        }
        let mut turns = Turns::new(work, &prompt, pass.warms_up());
        // A new name, so that an engine that cannot reset also starts with an empty cache.
        let conversation = matches!(work, Workload::Conversation(_)).then(|| self.next_request.to_string());
        let mut done = Vec::new();
        while let Some((turn, prompt)) = turns.next() {
            let request = self.request(cell, turn, pass, prompt, conversation.clone());
            let place = self.place(step, pass, turn, resident.number);
            let mut attempt = self.attempt(resident, cell, (place, pass), request, observer);
            if attempt.status() != Status::Failed
                && let Err(reason) = turns.answered(attempt.text())
            {
                attempt.fault = Some(Fault::new(Cause::NoText, reason));
            }
            if pass.counts() && attempt.fault.is_none() {
                attempt.fault = self.other_count(&attempt);
            }
            // After an invalid turn the engine can continue: the whole conversation is recorded.
            let goes_on = attempt.status() != Status::Failed && !self.work.options.interrupt.at_once();
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

    /// One iteration under load. Every request has the same prompt, and none may reuse another's
    /// cache unless the scenario says so.
    fn traffic(
        &mut self,
        resident: &mut Resident,
        (step, cell, pass): (Step, &'a Cell, Pass),
        prompt: &Prompt,
        (traffic, level): (&TrafficSettings, Level),
        observer: &mut dyn Observer,
    ) -> Vec<Attempt> {
        let counted = self.work.prompts.counted(cell).filter(|_| self.runs_the_model(cell, resident));
        let forgets = resident.receipt.toggles.iter().any(|name| name == KV_REUSE);
        let mut request = self.request(cell, 0, pass, prompt.clone(), None);
        if forgets && !request.toggles.contains_key(KV_REUSE) {
            request.toggles.insert(KV_REUSE.to_owned(), "none".into());
        }
        let request = Arc::new(request);
        let asks: Vec<Ask<'_>> = (0..traffic.requests as usize)
            .map(|number| {
                let place = self.place(step, pass, number, resident.number);
                self.ask(cell, place, Arc::clone(&request), pass.instrumentation(false), counted.clone())
            })
            .collect();
        self.log.sampler.watch(resident.measured().map(|pid| (resident.number, pid)));
        let mut on_progress = |done| observer.event(Event::Tokens(done));
        let due = arrivals::due(traffic, level, step.iteration);
        let (origin, interrupt) = (&self.log.origin, &self.work.options.interrupt);
        let limits = Some(traffic.limits);
        let mut done = under_load(resident, &asks, (&due, limits), origin, interrupt, &mut on_progress);
        for attempt in done.iter_mut().filter(|attempt| pass.counts() && attempt.fault.is_none()) {
            attempt.fault = self.other_count(attempt);
        }
        invalid_together(&mut done);
        done
    }

    fn ask(
        &self,
        cell: &'a Cell,
        place: Place,
        request: Arc<Request>,
        instrumentation: Instrumentation,
        counted: Option<RangeInclusive<u32>>,
    ) -> Ask<'a> {
        Ask {
            place,
            cell,
            engine: &self.work.scenario.engines[cell.engine as usize].label,
            request,
            instrumentation,
            verified_only: self.work.verified_only,
            counted,
            allowed: &self.work.scenario.run.allow_mismatch,
            memory_interval_ms: pool::memory_interval_ms(self.work.scenario),
        }
    }

    /// The prompt of the cell's first request, as the engine takes it.
    fn prompt(&self, resident: &Resident, cell: &Cell) -> &Prompt {
        let fitted = self.work.prompts.fit(cell).and_then(|tokens| self.fitted.get(&(cell.engine, tokens)));
        fitted.unwrap_or_else(|| self.work.prompts.of(cell, &resident.receipt.capabilities))
    }

    /// Runs one generation.
    fn attempt(
        &mut self,
        resident: &mut Resident,
        cell: &'a Cell,
        (place, pass): (Place, Pass),
        request: Request,
        observer: &mut dyn Observer,
    ) -> Attempt {
        let counted = self.work.prompts.counted(cell).filter(|_| self.runs_the_model(cell, resident));
        let ask = self.ask(cell, place, Arc::new(request), pass.instrumentation(observer.wants_tokens()), counted);
        self.log.sampler.watch(resident.measured().map(|pid| (resident.number, pid)));
        let mut on_progress = |tokens| observer.event(Event::Tokens(tokens));
        attempt(resident, ask, &self.log.origin, &self.work.options.interrupt, &mut on_progress)
    }

    /// Whether a host counts as it should: it made the prompt itself, or says that it runs the
    /// model in the scenario's folder, so that it counts with that model's tokenizer. The simulated
    /// engine has none.
    fn runs_the_model(&self, cell: &Cell, resident: &Resident) -> bool {
        if self.work.prompts.fit(cell).is_some() {
            return true;
        }
        let named = Path::new(&resident.receipt.model.path) == self.work.model;
        self.engine(cell.engine).name != simulated::NAME && (resident.built_in || named)
    }

    /// The fault of a request whose prompt was sent in an earlier iteration too, and had another
    /// number of tokens there.
    fn other_count(&mut self, attempt: &Attempt) -> Option<Fault> {
        let generated_history =
            matches!(&self.work.scenario.workload, Workload::Conversation(work) if work.replies == Replies::Generated);
        let counted = attempt.reply.as_ref()?.generated.completion.prompt_tokens;
        let place = attempt.place;
        let first = *self.prompt_tokens.entry((place.cell, place.turn)).or_insert(counted);
        (counted != first && !generated_history).then(|| {
            let told = format!("the engine counts {counted} prompt tokens, but {first} in an earlier iteration");
            Fault::new(Cause::Counts, told)
        })
    }

    /// The place of the next request.
    fn place(&mut self, step: Step, pass: Pass, turn: usize, host: u32) -> Place {
        let request = self.next_request;
        self.next_request += 1;
        let turn = number(turn);
        Place { request, warmup: !pass.counts(), cell: step.cell, iteration: step.iteration, turn, host }
    }

    fn request(&self, cell: &Cell, turn: usize, pass: Pass, prompt: Prompt, conversation: Option<String>) -> Request {
        let workload = &self.work.scenario.workload;
        let most = match pass {
            Pass::Warmup { .. } => WARMUP_TOKENS,
            Pass::OtherLength if workload.max_tokens() >= 2 * WARMUP_TOKENS => 4 * WARMUP_TOKENS,
            Pass::OtherLength => 1,
            Pass::Outputs { .. } | Pass::Measured | Pass::Profiled(_) => u32::MAX,
        };
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

    /// An iteration that has no host.
    pub(super) fn not_made(&mut self, step: Step, cell: &Cell, host: u32, fault: Fault) -> Attempt {
        let place = self.place(step, Pass::Measured, 0, host);
        Attempt::not_made(place, &self.engine(cell.engine).label, self.log.origin.t_ns(now_ns()), fault)
    }
}
