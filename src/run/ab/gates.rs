//! The gates of a session, with all defaults filled in.

use crate::compare::cost::{Iterations, candidates};
use crate::record::ab::GateInfo;
use crate::record::{RequestRow, Status, Timing};
use crate::run::error::RunError;
use crate::spec::{Cell, CellSelector, Gate, GateMetric, Machine, Scale, Scenario, Side};

/// The default gates.
const USUAL: [GateMetric; 3] = [GateMetric::DecodeTps, GateMetric::PrefillTps, GateMetric::PeakMemory];

/// The smallest change of a count.
const ONE: f64 = 1.0;
/// A smaller swing is not a memory cycle (METHOD section 5).
const LEAST_BYTES: f64 = 16.0 * 1024.0 * 1024.0;

/// The scenario's gates, or the default ones, each with its delta and cells. `delta` is from the
/// command line, as a share; it applies to gates without a delta that are compared by ratios.
///
/// # Errors
/// When no cell matches a gate.
pub fn resolve(
    scenario: &Scenario,
    cells: &[Cell],
    machine: &Machine,
    delta: Option<f64>,
) -> Result<Vec<GateInfo>, RunError> {
    let usual = || USUAL.map(|metric| Gate { metric, cells: CellSelector::default(), delta: None }).to_vec();
    if scenario.ab.resident && scenario.gates.iter().any(|gate| gate.metric == GateMetric::Load) {
        let told = "loading cannot be gated with resident hosts, because each loads only once; remove `resident`";
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
        return Err(RunError::Ab(format!("gate {gate} matches no cell; the cells are: {}", labels.join(", "))));
    }
    let (least, because) = match gate.delta {
        Some(own) => (own, "the scenario".to_owned()),
        None => usual_least(gate.metric, delta, machine),
    };
    Ok(GateInfo { gate, least, because, cell_ids })
}

/// The delta of a gate that states none; `delta` is from the command line.
fn usual_least(metric: GateMetric, delta: Option<f64>, machine: &Machine) -> (f64, String) {
    match (metric.scale(), delta) {
        (Scale::Ratio, Some(given)) => (given, "the command line".to_owned()),
        (Scale::Ratio, None) => usual_delta(machine),
        (Scale::Count, _) => (ONE, "the default for counts".to_owned()),
        (Scale::Bytes, _) => (LEAST_BYTES, "the default for memory cycles".to_owned()),
    }
}

/// METHOD section 3.9.
fn usual_delta(machine: &Machine) -> (f64, String) {
    let (least, what) = match (machine.virtual_machine, machine.os.to_lowercase()) {
        (Some(true), os) if os.contains("mac") || os.contains("darwin") => (0.05, "a virtual machine with macOS"),
        (Some(true), _) => (0.03, "a virtual machine"),
        (Some(false), _) => (0.01, "a physical machine"),
        (None, _) => (0.03, "a machine of unknown kind"),
    };
    (least, format!("the default for {what}"))
}

/// The gates, by whether they are measured.
#[derive(Debug)]
pub struct Measured {
    pub kept: Vec<GateInfo>,
    /// Names of the gates that are not measured.
    pub left: Vec<&'static str>,
}

/// Splits the gates by whether this engine and machine measure them, according to side A's rows.
/// `None` while a cell has no `ok` request: without valid times this is not known.
///
/// # Errors
/// When the scenario requests a gate that is not measured.
pub fn measured(
    gates: Vec<GateInfo>,
    asked_for: bool,
    cells: &[Cell],
    rows: &[RequestRow],
) -> Result<Option<Measured>, RunError> {
    // Requests for the output comparison and warm-ups fill the same columns as measured ones.
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
            "this engine, workload or machine does not measure {}: use other metrics for the gates",
            left.join(" and ")
        )));
    }
    Ok(Some(Measured { kept, left }))
}

/// Refuses gates of token times that nobody verified. `rows`: the side's rows so far.
///
/// # Errors
/// When a gate's cell has such times.
pub fn verified(gates: &[GateInfo], side: Side, rows: &[RequestRow]) -> Result<(), RunError> {
    let last = |cell: u32| rows.iter().rfind(|row| row.cell == cell && row.status == Status::Ok);
    let grade = |cell: &u32| last(*cell).and_then(|row| row.timing).filter(|timing| *timing != Timing::Verified);
    let timed = || gates.iter().filter(|info| info.gate.metric.is_token_time());
    let Some(timing) = timed().flat_map(|info| &info.cell_ids).find_map(grade) else { return Ok(()) };
    let names: Vec<&str> = timed().map(|info| info.gate.metric.name()).collect();
    let why = match timing {
        Timing::Inexact => "several tokens come at a time",
        Timing::Claimed | Timing::Verified => {
            "its host does not send tokens as they become readable (capability `stream` of the engine protocol), or they \
             arrived at other times than they were stamped, which a busy machine can cause too: see the warnings"
        }
    };
    Err(RunError::Ab(format!(
        "the token times of side {side} are {}, so {} cannot be gated; {why}. Gates of e2e, cpu, peak_memory and load \
         need no token times",
        timing.name(),
        names.join(" and "),
        side = side.name(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_bytes_have_separate_deltas() {
        let machine = Machine { virtual_machine: Some(true), ..Machine::default() };
        let usual = |metric, delta: Option<f64>| usual_least(metric, delta, &machine).0;
        assert_eq!((usual(GateMetric::DecodeTps, None), usual(GateMetric::DecodeTps, Some(0.07))), (0.03, 0.07));
        assert_eq!(usual(GateMetric::MemoryCycles, Some(0.07)), 1.0, "a share does not apply to counts");
        assert_eq!(usual(GateMetric::MemorySwing, None), 16_777_216.0);
    }

    #[test]
    fn only_verified_token_times_are_gated() {
        let gate = |metric| GateInfo {
            gate: Gate { metric, cells: CellSelector::default(), delta: None },
            least: 0.03,
            because: String::new(),
            cell_ids: vec![0, 1],
        };
        let rows = |second| {
            [(0, Some(Timing::Verified)), (1, second)].map(|(cell, timing)| RequestRow {
                cell,
                timing,
                ..RequestRow::default()
            })
        };
        let refused = |metric, second| verified(&[gate(metric)], Side::B, &rows(second)).is_err();
        for timing in [Timing::Claimed, Timing::Inexact] {
            assert!(refused(GateMetric::DecodeTps, Some(timing)));
            assert!(refused(GateMetric::Ttft, Some(timing)));
            assert!(!refused(GateMetric::E2e, Some(timing)));
            assert!(!refused(GateMetric::PeakMemory, Some(timing)));
            assert!(!refused(GateMetric::Load, Some(timing)));
        }
        assert!(!refused(GateMetric::DecodeTps, Some(Timing::Verified)));
    }
}
