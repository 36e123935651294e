//! `gate` on simulated sessions: what it refuses, and that nothing hides a verdict.

use std::path::PathBuf;

use inferometer::record::RequestRow;
use inferometer::record::ab::AbRecord;
use serde_json::{Value, json};

use crate::lab::{Done, Lab, line};
use crate::record::contradictions::{edit, ten_times};
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
    let mut told = Vec::new();
    for flag in flags {
        told.push(line(&judge(&lab, &lab.path("none"), flag).expect(2).stderr, "error: "));
        told.push(line(&lab.run(&[&["ab", "--resume", "none"], flag].concat()).expect(2).stderr, "error: "));
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    error: the argument '--session <DIR>' cannot be used with: --base <REV> --head <REV>
    error: the argument '--resume <DIR>' cannot be used with: --base <REV> --head <REV>
    error: the argument '--session <DIR>' cannot be used with '--repo <PATH>'
    error: the argument '--resume <DIR>' cannot be used with '--repo <PATH>'
    error: the argument '--session <DIR>' cannot be used with '--a <KEY=VALUE>'
    error: the argument '--resume <DIR>' cannot be used with '--a <KEY=VALUE>'
    error: the argument '--session <DIR>' cannot be used with '--b <KEY=VALUE>'
    error: the argument '--resume <DIR>' cannot be used with '--b <KEY=VALUE>'
    error: the argument '--session <DIR>' cannot be used with '--a-engine <ENGINE>'
    error: the argument '--resume <DIR>' cannot be used with '--a-engine <ENGINE>'
    error: the argument '--session <DIR>' cannot be used with '--b-engine <ENGINE>'
    error: the argument '--resume <DIR>' cannot be used with '--b-engine <ENGINE>'
    error: the argument '--session <DIR>' cannot be used with '--a-model <DIR>'
    error: the argument '--resume <DIR>' cannot be used with '--a-model <DIR>'
    error: the argument '--session <DIR>' cannot be used with '--b-model <DIR>'
    error: the argument '--resume <DIR>' cannot be used with '--b-model <DIR>'
    error: the argument '--session <DIR>' cannot be used with '--same'
    error: the argument '--resume <DIR>' cannot be used with '--same'
    "#);
}

#[test]
fn what_is_the_session_s_is_no_setting_of_a_side() {
    let lab = Lab::new();
    let text =
        "name = \"lab\"\n[model]\npath = \".\"\n[[engine]]\nname = \"simulated\"\n[workload]\ntext = \"one two\"\n";
    let scenario = lab.write("scenario.toml", text);
    let mut told = Vec::new();
    for (flag, setting) in [("--b", "ab.outputs=any"), ("--a", "gate.0.delta=9%"), ("--b", "build.timeout_s=1")] {
        told.push(lab.run(&["ab", scenario.to_str().unwrap(), flag, setting]).shown(&lab));
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    exit 2
    --- stderr
    error: `ab.outputs` applies to the whole session, not to one side: use `--set ab.outputs=...`, or set it in the scenario

    exit 2
    --- stderr
    error: `gate.0.delta` applies to the whole session, not to one side: use `--set gate.0.delta=...`, or set it in the scenario

    exit 2
    --- stderr
    error: `build.timeout_s` applies to the whole session, not to one side: use `--set build.timeout_s=...`, or set it in the scenario
    "#);
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
    let edits: [Edit; 7] = [
        |m| m["gates"] = json!([]),
        |m| m["gates"] = vec![gate(m).clone(); 4].into(),
        |m| gate(m)["least"] = json!(0.0),
        |m| gate(m)["least"] = json!(1e300),
        |m| gate(m)["cell_ids"] = json!([]),
        |m| gate(m)["cell_ids"] = json!([0, 0]),
        |m| gate(m)["cell_ids"] = json!([0, 9]),
    ];
    let mut told = Vec::new();
    let lab = Lab::new();
    let dir = made(&lab, "not-decided");
    let path = dir.join("ab.json");
    let whole = fs_err::read_to_string(&path).unwrap();
    for edit in edits {
        let mut manifest: Value = serde_json::from_str(&whole).unwrap();
        edit(&mut manifest);
        fs_err::write(&path, manifest.to_string()).unwrap();
        let refused = judge(&lab, &dir, &[]).expect(2);
        assert_eq!(lab.run(&["ab", "--resume", dir.to_str().unwrap()]).expect(2).stderr, refused.stderr);
        told.push(refused.shown(&lab));
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    exit 2
    --- stderr
    error: [LAB]/results/[RUN]/ab.json: not a valid ab.json: gates: there are 0, but a session has 1 to 3

    exit 2
    --- stderr
    error: [LAB]/results/[RUN]/ab.json: not a valid ab.json: gates: there are 4, but a session has 1 to 3

    exit 2
    --- stderr
    error: [LAB]/results/[RUN]/ab.json: not a valid ab.json: gates[0].least is 0, but must be above 0 and below 1

    exit 2
    --- stderr
    error: [LAB]/results/[RUN]/ab.json: not a valid ab.json: gates[0].least is 1000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000, but must be above 0 and below 1

    exit 2
    --- stderr
    error: [LAB]/results/[RUN]/ab.json: not a valid ab.json: gates[0].cell_ids is empty: a gate needs at least one cell

    exit 2
    --- stderr
    error: [LAB]/results/[RUN]/ab.json: not a valid ab.json: gates[0].cell_ids names cell 0 twice

    exit 2
    --- stderr
    error: [LAB]/results/[RUN] is not a valid A/B session: ab.json: gates[0].cell_ids has 9, which is not a cell of the plan in a/run.json
    "#);
}

#[test]
fn sides_with_other_cells_are_no_session() {
    let lab = Lab::new();
    let mut record: AbRecord = session("unchanged");
    record.b.manifest.plan.cells.pop();
    let last = record.b.manifest.plan.cells.len() as u32;
    record.b.manifest.plan.order.iter_mut().for_each(|ids| ids.retain(|id| *id < last));
    let dir = save(&record, &lab.path("results"));
    insta::assert_snapshot!(judge(&lab, &dir, &[]).shown(&lab), @r#"
    exit 2
    --- stderr
    error: [LAB]/results/[RUN] is not a valid A/B session: a/run.json has 2 cells in its plan and b/run.json has 1: both must have the same cells
    "#);
}

/// B looks ten times as fast in one iteration, but its tokens do not.
#[test]
fn a_side_that_contradicts_itself_makes_the_session_invalid() {
    let lab = Lab::new();
    let dir = made(&lab, "unchanged");
    assert!(!judge(&lab, &dir, &[]).expect(0).stderr.contains("contradicts"));
    edit(&dir.join("b/requests.csv"), "decode_tps", ten_times);
    let done = judge(&lab, &dir, &[]).expect(4).says("b: the record contradicts itself: requests.csv, request ");
    assert!(done.stdout.contains("INVALID") && done.stdout.contains("contradicts itself"), "{}", done.stdout);
    let named = dir.to_str().unwrap();
    lab.run(&["report", named]).expect(0).says(", but tokens.csv gives ");
    let shown = lab.run(&["results", "show", named]).expect(0).stdout;
    assert!(shown.contains("contradiction"), "{shown}");
}

#[test]
fn rows_that_no_session_has_are_refused() {
    type Edit = fn(&mut RequestRow);
    let edits: [Edit; 2] = [|row| row.cell = 99, |row| row.iteration = u32::MAX];
    let told = edits.map(|edit| {
        let lab = Lab::new();
        let mut record = session("not-decided");
        edit(record.b.requests.last_mut().unwrap());
        let dir = save(&record, &lab.path("results"));
        judge(&lab, &dir, &[]).shown(&lab)
    });
    insta::assert_snapshot!(told.join("\n"), @r#"
    exit 2
    --- stderr
    error: [LAB]/results/[RUN] is not a valid A/B session: request 11 in b/requests.csv is of cell 99, which is not a cell of the plan

    exit 2
    --- stderr
    error: [LAB]/results/[RUN] is not a valid A/B session: request 11 in b/requests.csv is of iteration 4294967295, but a session has at most 100000
    "#);
}

#[test]
fn a_session_of_another_machine_is_not_gone_on_with_here() {
    let lab = Lab::new();
    let mut record = session("not-decided");
    record.manifest.sides.iter_mut().for_each(|side| side.commit = None);
    record.manifest.machine.cpu = Some("Another CPU".to_owned());
    let dir = save(&record, &lab.path("results"));
    let done = lab.run(&["ab", "--resume", dir.to_str().unwrap()]).expect(2);
    // The other differences come from this machine.
    let told = line(&done.stderr, "error: ");
    // What else differs is this machine's.
    let parts: Vec<&str> = told.split([':', ';']).map(str::trim).collect();
    assert!(parts.iter().any(|part| part.starts_with("the CPU was Another CPU, is ")), "{told}");
    insta::assert_snapshot!(parts.last().unwrap(), @r#"start a new run, or resume with `--allow-changed`"#);
}
