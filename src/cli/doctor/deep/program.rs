//! This program, run as a child in a folder of its own with a time limit: what crashes or hangs
//! there is a line of the report.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// Longest run of one try. A debug build is many times slower.
const LIMIT: Duration = Duration::from_secs(if cfg!(debug_assertions) { 240 } else { 90 });
const POLL: Duration = Duration::from_millis(20);
/// How much of a program's last words is shown.
const LAST_LINES: usize = 3;

pub struct Program {
    dir: tempfile::TempDir,
    executable: std::path::PathBuf,
}

/// How a try ended.
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub seconds: f64,
    /// The last lines of its messages.
    pub words: String,
}

impl Program {
    pub fn new() -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("cannot create a folder for temporary files")?;
        let executable = std::env::current_exe().context("the path of this program is unknown")?;
        Ok(Self { dir, executable })
    }

    /// A folder for one try.
    pub fn folder(&self, name: &str) -> anyhow::Result<std::path::PathBuf> {
        let folder = self.dir.path().join(name);
        fs_err::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Runs the program in `folder`.
    ///
    /// # Errors
    /// When it cannot be started, or did not end in time.
    pub fn run(&self, folder: &Path, arguments: &[&str]) -> anyhow::Result<Ended> {
        let said = folder.join("said.txt");
        let file = fs_err::File::create(&said)?.into_parts().0;
        let begun = Instant::now();
        let mut child = Command::new(&self.executable)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .context("this program cannot be started again")?;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if begun.elapsed() > LIMIT {
                child.kill()?;
                child.wait()?;
                anyhow::bail!("did not end within {} s", LIMIT.as_secs());
            }
            std::thread::sleep(POLL);
        };
        let words = inferometer_protocol::bounded::read_limited(&said, 1 << 20).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace(&self.dir.path().display().to_string(), "<temporary>");
        let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let words = lines[lines.len().saturating_sub(LAST_LINES)..].join(" | ");
        Ok(Ended { code: status.code(), seconds: begun.elapsed().as_secs_f64(), words })
    }
}

impl Ended {
    /// The exit code and the last words.
    pub fn told(&self) -> String {
        match self.code {
            Some(code) => format!("exit code {code}: {}", self.words),
            None => format!("ended by a signal: {}", self.words),
        }
    }
}
