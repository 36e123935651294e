//! The verdict of each gate.

use serde::Serialize;

use super::{Evidence, PairJudgement, PilotJudgement, Sides};
use crate::compare::cost::{Iterations, candidates, shift};
use crate::record::ab::{AbManifest, GateInfo, PairKind};
use crate::record::metric::Metric;
use crate::spec::{GateMetric, Scale};
use inferometer_stats::robust::Interval;
use inferometer_stats::sequential;
use inferometer_stats::sequential::{Decision, LOOKS, Rule, Verdict};

/// A gate, its pairs' values and its verdict.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateJudgement {
    #[serde(flatten)]
    pub info: GateInfo,
    /// Name of the compared metric; `None` if none was measured.
    pub compared_by: Option<&'static str>,
    /// Scale of x, estimate, interval and looks: logarithms of cost ratios, or differences of
    /// counts or bytes.
    pub scale: Scale,
    /// Number of each valid pair, with the mean over the cells of ln(cost_B / cost_A), or of B - A.
    pub x: Vec<(u32, f64)>,
    pub decision: Decision,
    /// Estimate and interval over all pairs so far.
    pub estimate: Option<f64>,
    pub interval: Option<Interval>,
    /// Why the gate could not be compared.
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

    /// D of docs/explanation/method.md#looks.
    #[must_use]
    pub fn bound(&self) -> f64 {
        self.scale.bound(self.info.least)
    }

    /// `decode`, or `decode (length=8192)`.
    #[must_use]
    pub fn name(&self) -> String {
        match self.info.gate.cells.is_all() {
            true => self.metric().title().to_owned(),
            false => format!("{} ({})", self.metric().title(), self.info.gate.cells),
        }
    }

    /// The gate's result as a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let metric = self.metric();
        let name = self.name();
        if let Some(why) = &self.not_measured {
            return format!("{name} cannot be compared: {why}");
        }
        let (Some(estimate), Some(range)) = (self.estimate, self.interval) else {
            return format!("{name}: {} pairs are too few for a first look", self.x.len());
        };
        let scale = self.scale;
        let word = if estimate > 0.0 { metric.worse() } else { metric.better() };
        let effect = format!("{} {word}", scale.change(estimate).trim_start_matches(['+', '-']));
        let range = format!("[{}, {}]", scale.change(range.lo), scale.change(range.hi));
        let least = scale.size(self.bound());
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
                    "{name} is not settled after {pairs} pairs: {effect} {range}; a delta of {} would have given unchanged",
                    scale.size_up(bound)
                ),
                None => format!("{name} is not settled after {pairs} pairs: {effect} {range}"),
            },
            _ => format!("{name} is not decided: {effect} {range} after {pairs} pairs"),
        }
    }
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
    let decision = sequential::decide(&values, &Rule { gates, bound: info.bound() });
    // A decision is reported with the figures of its look.
    let looked = decision.looks.last().filter(|_| decision.verdict != Verdict::NotDecided);
    let (estimate, interval) = match looked {
        Some(look) => (Some(look.estimate), Some(look.interval)),
        None => sequential::estimate(&values, gates).map_or((None, None), |(e, i)| (Some(e), i)),
    };
    GateJudgement {
        info: info.clone(),
        compared_by,
        scale: info.gate.metric.scale(),
        x,
        decision,
        estimate,
        interval,
        not_measured,
    }
}

type Compared = (&'static Metric, Vec<(u32, f64)>);

/// Each pair's x for the first metric that was measured in all cells of all pairs.
fn compared(info: &GateInfo, resident: bool, sides: &Sides<'_>, pairs: &[&PairJudgement]) -> Result<Compared, String> {
    if resident && info.gate.metric == GateMetric::Load {
        return Err("resident hosts load only once, so there is no sample".to_owned());
    }
    let candidates = candidates(info.gate.metric);
    // Selected by the pairs of the first look, so that the verdict cannot switch to another metric
    // later.
    let first = &pairs[..pairs.len().min(LOOKS[0])];
    let all = |metric: &Metric, pairs: &[&PairJudgement]| -> Option<Vec<(u32, f64)>> {
        pairs.iter().map(|pair| Some((pair.row.pair, x_of(metric, info, sides, pair)?))).collect()
    };
    if let Some(metric) = candidates.iter().copied().find(|metric| all(metric, first).is_some())
        && let Some(x) = all(metric, pairs)
    {
        return Ok((metric, x));
    }
    let names: Vec<&str> = candidates.iter().map(|metric| metric.key).collect();
    let by_ratio = info.gate.metric.scale() == Scale::Ratio;
    let zero = pairs
        .iter()
        .filter(|_| by_ratio)
        .find(|pair| candidates.iter().any(|metric| is_zero(metric, &info.cell_ids, sides, pair)));
    Err(match zero {
        Some(pair) => format!("{} is 0 in pair {}, which has no ratio", names.join(" or "), pair.row.pair),
        None => format!("{} was not measured in every pair", names.join(" or ")),
    })
}

/// Whether a metric that is compared by ratios was measured as 0.
fn is_zero(metric: &Metric, cells: &[u32], sides: &Sides<'_>, pair: &PairJudgement) -> bool {
    let zero =
        |of: &Iterations<'_>, iteration| cells.iter().any(|cell| of.value(metric, *cell, iteration) == Some(0.0));
    pair.row.iterations().into_iter().any(|(side, iteration)| zero(sides.of(side), iteration))
}

/// Mean over the cells of ln(cost_B / cost_A), or of B - A.
fn x_of(metric: &Metric, info: &GateInfo, sides: &Sides<'_>, pair: &PairJudgement) -> Option<f64> {
    let [(side_a, a), (side_b, b)] = pair.row.iterations();
    let (cells, scale) = (&info.cell_ids, info.gate.metric.scale());
    let one = |cell: &u32| shift(metric, scale, *cell, (sides.of(side_a), a), (sides.of(side_b), b));
    let all: Option<Vec<f64>> = cells.iter().map(one).collect();
    let all = all?;
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}

/// Each gate's A/A pairs.
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
        let pilot = sequential::pilot(&x, &Rule { gates: gates.len(), bound: info.bound() })?;
        Some(PilotJudgement { gate, x, pilot })
    };
    gates.iter().enumerate().filter_map(of).collect()
}
