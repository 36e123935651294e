//! Copies of records that can be shared: without prompts, generated texts, token ids, paths, names,
//! secrets, commit messages and logs. Figures, hashes and settings stay.
//!
//! Only what this version knows is copied: a column, field or file of another version might hold
//! anything.

mod manifest;
mod scrub;

use std::path::Path;

pub use scrub::Scrub;

use super::ab::{self, AbManifest};
use super::csv::{self, Encoder};
use super::error::RecordError;
use super::profile::{self, ProfiledIteration};
use super::quality::{self, Scored};
use super::read::{Requests, load};
use super::rows::Commit;
use super::{GaugeInfo, RequestRow, SpanRow, TelemetryRow, TokenRow};
use crate::fs::write_atomic;
use inferometer_protocol::Value;

/// Writes a redacted copy of the record or session in `source` into the new folder `target`. The
/// copy's record is called `name`.
///
/// # Errors
/// When `source` is no valid record, or `target` exists or cannot be written. Nothing remains of a
/// copy that could not be completed.
pub fn redact(source: &Path, target: &Path, name: &str, scrub: Scrub) -> Result<(), RecordError> {
    fs_err::create_dir(target)?;
    let copied = if ab::is_session(source) {
        session(source, target, name, scrub)
    } else {
        load(source).and_then(|(record, _)| {
            let mut scrub = scrub;
            scrub.path(source);
            scrub.learn(&record.manifest);
            run(source, target, name, &scrub)
        })
    };
    copied.inspect_err(|_| {
        let _ = fs_err::remove_dir_all(target);
    })
}

fn session(source: &Path, target: &Path, name: &str, mut scrub: Scrub) -> Result<(), RecordError> {
    let record = ab::read(source)?;
    scrub.path(source);
    scrub.learn(&record.a.manifest);
    scrub.learn(&record.b.manifest);
    for commit in record.manifest.sides.iter().filter_map(|side| side.commit.as_ref()) {
        commit.program.iter().for_each(|word| scrub.path(Path::new(word)));
    }
    for side in ["a", "b"] {
        fs_err::create_dir(target.join(side))?;
        run(&source.join(side), &target.join(side), side, &scrub)?;
    }
    let pairs = ab::pair_lines(&record.pairs);
    write_atomic(&target.join(ab::PAIRS), &pairs)?;
    let manifest: AbManifest = manifest::session(record.manifest, name, &scrub);
    ab::write(target, &manifest)
}

/// One run, or one side of a session.
fn run(source: &Path, target: &Path, name: &str, scrub: &Scrub) -> Result<(), RecordError> {
    let (record, _) = load(source)?;
    let rows = Rows {
        requests: committed(source, record.requests, scrub)?,
        tokens: record.tokens,
        spans: record.spans,
        telemetry: record.telemetry,
    };
    rows.write(target, &record.manifest.gauges)?;
    if source.join(profile::FOLDER).join(profile::ITERATIONS).exists() {
        let (from, to) = (source.join(profile::FOLDER), target.join(profile::FOLDER));
        fs_err::create_dir(&to)?;
        let rows = Rows {
            requests: committed(&from, record.profile.requests, scrub)?,
            tokens: record.profile.tokens,
            spans: record.profile.spans,
            telemetry: Vec::new(),
        };
        rows.write(&to, &[])?;
        let lines = record.profile.iterations.into_iter().map(|one| line(one, scrub));
        write_atomic(&to.join(profile::ITERATIONS), &lines.collect::<Vec<_>>().concat())?;
    }
    if !record.quality.is_empty() {
        // Ids are text, and so are the most likely tokens at each place.
        let hide = |one: Scored| Scored {
            ids: Vec::new(),
            top: Vec::new(),
            missing: one.missing.as_ref().map(|text| scrub.text(text)),
            ..one
        };
        quality::write(target, &record.quality.into_iter().map(hide).collect::<Vec<_>>())?;
    }
    super::manifest::write(target, &manifest::run(record.manifest, name, scrub))
}

/// The rows of a folder's `requests.csv` that were read, without what is private in their texts,
/// each with its counts.
fn committed(dir: &Path, rows: Vec<RequestRow>, scrub: &Scrub) -> Result<Vec<(RequestRow, Commit)>, RecordError> {
    let commits = Requests::read(dir)?.rows.into_iter().map(|(_, commit)| commit);
    Ok(rows.into_iter().zip(commits).map(|(row, commit)| (request(row, scrub), commit)).collect())
}

fn request(mut row: RequestRow, scrub: &Scrub) -> RequestRow {
    row.engine = scrub.text(&row.engine);
    row.reason = scrub.text(&row.reason);
    for value in row.effective.values_mut() {
        if let Value::Text(text) = value {
            *text = scrub.text(text);
        }
    }
    row
}

/// A line of `profile/iterations.jsonl`.
fn line(mut iteration: ProfiledIteration, scrub: &Scrub) -> Vec<u8> {
    iteration.missing = iteration.missing.map(|text| scrub.text(&text));
    if let Some(profile) = &mut iteration.profile {
        profile.functions.iter_mut().for_each(|name| *name = scrub.text(name));
    }
    let mut line = serde_json::to_vec(&iteration).expect("an iteration is plain data");
    line.push(b'\n');
    line
}

/// The rows of a folder.
struct Rows {
    requests: Vec<(RequestRow, Commit)>,
    tokens: Vec<TokenRow>,
    spans: Vec<SpanRow>,
    telemetry: Vec<TelemetryRow>,
}

impl Rows {
    /// Writes the tables; `telemetry.csv` only for a run's own folder.
    fn write(self, dir: &Path, gauges: &[GaugeInfo]) -> Result<(), RecordError> {
        let profiled = dir.ends_with(profile::FOLDER);
        for (name, mut bytes) in csv::headers(gauges) {
            let mut encoder = Encoder::new();
            match name {
                csv::TOKENS => self.tokens.iter().for_each(|row| encoder.token(&TokenRow { id: None, ..*row })),
                csv::SPANS => self.spans.iter().for_each(|row| encoder.span(row)),
                csv::TELEMETRY if profiled => continue,
                csv::TELEMETRY => self.telemetry.iter().for_each(|row| encoder.telemetry(row)),
                _ => self.requests.iter().for_each(|(row, commit)| encoder.request(row, commit)),
            }
            bytes.extend(encoder.bytes());
            write_atomic(&dir.join(name), &bytes)?;
        }
        Ok(())
    }
}
