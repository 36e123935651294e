//! Records that were changed by a kill, by hand or by another build: read as far as possible, or
//! refused with the file's name.

use std::path::Path;

use inferometer::record::{RecordError, Store, read};

use super::{FILES, iteration, length, record, stored};

/// A copy of the record in `run` that a test may damage.
fn copy(run: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in fs_err::read_dir(run).unwrap() {
        let file = file.unwrap();
        fs_err::copy(file.path(), dir.path().join(file.file_name())).unwrap();
    }
    dir
}

fn cut(file: &Path, length: u64) {
    fs_err::OpenOptions::new().write(true).open(file).unwrap().set_len(length).unwrap();
}

#[test]
fn killed_at_any_byte_of_a_commit_the_record_holds_what_was_committed_before() {
    let dir = tempfile::tempdir().unwrap();
    let before = [iteration(0, 1), iteration(1, 2)];
    let last = iteration(3, 3);
    let (run, manifest) = stored(dir.path(), &before);
    let begun = FILES.map(|name| length(&run.join(name)));
    let mut store = Store::resume(&run).unwrap().0;
    store.commit(&last).unwrap();
    drop(store);
    let ended = FILES.map(|name| length(&run.join(name)));
    let expected = record(&manifest, &before);
    let all = [before.as_slice(), std::slice::from_ref(&last)].concat();

    // The files are written one after another: those before the current one are complete, those
    // after it unchanged.
    for (at, name) in FILES.into_iter().enumerate() {
        let harmed = copy(&run);
        for later in at + 1..FILES.len() {
            cut(&harmed.path().join(FILES[later]), begun[later]);
        }
        for killed_at in (begun[at]..ended[at]).rev() {
            cut(&harmed.path().join(name), killed_at);
            assert_eq!(read(harmed.path()).unwrap(), expected, "{name} killed at byte {killed_at}");
            if killed_at % 37 == 0 {
                let harmed = copy(harmed.path());
                let (mut store, so_far) = Store::resume(harmed.path()).unwrap();
                assert_eq!(so_far, expected);
                assert_eq!(FILES.map(|name| length(&harmed.path().join(name))), begun);
                store.commit(&last).unwrap();
                assert_eq!(read(harmed.path()).unwrap(), record(&manifest, &all));
            }
        }
    }
    assert_eq!(read(&run).unwrap(), record(&manifest, &all));
}

/// Damage that a kill cannot cause: the record is still a prefix of complete iterations, and a
/// warning says that some are missing.
#[test]
fn a_file_cut_by_hand_costs_the_iterations_it_held_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let iterations = [iteration(0, 1), iteration(1, 2), iteration(3, 1)];
    let (run, manifest) = stored(dir.path(), &iterations);
    for name in FILES {
        let header = 1 + fs_err::read(run.join(name)).unwrap().iter().position(|b| *b == b'\n').unwrap() as u64;
        let harmed = copy(&run);
        for cut_at in (0..length(&run.join(name))).rev() {
            cut(&harmed.path().join(name), cut_at);
            if cut_at < header {
                let error = read(harmed.path()).unwrap_err().to_string();
                let missing = format!("{}, line 1: the header is missing", harmed.path().join(name).display());
                assert_eq!(error, missing, "{name} cut at {cut_at}");
                assert!(Store::resume(harmed.path()).is_err());
                continue;
            }
            let found = read(harmed.path()).unwrap();
            let whole = iterations
                .iter()
                .take_while(|i| found.requests.iter().any(|row| row.request == i.requests.last().unwrap().request));
            let whole: Vec<_> = whole.cloned().collect();
            assert!(whole.len() < 3, "{name} cut at {cut_at}");
            let mut expected = record(&manifest, &whole);
            if name != "requests.csv" {
                assert_eq!(found.manifest.warnings.len(), 1, "{name} cut at {cut_at}");
                assert!(found.manifest.warnings[0].contains(name), "{:?}", found.manifest.warnings);
            }
            expected.manifest.warnings.clone_from(&found.manifest.warnings);
            assert_eq!(found, expected, "{name} cut at {cut_at}");
        }
    }
}

fn change(file: &Path, change: impl FnOnce(String) -> String) {
    let text = fs_err::read_to_string(file).unwrap();
    let new = change(text.clone());
    assert_ne!(text, new, "the change found nothing to change");
    fs_err::write(file, new).unwrap();
}

#[test]
fn garbage_is_named_by_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let (run, _) = stored(dir.path(), &[iteration(0, 1), iteration(1, 1)]);
    let complaint = |name: &str, how: &dyn Fn(String) -> String| {
        let harmed = copy(&run);
        change(&harmed.path().join(name), how);
        let error = read(harmed.path()).unwrap_err();
        assert_eq!(Store::resume(harmed.path()).unwrap_err().to_string(), error.to_string());
        error.to_string().replace(&*harmed.path().to_string_lossy(), "RUN")
    };
    insta::assert_snapshot!(complaint("requests.csv", &|t| t.replacen(",ok,", ",fine,", 1)), @r#"RUN/requests.csv, line 2, column `status`: "fine" is none of ok, failed, invalid"#);
    insta::assert_snapshot!(complaint("requests.csv", &|t| t.replacen("\n1,", "\n0,", 1)), @"RUN/requests.csv, line 3, column `request`: 0 does not come after 0");
    insta::assert_snapshot!(complaint("requests.csv", &|t| t.replacen("{\"\"own\"\":3}", "{\"\"own\"\":", 1)), @"RUN/requests.csv, line 2, column `effective_other`: not a JSON object of settings: EOF while parsing a value at line 1 column 7");
    insta::assert_snapshot!(complaint("requests.csv", &|t| t.replacen("ttft_ms", "\u{1F600}", 1).replacen("start_ns", "started", 1)), @"RUN/requests.csv, line 2, column `start_ns`: the file has no such column");
    insta::assert_snapshot!(complaint("tokens.csv", &|t| t.replacen("\n0,1,7,1\n", "\n0,1,-7,1\n", 1)), @r#"RUN/tokens.csv, line 3, column `id`: "-7" is not a whole number from 0 to 4294967295"#);
    insta::assert_snapshot!(complaint("tokens.csv", &|t| t.replacen("\n0,1,7,1\n", "\n0,1,7\n", 1)), @"RUN/tokens.csv, line 3: 3 fields where the header has 4");
    insta::assert_snapshot!(complaint("tokens.csv", &|t| t.replacen("\n0,1,7,1\n", "\n5,1,7,1\n", 1)), @"RUN/tokens.csv, line 3: row 1 of request 5, but expected row 1 of request 0");
    insta::assert_snapshot!(complaint("tokens.csv", &|t| t.replacen("\n0,1,7,1\n", "\n", 1)), @"RUN/tokens.csv, line 3: row 2 of request 0, but expected row 1 of request 0");
    insta::assert_snapshot!(complaint("tokens.csv", &|t| t.replacen("\n0,1,7,1\n", "\n0,0,7,1\n", 1)), @"RUN/tokens.csv, line 3: row 0 of request 0, but expected row 1 of request 0");
    insta::assert_snapshot!(complaint("spans.csv", &|t| t.replacen("\n0,decode", "\n1,decode", 1)), @"RUN/spans.csv, line 3: row of request 1, but expected row 1 of request 0");
    insta::assert_snapshot!(complaint("spans.csv", &|t| t.replacen("decode", "decoed", 1)), @r#"RUN/spans.csv, line 3, column `phase`: "decoed" is none of the phases load, tokenize, prefill, decode, prefill_chunk, cache_clear, forward, penalty, sample, detokenize, wait, reset, draft"#);
    insta::assert_snapshot!(complaint("telemetry.csv", &|t| t.replacen("\n0,", "\n0 h,", 1)), @r#"RUN/telemetry.csv, line 2, column `t_ns`: "0 h" is not a whole number from 0 to 18446744073709551615"#);
    insta::assert_snapshot!(complaint("run.json", &|t| t.replacen("\"sessions\": 1", "\"sessions\": one", 1)), @"RUN/run.json: not a valid run.json: expected value at line 8 column 15");
    insta::assert_snapshot!(complaint("run.json", &|t| t.replacen("\"schema_version\": 1", "\"schema_version\": 2", 1)), @"RUN/run.json has record schema 2, but this build reads up to 1: use a newer inferometer to read it");
    insta::assert_snapshot!(complaint("run.json", &|t| t.replacen("\"schema_version\": 1,", "", 1)), @"RUN/run.json: not a valid run.json: missing field `schema_version` at line 106 column 1");
}

/// A plan that was changed by hand is refused when it is read.
#[test]
fn a_plan_that_contradicts_itself_is_refused() {
    type Harm = dyn Fn(&mut serde_json::Value);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/record-v1");
    let complaint = |how: &Harm| {
        let harmed = copy(&fixture);
        let path = harmed.path().join("run.json");
        let mut manifest: serde_json::Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
        let cell = serde_json::json!({"id": 0, "engine": 0, "label": "", "length": null, "toggles": {}, "load": {},
            "sampling": {}, "predicted": {}, "merged": []});
        manifest["plan"] = serde_json::json!({"cells": [cell], "order": [[0], [0]]});
        how(&mut manifest);
        fs_err::write(&path, manifest.to_string()).unwrap();
        let said = |error: RecordError| error.to_string().replace(&*harmed.path().to_string_lossy(), "RUN");
        match read(harmed.path()) {
            Ok(_) => "read".to_owned(),
            Err(error) => {
                let error = said(error);
                assert_eq!(said(Store::resume(harmed.path()).unwrap_err()), error);
                error
            }
        }
    };
    let invalid = "RUN/run.json: not a valid run.json: ";
    assert_eq!(complaint(&|_| {}), "read");
    let cases: [(&Harm, &str); 6] = [
        (&|m| m["plan"]["order"][1][0] = 7.into(), "plan.order[1][0] is 7, which is not a cell of the plan"),
        (&|m| m["plan"]["cells"][0]["id"] = 3.into(), "plan.cells[0].id is 3, but must be its position"),
        (
            &|m| m["plan"]["cells"][0]["engine"] = 9.into(),
            "plan.cells[0].engine is 9, which is not an engine of the scenario",
        ),
        (&|m| m["hosts"][0]["engine"] = 9.into(), "hosts[0].engine is 9, which is not an engine of the scenario"),
        (
            &|m| m["scenario"]["run"]["timeout_s"] = (-1).into(),
            "scenario.run.timeout_s is -1, which is not a valid duration",
        ),
        (&|m| m["scenario"]["run"]["cooldown_s"] = 1e300.into(), "scenario.run.cooldown_s is 1"),
    ];
    for (how, expected) in cases {
        let error = complaint(how);
        assert!(error.starts_with(&format!("{invalid}{expected}")), "{error}");
    }
}

#[test]
fn a_folder_that_is_no_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let shown = |error: RecordError, run: &Path| {
        error.to_string().replace(run.to_str().unwrap(), "RUN").replace(dir.path().to_str().unwrap(), "DIR")
    };
    let (run, _) = stored(dir.path(), &[]);
    fs_err::remove_file(run.join("spans.csv")).unwrap();
    let told = [
        read(dir.path()).unwrap_err(),
        Store::resume(dir.path()).err().unwrap(),
        read(&dir.path().join("gone")).unwrap_err(),
        read(&run).unwrap_err(),
    ];
    insta::assert_snapshot!(told.map(|error| shown(error, &run)).join("\n"), @r#"
    DIR is not a record of a run: it has no run.json
    DIR is not a record of a run: it has no run.json
    failed to open file `DIR/gone/run.json`: No such file or directory (os error 2)
    failed to open file `RUN/spans.csv`: No such file or directory (os error 2)
    "#);
}

/// What a newer build of the same major version may have written.
#[test]
fn unknown_columns_and_fields_are_ignored_and_missing_ones_are_not_measured() {
    let dir = tempfile::tempdir().unwrap();
    let (run, manifest) = stored(dir.path(), &[iteration(0, 2)]);
    let expected = record(&manifest, &[iteration(0, 2)]);
    for name in FILES {
        change(&run.join(name), |text| {
            let mut lines = text.lines();
            let header = format!("{},more\n", lines.next().unwrap());
            lines.fold(header, |all, line| all + line + ",\"a, b\"\n")
        });
    }
    change(&run.join("run.json"), |text| text.replacen('{', "{\"novel\": [1],", 1));
    assert_eq!(read(&run).unwrap(), expected);
    let refused = Store::resume(&run).unwrap_err().to_string();
    insta::assert_snapshot!(refused.replace(run.to_str().unwrap(), "RUN"), @r#"RUN/tokens.csv, line 1: the columns differ from those of this build: resume with the version that began the run"#);

    change(&run.join("requests.csv"), |text| text.replacen("decode_tps", "decode_rate", 1));
    change(&run.join("telemetry.csv"), |text| text.replacen("rss_bytes", "rss", 1));
    let found = read(&run).unwrap();
    assert!(found.requests.iter().all(|row| row.decode_tps.is_none() && row.ttft_ms == Some(1.25)));
    assert!(found.telemetry.iter().all(|row| row.values == [None, None]));
}
