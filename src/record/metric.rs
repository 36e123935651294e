//! The metrics that reports show, comparisons test and gates judge: one number per iteration each.
//! To add a metric, add one entry to the table.

use OverTurns::{Highest, Mean, Median, Quantile, Total, Whole};

use super::{GaugeInfo, RequestRow, Status};
use inferometer_protocol::units;
use inferometer_stats::robust;

/// The unit of a metric, which determines its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    TokensPerSecond,
    Milliseconds,
    Seconds,
    Bytes,
    Joules,
    PerSecond,
    Count,
}

impl Unit {
    /// Whether [`Unit::number`] includes the unit.
    #[must_use]
    pub fn is_in_number(self) -> bool {
        matches!(self, Unit::Bytes | Unit::Count)
    }

    /// The unit's symbol; empty for counts.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Unit::TokensPerSecond => "tok/s",
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
            Unit::Bytes => "bytes",
            Unit::Joules => "J",
            Unit::PerSecond => "1/s",
            Unit::Count => "",
        }
    }

    /// A formatted value, without the symbol (bytes include their unit: `1.50 GiB`).
    #[must_use]
    pub fn number(self, value: f64) -> String {
        match self {
            Unit::Bytes => units::bytes(value.max(0.0).round() as u64),
            _ => units::significant(value),
        }
    }

    /// The two formatted values of a range: a common unit is written only after the second.
    #[must_use]
    pub fn range(self, low: f64, high: f64) -> (String, String) {
        let (low, high) = (self.number(low), self.number(high));
        match (low.split_once(' '), high.split_once(' ')) {
            (Some((number, unit)), Some((_, same))) if unit == same => (number.to_owned(), high),
            _ => (low, high),
        }
    }

    /// A formatted value, with the symbol.
    #[must_use]
    pub fn quantity(self, value: f64) -> String {
        match self {
            Unit::Bytes | Unit::Count => self.number(value),
            _ => format!("{} {}", self.number(value), self.symbol()),
        }
    }
}

/// The direction in which a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
}

/// One number per iteration.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name in `summary.json` and CSV, unit included.
    pub key: &'static str,
    /// Name for people.
    pub title: &'static str,
    pub unit: Unit,
    /// The exact definition.
    pub meaning: &'static str,
    /// The value of a measured request; `None` if it was not measured.
    pub of: fn(&RequestRow) -> Option<f64>,
    /// How the values of a conversation's turns are combined into one number per iteration.
    pub over_turns: OverTurns,
    pub better: Better,
    /// A count that is often 0: two values are compared by their difference, never by their ratio.
    pub by_difference: bool,
    /// It depends on when single tokens became readable, which is known only as far as the grade of
    /// the row's token times says. The whole request is checked in any case.
    pub is_token_time: bool,
    /// It is of the gaps between single tokens: an iteration has none if one of its turns had
    /// passes that gave several tokens.
    pub is_gap: bool,
}

/// Combines the turns of a conversation into the number of its iteration. Turns without a value are
/// left out.
#[derive(Debug, Clone, Copy)]
pub enum OverTurns {
    /// Sum over the turns / number of turns.
    Mean,
    /// Median of the turns.
    Median,
    Highest,
    /// This quantile of the requests.
    Quantile(f64),
    /// Of all valid requests together, not one by one.
    Whole(fn(&[&RequestRow]) -> Option<f64>),
    /// For a rate: all work / all time, computed as the mean weighted by each turn's time (or
    /// count).
    Total(fn(&RequestRow) -> Option<f64>),
}

impl Metric {
    /// The cost of a value: the value itself, or for a rate its inverse (seconds per token). A
    /// higher cost is always worse.
    #[must_use]
    pub fn cost(&self, value: f64) -> f64 {
        match self.better {
            Better::Higher => 1.0 / value,
            Better::Lower => value,
        }
    }

    /// The number of an iteration, without token times that are not verified; from its rows: one
    /// row, or one per turn.
    #[must_use]
    pub fn of_iteration(&self, rows: &[&RequestRow]) -> Option<f64> {
        if let Whole(of) = self.over_turns {
            return of(rows).filter(|value| value.is_finite());
        }
        // A request under load that failed has no times; what was measured over the whole iteration
        // stands in its last row, failed or not.
        let answered: Vec<&RequestRow>;
        let rows = match self.over_turns {
            Highest => rows,
            _ => {
                answered = rows.iter().copied().filter(|row| row.status != Status::Failed).collect();
                &answered
            }
        };
        // The gaps of the turns without such passes are not those of the iteration.
        if self.is_gap && rows.iter().any(|row| row.has_passes_of_several_tokens()) {
            return None;
        }
        let trusted = |row: &RequestRow| !self.is_token_time || row.has_token_times();
        if matches!(self.over_turns, Quantile(_)) && !rows.iter().all(|row| row.is_under_load()) {
            return None;
        }
        let value = |row: &RequestRow| (self.of)(row).filter(|v| v.is_finite() && trusted(row));
        if let [row] = rows {
            return value(row);
        }
        let values: Vec<f64> = rows.iter().filter_map(|row| value(row)).collect();
        match self.over_turns {
            Mean if values.is_empty() => None,
            Mean => Some(values.iter().sum::<f64>() / values.len() as f64),
            Median => robust::quantile(&robust::sorted(&values), 0.5),
            Highest => values.into_iter().max_by(f64::total_cmp),
            Quantile(share) => robust::quantile(&robust::sorted(&values), share),
            // Answered above.
            Whole(_) => None,
            Total(weight) => {
                let weighted = rows.iter().filter_map(|row| Some((value(row)?, weight(row)?)));
                let (sum, weights) = weighted.fold((0.0, 0.0), |(sum, all), (v, w)| (sum + v * w, all + w));
                (weights > 0.0).then(|| sum / weights)
            }
        }
    }
}

/// The rows of one cell, grouped by iteration. An iteration's rows are committed together, so they
/// are adjacent.
pub fn iterations<'r, 'a>(rows: &'r [&'a RequestRow]) -> impl Iterator<Item = &'r [&'a RequestRow]> {
    rows.chunk_by(|a, b| a.iteration == b.iteration)
}

fn gaps(row: &RequestRow) -> Option<f64> {
    row.generated_tokens.map(|n| f64::from(n.saturating_sub(1)))
}

fn generated(row: &RequestRow) -> Option<f64> {
    row.generated_tokens.map(f64::from)
}

fn prefilled(row: &RequestRow) -> Option<f64> {
    row.prefill_tokens.map(f64::from)
}

fn drafted(row: &RequestRow) -> Option<f64> {
    row.drafted_tokens.map(f64::from)
}

fn verified(row: &RequestRow) -> Option<f64> {
    row.verify_passes.map(f64::from)
}

fn passes(row: &RequestRow) -> Option<f64> {
    row.decode_passes.map(f64::from)
}

fn count(value: Option<u64>) -> Option<f64> {
    value.map(|n| n as f64)
}

fn per_token(value: Option<f64>, row: &RequestRow) -> Option<f64> {
    let tokens = row.generated_tokens.filter(|n| *n > 0)?;
    Some(value? / f64::from(tokens))
}

/// For rates higher is better, for everything else lower, unless it says so.
macro_rules! metric {
    ($key:literal, $title:literal, TokensPerSecond, $over:expr, $meaning:literal, $of:expr) => {
        metric!($key, $title, TokensPerSecond, $over, $meaning, $of, Higher)
    };
    ($key:literal, $title:literal, $unit:ident, $over:expr, $meaning:literal, $of:expr) => {
        metric!($key, $title, $unit, $over, $meaning, $of, Lower)
    };
    ($key:literal, $title:literal, $unit:ident, $over:expr, $meaning:literal, $of:expr, $better:ident) => {
        Metric {
            key: $key,
            title: $title,
            unit: Unit::$unit,
            meaning: $meaning,
            of: $of,
            over_turns: $over,
            better: Better::$better,
            by_difference: false,
            is_token_time: false,
            is_gap: false,
        }
    };
}

/// A time of the requests under load.
const fn under_load(
    key: &'static str,
    title: &'static str,
    meaning: &'static str,
    share: f64,
    of: fn(&RequestRow) -> Option<f64>,
) -> Metric {
    Metric {
        key,
        title,
        unit: Unit::Milliseconds,
        meaning,
        of,
        over_turns: Quantile(share),
        better: Better::Lower,
        by_difference: false,
        is_token_time: false,
        is_gap: false,
    }
}

/// Tokens as the server counts them, if it sends several at a time.
fn tokens_of(row: &RequestRow) -> Option<f64> {
    row.counted_tokens.or(row.generated_tokens).map(f64::from)
}

/// A number of the requests under load as a rate over the time of all of them, failed ones
/// included.
fn per_second(rows: &[&RequestRow], number: f64) -> Option<f64> {
    let began = rows.iter().filter_map(|row| row.intended_ns).min()?;
    let ended = rows.iter().map(|row| row.end_ns).max()?;
    let seconds = ended.checked_sub(began).filter(|ns| *ns > 0)? as f64 / 1e9;
    Some(number / seconds)
}

/// The same metric, compared by differences.
const fn by_difference(metric: Metric) -> Metric {
    Metric { by_difference: true, ..metric }
}

/// The same metric, of when single tokens became readable.
const fn token_time(metric: Metric) -> Metric {
    Metric { is_token_time: true, ..metric }
}

/// The same metric, of the gaps between single tokens.
const fn gap(metric: Metric) -> Metric {
    Metric { is_gap: true, ..token_time(metric) }
}

pub const PREFILL_TPS: &str = "prefill_tps";
pub const DECODE_TPS: &str = "decode_tps";
pub const E2E_MS: &str = "e2e_ms";
pub const TTFT_MS: &str = "ttft_ms";
pub const ITL_P50_MS: &str = "itl_p50_ms";
pub const ITL_P99_MS: &str = "itl_p99_ms";
pub const ACCEPTANCE_RATE: &str = "acceptance_rate";
pub const ACCEPTED_LENGTH: &str = "accepted_length";
pub const TOKENS_PER_PASS: &str = "tokens_per_pass";
pub const PEAK_RSS_BYTES: &str = "peak_rss_bytes";
/// The metrics of peak memory, the best first. A system measures one of them.
pub const PEAK_MEMORY: [&str; 3] = [PEAK_RSS_BYTES, "peak_footprint_bytes", "peak_sampled_bytes"];
/// Of an iteration under load.
pub const REQUESTS_PER_S: &str = "requests_per_s";
/// A metric of a host, not of an iteration: summarized over the hosts that ran the cell.
pub const LOAD_S: &str = "load_s";

/// Every metric of an iteration, in the order of the tables.
pub const METRICS: &[Metric] = &[
    token_time(metric!(
        "prefill_tps",
        "Prefill",
        TokensPerSecond,
        Total(|r| r.prefill_ms),
        "prompt tokens computed / time in prefill",
        |r| { r.prefill_tps }
    )),
    token_time(metric!(
        "decode_tps",
        "Decode",
        TokensPerSecond,
        Total(|r| r.decode_ms),
        "(N-1) / time from first to last token",
        |r| { r.decode_tps }
    )),
    token_time(metric!("ttft_ms", "TTFT", Milliseconds, Mean, "request accepted to first token readable", |r| r
        .since_start(r.ttft_ms))),
    token_time(metric!(
        "tpot_ms",
        "TPOT",
        Milliseconds,
        Total(gaps),
        "mean gap between tokens, first token excluded",
        |r| r.tpot_ms
    )),
    gap(metric!("itl_p50_ms", "ITL p50", Milliseconds, Median, "median gap between tokens of a request", |r| r
        .itl_p50_ms)),
    gap(metric!("itl_p95_ms", "ITL p95", Milliseconds, Median, "95th percentile of a request's gaps", |r| r.itl_p95_ms)),
    gap(metric!("itl_p99_ms", "ITL p99", Milliseconds, Median, "99th percentile of a request's gaps", |r| r.itl_p99_ms)),
    gap(metric!("itl_max_ms", "ITL max", Milliseconds, Highest, "longest gap of an iteration", |r| r.itl_max_ms)),
    metric!("e2e_ms", "End to end", Milliseconds, Mean, "request accepted to last token", |r| r.since_start(r.e2e_ms)),
    metric!("tokenize_ms", "Tokenize", Milliseconds, Mean, "time in the tokenizer", |r| r.tokenize_ms),
    metric!("peak_rss_bytes", "Peak memory", Bytes, Highest, "the kernel's high-water mark of resident memory", |r| {
        count(r.peak_rss_bytes)
    }),
    metric!(
        "peak_footprint_bytes",
        "Peak footprint",
        Bytes,
        Highest,
        "the kernel's high-water mark of the footprint",
        |r| { count(r.peak_footprint_bytes) }
    ),
    metric!(
        "peak_sampled_bytes",
        "Peak sampled",
        Bytes,
        Highest,
        "highest sample of the process's memory; misses peaks between samples",
        |r| { count(r.peak_sampled_bytes) }
    ),
    metric!(
        "engine_peak_bytes",
        "Engine peak",
        Bytes,
        Highest,
        "the engine's own peak counter; MLX's leaves out its buffer cache",
        |r| { count(r.engine_peak_bytes) }
    ),
    metric!("kv_cache_bytes", "KV cache", Bytes, Highest, "bytes held by KV caches after the request", |r| {
        count(r.kv_cache_bytes)
    }),
    metric!(
        "cpu_ms_per_token",
        "CPU time a token",
        Milliseconds,
        Total(generated),
        "CPU time of the whole request (all threads) / generated tokens",
        |r| per_token(r.cpu_ms, r)
    ),
    metric!(
        "cpu_instructions_per_token",
        "Instructions a token",
        Count,
        Total(generated),
        "instructions of the whole request / generated tokens",
        |r| per_token(count(r.cpu_instructions), r)
    ),
    metric!(
        "cpu_cycles_per_token",
        "Cycles a token",
        Count,
        Total(generated),
        "cycles of the whole request / generated tokens",
        |r| per_token(count(r.cpu_cycles), r)
    ),
    token_time(metric!(
        "prefill_j_per_token",
        "Prefill energy",
        Joules,
        Total(prefilled),
        "energy of the prefill phase / prompt tokens computed",
        |r| Some(r.prefill_energy_j? / prefilled(r).filter(|n| *n > 0.0)?)
    )),
    token_time(metric!(
        "decode_j_per_token",
        "Decode energy",
        Joules,
        Total(gaps),
        "energy from first to last token / (N-1)",
        |r| Some(r.decode_energy_j? / gaps(r).filter(|n| *n > 0.0)?)
    )),
    metric!(
        "acceptance_rate",
        "Acceptance rate",
        Count,
        Total(drafted),
        "accepted / drafted tokens of speculative decoding",
        |r| Some(f64::from(r.accepted_tokens?) / drafted(r).filter(|n| *n > 0.0)?),
        Higher
    ),
    metric!(
        "accepted_length",
        "Accepted length",
        Count,
        Total(verified),
        "accepted tokens / passes over drafted tokens",
        |r| Some(f64::from(r.accepted_tokens?) / verified(r).filter(|n| *n > 0.0)?),
        Higher
    ),
    metric!(
        "tokens_per_pass",
        "Tokens a pass",
        Count,
        Total(passes),
        "(N-1) / forward passes after the first token, with drafted tokens or without",
        |r| Some(gaps(r)? / passes(r).filter(|n| *n > 0.0)?),
        Higher
    ),
    // Only the last row of an iteration has these values.
    by_difference(metric!(
        "memory_cycles",
        "Memory cycles",
        Count,
        Highest,
        "how often memory rose and fell within an iteration",
        |r| r.memory_cycles.map(f64::from)
    )),
    by_difference(metric!(
        "memory_swing_bytes",
        "Largest memory cycle",
        Bytes,
        Highest,
        "the largest of an iteration's memory cycles, 0 where there are none",
        |r| count(r.memory_swing_bytes)
    )),
    by_difference(metric!(
        "memory_reclaimed_bytes",
        "Memory reclaimed",
        Bytes,
        Highest,
        "sum of the falls of memory within an iteration",
        |r| count(r.memory_reclaimed_bytes)
    )),
    metric!(
        "requests_per_s",
        "Requests",
        PerSecond,
        Whole(|rows| per_second(rows, rows.iter().filter(|row| row.status != Status::Failed).count() as f64)),
        "under load: answered requests / time from the first intended start to the last answer",
        |_| None,
        Higher
    ),
    metric!(
        "total_tps",
        "All tokens",
        TokensPerSecond,
        Whole(|rows| per_second(rows, rows.iter().filter_map(|row| tokens_of(row)).sum())),
        "under load: generated tokens of all requests / the same time",
        |_| None
    ),
    metric!(
        "good_per_s",
        "Goodput",
        PerSecond,
        Whole(|rows| {
            rows.iter().any(|row| row.good.is_some()).then_some(())?;
            per_second(rows, rows.iter().filter(|row| row.good == Some(true)).count() as f64)
        }),
        "under load: requests that met the limits / the same time",
        |_| None,
        Higher
    ),
    token_time(under_load("ttft_p50_ms", "TTFT p50", "median time from intended start to first token", 0.5, |r| {
        r.since_start(r.ttft_ms)
    })),
    token_time(under_load("ttft_p95_ms", "TTFT p95", "95th percentile of these times", 0.95, |r| {
        r.since_start(r.ttft_ms)
    })),
    token_time(under_load("ttft_p99_ms", "TTFT p99", "99th percentile of these times", 0.99, |r| {
        r.since_start(r.ttft_ms)
    })),
    token_time(under_load("tpot_p50_ms", "TPOT p50", "median over the requests of their mean gap", 0.5, |r| r.tpot_ms)),
    token_time(under_load("tpot_p95_ms", "TPOT p95", "95th percentile of these gaps", 0.95, |r| r.tpot_ms)),
    token_time(under_load("tpot_p99_ms", "TPOT p99", "99th percentile of these gaps", 0.99, |r| r.tpot_ms)),
    under_load("e2e_p50_ms", "E2E p50", "median time from intended start to last token", 0.5, |r| {
        r.since_start(r.e2e_ms)
    }),
    under_load("e2e_p95_ms", "E2E p95", "95th percentile of these times", 0.95, |r| r.since_start(r.e2e_ms)),
    under_load("e2e_p99_ms", "E2E p99", "99th percentile of these times", 0.99, |r| r.since_start(r.e2e_ms)),
    under_load("queue_p50_ms", "Queue p50", "median time from intended start to start of prefill", 0.5, |r| r.queue_ms),
    under_load("queue_p95_ms", "Queue p95", "95th percentile of these times", 0.95, |r| r.queue_ms),
];

/// Model loading, as a metric for tables.
pub const LOAD: Metric =
    metric!("load_s", "Load", Seconds, Highest, "opening the model to the first possible request", |_| None);

/// Whether energy is computed from this gauge. Energy uses the power of the components that the
/// machine measures, not of the whole system, which includes screens and fans. Idle power is not
/// subtracted.
#[must_use]
pub fn is_power(gauge: &GaugeInfo) -> bool {
    gauge.absent.is_none() && matches!(gauge.name.as_str(), "cpu_watts" | "dram_watts" | "gpu_watts" | "ane_watts")
}

/// The metric with this key.
#[must_use]
pub fn find(key: &str) -> Option<&'static Metric> {
    METRICS.iter().chain(std::iter::once(&LOAD)).find(|m| m.key == key)
}

/// The metric of peak memory that was measured, by key; the usual one if none was.
#[must_use]
pub fn peak_memory(measured: impl Fn(&str) -> bool) -> &'static str {
    PEAK_MEMORY.into_iter().find(|key| measured(key)).unwrap_or(PEAK_RSS_BYTES)
}

/// Whether a metric of peak memory is one that this system replaces by another: its absence says
/// nothing.
#[must_use]
pub fn is_other_peak(key: &str, measured: impl Fn(&str) -> bool) -> bool {
    PEAK_MEMORY.contains(&key) && !measured(key) && peak_memory(&measured) != key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_found() {
        for (i, m) in METRICS.iter().enumerate() {
            assert!(METRICS[i + 1..].iter().all(|other| other.key != m.key), "{} twice", m.key);
        }
        for key in [PREFILL_TPS, DECODE_TPS, TTFT_MS, ITL_P50_MS, ITL_P99_MS, PEAK_RSS_BYTES, LOAD_S] {
            assert_eq!(find(key).unwrap().key, key);
        }
    }

    #[test]
    fn a_higher_cost_is_always_worse() {
        for metric in METRICS {
            let worse = if metric.better == Better::Higher { 2.0 } else { 5.0 };
            let better = 7.0 - worse;
            assert!(metric.cost(worse) > metric.cost(better), "{}", metric.key);
        }
    }

    #[test]
    fn a_turn_that_accepted_a_draft_leaves_its_iteration_without_gaps() {
        let turn = |itl, accepted| RequestRow {
            decode_tps: Some(50.0),
            decode_ms: Some(100.0),
            itl_p50_ms: itl,
            itl_p95_ms: itl,
            itl_p99_ms: itl,
            itl_max_ms: itl,
            accepted_tokens: accepted,
            ..RequestRow::default()
        };
        let (plain, drafted, none) = (turn(Some(20.0), None), turn(None, Some(3)), turn(Some(20.0), Some(0)));
        for key in ["itl_p50_ms", "itl_p95_ms", "itl_p99_ms", "itl_max_ms"] {
            let of = |rows: &[&RequestRow]| find(key).unwrap().of_iteration(rows);
            assert_eq!(of(&[&plain, &none]), Some(20.0), "{key}: no draft was accepted");
            assert_eq!(of(&[&plain, &drafted]), None, "{key}");
        }
        assert_eq!(find(DECODE_TPS).unwrap().of_iteration(&[&plain, &drafted]), Some(50.0), "a rate over all passes");
    }

    #[test]
    fn quantities_carry_their_unit_once() {
        assert_eq!(Unit::TokensPerSecond.quantity(24.53), "24.5 tok/s");
        assert_eq!(Unit::Bytes.quantity(1536.0 * 1024.0), "1.50 MiB");
        assert_eq!(Unit::Count.quantity(7.0), "7.00");
        let mib = 1_048_576.0;
        assert_eq!(Unit::Bytes.range(2.0 * mib, 3.0 * mib), ("2.00".to_owned(), "3.00 MiB".to_owned()));
        assert_eq!(Unit::Bytes.range(2.0, 3.0 * mib), ("2 B".to_owned(), "3.00 MiB".to_owned()));
    }
}
