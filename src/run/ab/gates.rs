//! The gates of a session, with all defaults filled in.

use super::able::Able;
use crate::compare::cost::{Iterations, candidates};
use crate::record::ab::GateInfo;
use crate::record::metric::Metric;
use crate::record::{RequestRow, Status, Timing};
use crate::run::error::RunError;
use crate::spec::{Cell, CellSelector, Gate, GateMetric, GateOrigin, Machine, Scale, Scenario, Side};

/// The default gates.
const USUAL: [GateMetric; 3] = [GateMetric::DecodeTps, GateMetric::PrefillTps, GateMetric::PeakMemory];

/// The smallest change of a count.
const ONE: f64 = 1.0;
/// A smaller swing is not a memory cycle (docs/explanation/method.md#memory-oscillation).
const LEAST_BYTES: f64 = 16.0 * 1024.0 * 1024.0;

/// The scenario's gates, or the default ones, each with its delta and cells. `delta` is from the
/// command line, as a share; it applies to gates without a delta that are compared by ratios.
///
/// # Errors
/// When no cell matches a gate, or this machine cannot measure one that the scenario states.
pub fn resolve(
    scenario: &Scenario,
    cells: &[Cell],
    machine: &Machine,
    delta: Option<f64>,
) -> Result<Vec<GateInfo>, RunError> {
    super::able::check(scenario)?;
    let usual = || USUAL.map(|metric| Gate { metric, cells: CellSelector::default(), delta: None }).to_vec();
    if scenario.ab.resident && scenario.gates.iter().any(|gate| gate.metric == GateMetric::Load) {
        let told = "loading cannot be gated with resident hosts, because each loads only once; remove `resident`";
        return Err(RunError::Ab(told.to_owned()));
    }
    let (gates, origin) = match scenario.gates.is_empty() {
        true => (usual(), GateOrigin::Default),
        false => (scenario.gates.clone(), GateOrigin::Scenario),
    };
    let filled = |gate| Ok(GateInfo { origin, ..filled(gate, scenario, cells, machine, delta)? });
    gates.into_iter().map(filled).collect()
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
    Ok(GateInfo { gate, origin: GateOrigin::default(), least, because, cell_ids })
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

/// docs/explanation/method.md#figures-of-a-gate.
fn usual_delta(machine: &Machine) -> (f64, String) {
    let (least, what) = match (machine.virtual_machine, machine.os.to_lowercase()) {
        (Some(true), os) if os.contains("mac") || os.contains("darwin") => (0.05, "a virtual machine with macOS"),
        (Some(true), _) => (0.03, "a virtual machine"),
        (Some(false), _) => (0.01, "a physical machine"),
        (None, _) => (0.03, "a machine of unknown kind"),
    };
    (least, format!("the default for {what}"))
}

/// The gates after a look at a side's rows.
#[derive(Debug, Default)]
pub struct Sorted {
    pub kept: Vec<GateInfo>,
    /// What was left out and why, as sentences.
    pub left: Vec<String>,
}

/// Splits the gates by whether this engine and machine measure them, according to side A's rows.
/// `None` while a cell has no `ok` request: without valid times this is not known.
///
/// # Errors
/// When the scenario requests a gate that is not measured, or none is.
pub fn measured(
    gates: Vec<GateInfo>,
    able: &Able,
    cells: &[Cell],
    rows: &[RequestRow],
) -> Result<Option<Sorted>, RunError> {
    // Requests for the output comparison and warm-ups fill the same columns as measured ones.
    let last = |cell: &Cell| rows.iter().rfind(|row| row.cell == cell.id && row.status == Status::Ok);
    let as_measured = |row: &RequestRow| RequestRow { warmup: false, iteration: 1, ..row.clone() };
    let Some(mut known) = cells.iter().map(|cell| last(cell).map(as_measured)).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    // Only the first row of a host, a warm-up, has its load time.
    let loads = rows.iter().filter(|row| row.load_s.is_some());
    known.extend(loads.map(|row| RequestRow { warmup: true, ..row.clone() }));
    let iterations = Iterations::of(&known);
    let is_measured = |gate: &GateInfo| {
        candidates(gate.gate.metric)
            .into_iter()
            .any(|metric| gate.cell_ids.iter().all(|cell| iterations.has(metric, gate.gate.metric.scale(), *cell, 1)))
    };
    let (kept, left): (Vec<GateInfo>, Vec<GateInfo>) = gates.into_iter().partition(is_measured);
    let (asked, names) = (asked_for(&left), names(&left));
    if kept.is_empty() || !asked.is_empty() {
        let names = if asked.is_empty() { names } else { asked };
        return Err(RunError::Ab(format!(
            "this engine, workload or machine does not measure {names}: use other metrics for the gates"
        )));
    }
    let told = |info: &GateInfo| {
        let why = able.why_not(info.gate.metric).unwrap_or("this engine, workload or machine does not measure it");
        format!("{} is not gated: {why}", info.gate.metric.name())
    };
    Ok(Some(Sorted { kept, left: left.iter().map(told).collect() }))
}

/// Leaves out the default gates of token times that nobody verified, and gates `e2e` in their
/// place, so that the session still decides on speed. `rows`: the side's rows so far.
///
/// # Errors
/// When the scenario requests such a gate.
pub fn verified(gates: Vec<GateInfo>, side: Side, rows: &[RequestRow]) -> Result<Sorted, RunError> {
    let last = |cell: u32| rows.iter().rfind(|row| row.cell == cell && row.status == Status::Ok);
    let grade = |cell: &u32| last(*cell).and_then(|row| row.timing).filter(|timing| *timing != Timing::Verified);
    let doubted = |info: &GateInfo| match info.gate.metric.is_token_time() {
        true => info.cell_ids.iter().find_map(grade),
        false => None,
    };
    let Some(timing) = gates.iter().find_map(doubted) else { return Ok(Sorted { kept: gates, left: Vec::new() }) };
    let (left, mut kept): (Vec<GateInfo>, Vec<GateInfo>) = gates.into_iter().partition(|info| doubted(info).is_some());
    let why = match timing {
        Timing::Inexact => "several tokens come at a time",
        Timing::Claimed | Timing::Imported | Timing::Verified => {
            "its host does not send tokens as they become readable (capability `stream` of the engine protocol), or they \
             arrived at other times than they were stamped, which a busy machine can cause too: see the warnings"
        }
    };
    let times = format!("the token times of side {} are {}", side.name(), timing.name());
    let asked = asked_for(&left);
    if !asked.is_empty() {
        return Err(RunError::Ab(format!(
            "{times}, so {asked} cannot be gated; {why}. Gates of e2e, cpu, peak_memory and load need no token times"
        )));
    }
    let names = names(&left);
    kept.splice(0..0, left.into_iter().next().map(|info| GateInfo { gate: whole_request(info.gate), ..info }));
    Ok(Sorted { kept, left: vec![format!("{times}, so e2e is gated instead of {names}; {why}")] })
}

/// Leaves out gates of memory that the sides read from different gauges: the difference would be
/// one of gauges. `memory`: each side's gauge of memory cycles, once known; `rows`: each side's so
/// far.
///
/// # Errors
/// When the scenario requests such a gate.
pub fn same_gauges(
    gates: Vec<GateInfo>,
    memory: [Option<&str>; 2],
    rows: [&[RequestRow]; 2],
) -> Result<Sorted, RunError> {
    let different = |info: &GateInfo| match info.gate.metric {
        GateMetric::PeakMemory => peaks(info, rows),
        GateMetric::MemoryCycles | GateMetric::MemorySwing | GateMetric::MemoryReclaimed => match memory {
            [Some(a), Some(b)] if a != b => Some([a.to_owned(), b.to_owned()]),
            _ => None,
        },
        _ => None,
    };
    let Some([a, b]) = gates.iter().find_map(different) else { return Ok(Sorted { kept: gates, left: Vec::new() }) };
    let (left, kept): (Vec<GateInfo>, Vec<GateInfo>) = gates.into_iter().partition(|info| different(info).is_some());
    let gauges = format!("side A's memory is read from {a} and side B's from {b}");
    let (asked, names) = (asked_for(&left), names(&left));
    if !asked.is_empty() || kept.is_empty() {
        let names = if asked.is_empty() { names } else { asked };
        let told = format!("{gauges}, which cannot be compared: remove the gate of {names}");
        return Err(RunError::Ab(told));
    }
    Ok(Sorted { kept, left: vec![format!("{gauges}, which cannot be compared, so not gated: {names}")] })
}

/// The sides' gauges of the gate's peak memory, if none of them is read on both sides. `None` while
/// a side has no `ok` request in a cell.
fn peaks(info: &GateInfo, rows: [&[RequestRow]; 2]) -> Option<[String; 2]> {
    let last = |rows: &[RequestRow], cell: u32| -> Option<RequestRow> {
        rows.iter().rfind(|row| row.cell == cell && row.status == Status::Ok).cloned()
    };
    let mut read = Vec::new();
    for rows in rows {
        let rows = info.cell_ids.iter().map(|cell| last(rows, *cell)).collect::<Option<Vec<_>>>()?;
        let all = |metric: &Metric| rows.iter().all(|row| metric.of_iteration(&[row]).is_some());
        read.push(candidates(info.gate.metric).into_iter().filter(|metric| all(metric)).collect::<Vec<_>>());
    }
    let common = read[0].iter().any(|metric| read[1].iter().any(|other| other.key == metric.key));
    let named =
        |read: &[&Metric]| read.first().map_or_else(|| "no gauge".to_owned(), |metric| format!("`{}`", metric.key));
    (!common).then(|| [named(&read[0]), named(&read[1])])
}

/// The same cells, compared by their whole duration.
fn whole_request(gate: Gate) -> Gate {
    Gate { metric: GateMetric::E2e, ..gate }
}

/// Names of the gates that the user wrote.
fn asked_for(gates: &[GateInfo]) -> String {
    names(gates.iter().filter(|info| info.origin == GateOrigin::Scenario))
}

fn names<'a>(gates: impl IntoIterator<Item = &'a GateInfo>) -> String {
    gates.into_iter().map(|info| info.gate.metric.name()).collect::<Vec<_>>().join(" and ")
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

    fn info(metric: GateMetric, origin: GateOrigin) -> GateInfo {
        let gate = Gate { metric, cells: CellSelector::default(), delta: None };
        GateInfo { gate, origin, least: 0.03, because: String::new(), cell_ids: vec![0, 1] }
    }

    /// A request of cell 0 with verified times, and one of cell 1 with these.
    fn timed(second: Timing) -> [RequestRow; 2] {
        [(0, Timing::Verified), (1, second)].map(|(cell, timing)| RequestRow {
            cell,
            timing: Some(timing),
            ..RequestRow::default()
        })
    }

    #[test]
    fn only_verified_token_times_are_gated() {
        let refused = |metric, second| {
            let gates = vec![info(metric, GateOrigin::Scenario)];
            verified(gates, Side::B, &timed(second)).is_err()
        };
        for timing in [Timing::Claimed, Timing::Inexact] {
            assert!(refused(GateMetric::DecodeTps, timing));
            assert!(refused(GateMetric::Ttft, timing));
            assert!(!refused(GateMetric::E2e, timing));
            assert!(!refused(GateMetric::PeakMemory, timing));
            assert!(!refused(GateMetric::Load, timing));
        }
        assert!(!refused(GateMetric::DecodeTps, Timing::Verified));
    }

    #[test]
    fn default_gates_of_unverified_token_times_give_way_to_the_whole_request() {
        let usual = || USUAL.map(|metric| info(metric, GateOrigin::Default)).to_vec();
        let metrics = |gates: &[GateInfo]| gates.iter().map(|info| info.gate.metric).collect::<Vec<_>>();
        let sorted = verified(usual(), Side::B, &timed(Timing::Claimed)).unwrap();
        assert_eq!(metrics(&sorted.kept), [GateMetric::E2e, GateMetric::PeakMemory]);
        assert!(sorted.left[0].contains("e2e is gated instead of decode_tps and prefill_tps"), "{:?}", sorted.left);
        // The other side is no better: nothing is left to replace.
        let again = verified(sorted.kept, Side::A, &timed(Timing::Claimed)).unwrap();
        assert!(again.kept.len() == 2 && again.left.is_empty());
        let sorted = verified(usual(), Side::B, &timed(Timing::Verified)).unwrap();
        assert_eq!((metrics(&sorted.kept), sorted.left), (USUAL.to_vec(), Vec::new()));
    }

    #[test]
    fn memory_of_different_gauges_is_not_gated() {
        let row = |cell, rss: Option<u64>, sampled: Option<u64>| RequestRow {
            cell,
            peak_rss_bytes: rss,
            peak_sampled_bytes: sampled,
            ..RequestRow::default()
        };
        let side = |rss, sampled| [row(0, rss, sampled), row(1, rss, sampled)];
        let (resident, seen, both) = (side(Some(9), None), side(None, Some(9)), side(Some(9), Some(9)));
        let sorted = |origin, a: &[RequestRow], b: &[RequestRow]| {
            let gates = [GateMetric::DecodeTps, GateMetric::PeakMemory].map(|metric| info(metric, origin)).to_vec();
            same_gauges(gates, [None; 2], [a, b])
        };
        let error = sorted(GateOrigin::Scenario, &resident, &seen).unwrap_err().to_string();
        assert!(error.contains("`peak_rss_bytes` and side B's from `peak_sampled_bytes`"), "{error}");
        let left = sorted(GateOrigin::Default, &resident, &seen).unwrap();
        assert!(left.kept.len() == 1 && left.left[0].ends_with("not gated: peak_memory"), "{:?}", left.left);
        assert_eq!(sorted(GateOrigin::Scenario, &both, &seen).unwrap().kept.len(), 2, "one gauge is on both sides");
        assert_eq!(sorted(GateOrigin::Scenario, &resident, &seen[..1]).unwrap().kept.len(), 2, "not known yet");

        let cycles = || vec![info(GateMetric::MemoryCycles, GateOrigin::Scenario)];
        assert!(same_gauges(cycles(), [Some("rss_bytes"), Some("engine_active_bytes")], [&[], &[]]).is_err());
        assert!(same_gauges(cycles(), [Some("rss_bytes"); 2], [&[], &[]]).is_ok());
    }

    fn one_cell() -> Cell {
        Cell {
            id: 0,
            engine: 0,
            label: String::new(),
            length: None,
            toggles: inferometer_protocol::Settings::new(),
            load: inferometer_protocol::Settings::new(),
            sampling: inferometer_protocol::Sampling::default(),
            predicted: inferometer_protocol::Settings::new(),
            level: None,
            merged: Vec::new(),
        }
    }

    #[test]
    fn a_gate_that_is_not_measured_is_left_out_with_its_reason_only_if_nobody_wrote_it() {
        let able = Able::without_peak("the kernel keeps no mark");
        let gates = |origin| {
            let of = |metric| GateInfo { cell_ids: vec![0], ..info(metric, origin) };
            [GateMetric::E2e, GateMetric::PeakMemory].map(of).to_vec()
        };
        let rows = [RequestRow { e2e_ms: Some(5.0), ..RequestRow::default() }];
        let sorted = |origin| measured(gates(origin), &able, &[one_cell()], &rows);
        let left = sorted(GateOrigin::Default).unwrap().unwrap();
        assert_eq!(
            (left.kept.len(), left.left),
            (1, vec!["peak_memory is not gated: the kernel keeps no mark".to_owned()])
        );
        assert!(sorted(GateOrigin::Scenario).unwrap_err().to_string().contains("does not measure peak_memory"));
    }

    #[test]
    fn a_load_time_in_the_first_row_of_a_host_is_measured() {
        let cell = one_cell();
        let gate = || vec![GateInfo { cell_ids: vec![0], ..info(GateMetric::Load, GateOrigin::Scenario) }];
        let row = |warmup, load_s| RequestRow { host: 7, warmup, load_s, ..RequestRow::default() };
        let rows = [row(true, Some(0.5)), row(true, None), row(false, None)];
        let sorted = measured(gate(), &Able::all(), std::slice::from_ref(&cell), &rows).unwrap().unwrap();
        assert!(sorted.kept.len() == 1 && sorted.left.is_empty());
        assert!(measured(gate(), &Able::all(), &[cell], &rows[1..]).is_err(), "no host has a load time");
    }
}
