//! Whether both sides generated the same tokens.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Evidence, PairJudgement, PairOutcome, Sides};
use crate::record::ab::{Divergence, PairKind, SideFailure, SideInfo};
use crate::spec::{OutputsRule, Side};
use inferometer_stats::sequential::Verdict;

/// The comparison of the outputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputsJudgement {
    pub rule: OutputsRule,
    /// Number of tokens compared before the measurement; `None` before that comparison.
    pub tokens: Option<u64>,
    /// Divergences found in that comparison.
    pub divergences: Vec<Divergence>,
    /// Side A gave different tokens when asked again after the sides had differed.
    pub unstable_at_once: bool,
    /// The side that failed in that comparison, and how.
    pub failed: Option<SideFailure>,
    /// A side whose iterations gave different tokens: cell and pair.
    pub unstable: Option<(Side, u32, u32)>,
    /// The first pair whose sides differ, and the cell.
    pub differs: Option<(u32, u32)>,
}

pub(super) fn judge(evidence: &Evidence<'_>, sides: &Sides<'_>, pairs: &[PairJudgement]) -> OutputsJudgement {
    let rule = evidence.manifest.settings.outputs;
    let finding = evidence.manifest.outputs.as_ref();
    let mut judged = OutputsJudgement {
        rule,
        tokens: finding.map(|finding| finding.tokens),
        divergences: finding.map(|finding| finding.divergences.clone()).unwrap_or_default(),
        unstable_at_once: finding.is_some_and(|finding| finding.unstable),
        failed: finding.and_then(|finding| finding.failed.clone()),
        unstable: None,
        differs: None,
    };
    if rule == OutputsRule::Any {
        return judged;
    }
    let mut firsts = BTreeMap::new();
    // Excluded pairs and A/A pairs generated tokens too.
    let answered = |pair: &&PairJudgement| matches!(pair.outcome, PairOutcome::Ok | PairOutcome::Dropped { .. });
    for pair in pairs.iter().filter(answered) {
        for cell in evidence.cells {
            let hashes = pair.row.iterations().map(|(side, iteration)| {
                let rows = sides.of(side).rows(cell.id, iteration);
                let hashes: Vec<_> = rows.iter().map(|row| (row.turn, row.token_hash.as_deref())).collect();
                (side, hashes)
            });
            // No tokens, or lost rows: nothing to compare.
            if hashes.iter().any(|(_, hashes)| hashes.is_empty() || hashes.iter().any(|(_, hash)| hash.is_none())) {
                continue;
            }
            let [(_, a), (_, b)] = &hashes;
            if a != b && pair.row.kind == PairKind::Pair {
                judged.differs.get_or_insert((pair.row.pair, cell.id));
            }
            for (side, hashes) in hashes {
                let first = firsts.entry((side, cell.id)).or_insert_with(|| hashes.clone());
                if *first != hashes && judged.unstable.is_none_or(|(who, ..)| who == Side::B && side == Side::A) {
                    judged.unstable = Some((side, cell.id, pair.row.pair));
                }
            }
        }
    }
    judged
}

impl OutputsJudgement {
    /// The verdict that follows from the outputs alone.
    pub(super) fn verdict(&self, sides: &[SideInfo; 2]) -> Option<(Verdict, String)> {
        if let Some(SideFailure { side, reason, .. }) = &self.failed {
            return Some(match side {
                Side::A => (Verdict::Invalid, format!("side A fails, so B cannot be judged: {reason}")),
                Side::B => (Verdict::Failed, format!("side B fails: {reason}")),
            });
        }
        if self.unstable_at_once {
            let told = "side A does not generate the same tokens each time, so outputs cannot be compared";
            let help = "compare with `outputs = \"any\"`, or make it deterministic (temperature 0, or a seed)";
            return Some((Verdict::Invalid, format!("{told}: {help}")));
        }
        if let Some((Side::A, _, pair)) = self.unstable {
            let told = "side A does not generate the same tokens each time";
            let help = "compare with `outputs = \"any\"`, or make it deterministic (temperature 0, or a seed)";
            return Some((Verdict::Invalid, format!("{told} (pair {pair}), so outputs cannot be compared: {help}")));
        }
        let refused: Vec<&Divergence> = self.divergences.iter().filter(|d| !d.allowed).collect();
        if let Some(first) = refused.first() {
            return Some((Verdict::OutputChanged, self.sentence(first, refused.len(), sides)));
        }
        if let Some((pair, _)) = self.differs {
            return Some((Verdict::OutputChanged, format!("side B generated different tokens than A in pair {pair}")));
        }
        self.unstable.map(|(_, _, pair)| {
            let told = "side B does not generate the same tokens each time";
            (Verdict::OutputChanged, format!("{told} (pair {pair}), while A does"))
        })
    }

    fn sentence(&self, first: &Divergence, count: usize, sides: &[SideInfo; 2]) -> String {
        let id = |id: Option<u32>| id.map_or("nothing".to_owned(), |id| format!("token {id}"));
        let (a, b) = (id(first.a), id(first.b));
        let place = format!("at position {} (cell {}, turn {})", first.index, first.cell, first.turn);
        let label = &sides[1].label;
        if first.a.or(first.b).is_none() {
            return format!(
                "B ({label}) generates different tokens, first {place}; a redacted record does not name them"
            );
        }
        match (self.rule, first.gap) {
            (OutputsRule::Margin { logits }, Some(gap)) => format!(
                "given A's tokens, B ({label}) prefers a different token in {count} places by more than {logits} logits, first {place}: \
                 {b} instead of {a}, by {gap}"
            ),
            _ => format!("B ({label}) generates different tokens, first {place}: {b} instead of {a}"),
        }
    }
}
