//! Detects whether something outside the engine disturbed an iteration, from the gauges (METHOD
//! section 2).

mod causes;
mod look;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use causes::{ExternalCause, Finding, Supply};
use look::{Columns, Look, SAMPLES_AT_LEAST};

pub use look::Window;

use crate::record::{Fault, GaugeInfo, TelemetryRow};
use crate::spec::ExternalCauses;

/// How long samples before an iteration are kept: the first stretch of a rate in the iteration
/// starts at one of them.
const KEPT_NS: u64 = 2_000_000_000;

/// Findings of one run segment so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    columns: Columns,
    cores: Option<f64>,
    effect: ExternalCauses,
    /// The latest samples, including some of earlier iterations.
    recent: Vec<TelemetryRow>,
    supply: Supply,
    judged: u32,
    too_short: u32,
    seen: BTreeMap<ExternalCause, Seen>,
}

/// A cause over all iterations of a run segment.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    words: String,
    iterations: u32,
    most: Option<f64>,
}

impl Watch {
    /// `gauges` are the columns of the rows.
    #[must_use]
    pub fn new(gauges: &[GaugeInfo], logical_cores: Option<u32>, effect: ExternalCauses) -> Self {
        Self {
            columns: Columns::of(gauges),
            cores: logical_cores.map(f64::from),
            effect,
            recent: Vec::new(),
            supply: Supply::default(),
            judged: 0,
            too_short: 0,
            seen: BTreeMap::new(),
        }
    }

    /// Adds the samples since the last call.
    pub fn sampled(&mut self, samples: &[TelemetryRow]) {
        if let Some(last) = self.recent.last().map(|row| row.t_ns) {
            self.recent.retain(|row| row.t_ns + KEPT_NS >= last);
        }
        self.recent.extend_from_slice(samples);
        for row in samples {
            let first = |known: &mut Option<f64>, gauge| *known = known.or_else(|| self.columns.value(row, gauge));
            first(&mut self.supply.on_battery, "on_battery");
            first(&mut self.supply.low_power_mode, "low_power_mode");
        }
    }

    /// The latest samples, oldest first: all of the last iteration, and some from before it.
    #[must_use]
    pub fn recent(&self) -> &[TelemetryRow] {
        &self.recent
    }

    /// Judges a measured iteration after its samples were added; `None` if nothing disturbed it.
    /// `helpers` is the CPU time of the host's child processes during the iteration.
    pub fn judge(&mut self, iteration: Window, helpers: Duration) -> Option<Fault> {
        if iteration.end_ns <= iteration.start_ns {
            return None;
        }
        let look = Look { columns: &self.columns, rows: &self.recent, window: iteration };
        if self.columns.has("system_cpu_percent") {
            match look.mean("system_cpu_percent") {
                Some(_) => self.judged += 1,
                None => self.too_short += 1,
            }
        }
        let found = causes::all(&look, self.cores, helpers, &self.supply);
        let fault = fault(&found).filter(|_| self.effect == ExternalCauses::Invalidate);
        for finding in found {
            self.note(finding);
        }
        fault
    }

    fn note(&mut self, Finding { cause, words, amount }: Finding) {
        let seen = self.seen.entry(cause).or_insert(Seen { words: words.clone(), iterations: 0, most: None });
        seen.iterations += 1;
        // The text of the worst iteration, or of the latest.
        seen.words = words;
        seen.most = seen.most.into_iter().chain(amount).reduce(f64::max);
    }

    /// One sentence per cause found in the run segment.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        self.seen.iter().map(|(cause, seen)| self.sentence(*cause, seen)).collect()
    }

    /// A sentence about iterations that could not be judged, if any.
    #[must_use]
    pub fn not_judged(&self) -> Option<String> {
        let all = self.judged + self.too_short;
        (self.too_short > 0).then(|| {
            format!(
                "{} of {all} iterations were too short to be judged for foreign load, stolen time and swapping (fewer than \
                 {SAMPLES_AT_LEAST} samples each): generate more tokens",
                self.too_short
            )
        })
    }

    fn sentence(&self, cause: ExternalCause, seen: &Seen) -> String {
        let most = seen.most.map(|most| format!(" (up to {})", cause.amount(most))).unwrap_or_default();
        let effect = match (self.effect, cause) {
            (ExternalCauses::Warn, _) => "they stay valid, but may be too slow",
            (ExternalCauses::Invalidate, ExternalCause::OwnSwap) => "they failed",
            (ExternalCauses::Invalidate, _) => "they are invalid",
        };
        let all = self.judged + self.too_short;
        format!("{} in {} of {all} iterations{most}: {effect}; {}", seen.words, seen.iterations, cause.advice())
    }
}

/// The fault of an iteration with these findings.
fn fault(found: &[Finding]) -> Option<Fault> {
    let first = found.first()?;
    let words: Vec<&str> = found.iter().map(|finding| finding.words.as_str()).collect();
    let reason = match first.cause {
        ExternalCause::OwnSwap => words[0].to_owned(),
        _ => format!("{} (external cause)", words.join("; ")),
    };
    Some(Fault::new(first.cause.of_record(), reason))
}
