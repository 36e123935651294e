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
pub struct Stretches {
    /// Before this the machine was idle: the jitter is measured there.
    pub idle_until_s: Option<f64>,
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

/// The smallest swing that counts: max(16 MiB, 1 % of the peak, 6 x the unscaled MAD of successive differences while idle).
#[must_use]
pub fn hysteresis(peak: f64, idle: &[f64]) -> f64 {
    let steps: Vec<f64> = idle.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let jitter = robust::summarize(&steps).map_or(0.0, |s| s.mad);
    LEAST_SWING.max(LEAST_SHARE * peak).max(JITTERS * jitter)
}

/// Looks at a series; `None` with fewer than two samples, where time does not rise, or where a value is not finite.
#[must_use]
pub fn oscillation(samples: &[Sample], known: &Stretches) -> Option<Oscillation> {
    let (first, last) = (samples.first()?, samples.last()?);
    let sane = samples.iter().all(|s| s.t_s.is_finite() && s.bytes.is_finite());
    if !sane || samples.len() < 2 || samples.windows(2).any(|pair| pair[1].t_s <= pair[0].t_s) {
        return None;
    }
    let values: Vec<f64> = samples.iter().map(|s| s.bytes).collect();
    let peak = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    let idle: Vec<f64> = known
        .idle_until_s
        .map_or_else(Vec::new, |end| samples.iter().take_while(|s| s.t_s < end).map(|s| s.bytes).collect());
    let duration_s = last.t_s - first.t_s;
    let h = hysteresis(peak, &idle);
    let turns = turns(&values, h);
    let counted = Count::of(&turns, h, duration_s);
    let reclaimed: f64 = turns.windows(2).map(|pair| (pair[0] - pair[1]).max(0.0)).sum();
    Some(Oscillation {
        samples: samples.len(),
        duration_s,
        peak_bytes: peak,
        least_bytes: least,
        counted,
        by_share: SHARES.map(|share| Count::of(&self::turns(&values, share * peak), share * peak, duration_s)),
        reclaimed_bytes: reclaimed,
        churn: (peak > least).then(|| reclaimed / (peak - least)),
        plateau: plateau(samples, known.warm_from_s.unwrap_or(first.t_s)),
        sampling: sampling(samples, counted.per_minute, known.shortest_cycle_s),
    })
}

/// Values of the turning points.
fn turns(values: &[f64], h: f64) -> Vec<f64> {
    turning_points(values, h).into_iter().map(|i| values[i]).collect()
}

impl Count {
    fn of(turns: &[f64], h_bytes: f64, duration_s: f64) -> Self {
        let found = cycles(turns);
        let of = |full: bool| -> Vec<f64> { found.iter().filter(|c| c.full == full).map(|c| c.range).collect() };
        let (full, half) = (of(true), of(false));
        let whole = full.len() + half.len() / 2;
        let all = if full.len() >= half.len() / 2 { full.clone() } else { found.iter().map(|c| c.range).collect() };
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

fn sampling(samples: &[Sample], per_minute: Option<f64>, looked_for_s: Option<f64>) -> Sampling {
    let gaps = robust::sorted(&samples.windows(2).map(|pair| pair[1].t_s - pair[0].t_s).collect::<Vec<_>>());
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
