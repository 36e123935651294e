//! Whether the figures can be used: counts, problems in sentences, and one word for the whole run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Agreement, CellSummary, Determinism, engines, settings};
use crate::compare::engines::SideBySide;
use crate::record::metric::{DECODE_TPS, PREFILL_TPS, is_power};
use crate::record::{Counts, FinishState, Imported, Record, Status};
use crate::report::text;
use crate::report::text::plural;
use inferometer_protocol::TokenTiming;
use inferometer_protocol::toggle::KV_REUSE;
use inferometer_protocol::units::significant;
use inferometer_stats::robust::Interval;

/// An interval wider than this share of its median is worth a remark.
pub const WIDE: f64 = 0.2;

/// The run in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Every planned iteration is valid, and there are no remarks.
    Valid,
    /// Every cell has valid iterations and none failed, but there are problems or remarks.
    ValidWithWarnings,
    /// Iterations failed: an outcome of the engine. The others are valid.
    Failed,
    /// Equal requests gave different tokens although they must not. Speeds are then secondary.
    OutputsDiffer,
    /// Another program measured: nothing was checked here.
    Imported,
    /// The figures of at least one cell cannot be used: none of its iterations is valid, a
    /// measurement cannot be trusted, or external causes disturbed half of its iterations or more.
    NotValid,
}

impl Standing {
    /// The run in words. The exit code follows from the same value, so both always agree.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Standing::Valid => "valid",
            Standing::ValidWithWarnings => "valid with warnings",
            Standing::Failed => "failed",
            Standing::OutputsDiffer => "OUTPUTS DIFFER",
            Standing::Imported => "imported, not checked",
            Standing::NotValid => "not valid",
        }
    }
}

/// Iterations of a cell that went wrong in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub cell: u32,
    pub label: String,
    pub status: Status,
    pub reason: String,
    pub iterations: Vec<u32>,
    /// Under load: how many requests; the reason is that of the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub requests: usize,
}

impl Problem {
    /// The problem in a sentence, without the cell's name.
    #[must_use]
    pub fn sentence(&self) -> String {
        let status = match self.status {
            Status::Ok => "ok",
            Status::Failed => "failed",
            Status::Invalid => "invalid",
        };
        let noun = if self.iterations.len() == 1 { "iteration" } else { "iterations" };
        let reason = if self.reason.is_empty() { "no reason recorded".to_owned() } else { text::label(&self.reason) };
        let iterations = text::list(&self.iterations, 12);
        match self.requests {
            0 => format!("{noun} {iterations} {status}: {reason}"),
            1 => format!("1 request of {noun} {iterations} {status}: {reason}"),
            several => format!("{several} requests of {noun} {iterations} {status}; the first: {reason}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validity {
    pub standing: Standing,
    pub counts: Counts,
    pub problems: Vec<Problem>,
    /// Everything else that a reader should know, in sentences.
    pub remarks: Vec<String>,
    /// How many of the first remarks are about engines that do other work than each other: they are
    /// shown before any figure.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first: usize,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Judges a run by its cells.
#[must_use]
pub fn judge(record: &Record, cells: &[CellSummary], side_by_side: Option<&SideBySide>) -> Validity {
    let counts = cells.iter().fold(Counts::default(), |sum, cell| sum.plus(cell.counts));
    let problems = problems(record, cells);
    let mut remarks = engines::differences(record, cells, side_by_side);
    let first = remarks.len();
    if record.manifest.state != FinishState::Finished || counts.missing() > 0 {
        remarks.push(unfinished(record, counts));
    }
    remarks.extend(failed_warmups(record));
    for cell in cells {
        remarks.extend(cell_remarks(cell));
    }
    remarks.extend(cells.iter().filter_map(lost_caches));
    remarks.extend(wide_spread(record, cells));
    remarks.extend(mixed_timing(record));
    remarks.extend(record.manifest.warnings.iter().cloned());
    let standing = if cells.is_empty() || cells.iter().any(is_invalid) {
        Standing::NotValid
    } else if record.manifest.imported.is_some() {
        Standing::Imported
    } else if cells.iter().any(|cell| cell.determinism == Determinism::Nondeterministic) {
        Standing::OutputsDiffer
    } else if counts.failed > 0 || cells.iter().any(mostly_failed) {
        Standing::Failed
    } else if cells.iter().any(|cell| cell.counts.ok == 0) {
        Standing::NotValid
    } else if problems.is_empty() && remarks.is_empty() {
        Standing::Valid
    } else {
        Standing::ValidWithWarnings
    };
    // The remarks below do not change the standing.
    remarks.extend(record.manifest.redacted.as_ref().map(|redacted| redacted.sentence().to_owned()));
    remarks.extend(record.manifest.imported.as_ref().map(Imported::sentence));
    remarks.extend(same_work(record, cells));
    remarks.extend(energy(record));
    Validity { standing, counts, problems, remarks, first }
}

/// Whether a cell's figures are invalid: because its measurements cannot be trusted, or because
/// external causes disturbed at least half of its iterations. If fewer were disturbed, those are
/// excluded and the rest is valid.
fn is_invalid(cell: &CellSummary) -> bool {
    let counts = cell.counts;
    counts.invalid > counts.disturbed || counts.disturbed > 0 && 2 * counts.disturbed >= counts.planned
}

/// Whether half of a cell's requests under load failed, or more.
fn mostly_failed(cell: &CellSummary) -> bool {
    cell.traffic.as_ref().is_some_and(|traffic| traffic.failed > 0 && 2 * traffic.failed >= traffic.requests)
}

/// Failed and invalid iterations, grouped by cell and reason; requests under load by cause, because
/// each may have words of its own.
fn problems(record: &Record, cells: &[CellSummary]) -> Vec<Problem> {
    let mut grouped: BTreeMap<(u32, u8, &str), Problem> = BTreeMap::new();
    for row in record.requests.iter().filter(|row| !row.warmup && row.status != Status::Ok) {
        let label = cells.iter().find(|c| c.cell == row.cell).map_or("", CellSummary::name);
        let kind = match row.cause.filter(|_| row.is_under_load()) {
            Some(cause) => cause.name(),
            None => &row.reason,
        };
        let problem = grouped.entry((row.cell, row.status as u8, kind)).or_insert_with(|| Problem {
            cell: row.cell,
            label: label.to_owned(),
            status: row.status,
            reason: row.reason.clone(),
            iterations: Vec::new(),
            requests: 0,
        });
        problem.requests += usize::from(row.is_under_load());
        // Once for all turns of an iteration.
        if problem.iterations.last() != Some(&row.iteration) {
            problem.iterations.push(row.iteration);
        }
    }
    grouped.into_values().collect()
}

fn unfinished(record: &Record, counts: Counts) -> String {
    let state = match record.manifest.state {
        FinishState::Running => "The run is not finished (it is still running, or was killed)",
        FinishState::Interrupted => "The run was interrupted",
        FinishState::Finished => "The run is finished",
    };
    let committed = counts.planned - counts.missing();
    format!("{state}; {committed} of {} are in the record.", plural(counts.planned, "planned iteration"))
}

fn failed_warmups(record: &Record) -> Option<String> {
    let mut failed = record.requests.iter().filter(|row| row.warmup && row.status != Status::Ok).peekable();
    let first = text::sentence(&failed.peek()?.reason);
    Some(format!("{} did not succeed (the first: {first}).", plural(failed.count(), "warm-up")))
}

fn cell_remarks(cell: &CellSummary) -> Vec<String> {
    let name = text::label(cell.name());
    let mut remarks = Vec::new();
    if cell.determinism == Determinism::Nondeterministic {
        let others: Vec<String> = cell.hashes[1..]
            .iter()
            .map(|group| {
                let noun = if group.iterations.len() == 1 { "iteration" } else { "iterations" };
                let iterations = text::list(&group.iterations, 12);
                match (group.first_differing_turn, group.first_differing_index) {
                    (None, Some(index)) => format!("{noun} {iterations} from token index {index} on"),
                    (Some(turn), Some(index)) => {
                        format!("{noun} {iterations} from token index {index} of turn {turn} on")
                    }
                    (Some(turn), None) => format!("{noun} {iterations} from turn {turn} on"),
                    (None, None) => format!("{noun} {iterations}"),
                }
            })
            .collect();
        remarks.push(format!("{name}: nondeterministic: different tokens in {}.", text::list(&others, 6)));
    }
    for row in cell.settings.iter().filter(|row| row.agreement == Agreement::Mismatch) {
        let (wanted, used) = (text::list(&row.expected, 4), text::list(&row.effective, 4));
        let wanted = match (&row.requested, wanted.as_str()) {
            (Some(requested), "") => requested.to_string(),
            _ => wanted,
        };
        remarks.push(format!("{name}: {} should have been {wanted}, the engine used {used}.", row.name));
    }
    remarks
}

/// Turns that computed the whole history again although they could have reused it.
fn lost_caches(cell: &CellSummary) -> Option<String> {
    let told_not_to = |row: &settings::SettingRow| {
        row.name == KV_REUSE && row.effective.iter().any(|value| value.as_text() == Some("none"))
    };
    if cell.settings.iter().any(told_not_to) {
        return None;
    }
    let later = cell.turns.iter().filter(|turn| turn.turn > 0);
    let lost: Vec<u32> = later.filter(|t| t.reused_tokens.is_some_and(|n| n.least == 0)).map(|t| t.turn).collect();
    (!lost.is_empty()).then(|| {
        let turns = if lost.len() == 1 { "turn" } else { "turns" };
        format!(
            "{}: {turns} {} reused nothing from the KV cache; the whole history was computed again.",
            text::label(cell.name()),
            text::list(&lost, 12)
        )
    })
}

/// Which parts of the machine the energy covers, if it was measured: figures of different parts
/// cannot be compared.
fn energy(record: &Record) -> Option<String> {
    record.requests.iter().find(|row| row.prefill_energy_j.is_some() || row.decode_energy_j.is_some())?;
    let gauges: Vec<&str> = record.manifest.gauges.iter().filter(|g| is_power(g)).map(|g| g.name.as_str()).collect();
    Some(format!(
        "Energy is the sum of {}. It includes other processes and the machine's idle power.",
        text::list(&gauges, 4)
    ))
}

/// Cells that turned out to do the same work, although the plan could not know that.
fn same_work(record: &Record, cells: &[CellSummary]) -> Vec<String> {
    let plan = &record.manifest.plan.cells;
    let alike = |a: usize, b: usize| {
        let places = |cell: usize| (plan[cell].engine, plan[cell].length, plan[cell].level, &plan[cell].load);
        let measured = cells[a].counts.ok > 0 && cells[b].counts.ok > 0;
        measured && places(a) == places(b) && settings::same_work(&cells[a].settings, &cells[b].settings)
    };
    let mut told = vec![false; cells.len()];
    let mut remarks = Vec::new();
    for first in 0..cells.len() {
        if told[first] {
            continue;
        }
        let others: Vec<usize> = (first + 1..cells.len()).filter(|other| alike(first, *other)).collect();
        others.iter().for_each(|other| told[*other] = true);
        if !others.is_empty() {
            let names = std::iter::once(first).chain(others).map(|cell| text::label(cells[cell].name()));
            let names = text::list(&names.collect::<Vec<_>>(), 6);
            remarks.push(format!("{names} did the same work: their effective settings are equal."));
        }
    }
    remarks
}

/// Warns if intervals of rates are wide, and if the machine was busy when the run began.
fn wide_spread(record: &Record, cells: &[CellSummary]) -> Option<String> {
    let rates = [("decode", DECODE_TPS), ("prefill", PREFILL_TPS)];
    let mut wide: Vec<(f64, &CellSummary, &str, Interval)> = Vec::new();
    for cell in cells {
        let widest = rates
            .iter()
            .filter_map(|(word, key)| {
                let figures = cell.metric(key)?;
                let interval = figures.interval?;
                Some(((interval.hi - interval.lo) / figures.median, cell, *word, interval))
            })
            .max_by(|a, b| a.0.total_cmp(&b.0));
        wide.extend(widest.filter(|(width, ..)| *width > WIDE));
    }
    let (_, cell, word, interval) = wide.iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
    let mut remark = format!(
        "Iterations differ widely in {}; the widest interval is that of {}, {word} [{}, {}] tok/s",
        plural(wide.len(), "cell"),
        text::label(cell.name()),
        significant(interval.lo),
        significant(interval.hi)
    );
    let machine = &record.manifest.machine;
    if let (Some(load), Some(cores)) = (machine.load_at_start, machine.logical_cores)
        && load > f64::from(cores)
    {
        remark
            .push_str(&format!("; the machine was busy when the run began (load average {load:.1} on {cores} cores)"));
    }
    Some(remark + ".")
}

fn mixed_timing(record: &Record) -> Option<String> {
    let has = |timing| record.manifest.hosts.iter().any(|host| host.receipt.token_timing == timing);
    (has(TokenTiming::Exact) && has(TokenTiming::Inexact)).then(|| {
        "Some engines stamp every token and some do not. Do not rank their rates against each other.".to_owned()
    })
}
