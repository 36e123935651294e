//! Writes a record as the run goes. An iteration is either wholly there or not at all, whatever kills the program.

use std::fs::TryLockError;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::csv::{self, Encoder};
use super::error::{RecordError, file_error};
use super::read::{self, Lengths};
use super::rows::Commit;
use super::{Manifest, Record, RequestRow, SpanRow, TelemetryRow, TokenRow, manifest};

/// Everything one iteration leaves, committed together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Iteration {
    /// At least one, numbers rising.
    pub requests: Vec<RequestRow>,
    /// By request in the order of `requests`, then index from 0.
    pub tokens: Vec<TokenRow>,
    /// By request in the order of `requests`.
    pub spans: Vec<SpanRow>,
    /// Samples taken since the last commit.
    pub telemetry: Vec<TelemetryRow>,
}

/// The record of a run while it is being written. Holds a lock on it until dropped.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    manifest: Manifest,
    tokens: Appender,
    spans: Appender,
    telemetry: Appender,
    /// Written last: its rows commit the others. Carries the lock.
    requests: Appender,
    last_request: Option<u64>,
}

impl Store {
    /// Makes a folder for a new run in `results` (made too if missing) and begins its record there.
    ///
    /// The folder's name, `<utc>-<scenario>-<short hash>`, comes from `origin_utc`, the scenario's name and
    /// `scenario_sha256`, and is put into [`Manifest::run`].
    ///
    /// # Errors
    /// When the folder or a file in it cannot be made.
    pub fn create(results: &Path, mut manifest: Manifest) -> Result<Self, RecordError> {
        fs_err::create_dir_all(results)?;
        let dir = make_folder(results, &mut manifest)?;
        let store = Self::begin(&dir, manifest).inspect_err(|_| {
            // Nothing in it yet that anybody could miss.
            let _ = fs_err::remove_dir_all(&dir);
        })?;
        crate::fs::sync_folder(results)?;
        Ok(store)
    }

    /// Begins the record of a side of an A/B session in the folder `dir`, which is made.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be made.
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
        // The manifest last: a folder that has one is a whole record.
        manifest::write(dir, &manifest)?;
        Ok(Self { dir: dir.to_owned(), manifest, tokens, spans, telemetry, requests, last_request: None })
    }

    /// Opens the record in `dir` to go on with it: gives what is committed and cuts every file back to that.
    ///
    /// # Errors
    /// Whatever [`super::read()`] refuses, a record that another process is writing, columns of another version.
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
        };
        store.set_committed(lengths);
        store.roll_back()?;
        Ok((store, record))
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Changes the manifest and rewrites `run.json` at once. On an error neither has changed.
    ///
    /// # Errors
    /// When the file cannot be written, or `change` touches the gauges' names, which are columns already.
    pub fn update(&mut self, change: impl FnOnce(&mut Manifest)) -> Result<(), RecordError> {
        let mut manifest = self.manifest.clone();
        change(&mut manifest);
        let columns = |manifest: &Manifest| manifest.gauges.iter().map(|g| g.name.clone()).collect::<Vec<_>>();
        if columns(&manifest) != columns(&self.manifest) {
            return Err(self.misuse("the gauges are fixed when the record is created".to_owned()));
        }
        manifest::write(&self.dir, &manifest)?;
        self.manifest = manifest;
        Ok(())
    }

    /// Appends an iteration. When this returns, it is on the disk.
    ///
    /// # Errors
    /// When a file cannot be written: nothing of the iteration stays then, and the run can go on or be resumed. Rows
    /// that do not belong together are refused before anything is written.
    pub fn commit(&mut self, iteration: &Iteration) -> Result<(), RecordError> {
        let commits = self.check(iteration).map_err(|message| self.misuse(message))?;
        // Also heals what an earlier failure could not undo, such as a disk that was away for a while.
        self.roll_back()?;
        let lengths = match self.append(iteration, &commits) {
            Ok(lengths) => lengths,
            Err(error) => {
                // Best effort: the next commit, or `resume`, does it again before it writes.
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
            iteration.requests.iter().zip(commits).for_each(|(row, commit)| e.request(row, commit));
        }))?;
        Ok(Lengths { tokens, spans, telemetry, requests })
    }

    /// Checks that the rows belong together; how each request binds the others.
    fn check(&self, iteration: &Iteration) -> Result<Vec<Commit>, String> {
        let gauges = self.manifest.gauges.len();
        if iteration.telemetry.iter().any(|row| row.values.len() != gauges) {
            return Err(format!("a telemetry row has not one value for each of the {gauges} gauges"));
        }
        commits(iteration, self.last_request)
    }

    /// Cuts every file to its committed length. The requests first: without their rows the others do not count.
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

/// Checks that an iteration's rows belong together and come after request `last`; how each request binds the others.
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

/// A file that only grows, but for taking back what was not committed.
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

    /// Appends in one write and syncs; the length that the file then has.
    fn append(&mut self, bytes: &[u8]) -> Result<u64, RecordError> {
        if !bytes.is_empty() {
            self.file.write_all(bytes)?;
            self.file.sync_data()?;
        }
        Ok(self.committed + bytes.len() as u64)
    }

    /// Appends in one write and syncs: a whole step of its own. On an error nothing of it stays, if the disk lets go of it.
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

    /// Length of what counts.
    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    /// Cuts the file to its first `bytes`, which are what counts.
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

    /// Refuses a second writer. The system lets go of the lock when this process ends, however it ends.
    pub(super) fn lock(&self, dir: &Path) -> Result<(), RecordError> {
        match self.file.file().try_lock() {
            Ok(()) => Ok(()),
            // A file system without locks: better a run without the guard than none.
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => Ok(()),
            Err(TryLockError::WouldBlock) => Err(RecordError::Busy { path: dir.to_owned() }),
            Err(TryLockError::Error(e)) => Err(file_error("lock", &self.path)(e)),
        }
    }
}

/// A build whose columns differ must not append: its rows would not fit the header.
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
        message: "the columns are not those this build writes: resume with the version that began the run".to_owned(),
    })
}

/// Makes the run's folder under a name that is not taken, and puts the name into the manifest.
fn make_folder(results: &Path, manifest: &mut Manifest) -> Result<PathBuf, RecordError> {
    let hash = &manifest.scenario_sha256;
    let (dir, name) = new_folder(results, &manifest.origin_utc, &manifest.scenario.name, hash)?;
    manifest.run = name;
    Ok(dir)
}

/// Makes a folder under a name that is not taken, made of time, what it is about and the beginning of a hash; gives its
/// path and name.
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

/// `2026-11-20T09:21:13.123Z`, `Long context`, `ab12...` -> `20261120T092113Z-long-context-ab12cd34`.
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
