//! The plan: every combination of engine, toggles and length, with equal work merged, in a seeded
//! order.

use rand_chacha::rand_core::Rng;

use super::Offers;
use super::diagnose::list;
use crate::spec::{Axis, Cell, Level, Plan, RunSettings, Scenario, Vary};
use inferometer_host::rng::seeded;
use inferometer_protocol::effective::{EFFECTIVE_CHUNK, EFFECTIVE_PENALTY, EFFECTIVE_WINDOW, expected};
use inferometer_protocol::toggle;
use inferometer_protocol::toggle::{
    PREFILL_CHUNK_SIZE, REPETITION_CONTEXT_SIZE, REPETITION_PENALTY, REPETITION_WINDOW_CAP, Scope,
};
use inferometer_protocol::{Sampling, Settings, Shape, Value};

/// More cells than this are probably a mistake.
pub const MOST_CELLS: usize = 1_000;
/// Likewise for measured requests.
pub const MOST_REQUESTS: usize = 1_000_000;

/// Why a scenario cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(
        "the scenario has more than {MOST_CELLS} combinations of engine, toggles and length: vary fewer toggles, \
         or set `vary = \"one-at-a-time\"`"
    )]
    TooManyCells,
    #[error(
        "{cells} cells with {iterations} iterations each{} exceed {MOST_REQUESTS} requests: lower `run.iterations` or \
         vary fewer toggles",
        if *turns > 1 { format!(" of {turns} turns") } else { String::new() }
    )]
    TooManyRequests { cells: usize, iterations: u32, turns: usize },
    #[error("no cell matches `[[gate]]` number {number} ({metric}, {cells}): the cells are {}", some(labels))]
    NoCell {
        /// Counted from 1.
        number: usize,
        metric: &'static str,
        cells: String,
        labels: Vec<String>,
    },
}

/// A list of labels, shortened if long.
fn some(labels: &[String]) -> String {
    const SHOWN: usize = 12;
    let shown = list(labels.iter().take(SHOWN).map(String::as_str));
    if labels.len() > SHOWN { format!("{shown}, and {} more", labels.len() - SHOWN) } else { shown }
}

/// Lays out every cell and the order in which they run.
///
/// Combinations that are predicted to do the same work are one cell; the others are listed in
/// [`Cell::merged`]. Nothing is merged for an engine whose honoured toggles are known only at run
/// time (see [`inferometer_protocol::Honours`]), or that is not in `offers`.
///
/// # Errors
/// When there are too many cells or requests, or no cell matches a gate.
pub fn plan(scenario: &Scenario, offers: &Offers) -> Result<Plan, PlanError> {
    lay_out(scenario, offers, merged)
}

/// [`plan`] with one cell per combination, in the order of engine, length and combination: the
/// cells of two scenarios that differ only in values then correspond one by one.
///
/// # Errors
/// As [`plan`].
pub fn plan_unmerged(scenario: &Scenario, offers: &Offers) -> Result<Plan, PlanError> {
    lay_out(scenario, offers, |combinations, _| combinations.iter().map(|one| vec![one.clone()]).collect())
}

fn lay_out(
    scenario: &Scenario,
    offers: &Offers,
    group: impl Fn(&[Settings], &Foresight<'_>) -> Vec<Vec<Settings>>,
) -> Result<Plan, PlanError> {
    let toggles: Vec<Vec<Axis>> = scenario.engines.iter().map(|engine| scenario.toggles_of(engine)).collect();
    let combined = toggles.iter().map(|axes| combinations(axes, scenario.vary));
    let combined = combined.collect::<Result<Vec<_>, _>>()?;
    let workload = &scenario.workload;
    let lengths: Vec<Option<u32>> = match workload.lengths() {
        [] => vec![None],
        lengths => lengths.iter().copied().map(Some).collect(),
    };
    let levels: Vec<Option<Level>> = match &scenario.traffic {
        None => vec![None],
        Some(traffic) => traffic.levels.iter().copied().map(Some).collect(),
    };
    let total = combined.iter().map(Vec::len).sum::<usize>().saturating_mul(lengths.len() * levels.len());
    if total > MOST_CELLS {
        return Err(PlanError::TooManyCells);
    }
    let mut cells: Vec<Cell> = Vec::new();
    for (engine, spec) in scenario.engines.iter().enumerate() {
        let (combinations, axes) = (&combined[engine], &toggles[engine]);
        let engine = engine as u32;
        let offer = offers.engines.iter().find(|offer| offer.name == spec.name);
        let honoured = offer.and_then(|offer| offer.honours(&spec.options).toggles.as_deref());
        for &length in &lengths {
            let foresight =
                Foresight { sampling: &scenario.sampling, max_tokens: workload.max_tokens(), length, honoured };
            for members in group(combinations, &foresight) {
                let label = label(scenario, axes, combinations, &members, engine, length);
                for &level in &levels {
                    let id = cells.len() as u32;
                    let label = level.map_or_else(|| label.clone(), |level| beside(scenario, &label, level));
                    cells.push(Cell { level, ..cell(id, label, engine, members.clone(), &foresight) });
                }
            }
        }
    }
    every_gate_has_a_cell(scenario, &cells)?;
    let requests = scenario.traffic.as_ref().map_or(1, |traffic| traffic.requests as usize);
    let order = order(cells.len(), &scenario.run, workload.turns() * requests)?;
    Ok(Plan { cells, order })
}

/// Each condition of a gate was checked on its own; together they may match no cell.
fn every_gate_has_a_cell(scenario: &Scenario, cells: &[Cell]) -> Result<(), PlanError> {
    let label = |cell: &Cell| scenario.engines[cell.engine as usize].label.as_str();
    for (i, gate) in scenario.gates.iter().enumerate() {
        if !cells.iter().any(|cell| gate.cells.matches(cell, label(cell))) {
            return Err(PlanError::NoCell {
                number: i + 1,
                metric: gate.metric.name(),
                cells: gate.cells.to_string(),
                labels: cells.iter().map(|cell| cell.label.clone()).collect(),
            });
        }
    }
    Ok(())
}

/// What can be predicted of a request.
struct Foresight<'a> {
    sampling: &'a Sampling,
    max_tokens: u32,
    length: Option<u32>,
    /// Toggles that the engine honours, if known before it runs.
    honoured: Option<&'a [&'static str]>,
}

impl Foresight<'_> {
    /// Empty for a text whose length only the tokenizer knows, and for an engine that is not known
    /// well enough.
    fn predicted(&self, toggles: &Settings) -> Settings {
        let (Some(prompt_tokens), Some(honoured)) = (self.length, self.honoured) else { return Settings::new() };
        let shape = Shape { prompt_tokens, reused_tokens: 0, generated_tokens: self.max_tokens };
        let mut all = expected(self.sampling, toggles, shape, honoured);
        all.retain(|name, _| [EFFECTIVE_PENALTY, EFFECTIVE_WINDOW, EFFECTIVE_CHUNK].contains(&name.as_str()));
        all
    }

    /// Whether the prediction covers any effect that `toggle` has.
    fn foresees(&self, toggle: &str) -> bool {
        self.length.is_some()
            && FORESEEABLE.contains(&toggle)
            && self.honoured.is_some_and(|names| names.contains(&toggle))
    }
}

/// Toggles whose effect follows from the request.
pub(super) const FORESEEABLE: [&str; 4] =
    [REPETITION_PENALTY, REPETITION_CONTEXT_SIZE, REPETITION_WINDOW_CAP, PREFILL_CHUNK_SIZE];

fn cell(id: u32, label: String, engine: u32, members: Vec<Settings>, foresight: &Foresight<'_>) -> Cell {
    let mut members = members.into_iter();
    let toggles = members.next().expect("a group has at least its first member");
    let load = toggles.iter().filter(|(name, _)| is_load(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
    Cell {
        id,
        label,
        engine,
        length: foresight.length,
        load,
        sampling: applied(foresight.sampling, &toggles),
        predicted: foresight.predicted(&toggles),
        toggles,
        level: None,
        merged: members.collect(),
    }
}

fn is_load(name: &str) -> bool {
    toggle::find(name).is_some_and(|t| t.scope == Scope::Load)
}

/// Sampling with the toggles that change it applied.
fn applied(sampling: &Sampling, toggles: &Settings) -> Sampling {
    let mut sampling = sampling.clone();
    if let Some(penalty) = toggles.get(REPETITION_PENALTY).and_then(Value::as_float) {
        sampling.repetition_penalty = penalty;
    }
    if let Some(size) = toggles.get(REPETITION_CONTEXT_SIZE).and_then(Value::as_count) {
        sampling.repetition_context_size = size;
    }
    sampling
}

/// Every combination of toggle values, the first values first.
fn combinations(axes: &[Axis], vary: Vary) -> Result<Vec<Settings>, PlanError> {
    let first = |axis: &Axis| Some((axis.toggle.clone(), axis.values.first()?.clone()));
    let centre: Settings = axes.iter().filter_map(first).collect();
    let mut all = vec![centre];
    for axis in axes {
        let others = axis.values.iter().skip(1);
        let from = if vary == Vary::All { all.len() } else { 1 };
        if all.len().saturating_add(from.saturating_mul(others.len())) > MOST_CELLS {
            return Err(PlanError::TooManyCells);
        }
        let changed: Vec<Settings> = (0..from)
            .flat_map(|i| others.clone().map(move |value| (i, value)))
            .map(|(i, value)| {
                let mut settings = all[i].clone();
                settings.insert(axis.toggle.clone(), value.clone());
                settings
            })
            .collect();
        all.extend(changed);
    }
    // In the file's order of values, the last toggle varying fastest.
    let rank = |settings: &Settings| -> Vec<usize> {
        let place = |a: &Axis| a.values.iter().position(|v| settings.get(&a.toggle) == Some(v)).unwrap_or(0);
        axes.iter().map(place).collect()
    };
    if vary == Vary::All {
        all.sort_by_key(rank);
    }
    Ok(all)
}

/// Groups of combinations that do the same work, each in the order of `combinations`.
fn merged(combinations: &[Settings], foresight: &Foresight<'_>) -> Vec<Vec<Settings>> {
    let mut groups: Vec<((Settings, Settings), Vec<Settings>)> = Vec::new();
    for toggles in combinations {
        // Predicted toggles are compared by effect, all others by value.
        let others = toggles.iter().filter(|(name, _)| !foresight.foresees(name));
        let key = (others.map(|(n, v)| (n.clone(), v.clone())).collect(), foresight.predicted(toggles));
        match groups.iter_mut().find(|(k, _)| *k == key) {
            Some((_, members)) => members.push(toggles.clone()),
            None => groups.push((key, vec![toggles.clone()])),
        }
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

/// The cell's label: engine, toggles and length, as far as they differ between cells.
///
/// Omits a toggle if changing it alone does not lead out of the cell, so labels are unique.
fn label(
    scenario: &Scenario,
    axes: &[Axis],
    combinations: &[Settings],
    members: &[Settings],
    engine: u32,
    length: Option<u32>,
) -> String {
    let mut parts = Vec::new();
    let name = &scenario.engines[engine as usize].label;
    if scenario.engines.len() > 1 {
        parts.push(name.clone());
    }
    for axis in axes.iter().filter(|a| a.values.len() > 1) {
        if matters(&axis.toggle, combinations, members)
            && let Some(value) = members[0].get(&axis.toggle)
        {
            parts.push(format!("{}={value}", short(&axis.toggle)));
        }
    }
    if let Some(length) = length
        && (scenario.workload.lengths().len() > 1 || parts.is_empty())
    {
        parts.push(format!("len={length}"));
    }
    if parts.is_empty() { name.clone() } else { parts.join(" ") }
}

/// A label with the level of load, which stands alone where nothing else differs.
fn beside(scenario: &Scenario, label: &str, level: Level) -> String {
    let alone = scenario.engines.len() == 1
        && scenario.workload.lengths().len() < 2
        && scenario.all_toggles().iter().all(|axis| axis.values.len() < 2);
    if alone { level.to_string() } else { format!("{label} {level}") }
}

/// Whether changing `toggle` alone leads from a member to a combination outside of the group.
fn matters(toggle: &str, combinations: &[Settings], members: &[Settings]) -> bool {
    let only_toggle_differs =
        |a: &Settings, b: &Settings| a.iter().all(|(name, v)| name == toggle || b.get(name) == Some(v));
    members
        .iter()
        .any(|member| combinations.iter().any(|other| only_toggle_differs(member, other) && !members.contains(other)))
}

/// Short form of a toggle's name in labels.
#[must_use]
pub fn short(toggle: &str) -> &str {
    match toggle {
        REPETITION_PENALTY => "penalty",
        REPETITION_CONTEXT_SIZE => "context",
        REPETITION_WINDOW_CAP => "cap",
        PREFILL_CHUNK_SIZE => "chunk",
        "cache_clear_chunks" => "clear_chunks",
        "cache_clear_tokens" => "clear_tokens",
        "kv_reuse" => "reuse",
        "kv_cache" => "kv",
        other => other,
    }
}

/// A shuffle of all cells for each iteration. The shuffle is our own (Fisher-Yates), so that a seed
/// gives the same order whatever the release of a library.
fn order(cells: usize, run: &RunSettings, turns: usize) -> Result<Vec<Vec<u32>>, PlanError> {
    let iterations = run.iterations;
    if cells.saturating_mul(iterations as usize).saturating_mul(turns) > MOST_REQUESTS {
        return Err(PlanError::TooManyRequests { cells, iterations, turns });
    }
    let mut rng = seeded(run.order_seed, "order");
    let mut below = |n: usize| ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize;
    let row = |_| {
        let mut ids: Vec<u32> = (0..cells as u32).collect();
        for i in (1..ids.len()).rev() {
            ids.swap(i, below(i + 1));
        }
        ids
    };
    Ok((0..iterations).map(row).collect())
}
