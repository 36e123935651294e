//! The user's programs that download: started without a shell, ended when the user asks to stop.

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::FetchError;

/// The end of a program's messages that an error quotes.
const TAIL_BYTES: usize = 4 << 10;
const TAIL_LINES: usize = 4;

/// Runs a program to its end. Its messages are quoted where it fails.
///
/// # Errors
/// When it cannot be started, fails, or `stop` returns true.
pub fn run(mut command: Command, stop: &dyn Fn() -> bool) -> Result<(), FetchError> {
    let mut messages = tempfile::tempfile()?;
    let named = named(&command);
    command.stdin(Stdio::null()).stderr(messages.try_clone()?);
    let mut child = Running(start(&mut command)?);
    let status = loop {
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        if stop() {
            return Err(FetchError::Interrupted);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    match status.success() {
        true => Ok(()),
        // The signal reached the program first.
        false if stop() => Err(FetchError::Interrupted),
        false => Err(FetchError::Failed { command: named, how: format!(" ({status}){}", tail(&mut messages)) }),
    }
}

/// Runs a program and gives what it prints to `take`.
///
/// # Errors
/// As [`run`], and what `take` returns.
pub fn read(
    mut command: Command,
    take: impl FnOnce(&mut ChildStdout) -> Result<(), FetchError>,
) -> Result<(), FetchError> {
    let mut messages = tempfile::tempfile()?;
    let named = named(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(messages.try_clone()?);
    let mut child = Running(start(&mut command)?);
    let mut printed = child.0.stdout.take().ok_or_else(|| io::Error::other("a pipe is missing"))?;
    take(&mut printed)?;
    drop(printed);
    let status = child.0.wait()?;
    match status.success() {
        true => Ok(()),
        false => Err(FetchError::Failed { command: named, how: format!(" ({status}){}", tail(&mut messages)) }),
    }
}

/// Where PATH has an executable of that name.
pub fn on_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let executable = |file: &PathBuf| {
        fs_err::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(name)).find(executable)
}

fn start(command: &mut Command) -> Result<Child, FetchError> {
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FetchError::NoProgram(command.get_program().to_string_lossy().into_owned()),
        _ => FetchError::Failed { command: named(command), how: format!(": {error}") },
    })
}

/// The command line without the arguments that hold paths or code.
fn named(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args().take(2));
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The last messages of a program, behind a colon.
fn tail(messages: &mut std::fs::File) -> String {
    use std::io::Seek;
    let mut bytes = Vec::new();
    let read = messages.rewind().and_then(|()| messages.take(1 << 20).read_to_end(&mut bytes));
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    match (read, lines.as_slice()) {
        (Err(_), _) | (_, []) => String::new(),
        (_, lines) => format!(":\n  {}", lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ")),
    }
}

/// A program, killed when dropped before it has ended.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
