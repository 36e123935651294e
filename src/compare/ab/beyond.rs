//! What a session says beyond its gates, to be read and never to gate by: every metric in every cell, and which cost moved.

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

/// Fewer pairs than this cannot reach 5 % in a signed-rank test, whatever they hold.
const LEAST_PAIRS: usize = 6;
/// Of the intervals shown, and of the share of false discoveries.
const ALPHA: f64 = 0.05;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Beyond {
    /// By metric, then by cell.
    pub effects: Vec<Effect>,
    pub laws: Vec<LawChange>,
}

/// One metric in one cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    pub metric: &'static str,
    pub cell: u32,
    pub pairs: usize,
    /// What shift and interval are in: differences for counts, and for bytes that are 0 somewhere.
    pub scale: Scale,
    /// Hodges-Lehmann estimate of ln(cost_B / cost_A), or of B - A: above 0 is worse.
    pub shift: f64,
    /// 95 %, for this metric and cell alone.
    pub interval: Option<Interval>,
    /// Exact signed-rank, two-sided.
    pub p_value: f64,
    /// After Benjamini and Hochberg, over all effects of the session.
    pub adjusted: f64,
}

impl Effect {
    /// Whether it stands out among all effects: at most one in twenty that do is false.
    #[must_use]
    pub fn stands_out(&self) -> bool {
        self.adjusted <= ALPHA
    }
}

/// What became of the coefficients of a growth law, for cells that differ in length alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LawChange {
    pub law: Law,
    pub cells: Vec<u32>,
    /// B / A at every length, the shortest first.
    pub ratios: Vec<Ratio>,
    pub change: Option<Change>,
    /// Why there is no change of coefficients.
    pub not_identifiable: Option<String>,
}

/// Looks at all counting pairs.
#[must_use]
pub fn beyond(evidence: &Evidence<'_>, judgement: &Judgement) -> Beyond {
    let sides = [Iterations::of(evidence.a), Iterations::of(evidence.b)];
    let pairs =
        Pairs { numbers: judgement.pairs.iter().filter(|p| p.counts()).map(|p| p.row.iterations()).collect(), sides };
    let cells = evidence.cells;
    // Resident hosts load once: every pair would say the same again.
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

/// Cells that differ in length alone, together.
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

/// The counting pairs: which iterations of which sides, and where these are.
struct Pairs<'a> {
    numbers: Vec<[(Side, u32); 2]>,
    sides: [Iterations<'a>; 2],
}

impl<'a> Pairs<'a> {
    fn side(&self, side: Side) -> &Iterations<'a> {
        &self.sides[side as usize]
    }

    /// `None` where too few pairs have the metric in that cell, or not all have it.
    fn effect(&self, metric: &'static Metric, cell: u32) -> Option<Effect> {
        // What is 0 somewhere has no ratio, but a difference.
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

    /// Each pair's shift; `None` where one has none.
    fn shifts(&self, metric: &Metric, scale: Scale, cell: u32) -> Option<Vec<f64>> {
        let one = |[(side_a, a), (side_b, b)]: &[(Side, u32); 2]| {
            cost::shift(metric, scale, cell, (self.side(*side_a), *a), (self.side(*side_b), *b))
        };
        self.numbers.iter().map(one).collect()
    }

    /// `None` without pairs, and for cells at a single length: nothing grows there.
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
    debug_assert_eq!(row.status, Status::Ok, "only counting pairs are looked at");
    Timing {
        prompt: row.prompt_tokens.unwrap_or(0),
        reused: row.reused_tokens.unwrap_or(0),
        generated: row.generated_tokens.unwrap_or(0),
        prefill_ms: row.prefill_ms,
        decode_ms: row.decode_ms,
    }
}
