//! The process of a tool: started from an argument vector, never a shell; limited in time and
//! output; killed when dropped.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::run::interrupt::Interrupt;
use inferometer_protocol::bounded::clean;

/// Polling interval.
const LOOK: Duration = Duration::from_millis(10);
/// Most bytes of a tool's messages that are read.
const MOST_SAID: u64 = 64 << 10;

/// A child process in its own process group. Dropping it kills it.
pub struct Process {
    child: Child,
    name: String,
    said: std::path::PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command`, with its stdout in the file `out` and its stderr in `said`.
    ///
    /// # Errors
    /// Why it cannot be started, as text for `missing`.
    pub fn start(command: &[String], out: &Path, said: &Path) -> Result<Self, String> {
        let (program, arguments) = command.split_first().expect("a command line has a program");
        let file = |path: &Path| fs_err::File::create(path).map(|file| file.into_parts().0).map_err(|e| e.to_string());
        let child = Command::new(program)
            .args(arguments)
            // The output is parsed, so it must not be localized.
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(file(out)?)
            .stderr(file(said)?)
            .process_group(0)
            .spawn()
            .map_err(|e| format!("cannot start `{program}`: {e}"))?;
        Ok(Self { child, name: program.clone(), said: said.to_owned(), ended: None })
    }

    /// Waits until `ready` holds.
    ///
    /// # Errors
    /// When it ends before (with its messages), or is not ready in time.
    pub fn until(
        &mut self,
        patience: Duration,
        interrupt: &Interrupt,
        ready: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.status() {
                return Err(format!("`{}` ended at once ({status}){}", self.name, self.words()));
            }
            if ready(self) {
                return Ok(());
            }
            if interrupt.at_once() {
                return Err("the run was stopped".to_owned());
            }
            if Instant::now() > deadline {
                return Err(format!("`{}` was not ready within {} s{}", self.name, patience.as_secs(), self.words()));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(rustix::process::Signal::INT);
    }

    /// Waits until it ends; neither `file` nor its messages may grow beyond `most` bytes.
    ///
    /// # Errors
    /// When it does not end in time, its output is too large, or the user asked to stop; it is then
    /// killed.
    pub fn end(
        &mut self,
        patience: Duration,
        file: &Path,
        most: u64,
        interrupt: &Interrupt,
    ) -> Result<ExitStatus, String> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.status() {
                return Ok(status);
            }
            let why = if interrupt.at_once() {
                "the run was stopped".to_owned()
            } else if [file, &self.said].iter().any(|file| file.metadata().is_ok_and(|file| file.len() > most)) {
                format!(
                    "the output of `{}` exceeds {} MiB: lower `frequency_hz` or generate fewer tokens",
                    self.name,
                    most >> 20
                )
            } else if Instant::now() > deadline {
                format!("`{}` did not end within {} s", self.name, patience.as_secs())
            } else {
                std::thread::sleep(LOOK);
                continue;
            };
            self.kill();
            return Err(why);
        }
    }

    /// Its exit status, if it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Its messages on stderr, cleaned for an error message.
    pub fn words(&self) -> String {
        let said: Vec<String> = said(&self.said).lines().map(str::trim).filter(|l| !l.is_empty()).map(clean).collect();
        let (from, more) = (said.len().saturating_sub(4), said.len() > 4);
        if said.is_empty() {
            String::new()
        } else {
            format!(": {}{}", if more { "... " } else { "" }, said[from..].join("; "))
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(pid, signal);
        }
    }

    fn kill(&mut self) {
        if self.status().is_none() {
            self.signal(rustix::process::Signal::KILL);
            self.ended = self.child.wait().ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a tool that received SIGINT ended successfully.
pub fn ended_well(status: ExitStatus) -> bool {
    status.success() || status.code() == Some(130) || status.signal() == Some(rustix::process::Signal::INT.as_raw())
}

/// The start of a file of messages; empty if it cannot be read.
pub fn said(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs_err::File::open(path) {
        let _ = file.take(MOST_SAID).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(dir: &Path, command: &[&str]) -> Result<Process, String> {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        Process::start(&command, &dir.join("out"), &dir.join("said"))
    }

    #[test]
    fn a_tool_that_fails_says_why_and_one_that_hangs_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let patience = Duration::from_secs(60);
        let interrupt = Interrupt::new(|_| {});
        let why = start(dir.path(), &["/no/such/tool"]).err().unwrap();
        assert!(why.contains("/no/such/tool"), "{why}");
        let mut failing = start(dir.path(), &["sh", "-c", "echo 'not \x1b[2J permitted' >&2; exit 3"]).unwrap();
        let why = failing.until(patience, &interrupt, |_| false).unwrap_err();
        assert!(why.contains("exit status: 3") && why.contains("not \\u{1b}[2J permitted"), "{why}");
        let mut hanging = start(dir.path(), &["sleep", "1000"]).unwrap();
        let why = hanging.end(Duration::from_millis(1), Path::new("/none"), 1, &interrupt).unwrap_err();
        assert!(why.contains("did not end"), "{why}");
        assert!(hanging.status().is_some(), "it was killed and reaped");
        let mut flooding = start(dir.path(), &["yes"]).unwrap();
        let why = flooding.end(patience, &dir.path().join("out"), 1 << 20, &interrupt).unwrap_err();
        assert!(why.contains("exceeds 1 MiB"), "{why}");
        let mut complaining = start(dir.path(), &["sh", "-c", "yes >&2"]).unwrap();
        let why = complaining.end(patience, &dir.path().join("out"), 1 << 20, &interrupt).unwrap_err();
        assert!(why.contains("exceeds 1 MiB"), "{why}");
    }
}
