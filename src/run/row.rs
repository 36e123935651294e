//! Converts the results of a request to its rows in the record. Rows are made only here.

use super::attempt::{Attempt, Reply};
use super::energy::PhaseEnergy;
use super::measure;
use super::memory::Swings;
use crate::origin::Origin;
use crate::record::{Fault, Iteration, RequestRow, SpanRow, TokenRow};

/// What the gauges measured during an iteration.
#[derive(Debug, Default)]
pub struct Gauged {
    /// One per request.
    pub energy: Vec<PhaseEnergy>,
    pub swings: Option<Swings>,
    /// An external cause. A fault of the engine takes precedence.
    pub disturbed: Option<Fault>,
}

/// The rows of an iteration.
#[must_use]
pub fn iteration(attempts: &[Attempt], gauged: &Gauged, origin: &Origin) -> Iteration {
    let mut rows = Iteration::default();
    for (at, attempt) in attempts.iter().enumerate() {
        let energy = gauged.energy.get(at).copied().unwrap_or_default();
        let swings = gauged.swings.filter(|_| at + 1 == attempts.len());
        let fault = attempt.fault.as_ref().or(gauged.disturbed.as_ref());
        rows.requests.push(request(attempt, energy, swings, fault));
        rows.tokens.extend(tokens(attempt, origin));
        rows.spans.extend(spans(attempt, origin));
    }
    rows
}

/// The row of `requests.csv`; `swings` in an iteration's last row only.
fn request(attempt: &Attempt, energy: PhaseEnergy, swings: Option<Swings>, fault: Option<&Fault>) -> RequestRow {
    let (place, usage) = (attempt.place, &attempt.usage);
    let mut row = RequestRow {
        request: place.request,
        warmup: place.warmup,
        cell: place.cell,
        iteration: place.iteration,
        turn: place.turn,
        engine: attempt.engine.clone(),
        host: place.host,
        start_ns: attempt.start_ns,
        end_ns: attempt.end_ns,
        load_s: attempt.load_s,
        cpu_ms: usage.cpu.map(|cpu| cpu.as_secs_f64() * 1e3),
        cpu_instructions: usage.counts.map(|counts| counts.instructions),
        cpu_cycles: usage.counts.map(|counts| counts.cycles),
        peak_rss_bytes: usage.peak_rss_bytes,
        memory_cycles: swings.map(|swings| swings.cycles),
        memory_swing_bytes: swings.map(|swings| swings.largest_bytes),
        memory_reclaimed_bytes: swings.map(|swings| swings.reclaimed_bytes),
        ..RequestRow::default()
    };
    if let Some(Reply { generated, effective, timing, believed, .. }) = &attempt.reply {
        measure::fill(&mut row, generated, *timing, *believed);
        row.effective.clone_from(effective);
        // Without a valid time of the phase, its energy is meaningless.
        row.prefill_energy_j = row.prefill_ms.and(energy.prefill_j);
        row.decode_energy_j = row.decode_ms.and(energy.decode_j);
    }
    if let Some(fault) = fault {
        row.mark(fault);
    }
    row
}

/// Rows of `tokens.csv`.
#[must_use]
pub fn tokens(attempt: &Attempt, origin: &Origin) -> Vec<TokenRow> {
    let of = |reply: &Reply| measure::token_rows(attempt.place.request, &reply.generated, reply.offset_ns, origin);
    attempt.reply.as_ref().map(of).unwrap_or_default()
}

/// Rows of `spans.csv`: the reset before the request, then the spans from the host.
#[must_use]
pub fn spans(attempt: &Attempt, origin: &Origin) -> Vec<SpanRow> {
    let of = |reply: &Reply| measure::span_rows(attempt.place.request, &reply.generated.spans, reply.offset_ns, origin);
    attempt.reset.into_iter().chain(attempt.reply.as_ref().map(of).unwrap_or_default()).collect()
}
