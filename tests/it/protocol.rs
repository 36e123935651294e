//! The engine host and the engine protocol from outside, with real child processes, correct and
//! faulty ones.

mod conformance;
mod page;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use inferometer::record::{Cause, Status};
use inferometer::run::host::{Exchange, Host, HostError, Launch, check_stamps};
use inferometer_protocol::messages::{Generate, Open};
use inferometer_protocol::{EngineSpec, ErrorKind, FinishReason, Instrumentation, Prompt, Request, Sampling};
use tempfile::TempDir;

use crate::lab::{Lab, statuses, without_figures};

/// Long enough for a busy machine. Only endless faults would wait that long, and those use
/// [`SHORT`].
const PATIENCE: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_secs(2);

pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn python(script: &str, arguments: &[&str], folder: &TempDir, timeout: Duration) -> Launch {
    let mut command = vec!["python3".to_owned(), repository(script).to_str().unwrap().to_owned()];
    command.extend(arguments.iter().map(|a| (*a).to_owned()));
    Launch { command, env: Vec::new(), log: folder.path().join("host.log"), timeout }
}

fn open() -> Open {
    let engine = EngineSpec { name: "exec".into(), label: "exec".into(), options: Default::default() };
    Open { engine, model: None, toggles: Default::default(), memory_interval_ms: None }
}

fn tokens(prompt: &[u32], max_tokens: u32) -> Generate {
    let request = Request {
        prompt: Prompt::Tokens(prompt.to_vec()),
        sampling: Sampling::default(),
        toggles: Default::default(),
        max_tokens,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    };
    Generate { request, instrumentation: Instrumentation::default(), concurrent: false }
}

/// A faulty host, opened.
struct Faulty {
    host: Host,
    folder: TempDir,
}

impl Faulty {
    fn start(fault: &str, timeout: Duration) -> Result<Self, HostError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let launch = python("tests/hosts/faulty.py", &[fault, file.to_str().unwrap()], &folder, PATIENCE);
        let mut host = Host::start(&launch)?;
        host.open(open())?;
        host.set_timeout(timeout);
        Ok(Self { host, folder })
    }

    fn generate(&mut self) -> Result<Exchange, HostError> {
        self.host.generate(tokens(&[1], 3), &mut |_| {})
    }
}

/// Runs one generation on a faulty host and returns the error. The host must then have ended,
/// unless it is still usable.
fn error_of(fault: &str, timeout: Duration) -> HostError {
    let mut faulty = Faulty::start(fault, timeout).unwrap();
    let pid = faulty.host.pid();
    let error = faulty.generate().unwrap_err();
    assert_eq!(is_running(pid), error.host_is_usable(), "{fault}: {error}");
    error
}

/// The harness's finding about the stamps of a faulty host.
fn stamps_of(fault: &str) -> String {
    let mut faulty = Faulty::start(fault, PATIENCE).unwrap();
    let exchange = faulty.generate().unwrap();
    let found = check_stamps(&exchange, faulty.host.clock(), 3).unwrap_err();
    format!("{fault}: {:?}: {}", found.cause, found.reason)
}

/// Whether the process exists and is not a zombie.
fn is_running(pid: u32) -> bool {
    let ps = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8(ps.stdout).unwrap();
    !state.trim().is_empty() && !state.trim_start().starts_with('Z')
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pid_in(file: &Path) -> u32 {
    let read = || fs_err::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    wait_until("a process id in the file", || read().is_some());
    read().unwrap()
}

#[test]
fn the_example_adapter_generates_by_its_rule() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(&python("examples/minimal_adapter.py", &[], &folder, PATIENCE)).unwrap();
    assert_eq!(host.program(), "minimal_adapter.py 1.0.0");
    let ready = host.open(open()).unwrap();
    assert!(ready.receipt.model.synthetic);
    let exchange = host.generate(tokens(&[5, 9], 3), &mut |_| {}).unwrap();
    // next = (31 * last + 7 * position + 1) mod 1000
    assert_eq!(exchange.generated.tokens, [294, 136, 245]);
    assert_eq!(exchange.generated.completion.finish_reason, FinishReason::Length);
    let refused = host.generate(tokens(&[5000], 3), &mut |_| {}).unwrap_err();
    assert!(refused.host_is_usable(), "{refused}");
    insta::assert_snapshot!(refused, @r#"the prompt has a token id outside 0..999"#);
    host.reset().unwrap();
    let pid = host.pid();
    host.close().unwrap();
    assert!(!is_running(pid));
}

#[test]
fn a_program_that_cannot_start_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("host.log");
    let launch = Launch { command: vec!["/no/such/engine".into()], env: vec![], log, timeout: PATIENCE };
    insta::assert_snapshot!(Host::start(&launch).unwrap_err(), @r#"cannot start the engine host `/no/such/engine`: No such file or directory (os error 2); check that the program exists and is executable"#);
    let nowhere = Launch { log: folder.path().join("no/folder/host.log"), ..launch };
    let error = Host::start(&nowhere).unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(folder.path().to_str().unwrap(), "[FOLDER]"), @r#"cannot drive the engine host: failed to open file `[FOLDER]/no/folder/host.log`: No such file or directory (os error 2)"#);
}

#[test]
fn a_host_that_dies_shows_its_status_and_the_end_of_its_log() {
    let errors = [
        Faulty::start("dies-at-once", PATIENCE).err().unwrap(),
        Faulty::start("die-in-open", PATIENCE).err().unwrap(),
        error_of("die-in-generate", PATIENCE),
        error_of("exit-in-generate", PATIENCE),
    ];
    let told = errors.map(|error| {
        let summary = error.summary();
        let HostError::Died { log_tail, .. } = error else { panic!("{error}") };
        [&[summary], &log_tail.lines[..]].concat().join("\n  | ")
    });
    insta::assert_snapshot!(told.join("\n"), @r#"
    the engine host ended during the greeting (exit status: 1)
      | cannot import the engine
    the engine host ended during loading (signal: 9 (SIGKILL)); it was killed, often because the system ran out of memory
    the engine host ended during a generation (signal: 9 (SIGKILL)); it was killed, often because the system ran out of memory
    the engine host ended during a generation (exit status: 7)
      | tensor blew up
      | at layer 3
    "#);
}

/// The children of a host that [`Faulty`] ran, from its file.
fn children_of(faulty: &Faulty) -> Vec<u32> {
    let text = fs_err::read_to_string(faulty.folder.path().join("file")).unwrap();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

#[test]
fn a_host_that_dies_is_noticed_at_once_even_if_its_children_hold_its_stdout() {
    for (fault, status) in
        [("die-leaving-children", "signal: 11 (SIGSEGV)"), ("exit-leaving-children", "exit status: 5")]
    {
        let mut faulty = Faulty::start(fault, PATIENCE).unwrap();
        let began = Instant::now();
        let error = faulty.generate().unwrap_err();
        assert!(began.elapsed() < PATIENCE / 4, "{fault}: noticed after {:?}", began.elapsed());
        let HostError::Died { status: found, .. } = &error else { panic!("{fault}: {error}") };
        assert!(found.starts_with(status), "{fault}: {found}");
        let children = children_of(&faulty);
        assert_eq!(children.len(), 2);
        // Who left the group is found elsewhere only by the group.
        let gone = if cfg!(target_os = "linux") { &children[..] } else { &children[..1] };
        gone.iter().for_each(|pid| assert!(!is_running(*pid), "{fault}: a child runs on"));
    }
}

#[test]
fn what_a_host_answered_before_it_died_counts() {
    let mut faulty = Faulty::start("answer-and-die-leaving-children", PATIENCE).unwrap();
    assert_eq!(faulty.generate().unwrap().generated.tokens, [0, 1, 2]);
    let error = faulty.host.reset().unwrap_err();
    assert!(matches!(&error, HostError::Died { status, .. } if status.contains("SIGSEGV")), "{error}");
}

#[test]
fn a_host_that_left_its_group_is_killed_all_the_same() {
    let mut faulty = Faulty::start("leaves-its-group", SHORT).unwrap();
    let (pid, began) = (faulty.host.pid(), Instant::now());
    let error = faulty.generate().unwrap_err();
    assert!(matches!(error, HostError::TimedOut { .. }), "{error}");
    assert!(!is_running(pid) && began.elapsed() < PATIENCE / 4);
    if cfg!(target_os = "linux") {
        children_of(&faulty).iter().for_each(|pid| assert!(!is_running(*pid)));
    }
}

#[test]
fn a_host_that_falls_silent_is_killed() {
    for fault in ["hang", "half-line-then-silence"] {
        let error = error_of(fault, SHORT);
        assert!(matches!(error, HostError::TimedOut { after: SHORT, .. }), "{fault}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = Host::start(&python("tests/hosts/faulty.py", &["does-not-read"], &folder, SHORT)).unwrap_err();
    assert!(matches!(error, HostError::TimedOut { .. }), "{error}");
}

#[test]
fn a_request_that_nobody_reads_does_not_block_the_harness() {
    let mut faulty = Faulty::start("reads-no-request", SHORT).unwrap();
    // Larger than any pipe.
    let error = faulty.host.generate(tokens(&vec![123_456; 1 << 20], 3), &mut |_| {}).unwrap_err();
    assert!(matches!(error, HostError::TimedOut { .. }), "{error}");
}

#[test]
fn a_host_that_floods_is_cut_off() {
    let error = error_of("flood", PATIENCE);
    assert!(matches!(error, HostError::Flood { .. }), "{error}");
    insta::assert_snapshot!(error.summary(), @r#"the engine host was cut off during a generation: a line is longer than 67108864 bytes; it begins with `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`"#);
    let error = error_of("endless-progress", PATIENCE);
    assert!(matches!(error, HostError::Flood { .. }), "{error}");
    insta::assert_snapshot!(without_figures(&error.summary()), @r#"the engine host was cut off during a generation: # `progress` messages within #; the limit is ten per second"#);
}

#[test]
fn what_is_no_message_is_quoted() {
    let faults = ["garbage", "not-utf8", "half-line", "closed-stdout", "wrong-id", "wrong-type"];
    let told = faults.map(|fault| {
        let error = error_of(fault, PATIENCE);
        assert!(matches!(error, HostError::Protocol { .. }), "{fault}: {error}");
        // The time stamps in the reply with the wrong id are those of this machine.
        let quoted = error.summary();
        let stable = quoted.split("\"token_ns\"").next().unwrap();
        format!("{fault}: {stable}")
    });
    insta::assert_snapshot!(told.join("\n"), @r#"
    garbage: the engine host broke the protocol during a generation: `Loading weights\u{1b}[31m 50%` is not a message of the protocol (expected value at line 1 column 1)
    not-utf8: the engine host broke the protocol during a generation: `��\0` is not a message of the protocol (expected value at line 1 column 1)
    half-line: the engine host broke the protocol during a generation: the stream ended in the middle of a line: `{"id": 11, "type": "resu`
    closed-stdout: the engine host broke the protocol during a generation: it closed its stdout but did not end
    wrong-id: the engine host broke the protocol during a generation: expected an answer to message 11, got `{"id": 1011, "type": "result", "tokens": [0, 1, 2], 
    wrong-type: the engine host broke the protocol during a generation: expected `result`, got `{"type":"done"}`
    "#);
    let error = error_of("endless-type", PATIENCE).summary();
    assert!(error.len() < 1000 && error.contains("unknown variant") && !error.contains('\u{1b}'), "{}", error.len());
}

#[test]
fn another_protocol_version_is_refused() {
    let error = Faulty::start("version-2", PATIENCE).err().unwrap();
    assert!(matches!(error, HostError::Version { theirs, .. } if theirs.major == 2));
    let ours = inferometer_protocol::messages::VERSION.to_string();
    insta::assert_snapshot!(error.summary().replace(&ours, "[OURS]"), @r#"the engine host speaks version 2.1 of the engine protocol, but this program speaks [OURS]; use a host of the same major version"#);
    let error = Faulty::start("absurd-clock", PATIENCE).err().unwrap();
    assert!(matches!(error, HostError::Protocol { .. }), "{error}");
    insta::assert_snapshot!(error.summary(), @r#"the engine host broke the protocol during a ping: its clock reads 18446744073709551615 ns, which is impossible"#);
}

#[test]
fn stamps_that_cannot_be_are_found() {
    insta::assert_snapshot!(["few-stamps", "too-many"].map(stamps_of).join("\n"), @r#"
    few-stamps: Stamps: 3 tokens have 2 time stamps
    too-many: Stamps: 4 tokens came, but at most 3 were requested
    "#);
    let faults = ["backwards", "stray-span", "too-fast", "squeezed", "tiny-prefill", "early"];
    let told = faults.map(|fault| without_figures(&stamps_of(fault)));
    insta::assert_snapshot!(told.join("\n"), @r#"
    backwards: Stamps: time stamps run backwards: token # at # after token # at #
    stray-span: Stamps: span prefill # (# to #) is not inside its request (# to #)
    too-fast: LateStamps: the host reports # to its last token, but the harness saw # end to end: more than the # that carrying the messages explains (a busy machine, or wrong stamps)
    squeezed: LateStamps: the host reports # to its last token, but the harness saw # end to end: more than the # that carrying the messages explains (a busy machine, or wrong stamps)
    tiny-prefill: LateStamps: prefill does not explain the time to the first token: spans tokenize and prefill have # of #, and the rest is more than the # that carrying the messages explains (a busy machine, or wrong stamps)
    early: Stamps: the host accepted the request # before it was sent
    "#);
}

#[test]
fn a_flood_of_stderr_goes_to_the_log_and_blocks_nothing() {
    let mut faulty = Faulty::start("stderr-flood", PATIENCE).unwrap();
    assert_eq!(faulty.generate().unwrap().generated.tokens, [0, 1, 2]);
    // Twelve megabytes, of which the first and the last part are kept.
    faulty.host.kill();
    let log = fs_err::read_to_string(faulty.folder.path().join("host.log")).unwrap();
    assert!((1 << 20..(1 << 20) + (257 << 10)).contains(&log.len()), "{}", log.len());
    assert!(log.starts_with("noise noise") && log.ends_with("noise \n") && log.contains("\n[inferometer left out 1"));
}

#[test]
fn a_flood_of_stderr_without_end_does_not_fill_the_disk() {
    let error = error_and_log("stderr-without-end");
    assert!(matches!(error.0, HostError::TimedOut { .. }), "{}", error.0);
    assert!(error.1 < 2 << 20, "the log has {} bytes", error.1);
}

/// The error of a generation that takes too long, and the size of the host's log.
fn error_and_log(fault: &str) -> (HostError, u64) {
    let mut faulty = Faulty::start(fault, SHORT).unwrap();
    let error = faulty.generate().unwrap_err();
    (error, fs_err::metadata(faulty.folder.path().join("host.log")).unwrap().len())
}

#[test]
fn an_engine_s_error_is_cleaned_and_leaves_the_host_usable() {
    let error = error_of("evil-error", PATIENCE);
    let HostError::Engine(error) = error else { panic!("{error}") };
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::OutOfMemory, "no \\u{1b}[2Jmemory"));
}

#[test]
fn a_receipt_s_escape_sequences_and_floods_end_at_the_border() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::start(&python("tests/hosts/faulty.py", &["evil-receipt"], &folder, PATIENCE)).unwrap();
    let receipt = host.open(open()).unwrap().receipt;
    assert_eq!(receipt.version, "2\\u{1b}]0;pwned\\u{7}");
    assert_eq!(receipt.settings["dtype"], "\\u{1b}[2J".into());
    let (name, text) = receipt.details.first_key_value().unwrap();
    assert!(name == "\\u{1b}[31m" && text.len() < 4096 && text.ends_with("(shortened)"), "{name}: {}", text.len());
}

/// A clock that gains 2 ms per second: its stamps leave the tolerance at some point unless the
/// clocks are compared again.
#[test]
fn a_clock_that_drifts_needs_a_new_comparison() {
    let mut faulty = Faulty::start("drift", PATIENCE).unwrap();
    let first = faulty.host.clock().clone();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let exchange = faulty.generate().unwrap();
        let verdict = check_stamps(&exchange, &first, 3);
        // Not late, which a busy machine can cause too: stamps that cannot be.
        if verdict.as_ref().is_err_and(|fault| fault.cause == Cause::Stamps) {
            break;
        }
        assert!(Instant::now() < deadline, "{verdict:?}");
    }
}

#[test]
fn a_run_follows_a_clock_that_drifts() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--token-ms", "25", "--drift-ppm", "3000"], "[run]\niterations = 10\n");
    lab.measure(&scenario, &[]).expect(0);
    assert_eq!(statuses(&lab.record()), [Status::Ok; 10]);
}

#[test]
fn closing_does_not_wait_for_ever() {
    for fault in ["ignores-close", "stays-after-close"] {
        let faulty = Faulty::start(fault, SHORT).unwrap();
        let pid = faulty.host.pid();
        let error = faulty.host.close().unwrap_err();
        assert!(matches!(error, HostError::TimedOut { .. }), "{fault}: {error}");
        assert!(!is_running(pid));
    }
    let faulty = Faulty::start("fails-at-close", PATIENCE).unwrap();
    insta::assert_snapshot!(faulty.host.close().unwrap_err(), @r#"the engine host ended during closing (exit status: 3)"#);
}

#[test]
fn what_a_host_started_dies_with_it() {
    let mut faulty = Faulty::start("grandchild", SHORT).unwrap();
    let error = faulty.generate().unwrap_err();
    assert!(matches!(error, HostError::TimedOut { .. }), "{error}");
    let grandchild = pid_in(&faulty.folder.path().join("file"));
    wait_until("the grandchild's end", || !is_running(grandchild));
}

#[test]
fn a_host_that_is_dropped_is_killed_and_reaped() {
    let faulty = Faulty::start("none", PATIENCE).unwrap();
    let (pid, canceller) = (faulty.host.pid(), faulty.host.canceller());
    drop(faulty);
    let ps = Command::new("ps").args(["-p", &pid.to_string()]).output().unwrap();
    assert!(!ps.status.success(), "not even a zombie stays");
    assert!(!canceller.cancel());
}

#[test]
fn an_answer_to_cancel_may_follow_the_result() {
    let mut faulty = Faulty::start("cancel-late", PATIENCE).unwrap();
    let canceller = faulty.host.canceller();
    assert!(!canceller.cancel(), "nothing is in flight");
    let cancelling = std::thread::spawn(move || {
        while !canceller.cancel() {
            std::thread::yield_now();
        }
    });
    faulty.generate().unwrap();
    cancelling.join().unwrap();
    faulty.host.resync().unwrap();
    faulty.host.close().unwrap();
}

/// The kernel ends a host with its harness, even if the host does not read its input.
#[cfg(target_os = "linux")]
#[test]
fn a_deaf_host_ends_when_its_harness_is_killed_on_linux() {
    ends_with_its_harness("deaf");
}

#[test]
fn a_host_ends_when_its_harness_is_killed() {
    ends_with_its_harness("busy");
}

/// Starts the harness on a host that is busy, kills the harness, and waits for the host's end.
fn ends_with_its_harness(fault: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut harness = Command::new(env!("CARGO_BIN_EXE_inferometer"))
        .args(["engines", "check", "--", "python3"])
        .arg(repository("tests/hosts/faulty.py"))
        .arg(fault)
        .arg(&file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let host = pid_in(&file);
    harness.kill().unwrap();
    harness.wait().unwrap();
    wait_until("the end of the host whose harness was killed", || !is_running(host));
}

/// The kernel ends a built-in host with its parent, even if its input stays open.
#[cfg(target_os = "linux")]
#[test]
fn a_built_in_host_ends_with_its_parent_on_linux() {
    let (input, keep_open) = std::io::pipe().unwrap();
    let script = "import os, subprocess, sys, time\n\
                  env = dict(os.environ, INFEROMETER_PARENT=str(os.getpid()))\n\
                  host = subprocess.Popen([sys.argv[1], 'host'], env=env, stdin=0, stdout=subprocess.PIPE)\n\
                  host.stdout.readline()\n\
                  open(sys.argv[2], 'w').write(str(host.pid))\n\
                  time.sleep(1000)";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut parent = Command::new("python3")
        .args(["-c", script, env!("CARGO_BIN_EXE_inferometer")])
        .arg(&file)
        .stdin(input)
        .spawn()
        .unwrap();
    use std::io::Write;
    // An answer shows that the host is past its start.
    (&keep_open).write_all(b"{\"id\": 1, \"type\": \"ping\"}\n").unwrap();
    let host = pid_in(&file);
    assert!(is_running(host));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("the end of the host whose parent was killed", || !is_running(host));
    drop(keep_open);
}

#[test]
fn a_host_whose_parent_is_already_gone_does_not_start() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferometer"));
    let output = command.arg("host").env("INFEROMETER_PARENT", "1").stdin(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(String::from_utf8(output.stderr).unwrap(), @r#"the process that started this host (1) has ended"#);
}
