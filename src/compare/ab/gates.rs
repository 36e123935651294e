//! The gates' own verdicts.

use serde::Serialize;

use super::{Evidence, PairJudgement, PilotJudgement, Sides};
use crate::compare::cost::{candidates, log_ratio};
use crate::record::ab::{AbManifest, GateInfo, PairKind};
use crate::record::metric::Metric;
use crate::spec::GateMetric;
use crate::stats::robust::Interval;
use crate::stats::sequential::{self, Decision, LOOKS, Rule, Verdict};
use crate::units::percent_decimals;

/// A gate, what its pairs gave and what follows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateJudgement {
    #[serde(flatten)]
    pub info: GateInfo,
    /// Name of the metric that it was compared by; absent where none was measured.
    pub compared_by: Option<&'static str>,
    /// Each counting pair's number with the mean over the cells of ln(cost_B / cost_A).
    pub x: Vec<(u32, f64)>,
    pub decision: Decision,
    /// Estimate and interval with all pairs there are.
    pub estimate: Option<f64>,
    pub interval: Option<Interval>,
    /// Why it could not be compared.
    pub not_measured: Option<String>,
}

impl GateJudgement {
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.not_measured.is_some() { Verdict::Invalid } else { self.decision.verdict }
    }

    #[must_use]
    pub fn metric(&self) -> GateMetric {
        self.info.gate.metric
    }

    /// D of METHOD section 3.
    #[must_use]
    pub fn bound(&self) -> f64 {
        self.info.least.ln_1p()
    }

    /// `decode`, or `decode (length=8192)`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.info.gate.cells.is_all() {
            true => self.metric().title().to_owned(),
            false => format!("{} ({})", self.metric().title(), self.info.gate.cells),
        }
    }

    /// What this gate says, in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let metric = self.metric();
        let name = self.name();
        if let Some(why) = &self.not_measured {
            return format!("{name} cannot be compared: {why}");
        }
        let (Some(estimate), Some(range)) = (self.estimate, self.interval) else {
            return format!("{name}: {} pairs say nothing yet", self.x.len());
        };
        let effect = change(estimate, metric);
        let range = format!("[{}, {}]", percent(range.lo), percent(range.hi));
        let least = size(self.bound());
        let pairs = self.x.len();
        match self.verdict() {
            Verdict::Regressed | Verdict::Improved => format!("{name} is {effect} {range} after {pairs} pairs"),
            Verdict::Unchanged if self.decision.looks.last().is_some_and(|look| look.detectable) => {
                format!(
                    "{name} differs by less than {least}: {effect} {range} after {pairs} pairs, detectable but below delta"
                )
            }
            Verdict::Unchanged => format!("{name} differs by less than {least} after {pairs} pairs: {effect} {range}"),
            Verdict::Inconclusive => match self.decision.would_decide {
                Some(bound) => format!(
                    "{name} is not settled after {pairs} pairs: {effect} {range}; a delta of {} would have been decided",
                    size_up(bound)
                ),
                None => format!("{name} is not settled after {pairs} pairs: {effect} {range}"),
            },
            _ => format!("{name} is not decided: {effect} {range} after {pairs} pairs"),
        }
    }
}

/// A shift of ln(cost) as people read it: `+3.2 %`.
#[must_use]
pub fn percent(shift: f64) -> String {
    let percent = shift.exp_m1() * 100.0;
    if percent.abs() < 0.005 {
        return "0.0 %".to_owned();
    }
    // What is smaller than two decimals tell is noise in any time.
    format!("{percent:+.*} %", percent_decimals(percent).min(2))
}

/// A bound as people read it: `3.0 %`.
#[must_use]
pub fn size(bound: f64) -> String {
    let percent = bound.exp_m1() * 100.0;
    format!("{percent:.*} %", percent_decimals(percent))
}

/// [`size`] rounded up: of a bound that was just enough, less than it would not be.
#[must_use]
pub fn size_up(bound: f64) -> String {
    let percent = bound.exp_m1() * 100.0;
    let decimals = percent_decimals(percent);
    let scale = 10_f64.powi(decimals as i32);
    // What arithmetic alone has added is not rounded up.
    format!("{:.decimals$} %", (percent * scale - 1e-6).ceil() / scale)
}

/// `3.2 % slower`.
fn change(shift: f64, metric: GateMetric) -> String {
    let word = if shift > 0.0 { metric.worse() } else { metric.better() };
    format!("{} {word}", percent(shift).trim_start_matches(['+', '-']))
}

pub(super) fn judge(evidence: &Evidence<'_>, sides: &Sides<'_>, pairs: &[PairJudgement]) -> Vec<GateJudgement> {
    let counting: Vec<&PairJudgement> = pairs.iter().filter(|pair| pair.counts()).collect();
    let gates = &evidence.manifest.gates;
    gates.iter().map(|info| gate(info, evidence.manifest, sides, &counting)).collect()
}

fn gate(info: &GateInfo, manifest: &AbManifest, sides: &Sides<'_>, pairs: &[&PairJudgement]) -> GateJudgement {
    let gates = manifest.gates.len();
    let measured = compared(info, manifest.settings.resident, sides, pairs);
    let (compared_by, x, not_measured) = match measured {
        Ok((metric, x)) => (Some(metric.key), x, None),
        Err(why) => (None, Vec::new(), Some(why)),
    };
    let values: Vec<f64> = x.iter().map(|(_, x)| *x).collect();
    let decision = sequential::decide(&values, &Rule { gates, bound: info.least.ln_1p() });
    // What was decided at a look is said with the figures of that look.
    let looked = decision.looks.last().filter(|_| decision.verdict != Verdict::NotDecided);
    let (estimate, interval) = match looked {
        Some(look) => (Some(look.estimate), Some(look.interval)),
        None => sequential::estimate(&values, gates).map_or((None, None), |(e, i)| (Some(e), i)),
    };
    GateJudgement { info: info.clone(), compared_by, x, decision, estimate, interval, not_measured }
}

type Compared = (&'static Metric, Vec<(u32, f64)>);

/// Each pair's x by the first metric that was measured in all cells of all pairs.
fn compared(info: &GateInfo, resident: bool, sides: &Sides<'_>, pairs: &[&PairJudgement]) -> Result<Compared, String> {
    if resident && info.gate.metric == GateMetric::Load {
        return Err("hosts that stay load once, which is no sample".to_owned());
    }
    let candidates = candidates(info.gate.metric);
    // What the first look rests on decides: a verdict must not move to another metric later.
    let first = &pairs[..pairs.len().min(LOOKS[0])];
    let all = |metric: &Metric, pairs: &[&PairJudgement]| -> Option<Vec<(u32, f64)>> {
        pairs.iter().map(|pair| Some((pair.row.pair, x_of(metric, &info.cell_ids, sides, pair)?))).collect()
    };
    if let Some(metric) = candidates.iter().copied().find(|metric| all(metric, first).is_some())
        && let Some(x) = all(metric, pairs)
    {
        return Ok((metric, x));
    }
    let names: Vec<&str> = candidates.iter().map(|metric| metric.key).collect();
    Err(format!("{} was not measured in every pair", names.join(" or ")))
}

/// Mean over the cells of ln(cost_B / cost_A).
fn x_of(metric: &Metric, cells: &[u32], sides: &Sides<'_>, pair: &PairJudgement) -> Option<f64> {
    let [(side_a, a), (side_b, b)] = pair.row.iterations();
    let one = |cell: &u32| log_ratio(metric, *cell, (sides.of(side_a), a), (sides.of(side_b), b));
    let all: Option<Vec<f64>> = cells.iter().map(one).collect();
    let all = all?;
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}

/// What the null pairs say of each gate.
pub(super) fn pilot(evidence: &Evidence<'_>, sides: &Sides<'_>, pairs: &[PairJudgement]) -> Vec<PilotJudgement> {
    let null = |pair: &&PairJudgement| pair.row.kind == PairKind::Pilot && pair.outcome == super::PairOutcome::Ok;
    let null: Vec<&PairJudgement> = pairs.iter().filter(null).collect();
    let gates = &evidence.manifest.gates;
    let of = |(gate, info): (usize, &GateInfo)| {
        let x: Vec<f64> = compared(info, evidence.manifest.settings.resident, sides, &null)
            .ok()?
            .1
            .into_iter()
            .map(|(_, x)| x)
            .collect();
        let pilot = sequential::pilot(&x, &Rule { gates: gates.len(), bound: info.least.ln_1p() })?;
        Some(PilotJudgement { gate, x, pilot })
    };
    gates.iter().enumerate().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_changes_and_bounds_are_not_rounded_away() {
        let shifts = [0.032, -0.032, 0.000_5, -0.000_4, 0.0, 1e-9].map(|share: f64| percent(share.ln_1p()));
        assert_eq!(shifts, ["+3.2 %", "-3.2 %", "+0.05 %", "-0.04 %", "0.0 %", "0.0 %"]);
        let sizes = [0.03, 0.005, 0.000_5, 0.000_04].map(|share: f64| size(share.ln_1p()));
        assert_eq!(sizes, ["3.0 %", "0.50 %", "0.050 %", "0.0040 %"]);
    }

    #[test]
    fn a_bound_that_was_just_enough_is_rounded_up() {
        let bounds = [0.03, 0.030_01, 0.032_4, 0.000_501, 0.005].map(|share: f64| size_up(share.ln_1p()));
        assert_eq!(bounds, ["3.0 %", "3.1 %", "3.3 %", "0.051 %", "0.50 %"]);
    }
}
