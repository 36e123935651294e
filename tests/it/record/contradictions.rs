//! Figures that were edited without the rows that they follow from.

use std::path::Path;

use inferometer::record::{Cause, Record, Status, open, read};

use crate::lab::Lab;

/// Replaces a value in the last row of a CSV file; the other rows stay as they are.
pub fn edit(file: &Path, column: &str, change: impl Fn(&str) -> String) {
    let mut reader = csv::Reader::from_path(file).unwrap();
    let head = reader.headers().unwrap().clone();
    let at = head.iter().position(|name| name == column).unwrap();
    let mut rows: Vec<Vec<String>> =
        reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect();
    let last = rows.last_mut().unwrap();
    last[at] = change(&last[at]);
    let mut writer = csv::Writer::from_path(file).unwrap();
    writer.write_record(&head).unwrap();
    rows.iter().for_each(|row| writer.write_record(row).unwrap());
    writer.flush().unwrap();
}

pub fn ten_times(figure: &str) -> String {
    (figure.parse::<f64>().unwrap() * 10.0).to_string()
}

fn last(record: &Record) -> (Status, Option<Cause>, String) {
    let row = record.requests.last().unwrap();
    (row.status, row.cause, row.reason.clone())
}

/// A run of three iterations, and its folder.
fn run() -> (Lab, std::path::PathBuf) {
    let lab = Lab::new();
    let scenario = lab.exec(&["--token-ms", "2"], "[run]\niterations = 3\n");
    lab.measure(&scenario, &[]).expect(0);
    let dir = lab.run_folder().unwrap();
    (lab, dir)
}

#[test]
fn figures_that_do_not_follow_from_tokens_and_spans_are_not_believed() {
    let (_lab, dir) = run();
    let requests = dir.join("requests.csv");
    let whole = fs_err::read(&requests).unwrap();
    let record = open(&dir).unwrap();
    assert_eq!(record, read(&dir).unwrap(), "an honest record opens as it is");
    let of = format!("requests.csv, request {}: ", record.requests.last().unwrap().request);
    for (column, from) in [
        ("decode_tps", "tokens.csv"),
        ("decode_ms", "tokens.csv"),
        ("tpot_ms", "tokens.csv"),
        ("itl_p99_ms", "tokens.csv"),
        ("ttft_ms", "e2e_ms"),
        ("e2e_ms", "e2e_ms"),
        ("prefill_ms", "spans.csv"),
        ("prefill_tps", "prefill_ms"),
        ("generated_tokens", "tokens.csv"),
    ] {
        fs_err::write(&requests, &whole).unwrap();
        edit(&requests, column, ten_times);
        let (status, cause, reason) = last(&open(&dir).unwrap());
        assert_eq!((status, cause), (Status::Invalid, Some(Cause::Contradiction)), "{column}");
        assert!(reason.contains(&of) && reason.contains(from), "{column}: {reason}");
        assert_eq!(last(&read(&dir).unwrap()).0, Status::Ok, "what is written can still be read");
    }
    fs_err::write(&requests, &whole).unwrap();
    edit(&requests, "token_hash", |_| "0123456789abcdef".to_owned());
    assert!(last(&open(&dir).unwrap()).2.contains("token_hash is 0123456789abcdef"));
    fs_err::write(&requests, &whole).unwrap();
    edit(&dir.join("tokens.csv"), "t_ns", |ns| (ns.parse::<u64>().unwrap() + 5_000_000).to_string());
    assert_eq!(last(&open(&dir).unwrap()).1, Some(Cause::Contradiction), "edited on the other side");
}

#[test]
fn a_row_without_its_tokens_is_not_believed() {
    let (_lab, dir) = run();
    let tokens = dir.join("tokens.csv");
    let request = read(&dir).unwrap().requests.last().unwrap().request.to_string();
    let rest = fs_err::read_to_string(&tokens).unwrap();
    let rest: Vec<&str> = rest.lines().filter(|line| line.split(',').next() != Some(&request)).collect();
    fs_err::write(&tokens, rest.join("\n") + "\n").unwrap();
    edit(&dir.join("requests.csv"), "token_rows", |_| "0".to_owned());
    let (status, cause, reason) = last(&open(&dir).unwrap());
    assert_eq!((status, cause), (Status::Invalid, Some(Cause::Contradiction)), "{reason}");
}

#[test]
fn every_verb_that_shows_figures_names_file_row_column_and_both_values() {
    let (lab, dir) = run();
    let named = dir.to_str().unwrap();
    let before = lab.run(&["report", named, "--format", "json"]).expect(0).stdout;
    edit(&dir.join("requests.csv"), "decode_tps", ten_times);
    let record = read(&dir).unwrap();
    let row = record.requests.last().unwrap();
    let (request, wrong) = (row.request, row.decode_tps.unwrap());
    let told = format!("requests.csv, request {request}: decode_tps is {wrong}, but tokens.csv gives ");
    for words in [
        &["report", named, "--format", "table"][..],
        &["compare", named, named],
        &["history"],
        &["export", named, "--format", "csv"],
    ] {
        lab.run(words).expect(0).says(&told);
    }
    // Nothing is left to do, but what is shown is checked too.
    let resumed = lab.run(&["run", "--resume", named, "--no-report", "--format", "json"]).stdout;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&resumed).unwrap()["validity"]["counts"]["ok"], 2);
    let shown = lab.run(&["results", "show", named]).expect(0).stdout;
    assert!(shown.contains("contradiction") && shown.contains("2 of 3"), "{shown}");
    let after = lab.run(&["report", named, "--format", "json"]).expect(0).stdout;
    let ok = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap()["validity"]["counts"]["ok"].clone();
    assert_eq!((ok(&before), ok(&after)), (3.into(), 2.into()));
}

#[test]
fn one_contradictory_turn_costs_the_conversation_and_a_redacted_record_opens() {
    let lab = Lab::new();
    let turns = "[workload]\nkind = \"conversation\"\nreplies = \"fixed\"\nmax_tokens = 4\nignore_eos = true\n\
                 turn = [{ user = \"a b\", reply = \"c\" }, { user = \"d e\" }]\n[run]\niterations = 1\n";
    lab.measure(&lab.exec(&["--token-ms", "2"], turns), &[]).expect(0);
    let dir = lab.run_folder().unwrap();
    lab.run(&["results", "redact", dir.to_str().unwrap(), "--output", lab.path("shared").to_str().unwrap()]).expect(0);
    let shared = fs_err::read_dir(lab.path("shared")).unwrap().next().unwrap().unwrap();
    let shared = open(&shared.path()).unwrap();
    assert_eq!(last(&shared).0, Status::Ok, "without ids the times can still be checked");
    assert!(shared.tokens.iter().all(|token| token.id.is_none()));
    edit(&dir.join("requests.csv"), "decode_tps", ten_times);
    let record = open(&dir).unwrap();
    let measured: Vec<_> = record.requests.iter().filter(|row| !row.warmup).map(|row| row.cause).collect();
    assert_eq!(measured, [Some(Cause::Contradiction); 2]);
    assert_eq!(record.contradictions().count(), 1);
}
