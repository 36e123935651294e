//! Checks that a session's files are consistent: they may have been edited or come from elsewhere.

use std::collections::BTreeSet;

use super::schema::{AbManifest, PairKind, PairRow};
use crate::record::Record;
use crate::spec::{Scale, Side};
use inferometer_stats::sequential::MOST_GATES;

/// Far above what a session needs, even if resumed often. A resumed session continues the
/// numbering.
const MOST_ITERATIONS: u32 = 100_000;

/// Checks `ab.json` by itself; the error names the key.
pub(super) fn manifest(manifest: &AbManifest) -> Result<(), String> {
    let gates = manifest.gates.len();
    if !(1..=MOST_GATES).contains(&gates) {
        return Err(format!("gates: there are {gates}, but a session has 1 to {MOST_GATES}"));
    }
    for (at, gate) in manifest.gates.iter().enumerate() {
        // As in a scenario: above 0 % and below 100 %, or a number above 0.
        if !gate.gate.metric.scale().allows(gate.least) {
            let below = if gate.gate.metric.scale() == Scale::Ratio { " and below 1" } else { "" };
            return Err(format!("gates[{at}].least is {}, but must be above 0{below}", gate.least));
        }
        if gate.cell_ids.is_empty() {
            return Err(format!("gates[{at}].cell_ids is empty: a gate needs at least one cell"));
        }
        let twice = (1..gate.cell_ids.len()).find(|i| gate.cell_ids[..*i].contains(&gate.cell_ids[*i]));
        if let Some(i) = twice {
            return Err(format!("gates[{at}].cell_ids names cell {} twice", gate.cell_ids[i]));
        }
    }
    Ok(())
}

/// Checks that `ab.json` and the sides' records belong together; the error names the key.
pub(super) fn sides(manifest: &AbManifest, a: &Record, b: &Record) -> Result<(), String> {
    let (cells, of_b) = (a.manifest.plan.cells.len(), b.manifest.plan.cells.len());
    if cells != of_b {
        return Err(format!(
            "a/run.json has {cells} cells in its plan and b/run.json has {of_b}: both must have the same cells"
        ));
    }
    for (at, gate) in manifest.gates.iter().enumerate() {
        if let Some(id) = gate.cell_ids.iter().find(|id| **id as usize >= cells) {
            return Err(format!(
                "ab.json: gates[{at}].cell_ids has {id}, which is not a cell of the plan in a/run.json"
            ));
        }
    }
    for (folder, side) in [("a", a), ("b", b)] {
        for row in &side.requests {
            let of = || format!("request {} in {folder}/requests.csv is of", row.request);
            if row.cell as usize >= cells {
                return Err(format!("{} cell {}, which is not a cell of the plan", of(), row.cell));
            }
            if row.iteration > MOST_ITERATIONS {
                return Err(format!(
                    "{} iteration {}, but a session has at most {MOST_ITERATIONS}",
                    of(),
                    row.iteration
                ));
            }
        }
    }
    Ok(())
}

/// Checks that `row` can follow `last`. `used`: iterations of the earlier pairs, to which those of
/// `row` are added.
pub(super) fn pair(last: Option<&PairRow>, row: &PairRow, used: &mut BTreeSet<(Side, u32)>) -> Result<(), String> {
    if last.map_or(1, |last| last.pair + 1) != row.pair {
        return Err(format!("pair {} does not follow the previous pair", row.pair));
    }
    match row.kind {
        PairKind::Pilot if [row.first, row.second] != [Side::A; 2] => {
            return Err(format!("pair {} is of the pilot, but not A against A", row.pair));
        }
        PairKind::Pair if row.first == row.second => {
            return Err(format!("pair {} has side {} twice", row.pair, row.first.name()));
        }
        _ => {}
    }
    for (side, iteration) in row.iterations() {
        if iteration == 0 {
            return Err("iterations are numbered from 1".to_owned());
        }
        if iteration > MOST_ITERATIONS {
            return Err(format!("iteration {iteration} is above the limit of {MOST_ITERATIONS}"));
        }
        if !used.insert((side, iteration)) {
            return Err(format!("iteration {iteration} of side {} is already in another pair", side.name()));
        }
    }
    Ok(())
}
