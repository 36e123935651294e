//! One generation in one host, from the reset before it to the row after it.
//!
//! An iteration is one of them, or one a turn.

use std::time::Duration;

use super::host::{Exchange, HostError, check_stamps};
use super::pool::{self, Resident};
use super::interrupt::Interrupt;
use super::measure::{self, Place};
use super::memory::{EngineSample, engine_samples};
use super::validity::{self, Asked};
use crate::origin::Origin;
use crate::record::{Fault, RequestRow, SpanRow, Status, TokenRow};
use crate::spec::Cell;
use crate::telemetry;
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::messages::Generate;
use inferometer_protocol::{Choice, Phase, PhaseAllocations, Request, SpanTiming};

/// What is asked, of which cell, where in the run.
pub struct Ask<'a> {
    pub place: Place,
    pub cell: &'a Cell,
    /// Label of the engine.
    pub engine: &'a str,
    pub request: Request,
    /// Whether the host may send `progress`; never in a measured iteration.
    pub progress: bool,
    /// Whether the engine is to say what it would have chosen; never in a measured iteration.
    pub choices: bool,
    /// Whether single operations are timed; in the profiled pass only.
    pub operation_spans: bool,
    /// Whether each is finished within its span.
    pub forced_sync: bool,
    /// Effective settings that may differ from what was asked for.
    pub allowed: &'a [String],
    /// How often the host was asked to look at the engine's memory.
    pub memory_interval_ms: Option<u32>,
}

/// What came of it.
pub struct Attempt {
    pub row: RequestRow,
    pub tokens: Vec<TokenRow>,
    pub spans: Vec<SpanRow>,
    pub ids: Vec<u32>,
    pub text: Option<String>,
    /// What the engine would have chosen at each token; empty where that was not asked for.
    pub choices: Vec<Choice>,
    pub spans_dropped: u64,
    /// CPU time meanwhile of the other processes of the host's group; nothing where it cannot be read.
    pub helpers_cpu: Duration,
    /// What the engine said of its memory meanwhile, or what is wrong with that.
    pub memory: Result<Vec<EngineSample>, String>,
    /// How spans of single operations were timed, and what was allocated; where they were asked for.
    pub span_timing: Option<SpanTiming>,
    pub allocations: Vec<PhaseAllocations>,
    /// The host cannot be used any more.
    pub host_lost: bool,
}

impl Attempt {
    /// One that brought no tokens.
    #[must_use]
    pub fn without_answer(row: RequestRow, host_lost: bool) -> Self {
        let (tokens, spans, ids, choices, allocations) = Default::default();
        let (text, span_timing, memory) = (None, None, Ok(Vec::new()));
        let (spans_dropped, helpers_cpu) = Default::default();
        Self {
            row,
            tokens,
            spans,
            ids,
            text,
            choices,
            spans_dropped,
            helpers_cpu,
            memory,
            span_timing,
            allocations,
            host_lost,
        }
    }
}

/// Runs one generation. Whatever goes wrong with the engine is in the row.
pub fn attempt(
    resident: &mut Resident,
    ask: Ask<'_>,
    origin: &Origin,
    interrupt: &Interrupt,
    on_progress: &mut dyn FnMut(u32),
) -> Attempt {
    let mut row = measure::blank(ask.place, ask.engine);
    row.load_s = resident.load_s.take();
    row.start_ns = origin.t_ns(now_ns());
    let mut reset = None;
    // The turns of a conversation go on with what the first one left.
    if ask.place.turn == 0 && resident.receipt.capabilities.reset {
        if let Err(error) = resident.host.reset() {
            return failed(row, &error, origin);
        }
        let (request, start_ns) = (row.request, row.start_ns);
        reset = Some(SpanRow { request, phase: Phase::Reset, index: 0, start_ns, end_ns: origin.t_ns(now_ns()) });
    }
    // Clocks drift apart: within minutes by more than the stamps' tolerance.
    if let Err(error) = resident.host.resync() {
        return failed(row, &error, origin);
    }
    let pid = resident.host.pid();
    let peak = telemetry::peak::reset(pid);
    let counters = telemetry::counters::Counters::start(pid);
    let helpers_before = telemetry::group::helpers_cpu(pid);
    let cpu_before = telemetry::cpu_time(pid);
    let armed = interrupt.at_second(stopper(resident));
    row.start_ns = origin.t_ns(now_ns());
    let generate = Generate {
        request: ask.request.clone(),
        progress: ask.progress,
        operation_spans: ask.operation_spans,
        forced_sync: ask.forced_sync,
        choices: ask.choices,
    };
    let answer = resident.host.generate(generate, on_progress);
    drop(armed);
    let cpu_after = telemetry::cpu_time(pid);
    let counts = counters.ok().and_then(telemetry::counters::Counters::stop);
    let helpers_after = telemetry::group::helpers_cpu(pid);
    let exchange = match answer {
        Ok(exchange) => exchange,
        Err(error) => return failed(row, &error, origin),
    };
    row.cpu_ms = cpu_before.zip(cpu_after).map(|(before, after)| after.saturating_sub(before).as_secs_f64() * 1e3);
    row.cpu_instructions = counts.map(|counts| counts.instructions);
    row.cpu_cycles = counts.map(|counts| counts.cycles);
    row.peak_rss_bytes = peak.ok().and_then(|peak| peak.read());
    let mut attempt = answered(row, exchange, resident, &ask, origin);
    attempt.spans.splice(0..0, reset);
    attempt.helpers_cpu =
        helpers_before.zip(helpers_after).map(|(before, after)| after.saturating_sub(before)).unwrap_or_default();
    attempt
}

/// What the second Ctrl-C does: cancels the generation; kills the host where that cannot be done, or was not enough.
fn stopper(resident: &Resident) -> impl FnMut(u32) + Send + 'static {
    let canceller = resident.host.canceller();
    let can_cancel = resident.receipt.capabilities.cancel;
    let pid = resident.host.pid();
    move |signals| {
        if signals > 2 || !can_cancel || !canceller.cancel() {
            pool::kill(pid);
        }
    }
}

fn answered(mut row: RequestRow, exchange: Exchange, resident: &Resident, ask: &Ask<'_>, origin: &Origin) -> Attempt {
    let clock = resident.host.clock();
    let receipt = &resident.receipt;
    let stamps = check_stamps(&exchange, clock, ask.request.max_tokens);
    row.start_ns = origin.t_ns(exchange.sent_ns);
    row.end_ns = origin.t_ns(exchange.received_ns);
    let generated = exchange.generated;
    let stamps_hold = stamps.is_ok();
    measure::fill(&mut row, &generated, receipt.token_timing, stamps_hold);
    row.effective = validity::effective(&generated, receipt);
    let asked = Asked {
        cell: ask.cell,
        request: &ask.request,
        choices: ask.choices,
        turn: ask.place.turn,
        allowed: ask.allowed,
    };
    if let Some(fault) = validity::judge(&asked, &generated, receipt, resident.built_in, stamps) {
        row.mark(&fault);
    }
    let memory = match stamps_hold {
        true => engine_samples(&generated, row.host, ask.memory_interval_ms, clock.offset_ns, origin),
        // Their times are worth no more than the others'.
        false => Ok(Vec::new()),
    };
    Attempt {
        memory,
        tokens: measure::token_rows(row.request, &generated, clock.offset_ns, origin),
        spans: measure::span_rows(row.request, &generated.spans, clock.offset_ns, origin),
        row,
        ids: generated.tokens,
        text: generated.text,
        choices: generated.choices.unwrap_or_default(),
        spans_dropped: generated.spans_dropped,
        helpers_cpu: Duration::ZERO,
        span_timing: generated.span_timing,
        allocations: generated.allocations,
        host_lost: false,
    }
}

/// Makes the outcome of an iteration that of all its turns: where one fails or is invalid, the others are no measurement
/// of a whole conversation. A failure counts more than what is invalid, the first invalid turn more than later ones.
pub fn agree(turns: &mut [Attempt]) {
    let of = |status| turns.iter().map(|attempt| &attempt.row).find(|row| row.status == status);
    let Some(row) = of(Status::Failed).or_else(|| of(Status::Invalid)) else { return };
    let Some(cause) = row.cause else { return };
    let fault = Fault::new(cause, format!("turn {}: {}", row.turn, row.reason));
    for attempt in turns {
        attempt.row.mark(&fault);
    }
}

fn failed(mut row: RequestRow, error: &HostError, origin: &Origin) -> Attempt {
    row.mark(&Fault::new(error.cause(), error.summary()));
    row.end_ns = origin.t_ns(now_ns());
    Attempt::without_answer(row, !error.host_is_usable())
}
