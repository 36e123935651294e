//! The records of a folder as a list, and one record in a screen.

mod facts;

use std::path::Path;

use serde::Serialize;

pub use facts::facts;

use super::html::when;
use super::table::{Cell, Table};
use crate::record;
use crate::record::ab::AbRecord;
use crate::record::{Counts, FinishState, Record, RequestRow, folder};
use inferometer_protocol::units;

/// What a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Run,
    Ab,
}

/// How far a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Finished,
    Interrupted,
    /// A process is writing it.
    Running,
    /// It says `running`, but no process writes it.
    Killed,
    /// It cannot be read.
    Broken,
}

impl Standing {
    fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Running => "running",
            Self::Killed => "killed",
            Self::Broken => "broken",
        }
    }
}

/// A record in a list. Of a broken one only the name, the kind and the size are known.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    pub state: Standing,
    pub scenario: Option<String>,
    pub started_utc: Option<String>,
    /// Valid iterations; of an A/B session those of both sides.
    pub iterations_ok: Option<usize>,
    /// Planned iterations; of an A/B session the measured ones.
    pub iterations: Option<usize>,
    pub bytes: Option<u64>,
    pub redacted: bool,
    /// Why it is broken.
    pub error: Option<String>,
}

/// A record of either kind.
pub enum Known {
    Run(Box<Record>),
    Ab(Box<AbRecord>),
}

impl Known {
    /// Reads the record in `dir`.
    ///
    /// # Errors
    /// As [`record::open`] and [`record::ab::open`].
    pub fn read(dir: &Path) -> Result<Self, record::RecordError> {
        if record::ab::is_session(dir) {
            record::ab::open(dir).map(|record| Self::Ab(Box::new(record)))
        } else {
            record::open(dir).map(|record| Self::Run(Box::new(record)))
        }
    }

    /// Iterations by outcome; the planned ones of a session are the measured ones.
    fn counts(&self) -> Counts {
        match self {
            Self::Run(record) => counts(record, record.manifest.plan.iterations() as usize),
            Self::Ab(record) => {
                let of = |side| {
                    let counts = counts(side, 0);
                    Counts { planned: counts.ok + counts.failed + counts.invalid, ..counts }
                };
                of(&record.a).plus(of(&record.b))
            }
        }
    }

    fn state(&self) -> FinishState {
        match self {
            Self::Run(record) => record.manifest.state,
            Self::Ab(record) => record.manifest.state,
        }
    }
}

fn counts(record: &Record, planned: usize) -> Counts {
    let mut rows: Vec<&RequestRow> = record.requests.iter().filter(|row| !row.warmup && row.iteration > 0).collect();
    rows.sort_by_key(|row| (row.cell, row.iteration, row.request));
    Counts::of(planned, &rows)
}

/// How far the record in `dir` is.
#[must_use]
pub fn standing(dir: &Path, state: FinishState) -> Standing {
    match state {
        FinishState::Finished => Standing::Finished,
        FinishState::Interrupted => Standing::Interrupted,
        FinishState::Running if folder::is_busy(dir).unwrap_or(false) => Standing::Running,
        FinishState::Running => Standing::Killed,
    }
}

/// Describes the record in `dir`; one that cannot be read has its error.
#[must_use]
pub fn entry(dir: &Path) -> Entry {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kind = if dir.join(record::ab::MANIFEST).exists() || dir.join(record::ab::PAIRS).exists() {
        Kind::Ab
    } else {
        Kind::Run
    };
    let mut entry = Entry {
        name,
        kind,
        state: Standing::Broken,
        scenario: None,
        started_utc: None,
        iterations_ok: None,
        iterations: None,
        bytes: folder::bytes(dir).ok(),
        redacted: false,
        error: None,
    };
    match Known::read(dir) {
        Ok(known) => {
            let counts = known.counts();
            let (scenario, started, redacted) = match &known {
                Known::Run(record) => {
                    let manifest = &record.manifest;
                    (manifest.title(), &manifest.origin_utc, manifest.redacted.is_some())
                }
                Known::Ab(record) => {
                    let manifest = &record.manifest;
                    (manifest.scenario.clone(), &manifest.origin_utc, manifest.redacted.is_some())
                }
            };
            (entry.scenario, entry.started_utc, entry.redacted) = (Some(scenario), Some(started.clone()), redacted);
            (entry.iterations_ok, entry.iterations) = (Some(counts.ok), Some(counts.planned));
            entry.state = standing(dir, known.state());
        }
        Err(error) => entry.error = Some(error.to_string()),
    }
    entry
}

/// The list as CSV, with the size in bytes.
#[must_use]
pub fn csv(entries: &[Entry]) -> String {
    described(entries).number("bytes", |entry| entry.bytes).csv()
}

/// The list as a table for people.
#[must_use]
pub fn table(entries: &[Entry]) -> Table<&Entry> {
    let about = |entry: &&Entry| match (&entry.error, &entry.scenario, &entry.started_utc) {
        (Some(error), ..) => error.clone(),
        (None, Some(scenario), Some(started)) => {
            format!("{scenario}, {}{}", when(started), if entry.redacted { ", redacted" } else { "" })
        }
        _ => String::new(),
    };
    described(entries)
        .number("size", |entry| entry.bytes.map(units::bytes))
        .said("", about)
        .beneath()
        .only(super::table::TERMINAL)
}

fn described(entries: &[Entry]) -> Table<&Entry> {
    let number = |n: Option<usize>| n.map(|n| n as u64);
    Table::of("Records", entries)
        .gap(2)
        .head("name", |entry| &entry.name)
        .at_most(48)
        .text("scenario", |entry| entry.scenario.as_ref())
        .only(super::table::MARKDOWN)
        .text("kind", |entry| match entry.kind {
            Kind::Run => "run",
            Kind::Ab => "ab",
        })
        .text("start", |entry| entry.started_utc.as_ref())
        .only(super::table::MARKDOWN)
        .text("state", |entry| Cell::from(entry.state.name()).alarm(entry.state == Standing::Broken))
        .number("ok", |entry| number(entry.iterations_ok))
        .meaning("valid iterations")
        .number("of", |entry| number(entry.iterations))
        .meaning("planned iterations; of an A/B session the measured ones")
        .text("redacted", |entry| if entry.redacted { "yes" } else { "" })
        .only(super::table::MARKDOWN)
        .said("error", |entry| entry.error.as_ref())
        .only(super::table::MARKDOWN)
}
