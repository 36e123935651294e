//! Where time goes: the functions that a sampling profiler found in the profiled pass of each cell.

use serde::{Deserialize, Serialize};

use crate::profile::rate::achieved_hz_of;
use crate::profile::{Tokens, files, functions};
use crate::record::Record;
use inferometer_protocol::{Phase, Profile};

/// Most functions listed for each phase; `functions.csv` has all.
const LISTED: usize = 10;
/// Fewer samples of a phase have no shares: one sample is 100 % of something.
pub const LEAST_SAMPLES: u64 = 20;

/// The iterations of a cell that a sampling profiler recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellFunctions {
    pub cell: u32,
    /// Iterations with a profile.
    pub iterations: u32,
    pub phases: Vec<PhaseFunctions>,
    /// Why there is no profile although one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseFunctions {
    /// Prefill or decode; null = everything, if the profiler cannot tell phases apart.
    pub phase: Option<Phase>,
    /// The number of samples and their rate, in words.
    pub sampled: String,
    /// Samples of the phase; null in summaries of older versions.
    #[serde(default)]
    pub samples: Option<u64>,
    /// Achieved samples per second; null if unknown.
    pub achieved_hz: Option<f64>,
    /// The ten with the most self time; empty if the samples are too few.
    pub functions: Vec<FunctionRow>,
}

impl PhaseFunctions {
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.phase.map_or("all", Phase::name)
    }

    /// Whether shares of the samples would say nothing.
    #[must_use]
    pub fn too_few(&self) -> Option<u64> {
        self.samples.filter(|samples| *samples < LEAST_SAMPLES)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionRow {
    pub function: String,
    pub self_percent: f64,
    pub total_percent: f64,
    /// Per token of the phase; null if the phase has no tokens.
    pub self_ms_per_token: Option<f64>,
    pub total_ms_per_token: Option<f64>,
}

/// One for each cell that a sampling profiler was asked for, in the plan's order.
#[must_use]
pub fn cells(record: &Record) -> Vec<CellFunctions> {
    record.manifest.plan.cells.iter().filter_map(|cell| of_cell(record, cell.id)).collect()
}

/// The profiles of a cell's iterations that did not fail.
#[must_use]
pub fn profiles(record: &Record, cell: u32) -> Vec<&Profile> {
    record.profile.done(cell).filter_map(|(one, _)| one.profile.as_ref()).collect()
}

fn of_cell(record: &Record, cell: u32) -> Option<CellFunctions> {
    let missing = record.profile.done(cell).find_map(|(one, _)| one.missing.clone());
    let seen = profiles(record, cell);
    if seen.is_empty() && missing.is_none() {
        return None;
    }
    let mut tokens = Tokens::default();
    for (one, turns) in record.profile.done(cell).filter(|(one, _)| one.profile.is_some()) {
        tokens.prefill += one.prefill_tokens;
        tokens.decode += one.generated_tokens.saturating_sub(turns);
    }
    let told_apart = seen.iter().any(|profile| profile.parts.iter().any(|part| part.phase.is_some()));
    let phases = if told_apart { &[Some(Phase::Prefill), Some(Phase::Decode)][..] } else { &[None] };
    let phases = phases.iter().map(|phase| of_phase(&seen, *phase, tokens)).filter(|phase| phase.samples != Some(0));
    Some(CellFunctions {
        cell,
        iterations: u32::try_from(seen.len()).unwrap_or(u32::MAX),
        phases: phases.collect(),
        missing,
    })
}

fn of_phase(profiles: &[&Profile], phase: Option<Phase>, tokens: Tokens) -> PhaseFunctions {
    let per_token = |ns: f64| tokens.of(phase).map(|tokens| ns / 1e6 / tokens as f64);
    let samples = files::samples(profiles, phase);
    let listed = if samples < LEAST_SAMPLES { 0 } else { LISTED };
    let rows = functions(profiles, phase).into_iter().take(listed).map(|share| FunctionRow {
        self_percent: share.self_share * 100.0,
        total_percent: share.total_share * 100.0,
        self_ms_per_token: per_token(share.self_ns),
        total_ms_per_token: per_token(share.total_ns),
        function: share.name,
    });
    PhaseFunctions {
        phase,
        sampled: files::facts(profiles, phase),
        samples: Some(samples),
        achieved_hz: achieved_hz_of(profiles, phase),
        functions: rows.collect(),
    }
}
