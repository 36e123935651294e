//! Reads the committed iterations of a record.
//!
//! `requests.csv` determines which iterations exist and how many rows of the other files belong to
//! each. Those files are synced before it, so after a kill they hold at least these rows, and any
//! further rows are ignored. If one holds fewer (a disk that did not sync, a file cut by hand), the
//! record ends before the first incomplete iteration, and a warning says so.

use std::path::Path;

use super::csv::{self, RequestReader, SpanReader, TelemetryReader, TokenReader};
use super::error::RecordError;
use super::rows::Commit;
use super::table::{Line, Table};
use super::{Manifest, Record, RequestRow, manifest, profile, quality};

/// Lengths in bytes of the committed part of the files, headers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lengths {
    pub tokens: u64,
    pub spans: u64,
    pub telemetry: u64,
    pub requests: u64,
}

/// Reads the record in `dir`.
///
/// # Errors
/// A file that is missing or cannot be read, a newer schema, an invalid value. Each error names the
/// file, and the line and column if known.
pub fn read(dir: &Path) -> Result<Record, RecordError> {
    load(dir).map(|(record, _)| record)
}

pub(super) fn load(dir: &Path) -> Result<(Record, Lengths), RecordError> {
    let (mut record, lengths) = rows(manifest::read(dir)?, &|name| Table::open(dir.join(name)))?;
    record.profile = profile::read(&dir.join(profile::FOLDER))?.0;
    record.quality = quality::read(dir)?;
    Ok((record, lengths))
}

/// The record of a manifest and the tables that `open` gives by name; without its profiled and
/// quality passes.
pub(super) fn rows(
    manifest: Manifest,
    open: &dyn Fn(&str) -> Result<Table, RecordError>,
) -> Result<(Record, Lengths), RecordError> {
    let requests = Requests::of(open(csv::REQUESTS)?)?;
    let tokens = tokens(open(csv::TOKENS)?, &requests)?;
    let spans = spans(open(csv::SPANS)?, &requests)?;
    let mut table = open(csv::TELEMETRY)?;
    let reader = TelemetryReader::new(table.columns(), &manifest.gauges);
    let telemetry = Side::read(&mut table, &requests, |c| c.telemetry_rows, |line| Ok((None, reader.row(line)?)))?;
    Ok(assemble(manifest, requests, tokens, spans, telemetry))
}

/// Rows of `tokens.csv`.
pub(super) fn tokens(mut table: Table, requests: &Requests) -> Result<Side<super::TokenRow>, RecordError> {
    let reader = TokenReader::new(table.columns());
    let row = |line: &Line<'_>| {
        let row = reader.row(line)?;
        Ok((Some((row.request, Some(row.index))), row))
    };
    Side::read(&mut table, requests, |c| c.token_rows, row)
}

/// Rows of `spans.csv`.
pub(super) fn spans(mut table: Table, requests: &Requests) -> Result<Side<super::SpanRow>, RecordError> {
    let reader = SpanReader::new(table.columns());
    let row = |line: &Line<'_>| {
        let row = reader.row(line)?;
        Ok((Some((row.request, None)), row))
    };
    Side::read(&mut table, requests, |c| c.span_rows, row)
}

fn assemble(
    mut manifest: Manifest,
    mut requests: Requests,
    mut tokens: Side<super::TokenRow>,
    mut spans: Side<super::SpanRow>,
    mut telemetry: Side<super::TelemetryRow>,
) -> (Record, Lengths) {
    let told = requests.commits.len();
    let whole = [tokens.ends.len(), spans.ends.len(), telemetry.ends.len()].into_iter().fold(told, usize::min);
    if whole < told {
        let short: Vec<&str> =
            [(csv::TOKENS, tokens.ends.len()), (csv::SPANS, spans.ends.len()), (csv::TELEMETRY, telemetry.ends.len())]
                .into_iter()
                .filter(|(_, ends)| *ends < told)
                .map(|(name, _)| name)
                .collect();
        manifest.warnings.push(format!(
            "{} of {told} recorded iterations were left out: {} is shorter than {} says",
            told - whole,
            short.join(" and "),
            csv::REQUESTS
        ));
    }
    let (rows, bytes) = requests.commits.get(whole.wrapping_sub(1)).copied().unwrap_or((0, requests.header_bytes));
    requests.rows.truncate(rows);
    let lengths = Lengths {
        tokens: tokens.cut(whole),
        spans: spans.cut(whole),
        telemetry: telemetry.cut(whole),
        requests: bytes,
    };
    let record = Record {
        manifest,
        requests: requests.rows.into_iter().map(|(row, _)| row).collect(),
        tokens: tokens.rows,
        spans: spans.rows,
        telemetry: telemetry.rows,
        profile: super::Profiled::default(),
        quality: Vec::new(),
    };
    (record, lengths)
}

/// The committed part of `requests.csv`.
pub(super) struct Requests {
    pub rows: Vec<(RequestRow, Commit)>,
    pub header_bytes: u64,
    /// For each committed iteration, the number of rows up to its end, and of bytes.
    pub commits: Vec<(usize, u64)>,
}

impl Requests {
    pub fn read(dir: &Path) -> Result<Self, RecordError> {
        Self::of(Table::open(dir.join(csv::REQUESTS))?)
    }

    fn of(mut table: Table) -> Result<Self, RecordError> {
        let reader = RequestReader::new(table.columns());
        let mut requests = Self { rows: Vec::new(), header_bytes: table.read_bytes(), commits: Vec::new() };
        while let Some(line) = table.next()? {
            let (row, commit) = reader.row(&line)?;
            requests.check(&row, commit, &line)?;
            requests.rows.push((row, commit));
            if commit.rows_left == 0 {
                requests.commits.push((requests.rows.len(), table.read_bytes()));
            }
        }
        let committed = requests.commits.last().map_or(0, |(rows, _)| *rows);
        requests.rows.truncate(committed);
        Ok(requests)
    }

    fn check(&self, row: &RequestRow, commit: Commit, line: &Line<'_>) -> Result<(), RecordError> {
        let Some((last, last_commit)) = self.rows.last() else { return Ok(()) };
        if row.request <= last.request {
            return Err(line.error("request", format!("{} does not come after {}", row.request, last.request)));
        }
        if last_commit.rows_left > 0 && commit.rows_left != last_commit.rows_left - 1 {
            let expected = last_commit.rows_left - 1;
            return Err(line.error("rows_left", format!("{}, but expected {expected}", commit.rows_left)));
        }
        Ok(())
    }
}

/// A file whose rows belong to requests.
pub(super) struct Side<T> {
    pub rows: Vec<T>,
    header_bytes: u64,
    /// For each iteration that is complete in this file, the number of rows up to its end, and of
    /// bytes.
    pub ends: Vec<(usize, u64)>,
}

impl<T> Side<T> {
    /// Reads as many rows as `requests` says. `parse` returns the row; for rows of a request it
    /// also returns the request's number and, for numbered rows, the row's index.
    fn read(
        table: &mut Table,
        requests: &Requests,
        count: impl Fn(&Commit) -> u64,
        parse: impl Fn(&Line<'_>) -> Result<(Option<(u64, Option<u32>)>, T), RecordError>,
    ) -> Result<Self, RecordError> {
        // A row has at least four bytes, which limits how much memory a wrong count can reserve.
        let told = requests.rows.iter().fold(0_u64, |sum, (_, commit)| sum.saturating_add(count(commit)));
        let capacity = told.min(table.whole_bytes() / 4) as usize;
        let mut side = Self { rows: Vec::with_capacity(capacity), header_bytes: table.read_bytes(), ends: Vec::new() };
        for (request, commit) in &requests.rows {
            for index in 0..count(commit) {
                let Some(line) = table.next()? else { return Ok(side) };
                let (of, row) = parse(&line)?;
                if let Some((found, at)) = of
                    && (found != request.request || at.is_some_and(|at| u64::from(at) != index))
                {
                    let expected = request.request;
                    let at = at.map_or_else(String::new, |at| format!(" {at}"));
                    return Err(line.row_error(format!(
                        "row{at} of request {found}, but expected row {index} of request {expected}"
                    )));
                }
                side.rows.push(row);
            }
            if commit.rows_left == 0 {
                side.ends.push((side.rows.len(), table.read_bytes()));
            }
        }
        Ok(side)
    }

    /// Drops everything after the first `iterations`; returns the length up to there in bytes.
    pub fn cut(&mut self, iterations: usize) -> u64 {
        let (rows, bytes) = self.ends.get(iterations.wrapping_sub(1)).copied().unwrap_or((0, self.header_bytes));
        self.rows.truncate(rows);
        bytes
    }
}
