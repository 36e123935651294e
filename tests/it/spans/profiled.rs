//! A simulated record with a profiled pass: operations of an engine whose penalty grows unless it
//! is capped.

use std::path::{Path, PathBuf};

use inferometer::record::profile::ProfileStore;
use inferometer::record::{Iteration, ProfiledIteration, Record, SpanRow, TokenRow};
use inferometer_protocol::{Phase, PhaseAllocations, SpanTiming, Value};

use crate::simulated_run::Simulation;

const US: u64 = 1_000;
const PREFILL_US: u64 = 40_000;
pub const TOKENS: u64 = 64;

/// Two cells, capped and not; three profiled iterations of each.
pub fn record() -> Record {
    let mut record =
        Simulation { caps: vec![0, 768], lengths: vec![2048], iterations: 3, ..Simulation::default() }.record();
    let mut now = record.requests.last().unwrap().end_ns + 1000 * US;
    let cells = record.manifest.plan.cells.clone();
    for iteration in 1..=3 {
        for cell in &cells {
            let mut row = record.requests.iter().find(|row| row.cell == cell.id && !row.warmup).unwrap().clone();
            row.request = record.profile.requests.len() as u64;
            row.iteration = iteration;
            row.start_ns = now;
            let uncapped = cell.toggles["repetition_window_cap"] == Value::Int(0);
            now = request(&mut record, row.request, now + 100 * US, uncapped) + 200 * US;
            row.end_ns = now;
            record.profile.iterations.push(ProfiledIteration {
                cell: cell.id,
                iteration,
                request: row.request,
                host: 0,
                prefill_tokens: 2048,
                generated_tokens: TOKENS,
                span_timing: Some(SpanTiming::Done),
                allocations: vec![
                    PhaseAllocations { phase: Phase::Prefill, allocations: 4096, bytes: 2048 << 10 },
                    PhaseAllocations {
                        phase: Phase::Decode,
                        allocations: 63 * (40 + u64::from(iteration)),
                        bytes: 63 << 11,
                    },
                ],
                profile: None,
                missing: None,
            });
            record.profile.requests.push(row);
            now += 500 * US;
        }
    }
    record
}

/// Spans and tokens of a request: four chunks, then for each token forward 8 ms, penalty 1 ms and
/// more, sample 0.25 ms, detokenize 20 µs, and 130 µs that no span holds.
fn request(record: &mut Record, request: u64, start: u64, uncapped: bool) -> u64 {
    let mut spans = Vec::new();
    let mut tokens = Vec::new();
    let mut span = |phase, index: u64, from: u64, to: u64| {
        spans.push(SpanRow { request, phase, index: index as u32, start_ns: from, end_ns: to });
    };
    let prefill_end = start + PREFILL_US * US;
    span(Phase::Prefill, 0, start, prefill_end);
    for chunk in 0..4 {
        let from = start + chunk * PREFILL_US / 4 * US;
        span(Phase::PrefillChunk, chunk, from, from + PREFILL_US / 4 * US);
        span(Phase::Forward, chunk, from + 100 * US, from + 9_000 * US);
    }
    let mut token =
        |index: u64, t_ns| tokens.push(TokenRow { request, index: index as u32, id: Some(7 + index as u32), t_ns });
    token(0, prefill_end - 50 * US);
    let decode_start = prefill_end + 10 * US;
    let mut now = decode_start;
    let mut steps = Vec::new();
    for index in 1..TOKENS {
        let grown = if uncapped { index * 30 } else { 0 };
        for (phase, us) in
            [(Phase::Forward, 8000), (Phase::Penalty, 1000 + grown), (Phase::Sample, 250), (Phase::Detokenize, 20)]
        {
            if phase == Phase::Detokenize {
                token(index, now);
            }
            steps.push((phase, index, now, now + us * US));
            now += us * US;
        }
        now += 130 * US;
    }
    span(Phase::Decode, 0, decode_start, now);
    steps.into_iter().for_each(|(phase, index, from, to)| span(phase, index + 3, from, to));
    record.profile.spans.extend(spans);
    record.profile.tokens.extend(tokens);
    now
}

/// Puts the record on disk, its profiled pass too; gives its folder.
pub fn save(record: &Record, results: &Path) -> PathBuf {
    let folder = crate::simulated_run::save(record, results);
    let mut store = ProfileStore::open(&folder).unwrap();
    let profile = &record.profile;
    for (row, iteration) in profile.requests.iter().zip(&profile.iterations) {
        let rows = Iteration {
            tokens: profile.tokens.iter().filter(|token| token.request == row.request).copied().collect(),
            spans: profile.spans.iter().filter(|span| span.request == row.request).copied().collect(),
            telemetry: Vec::new(),
            requests: vec![row.clone()],
        };
        store.commit(&rows, iteration).unwrap();
    }
    folder
}
