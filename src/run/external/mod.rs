//! Detects whether something outside the engine disturbed an iteration
//! (docs/explanation/method.md#external-causes): from the gauges, or from counters where the
//! iteration is too short for them.

mod causes;
mod counted;
mod look;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use causes::{ExternalCause, Finding, Supply};
use look::{Columns, Look, SAMPLES_AT_LEAST};

pub use counted::OwnUse;
pub use look::Window;

use crate::record::{Fault, GaugeInfo, LoadCheck, TelemetryRow};
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
    /// Iterations of which it is known whether other programs slowed them down.
    judged: u32,
    unjudged: u32,
    seen: BTreeMap<ExternalCause, Seen>,
}

/// The judgement of an iteration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judged {
    /// `None` if nothing disturbed it.
    pub fault: Option<Fault>,
    /// `None` if it took no time.
    pub check: Option<LoadCheck>,
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
            unjudged: 0,
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

    /// Judges a measured iteration after its samples were added.
    pub fn judge(&mut self, iteration: Window, own: &OwnUse) -> Judged {
        if iteration.end_ns <= iteration.start_ns {
            return Judged::default();
        }
        let look = Look { columns: &self.columns, rows: &self.recent, window: iteration };
        let mut found = causes::all(&look, self.cores, own.helpers, &self.supply);
        let check = match (look.mean("system_cpu_percent"), counted::findings(own, self.cores)) {
            (Some(_), _) => LoadCheck::Gauges,
            (None, Some(counted)) => {
                found.extend(counted);
                found.sort_by_key(|finding| finding.cause);
                LoadCheck::Counters
            }
            (None, None) => LoadCheck::Unjudged,
        };
        match check {
            LoadCheck::Unjudged => self.unjudged += 1,
            LoadCheck::Gauges | LoadCheck::Counters => self.judged += 1,
        }
        let fault = fault(&found).filter(|_| self.effect == ExternalCauses::Invalidate);
        for finding in found {
            self.note(finding);
        }
        Judged { fault, check: Some(check) }
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
        let all = self.judged + self.unjudged;
        (self.unjudged > 0).then(|| {
            format!(
                "{} of {all} iterations are unjudged: they are too short for {SAMPLES_AT_LEAST} samples of the gauges, and \
                 the kernel's counters do not tell whether other programs slowed them down; raise `workload.max_tokens`",
                self.unjudged
            )
        })
    }

    /// A sentence about the cause that disturbed most iterations so far, if any did.
    #[must_use]
    pub fn busy(&self) -> Option<String> {
        let (cause, seen) = self.seen.iter().max_by_key(|(_, seen)| seen.iterations)?;
        let most = seen.most.map(|most| format!(" (up to {})", cause.amount(most))).unwrap_or_default();
        let then = match (self.effect, cause) {
            (ExternalCauses::Warn, _) => "the figures may be too slow",
            (ExternalCauses::Invalidate, ExternalCause::OwnSwap) => "such iterations fail",
            (ExternalCauses::Invalidate, _) => {
                "such iterations are rejected; stop with Ctrl-C and run again later, or keep them with \
                 `--set run.external_causes=warn`"
            }
        };
        let (words, iterations, all) = (&seen.words, seen.iterations, self.judged + self.unjudged);
        let advice = cause.advice();
        Some(format!("the run is being disturbed: {words} in {iterations} of {all} iterations{most}: {advice}; {then}"))
    }

    fn sentence(&self, cause: ExternalCause, seen: &Seen) -> String {
        let most = seen.most.map(|most| format!(" (up to {})", cause.amount(most))).unwrap_or_default();
        let effect = match (self.effect, cause) {
            (ExternalCauses::Warn, _) => "they stay valid, but may be too slow",
            (ExternalCauses::Invalidate, ExternalCause::OwnSwap) => "they failed",
            (ExternalCauses::Invalidate, _) => "they are invalid",
        };
        let all = self.judged + self.unjudged;
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
