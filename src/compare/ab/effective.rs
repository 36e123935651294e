//! Effective settings in which the sides differ, cell by cell.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Evidence, Judgement, PairJudgement, Sides};
use crate::compare::cost::Iterations;
use crate::spec::Side;

/// An effective setting that differs between the sides in a cell's first valid pair.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettingsDifference {
    pub cell: u32,
    pub setting: String,
    pub a: Option<String>,
    pub b: Option<String>,
}

/// Effective settings in which the sides differ, by cell. Uses the first valid pair; later pairs
/// are invalid if their settings change.
#[must_use]
pub fn effective_settings(evidence: &Evidence<'_>, judgement: &Judgement) -> Vec<SettingsDifference> {
    let sides = Sides { a: Iterations::of(evidence.a), b: Iterations::of(evidence.b) };
    let pair = judgement.pairs.iter().find(|pair| pair.counts());
    pair.map(|pair| differences(evidence, &sides, pair)).unwrap_or_default()
}

fn differences(evidence: &Evidence<'_>, sides: &Sides<'_>, pair: &PairJudgement) -> Vec<SettingsDifference> {
    let mut all = Vec::new();
    for cell in evidence.cells {
        let effective = |(side, iteration): (Side, u32)| -> BTreeMap<String, String> {
            let rows = sides.of(side).rows(cell.id, iteration);
            let settings = rows.first().map(|row| &row.effective);
            settings.into_iter().flatten().map(|(name, value)| (name.clone(), value.to_string())).collect()
        };
        let [a, b] = pair.row.iterations().map(effective);
        let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
        for name in names {
            if a.get(name) != b.get(name) {
                let (a, b) = (a.get(name).cloned(), b.get(name).cloned());
                all.push(SettingsDifference { cell: cell.id, setting: name.clone(), a, b });
            }
        }
    }
    all
}
