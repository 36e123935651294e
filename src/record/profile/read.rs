//! Reads the profiled pass: only iterations that have their line.

use std::path::Path;

use super::{ITERATIONS, Profiled, ProfiledIteration};
use crate::record::csv;
use crate::record::error::RecordError;
use crate::record::read::{Requests, Side, spans, tokens};
use crate::record::table::Table;

/// Lengths in bytes of the committed part of the files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::record) struct Lengths {
    pub tokens: u64,
    pub spans: u64,
    pub requests: u64,
    pub iterations: u64,
}

/// Reads the folder `dir`; the result is empty if there is none.
pub(in crate::record) fn read(dir: &Path) -> Result<(Profiled, Lengths), RecordError> {
    // Created last: without it the pass had not started.
    let path = dir.join(ITERATIONS);
    if !path.exists() {
        return Ok(Default::default());
    }
    let (mut iterations, mut ends) = lines(&path, &fs_err::read(&path)?)?;
    let mut requests = Requests::read(dir)?;
    let mut tokens = tokens(Table::open(dir.join(csv::TOKENS))?, &requests)?;
    let mut spans = spans(Table::open(dir.join(csv::SPANS))?, &requests)?;
    let whole = [requests.commits.len(), whole(&tokens), whole(&spans), iterations.len()]
        .into_iter()
        .fold(usize::MAX, usize::min);
    iterations.truncate(whole);
    ends.truncate(whole);
    let (rows, bytes) = requests.commits.get(whole.wrapping_sub(1)).copied().unwrap_or((0, requests.header_bytes));
    requests.rows.truncate(rows);
    let lengths = Lengths {
        tokens: tokens.cut(whole),
        spans: spans.cut(whole),
        requests: bytes,
        iterations: ends.last().copied().unwrap_or(0),
    };
    let firsts = std::iter::once(0).chain(requests.commits.iter().map(|(rows, _)| *rows));
    for (line, (iteration, first)) in (1_u64..).zip(iterations.iter().zip(firsts)) {
        let row = &requests.rows[first].0;
        if (row.request, row.cell, row.iteration) != (iteration.request, iteration.cell, iteration.iteration) {
            let told = format!(
                "request {} of cell {}, iteration {}, but {} has request {} of cell {}, iteration {}",
                iteration.request,
                iteration.cell,
                iteration.iteration,
                csv::REQUESTS,
                row.request,
                row.cell,
                row.iteration
            );
            return Err(RecordError::Row { path, line, message: told });
        }
    }
    let profiled = Profiled {
        iterations,
        requests: requests.rows.into_iter().map(|(row, _)| row).collect(),
        spans: spans.rows,
        tokens: tokens.rows,
    };
    Ok((profiled, lengths))
}

fn whole<T>(side: &Side<T>) -> usize {
    side.ends.len()
}

/// The complete lines of a file, and where each ends. Data after them was left by an interrupted
/// write.
pub(in crate::record) fn lines(path: &Path, text: &[u8]) -> Result<(Vec<ProfiledIteration>, Vec<u64>), RecordError> {
    let (mut iterations, mut ends) = (Vec::new(), Vec::new());
    let mut end = 0;
    for (number, line) in (1_u64..).zip(text.split_inclusive(|byte| *byte == b'\n')) {
        if line.last() != Some(&b'\n') {
            break;
        }
        end += line.len() as u64;
        let bad = |message: String| RecordError::Row { path: path.to_owned(), line: number, message };
        let iteration: ProfiledIteration = serde_json::from_slice(line).map_err(|e| bad(e.to_string()))?;
        if let Some(profile) = &iteration.profile {
            profile.check().map_err(bad)?;
        }
        iterations.push(iteration);
        ends.push(end);
    }
    Ok((iterations, ends))
}
