//! The growth laws of a run: for each series with enough lengths, how decode and prefill grow with
//! the number of tokens.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::CellSummary;
use crate::record::RequestRow;
use inferometer_stats::growth;
use inferometer_stats::growth::{Estimate, LEAST_LENGTHS, Law, NotIdentifiable, Sample, Timing};

/// One law of one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesGrowth {
    pub series: String,
    pub law: Law,
    /// The coefficients with their intervals; null if they are not identifiable.
    pub estimate: Option<Estimate>,
    /// Why there is no estimate.
    pub not_identifiable: Option<String>,
}

/// Fits both laws to every series of five lengths or more; each turn of a conversation is a length.
/// `valid` has the valid rows by cell. With the same seed, the same record gives the same
/// intervals.
#[must_use]
pub fn laws(cells: &[CellSummary], valid: &BTreeMap<u32, Vec<&RequestRow>>, seed: u64) -> Vec<SeriesGrowth> {
    let mut series: Vec<(&str, Vec<&RequestRow>)> = Vec::new();
    // Requests beside each other share the machine: their times follow no law of one request.
    for cell in cells.iter().filter(|cell| cell.traffic.is_none()) {
        let rows = valid.get(&cell.cell).map_or(&[][..], Vec::as_slice);
        match series.iter_mut().find(|(label, _)| *label == cell.series) {
            Some((_, all)) => all.extend(rows),
            None => series.push((&cell.series, rows.to_vec())),
        }
    }
    series.retain(|(_, rows)| lengths(rows).len() >= LEAST_LENGTHS);
    let each: Vec<_> = series.iter().flat_map(|one| [Law::Decode, Law::Prefill].map(|law| (one, law))).collect();
    each.into_par_iter()
        .map(|((label, rows), law)| {
            let (estimate, why) = match estimate(law, rows, seed) {
                Ok(estimate) => (Some(estimate), None),
                Err(why) => (None, Some(why.to_string())),
            };
            SeriesGrowth { series: (*label).to_owned(), law, estimate, not_identifiable: why }
        })
        .collect()
}

/// The distinct lengths: a cell and a turn in it.
fn lengths(rows: &[&RequestRow]) -> Vec<(u32, u32)> {
    rows.iter().map(|row| (row.cell, row.turn)).collect::<BTreeSet<_>>().into_iter().collect()
}

fn estimate(law: Law, rows: &[&RequestRow], seed: u64) -> Result<Estimate, NotIdentifiable> {
    let lengths = lengths(rows);
    let samples: Vec<Sample> = rows
        .iter()
        .filter_map(|row| Some((row, timing(row)?)))
        .map(|(row, timing)| {
            let length = lengths.binary_search(&(row.cell, row.turn)).expect("made of these rows");
            Ok(Sample { length, round: row.iteration, point: law.point(&timing)? })
        })
        .collect::<Result<_, NotIdentifiable>>()?;
    growth::fit_with_interval(law, &samples, seed)
}

/// `None` if the engine did not count its tokens.
fn timing(row: &RequestRow) -> Option<Timing> {
    row.has_token_times().then_some(())?;
    Some(Timing {
        prompt: row.prompt_tokens?,
        reused: row.reused_tokens.unwrap_or(0),
        generated: row.generated_tokens?,
        prefill_ms: row.prefill_ms,
        decode_ms: row.decode_ms,
    })
}
