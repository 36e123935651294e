//! Whether what a session's files say can be: they may have been edited, or come from elsewhere.

use std::collections::BTreeSet;

use super::schema::{AbManifest, PairKind, PairRow};
use crate::record::Record;
use crate::spec::{Scale, Side};
use inferometer_stats::sequential::MOST_GATES;

/// Far more than any session comes to, resumed as often as may be. One that goes on numbers its turns from the last one.
const MOST_ITERATIONS: u32 = 100_000;

/// Whether `ab.json` can be judged by itself; else which key is wrong.
pub(super) fn manifest(manifest: &AbManifest) -> Result<(), String> {
    let gates = manifest.gates.len();
    if !(1..=MOST_GATES).contains(&gates) {
        return Err(format!("gates: there are {gates}, and a session has 1 to {MOST_GATES}"));
    }
    for (at, gate) in manifest.gates.iter().enumerate() {
        // As a scenario writes it: above 0 % and below 100 %, or a number above 0.
        if !gate.gate.metric.scale().allows(gate.least) {
            let below = if gate.gate.metric.scale() == Scale::Ratio { " and below 1" } else { "" };
            return Err(format!("gates[{at}].least is {}, and must be above 0{below}", gate.least));
        }
        if gate.cell_ids.is_empty() {
            return Err(format!("gates[{at}].cell_ids is empty: a gate looks at one cell at least"));
        }
        let twice = (1..gate.cell_ids.len()).find(|i| gate.cell_ids[..*i].contains(&gate.cell_ids[*i]));
        if let Some(i) = twice {
            return Err(format!("gates[{at}].cell_ids names cell {} twice", gate.cell_ids[i]));
        }
    }
    Ok(())
}

/// Whether `ab.json` and the sides' records belong together; else which key is wrong.
pub(super) fn sides(manifest: &AbManifest, a: &Record, b: &Record) -> Result<(), String> {
    let (cells, of_b) = (a.manifest.plan.cells.len(), b.manifest.plan.cells.len());
    if cells != of_b {
        return Err(format!("a/run.json has {cells} cells in its plan and b/run.json {of_b}: sides have the same"));
    }
    for (at, gate) in manifest.gates.iter().enumerate() {
        if let Some(id) = gate.cell_ids.iter().find(|id| **id as usize >= cells) {
            return Err(format!(
                "in ab.json gates[{at}].cell_ids has {id}, which is no cell of the plan in a/run.json"
            ));
        }
    }
    for (folder, side) in [("a", a), ("b", b)] {
        for row in &side.requests {
            let of = || format!("request {} in {folder}/requests.csv is of", row.request);
            if row.cell as usize >= cells {
                return Err(format!("{} cell {}, which is no cell of the plan", of(), row.cell));
            }
            if row.iteration > MOST_ITERATIONS {
                return Err(format!("{} iteration {}, and no session has so many", of(), row.iteration));
            }
        }
    }
    Ok(())
}

/// Whether `row` can follow `last`; else why not. `used`: iterations of the pairs before it, to which it adds its own.
pub(super) fn pair(last: Option<&PairRow>, row: &PairRow, used: &mut BTreeSet<(Side, u32)>) -> Result<(), String> {
    if last.map_or(1, |last| last.pair + 1) != row.pair {
        return Err(format!("pair {} does not follow the one before it", row.pair));
    }
    match row.kind {
        PairKind::Pilot if [row.first, row.second] != [Side::A; 2] => {
            return Err(format!("pair {} is of the pilot, and so of A against A", row.pair));
        }
        PairKind::Pair if row.first == row.second => {
            return Err(format!("pair {} has side {} twice", row.pair, row.first.name()));
        }
        _ => {}
    }
    for (side, iteration) in row.iterations() {
        if iteration == 0 {
            return Err("iterations are counted from 1".to_owned());
        }
        if iteration > MOST_ITERATIONS {
            return Err(format!("no session has so many iterations as {iteration}"));
        }
        if !used.insert((side, iteration)) {
            return Err(format!("iteration {iteration} of side {} is in a pair already", side.name()));
        }
    }
    Ok(())
}
