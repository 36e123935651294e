//! `inferometer doctor`: advice about the machine, never a failure.

use assert_cmd::Command;

fn doctor(lock: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferometer"));
    command.arg("doctor").env("INFEROMETER_LOCK", lock);
    command
}

fn findings(lock: &std::path::Path) -> Vec<serde_json::Value> {
    let output = doctor(lock).args(["--format", "json"]).assert().success().get_output().stdout.clone();
    let data: serde_json::Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(data["machine"]["arch"], std::env::consts::ARCH);
    data["findings"].as_array().unwrap().clone()
}

fn grade(findings: &[serde_json::Value], topic: &str) -> String {
    let finding = findings.iter().find(|f| f["topic"] == topic).unwrap_or_else(|| panic!("no {topic}: {findings:?}"));
    finding["grade"].as_str().unwrap().to_owned()
}

#[test]
fn doctor_advises_and_sees_another_measurement() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("lock");
    let free = findings(&lock);
    assert_eq!(grade(&free, "other measurement"), "ok");
    assert_eq!(grade(&free, "build"), if cfg!(debug_assertions) { "warning" } else { "ok" });
    for finding in &free {
        let seen = finding["seen"].as_str().unwrap();
        assert!(!seen.starts_with("not visible") || finding["advice"].is_null(), "{finding}");
    }
    let other = std::fs::OpenOptions::new().create(true).append(true).open(&lock).unwrap();
    other.lock().unwrap();
    assert_eq!(grade(&findings(&lock), "other measurement"), "warning");
}

#[test]
fn doctor_prints_a_table_without_colour_off_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let output = doctor(&dir.path().join("lock")).assert().success().get_output().stdout.clone();
    let text = String::from_utf8(output).unwrap();
    assert!(text.contains("clock") && text.contains("-> ") && !text.contains('\x1b'), "{text}");
    doctor(&dir.path().join("lock")).args(["--format", "csv"]).assert().code(2);
}
