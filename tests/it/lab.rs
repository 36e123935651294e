//! A separate place for a test that runs the program: folders, lock, scenarios, and the results.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use inferometer::record;
use inferometer::record::{Record, RequestRow, Status};
use inferometer::telemetry::waits::OFF_VARIABLE;

/// Longest wait; only a failing test waits that long.
const LONGEST: Duration = Duration::from_secs(120);

pub struct Lab {
    dir: tempfile::TempDir,
    patient: bool,
}

/// The program's exit code and output.
pub struct Done {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// How late a host's time stamps may be in these tests, which must pass on a busy machine too. The
/// program reads it in a debug build only.
pub const PATIENCE: (&str, &str) = ("INFEROMETER_TEST_PATIENCE_MS", "5000");

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

    /// Exit code and output as one text for a snapshot; the lab's folder is `[LAB]`, that of a run
    /// `[RUN]`.
    pub fn shown(&self, lab: &Lab) -> String {
        let code = self.code.map_or_else(|| "by signal".to_owned(), |code| code.to_string());
        let part = |name: &str, text: &str| match text {
            "" => String::new(),
            text => format!("--- {name}\n{text}"),
        };
        lab.shown(&format!("exit {code}\n{}{}", part("stdout", &self.stdout), part("stderr", &self.stderr)))
    }

    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{text:?} is not in stderr:\n{}", self.stderr);
        self
    }
}

impl Lab {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), patient: true }
    }

    /// For tests of the time stamps themselves: they are checked as a user's are.
    pub fn strict() -> Self {
        Self { patient: false, ..Self::new() }
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

    /// A scenario of the `exec` engine with `tests/fixtures/engine.py`; `rest` is TOML below the
    /// engine.
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

    /// A text for a snapshot; the lab's folder is `[LAB]`, that of a run `[RUN]`.
    pub fn shown(&self, text: &str) -> String {
        let entries = fs_err::read_dir(self.path("results")).into_iter().flatten();
        let runs = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let folder = self.dir.path().display().to_string();
        let names = runs.map(|run| (run, "[RUN]")).chain([(folder, "[LAB]")]);
        names.fold(text.to_owned(), |shown, (name, placeholder)| shown.replace(&name, placeholder))
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
            .env("INFEROMETER_ENGINES", self.path("engines"))
            .env(OFF_VARIABLE, "1")
            .env("INFEROMETER_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if self.patient {
            command.env(PATIENCE.0, PATIENCE.1);
        }
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Done {
        self.done(self.program(arguments).output().unwrap())
    }

    /// Waits, with a limit, for the end of a program that was started.
    pub fn wait(&self, mut child: Child) -> Done {
        until("the program ends", || child.try_wait().unwrap());
        self.done(child.wait_with_output().unwrap())
    }

    pub fn done(&self, output: Output) -> Done {
        let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
        Done { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// `run` on a scenario with further arguments.
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

/// A scenario whose iterations are valid on a busy machine too, because tests run in parallel and
/// do not check speed.
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

/// The status of the measured rows.
pub fn statuses(record: &Record) -> Vec<Status> {
    measured(record).iter().map(|row| row.status).collect()
}

/// Waits until `look` returns a value.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONGEST;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// The line that begins with these words, joined with the lines that it was wrapped into.
#[track_caller]
pub fn line(text: &str, begins: &str) -> String {
    let unwrapped = text.replace("\n  ", " ");
    let found = unwrapped.lines().find(|line| line.starts_with(begins));
    found.unwrap_or_else(|| panic!("no line begins with {begins:?}:\n{text}")).to_owned()
}

/// What stands in the page's elements of this tag (with or without attributes), with a blank for
/// each tag inside.
pub fn elements(page: &str, tag: &str) -> Vec<String> {
    let name = tag.split(' ').next().unwrap();
    let (open, close) = (format!("<{tag}"), format!("</{name}>"));
    let parts = page.split(&open).skip(1).filter(|part| part.starts_with(['>', ' ']));
    let inner = parts.map(|part| part.split_once('>').unwrap().1.split(&close).next().unwrap());
    let words = |inner: &str| -> Vec<String> {
        let texts = inner.split('<').map(|part| part.rsplit('>').next().unwrap());
        texts.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    inner.map(|inner| words(inner).join(" ")).collect()
}

/// The section of a page with this id.
#[track_caller]
pub fn section<'a>(page: &'a str, id: &str) -> &'a str {
    let start = format!("id=\"{id}\"");
    let found = page.split("<section ").find(|part| part.starts_with(&start));
    found.unwrap_or_else(|| panic!("the page has no section {id}")).split("</section>").next().unwrap()
}

/// The text with hashes (eight or more hexadecimal digits) as `[HASH]`, for a snapshot.
pub fn without_hashes(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let run = rest[at..].find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len() - at);
        shown.push_str(&rest[..at]);
        shown.push_str(if run < 8 { &rest[at..at + run] } else { "[HASH]" });
        rest = &rest[at + run..];
    }
    shown + rest
}

/// The text with every number as `#`, and without the unit of a time, for a snapshot of a sentence
/// whose figures are measured: what is 900 µs today is 1 ms tomorrow.
pub fn without_figures(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if shown.ends_with('#') => {}
            '0'..='9' if shown.ends_with("#.") => _ = shown.pop(),
            '0'..='9' => shown.push('#'),
            c => shown.push(c),
        }
    }
    let unit =
        |after: &str| ["ns", "µs", "ms", "s"].iter().find_map(|unit| after.strip_prefix(unit)).map(str::to_owned);
    let mut parts = shown.split("# ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |told, after| match unit(after).filter(|rest| !rest.starts_with(char::is_alphabetic)) {
        Some(rest) => told + "#" + &rest,
        None => told + "# " + after,
    })
}

/// Sends a signal to a process.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Whether a process with that id runs (one that has ended but is not reaped does not).
pub fn runs(pid: u32) -> bool {
    let state = if cfg!(target_os = "linux") {
        // "12 (name) S ...": the name may contain anything; the state follows the last parenthesis.
        let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next().unwrap_or_default().trim().to_owned()
    } else {
        let state = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
        String::from_utf8_lossy(&state.stdout).trim().to_owned()
    };
    !state.is_empty() && !state.starts_with('Z')
}
