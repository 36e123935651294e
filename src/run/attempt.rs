//! One generation in one host, from the cache reset before it to its results. An iteration is one
//! generation, or one per turn.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::host::{Due, Exchange, HostError, check_stamps};
use super::interrupt::Interrupt;
use super::memory::{EngineSample, engine_samples};
use super::pool::Resident;
use super::timing::{self, Sight};
use super::validity::{self, Asked};
use crate::origin::Origin;
use crate::record::{Cause, Fault, SpanRow, Status, Timing};
use crate::spec::{Cell, Limits};
use crate::telemetry;
use crate::telemetry::counters::{Counters, Counts};
use crate::telemetry::waits::{WaitMeter, Waits};
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::messages::{Generate, Generated};
use inferometer_protocol::{Choice, Instrumentation, Phase, Request, Settings};

/// The position of a request in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub request: u64,
    pub warmup: bool,
    pub cell: u32,
    /// From 1; 0 for warm-ups.
    pub iteration: u32,
    /// Turn of a conversation, from 0.
    pub turn: u32,
    pub host: u32,
}

/// A request, its cell and its place in the run.
pub struct Ask<'a> {
    pub place: Place,
    pub cell: &'a Cell,
    /// Label of the engine.
    pub engine: &'a str,
    pub request: Arc<Request>,
    pub instrumentation: Instrumentation,
    /// Whether token times that could not be verified make the iteration invalid.
    pub verified_only: bool,
    /// Effective settings that may differ from the requested ones.
    pub allowed: &'a [String],
    /// Tokens that the model's own tokenizer makes of a text, if that is known.
    pub counted: Option<RangeInclusive<u32>>,
    /// Interval at which the host was asked to sample the engine's memory.
    pub memory_interval_ms: Option<u32>,
}

/// The results of a request.
#[derive(Debug)]
pub struct Attempt {
    pub place: Place,
    /// Label of the engine.
    pub engine: String,
    /// When the request was written to the host and the reply read (or the failure detected), from
    /// the run's origin.
    pub start_ns: u64,
    pub end_ns: u64,
    /// Time to load the model, only in the first request after a load.
    pub load_s: Option<f64>,
    /// Memory of the host after the model was unloaded, only in the last request before that.
    pub unloaded_bytes: Option<u64>,
    /// Under load: when it was due, from the run's origin.
    pub intended_ns: Option<u64>,
    /// Under load: what makes a request good.
    pub limits: Option<Limits>,
    /// Why the request is failed or invalid.
    pub fault: Option<Fault>,
    pub usage: Usage,
    /// The reset before the request.
    pub reset: Option<SpanRow>,
    pub reply: Option<Reply>,
    /// The host can no longer be used.
    pub host_lost: bool,
}

/// Resources used by the request, as reported by the kernel. `None` where it does not report them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// CPU time of the host process.
    pub cpu: Option<Duration>,
    /// CPU time of the other processes of the host's group.
    pub helpers_cpu: Duration,
    pub counts: Option<Counts>,
    pub waits: Option<Waits>,
    /// From the kernel's high-water mark.
    pub peak: Option<telemetry::peak::High>,
    /// Without such a mark, the memory right after the request, which stands among the samples.
    pub memory_after: Option<u64>,
}

/// The host's reply.
#[derive(Debug)]
pub struct Reply {
    pub generated: Generated,
    pub effective: Settings,
    pub timing: Timing,
    /// What a streamed generation showed about the stamps.
    pub sight: Option<Sight>,
    /// Whether the stamps passed the harness's check.
    pub believed: bool,
    /// Host clock minus harness clock.
    pub offset_ns: i64,
    /// The samples of the engine's memory, or why they are invalid.
    pub memory: Result<Vec<EngineSample>, String>,
}

impl Attempt {
    /// An attempt at `start_ns` without results.
    #[must_use]
    pub fn new(place: Place, engine: &str, start_ns: u64) -> Self {
        Self {
            place,
            engine: engine.to_owned(),
            start_ns,
            end_ns: start_ns,
            load_s: None,
            unloaded_bytes: None,
            intended_ns: None,
            limits: None,
            fault: None,
            usage: Usage::default(),
            reset: None,
            reply: None,
            host_lost: false,
        }
    }

    /// An attempt that could not be made because it has no host.
    #[must_use]
    pub fn not_made(place: Place, engine: &str, now_ns: u64, fault: Fault) -> Self {
        Self { fault: Some(fault), host_lost: true, ..Self::new(place, engine, now_ns) }
    }

    #[must_use]
    pub fn status(&self) -> Status {
        self.fault.as_ref().map_or(Status::Ok, |fault| fault.cause.status())
    }

    /// The generated tokens.
    #[must_use]
    pub fn ids(&self) -> &[u32] {
        self.reply.as_ref().map_or(&[], |reply| &reply.generated.tokens)
    }

    /// The generated text, if the engine returns it.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.reply.as_ref()?.generated.text.as_deref()
    }

    /// The tokens that the engine would have chosen; empty if not requested.
    #[must_use]
    pub fn choices(&self) -> &[Choice] {
        self.reply.as_ref().and_then(|reply| reply.generated.choices.as_deref()).unwrap_or_default()
    }

    /// Number of spans that did not fit the host's buffer.
    #[must_use]
    pub fn spans_dropped(&self) -> u64 {
        self.reply.as_ref().map_or(0, |reply| reply.generated.spans_dropped)
    }

    fn failed(mut self, error: &HostError, origin: &Origin) -> Self {
        self.fault = Some(Fault::new(error.cause(), error.summary()));
        self.end_ns = origin.t_ns(now_ns());
        self.host_lost = !error.host_is_usable();
        // A request without a reply has no spans.
        self.reset = None;
        self
    }
}

/// Runs one generation. Every problem of the engine becomes the attempt's fault.
pub fn attempt(
    resident: &mut Resident,
    ask: Ask<'_>,
    origin: &Origin,
    interrupt: &Interrupt,
    on_progress: &mut dyn FnMut(u32),
) -> Attempt {
    let mut attempt = Attempt::new(ask.place, ask.engine, origin.t_ns(now_ns()));
    attempt.load_s = resident.load_s.take();
    // The later turns of a conversation continue with the cache of the first.
    if ask.place.turn == 0 && resident.receipt.capabilities.reset {
        if let Err(error) = resident.host.reset() {
            return attempt.failed(&error, origin);
        }
        let (request, start_ns, end_ns) = (ask.place.request, attempt.start_ns, origin.t_ns(now_ns()));
        attempt.reset = Some(SpanRow { request, phase: Phase::Reset, index: 0, start_ns, end_ns });
    }
    // Clocks drift: within minutes by more than the tolerance of the stamps.
    if let Err(error) = resident.host.resync() {
        return attempt.failed(&error, origin);
    }
    let meter = resident.measured().map(UsageMeter::start);
    // The second Ctrl-C cancels the generation if that is possible; the host is killed otherwise,
    // or if that does not help.
    let canceller = resident.host.canceller();
    let armed = resident.receipt.capabilities.cancel.then(|| interrupt.at_second(move || _ = canceller.cancel()));
    attempt.start_ns = origin.t_ns(now_ns());
    let generate =
        Generate { request: (*ask.request).clone(), instrumentation: ask.instrumentation, concurrent: false };
    let answer = resident.host.generate(generate, on_progress);
    drop(armed);
    let usage = meter.map(UsageMeter::stop).unwrap_or_default();
    match answer {
        Ok(exchange) => {
            attempt.usage = usage;
            answered(attempt, exchange, resident, &ask, origin)
        }
        Err(error) => attempt.failed(&error, origin),
    }
}

/// Many requests at the same time, sent when they are due, in the order of `asks`. The usage of all
/// stands in the last.
pub fn under_load(
    resident: &mut Resident,
    asks: &[Ask<'_>],
    (due, limits): (&Due, Option<Limits>),
    origin: &Origin,
    interrupt: &Interrupt,
    on_progress: &mut dyn FnMut(u32),
) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> =
        asks.iter().map(|ask| Attempt::new(ask.place, ask.engine, origin.t_ns(now_ns()))).collect();
    if let Some(first) = attempts.first_mut() {
        first.load_s = resident.load_s.take();
    }
    let ready = match resident.receipt.capabilities.reset {
        true => resident.host.reset(),
        false => Ok(()),
    };
    if let Err(error) = ready.and_then(|()| resident.host.resync().map(drop)) {
        return attempts.into_iter().map(|attempt| attempt.failed(&error, origin)).collect();
    }
    let meter = resident.measured().map(UsageMeter::start);
    let canceller = resident.host.canceller();
    let armed = resident.receipt.capabilities.cancel.then(|| interrupt.at_second(move || _ = canceller.cancel()));
    let most = resident.receipt.capabilities.concurrent as usize;
    let mut make = |number: usize| Generate {
        request: (*asks[number].request).clone(),
        instrumentation: asks[number].instrumentation,
        concurrent: true,
    };
    let mut ended = |done: usize| on_progress(u32::try_from(done).unwrap_or(u32::MAX));
    let (served, broke) = resident.host.traffic(asks.len(), due, most, &mut make, &mut ended);
    drop(armed);
    let usage = meter.map(UsageMeter::stop).unwrap_or_default();
    for one in served {
        let (ask, attempt) = (&asks[one.number], &mut attempts[one.number]);
        attempt.intended_ns = Some(origin.t_ns(one.intended_ns));
        attempt.limits = limits;
        attempt.start_ns = origin.t_ns(if one.sent_ns == 0 { one.ended_ns } else { one.sent_ns });
        let taken = std::mem::replace(attempt, Attempt::new(ask.place, ask.engine, 0));
        *attempt = match (one.outcome, &broke) {
            (Some(Ok(exchange)), _) => answered(taken, exchange, resident, ask, origin),
            (Some(Err(error)), _) => taken.failed(&error, origin),
            (None, Some(error)) => taken.failed(error, origin),
            (None, None) => taken,
        };
        attempt.end_ns = origin.t_ns(one.ended_ns);
    }
    if let Some(error) = &broke {
        // What was answered before says nothing about the load that was asked for.
        for attempt in &mut attempts {
            attempt.fault.get_or_insert_with(|| Fault::new(error.cause(), error.summary()));
        }
    }
    if let Some(last) = attempts.last_mut() {
        last.usage = usage;
        last.host_lost = broke.is_some_and(|error| !error.host_is_usable());
    }
    attempts
}

/// Measures the resource usage of a process during a request.
struct UsageMeter {
    pid: u32,
    peak: Option<telemetry::peak::Peak>,
    counters: Option<Counters>,
    helpers_before: Option<Duration>,
    cpu_before: Option<Duration>,
    waits: Option<WaitMeter>,
}

impl UsageMeter {
    fn start(pid: u32) -> Self {
        Self {
            pid,
            peak: telemetry::peak::reset(pid).ok(),
            counters: Counters::start(pid).ok(),
            helpers_before: telemetry::group::helpers_cpu(pid),
            cpu_before: telemetry::cpu_time(pid),
            // Last: the shorter the iteration, the more the time between counts.
            waits: WaitMeter::start(pid),
        }
    }

    fn stop(self) -> Usage {
        let waits = self.waits.and_then(WaitMeter::stop);
        let cpu_after = telemetry::cpu_time(self.pid);
        let counts = self.counters.and_then(Counters::stop);
        let helpers_after = telemetry::group::helpers_cpu(self.pid);
        let peak = self.peak.and_then(|peak| peak.read());
        let used = |before: Option<Duration>, after: Option<Duration>| Some(after?.saturating_sub(before?));
        Usage {
            cpu: used(self.cpu_before, cpu_after),
            helpers_cpu: used(self.helpers_before, helpers_after).unwrap_or_default(),
            counts,
            waits,
            memory_after: if peak.is_none() { telemetry::peak::current(self.pid) } else { None },
            peak,
        }
    }
}

/// Checks the reply and stores it.
fn answered(mut attempt: Attempt, exchange: Exchange, resident: &Resident, ask: &Ask<'_>, origin: &Origin) -> Attempt {
    let clock = resident.host.clock();
    let receipt = &resident.receipt;
    let stamps = check_stamps(&exchange, clock, ask.request.max_tokens);
    attempt.start_ns = origin.t_ns(exchange.sent_ns);
    attempt.end_ns = origin.t_ns(exchange.received_ns);
    let believed = stamps.is_ok();
    let sight = (believed && ask.instrumentation.stream).then(|| Sight::of(&exchange, clock));
    let seen = sight
        .as_ref()
        .or_else(|| resident.seen(ask.place.cell, if ask.cell.level.is_some() { 0 } else { ask.place.turn }));
    // A later turn of a warm-up computes more of its prompt than the same turn of an iteration.
    let measured = believed && !ask.place.warmup;
    let (timing, shape) = timing::grade(
        receipt,
        seen,
        measured.then_some((&exchange.generated, ask.place.turn == 0 || ask.cell.level.is_some())),
    );
    let generated = exchange.generated;
    let asked = Asked {
        cell: ask.cell,
        request: &ask.request,
        choices: ask.instrumentation.choices,
        turn: ask.place.turn,
        allowed: ask.allowed,
        counted: ask.counted.clone(),
    };
    attempt.fault = validity::judge(&asked, &generated, receipt, resident.built_in, stamps)
        .or_else(|| shape.err().map(|reason| Fault::new(Cause::LateStamps, reason)))
        .or_else(|| if ask.verified_only && !ask.place.warmup { seen.and_then(unverified) } else { None });
    let memory = match believed {
        true => engine_samples(&generated, ask.place.host, ask.memory_interval_ms, clock.offset_ns, origin),
        // If the stamps are wrong, so are the times of these samples.
        false => Ok(Vec::new()),
    };
    attempt.reply = Some(Reply {
        effective: validity::effective(&generated, receipt),
        timing,
        sight,
        believed,
        offset_ns: clock.offset_ns,
        memory,
        generated,
    });
    attempt
}

/// Why token times, which were verified in an earlier process, are not verified in this one.
fn unverified(seen: &Sight) -> Option<Fault> {
    Some(Fault::new(Cause::LateStamps, format!("token times are not verified: {}", seen.doubt()?)))
}

/// Percentiles without the requests that could not be measured would be those of the others: one
/// invalid request makes all requests of its load invalid. Failed ones stay failed.
pub fn invalid_together(requests: &mut [Attempt]) {
    let Some(one) = requests.iter().find(|attempt| attempt.status() == Status::Invalid) else { return };
    let Some(fault) = &one.fault else { return };
    let fault = Fault::new(fault.cause, format!("request {}: {}", one.place.turn, fault.reason));
    for attempt in requests.iter_mut().filter(|attempt| attempt.status() != Status::Failed) {
        attempt.fault = Some(fault.clone());
    }
}

/// Gives all turns the outcome of the iteration: if one fails or is invalid, the others do not
/// measure a whole conversation. A failure takes precedence over invalid turns, the first invalid
/// turn over later ones.
pub fn agree(turns: &mut [Attempt]) {
    let of = |status| turns.iter().find(|attempt| attempt.status() == status);
    let Some(attempt) = of(Status::Failed).or_else(|| of(Status::Invalid)) else { return };
    let Some(fault) = &attempt.fault else { return };
    let fault = Fault::new(fault.cause, format!("turn {}: {}", attempt.place.turn, fault.reason));
    for attempt in turns {
        attempt.fault = Some(fault.clone());
    }
}
