//! Engines of one run that do other work than each other, which is said before their figures.

use std::collections::BTreeMap;

use super::CellSummary;
use crate::compare::engines::SideBySide;
use crate::compare::outputs::Outputs;
use crate::record::Record;
use crate::report::text;
use inferometer_protocol::toggle::{DTYPE, KV_CACHE, KV_DTYPE};

/// Settings that change what is computed.
const DECIDING: [&str; 3] = [DTYPE, KV_CACHE, KV_DTYPE];

/// Sentences on engines whose settings or outputs differ; outputs come first.
pub fn differences(record: &Record, cells: &[CellSummary], side_by_side: Option<&SideBySide>) -> Vec<String> {
    let outputs = side_by_side.and_then(|engines| other_outputs(engines, cells));
    outputs.into_iter().chain(other_settings(record)).collect()
}

/// Cells of several engines with the same work, at temperature 0, whose tokens differ.
fn other_outputs(engines: &SideBySide, cells: &[CellSummary]) -> Option<String> {
    let name =
        |cell: u32| cells.iter().find(|of| of.cell == cell).map_or_else(String::new, |of| text::label(of.name()));
    let (mut compared, mut differing) = (0, Vec::new());
    for work in engines.works.iter().filter(|work| work.greedy) {
        for side in &work.sides {
            let Some(outputs) = side.outputs.as_ref().filter(|outputs| **outputs != Outputs::Unknown) else { continue };
            compared += 1;
            if outputs.differ() {
                differing.push(format!("{} and {}", name(work.sides[0].cell), name(side.cell)));
            }
        }
    }
    (!differing.is_empty()).then(|| {
        format!(
            "Engines generate different tokens for the same work in {} of {}: {}. Their speeds are those of different \
             outputs.",
            differing.len(),
            text::plural(compared, "comparison"),
            text::list(&differing, 6)
        )
    })
}

/// Load-time settings in force that differ between engines.
fn other_settings(record: &Record) -> Vec<String> {
    let label = |engine: u32| {
        let engines = &record.manifest.scenario.engines;
        engines.get(engine as usize).map_or_else(|| format!("engine {engine}"), |engine| text::label(&engine.label))
    };
    let differing = |name: &&str| {
        let mut by_value: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for host in &record.manifest.hosts {
            let Some(value) = host.receipt.settings.get(*name) else { continue };
            let engines = by_value.entry(value.to_string()).or_default();
            let engine = label(host.engine);
            if !engines.contains(&engine) {
                engines.push(engine);
            }
        }
        // Varied by the scenario: the cells say it.
        let of_one = |engine: &String| by_value.values().filter(|engines| engines.contains(engine)).count() > 1;
        if by_value.values().flatten().any(of_one) {
            return None;
        }
        let told = by_value.iter().map(|(value, engines)| format!("{value} ({})", text::list(engines, 4)));
        (by_value.len() > 1).then(|| {
            format!(
                "Engines run with different {name}: {}. Differences in speed and memory may come from it.",
                told.collect::<Vec<_>>().join(", ")
            )
        })
    };
    DECIDING.iter().filter_map(differing).collect()
}
