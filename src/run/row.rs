//! Converts the results of a request to its rows in the record. Rows are made only here.

use super::attempt::{Attempt, Reply};
use super::energy::PhaseEnergy;
use super::external::Judged;
use super::measure;
use super::memory::Swings;
use crate::origin::Origin;
use crate::record::{Fault, Iteration, RequestRow, SpanRow, Status, TokenRow};
use crate::spec::Limits;
use crate::telemetry::peak::Of;

/// What the gauges measured during an iteration.
#[derive(Debug, Default)]
pub struct Gauged {
    /// One per request.
    pub energy: Vec<PhaseEnergy>,
    pub swings: Option<Swings>,
    /// One per request: the highest sample of the process's memory within it.
    pub sampled: Vec<Option<u64>>,
    /// Whether an external cause disturbed it. A fault of the engine takes precedence.
    pub judged: Judged,
}

/// The rows of an iteration.
#[must_use]
pub fn iteration(attempts: &[Attempt], gauged: &Gauged, origin: &Origin) -> Iteration {
    let mut rows = Iteration::default();
    for (at, attempt) in attempts.iter().enumerate() {
        let energy = gauged.energy.get(at).copied().unwrap_or_default();
        let swings = gauged.swings.filter(|_| at + 1 == attempts.len());
        let fault = attempt.fault.as_ref().or(gauged.judged.fault.as_ref());
        let mut row = request(attempt, energy, swings, fault, origin);
        row.load_check = gauged.judged.check.filter(|_| row.status != Status::Failed);
        row.peak_sampled_bytes = sampled_peak(attempt, gauged.sampled.get(at).copied().flatten());
        rows.requests.push(row);
        rows.tokens.extend(tokens(attempt, origin));
        rows.spans.extend(spans(attempt, origin));
    }
    rows
}

/// Where the kernel has no high-water mark: the highest of the samples within the request and the
/// reading right after it.
fn sampled_peak(attempt: &Attempt, within: Option<u64>) -> Option<u64> {
    let usage = &attempt.usage;
    if usage.peak.is_some() { None } else { within.into_iter().chain(usage.memory_after).max() }
}

/// The row of `requests.csv`; `swings` in an iteration's last row only.
fn request(
    attempt: &Attempt,
    energy: PhaseEnergy,
    swings: Option<Swings>,
    fault: Option<&Fault>,
    origin: &Origin,
) -> RequestRow {
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
        unloaded_bytes: attempt.unloaded_bytes,
        intended_ns: attempt.intended_ns,
        cpu_ms: usage.cpu.map(|cpu| cpu.as_secs_f64() * 1e3),
        cpu_instructions: usage.counts.map(|counts| counts.instructions),
        cpu_cycles: usage.counts.map(|counts| counts.cycles),
        run_queue_ms: usage.waits.map(|waits| waits.waiting.as_secs_f64() * 1e3),
        involuntary_switches: usage.waits.and_then(|waits| waits.preempted),
        peak_rss_bytes: usage.peak.filter(|peak| peak.of == Of::Resident).map(|peak| peak.bytes),
        peak_footprint_bytes: usage.peak.filter(|peak| peak.of == Of::Footprint).map(|peak| peak.bytes),
        memory_cycles: swings.map(|swings| swings.cycles),
        memory_swing_bytes: swings.map(|swings| swings.largest_bytes),
        memory_reclaimed_bytes: swings.map(|swings| swings.reclaimed_bytes),
        ..RequestRow::default()
    };
    if let Some(Reply { generated, effective, timing, believed, offset_ns, .. }) = &attempt.reply {
        measure::fill(&mut row, generated, *timing, *believed);
        if let (Some(intended_ns), true) = (attempt.intended_ns, *believed) {
            measure::wait(&mut row, generated, *offset_ns, (intended_ns, origin));
            row.good = attempt.limits.and_then(|limits| meets(&row, limits));
        }
        row.effective.clone_from(effective);
        // Without a valid time of the phase, its energy is meaningless.
        row.prefill_energy_j = row.prefill_ms.and(energy.prefill_j);
        row.decode_energy_j = row.decode_ms.and(energy.decode_j);
    }
    if attempt.intended_ns.is_some() {
        // What all requests used together is not that of one.
        row.cpu_ms = None;
        (row.cpu_instructions, row.cpu_cycles) = (None, None);
        (row.run_queue_ms, row.involuntary_switches) = (None, None);
        (row.prefill_energy_j, row.decode_energy_j) = (None, None);
    }
    if let Some(fault) = fault {
        row.mark(fault);
    }
    row
}

/// Whether a request meets the limits; `None` without limits, or if a time was not measured.
fn meets(row: &RequestRow, limits: Limits) -> Option<bool> {
    let within = |value: Option<f64>, limit: Option<f64>| match limit {
        None => Some(true),
        Some(limit) => value.map(|value| value <= limit),
    };
    let checks = [
        within(row.since_start(row.ttft_ms), limits.ttft_ms),
        within(row.tpot_ms, limits.tpot_ms),
        within(row.since_start(row.e2e_ms), limits.e2e_ms),
    ];
    let of_tokens = limits.ttft_ms.is_some() || limits.tpot_ms.is_some();
    (!limits.is_empty() && (!of_tokens || row.has_token_times())).then_some(())?;
    checks.into_iter().try_fold(true, |all, one| Some(all && one?))
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

#[cfg(test)]
mod tests {
    use super::super::attempt::Place;
    use super::super::measure::tests::reply;
    use super::*;
    use crate::record::{Cause, LoadCheck, Timing};
    use crate::telemetry::peak::High;
    use inferometer_protocol::Settings;

    fn answered(turn: u32, believed: bool) -> Attempt {
        let place = Place { request: u64::from(turn), warmup: false, cell: 0, iteration: 1, turn, host: 0 };
        let generated = reply(&[13, 15], true);
        let (effective, timing, memory) = (Settings::new(), Timing::Verified, Ok(Vec::new()));
        let reply = Reply { generated, effective, timing, sight: None, believed, offset_ns: 0, memory };
        Attempt { reply: Some(reply), ..Attempt::new(place, "engine", 0) }
    }

    fn rows(attempts: &[Attempt], gauged: &Gauged) -> Vec<RequestRow> {
        iteration(attempts, gauged, &Origin::start()).requests
    }

    #[test]
    fn a_phase_whose_time_is_not_believed_has_no_energy() {
        let energy = PhaseEnergy { prefill_j: Some(2.0), decode_j: Some(3.0) };
        let gauged = Gauged { energy: vec![energy, energy], ..Gauged::default() };
        let rows = rows(&[answered(0, true), answered(1, false)], &gauged);
        assert_eq!((rows[0].prefill_energy_j, rows[0].decode_energy_j), (Some(2.0), Some(3.0)));
        assert_eq!((rows[1].prefill_energy_j, rows[1].decode_energy_j), (None, None));
    }

    #[test]
    fn memory_swings_stand_in_the_last_row_only() {
        let swings = Some(Swings { cycles: 4, largest_bytes: 64, reclaimed_bytes: 256 });
        let rows = rows(&[answered(0, true), answered(1, true)], &Gauged { swings, ..Gauged::default() });
        assert_eq!(
            (rows[0].memory_cycles, rows[0].memory_swing_bytes, rows[0].memory_reclaimed_bytes),
            (None, None, None)
        );
        assert_eq!(
            (rows[1].memory_cycles, rows[1].memory_swing_bytes, rows[1].memory_reclaimed_bytes),
            (Some(4), Some(64), Some(256))
        );
    }

    #[test]
    fn peak_memory_stands_in_the_column_that_says_what_it_is() {
        let row = |peak, memory_after| {
            let mut attempt = answered(0, true);
            (attempt.usage.peak, attempt.usage.memory_after) = (peak, memory_after);
            let gauged = Gauged { sampled: vec![Some(50)], ..Gauged::default() };
            let row = rows(&[attempt], &gauged).remove(0);
            (row.peak_rss_bytes, row.peak_footprint_bytes, row.peak_sampled_bytes)
        };
        assert_eq!(row(Some(High { of: Of::Resident, bytes: 90 }), None), (Some(90), None, None));
        assert_eq!(row(Some(High { of: Of::Footprint, bytes: 90 }), None), (None, Some(90), None));
        assert_eq!(row(None, Some(40)), (None, None, Some(50)), "the highest sample");
        assert_eq!(row(None, Some(60)), (None, None, Some(60)), "the reading after it");
    }

    #[test]
    fn a_fault_of_the_engine_takes_precedence_over_an_external_cause() {
        let fault = Some(Fault::new(Cause::ForeignLoad, "others"));
        let judged = Judged { fault, check: Some(LoadCheck::Counters) };
        let died = Attempt { fault: Some(Fault::new(Cause::Died, "SIGSEGV")), ..answered(1, true) };
        let rows = rows(&[answered(0, true), died], &Gauged { judged, ..Gauged::default() });
        assert_eq!((rows[0].status, rows[0].cause), (Status::Invalid, Some(Cause::ForeignLoad)));
        assert_eq!((rows[1].status, rows[1].cause), (Status::Failed, Some(Cause::Died)));
        assert_eq!((rows[0].load_check, rows[1].load_check), (Some(LoadCheck::Counters), None));
    }
}
