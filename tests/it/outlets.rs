//! What the program writes: it says so when it cannot, and nothing foreign in it is a formula or
//! moves the cursor.

use std::path::Path;
use std::process::Stdio;

use crate::lab::{Done, Lab};
use crate::simulated_run::{eventful, poison, save};

/// A lab with two runs, and their folders as arguments.
fn with_runs() -> (Lab, String, String) {
    let lab = Lab::new();
    let mut record = eventful();
    let first = save(&record, &lab.path("results"));
    record.manifest.origin_utc = "2026-11-20T10:00:00.000Z".to_owned();
    let second = save(&record, &lab.path("results"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    (lab, text(&first), text(&second))
}

/// Verbs that print data, with their arguments.
fn verbs<'a>(a: &'a str, b: &'a str) -> Vec<Vec<&'a str>> {
    vec![
        vec!["report", a],
        vec!["report", a, "--format", "table"],
        vec!["report", a, "--format", "csv"],
        vec!["compare", a, b],
        vec!["compare", a, b, "--format", "csv"],
        vec!["history"],
        vec!["history", "--format", "csv"],
        vec!["export", a, "--format", "csv"],
        vec!["export", a, "--format", "json"],
        vec!["export", a, "--format", "trace"],
        vec!["engines"],
        vec!["gauges"],
        vec!["schema", "record"],
        vec!["man"],
        vec!["completions", "bash"],
        vec!["--help"],
        vec!["--version"],
    ]
}

fn to(lab: &Lab, arguments: &[&str], stdout: impl Into<Stdio>) -> Done {
    lab.done(lab.program(arguments).stdout(stdout).output().unwrap())
}

#[cfg(target_os = "linux")]
fn full_disk() -> Stdio {
    fs_err::OpenOptions::new().write(true).open("/dev/full").unwrap().into_file().into()
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_below_stdout_is_an_error() {
    let (lab, a, b) = with_runs();
    for verb in verbs(&a, &b) {
        let done = to(&lab, &verb, full_disk());
        assert_eq!(done.code, Some(2), "{verb:?}: {}", done.stderr);
        if !verb[0].starts_with('-') {
            assert!(
                done.stderr.contains("cannot write to standard output: No space left"),
                "{verb:?}: {}",
                done.stderr
            );
        }
    }
    // What was measured is kept; a verdict's own code stays.
    let scenario = lab.exec(&[], "[run]\niterations = 1\n");
    let own = |results| ["run", scenario.to_str().unwrap(), "--results", results, "--format", "csv"].map(str::to_owned);
    let arguments = own("own");
    let done = to(&lab, &arguments.each_ref().map(String::as_str), full_disk());
    assert!(matches!(done.code, Some(2 | 4)) && done.stderr.contains("standard output"), "{}", done.stderr);
    assert!(done.stderr.contains("index.html"), "the report is written all the same: {}", done.stderr);
}

#[test]
fn a_closed_pipe_is_an_error_without_words() {
    let (lab, a, b) = with_runs();
    for verb in verbs(&a, &b) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let done = to(&lab, &verb, writer);
        assert_eq!(done.code, Some(2), "{verb:?}: {}", done.stderr);
        assert!(!done.stderr.contains("error") && !done.stderr.contains("panicked"), "{verb:?}: {}", done.stderr);
    }
}

/// A limit on file size fails a write as a full disk does; ignoring the signal makes it an error.
#[test]
fn a_full_disk_below_a_file_is_an_error_that_names_it() {
    let (lab, a, _) = with_runs();
    let cases: [(&[&str], &str); 4] = [
        (&["report", &a], "reports/"),
        (&["history", "--reports", "reports"], "reports/"),
        (&["export", &a, "--format", "trace", "--output", "trace.json"], "trace.json"),
        (&["export", &a, "--format", "csv", "--output", "out.csv"], "out.csv"),
    ];
    for (arguments, named) in cases {
        let done = lab.done(lab.behind_shell("trap '' XFSZ; ulimit -f 1", arguments).output().unwrap());
        assert_eq!(done.code, Some(2), "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(named), "{arguments:?}: {}", done.stderr);
    }
}

const FORMULA: &str = "=HYPERLINK(\"http://example.org\")\u{1b}]0;pwned\u{7}\u{9b}31m\u{7f}";

#[test]
fn foreign_text_is_no_formula_and_moves_no_cursor() {
    let lab = Lab::new();
    let mut record = eventful();
    let (utc, model) = (record.manifest.origin_utc.clone(), record.manifest.scenario.model.clone());
    poison(&mut record, FORMULA);
    record.manifest.origin_utc = utc;
    record.manifest.scenario.model = model;
    for cell in &mut record.manifest.plan.cells {
        cell.label = format!("{FORMULA} {}", cell.id);
    }
    for row in &mut record.requests {
        row.engine = FORMULA.to_owned();
        if !row.reason.is_empty() {
            row.reason = FORMULA.to_owned();
        }
    }
    let dir = save(&record, &lab.path("results"));
    let read = inferometer::record::read(&dir).unwrap();
    assert_eq!(read.requests, record.requests, "what was written is read");
    let a = dir.to_str().unwrap();
    let mut csvs = vec![fs_err::read_to_string(dir.join("requests.csv")).unwrap()];
    for verb in verbs(a, a) {
        let done = lab.run(&verb).expect(0);
        let plain = |text: &str| !text.contains(|c: char| c.is_control() && c != '\n' && c != '\t');
        assert!(plain(&done.stderr), "{verb:?}: {:?}", done.stderr);
        // Data for programs keeps its texts; on a terminal they are made visible.
        if !verb.contains(&"csv") && !verb.contains(&"json") && verb[0] != "export" {
            assert!(plain(&done.stdout), "{verb:?}: {:?}", done.stdout);
        }
        if verb.contains(&"csv") {
            csvs.push(done.stdout);
        }
    }
    for csv in csvs {
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let fields: Vec<String> =
            reader.records().flat_map(|row| row.unwrap().iter().map(str::to_owned).collect::<Vec<_>>()).collect();
        assert!(fields.iter().any(|field| field.contains("HYPERLINK")), "{csv}");
        for field in fields {
            let number = field.parse::<f64>().is_ok();
            assert!(number || !field.starts_with(['=', '+', '-', '@', '\t', '\r']), "{field:?} is a formula");
        }
    }
    let mut pages = vec![lab.path("reports")];
    let mut seen = 0;
    while let Some(path) = pages.pop() {
        if path.is_dir() {
            pages.extend(fs_err::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|kind| kind == "html" || kind == "md" || kind == "svg") {
            let text = fs_err::read_to_string(&path).unwrap();
            let stray = text.find(|c: char| c.is_control() && c != '\n' && c != '\t');
            assert!(
                stray.is_none(),
                "{}: {:?}",
                path.display(),
                stray.map(|at| &text[at.saturating_sub(80)..]).map(|t| t.chars().take(160).collect::<String>())
            );
            seen += 1;
        }
    }
    assert!(seen > 3);
}

/// On a terminal, data too shows control characters instead of obeying them.
#[cfg(target_os = "linux")]
#[test]
fn data_on_a_terminal_moves_no_cursor() {
    let lab = Lab::new();
    let mut record = eventful();
    record.requests.iter_mut().for_each(|row| row.engine = FORMULA.to_owned());
    record.manifest.scenario.engines[0].label = FORMULA.to_owned();
    let dir = save(&record, &lab.path("results"));
    let program = env!("CARGO_BIN_EXE_inferometer");
    let script = "import os, pty, sys\ncode = pty.spawn(sys.argv[1:])\nsys.exit(os.waitstatus_to_exitcode(code))";
    let output = std::process::Command::new("python3")
        .args(["-c", script, program, "export", dir.to_str().unwrap(), "--format", "json"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("HYPERLINK"), "{text}");
    assert!(!text.contains(|c: char| c.is_control() && !"\n\r\t".contains(c)), "{text:?}");
}
