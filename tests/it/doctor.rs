//! `inferometer doctor`: advice about the machine, never a failure.

use assert_cmd::Command;

use crate::lab::PATIENCE;

fn doctor(lock: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferometer"));
    command.arg("doctor").env("INFEROMETER_LOCK", lock);
    command
}

fn answer(lock: &std::path::Path) -> serde_json::Value {
    let output = doctor(lock).args(["--format", "json"]).assert().success().get_output().stdout.clone();
    let data: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(data["machine"]["arch"], std::env::consts::ARCH);
    data
}

fn findings(data: &serde_json::Value) -> &[serde_json::Value] {
    data["findings"].as_array().unwrap()
}

fn level(data: &serde_json::Value, topic: &str) -> String {
    let findings = findings(data);
    let finding = findings.iter().find(|f| f["topic"] == topic).unwrap_or_else(|| panic!("no {topic}: {findings:?}"));
    finding["level"].as_str().unwrap().to_owned()
}

#[test]
fn doctor_advises_and_sees_another_measurement() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("lock");
    let free = answer(&lock);
    assert_eq!(level(&free, "other measurement"), "ok");
    assert_eq!(level(&free, "build"), if cfg!(debug_assertions) { "warning" } else { "ok" });
    let worst = findings(&free).iter().map(|f| f["at_best"].as_str().unwrap()).max().unwrap();
    assert_eq!(free["grade"], worst);
    assert_eq!(free["smallest_delta_percent"].is_null(), worst == "D");
    for finding in findings(&free) {
        let seen = finding["seen"].as_str().unwrap();
        assert!(!seen.starts_with("not visible") || finding["advice"].is_null(), "{finding}");
    }
    let other = std::fs::OpenOptions::new().create(true).append(true).open(&lock).unwrap();
    other.lock().unwrap();
    let busy = answer(&lock);
    assert_eq!(level(&busy, "other measurement"), "warning");
    assert_eq!((&busy["grade"], &busy["smallest_delta_percent"]), (&"D".into(), &serde_json::Value::Null));
}

#[test]
fn doctor_prints_a_table_without_colour_off_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let output = doctor(&dir.path().join("lock")).assert().success().get_output().stdout.clone();
    let text = String::from_utf8(output).unwrap();
    assert!(!text.contains('\x1b'), "{text}");
    // What stands there is the machine's; that each finding and the grade do is the program's.
    let data = answer(&dir.path().join("lock"));
    for finding in findings(&data) {
        let topic = finding["topic"].as_str().unwrap();
        assert!(text.lines().any(|line| line.split("  ").any(|part| part.trim() == topic)), "{topic}:\n{text}");
    }
    let grades: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Grade ")).collect();
    assert!(matches!(grades[..], [grade] if grade.starts_with(['A', 'B', 'C', 'D'])), "{text}");
    // A single word, such as a path, may be longer.
    let long = |line: &&str| line.chars().count() > 80 && line.trim().contains(' ') && !line.contains('/');
    assert_eq!(text.lines().find(long), None);
    doctor(&dir.path().join("lock")).args(["--format", "csv"]).assert().code(2);
}

/// What was tried has a line and a state, the gate that is shipped reaches a verdict, and the
/// report can be pasted.
#[test]
fn doctor_deep_tries_everything_and_writes_one_report() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("lock");
    let output = doctor(&lock).arg("--deep").env(PATIENCE.0, PATIENCE.1).assert().success().get_output().stdout.clone();
    let text = String::from_utf8(output).unwrap();
    let report = &text[text.find("\ninferometer ").expect("the version heads it")..];
    let lines: Vec<&str> = report.lines().collect();
    for part in ["Gauges", "Peak memory and counters", "Engines", "Profilers", "Gate"] {
        assert!(lines.contains(&part), "{part}:\n{report}");
    }
    let states = ["works", "absent", "DIFFERS", "FAILS"];
    let items: Vec<&&str> = lines.iter().filter(|line| states.iter().any(|state| line.starts_with(state))).collect();
    let begins = |start: &str| items.iter().any(|line| line.starts_with(start));
    assert!(
        begins("works    rss_bytes") && begins("works    candle llama") && begins("works    candle dtypes"),
        "{report}"
    );
    for tried in ["candle kv_cache", "candle 4-bit folder"] {
        assert!(begins(&format!("works    {tried}")), "{tried}:\n{report}");
    }
    for absent in ["candle compile, lazy", "candle memory limits"] {
        assert!(begins(&format!("absent   {absent}")), "{absent}:\n{report}");
    }
    assert!(!items.iter().any(|line| line.starts_with("FAILS")), "{report}");
    assert!(begins("works    scenarios/gate.toml") || begins("DIFFERS  scenarios/gate.toml"), "{report}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80 || !line.trim().contains(' ')), "{report}");
    assert!(
        lines.last().unwrap().ends_with("fail.") && report.contains(&format!("{} things tried", items.len())),
        "{report}"
    );
    assert!(!report.contains(&dir.path().display().to_string()));
}
