//! How memory goes up and down: cycles by rainflow counting, what was reclaimed, where it settles and whether it leaks.
//!
//! A pure function of (seconds, bytes) pairs. The number of cycles depends on the smallest swing that counts, h, so it is
//! given at the measured h and at 1, 2 and 5 % of the peak side by side.

mod rainflow;

use serde::{Deserialize, Serialize};

pub use rainflow::{Cycle, cycles, turning_points};

use super::robust;

/// No swing below this counts, whatever the peak: allocators and the kernel move that much for reasons of their own.
pub const LEAST_SWING: f64 = 16.0 * 1024.0 * 1024.0;
/// The share of the peak that h is at least.
pub const LEAST_SHARE: f64 = 0.01;
/// h is so many times the jitter of an idle stretch.
pub const JITTERS: f64 = 6.0;
/// Shares of the peak at which cycles are counted side by side.
pub const SHARES: [f64; 3] = [0.01, 0.02, 0.05];
/// So many samples a cycle needs before its count can be trusted.
pub const SAMPLES_PER_CYCLE: f64 = 10.0;
/// A slope is that of at most so many points; longer series are thinned by medians of neighbours.
const MOST_POINTS: usize = 400;

/// A sample of a gauge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Seconds, from anywhere; rising.
    pub t_s: f64,
    pub bytes: f64,
}

/// What is known of a series beside its samples.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Known {
    /// What the gauge does by itself, see [`jitter`]; `None` where there was no idle stretch to see it.
    pub jitter_bytes: Option<f64>,
    /// The plateau begins here; without it at the first sample.
    pub warm_from_s: Option<f64>,
    /// The shortest cycle looked for, such as the time of a turn.
    pub shortest_cycle_s: Option<f64>,
}

/// What a memory gauge did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Oscillation {
    pub samples: usize,
    /// First to last sample.
    pub duration_s: f64,
    pub peak_bytes: f64,
    pub least_bytes: f64,
    /// Cycles at h = max(16 MiB, 1 % of peak, 6 x jitter).
    pub counted: Count,
    /// Cycles at h = 1, 2 and 5 % of the peak.
    pub by_share: [Count; 3],
    /// Sum of all falls of h or more.
    pub reclaimed_bytes: f64,
    /// Reclaimed / (peak - least): how often the whole range was given back. Absent for a series that never moved.
    pub churn: Option<f64>,
    /// After the warm-up; absent where no three samples lie there.
    pub plateau: Option<Plateau>,
    pub sampling: Sampling,
}

/// Cycles of at least h.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// Smallest swing that counts.
    pub h_bytes: f64,
    /// Whole cycles: full ones, and two halves make one. A rise or fall left over is none.
    pub cycles: usize,
    pub per_minute: Option<f64>,
    /// Closed loops, of which ...
    pub full: usize,
    /// ... and rises or falls that never closed: a ramp, a teardown, every tooth of a plain sawtooth.
    pub half: usize,
    /// 95th percentile and largest range: of the full cycles, or of all where the halves make more of the count.
    pub range_p95_bytes: Option<f64>,
    pub range_largest_bytes: Option<f64>,
    /// Of the halves.
    pub half_largest_bytes: Option<f64>,
}

/// Where a series settles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    pub from_s: f64,
    /// Median.
    pub level_bytes: f64,
    /// Median slope between all pairs of samples (Theil-Sen): a leak where it is above 0.
    pub slope_bytes_per_s: f64,
}

/// Whether the samples are close enough to see the cycles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Median distance of neighbours.
    pub interval_s: f64,
    pub longest_gap_s: f64,
    /// The shorter of the cycle looked for and the mean cycle found; absent where there is neither.
    pub cycle_s: Option<f64>,
    /// Ten samples a cycle or more.
    pub enough: bool,
}

impl Sampling {
    /// What must be said where the samples are too far apart.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let cycle = self.cycle_s.filter(|_| !self.enough)?;
        Some(format!(
            "sampled every {:.3} s, cycles take {:.3} s: there may be more of them, and larger ones; sample at least \
             every {:.3} s",
            self.interval_s,
            cycle,
            cycle / SAMPLES_PER_CYCLE
        ))
    }
}

/// The unscaled MAD of successive differences of an idle stretch; `None` with fewer than three samples.
#[must_use]
pub fn jitter(idle: &[f64]) -> Option<f64> {
    let steps: Vec<f64> = idle.windows(2).map(|pair| pair[1] - pair[0]).collect();
    robust::summarize(&steps).filter(|_| steps.len() > 1).map(|s| s.mad)
}

/// The smallest swing that counts: max(16 MiB, 1 % of the peak, 6 x the jitter while idle).
#[must_use]
pub fn hysteresis(peak: f64, jitter: Option<f64>) -> f64 {
    LEAST_SWING.max(LEAST_SHARE * peak).max(JITTERS * jitter.unwrap_or(0.0))
}

/// Looks at a series that may have been watched in several stretches, one after the other: no swing reaches from one into
/// the next. `None` where no stretch has two samples, where time does not rise, or where a value is not finite.
#[must_use]
pub fn oscillation(stretches: &[&[Sample]], known: &Known) -> Option<Oscillation> {
    let sane = |part: &[Sample]| part.iter().all(|s| s.t_s.is_finite() && s.bytes.is_finite());
    let rises = |part: &[Sample]| part.windows(2).all(|pair| pair[1].t_s > pair[0].t_s);
    if !stretches.iter().all(|part| sane(part) && rises(part)) {
        return None;
    }
    let parts: Vec<&[Sample]> = stretches.iter().copied().filter(|part| part.len() > 1).collect();
    let samples: Vec<Sample> = parts.concat();
    let first = samples.first()?;
    let peak = samples.iter().map(|s| s.bytes).fold(f64::MIN, f64::max);
    let least = samples.iter().map(|s| s.bytes).fold(f64::MAX, f64::min);
    let duration_s = parts.iter().map(|part| part[part.len() - 1].t_s - part[0].t_s).sum();
    let count = |h: f64| Count::of(&parts, h, duration_s);
    let counted = count(hysteresis(peak, known.jitter_bytes));
    let all_falls = parts.iter().flat_map(|part| falls(part, counted.h_bytes));
    let reclaimed = all_falls.fold(0.0, |sum, fall| sum + fall.bytes);
    Some(Oscillation {
        samples: samples.len(),
        duration_s,
        peak_bytes: peak,
        least_bytes: least,
        counted,
        by_share: SHARES.map(|share| count(share * peak)),
        reclaimed_bytes: reclaimed,
        churn: (peak > least).then(|| reclaimed / (peak - least)),
        plateau: plateau(&samples, known.warm_from_s.unwrap_or(first.t_s)),
        sampling: sampling(&parts, counted.per_minute, known.shortest_cycle_s),
    })
}

/// From a turning point down to the next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fall {
    /// Places of the two samples.
    pub from: usize,
    pub to: usize,
    pub bytes: f64,
}

/// The falls of `h` or more in a stretch.
#[must_use]
pub fn falls(samples: &[Sample], h: f64) -> Vec<Fall> {
    let turns = turns(samples, h);
    let fall = |pair: &[usize]| {
        let (from, to) = (pair[0], pair[1]);
        Fall { from, to, bytes: samples[from].bytes - samples[to].bytes }
    };
    turns.windows(2).map(fall).filter(|fall| fall.bytes > 0.0).collect()
}

fn turns(samples: &[Sample], h: f64) -> Vec<usize> {
    turning_points(&samples.iter().map(|s| s.bytes).collect::<Vec<_>>(), h)
}

impl Count {
    fn of(parts: &[&[Sample]], h_bytes: f64, duration_s: f64) -> Self {
        let values = |part: &[Sample]| turns(part, h_bytes).into_iter().map(|i| part[i].bytes).collect::<Vec<_>>();
        let apart: Vec<Vec<Cycle>> = parts.iter().map(|part| cycles(&values(part))).collect();
        // Two halves make a cycle where they belong together: a rise in each of two stretches does not.
        let halves = |part: &Vec<Cycle>| part.iter().filter(|cycle| !cycle.full).count() / 2;
        let paired: usize = apart.iter().map(halves).sum();
        let found: Vec<Cycle> = apart.concat();
        let of = |full: bool| -> Vec<f64> { found.iter().filter(|c| c.full == full).map(|c| c.range).collect() };
        let (full, half) = (of(true), of(false));
        let whole = full.len() + paired;
        let all = if full.len() >= paired { full.clone() } else { found.iter().map(|c| c.range).collect() };
        let ranges = robust::sorted(if whole > 0 { &all } else { &[] });
        Self {
            h_bytes,
            cycles: whole,
            per_minute: (duration_s > 0.0).then(|| whole as f64 * 60.0 / duration_s),
            full: full.len(),
            half: half.len(),
            range_p95_bytes: robust::quantile(&ranges, 0.95),
            range_largest_bytes: ranges.last().copied(),
            half_largest_bytes: half.iter().copied().max_by(f64::total_cmp),
        }
    }
}

fn plateau(samples: &[Sample], from_s: f64) -> Option<Plateau> {
    let after: Vec<Sample> = samples.iter().copied().filter(|s| s.t_s >= from_s).collect();
    if after.len() < 3 {
        return None;
    }
    let level = robust::summarize(&after.iter().map(|s| s.bytes).collect::<Vec<_>>())?.median;
    Some(Plateau { from_s, level_bytes: level, slope_bytes_per_s: theil_sen(&thinned(&after))? })
}

/// Neighbours taken together where there are too many for a slope between each two.
fn thinned(samples: &[Sample]) -> Vec<Sample> {
    let each = samples.len().div_ceil(MOST_POINTS);
    let middle = |part: &[Sample], of: fn(&Sample) -> f64| {
        robust::summarize(&part.iter().map(of).collect::<Vec<_>>()).map(|s| s.median)
    };
    samples
        .chunks(each)
        .filter_map(|part| Some(Sample { t_s: middle(part, |s| s.t_s)?, bytes: middle(part, |s| s.bytes)? }))
        .collect()
}

/// The median of the slopes between all pairs (Sen, Journal of the American Statistical Association 63, 1968).
fn theil_sen(samples: &[Sample]) -> Option<f64> {
    let slopes: Vec<f64> = samples
        .iter()
        .enumerate()
        .flat_map(|(i, a)| samples[i + 1..].iter().map(|b| (b.bytes - a.bytes) / (b.t_s - a.t_s)))
        .collect();
    robust::summarize(&slopes).map(|s| s.median)
}

fn sampling(parts: &[&[Sample]], per_minute: Option<f64>, looked_for_s: Option<f64>) -> Sampling {
    let steps = parts.iter().flat_map(|part| part.windows(2)).map(|pair| pair[1].t_s - pair[0].t_s);
    let gaps = robust::sorted(&steps.collect::<Vec<_>>());
    let interval_s = robust::quantile(&gaps, 0.5).unwrap_or(0.0);
    let found = per_minute.filter(|rate| *rate > 0.0).map(|rate| 60.0 / rate);
    let cycle_s = found.into_iter().chain(looked_for_s).min_by(f64::total_cmp);
    Sampling {
        interval_s,
        longest_gap_s: gaps.last().copied().unwrap_or(0.0),
        cycle_s,
        // A little room, as timers are late.
        enough: cycle_s.is_none_or(|cycle| interval_s * SAMPLES_PER_CYCLE <= cycle * 1.01),
    }
}

#[cfg(test)]
mod tests;
