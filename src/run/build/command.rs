//! Runs the build command. The first and the last part of its output go to a log, and it is killed
//! with everything it started when it takes too long.

use std::ffi::OsStr;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Pid;
use sha2::{Digest, Sha256};

use super::error::BuildError;
use crate::run::capped::Capped;
use crate::run::host::LogTail;
use crate::run::tree::Tree;
use crate::spec::build::{SHARED, TREE};

const TAIL_BYTES: u64 = 16 << 10;
const TAIL_LINES: usize = 20;
/// Time for the last output of a command that has ended; its processes may still hold the pipe.
const LAST_OUTPUT: Duration = Duration::from_millis(300);
/// Interval of the messages that a long build still runs.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// This command only prints a version.
const TOOLCHAIN_LIMIT: Duration = Duration::from_secs(120);
const TOOLCHAIN_BYTES: u64 = 16 << 10;

/// Values of the placeholders in braces.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub tree: PathBuf,
    pub shared: PathBuf,
}

impl Places {
    /// `words` with the placeholders replaced.
    pub fn fill(&self, words: &[String]) -> Result<Vec<String>, BuildError> {
        let text = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| BuildError::NotUtf8(path.to_owned()));
        let (tree, shared) = (text(&self.tree)?, text(&self.shared)?);
        Ok(words.iter().map(|word| word.replace(SHARED, &shared).replace(TREE, &tree)).collect())
    }
}

/// The command line in shell syntax.
pub(super) fn shown(words: &[String]) -> String {
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

/// Limits of a command, and the receiver of its progress.
pub(super) struct Watch<'a> {
    pub limit: Duration,
    pub stop: &'a dyn Fn() -> bool,
    pub note: &'a mut dyn FnMut(&str),
}

/// Why a command did not succeed.
pub(super) enum Fault {
    Interrupted,
    How(String),
}

/// Runs `words` in `folder`, with their output in `log`.
pub(super) fn run(words: &[String], folder: &Path, log: &Path, watch: Watch) -> Result<Result<(), Fault>, BuildError> {
    let mut file = fs_err::File::create(log)?;
    writeln!(file, "$ {}", shown(words))?;
    let (output, pipe) = Capped::start(file.into_file())?;
    let mut command = ready(words, folder);
    command.stdout(pipe.try_clone()?).stderr(pipe);
    let started = command.spawn();
    // It holds the harness's ends of the pipe.
    drop(command);
    let outcome = match started {
        Ok(child) => Group(child).wait(watch),
        Err(error) => Err(Fault::How(format!("could not start ({error})"))),
    };
    output.finish(LAST_OUTPUT);
    Ok(outcome)
}

/// The output of `words`, run in `folder`, trimmed.
pub(super) fn ask(words: &[String], folder: &Path, stop: &dyn Fn() -> bool) -> Result<String, Fault> {
    let how = |error: std::io::Error| Fault::How(error.to_string());
    let mut output = tempfile::tempfile().map_err(how)?;
    let (capped, pipe) = Capped::start(output.try_clone().map_err(how)?).map_err(how)?;
    let mut command = ready(words, folder);
    command.stdout(pipe).stderr(Stdio::null());
    let started = command.spawn().map_err(how);
    drop(command);
    Group(started?).wait(Watch { limit: TOOLCHAIN_LIMIT, stop, note: &mut |_| {} })?;
    capped.finish(LAST_OUTPUT);
    output.seek(SeekFrom::Start(0)).map_err(how)?;
    let mut bytes = Vec::new();
    output.take(TOOLCHAIN_BYTES).read_to_end(&mut bytes).map_err(how)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    if text.is_empty() { Err(Fault::How("it printed nothing".to_owned())) } else { Ok(text) }
}

fn ready(words: &[String], folder: &Path) -> Command {
    let program = Path::new(&words[0]);
    // With a separate working folder, systems resolve relative paths differently.
    let relative = program.is_relative() && program.components().count() > 1;
    let mut command = if relative { Command::new(folder.join(program)) } else { Command::new(program) };
    command.args(&words[1..]).current_dir(folder).stdin(Stdio::null()).process_group(0);
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_leftover(name)) {
        command.env_remove(name);
    }
    command
}

/// Variables about the process that started this one: git's for hooks, cargo's for `cargo run`.
fn is_leftover(name: &OsStr) -> bool {
    const NAMES: [&str; 7] = [
        "CARGO",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_CRATE_NAME",
        "CARGO_TARGET_TMPDIR",
        "OUT_DIR",
        "PWD",
        "RUST_RECURSION_COUNT",
    ];
    const STARTS: [&str; 5] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "GIT_", "NEXTEST"];
    let name = name.to_string_lossy();
    NAMES.contains(&&*name) || STARTS.iter().any(|start| name.starts_with(start))
}

/// Digest of the variables that affect compilers and build tools, so that a program built with
/// other values is not reused.
pub(super) fn environment_sha256() -> String {
    const NAMES: [&str; 12] = [
        "PATH",
        "CC",
        "CXX",
        "AR",
        "LD",
        "LANG",
        "SDKROOT",
        "DEVELOPER_DIR",
        "MACOSX_DEPLOYMENT_TARGET",
        "CPATH",
        "LIBRARY_PATH",
        "VIRTUAL_ENV",
    ];
    const STARTS: [&str; 8] = ["CARGO_", "RUST", "CMAKE_", "CUDA", "MLX_", "PKG_CONFIG", "CC_", "CXX_"];
    const SECRET: [&str; 5] = ["TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "KEY"];
    let heeded = |name: &OsStr| {
        let name = name.to_string_lossy();
        let counts = NAMES.contains(&&*name) || STARTS.iter().any(|s| name.starts_with(s)) || name.ends_with("FLAGS");
        counts && !SECRET.iter().any(|word| name.contains(word))
    };
    let mut variables: Vec<_> = std::env::vars_os().filter(|(name, _)| heeded(name) && !is_leftover(name)).collect();
    variables.sort_unstable();
    let mut digest = Sha256::new();
    for (name, value) in &variables {
        for part in [name, value] {
            digest.update(part.len().to_le_bytes());
            digest.update(part.as_bytes());
        }
    }
    super::hex(&digest.finalize())
}

/// A process and its children; killed when dropped.
struct Group(Child);

impl Group {
    fn wait(mut self, watch: Watch) -> Result<(), Fault> {
        let Watch { limit, stop, note } = watch;
        let begun = Instant::now();
        let mut said = begun;
        let mut pause = Duration::from_millis(1);
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(Fault::How(format!("failed ({status})"))),
                Ok(None) => {}
                Err(error) => return Err(Fault::How(format!("cannot be waited for ({error})"))),
            }
            if stop() {
                return Err(Fault::Interrupted);
            }
            if begun.elapsed() >= limit {
                return Err(Fault::How(format!("took longer than {} s and was killed", limit.as_secs_f64())));
            }
            if said.elapsed() >= SIGN_OF_LIFE {
                said = Instant::now();
                note(&format!("still building, {} s", begun.elapsed().as_secs()));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Once the leader is reaped, its process id may belong to others: processes left by a
        // finished build are not killed.
        if let Ok(None) = self.0.try_wait() {
            Tree::new(Pid::from_child(&self.0), None).kill();
            let _ = self.0.wait();
        }
    }
}

/// The last lines of a build's log, without the command line at its start.
pub(super) fn log_tail(path: &Path) -> LogTail {
    let lines = read_tail(path).unwrap_or_default();
    LogTail { path: path.to_owned(), lines }
}

fn read_tail(path: &Path) -> std::io::Result<Vec<String>> {
    let mut file = fs_err::File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().skip(usize::from(from == 0)).filter(|line| !line.trim().is_empty()).collect();
    Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| (*line).to_owned()).collect())
}
