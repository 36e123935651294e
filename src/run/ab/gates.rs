//! What a session decides, with everything filled in.

use crate::compare::cost::{Iterations, candidates};
use crate::record::ab::GateInfo;
use crate::record::{RequestRow, Status};
use crate::run::error::RunError;
use crate::spec::{Cell, CellSelector, Gate, GateMetric, Machine, Scale, Scenario};
use inferometer_protocol::TokenTiming;

/// The usual three.
const USUAL: [GateMetric; 3] = [GateMetric::DecodeTps, GateMetric::PrefillTps, GateMetric::PeakMemory];

/// The smallest change of a count that is one.
const ONE: f64 = 1.0;
/// Less is no cycle of memory (METHOD section 5).
const LEAST_BYTES: f64 = 16.0 * 1024.0 * 1024.0;

/// The scenario's gates, or the usual three, each with its delta and cells. `delta` from the command line, a share, is for gates
/// that state none and are compared by ratios.
///
/// # Errors
/// When a gate looks at no cell.
pub fn resolve(
    scenario: &Scenario,
    cells: &[Cell],
    machine: &Machine,
    delta: Option<f64>,
) -> Result<Vec<GateInfo>, RunError> {
    let usual = || USUAL.map(|metric| Gate { metric, cells: CellSelector::default(), delta: None }).to_vec();
    if scenario.ab.resident && scenario.gates.iter().any(|gate| gate.metric == GateMetric::Load) {
        let told =
            "loading cannot be gated where hosts stay: each loads once, which is no sample; leave out `resident`";
        return Err(RunError::Ab(told.to_owned()));
    }
    let gates = if scenario.gates.is_empty() { usual() } else { scenario.gates.clone() };
    gates.into_iter().map(|gate| filled(gate, scenario, cells, machine, delta)).collect()
}

fn filled(
    gate: Gate,
    scenario: &Scenario,
    cells: &[Cell],
    machine: &Machine,
    delta: Option<f64>,
) -> Result<GateInfo, RunError> {
    let engine = |cell: &Cell| scenario.engines[cell.engine as usize].label.as_str();
    let cell_ids: Vec<u32> = cells.iter().filter(|cell| gate.cells.matches(cell, engine(cell))).map(|c| c.id).collect();
    if cell_ids.is_empty() {
        let labels: Vec<&str> = cells.iter().map(|cell| cell.label.as_str()).collect();
        let gate = format!("{} ({})", gate.metric.name(), gate.cells);
        return Err(RunError::Ab(format!("gate {gate} looks at no cell; there are: {}", labels.join(", "))));
    }
    let (least, because) = match gate.delta {
        Some(own) => (own, "the scenario".to_owned()),
        None => usual_least(gate.metric, delta, machine),
    };
    Ok(GateInfo { gate, least, because, cell_ids })
}

/// Of a gate that states none, given that of the command line.
fn usual_least(metric: GateMetric, delta: Option<f64>, machine: &Machine) -> (f64, String) {
    match (metric.scale(), delta) {
        (Scale::Ratio, Some(given)) => (given, "the command line".to_owned()),
        (Scale::Ratio, None) => usual_delta(machine),
        (Scale::Count, _) => (ONE, "the usual for a count".to_owned()),
        (Scale::Bytes, _) => (LEAST_BYTES, "the usual for memory that comes and goes".to_owned()),
    }
}

/// METHOD section 3.9.
fn usual_delta(machine: &Machine) -> (f64, String) {
    let (least, what) = match (machine.virtual_machine, machine.os.to_lowercase()) {
        (Some(true), os) if os.contains("mac") || os.contains("darwin") => (0.05, "a virtual machine with macOS"),
        (Some(true), _) => (0.03, "a virtual machine"),
        (Some(false), _) => (0.01, "a machine of its own"),
        (None, _) => (0.03, "a machine of unknown kind"),
    };
    (least, format!("the usual for {what}"))
}

/// Gates, sorted by whether they are measured here.
#[derive(Debug)]
pub struct Measured {
    pub kept: Vec<GateInfo>,
    /// Names of the others.
    pub left: Vec<&'static str>,
}

/// Gates without those that this engine or machine does not measure, given side A's rows; the names of those left out. `None`
/// while a cell has no good request yet: where times were spoilt nothing is known.
///
/// # Errors
/// When the scenario asks for one that is not measured.
pub fn measured(
    gates: Vec<GateInfo>,
    asked_for: bool,
    cells: &[Cell],
    rows: &[RequestRow],
) -> Result<Option<Measured>, RunError> {
    // Requests that show the outputs, or warm up, measure what measured ones will.
    let last = |cell: &Cell| rows.iter().rfind(|row| row.cell == cell.id && row.status == Status::Ok);
    let as_measured = |row: &RequestRow| RequestRow { warmup: false, iteration: 1, ..row.clone() };
    let Some(as_measured) = cells.iter().map(|cell| last(cell).map(as_measured)).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let iterations = Iterations::of(&as_measured);
    let is_measured = |gate: &GateInfo| {
        candidates(gate.gate.metric)
            .into_iter()
            .any(|metric| gate.cell_ids.iter().all(|cell| iterations.has(metric, gate.gate.metric.scale(), *cell, 1)))
    };
    let (kept, left): (Vec<GateInfo>, Vec<GateInfo>) = gates.into_iter().partition(is_measured);
    let left: Vec<&'static str> = left.iter().map(|gate| gate.gate.metric.name()).collect();
    if kept.is_empty() || (asked_for && !left.is_empty()) {
        return Err(RunError::Ab(format!(
            "this engine, workload or machine does not measure {}, so there is nothing to gate: take another metric",
            left.join(" and ")
        )));
    }
    Ok(Some(Measured { kept, left }))
}

/// Refuses to rank tokens' times of an engine that stamps every token against those of one that does not: for each cell by
/// id, what the sides' hosts say of their stamps, where there was one.
///
/// # Errors
/// When a gate would do so.
pub fn comparable(gates: &[GateInfo], timings: &[[Option<TokenTiming>; 2]]) -> Result<(), RunError> {
    let mixed = |cell: &u32| match timings[*cell as usize] {
        [Some(a), Some(b)] => a != b,
        _ => false,
    };
    let refused: Vec<&str> = gates
        .iter()
        .filter(|info| info.gate.metric.is_token_time() && info.cell_ids.iter().any(mixed))
        .map(|info| info.gate.metric.name())
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(RunError::Ab(format!(
        "one side stamps every token and the other does not (inexact token timing), so {} cannot be compared: state gates \
         of other metrics (cpu, peak_memory)",
        refused.join(" and ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_bytes_have_deltas_of_their_own() {
        let machine = Machine { virtual_machine: Some(true), ..Machine::default() };
        let usual = |metric, delta: Option<f64>| usual_least(metric, delta, &machine).0;
        assert_eq!((usual(GateMetric::DecodeTps, None), usual(GateMetric::DecodeTps, Some(0.07))), (0.03, 0.07));
        assert_eq!(usual(GateMetric::MemoryCycles, Some(0.07)), 1.0, "a share says nothing of counts");
        assert_eq!(usual(GateMetric::MemorySwing, None), 16_777_216.0);
    }

    #[test]
    fn token_times_of_exact_and_inexact_stamps_are_not_ranked() {
        let gate = |metric, cell_ids: &[u32]| GateInfo {
            gate: Gate { metric, cells: CellSelector::default(), delta: None },
            least: 0.03,
            because: String::new(),
            cell_ids: cell_ids.to_vec(),
        };
        let (exact, inexact) = (Some(TokenTiming::Exact), Some(TokenTiming::Inexact));
        let timings = [[exact, exact], [exact, inexact], [inexact, inexact], [None, inexact]];
        for (metric, cells, fine) in [
            (GateMetric::DecodeTps, &[0, 2, 3][..], true),
            (GateMetric::DecodeTps, &[0, 1], false),
            (GateMetric::Ttft, &[1], false),
            (GateMetric::PeakMemory, &[1], true),
            (GateMetric::Load, &[0, 1], true),
        ] {
            let result = comparable(&[gate(metric, cells)], &timings);
            assert_eq!(result.is_ok(), fine, "{} in {cells:?}: {result:?}", metric.name());
            assert!(fine || result.unwrap_err().to_string().contains(metric.name()));
        }
    }
}
