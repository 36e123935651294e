//! Oscillation of memory: cycles by rainflow counting, reclaimed memory, plateau level and leaks.
//!
//! A pure function of (seconds, bytes) pairs. The number of cycles depends on the smallest counted
//! swing, h, so it is given at the measured h and at 1, 2 and 5 % of the peak.

mod rainflow;

use serde::{Deserialize, Serialize};

pub use rainflow::{Cycle, cycles, turning_points};

use super::robust;

/// Smaller swings never count, whatever the peak: allocators and the kernel cause them on their
/// own.
pub const LEAST_SWING: f64 = 16.0 * 1024.0 * 1024.0;
/// h is at least this share of the peak.
pub const LEAST_SHARE: f64 = 0.01;
/// h is at least this many times the jitter of an idle stretch.
pub const JITTERS: f64 = 6.0;
/// Shares of the peak at which cycles are also counted.
pub const SHARES: [f64; 3] = [0.01, 0.02, 0.05];
/// Samples per cycle needed for a reliable count.
pub const SAMPLES_PER_CYCLE: f64 = 10.0;
/// Fewer samples give neither a rate of cycles nor a slope.
pub const LEAST_SAMPLES: usize = 20;
/// Nothing can be sampled more often.
const SHORTEST_INTERVAL_S: f64 = 1e-3;
/// Most points for a slope; longer series are thinned by medians of neighbours.
const MOST_POINTS: usize = 400;

/// A sample of a gauge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Seconds since any origin; ascending.
    pub t_s: f64,
    pub bytes: f64,
}

/// Facts about a series that its samples do not contain.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Known {
    /// The gauge's jitter while idle, see [`jitter`]; `None` without an idle stretch.
    pub jitter_bytes: Option<f64>,
    /// Where the plateau begins; `None`: at the first sample.
    pub warm_from_s: Option<f64>,
    /// The shortest cycle of interest, such as the duration of a turn.
    pub shortest_cycle_s: Option<f64>,
    /// Swings below this never count; `None`: [`LEAST_SWING`], which is right for bytes only.
    pub least_swing: Option<f64>,
}

/// What a series shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// At least one whole cycle of h or more.
    Oscillates,
    /// None, and the samples are close enough to see one.
    Steady,
    /// Fewer than [`LEAST_SAMPLES`].
    TooFewSamples,
    /// None, but the samples are too far apart to see one.
    TooCoarse,
}

/// Analysis of a memory gauge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Oscillation {
    pub samples: usize,
    /// From the first to the last sample.
    pub duration_s: f64,
    pub peak_bytes: f64,
    pub least_bytes: f64,
    /// Cycles at h = max(16 MiB, 1 % of peak, 6 x jitter).
    pub counted: Count,
    /// Cycles at h = 1, 2 and 5 % of the peak.
    pub by_share: [Count; 3],
    /// Sum of all falls of h or more.
    pub reclaimed_bytes: f64,
    /// Reclaimed / (peak - minimum): how often the whole range was released. `None` for a constant
    /// series.
    pub churn: Option<f64>,
    /// After the warm-up; `None` with fewer than three samples there.
    pub plateau: Option<Plateau>,
    pub sampling: Sampling,
}

/// Cycles of at least h.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// Smallest counted swing.
    pub h_bytes: f64,
    /// Whole cycles: full ones, plus one for every two halves. A single rise or fall left over does
    /// not count.
    pub cycles: usize,
    /// `None` with fewer than [`LEAST_SAMPLES`].
    pub per_minute: Option<f64>,
    /// Closed loops.
    pub full: usize,
    /// Rises or falls that never closed: a ramp, a teardown, every tooth of a plain sawtooth.
    pub half: usize,
    /// 95th percentile and largest range: of the full cycles, or of all if the halves contribute
    /// more to the count.
    pub range_p95_bytes: Option<f64>,
    pub range_largest_bytes: Option<f64>,
    /// Largest range of the halves.
    pub half_largest_bytes: Option<f64>,
}

/// The level at which a series settles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Plateau {
    pub from_s: f64,
    /// Median.
    pub level_bytes: f64,
    /// Median slope between all pairs of samples (Theil-Sen): positive for a leak.
    /// `None` with fewer than [`LEAST_SAMPLES`].
    pub slope_bytes_per_s: Option<f64>,
}

/// Whether samples are frequent enough to see the cycles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Median time between neighbours.
    pub interval_s: f64,
    pub longest_gap_s: f64,
    /// The shorter of the cycle of interest and the mean cycle found; `None` if there is neither.
    pub cycle_s: Option<f64>,
    /// Whether there are at least ten samples per cycle.
    pub enough: bool,
}

impl Oscillation {
    #[must_use]
    pub fn finding(&self) -> Finding {
        match () {
            () if self.samples < LEAST_SAMPLES => Finding::TooFewSamples,
            () if self.counted.cycles > 0 => Finding::Oscillates,
            () if !self.sampling.enough => Finding::TooCoarse,
            () => Finding::Steady,
        }
    }
}

impl Sampling {
    /// The warning to show if samples are too infrequent.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let cycle = self.cycle_s.filter(|_| !self.enough)?;
        let needed = cycle / SAMPLES_PER_CYCLE;
        let advice = match needed < SHORTEST_INTERVAL_S {
            true => "such short ones cannot be sampled".to_owned(),
            false => format!("sample at least every {}", time(needed)),
        };
        Some(format!(
            "sampled every {}, but a cycle or the shortest request takes {}: cycles may be missed or appear too small; {advice}",
            time(self.interval_s),
            time(cycle),
        ))
    }
}

/// Three significant digits.
fn time(seconds: f64) -> String {
    let (value, unit) = if seconds >= 1.0 { (seconds, "s") } else { (seconds * 1e3, "ms") };
    let decimals = (2.0 - value.max(1e-6).log10().floor()).clamp(0.0, 8.0) as usize;
    format!("{value:.decimals$} {unit}")
}

/// The unscaled MAD of successive differences of an idle stretch; `None` with fewer than three
/// samples.
#[must_use]
pub fn jitter(idle: &[f64]) -> Option<f64> {
    let steps: Vec<f64> = idle.windows(2).map(|pair| pair[1] - pair[0]).collect();
    robust::summarize(&steps).filter(|_| steps.len() > 1).map(|s| s.mad)
}

/// The smallest counted swing: max(16 MiB or [`Known::least_swing`], 1 % of the peak, 6 x the
/// jitter while idle).
#[must_use]
pub fn hysteresis(peak: f64, known: &Known) -> f64 {
    let least = known.least_swing.unwrap_or(LEAST_SWING);
    least.max(LEAST_SHARE * peak).max(JITTERS * known.jitter_bytes.unwrap_or(0.0))
}

/// Analyses a series of one or more consecutive stretches; no swing spans two stretches. `None` if
/// no stretch has two samples, time does not increase, or a value is not finite.
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
    let counted = count(hysteresis(peak, known));
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

/// From a turning point down to the next one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fall {
    /// Indices of the two samples.
    pub from: usize,
    pub to: usize,
    pub bytes: f64,
}

/// The falls of at least `h` in a stretch.
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
        let samples: usize = parts.iter().map(|part| part.len()).sum();
        let values = |part: &[Sample]| turns(part, h_bytes).into_iter().map(|i| part[i].bytes).collect::<Vec<_>>();
        let apart: Vec<Vec<Cycle>> = parts.iter().map(|part| cycles(&values(part))).collect();
        // Two halves make a cycle only within one stretch.
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
            per_minute: (duration_s > 0.0 && samples >= LEAST_SAMPLES).then(|| whole as f64 * 60.0 / duration_s),
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
    let slope_bytes_per_s = theil_sen(&thinned(&after)).filter(|_| after.len() >= LEAST_SAMPLES);
    Some(Plateau { from_s, level_bytes: level, slope_bytes_per_s })
}

/// Replaces groups of neighbours by their medians if there are too many samples for all pairs.
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

/// The median of the slopes between all pairs (Sen, Journal of the American Statistical Association
/// 63, 1968).
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
        // Tolerance, since timers are late.
        enough: cycle_s.is_none_or(|cycle| interval_s * SAMPLES_PER_CYCLE <= cycle * 1.01),
    }
}

#[cfg(test)]
mod tests;
