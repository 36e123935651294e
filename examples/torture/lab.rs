//! The folder of a round, the program in it, and what must hold whatever was done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use inferometer::record;
use inferometer::record::{Record, RequestRow, Status};

/// Set for this program to stand for `inferometer`; engine hosts inherit it.
pub const AS_PROGRAM: &str = "INFEROMETER_TORTURE_PROGRAM";
/// Set for everything that a round starts, so that what is left can be found.
const MARK: &str = "INFEROMETER_TORTURE_ROUND";
/// Longest that a program may take to end; a busy machine needs some of it.
const PATIENCE: Duration = Duration::from_secs(180);
/// Longest that hosts may outlive a killed harness.
const OUTLIVING: Duration = Duration::from_secs(20);

/// How a round ended, if not well.
#[derive(Debug)]
pub enum Fault {
    /// What was lost, hung, leaked or told wrongly.
    Lost(String),
    /// This machine cannot try it; the reason.
    NotTried(String),
}

/// For faults: something was lost.
pub fn lost<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Lost(what.into()))
}

pub fn io(error: std::io::Error) -> Fault {
    Fault::NotTried(error.to_string())
}

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }

    pub fn pause(&mut self, most: Duration) {
        std::thread::sleep(Duration::from_micros(self.below(most.as_micros() as u64)));
    }
}

pub struct Lab {
    dir: tempfile::TempDir,
    program: Option<PathBuf>,
}

/// How a program ended.
pub struct Done {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub stderr: String,
}

/// A measured iteration by cell and number.
pub type Rows = BTreeMap<(u32, u32, u32), RequestRow>;

impl Lab {
    pub fn new(program: Option<PathBuf>) -> std::io::Result<Self> {
        Ok(Self { dir: tempfile::Builder::new().prefix("torture-").tempdir()?, program })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn keep(self) -> PathBuf {
        self.dir.keep()
    }

    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Fault> {
        let path = self.path(name);
        fs_err::write(&path, text).map_err(io)?;
        Ok(path)
    }

    /// The program that is mistreated.
    pub fn program(&self) -> Result<PathBuf, Fault> {
        self.program.clone().map_or_else(|| std::env::current_exe().map_err(io), Ok)
    }

    /// The program with arguments, behind further words such as those of a shell.
    pub fn command(&self, before: &[&str], arguments: &[&str]) -> Result<Command, Fault> {
        let own = self.program()?;
        let mut command = match before {
            [] => Command::new(own),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(own);
                command
            }
        };
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env(AS_PROGRAM, "1")
            .env(MARK, self.mark())
            .env("INFEROMETER_LOCK", self.path("lock"))
            .env("INFEROMETER_CACHE", self.path("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(self.messages()?);
        Ok(command)
    }

    /// A file that takes what a program says, also if it is killed.
    fn messages(&self) -> Result<Stdio, Fault> {
        let file = fs_err::OpenOptions::new().create(true).append(true).open(self.path("stderr")).map_err(io)?;
        Ok(file.into_file().into())
    }

    /// Everything that programs have said in this round since it was last asked.
    pub fn said(&self) -> Result<String, Fault> {
        let path = self.path("stderr");
        let text = String::from_utf8_lossy(&fs_err::read(&path).map_err(io)?).into_owned();
        let mut all = fs_err::OpenOptions::new().create(true).append(true).open(self.path("said")).map_err(io)?;
        all.write_all(text.as_bytes()).map_err(io)?;
        fs_err::write(&path, "").map_err(io)?;
        if text.contains("panicked at") {
            return lost(format!("a panic: {}", tail(&text)));
        }
        Ok(text)
    }

    pub fn start(&self, arguments: &[&str]) -> Result<Child, Fault> {
        self.command(&[], arguments)?.spawn().map_err(io)
    }

    /// Runs the program to its end.
    pub fn finish(&self, arguments: &[&str]) -> Result<Done, Fault> {
        self.end(self.start(arguments)?)
    }

    /// Waits for the end of a program.
    pub fn end(&self, mut child: Child) -> Result<Done, Fault> {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().map_err(io)? {
                Some(status) => break status,
                None if Instant::now() > until => {
                    _ = child.kill();
                    _ = child.wait();
                    return lost(format!("it did not end within {} s: {}", PATIENCE.as_secs(), tail(&self.said()?)));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let done = Done { code: status.code(), stderr: self.said()? };
        match done.code {
            None => lost(format!("it ended by a signal, {status}: {}", tail(&done.stderr))),
            Some(101) => lost(format!("it panicked: {}", tail(&done.stderr))),
            Some(_) => Ok(done),
        }
    }

    /// The folders in `results` that hold a record or a session.
    pub fn folders(&self, results: &str) -> Vec<PathBuf> {
        let entries = fs_err::read_dir(self.path(results)).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths.filter(|path| path.join("run.json").is_file() || path.join("ab.json").is_file()).collect()
    }

    /// The only such folder, once there is one.
    pub fn folder(&self) -> Option<PathBuf> {
        self.folders("results").pop()
    }

    /// A verb that must succeed on a record.
    pub fn must(&self, arguments: &[&str]) -> Result<(), Fault> {
        let done = self.finish(arguments)?;
        if done.code == Some(0) {
            Ok(())
        } else {
            lost(format!("{arguments:?} ended with {:?}: {}", done.code, tail(&done.stderr)))
        }
    }

    fn mark(&self) -> String {
        self.dir.path().display().to_string()
    }

    /// That no process of this round is left.
    pub fn nothing_runs(&self) -> Result<(), Fault> {
        let until = Instant::now() + OUTLIVING;
        loop {
            let left = self.running();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > until {
                for pid in &left {
                    // Only what carries this round's own mark.
                    _ = rustix::process::kill_process(*pid, rustix::process::Signal::KILL);
                }
                return lost(format!("processes {left:?} are left"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The processes of this round, except this program; empty where there is no /proc.
    pub fn running(&self) -> Vec<rustix::process::Pid> {
        let mark = format!("{MARK}={}", self.mark());
        let of_round = |pid: &u32| {
            let about = |file: &str| fs_err::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let zombie =
                String::from_utf8_lossy(&about("stat")).rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"));
            !zombie && about("environ").split(|byte| *byte == 0).any(|one| one == mark.as_bytes())
        };
        let entries = fs_err::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(of_round).filter_map(|pid| rustix::process::Pid::from_raw(pid as i32)).collect()
    }
}

/// The last words of a text.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(6)..].join(" / ")
}

/// Opens a record, which must always be possible.
pub fn read(dir: &Path) -> Result<Record, Fault> {
    let record = record::open(dir).or_else(|error| lost(format!("the record does not open: {error}")))?;
    let contradiction = record.contradictions().next().map(str::to_owned);
    contradiction.map_or(Ok(record), lost)
}

/// The measured rows; none may be there twice.
pub fn rows(record: &Record) -> Result<Rows, Fault> {
    let mut rows = Rows::new();
    for row in record.requests.iter().filter(|row| !row.warmup) {
        if rows.insert((row.cell, row.iteration, row.turn), row.clone()).is_some() {
            return lost(format!("iteration {} of cell {} is there twice", row.iteration, row.cell));
        }
    }
    Ok(rows)
}

/// That everything in `before` is in `after`, unchanged.
pub fn kept(before: &Rows, after: &Rows) -> Result<(), Fault> {
    match before.iter().find(|(at, row)| after.get(at) != Some(row)) {
        None => Ok(()),
        Some((at, _)) => lost(format!("iteration {at:?} was committed and is gone or changed")),
    }
}

/// The largest N of the lines `... done, N/M` that a run prints when a round of iterations is done.
pub fn reported(said: &str) -> usize {
    let counts = said.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" done, ")?;
        rest.split_once('/')?.0.parse().ok()
    });
    counts.max().unwrap_or(0)
}

/// The number of iterations among rows; a conversation has one row per turn.
pub fn iterations(rows: &Rows) -> usize {
    rows.keys().map(|(cell, iteration, _)| (cell, iteration)).collect::<BTreeSet<_>>().len()
}

/// The tokens of valid requests by cell and turn.
pub type Tokens = BTreeMap<(u32, u32), Vec<Option<u32>>>;

/// [`Tokens`] of a record; equal requests must have equal tokens.
pub fn tokens(record: &Record) -> Result<Tokens, Fault> {
    let mut ids: BTreeMap<u64, Vec<Option<u32>>> = BTreeMap::new();
    for token in &record.tokens {
        ids.entry(token.request).or_default().push(token.id);
    }
    let mut all = Tokens::new();
    for row in record.requests.iter().filter(|row| !row.warmup && row.status == Status::Ok) {
        let own = ids.get(&row.request).cloned().unwrap_or_default();
        if own.is_empty() {
            return lost(format!("request {} has no tokens", row.request));
        }
        let first = all.entry((row.cell, row.turn)).or_insert_with(|| own.clone());
        if *first != own {
            return lost(format!("request {} has other tokens than the first of its cell", row.request));
        }
    }
    Ok(all)
}
