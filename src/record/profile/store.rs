//! Writes the profiled pass. The caller holds the record's [`crate::record::Store`], and with it
//! its lock.

use std::path::{Path, PathBuf};

use super::read::{Lengths, read};
use super::{FOLDER, ITERATIONS, ProfiledIteration};
use crate::record::Iteration;
use crate::record::csv;
use crate::record::csv::Encoder;
use crate::record::error::RecordError;
use crate::record::store::{Appender, commits, hidden, same_header, without};
use crate::secret::Secrets;

/// `profile/` of a record being written.
#[derive(Debug)]
pub struct ProfileStore {
    dir: PathBuf,
    tokens: Appender,
    spans: Appender,
    requests: Appender,
    iterations: Appender,
    last_request: Option<u64>,
    secrets: Secrets,
}

impl ProfileStore {
    /// Opens the pass of the record in `record`, or starts it if there is none; uncommitted data is
    /// cut off.
    ///
    /// # Errors
    /// When a file cannot be created, read or truncated, or has columns of another version.
    pub fn open(record: &Path) -> Result<Self, RecordError> {
        let dir = record.join(FOLDER);
        fs_err::create_dir_all(&dir)?;
        if !dir.join(ITERATIONS).exists() {
            begin(&dir)?;
        }
        let (profiled, lengths) = read(&dir)?;
        for (name, header) in headers() {
            same_header(&dir.join(name), &header)?;
        }
        let open = |name: &str| Appender::open(dir.join(name), &mut fs_err::OpenOptions::new());
        let mut store = Self {
            tokens: open(csv::TOKENS)?,
            spans: open(csv::SPANS)?,
            requests: open(csv::REQUESTS)?,
            iterations: open(ITERATIONS)?,
            last_request: profiled.requests.last().map(|row| row.request),
            secrets: Secrets::default(),
            dir,
        };
        store.roll_back(lengths)?;
        Ok(store)
    }

    /// From now on none of these is written, whoever quotes it.
    pub fn hide(&mut self, secrets: Secrets) {
        self.secrets = secrets;
    }

    /// Appends an iteration, its rows first. It is on disk when this returns.
    ///
    /// # Errors
    /// When a file cannot be written: the iteration is then ignored. Rows that do not belong
    /// together are refused before anything is written.
    pub fn commit(&mut self, rows: &Iteration, iteration: &ProfiledIteration) -> Result<(), RecordError> {
        let misuse = |message| RecordError::Commit { path: self.dir.clone(), message };
        let commits = commits(rows, self.last_request).map_err(misuse)?;
        let encoded = |fill: &dyn Fn(&mut Encoder)| {
            let mut encoder = Encoder::new();
            fill(&mut encoder);
            encoder.bytes()
        };
        let iteration = hidden(&self.secrets, iteration, &self.dir.join(ITERATIONS))?;
        let mut line = serde_json::to_vec(&iteration).expect("an iteration is plain data");
        line.push(b'\n');
        let before = self.lengths();
        let written = (|| {
            self.tokens.commit(&encoded(&|e| rows.tokens.iter().for_each(|row| e.token(row))))?;
            self.spans.commit(&encoded(&|e| rows.spans.iter().for_each(|row| e.span(row))))?;
            self.requests.commit(&encoded(&|e| {
                rows.requests
                    .iter()
                    .zip(&commits)
                    .for_each(|(row, commit)| e.request(&without(&self.secrets, row), commit));
            }))?;
            self.iterations.commit(&line)
        })();
        if let Err(error) = written {
            // Best effort: opening the pass again repeats it.
            let _ = self.roll_back(before);
            return Err(error);
        }
        self.last_request = rows.requests.last().map(|row| row.request);
        Ok(())
    }

    fn lengths(&self) -> Lengths {
        Lengths {
            tokens: self.tokens.committed(),
            spans: self.spans.committed(),
            requests: self.requests.committed(),
            iterations: self.iterations.committed(),
        }
    }

    /// Truncates every file to its committed part. The lines first: without them the rows are
    /// ignored.
    fn roll_back(&mut self, to: Lengths) -> Result<(), RecordError> {
        self.iterations.cut_to(to.iterations)?;
        self.requests.cut_to(to.requests)?;
        self.spans.cut_to(to.spans)?;
        self.tokens.cut_to(to.tokens)
    }
}

/// Names and header lines of the tables, the requests last.
fn headers() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    csv::headers(&[]).into_iter().filter(|(name, _)| *name != csv::TELEMETRY)
}

/// Creates the files anew, that of the iterations last: files without it were left by a kill in
/// this function.
fn begin(dir: &Path) -> Result<(), RecordError> {
    for (name, header) in headers() {
        crate::fs::write_atomic(&dir.join(name), &header)?;
    }
    crate::fs::write_atomic(&dir.join(ITERATIONS), b"")?;
    Ok(())
}
