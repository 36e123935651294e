//! Where the time of a token goes: the spans and allocations of the profiled pass, cell by cell.

use serde::{Deserialize, Serialize};

use crate::profile::spans;
use crate::profile::spans::{Accounting, Along, Generation, PhaseSummary, Spread};
use crate::record::{ProfiledIteration, Record, RequestRow, Status};
use inferometer_protocol::{Phase, Span, SpanTiming};

/// The profiled iterations of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellSpans {
    pub cell: u32,
    pub iterations: u32,
    /// How the spans of single operations were timed; null if the engine records none.
    pub timing: Option<SpanTiming>,
    /// Prefill and decode, if the engine reports them.
    pub phases: Vec<PhaseSummary>,
    /// Milliseconds of each prefill chunk, in order over all turns.
    pub chunks_ms: Vec<Spread>,
    /// How operations change along the generation.
    pub along: Vec<Along>,
    /// By phase; empty if the host does not count allocations.
    pub allocations: Vec<AllocationSummary>,
}

/// The host's allocations in a phase, per token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AllocationSummary {
    pub phase: Phase,
    pub per_token: Spread,
    pub bytes_per_token: Spread,
}

/// One for each cell with a successful profiled iteration, in the plan's order.
#[must_use]
pub fn cells(record: &Record) -> Vec<CellSpans> {
    record.manifest.plan.cells.iter().filter_map(|cell| of_cell(record, cell.id)).collect()
}

fn of_cell(record: &Record, cell: u32) -> Option<CellSpans> {
    let mut iterations: Vec<(&ProfiledIteration, Vec<&RequestRow>)> = record
        .profile
        .iterations
        .iter()
        .filter(|one| one.cell == cell)
        .map(|one| (one, rows(record, one)))
        .filter(|(_, rows)| !rows.is_empty() && rows.iter().all(|row| row.status == Status::Ok))
        .collect();
    // Timings are never mixed: only iterations timed like the first one count.
    let timing = iterations.first()?.0.span_timing;
    iterations.retain(|(one, _)| one.span_timing == timing);
    let accounts: Vec<Accounting> = iterations.iter().map(|(_, rows)| account(record, rows)).collect();
    Some(CellSpans {
        cell,
        iterations: u32::try_from(iterations.len()).unwrap_or(u32::MAX),
        timing,
        phases: spans::phases(&accounts),
        chunks_ms: spans::chunks(&accounts),
        along: spans::along(&accounts),
        allocations: spans::PHASES.into_iter().filter_map(|phase| allocations(phase, &iterations)).collect(),
    })
}

/// The requests of a profiled iteration.
pub(super) fn rows<'a>(record: &'a Record, one: &ProfiledIteration) -> Vec<&'a RequestRow> {
    record.profile.rows(one)
}

fn account(record: &Record, rows: &[&RequestRow]) -> Accounting {
    let spans: Vec<Vec<Span>> = rows
        .iter()
        .map(|row| {
            let own = record.profile.spans.iter().filter(|span| span.request == row.request);
            own.map(|s| Span { phase: s.phase, index: s.index, start_ns: s.start_ns, end_ns: s.end_ns }).collect()
        })
        .collect();
    let generations: Vec<Generation<'_>> = rows
        .iter()
        .zip(&spans)
        .map(|(row, spans)| Generation {
            spans,
            prefill_tokens: row.prefill_tokens.unwrap_or(0).into(),
            generated_tokens: row.generated_tokens.unwrap_or(0).into(),
        })
        .collect();
    spans::account(&generations)
}

fn allocations(phase: Phase, iterations: &[(&ProfiledIteration, Vec<&RequestRow>)]) -> Option<AllocationSummary> {
    let each = |figure: &dyn Fn(u64, u64) -> u64| {
        Spread::of(iterations.iter().flat_map(|(one, rows)| {
            let tokens = match phase {
                Phase::Prefill => one.prefill_tokens,
                // The first token of each turn comes with the prefill.
                _ => one.generated_tokens.saturating_sub(rows.len() as u64),
            };
            let counted = one.allocations.iter().find(|counted| counted.phase == phase)?;
            (tokens > 0).then(|| figure(counted.allocations, counted.bytes) as f64 / tokens as f64)
        }))
    };
    Some(AllocationSummary { phase, per_token: each(&|n, _| n)?, bytes_per_token: each(&|_, bytes| bytes)? })
}
