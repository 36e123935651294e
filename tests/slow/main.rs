//! Checks of the whole program that take minutes. `cargo test` leaves them out; run them in
//! release:
//!
//!     cargo test --release --test slow
//!
//! INFEROMETER names another program to check than the one that Cargo builds along.

mod conversation;
mod deterministic;
// Shared, so that there is only one rule for rows that a stalled machine spoils.
#[allow(dead_code)]
#[path = "../it/lab.rs"]
mod lab;
mod trace;
#[path = "../it/spans/trace_format.rs"]
mod trace_format;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use assert_cmd::Command;
use inferometer::record::{self, Cause, Record, RequestRow, Status};

/// Lets one test run at a time, because two runs would slow down each other.
static ALONE: Mutex<()> = Mutex::new(());

/// The folder of one test.
struct Bench {
    dir: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

fn program() -> Command {
    let given = std::env::var_os("INFEROMETER").map(PathBuf::from);
    let mut command = Command::new(given.unwrap_or_else(|| env!("CARGO_BIN_EXE_inferometer").into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

impl Bench {
    fn new() -> Self {
        // A failed test must not fail the next one.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { dir: tempfile::tempdir().unwrap(), _alone: alone }
    }

    /// Runs a shipped scenario. These tests ignore the load of other programs.
    fn run(&self, name: &str, scenario: &str, arguments: &[&str]) -> Run {
        let results = self.dir.path().join(name);
        let output = program()
            .args(["run", &format!("scenarios/{scenario}.toml"), "-q", "--no-report", "--format", "json"])
            .args(["--set", "run.external_causes=warn", "--results", results.to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap();
        // 4: an iteration is invalid. Each test checks the rows for whether the machine stalled.
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 4)), "{name}: {}\n{told}", output.status);
        let folders: Vec<PathBuf> = fs_err::read_dir(&results).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [folder] = &folders[..] else { panic!("{name}: there should be one run: {folders:?}") };
        Run { record: record::read(folder).unwrap(), folder: folder.clone() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

struct Run {
    record: Record,
    folder: PathBuf,
}

impl Run {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn measured(&self) -> impl Iterator<Item = &RequestRow> {
        self.record.requests.iter().filter(|row| !row.warmup)
    }
}

/// Times of a stalled machine are invalid, but its tokens are valid.
#[track_caller]
fn assert_counts(row: &RequestRow) {
    let counts = row.status == Status::Ok || row.cause == Some(Cause::LateStamps);
    assert!(counts, "request {}: {:?}: {}", row.request, row.status, row.reason);
}
