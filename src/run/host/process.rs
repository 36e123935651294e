//! The host as a process in its own process group, always ended and reaped, with a log of limited
//! size.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
#[cfg(target_os = "linux")]
use rustix::process::Signal;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::Launch;
use super::error::{HostError, LogTail};
use crate::run::capped::Capped;
use crate::run::interrupt::{Interrupt, Kept};
use crate::run::tree::Tree;
use crate::secret;
use inferometer_protocol::PARENT_VARIABLE;

/// Marks the processes of one host, wherever they go. All values have the same length, because the
/// size of the environment can change a program's speed.
const HOST_VARIABLE: &str = "INFEROMETER_HOST";
/// Time for a killed process to end. One that the kernel does not let go is left behind.
const DYING: Duration = Duration::from_secs(1);
/// Time for the last output of a host that has ended.
const LAST_OUTPUT: Duration = Duration::from_millis(300);

/// Bytes at the log's end that are read for an error message.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 8;

/// A running host. Dropping it kills it with everything it started, and reaps it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    tree: Tree,
    /// While the host runs: the second Ctrl-C kills it.
    kept: Option<Kept>,
    log: PathBuf,
    /// Length of the log before this host wrote to it.
    log_from: u64,
    output: Capped,
    killed: bool,
    ended: Option<ExitStatus>,
}

/// Starts the program. Its stderr goes to the end of the log file. The second Ctrl-C kills it if
/// `interrupt` is given.
pub(crate) fn spawn(
    launch: &Launch,
    interrupt: Option<&Interrupt>,
) -> Result<(Process, ChildStdin, ChildStdout), HostError> {
    let [program, arguments @ ..] = launch.command.as_slice() else {
        return Err(HostError::Io(std::io::Error::other("the host's command line is empty; name a program")));
    };
    let log = fs_err::OpenOptions::new().create(true).append(true).open(&launch.log)?;
    let log_from = log.metadata()?.len();
    let (output, stderr) = Capped::start(log.into_file())?;
    let mark = next_mark();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .env(PARENT_VARIABLE, std::process::id().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .env(HOST_VARIABLE, &mark)
        .stderr(stderr)
        .process_group(0);
    #[cfg(target_os = "linux")]
    die_with_parent(&mut command);
    let mut child = command.spawn().map_err(|source| HostError::Spawn { command: shown(&launch.command), source })?;
    let stdin = child.stdin.take().expect("stdin was asked to be a pipe");
    let stdout = child.stdout.take().expect("stdout was asked to be a pipe");
    let tree = Tree::new(Pid::from_child(&child), Some(format!("{HOST_VARIABLE}={mark}")));
    let kept = interrupt.map(|interrupt| interrupt.keep(tree.clone()));
    let log = launch.log.clone();
    Ok((Process { child, tree, kept, log, log_from, output, killed: false, ended: None }, stdin, stdout))
}

/// A value of [`HOST_VARIABLE`] that no other process on this machine has.
fn next_mark() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{:010}-{:010}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes the kernel kill the host when this program ends, even by SIGKILL and even while the host
/// does not read its input.
#[cfg(target_os = "linux")]
fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let before_exec = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended before prctl took effect.
        if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
    };
    // SAFETY: between fork and exec the closure makes two bare system calls, prctl and getppid,
    // compares, and makes an error from a number: it does not allocate, lock or touch data that
    // other threads of the parent may have left inconsistent.
    unsafe { command.pre_exec(before_exec) };
}

fn shown(command: &[String]) -> String {
    let command = secret::masked(command);
    shlex::try_join(command.iter().map(String::as_str)).unwrap_or_else(|_| command.join(" "))
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the host has ended. It is not reaped here, so that its group id stays reserved until
    /// `kill`.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.ended.is_some() || !matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(None))
    }

    /// Calls `tell` from another thread as soon as the host has ended, even if a process that it
    /// started keeps its pipes open.
    pub(crate) fn watch(&self, tell: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let host = Pid::from_child(&self.child);
        let wait = move || {
            // Returns without reaping. An error means that the host is reaped already.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(host), options), Err(Errno::INTR)) {}
            tell();
        };
        std::thread::Builder::new().name("host-watch".into()).spawn(wait).map(drop)
    }

    /// Waits until the host has ended by itself; `false` if it still runs after `limit`.
    pub(crate) fn wait_end(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_micros(200);
        while !self.has_ended() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        true
    }

    /// Kills everything that the host started. The host itself has ended, but is not reaped.
    pub(crate) fn end_helpers(&self) {
        if !self.killed {
            self.tree.kill();
        }
    }

    /// Kills the host with everything it started, and reaps it. Returns the host's exit status.
    pub(crate) fn kill(&mut self) -> Option<ExitStatus> {
        if !std::mem::replace(&mut self.killed, true) {
            // Kill first, then reap: until then the ids are its own.
            self.kept = None;
            self.tree.kill();
            if self.wait_end(DYING) {
                self.ended = self.child.wait().ok();
            }
            self.output.finish(LAST_OUTPUT);
        }
        self.ended
    }

    /// The last lines that this host wrote to its log.
    pub(crate) fn log_tail(&self) -> LogTail {
        let lines = self.read_tail().unwrap_or_default();
        LogTail { path: self.log.clone(), lines }
    }

    fn read_tail(&self) -> std::io::Result<Vec<String>> {
        let mut file = fs_err::File::open(&self.log)?;
        let from = self.log_from.max(file.metadata()?.len().saturating_sub(TAIL_BYTES));
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        Ok(lines[lines.len().saturating_sub(TAIL_LINES)..].iter().map(|line| (*line).to_owned()).collect())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
