//! Engines of one run that do other work than each other: their rates are not to be ranked.

use std::collections::BTreeMap;

use super::CellSummary;
use crate::record::Record;
use crate::report::text;
use crate::spec::Cell;
use inferometer_protocol::Settings;
use inferometer_protocol::toggle::{DTYPE, KV_CACHE, KV_DTYPE};

/// Settings that change what is computed.
const DECIDING: [&str; 3] = [DTYPE, KV_CACHE, KV_DTYPE];

/// Sentences on engines whose settings or outputs differ; outputs come first.
pub fn differences(record: &Record, cells: &[CellSummary]) -> Vec<String> {
    other_outputs(record, cells).into_iter().chain(other_settings(record)).collect()
}

/// Cells of several engines with the same work, at temperature 0, whose tokens differ.
fn other_outputs(record: &Record, cells: &[CellSummary]) -> Option<String> {
    let plan = &record.manifest.plan.cells;
    // Settings that an engine has for itself are part of the engine.
    let scenario = &record.manifest.scenario;
    let shared = |cell: &Cell, other: &Cell| -> Settings {
        let engines = [cell.engine, other.engine].map(|engine| scenario.engines.get(engine as usize));
        let own: Vec<_> = engines.into_iter().flatten().flat_map(|engine| scenario.own_toggles(engine)).collect();
        let is_own = |name: &String| own.iter().any(|axis| axis.toggle == *name);
        cell.toggles
            .iter()
            .filter(|(name, _)| !is_own(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let same_work = |a: &Cell, b: &Cell| {
        a.engine != b.engine && a.length == b.length && shared(a, b) == shared(b, a) && a.sampling == b.sampling
    };
    let hash = |cell: &Cell| Some(&cells.iter().find(|summary| summary.cell == cell.id)?.hashes.first()?.hash);
    let (mut compared, mut differing) = (0, Vec::new());
    for (at, a) in plan.iter().enumerate().filter(|(_, cell)| cell.sampling.temperature == 0.0) {
        for b in plan[at + 1..].iter().filter(|b| same_work(a, b)) {
            let (Some(of_a), Some(of_b)) = (hash(a), hash(b)) else { continue };
            compared += 1;
            if of_a != of_b {
                differing.push(format!("{} and {}", text::label(&a.label), text::label(&b.label)));
            }
        }
    }
    (!differing.is_empty()).then(|| {
        format!(
            "Engines generate different tokens for the same work in {} of {}: {}. Do not rank their rates.",
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
                "Engines run with different {name}: {}. Do not rank their rates.",
                told.collect::<Vec<_>>().join(", ")
            )
        })
    };
    DECIDING.iter().filter_map(differing).collect()
}
