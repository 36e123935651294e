//! What is said beside the gates: the slow-down that would have been caught, which cost moved, every other metric.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Evidence, Judgement, PairJudgement, Sides};
use crate::compare::cost::{Iterations, log_ratio};
use crate::record::RequestRow;
use crate::record::ab::SideInfo;
use crate::record::metric::{self, METRICS};
use crate::spec::{Settings, Side};
use crate::stats::growth::{self, Change, Law, NotIdentifiable, Observation, Ratio, Timing};
use crate::stats::multiple::benjamini_hochberg;
use crate::stats::rank::{Walsh, depth, signed_rank};
use crate::stats::robust::Interval;
use crate::stats::sequential::{Rule, caught_nine_in_ten};

/// Two-sided confidence of advisory intervals.
const CONFIDENCE: f64 = 0.95;
/// Share of false discoveries allowed among advisory findings.
pub const FALSE_DISCOVERIES: f64 = 0.05;

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Detail {
    /// For each gate, as a shift of ln(cost); null with too few pairs.
    pub caught_nine_in_ten: Vec<Option<f64>>,
    pub growth: Vec<Growth>,
    /// Every metric in every cell, gates or not; never a verdict.
    pub advisory: Vec<Advisory>,
    /// Effective settings in which the sides differ, by cell.
    pub settings: Vec<SettingsDifference>,
    /// Cells whose effective settings are equal although the sides are asked for different ones: the same work.
    pub equal: Vec<u32>,
}

/// What moved in a growth law between the sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Growth {
    pub law: Law,
    /// Cells that differ in length only, in words; empty where there is one such set.
    pub cells: String,
    pub change: Option<Change>,
    /// Why no change can be told.
    pub not_identifiable: Option<String>,
    /// The term whose change explains most, in words.
    pub named: Option<&'static str>,
    /// B / A at every length.
    pub ratios: Vec<Ratio>,
}

/// A metric in a cell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Advisory {
    pub metric: &'static str,
    pub cell: u32,
    pub pairs: usize,
    /// Of ln(cost_B / cost_A).
    pub estimate: f64,
    pub interval: Option<Interval>,
    pub p_value: f64,
    /// Over all advisory tests, by Benjamini and Hochberg.
    pub p_adjusted: f64,
}

impl Advisory {
    /// Whether it is worth a look.
    #[must_use]
    pub fn stands_out(&self) -> bool {
        self.p_adjusted <= FALSE_DISCOVERIES
    }
}

/// Effective settings of a cell's first counting pair that are not the same on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettingsDifference {
    pub cell: u32,
    pub setting: String,
    pub a: Option<String>,
    pub b: Option<String>,
}

/// Says it of a judged session. Takes a moment: resampling.
#[must_use]
pub fn detail(evidence: &Evidence<'_>, judgement: &Judgement) -> Detail {
    let sides = Sides { a: Iterations::of(evidence.a), b: Iterations::of(evidence.b) };
    let pairs: Vec<&PairJudgement> = judgement.pairs.iter().filter(|pair| pair.counts()).collect();
    let caught = judgement.gates.iter().map(|gate| {
        let x: Vec<f64> = gate.x.iter().map(|(_, x)| *x).collect();
        let rule = Rule { gates: judgement.gates.len(), bound: gate.bound() };
        caught_nine_in_ten(&x, &rule, evidence.manifest.settings.seed)
    });
    let settings = settings(evidence, &sides, &pairs);
    Detail {
        caught_nine_in_ten: caught.collect(),
        growth: growth(evidence, &sides, &pairs),
        advisory: advisory(evidence, &sides, &pairs),
        equal: equal(evidence, &sides, &pairs, &settings),
        settings,
    }
}

/// The numbers of a counting pair's iterations.
fn numbers(pair: &PairJudgement) -> (u32, u32) {
    let [(_, a), (_, b)] = pair.row.iterations();
    (a, b)
}

fn growth(evidence: &Evidence<'_>, sides: &Sides<'_>, pairs: &[&PairJudgement]) -> Vec<Growth> {
    // Cells that differ in their length alone share a law.
    let mut sets: Vec<(u32, &Settings, Vec<u32>)> = Vec::new();
    for cell in evidence.cells.iter().filter(|cell| cell.length.is_some()) {
        match sets.iter_mut().find(|(engine, toggles, _)| *engine == cell.engine && *toggles == &cell.toggles) {
            Some((.., ids)) => ids.push(cell.id),
            None => sets.push((cell.engine, &cell.toggles, vec![cell.id])),
        }
    }
    sets.retain(|(.., ids)| ids.len() > 1);
    let several = sets.len() > 1;
    let named = |ids: &[u32]| {
        let labels = ids.iter().map(|id| evidence.cells[*id as usize].label.as_str());
        if several { labels.collect::<Vec<_>>().join(", ") } else { String::new() }
    };
    let laws = [Law::Decode, Law::Prefill];
    sets.iter().flat_map(|(.., ids)| laws.map(|law| law_of(law, ids, named(ids), evidence, sides, pairs))).collect()
}

fn law_of(
    law: Law,
    cells: &[u32],
    named: String,
    evidence: &Evidence<'_>,
    sides: &Sides<'_>,
    pairs: &[&PairJudgement],
) -> Growth {
    let observations: Result<Vec<Observation>, NotIdentifiable> = pairs
        .iter()
        .flat_map(|pair| cells.iter().enumerate().map(|(length, cell)| (*pair, length, *cell)))
        .map(|(pair, length, cell)| {
            let (a, b) = numbers(pair);
            let (a, b) = (point(law, sides.a.rows(cell, a))?, point(law, sides.b.rows(cell, b))?);
            Ok(Observation { length, pair: pair.row.pair, n: a.n, a_ms: a.time_ms, b_ms: b.time_ms })
        })
        .collect();
    let ratios = observations.as_deref().map(growth::ratios).unwrap_or_default();
    let change = observations.and_then(|all| growth::change(law, &all, evidence.manifest.settings.seed));
    let (change, not_identifiable) = match change {
        Ok(change) => (Some(change), None),
        Err(why) => (None, Some(why.to_string())),
    };
    let term = change.as_ref().and_then(|change| change.named).map(growth::Term::name);
    Growth { law, cells: named, change, not_identifiable, named: term, ratios }
}

/// A request's time; a conversation's turns have no law of their own.
fn point(law: Law, rows: &[&RequestRow]) -> Result<growth::Point, NotIdentifiable> {
    let [row] = rows else { return Err(NotIdentifiable::SumOfPhases) };
    law.point(&Timing {
        prompt: row.prompt_tokens.ok_or(NotIdentifiable::NoTime)?,
        reused: row.reused_tokens.unwrap_or(0),
        generated: row.generated_tokens.unwrap_or(0),
        prefill_ms: row.prefill_ms,
        decode_ms: row.decode_ms,
    })
}

fn advisory(evidence: &Evidence<'_>, sides: &Sides<'_>, pairs: &[&PairJudgement]) -> Vec<Advisory> {
    let mut all = Vec::new();
    for metric in METRICS.iter().chain(metric::find(metric::LOAD_S)) {
        for cell in evidence.cells {
            let one = |pair: &&PairJudgement| {
                let (a, b) = numbers(pair);
                log_ratio(metric, cell.id, (&sides.a, a), (&sides.b, b))
            };
            let x: Option<Vec<f64>> = pairs.iter().map(one).collect();
            let Some(x) = x.filter(|x| !x.is_empty()) else { continue };
            let (Some(walsh), Some(test)) = (Walsh::of(&x), signed_rank(&x)) else { continue };
            all.push(Advisory {
                metric: metric.key,
                cell: cell.id,
                pairs: x.len(),
                estimate: walsh.estimate(),
                interval: depth(x.len(), 1.0 - CONFIDENCE).map(|depth| walsh.interval(depth)),
                p_value: test.p_value,
                p_adjusted: 1.0,
            });
        }
    }
    let p: Vec<f64> = all.iter().map(|advisory| advisory.p_value).collect();
    for (advisory, adjusted) in all.iter_mut().zip(benjamini_hochberg(&p)) {
        advisory.p_adjusted = adjusted;
    }
    all
}

fn settings(evidence: &Evidence<'_>, sides: &Sides<'_>, pairs: &[&PairJudgement]) -> Vec<SettingsDifference> {
    let Some(pair) = pairs.first() else { return Vec::new() };
    let mut all = Vec::new();
    for cell in evidence.cells {
        let effective = |(side, iteration): (Side, u32)| -> BTreeMap<String, String> {
            let rows = sides.of(side).rows(cell.id, iteration);
            let settings = rows.first().map(|row| &row.effective);
            settings.into_iter().flatten().map(|(name, value)| (name.clone(), value.to_string())).collect()
        };
        let [a, b] = pair.row.iterations().map(effective);
        let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names {
            if a.get(name) != b.get(name) {
                let (a, b) = (a.get(name).cloned(), b.get(name).cloned());
                all.push(SettingsDifference { cell: cell.id, setting: name.clone(), a, b });
            }
        }
    }
    all
}

/// The cells without a difference of effective settings, where the sides have different ones of their own.
fn equal(
    evidence: &Evidence<'_>,
    sides: &Sides<'_>,
    pairs: &[&PairJudgement],
    differences: &[SettingsDifference],
) -> Vec<u32> {
    let asked = |side: &SideInfo| -> Vec<String> {
        let own = side.settings.iter().filter(|key| key.starts_with("toggles.") || key.starts_with("sampling."));
        own.cloned().collect()
    };
    let [a, b] = evidence.manifest.sides.each_ref().map(asked);
    let (Some(pair), true) = (pairs.first(), a != b) else { return Vec::new() };
    let known = |cell: u32| {
        pair.row.iterations().iter().all(|(side, iteration)| {
            sides.of(*side).rows(cell, *iteration).first().is_some_and(|row| !row.effective.is_empty())
        })
    };
    let ids = evidence.cells.iter().map(|cell| cell.id);
    ids.filter(|id| known(*id) && differences.iter().all(|difference| difference.cell != *id)).collect()
}
