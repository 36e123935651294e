//! Whether something outside the engine disturbed an iteration, from the gauges that ran anyway (METHOD section 2).

mod causes;
mod look;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use causes::{Cause, Finding, Supply};
use look::{Columns, Look, SAMPLES_AT_LEAST};

pub use look::Window;

use crate::record::{Fault, GaugeInfo, TelemetryRow};
use crate::spec::ExternalCauses;

/// Samples of the time before an iteration are kept for so long: a rate's first value in it begins with one of them.
const KEPT_NS: u64 = 2_000_000_000;

/// What was seen so far in one sitting.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    columns: Columns,
    cores: Option<f64>,
    effect: ExternalCauses,
    /// The latest samples, of iterations before too.
    recent: Vec<TelemetryRow>,
    supply: Supply,
    judged: u32,
    too_short: u32,
    seen: BTreeMap<Cause, Seen>,
}

/// A cause over all iterations of a sitting.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    words: String,
    iterations: u32,
    most: Option<f64>,
}

impl Watch {
    /// Nothing seen yet; `gauges` are the columns of the rows to come.
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

    /// Takes the samples since the last call, whatever they were taken of.
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

    /// The samples taken last, the oldest first: all of the last iteration, and some from before it.
    #[must_use]
    pub fn recent(&self) -> &[TelemetryRow] {
        &self.recent
    }

    /// Judges a measured iteration whose samples were taken; `None` where nothing outside disturbed it. `helpers` is the CPU time
    /// meanwhile of what the host has started.
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
        // Which words: those of the worst, or the latest.
        seen.words = words;
        seen.most = seen.most.into_iter().chain(amount).reduce(f64::max);
    }

    /// A sentence a cause that was seen, of the sitting as a whole.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        self.seen.iter().map(|(cause, seen)| self.sentence(*cause, seen)).collect()
    }

    /// A sentence on iterations of which nothing is known, if there were any.
    #[must_use]
    pub fn not_judged(&self) -> Option<String> {
        let all = self.judged + self.too_short;
        (self.too_short > 0).then(|| {
            format!(
                "{} of {all} iterations were too short to be judged for foreign load, stolen time and swapping (fewer than \
                 {SAMPLES_AT_LEAST} samples within them): generate more tokens",
                self.too_short
            )
        })
    }

    fn sentence(&self, cause: Cause, seen: &Seen) -> String {
        let most = seen.most.map(|most| format!(" (up to {})", cause.amount(most))).unwrap_or_default();
        let effect = match (self.effect, cause) {
            (ExternalCauses::Warn, _) => "they count all the same, and may be too slow",
            (ExternalCauses::Invalidate, Cause::OwnSwap) => "they failed",
            (ExternalCauses::Invalidate, _) => "they are invalid",
        };
        let all = self.judged + self.too_short;
        format!("{} in {} of {all} iterations{most}: {effect}; {}", seen.words, seen.iterations, cause.advice())
    }
}

/// What the external causes found make of an iteration.
fn fault(found: &[Finding]) -> Option<Fault> {
    let first = found.first()?;
    let words: Vec<&str> = found.iter().map(|finding| finding.words.as_str()).collect();
    let reason = match first.cause {
        Cause::OwnSwap => words[0].to_owned(),
        _ => format!("{} (external cause)", words.join("; ")),
    };
    Some(Fault::new(first.cause.of_record(), reason))
}
