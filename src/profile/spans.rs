//! Time of a phase by spans of single operations.
//!
//! Every moment of a phase belongs to one span: of the open spans, the one that began last. That is
//! its *own* time. Own times add up to the phase; time outside all spans is shown as unaccounted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use inferometer_protocol::{Phase, Span};
use inferometer_stats::robust;

/// The analysed phases.
pub const PHASES: [Phase; 2] = [Phase::Prefill, Phase::Decode];
/// Fewer spans of a kind do not show growth along the generation.
const LEAST_ALONG: usize = 16;

/// One request: its spans and its tokens.
#[derive(Debug, Clone, Copy)]
pub struct Generation<'a> {
    pub spans: &'a [Span],
    /// Computed prompt tokens.
    pub prefill_tokens: u64,
    pub generated_tokens: u64,
}

impl Generation<'_> {
    /// Tokens of a phase. The first generated token belongs to the prefill.
    fn tokens(&self, phase: Phase) -> u64 {
        if phase == Phase::Prefill { self.prefill_tokens } else { self.generated_tokens.saturating_sub(1) }
    }
}

/// Time of one iteration by span, over all its requests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accounting {
    /// Prefill and decode, if they have spans.
    pub phases: Vec<PhaseTime>,
    /// Nanoseconds of every prefill chunk, in order over all requests.
    pub chunks: Vec<u64>,
    /// Operations that occur once per token: nanoseconds of each during decoding, in order.
    pub along: BTreeMap<&'static str, Vec<u64>>,
}

/// A phase of an iteration.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseTime {
    pub phase: Phase,
    pub tokens: u64,
    pub total_ns: u64,
    /// By own time, longest first.
    pub spans: Vec<SpanTime>,
    /// Time outside all spans.
    pub unaccounted_ns: u64,
}

/// All spans of one kind in a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanTime {
    pub span: Phase,
    pub count: u64,
    /// From begin to end, including inner spans.
    pub total_ns: u64,
    /// Without inner spans.
    pub own_ns: u64,
}

/// Analyses one iteration.
#[must_use]
pub fn account(requests: &[Generation<'_>]) -> Accounting {
    let mut accounting = Accounting::default();
    for phase in PHASES {
        let mut time = PhaseTime { phase, tokens: 0, total_ns: 0, spans: Vec::new(), unaccounted_ns: 0 };
        let mut found = false;
        for request in requests {
            for root in request.spans.iter().filter(|span| span.phase == phase) {
                found = true;
                let inside = inside(root, request.spans);
                add(&mut time, root, &inside);
                if phase == Phase::Decode {
                    inside.iter().filter(|span| span.phase != Phase::CacheClear).for_each(|span| {
                        accounting.along.entry(span.phase.name()).or_default().push(duration(span));
                    });
                }
            }
            time.tokens += request.tokens(phase);
        }
        if found {
            time.spans.sort_by_key(|span| (std::cmp::Reverse(span.own_ns), span.span as u8));
            accounting.phases.push(time);
        }
    }
    let chunks = requests.iter().flat_map(|request| request.spans).filter(|span| span.phase == Phase::PrefillChunk);
    accounting.chunks = chunks.map(duration).collect();
    accounting
}

fn duration(span: &Span) -> u64 {
    span.end_ns.saturating_sub(span.start_ns)
}

/// The spans that begin inside `root`, cut at its end, in order of their begin.
fn inside(root: &Span, spans: &[Span]) -> Vec<Span> {
    let mut inside: Vec<Span> = spans
        .iter()
        .filter(|span| !matches!(span.phase, Phase::Load | Phase::Tokenize | Phase::Prefill | Phase::Decode))
        .filter(|span| (root.start_ns..root.end_ns).contains(&span.start_ns) && span.end_ns >= span.start_ns)
        .map(|span| Span { end_ns: span.end_ns.min(root.end_ns), ..*span })
        .collect();
    inside.sort_by_key(|span| (span.start_ns, std::cmp::Reverse(span.end_ns)));
    inside
}

/// Adds a phase span and the spans inside it.
fn add(time: &mut PhaseTime, root: &Span, inside: &[Span]) {
    let (own, rest) = own_times(root, inside);
    time.total_ns += duration(root);
    time.unaccounted_ns += rest;
    for (span, own_ns) in inside.iter().zip(own) {
        let row = match time.spans.iter_mut().find(|row| row.span == span.phase) {
            Some(row) => row,
            None => {
                time.spans.push(SpanTime { span: span.phase, count: 0, total_ns: 0, own_ns: 0 });
                time.spans.last_mut().expect("it was just put there")
            }
        };
        row.count += 1;
        row.total_ns += duration(span);
        row.own_ns += own_ns;
    }
}

/// For each span (sorted by begin), the time in which it is the innermost; and the time in no span.
fn own_times(root: &Span, inside: &[Span]) -> (Vec<u64>, u64) {
    let mut own = vec![0; inside.len()];
    let mut none = 0;
    let mut open: Vec<usize> = Vec::new();
    let mut now = root.start_ns;
    let mut until = |to: u64, open: &mut Vec<usize>| {
        // Close the spans that end before `to`, earliest first.
        while let Some(end) = open.iter().map(|at| inside[*at].end_ns).filter(|end| *end <= to).min() {
            let spent = end.saturating_sub(now);
            *open.last().map_or(&mut none, |at| &mut own[*at]) += spent;
            now = now.max(end);
            open.retain(|at| inside[*at].end_ns > end);
        }
        *open.last().map_or(&mut none, |at| &mut own[*at]) += to.saturating_sub(now);
        now = now.max(to);
    };
    for (at, span) in inside.iter().enumerate() {
        until(span.start_ns, &mut open);
        open.push(at);
    }
    until(root.end_ns, &mut open);
    (own, none)
}

/// Summary of a figure over the profiled iterations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of finite values; `None` without any.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let sorted = robust::sorted(&values);
        Some(Self { median: robust::quantile(&sorted, 0.5)?, min: *sorted.first()?, max: *sorted.last()? })
    }
}

/// Time of a phase over several iterations of the same work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseSummary {
    pub phase: Phase,
    /// Tokens of the phase per iteration: of the prompt, or generated after the first.
    pub tokens: Spread,
    pub total_ms: Spread,
    /// By median own time, longest first.
    pub spans: Vec<SpanSummary>,
    pub unaccounted: Share,
}

/// A part of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub own_ms: Spread,
    /// Own time per token of the phase; absent without tokens.
    pub per_token_us: Option<Spread>,
    /// Own time as a share of the phase, 0 to 1.
    pub share: Option<Spread>,
}

/// The spans of one kind in a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpanSummary {
    pub span: Phase,
    /// Number per iteration.
    pub count: Spread,
    /// From begin to end, including inner spans.
    pub total_ms: Spread,
    #[serde(flatten)]
    pub own: Share,
}

/// Change of an operation's time as the generation gets longer: medians over the quarters of an
/// iteration's decoded tokens, pooled over iterations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Along {
    pub span: Phase,
    pub quarters_us: [f64; 4],
    /// Last quarter divided by the first, minus 1; absent if the first is 0.
    pub growth: Option<f64>,
}

/// Summarizes iterations of the same work, in the order of the first iteration that has phases.
#[must_use]
pub fn phases(iterations: &[Accounting]) -> Vec<PhaseSummary> {
    PHASES
        .into_iter()
        .filter_map(|phase| {
            let times: Vec<&PhaseTime> =
                iterations.iter().filter_map(|one| one.phases.iter().find(|time| time.phase == phase)).collect();
            phase_summary(phase, &times)
        })
        .collect()
}

fn phase_summary(phase: Phase, times: &[&PhaseTime]) -> Option<PhaseSummary> {
    let mut kinds: Vec<Phase> = Vec::new();
    for span in times.iter().flat_map(|time| &time.spans) {
        if !kinds.contains(&span.span) {
            kinds.push(span.span);
        }
    }
    let own = |of: &dyn Fn(&PhaseTime) -> u64| {
        let each = |figure: &dyn Fn(&PhaseTime, f64) -> f64| {
            Spread::of(times.iter().map(|time| figure(time, of(time) as f64)))
        };
        Some(Share {
            own_ms: each(&|_, ns| ns / 1e6)?,
            per_token_us: each(&|time, ns| ns / 1e3 / time.tokens as f64),
            share: each(&|time, ns| ns / time.total_ns as f64),
        })
    };
    let row = |kind: Phase| {
        let of = |time: &PhaseTime| time.spans.iter().find(|span| span.span == kind).copied();
        Some(SpanSummary {
            span: kind,
            count: Spread::of(times.iter().map(|time| of(time).map_or(0, |span| span.count) as f64))?,
            total_ms: Spread::of(times.iter().map(|time| of(time).map_or(0, |span| span.total_ns) as f64 / 1e6))?,
            own: own(&|time| of(time).map_or(0, |span| span.own_ns))?,
        })
    };
    let mut spans: Vec<SpanSummary> = kinds.into_iter().filter_map(row).collect();
    spans.sort_by(|a, b| b.own.own_ms.median.total_cmp(&a.own.own_ms.median));
    Some(PhaseSummary {
        phase,
        tokens: Spread::of(times.iter().map(|time| time.tokens as f64))?,
        total_ms: Spread::of(times.iter().map(|time| time.total_ns as f64 / 1e6))?,
        spans,
        unaccounted: own(&|time| time.unaccounted_ns)?,
    })
}

/// Milliseconds of each prefill chunk, in order, for chunks that all iterations have.
#[must_use]
pub fn chunks(iterations: &[Accounting]) -> Vec<Spread> {
    let all = iterations.iter().map(|one| one.chunks.len()).min().unwrap_or(0);
    (0..all).filter_map(|at| Spread::of(iterations.iter().map(|one| one.chunks[at] as f64 / 1e6))).collect()
}

/// Change of operations along the generation, in the order of their phases.
#[must_use]
pub fn along(iterations: &[Accounting]) -> Vec<Along> {
    let of = |span: Phase| {
        let mut pooled: [Vec<f64>; 4] = Default::default();
        for times in iterations.iter().filter_map(|one| one.along.get(span.name())) {
            if times.len() < LEAST_ALONG {
                continue;
            }
            for (at, ns) in times.iter().enumerate() {
                pooled[at * 4 / times.len()].push(*ns as f64 / 1e3);
            }
        }
        let mut quarters_us = [0.0; 4];
        for (quarter, values) in quarters_us.iter_mut().zip(&pooled) {
            *quarter = robust::quantile(&robust::sorted(values), 0.5)?;
        }
        let growth = (quarters_us[0] > 0.0).then(|| quarters_us[3] / quarters_us[0] - 1.0);
        Some(Along { span, quarters_us, growth })
    };
    Phase::ALL.into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests;
