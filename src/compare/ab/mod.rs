//! Judgement of an A/B session: a pure function of its record
//! (docs/explanation/method.md#verdicts).
//!
//! Outputs are judged first, then failures, then dropped pairs, then speed and memory.

mod beyond;
mod effective;
mod gates;
mod outputs;
mod pairs;
mod scale;

#[cfg(test)]
mod tests;

pub use beyond::{Beyond, Effect, LawChange, beyond};
pub use effective::{SettingsDifference, effective_settings};
pub use gates::GateJudgement;
pub use outputs::OutputsJudgement;
pub use pairs::{Counts, PairJudgement, PairOutcome};

use serde::Serialize;

use super::cost::Iterations;
use crate::record::RequestRow;
use crate::record::ab::{AbManifest, AbRecord, PairRow};
use crate::spec::{Cell, Side};
use inferometer_stats::sequential::{LOOKS, Pilot, Verdict};

/// The judgement of a session's record so far.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// `NotDecided` while pairs remain.
    pub verdict: Verdict,
    /// The reasons, as sentences.
    pub reasons: Vec<String>,
    pub gates: Vec<GateJudgement>,
    pub counts: Counts,
    pub outputs: OutputsJudgement,
    pub pilot: Vec<PilotJudgement>,
    /// Every committed pair, in order.
    pub pairs: Vec<PairJudgement>,
}

/// A gate's A/A pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PilotJudgement {
    /// Index into the gates.
    pub gate: usize,
    /// ln(cost / cost) of A against A, or the difference.
    pub x: Vec<f64>,
    pub pilot: Pilot,
}

/// What is judged: the relevant parts of a session's record, possibly unfinished.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    pub manifest: &'a AbManifest,
    pub pairs: &'a [PairRow],
    /// A's cells; B's are the same, by id.
    pub cells: &'a [Cell],
    pub a: &'a [RequestRow],
    pub b: &'a [RequestRow],
}

impl<'a> Evidence<'a> {
    #[must_use]
    pub fn of(record: &'a AbRecord) -> Self {
        Self {
            manifest: &record.manifest,
            pairs: &record.pairs,
            cells: &record.a.manifest.plan.cells,
            a: &record.a.requests,
            b: &record.b.requests,
        }
    }
}

/// The iterations of both sides.
pub(crate) struct Sides<'a> {
    pub a: Iterations<'a>,
    pub b: Iterations<'a>,
}

impl<'a> Sides<'a> {
    pub fn of(&self, side: Side) -> &Iterations<'a> {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }
}

/// Judges the session so far.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> Judgement {
    let sides = Sides { a: Iterations::of(evidence.a), b: Iterations::of(evidence.b) };
    let (pairs, counts) = pairs::judge(evidence, &sides);
    let outputs = outputs::judge(evidence, &sides, &pairs);
    let gates = gates::judge(evidence, &sides, &pairs);
    let pilot = gates::pilot(evidence, &sides, &pairs);
    let (verdict, reasons) = verdict(evidence, &outputs, &counts, &gates);
    Judgement { verdict, reasons, gates, counts, outputs, pilot, pairs }
}

/// The session's verdict: the first rule that applies.
fn verdict(
    evidence: &Evidence<'_>,
    outputs: &OutputsJudgement,
    counts: &Counts,
    gates: &[GateJudgement],
) -> (Verdict, Vec<String>) {
    if let Some((verdict, reason)) = outputs.verdict(&evidence.manifest.sides) {
        return (verdict, vec![reason]);
    }
    if let Some((verdict, reason)) = counts.verdict() {
        return (verdict, vec![reason]);
    }
    if let Some(refused) = &evidence.manifest.refused {
        return (Verdict::Inconclusive, vec![refused.clone()]);
    }
    let has = |verdict| gates.iter().any(|gate| gate.verdict() == verdict);
    let of =
        |verdict| gates.iter().filter(move |gate| gate.verdict() == verdict).map(GateJudgement::sentence).collect();
    if has(Verdict::Regressed) {
        return (Verdict::Regressed, of(Verdict::Regressed));
    }
    if let Some(gate) = gates.iter().find(|gate| gate.not_measured.is_some()) {
        return (Verdict::Invalid, vec![gate.sentence()]);
    }
    if has(Verdict::NotDecided) || gates.is_empty() {
        return (Verdict::NotDecided, of(Verdict::NotDecided));
    }
    if has(Verdict::Inconclusive) {
        return (Verdict::Inconclusive, of(Verdict::Inconclusive));
    }
    if let Some(reason) = counts.one_sided() {
        return (Verdict::Invalid, vec![reason]);
    }
    if has(Verdict::Improved) {
        return (Verdict::Improved, gates.iter().map(GateJudgement::sentence).collect());
    }
    (Verdict::Unchanged, gates.iter().map(GateJudgement::sentence).collect())
}

impl Judgement {
    /// Whether the session has its verdict and more pairs would change nothing.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.verdict != Verdict::NotDecided
    }

    /// Number of pairs until the next look if none is dropped; 0 after the last look.
    #[must_use]
    pub fn pairs_to_next_look(&self) -> usize {
        let ok = self.counts.ok as usize;
        LOOKS.into_iter().find(|look| *look > ok).map_or(0, |look| look - ok)
    }
}
