//! Writes a record during the run. An iteration is either complete or absent, however the program
//! ends.

use std::borrow::Cow;
use std::fs::TryLockError;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::csv::{self, Encoder};
use super::error::{RecordError, file_error};
use super::read::{self, Lengths};
use super::rows::Commit;
use super::{Manifest, Record, RequestRow, SpanRow, TelemetryRow, TokenRow, manifest};
use crate::secret::Secrets;
use inferometer_protocol::Value;

/// All rows of one iteration, committed together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Iteration {
    /// At least one, with rising numbers.
    pub requests: Vec<RequestRow>,
    /// By request in the order of `requests`, then index from 0.
    pub tokens: Vec<TokenRow>,
    /// By request in the order of `requests`.
    pub spans: Vec<SpanRow>,
    /// Samples taken since the last commit.
    pub telemetry: Vec<TelemetryRow>,
}

/// The record of a run being written. Holds a lock on it until dropped.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    manifest: Manifest,
    tokens: Appender,
    spans: Appender,
    telemetry: Appender,
    /// Written last: its rows commit the others. Holds the lock.
    requests: Appender,
    last_request: Option<u64>,
    secrets: Secrets,
}

impl Store {
    /// Creates a folder for a new run in `results` (created too if missing) and starts its record
    /// there.
    ///
    /// The folder's name, `<utc>-<scenario>-<short hash>`, is made from `origin_utc`, the
    /// scenario's name and `scenario_sha256`, and is stored in [`Manifest::run`].
    ///
    /// # Errors
    /// When the folder or a file in it cannot be created.
    pub fn create(results: &Path, mut manifest: Manifest) -> Result<Self, RecordError> {
        fs_err::create_dir_all(results)?;
        let dir = make_folder(results, &mut manifest)?;
        let store = Self::begin(&dir, manifest).inspect_err(|_| {
            // The folder holds no data yet.
            let _ = fs_err::remove_dir_all(&dir);
        })?;
        crate::fs::sync_folder(results)?;
        Ok(store)
    }

    /// Creates the folder `dir` and starts the record of one side of an A/B session in it.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be created.
    pub fn create_in(dir: &Path, manifest: Manifest) -> Result<Self, RecordError> {
        fs_err::create_dir(dir)?;
        Self::begin(dir, manifest)
    }

    fn begin(dir: &Path, manifest: Manifest) -> Result<Self, RecordError> {
        let mut files = Vec::new();
        for (name, header) in csv::headers(&manifest.gauges) {
            let mut file = Appender::open(dir.join(name), fs_err::OpenOptions::new().create_new(true))?;
            file.append(&header)?;
            file.committed = header.len() as u64;
            files.push(file);
        }
        let [tokens, spans, telemetry, requests] = files.try_into().expect("there are four headers");
        requests.lock(dir)?;
        // The manifest last: a folder with a manifest is a complete record.
        manifest::write(dir, &manifest)?;
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            tokens,
            spans,
            telemetry,
            requests,
            last_request: None,
            secrets: Secrets::default(),
        })
    }

    /// Opens the record in `dir` to continue it: returns the committed rows and truncates every
    /// file to them.
    ///
    /// # Errors
    /// All errors of [`super::read()`], a record that another process is writing, columns of
    /// another version.
    pub fn resume(dir: &Path) -> Result<(Self, Record), RecordError> {
        let open = |name: &str| Appender::open(dir.join(name), &mut fs_err::OpenOptions::new());
        manifest::read(dir)?;
        let requests = open(csv::REQUESTS)?;
        requests.lock(dir)?;
        let (record, lengths) = read::load(dir)?;
        for (name, header) in csv::headers(&record.manifest.gauges) {
            same_header(&dir.join(name), &header)?;
        }
        let mut store = Self {
            dir: dir.to_owned(),
            manifest: record.manifest.clone(),
            tokens: open(csv::TOKENS)?,
            spans: open(csv::SPANS)?,
            telemetry: open(csv::TELEMETRY)?,
            requests,
            last_request: record.requests.last().map(|row| row.request),
            secrets: Secrets::default(),
        };
        store.set_committed(lengths);
        store.roll_back()?;
        Ok((store, record))
    }

    /// From now on none of these is written, whoever quotes it.
    pub fn hide(&mut self, secrets: Secrets) {
        self.secrets = secrets;
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Changes the manifest and rewrites `run.json` at once. On an error neither changes.
    ///
    /// # Errors
    /// When the file cannot be written, or `change` changes the gauges' names, which are columns
    /// already.
    pub fn update(&mut self, change: impl FnOnce(&mut Manifest)) -> Result<(), RecordError> {
        let mut manifest = self.manifest.clone();
        change(&mut manifest);
        let manifest = hidden(&self.secrets, &manifest, &self.dir.join(manifest::FILE))?;
        let columns = |manifest: &Manifest| manifest.gauges.iter().map(|g| g.name.clone()).collect::<Vec<_>>();
        if columns(&manifest) != columns(&self.manifest) {
            return Err(self.misuse("the gauges are fixed when the record is created".to_owned()));
        }
        manifest::write(&self.dir, &manifest)?;
        self.manifest = manifest;
        Ok(())
    }

    /// Appends an iteration. It is on disk when this returns.
    ///
    /// # Errors
    /// When a file cannot be written: then nothing of the iteration remains, and the run can
    /// continue or be resumed. Rows that do not belong together are refused before anything is
    /// written.
    pub fn commit(&mut self, iteration: &Iteration) -> Result<(), RecordError> {
        let commits = self.check(iteration).map_err(|message| self.misuse(message))?;
        // Also repairs what an earlier failure could not undo, for example while a disk was
        // unavailable.
        self.roll_back()?;
        let lengths = match self.append(iteration, &commits) {
            Ok(lengths) => lengths,
            Err(error) => {
                // Best effort: the next commit, or `resume`, repeats it before writing.
                let _ = self.roll_back();
                return Err(error);
            }
        };
        self.set_committed(lengths);
        self.last_request = iteration.requests.last().map(|row| row.request);
        Ok(())
    }

    fn append(&mut self, iteration: &Iteration, commits: &[Commit]) -> Result<Lengths, RecordError> {
        let encoded = |fill: &dyn Fn(&mut Encoder)| {
            let mut encoder = Encoder::new();
            fill(&mut encoder);
            encoder.bytes()
        };
        let tokens = self.tokens.append(&encoded(&|e| iteration.tokens.iter().for_each(|row| e.token(row))))?;
        let spans = self.spans.append(&encoded(&|e| iteration.spans.iter().for_each(|row| e.span(row))))?;
        let telemetry =
            self.telemetry.append(&encoded(&|e| iteration.telemetry.iter().for_each(|row| e.telemetry(row))))?;
        let requests = self.requests.append(&encoded(&|e| {
            iteration
                .requests
                .iter()
                .zip(commits)
                .for_each(|(row, commit)| e.request(&without(&self.secrets, row), commit));
        }))?;
        Ok(Lengths { tokens, spans, telemetry, requests })
    }

    /// Checks that the rows belong together; returns for each request the counts of its rows.
    fn check(&self, iteration: &Iteration) -> Result<Vec<Commit>, String> {
        let gauges = self.manifest.gauges.len();
        if iteration.telemetry.iter().any(|row| row.values.len() != gauges) {
            return Err(format!("a telemetry row does not have one value for each of the {gauges} gauges"));
        }
        commits(iteration, self.last_request)
    }

    /// Truncates every file to its committed length, the requests first: without their rows the
    /// other rows are ignored.
    fn roll_back(&mut self) -> Result<(), RecordError> {
        for file in [&mut self.requests, &mut self.telemetry, &mut self.spans, &mut self.tokens] {
            file.cut()?;
        }
        Ok(())
    }

    fn set_committed(&mut self, lengths: Lengths) {
        self.tokens.committed = lengths.tokens;
        self.spans.committed = lengths.spans;
        self.telemetry.committed = lengths.telemetry;
        self.requests.committed = lengths.requests;
    }

    fn misuse(&self, message: String) -> RecordError {
        RecordError::Commit { path: self.dir.clone(), message }
    }
}

/// `value`, of the file at `path`, without secrets.
pub(super) fn hidden<T: Serialize + DeserializeOwned + Clone>(
    secrets: &Secrets,
    value: &T,
    path: &Path,
) -> Result<T, RecordError> {
    let invalid = |e: serde_json::Error| RecordError::Manifest { path: path.to_owned(), message: e.to_string() };
    secrets.hidden_in(value).map_err(invalid)
}

/// A row without secrets in its texts.
pub(super) fn without<'a>(secrets: &Secrets, row: &'a RequestRow) -> Cow<'a, RequestRow> {
    if secrets.is_empty() {
        return Cow::Borrowed(row);
    }
    let mut row = row.clone();
    row.reason = secrets.hidden(&row.reason);
    for value in row.effective.values_mut() {
        if let Value::Text(text) = value {
            *text = secrets.hidden(text);
        }
    }
    Cow::Owned(row)
}

/// Checks that an iteration's rows belong together and come after request `last`; returns for each
/// request the counts of its rows.
pub(super) fn commits(iteration: &Iteration, mut last: Option<u64>) -> Result<Vec<Commit>, String> {
    if iteration.requests.is_empty() {
        return Err("an iteration without requests".to_owned());
    }
    for row in &iteration.requests {
        if last.is_some_and(|last| row.request <= last) {
            return Err(format!("request {} does not come after {}", row.request, last.unwrap_or_default()));
        }
        last = Some(row.request);
    }
    let mut tokens = iteration.tokens.iter().peekable();
    let mut spans = iteration.spans.iter().peekable();
    let mut commits = Vec::with_capacity(iteration.requests.len());
    for (at, row) in iteration.requests.iter().enumerate() {
        let mut commit = Commit { rows_left: (iteration.requests.len() - 1 - at) as u64, ..Commit::default() };
        while let Some(token) = tokens.next_if(|token| token.request == row.request) {
            if u64::from(token.index) != commit.token_rows {
                return Err(format!("token {} of request {} is out of order", token.index, row.request));
            }
            commit.token_rows += 1;
        }
        while spans.next_if(|span| span.request == row.request).is_some() {
            commit.span_rows += 1;
        }
        commits.push(commit);
    }
    if let Some(request) = tokens.next().map(|t| t.request).or(spans.next().map(|s| s.request)) {
        return Err(format!("a token or span of request {request} has no request in the iteration"));
    }
    if let Some(commit) = commits.last_mut() {
        commit.telemetry_rows = iteration.telemetry.len() as u64;
    }
    Ok(commits)
}

/// A file that only grows, except when uncommitted data is removed.
#[derive(Debug)]
pub(super) struct Appender {
    path: PathBuf,
    file: fs_err::File,
    committed: u64,
}

impl Appender {
    pub(super) fn open(path: PathBuf, options: &mut fs_err::OpenOptions) -> Result<Self, RecordError> {
        let file = options.append(true).open(&path)?;
        Ok(Self { path, file, committed: 0 })
    }

    /// Appends in one write and syncs; returns the new length of the file. Refuses a file that is
    /// no longer at its path: whoever reads the record would not find the rows.
    fn append(&mut self, bytes: &[u8]) -> Result<u64, RecordError> {
        self.in_its_place()?;
        if !bytes.is_empty() {
            self.file.write_all(bytes)?;
            self.file.sync_data()?;
        }
        Ok(self.committed + bytes.len() as u64)
    }

    /// Appends in one write, syncs and commits. On an error the written part is removed if
    /// possible.
    pub(super) fn commit(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        self.cut()?;
        match self.append(bytes) {
            Ok(length) => self.committed = length,
            Err(error) => {
                let _ = self.cut();
                return Err(error);
            }
        }
        Ok(())
    }

    fn in_its_place(&self) -> Result<(), RecordError> {
        let own = self.file.metadata()?;
        match fs_err::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == (own.dev(), own.ino()) => Ok(()),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Err(RecordError::Gone { path: self.path.clone() }),
        }
    }

    /// Length of the committed part.
    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    /// Truncates the file to its first `bytes`, the committed part.
    pub(super) fn cut_to(&mut self, bytes: u64) -> Result<(), RecordError> {
        self.committed = bytes;
        self.cut()
    }

    fn cut(&mut self) -> Result<(), RecordError> {
        if self.file.metadata()?.len() != self.committed {
            self.file.set_len(self.committed)?;
            self.file.sync_data()?;
        }
        Ok(())
    }

    /// Refuses a second writer. The system releases the lock when this process ends in any way.
    pub(super) fn lock(&self, dir: &Path) -> Result<(), RecordError> {
        // `results list` holds it for a moment, to see whether there is a writer.
        for _ in 0..20 {
            if !matches!(self.file.file().try_lock(), Err(TryLockError::WouldBlock)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        match self.file.file().try_lock() {
            Ok(()) => Ok(()),
            // A file system without locks: run without the protection.
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => Ok(()),
            Err(TryLockError::WouldBlock) => Err(RecordError::Busy { path: dir.to_owned() }),
            Err(TryLockError::Error(e)) => Err(file_error("lock", &self.path)(e)),
        }
    }
}

/// Refuses a file whose header differs from this build's: new rows would not fit it.
pub(super) fn same_header(path: &Path, header: &[u8]) -> Result<(), RecordError> {
    use std::io::BufRead;
    let mut found = Vec::new();
    let limit = header.len() as u64 + 1;
    std::io::Read::take(std::io::BufReader::new(fs_err::File::open(path)?), limit)
        .read_until(b'\n', &mut found)
        .map_err(file_error("read", path))?;
    if found == header {
        return Ok(());
    }
    Err(RecordError::Row {
        path: path.to_owned(),
        line: 1,
        message: "the columns differ from those of this build: resume with the version that began the run".to_owned(),
    })
}

/// Creates the run's folder under an unused name, and stores the name in the manifest.
fn make_folder(results: &Path, manifest: &mut Manifest) -> Result<PathBuf, RecordError> {
    let hash = &manifest.scenario_sha256;
    let (dir, name) = new_folder(results, &manifest.origin_utc, &manifest.scenario.name, hash)?;
    manifest.run = name;
    Ok(dir)
}

/// Creates a folder under an unused name made of the time, `about` and the start of a hash; returns
/// its path and name.
pub(super) fn new_folder(
    results: &Path,
    utc: &str,
    about: &str,
    sha256: &str,
) -> Result<(PathBuf, String), RecordError> {
    let base = folder_name(utc, about, sha256);
    let mut name = base.clone();
    for attempt in 2.. {
        let dir = results.join(&name);
        match fs_err::create_dir(&dir) {
            Ok(()) => return Ok((dir, name)),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => name = format!("{base}-{attempt}"),
            Err(e) => return Err(e.into()),
        }
    }
    unreachable!("the loop ends only by returning")
}

/// `2026-11-20T09:21:13.123Z`, `Long context`, `ab12...` ->
/// `20261120T092113Z-long-context-ab12cd34`.
fn folder_name(utc: &str, about: &str, sha256: &str) -> String {
    let seconds = utc.split(['.', 'Z', '+']).next().unwrap_or_default();
    let time: String = seconds.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let scenario: Vec<String> = about
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|part| !part.is_empty())
        .map(str::to_lowercase)
        .collect();
    let scenario: String = scenario.join("-").chars().take(40).collect();
    let hash: String = sha256.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let parts = [format!("{time}Z"), scenario, hash];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}
