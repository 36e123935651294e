//! `gate` on sessions that were made and not measured: what it refuses, and that nothing hides a verdict.

use std::path::PathBuf;

use inferometer::record::RequestRow;
use inferometer::record::ab::AbRecord;
use serde_json::{Value, json};

use crate::lab::{Done, Lab};
use crate::simulated_ab::{save, session};

/// A session on disk, and its folder.
fn made(lab: &Lab, kind: &str) -> PathBuf {
    save(&session(kind), &lab.path("results"))
}

fn judge(lab: &Lab, dir: &std::path::Path, arguments: &[&str]) -> Done {
    lab.run(&[&["gate", "--session", dir.to_str().unwrap()], arguments].concat())
}

#[test]
fn a_session_that_has_begun_takes_nothing_that_says_what_it_is() {
    let lab = Lab::new();
    let flags: [&[&str]; 9] = [
        &["--base", "main", "--head", "HEAD"],
        &["--repo", "elsewhere"],
        &["--a", "threads=1"],
        &["--b", "threads=1"],
        &["--a-engine", "auto"],
        &["--b-engine", "auto"],
        &["--a-model", "."],
        &["--b-model", "."],
        &["--same"],
    ];
    for flag in flags {
        judge(&lab, &lab.path("none"), flag).expect(2).says("cannot be used with").says(flag[0]);
        lab.run(&[&["ab", "--resume", "none"], flag].concat()).expect(2).says("cannot be used with").says(flag[0]);
    }
}

#[test]
fn what_is_the_session_s_is_no_setting_of_a_side() {
    let lab = Lab::new();
    let text =
        "name = \"lab\"\n[model]\npath = \".\"\n[[engine]]\nname = \"simulated\"\n[workload]\ntext = \"one two\"\n";
    let scenario = lab.write("scenario.toml", text);
    for (flag, setting) in [("--b", "ab.outputs=any"), ("--a", "gate.0.delta=9%"), ("--b", "build.timeout_s=1")] {
        let done = lab.run(&["ab", scenario.to_str().unwrap(), flag, setting]).expect(2);
        done.says("for the session").says("--set");
    }
}

#[test]
fn a_file_that_cannot_be_written_is_found_before_anything_is_judged() {
    let lab = Lab::new();
    let dir = made(&lab, "regressed");
    for flag in ["--markdown", "--json", "--junit"] {
        let done = judge(&lab, &dir, &[flag, lab.path("nowhere/file").to_str().unwrap()]).expect(2);
        assert!(done.says("nowhere").stdout.is_empty());
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_hides_no_verdict() {
    let lab = Lab::new();
    let blocked = lab.write("blocked", "a file where a folder should be");
    for (kind, code, verdict) in [("regressed", 1, "REGRESSED"), ("unchanged", 2, "UNCHANGED")] {
        let dir = made(&lab, kind);
        let done = judge(&lab, &dir, &["--no-report", "--json", "/dev/full"]).expect(code);
        let done = done.says("/dev/full");
        assert!(done.stdout.contains(verdict), "{}", done.stdout);
        let done = judge(&lab, &dir, &["--reports", blocked.to_str().unwrap()]).expect(code);
        let done = done.says("blocked");
        assert!(done.stdout.contains(verdict), "{}", done.stdout);
        fs_err::remove_dir_all(lab.path("results")).unwrap();
    }
}

#[test]
fn a_session_that_was_edited_is_refused_by_its_key() {
    fn gate(manifest: &mut Value) -> &mut Value {
        &mut manifest["gates"][0]
    }
    type Edit = fn(&mut Value);
    let edits: [(Edit, &str); 7] = [
        (|m| m["gates"] = json!([]), "gates: there are 0"),
        (|m| m["gates"] = vec![gate(m).clone(); 4].into(), "gates: there are 4"),
        (|m| gate(m)["least"] = json!(0.0), "gates[0].least is 0"),
        (|m| gate(m)["least"] = json!(1e300), "gates[0].least is 1"),
        (|m| gate(m)["cell_ids"] = json!([]), "gates[0].cell_ids is empty"),
        (|m| gate(m)["cell_ids"] = json!([0, 0]), "cell 0 twice"),
        (|m| gate(m)["cell_ids"] = json!([0, 9]), "gates[0].cell_ids has 9"),
    ];
    let lab = Lab::new();
    let dir = made(&lab, "not-decided");
    let path = dir.join("ab.json");
    let whole = fs_err::read_to_string(&path).unwrap();
    for (edit, words) in edits {
        let mut manifest: Value = serde_json::from_str(&whole).unwrap();
        edit(&mut manifest);
        fs_err::write(&path, manifest.to_string()).unwrap();
        judge(&lab, &dir, &[]).expect(2).says("ab.json").says(words);
        lab.run(&["ab", "--resume", dir.to_str().unwrap()]).expect(2).says("ab.json").says(words);
    }
}

#[test]
fn sides_with_other_cells_are_no_session() {
    let lab = Lab::new();
    let mut record: AbRecord = session("unchanged");
    record.b.manifest.plan.cells.pop();
    let last = record.b.manifest.plan.cells.len() as u32;
    record.b.manifest.plan.order.iter_mut().for_each(|ids| ids.retain(|id| *id < last));
    let dir = save(&record, &lab.path("results"));
    judge(&lab, &dir, &[]).expect(2).says("2 cells").says("b/run.json has 1");
}

#[test]
fn rows_that_no_session_has_are_refused() {
    type Edit = fn(&mut RequestRow);
    let edits: [(Edit, &str); 2] =
        [(|row| row.cell = 99, "is of cell 99"), (|row| row.iteration = u32::MAX, "is of iteration 4294967295")];
    for (edit, words) in edits {
        let lab = Lab::new();
        let mut record = session("not-decided");
        edit(record.b.requests.last_mut().unwrap());
        let dir = save(&record, &lab.path("results"));
        judge(&lab, &dir, &[]).expect(2).says("b/requests.csv").says(words);
    }
}

#[test]
fn a_session_of_another_machine_is_not_gone_on_with_here() {
    let lab = Lab::new();
    let mut record = session("not-decided");
    record.manifest.sides.iter_mut().for_each(|side| side.commit = None);
    record.manifest.machine.cpu = Some("Another CPU".to_owned());
    let dir = save(&record, &lab.path("results"));
    let done = lab.run(&["ab", "--resume", dir.to_str().unwrap()]).expect(2);
    done.says("this machine changed since").says("the CPU was Another CPU").says("--allow-changed");
}
