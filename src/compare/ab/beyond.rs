//! A session's results beyond its gates, for information only: every metric in every cell, and
//! which cost changed.

use serde::Serialize;

use super::{Evidence, Judgement};
use crate::compare::cost;
use crate::compare::cost::Iterations;
use crate::record::metric::{LOAD, METRICS, Metric};
use crate::record::{RequestRow, Status};
use crate::spec::{Cell, Scale, Side};
use inferometer_stats::growth;
use inferometer_stats::growth::{Change, Law, NotIdentifiable, Observation, Ratio, Timing};
use inferometer_stats::multiple::benjamini_hochberg;
use inferometer_stats::rank;
use inferometer_stats::rank::Walsh;
use inferometer_stats::robust::Interval;

/// With fewer pairs a signed-rank test cannot reach 5 %.
const LEAST_PAIRS: usize = 6;
/// For the intervals, and as the share of false discoveries.
const ALPHA: f64 = 0.05;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Beyond {
    /// Ordered by metric, then by cell.
    pub effects: Vec<Effect>,
    pub laws: Vec<LawChange>,
}

/// The effect on one metric in one cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    pub metric: &'static str,
    pub cell: u32,
    pub pairs: usize,
    /// Scale of shift and interval: differences for counts, and for bytes if one value is 0.
    pub scale: Scale,
    /// Hodges-Lehmann estimate of ln(cost_B / cost_A), or of B - A; positive is worse.
    pub shift: f64,
    /// 95 % interval for this metric and cell alone.
    pub interval: Option<Interval>,
    /// Exact two-sided signed-rank test.
    pub p_value: f64,
    /// Adjusted by Benjamini and Hochberg over all effects of the session.
    pub adjusted: f64,
}

impl Effect {
    /// Whether it is a discovery among all effects: on average at most one discovery in twenty is
    /// false.
    #[must_use]
    pub fn stands_out(&self) -> bool {
        self.adjusted <= ALPHA
    }
}

/// Change of a growth law's coefficients, for cells that differ only in length.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LawChange {
    pub law: Law,
    pub cells: Vec<u32>,
    /// B / A at every length, shortest first.
    pub ratios: Vec<Ratio>,
    pub change: Option<Change>,
    /// Why the coefficients have no change.
    pub not_identifiable: Option<String>,
}

/// Analyses all valid pairs.
#[must_use]
pub fn beyond(evidence: &Evidence<'_>, judgement: &Judgement) -> Beyond {
    let sides = [Iterations::of(evidence.a), Iterations::of(evidence.b)];
    let pairs =
        Pairs { numbers: judgement.pairs.iter().filter(|p| p.counts()).map(|p| p.row.iterations()).collect(), sides };
    let cells = evidence.cells;
    // Resident hosts load once, so all pairs have the same value.
    let load = (!evidence.manifest.settings.resident).then_some(&LOAD);
    let mut effects: Vec<Effect> = METRICS
        .iter()
        .chain(load)
        .flat_map(|metric| cells.iter().filter_map(|cell| pairs.effect(metric, cell.id)))
        .collect();
    let p_values: Vec<f64> = effects.iter().map(|effect| effect.p_value).collect();
    for (effect, adjusted) in effects.iter_mut().zip(benjamini_hochberg(&p_values)) {
        effect.adjusted = adjusted;
    }
    let seed = evidence.manifest.settings.seed;
    let series = series(cells);
    let laws = series.iter().flat_map(|cells| [Law::Decode, Law::Prefill].map(|law| pairs.law(law, cells, seed)));
    let laws = laws.flatten().collect();
    Beyond { effects, laws }
}

/// Groups cells that differ only in length.
fn series(cells: &[Cell]) -> Vec<Vec<&Cell>> {
    let mut all: Vec<Vec<&Cell>> = Vec::new();
    for cell in cells {
        match all.iter_mut().find(|of| of[0].engine == cell.engine && of[0].toggles == cell.toggles) {
            Some(of) => of.push(cell),
            None => all.push(vec![cell]),
        }
    }
    all
}

/// The valid pairs: the iterations of each side, and their rows.
struct Pairs<'a> {
    numbers: Vec<[(Side, u32); 2]>,
    sides: [Iterations<'a>; 2],
}

impl<'a> Pairs<'a> {
    fn side(&self, side: Side) -> &Iterations<'a> {
        &self.sides[side as usize]
    }

    /// `None` if too few pairs have the metric in that cell, or not all have it.
    fn effect(&self, metric: &'static Metric, cell: u32) -> Option<Effect> {
        // Values that include 0 have no ratio, but a difference.
        let scales = [Some(cost::scale(metric)), cost::difference(metric)];
        let (scale, x) =
            scales.into_iter().flatten().find_map(|scale| Some((scale, self.shifts(metric, scale, cell)?)))?;
        if x.len() < LEAST_PAIRS {
            return None;
        }
        let walsh = Walsh::of(&x)?;
        let p_value = rank::signed_rank(&x)?.p_value;
        Some(Effect {
            metric: metric.key,
            cell,
            pairs: x.len(),
            scale,
            shift: walsh.estimate(),
            interval: rank::depth(x.len(), ALPHA).map(|depth| walsh.interval(depth)),
            p_value,
            adjusted: p_value,
        })
    }

    /// Each pair's shift; `None` if a pair has none.
    fn shifts(&self, metric: &Metric, scale: Scale, cell: u32) -> Option<Vec<f64>> {
        let one = |[(side_a, a), (side_b, b)]: &[(Side, u32); 2]| {
            cost::shift(metric, scale, cell, (self.side(*side_a), *a), (self.side(*side_b), *b))
        };
        self.numbers.iter().map(one).collect()
    }

    /// `None` without pairs, and for cells of a single length.
    fn law(&self, law: Law, cells: &[&Cell], seed: u64) -> Option<LawChange> {
        let found = self.observations(law, cells);
        let observations = found.as_ref().map_or(&[] as &[Observation], Vec::as_slice);
        let ratios = growth::ratios(observations);
        if self.numbers.is_empty() || cells.len() < 2 && ratios.len() < 2 {
            return None;
        }
        let change = found.clone().and_then(|observations| growth::change(law, &observations, seed));
        let (change, why) = match change {
            Ok(change) => (Some(change), None),
            Err(why) => (None, Some(why.to_string())),
        };
        Some(LawChange {
            law,
            cells: cells.iter().map(|cell| cell.id).collect(),
            ratios,
            change,
            not_identifiable: why,
        })
    }

    /// Every pair at every length, or at every turn of a conversation.
    fn observations(&self, law: Law, cells: &[&Cell]) -> Result<Vec<Observation>, NotIdentifiable> {
        let mut all = Vec::new();
        let mut lengths = 0;
        for cell in cells {
            let mut turns = 0;
            for (pair, [(side_a, a), (side_b, b)]) in (1..).zip(&self.numbers) {
                let (a, b) = (self.side(*side_a).rows(cell.id, *a), self.side(*side_b).rows(cell.id, *b));
                turns = turns.max(a.len());
                for (turn, (a, b)) in a.iter().zip(b).enumerate() {
                    let (at, other) = (law.point(&timing(a))?, law.point(&timing(b))?);
                    all.push(Observation {
                        length: lengths + turn,
                        pair,
                        n: at.n,
                        a_ms: at.time_ms,
                        b_ms: other.time_ms,
                    });
                }
            }
            lengths += turns;
        }
        Ok(all)
    }
}

fn timing(row: &RequestRow) -> Timing {
    debug_assert_eq!(row.status, Status::Ok, "only valid pairs are analysed");
    Timing {
        prompt: row.prompt_tokens.unwrap_or(0),
        reused: row.reused_tokens.unwrap_or(0),
        generated: row.generated_tokens.unwrap_or(0),
        prefill_ms: row.prefill_ms.filter(|_| row.has_token_times()),
        decode_ms: row.decode_ms.filter(|_| row.has_token_times()),
    }
}
