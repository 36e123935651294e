//! A place of its own for a test that runs the program: folders, lock, scenarios, and what came of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use inferometer::record;
use inferometer::record::{Cause, Record, RequestRow, Status};

/// Longest wait for anything; only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Lab {
    dir: tempfile::TempDir,
}

/// How the program ended, and what it said.
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// How often a fresh run is begun at most, see [`Lab::run`].
const TRIES: usize = 5;

/// Whether a row is invalid because the machine was too busy to wake a process in time. That is the instrument at work,
/// and not what these tests are about: they have to pass on a busy machine too.
pub fn is_busy(row: &RequestRow) -> bool {
    row.cause == Some(Cause::LateStamps)
}

/// Whether the busy rows of a run may be excused: at most half of all rows, warm-ups included, and at least one row is
/// well. An instrument that condemned every honest host would fail the tests.
pub fn excused(rows: &[RequestRow]) -> bool {
    let busy = rows.iter().filter(|row| is_busy(row)).count();
    2 * busy <= rows.len() && rows.iter().any(|row| row.status == Status::Ok)
}

/// The exit code that the rows of a run call for. For runs that are stopped and gone on with, which cannot be begun
/// anew: all that may be wrong with them is a busy machine.
#[track_caller]
pub fn code_but_for_busy(record: &Record) -> i32 {
    for row in &record.requests {
        assert!(row.status == Status::Ok || is_busy(row), "{:?}: {}", row.cause, row.reason);
    }
    assert!(excused(&record.requests), "most rows are late, which no busy machine excuses");
    if measured(record).into_iter().any(is_busy) { 4 } else { 0 }
}

/// Writes NaN over the first value of a tensor in f32.
pub fn make_nan(folder: &Path, tensor: &str) {
    let file = folder.join("model.safetensors");
    let mut bytes = fs_err::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    assert_eq!(json[tensor]["dtype"], "F32");
    let at = header + json[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs_err::write(&file, bytes).unwrap();
}

impl Done {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Exit code and output as one text for a snapshot; the lab's folder is `[LAB]`, that of a run `[RUN]`.
    pub fn shown(&self, lab: &Lab) -> String {
        let code = self.code.map_or_else(|| "by signal".to_owned(), |code| code.to_string());
        let part = |name: &str, text: &str| match text {
            "" => String::new(),
            text => format!("--- {name}\n{text}"),
        };
        let mut shown = format!("exit {code}\n{}{}", part("stdout", &self.stdout), part("stderr", &self.stderr));
        let entries = fs_err::read_dir(lab.path("results")).into_iter().flatten();
        let runs = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let folder = lab.dir.path().display().to_string();
        for (name, placeholder) in runs.map(|run| (run, "[RUN]")).chain([(folder, "[LAB]")]) {
            shown = shown.replace(&name, placeholder);
        }
        shown
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in stderr:\n{}", self.stderr);
        self
    }
}

impl Lab {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        match std::str::from_utf8(content.as_ref()) {
            Ok(text) if name.ends_with(".toml") && text.contains("[workload]") => {
                fs_err::write(&path, undisturbed(text)).unwrap();
            }
            _ => fs_err::write(&path, content).unwrap(),
        }
        path
    }

    /// A scenario of the `exec` engine with `tests/fixtures/engine.py`; `rest` is TOML below the engine.
    pub fn exec(&self, arguments: &[&str], rest: &str) -> PathBuf {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine.py");
        let mut command = vec!["python3".to_owned(), script.display().to_string()];
        command.extend(["--state".to_owned(), self.path("state").display().to_string()]);
        command.extend(arguments.iter().map(|a| (*a).to_owned()));
        let model = self.path("model");
        fs_err::create_dir_all(&model).unwrap();
        let workload = if rest.contains("[workload]") {
            ""
        } else {
            "[workload]\nkind = \"prompt\"\ntext = \"one two three four five\"\nmax_tokens = 12\nignore_eos = true\n"
        };
        self.write(
            "scenario.toml",
            format!(
                "name = \"lab\"\n[model]\npath = {model:?}\n[[engine]]\nname = \"exec\"\noptions = {{ command = {command:?} }}\n{workload}{rest}"
            ),
        )
    }

    /// The program, in this lab's folder.
    pub fn program(&self, arguments: &[&str]) -> Command {
        self.wrap(Command::new(env!("CARGO_BIN_EXE_inferometer")), arguments)
    }

    /// The program behind a few words of shell, such as `ulimit`.
    pub fn behind_shell(&self, words: &str, arguments: &[&str]) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{words}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_inferometer")]);
        self.wrap(shell, arguments)
    }

    fn wrap(&self, mut command: Command, arguments: &[&str]) -> Command {
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("INFEROMETER_LOCK", self.path("lock"))
            .env("INFEROMETER_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the program to its end. A fresh run in which the machine was too busy to wake a process in time is begun anew,
    /// so that what is expected of it holds without exception.
    #[expect(clippy::print_stdout, reason = "cargo shows it when the test fails: how often it was begun anew")]
    pub fn run(&self, arguments: &[&str]) -> Done {
        let traces = ["results", "reports", "state"].map(|name| self.path(name)).map(|path| (path.exists(), path));
        let fresh = arguments.first() == Some(&"run") && !traces[0].0;
        for _ in 1..TRIES {
            let done = self.once(arguments);
            if !fresh || done.code != Some(4) || !self.was_busy() {
                return done;
            }
            println!("the machine was too busy, the run is begun anew: {arguments:?}");
            for (_, path) in traces.iter().filter(|(existed, _)| !existed) {
                _ = fs_err::remove_dir_all(path).or_else(|_| fs_err::remove_file(path));
            }
        }
        self.once(arguments)
    }

    /// Runs the program to its end, whatever the machine does meanwhile.
    pub fn once(&self, arguments: &[&str]) -> Done {
        self.done(self.program(arguments).output().unwrap())
    }

    fn was_busy(&self) -> bool {
        let rows = self.run_folder().map(|dir| record::read(&dir).unwrap().requests).unwrap_or_default();
        rows.iter().any(is_busy) && rows.iter().all(|row| row.status == Status::Ok || is_busy(row)) && excused(&rows)
    }

    /// Waits for the end of a program that was started, without ever waiting for ever.
    pub fn wait(&self, mut child: Child) -> Done {
        until("the program ends", || child.try_wait().unwrap());
        self.done(child.wait_with_output().unwrap())
    }

    pub fn done(&self, output: Output) -> Done {
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// `run` on a scenario, further arguments behind it.
    pub fn measure(&self, scenario: &Path, arguments: &[&str]) -> Done {
        self.run(&[&["run", scenario.to_str().unwrap(), "--no-report"], arguments].concat())
    }

    pub fn resume(&self, arguments: &[&str]) -> Done {
        let dir = self.run_folder().expect("there is a run to resume");
        self.run(&[&["run", "--no-report", "--resume", dir.to_str().unwrap()], arguments].concat())
    }

    /// Folder of the only run, once it has a record.
    pub fn run_folder(&self) -> Option<PathBuf> {
        let mut found = fs_err::read_dir(self.path("results"))
            .ok()?
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("run.json").is_file());
        let folder = found.next();
        assert!(found.next().is_none(), "there is more than one run");
        folder
    }

    pub fn record(&self) -> Record {
        record::read(&self.run_folder().expect("there is a run")).unwrap()
    }
}

/// A scenario whose iterations count on a busy machine too: tests run beside each other, and what that does to speed is no part of
/// what they are about.
fn undisturbed(scenario: &str) -> String {
    let key = "external_causes = \"warn\"\n";
    match scenario.split_once("[run]\n") {
        _ if scenario.contains("external_causes") => scenario.to_owned(),
        Some((before, after)) => format!("{before}[run]\n{key}{after}"),
        None => format!("{scenario}\n[run]\n{key}"),
    }
}

/// The measured rows of a record.
pub fn measured(record: &Record) -> Vec<&RequestRow> {
    record.requests.iter().filter(|row| !row.warmup).collect()
}

/// What became of the measured rows.
pub fn statuses(record: &Record) -> Vec<Status> {
    measured(record).iter().map(|row| row.status).collect()
}

/// Waits until there is something.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Sends a signal to a process.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Whether a process with that id runs (one that has ended but is not reaped does not).
pub fn runs(pid: u32) -> bool {
    let state = if cfg!(target_os = "linux") {
        // "12 (name) S ...": the name may hold anything, the state follows its last parenthesis.
        let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().unwrap_or_default().trim().to_owned()
    } else {
        let state = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
        String::from_utf8_lossy(&state.stdout).trim().to_owned()
    };
    !state.is_empty() && !state.starts_with('Z')
}
