//! Conversations: one request per turn, all turns in one iteration; reuse, and failures in the
//! middle.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use inferometer::record::{Cause, FinishState, Record, RequestRow, Status};
use inferometer::report::summary::{Determinism, Summary};
use inferometer_engine::text::{ChatTemplate, Tokenizer};
use inferometer_protocol::{Chat, Message, Phase, Value};
use rustix::process::Signal;
use serde_json::{Value as Json, json};

use crate::lab::{Done, Lab, elements, line, measured, signal, statuses, until};

const SYSTEM: &str = "Answer in few words.";
/// The user's texts, and the replies if they are fixed.
const TURNS: [(&str, &str); 5] = [
    ("What is a page fault?", "The processor asks the kernel for a page that is not mapped."),
    ("Is it slow?", "A minor one costs about a microsecond. A major one waits for the disk."),
    ("How do I count them?", "Ask the kernel for the resource usage of the process, before and after."),
    ("And avoid them?", "Touch the memory once beforehand, or lock it."),
    ("Thank you.", "You are welcome."),
];

/// A conversation of [`TURNS`]; `rest` follows in its `[workload]`.
fn workload(rest: &str) -> String {
    let turns: Vec<String> =
        TURNS.iter().map(|(user, reply)| format!("{{ user = {user:?}, reply = {reply:?} }}")).collect();
    let turns = turns.join(", ");
    format!("[workload]\nkind = \"conversation\"\nsystem = {SYSTEM:?}\nturn = [{turns}]\nignore_eos = true\n{rest}")
}

fn exec(lab: &Lab, arguments: &[&str], rest: &str) -> PathBuf {
    lab.exec(arguments, &workload(&format!("max_tokens = 4\n{rest}")))
}

#[track_caller]
fn measure(lab: &Lab, scenario: &Path, code: i32) -> Done {
    lab.measure(scenario, &[]).expect(code)
}

/// The measured rows of each iteration of a cell.
fn iterations(record: &Record, cell: u32) -> BTreeMap<u32, Vec<&RequestRow>> {
    let mut all: BTreeMap<u32, Vec<&RequestRow>> = BTreeMap::new();
    for row in measured(record).into_iter().filter(|row| row.cell == cell) {
        all.entry(row.iteration).or_default().push(row);
    }
    all
}

/// A whole iteration of a cell.
#[track_caller]
fn good(record: &Record, cell: u32) -> Vec<&RequestRow> {
    let all = iterations(record, cell);
    let found = all.into_values().find(|rows| rows.iter().all(|row| row.status == Status::Ok));
    found.unwrap_or_else(|| panic!("no iteration of cell {cell} is whole: {:?}", measured(record)[0].reason))
}

fn ids(record: &Record, row: &RequestRow) -> Vec<u32> {
    record.tokens.iter().filter(|token| token.request == row.request).filter_map(|token| token.id).collect()
}

/// Runs [`TURNS`] on a tiny model with one thread, with and without reuse. Returns the record and
/// the model's folder.
fn transformer(lab: &Lab, replies: &str) -> (Record, PathBuf) {
    let model = lab.path("model");
    lab.run(&["model", "new", "--arch", "qwen3", "--preset", "tiny", "--seed", "1", model.to_str().unwrap()]).expect(0);
    let rest = format!(
        "max_tokens = 6\nreplies = {replies:?}\n[run]\niterations = 2\nwarmup = 0\n[toggles]\nthreads = 1\ndtype = \"f32\"\n\
         kv_reuse = [\"prefix\", \"none\"]\n[[engine]]\nname = \"transformer\"\noptions = {{ backend = \"candle\" }}\n"
    );
    let scenario =
        lab.write("scenario.toml", format!("name = \"lab\"\n[model]\npath = {model:?}\n{}", workload(&rest)));
    measure(lab, &scenario, 0);
    (lab.record(), model)
}

/// The prompt of a turn, made by the model's template and tokenizer from the turns before.
fn prompt(folder: &Path, replies: &[String]) -> Vec<u32> {
    let message = |role: &str, content: &str| Message::new(role, content);
    let mut messages = vec![message("system", SYSTEM)];
    for (turn, (user, _)) in TURNS.iter().enumerate().take(replies.len() + 1) {
        messages.push(message("user", user));
        messages.extend(replies.get(turn).map(|reply| message("assistant", reply)));
    }
    let text = ChatTemplate::from_model(folder).unwrap().render(&Chat::of(messages), true).unwrap();
    Tokenizer::from_model(folder).unwrap().encode(&text, false).unwrap()
}

#[test]
fn reuse_computes_only_what_is_new_and_changes_no_token() {
    for kind in ["fixed", "generated"] {
        let lab = Lab::new();
        let (record, folder) = transformer(&lab, kind);
        let tokenizer = Tokenizer::from_model(&folder).unwrap();
        let (prefix, none) = (good(&record, 0), good(&record, 1));
        assert_eq!((prefix.len(), none.len()), (TURNS.len(), TURNS.len()));
        let mut replies: Vec<String> = Vec::new();
        let mut held: Vec<u32> = Vec::new();
        for (turn, (with, without)) in prefix.iter().zip(&none).enumerate() {
            let wanted = prompt(&folder, &replies);
            let generated = ids(&record, with);
            let common = held.iter().zip(&wanted).take_while(|(a, b)| a == b).count().min(wanted.len() - 1);
            let length = wanted.len() as u32;
            let counts =
                |row: &RequestRow| [row.prompt_tokens, row.reused_tokens, row.prefill_tokens, row.cache_tokens];
            let cache = length + generated.len() as u32 - 1;
            assert_eq!(counts(with), [length, common as u32, length - common as u32, cache].map(Some), "turn {turn}");
            assert_eq!(counts(without), [length, 0, length, cache].map(Some), "turn {turn}");
            assert_eq!(ids(&record, without), generated, "turn {turn} of {kind} replies");
            assert_eq!((with.turn, without.turn), (turn as u32, turn as u32));
            let effective = |row: &RequestRow, name: &str| row.effective.get(name).cloned();
            assert_eq!(effective(with, "kv_reuse"), Some("prefix".into()));
            assert_eq!(effective(without, "kv_reuse"), Some("none".into()));
            assert_eq!(effective(with, "prefill_chunk_size"), Some(Value::from(length - common as u32)));
            let mut spans = record.spans.iter().filter(|span| span.request == with.request);
            assert!(spans.any(|s| s.phase == Phase::Tokenize), "the engine rendered and tokenized the messages itself");
            held = wanted;
            held.extend(&generated[..generated.len() - 1]);
            replies.push(match kind {
                "fixed" => TURNS[turn].1.to_owned(),
                _ => tokenizer.decode(&generated).unwrap(),
            });
        }
        let reused = prefix[1..].iter().all(|row| row.reused_tokens > Some(0));
        assert!(reused && prefix.last().unwrap().prefill_tokens < none.last().unwrap().prefill_tokens);
        let summary = Summary::of(&record);
        assert!(summary.cells.iter().all(|cell| cell.determinism != Determinism::Nondeterministic));
    }
}

#[test]
fn an_iteration_is_a_row_a_turn_in_one_conversation() {
    let lab = Lab::new();
    let scenario = exec(
        &lab,
        &["--reuse", "--toggles", "kv_reuse", "--no-stream"],
        "replies = \"generated\"\n[run]\niterations = 3\n",
    );
    let done = measure(&lab, &scenario, 0);
    let record = lab.record();
    assert_eq!(statuses(&record), [Status::Ok; 15]);
    let warmups: Vec<u32> = record.requests.iter().filter(|row| row.warmup).map(|row| row.turn).collect();
    assert_eq!(warmups, [0, 4], "the first turn and the whole history");
    let rows = good(&record, 0);
    assert_eq!(rows.iter().map(|row| row.turn).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(rows[0].reused_tokens, Some(0), "each iteration begins with an empty cache");
    assert!(rows[1..].iter().all(|row| row.reused_tokens > Some(0)), "and goes on with what it holds");
    let counts = Summary::of(&record).cells[0].counts;
    assert_eq!((counts.planned, counts.ok, counts.missing()), (3, 3, 0), "iterations, not turns");
    assert!(done.stdout.lines().all(|line| line.chars().count() <= 80), "{}", done.stdout);
    let csv = fs_err::read_to_string(lab.run_folder().unwrap().join("requests.csv")).unwrap();
    let left = csv.lines().next().unwrap().split(',').position(|name| name == "rows_left").unwrap();
    let ends = csv.lines().skip(1).filter(|line| line.split(',').nth(left) == Some("0")).count();
    assert_eq!(ends, 4, "a warm-up and three iterations, each committed as a whole");
}

/// The turns before a failed one are not a valid iteration, and those after it are not run.
#[test]
fn a_turn_that_fails_fails_its_iteration_and_no_other() {
    let lab = Lab::new();
    // Fails in the third turn of the second iteration: after two generations of the warm-up and
    // five of the first iteration.
    let scenario = exec(&lab, &["--fault", "error:prefill:10"], "[run]\niterations = 4\n");
    let done = measure(&lab, &scenario, 1);
    let record = lab.record();
    let all = iterations(&record, 0);
    assert_eq!(all[&2].len(), 3);
    for row in &all[&2] {
        assert_eq!(row.cause, Some(Cause::EngineError));
        insta::allow_duplicates!(insta::assert_snapshot!(row.reason, @"turn 2: told to fail: error:prefill:10"));
    }
    assert!(all[&2][0].decode_tps.is_some(), "what was measured stays in the record");
    assert_eq!(all[&3].len(), 5, "the next iteration is whole again");
    let summary = Summary::of(&record);
    let counts = summary.cells[0].counts;
    assert_eq!((counts.planned, counts.failed, counts.ok), (4, 1, 3));
    assert_eq!(summary.cells[0].metric("e2e_ms").unwrap().n, 3, "one number an iteration");
    let failed = summary.validity.problems.iter().find(|problem| problem.status == Status::Failed).unwrap();
    assert_eq!(failed.iterations, [2], "once, and not once a turn");
    insta::assert_snapshot!(line(&done.stdout, "exec: iteration 2 failed"), @r#"exec: iteration 2 failed: turn 2: told to fail: error:prefill:10"#);
}

#[test]
fn a_conversation_that_fails_three_times_is_given_up() {
    let lab = Lab::new();
    let rest = "[run]\niterations = 9\nwarmup = 0\n";
    let scenario = exec(&lab, &["--reuse", "--no-text"], &format!("replies = \"generated\"\n{rest}"));
    let done = measure(&lab, &scenario, 1);
    insta::assert_snapshot!(line(&done.stderr, "warning: cell `exec` is given up"), @r#"warning: cell `exec` is given up after 3 failures in a row; last failure: turn 0: the engine returns no text of its output, which the history of the next turn needs: use `replies = "fixed"`"#);
    let record = lab.record();
    assert_eq!(iterations(&record, 0).values().map(Vec::len).collect::<Vec<_>>(), [1; 3], "and not within one");
    assert_eq!(measured(&record)[0].cause, Some(Cause::NoText));
    insta::assert_snapshot!(measured(&record)[0].reason, @r#"turn 0: the engine returns no text of its output, which the history of the next turn needs: use `replies = "fixed"`"#);
    let lab = Lab::new();
    let fixed = exec(&lab, &["--reuse", "--no-text"], &format!("replies = \"fixed\"\n{rest}"));
    measure(&lab, &fixed, 0);
    assert_eq!(statuses(&lab.record()), [Status::Ok; 45], "where it is not needed, nobody asks for it");
}

#[test]
fn reuse_that_was_not_asked_for_is_invalid_and_a_lost_cache_is_told() {
    let lab = Lab::new();
    let rest = "[run]\niterations = 3\nwarmup = 0\n[toggles]\nkv_reuse = \"none\"\n";
    let scenario = exec(&lab, &["--reused", "1", "--toggles", "kv_reuse"], rest);
    measure(&lab, &scenario, 4);
    let record = lab.record();
    let first = measured(&record)[0];
    assert_eq!(first.cause, Some(Cause::Reuse));
    insta::assert_snapshot!(first.reason, @"turn 0: 1 tokens were reused although the cache had been reset");
    let lab = Lab::new();
    // The second iteration's fourth turn.
    let scenario = exec(&lab, &["--reuse", "--forget", "9"], "[run]\niterations = 2\nwarmup = 0\n");
    let done = measure(&lab, &scenario, 0);
    let record = lab.record();
    let lost: Vec<_> =
        measured(&record).into_iter().filter(|row| row.turn > 0 && row.reused_tokens == Some(0)).collect();
    assert_eq!(lost.iter().map(|row| (row.iteration, row.turn)).collect::<Vec<_>>(), [(2, 3)]);
    insta::assert_snapshot!(line(&done.stdout, "exec: turn"), @r#"exec: turn 3 reused nothing from the KV cache; the whole history was computed again"#);
}

#[test]
fn a_turn_whose_tokens_differ_is_named() {
    let lab = Lab::new();
    let scenario = exec(&lab, &["--reuse", "--nondeterministic"], "replies = \"fixed\"\n[run]\niterations = 2\n");
    let done = measure(&lab, &scenario, 4);
    insta::assert_snapshot!(line(&done.stderr, "warning: cell `exec` is nondeterministic"), @r#"warning: cell `exec` is nondeterministic: iteration 2 differs from the first from token 0 of turn 0 on"#);
    insta::assert_snapshot!(line(&done.stdout, "exec: nondeterministic"), @r#"exec: nondeterministic: different tokens in iteration 2 from token index 0 of turn 0 on"#);
    let group = &Summary::of(&lab.record()).cells[0].hashes[1];
    assert_eq!((group.first_differing_turn, group.first_differing_index), (Some(0), Some(0)));
}

/// A kill in the middle of a conversation loses that iteration; those before it stay.
#[test]
fn a_killed_run_goes_on_with_the_conversation_that_was_broken_off() {
    let lab = Lab::new();
    let started = lab.path("started");
    let scenario = exec(
        &lab,
        &["--reuse", "--token-ms", "4", "--started", started.to_str().unwrap()],
        "[run]\niterations = 4\nwarmup = 0\n",
    );
    let mut child = lab.program(&["run", scenario.to_str().unwrap()]).spawn().unwrap();
    // One complete conversation and a part of the second.
    until("the second conversation has begun", || {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it was killed");
        (fs_err::metadata(&started).is_ok_and(|file| file.len() >= 8)).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let before: Vec<RequestRow> = lab.record().requests;
    assert!(!before.is_empty() && before.len().is_multiple_of(TURNS.len()), "{} rows: whole iterations", before.len());
    let begun = usize::try_from(fs_err::metadata(&started).unwrap().len()).unwrap();
    assert!(begun < before.len() + 2 * TURNS.len(), "at most the one in flight was lost");
    let done = lab.resume(&[]);
    let record = lab.record();
    done.expect(0);
    assert_eq!(record.requests[..before.len()], before, "what was committed is not touched");
    let all = iterations(&record, 0);
    assert_eq!(all.len(), 4);
    assert!(
        all.values()
            .all(|rows| rows[0].turn == 0
                && rows.iter().map(|row| row.turn).collect::<BTreeSet<_>>().len() == rows.len())
    );
    assert_eq!(record.manifest.state, FinishState::Finished);
    assert_eq!(measured(&record).len(), 20);
}

#[test]
fn stopping_at_once_leaves_no_half_of_a_conversation() {
    let lab = Lab::new();
    let started = lab.path("started");
    let scenario = exec(
        &lab,
        &["--reuse", "--token-ms", "20", "--started", started.to_str().unwrap()],
        "[run]\niterations = 3\nwarmup = 0\n",
    );
    let child = lab.program(&["run", scenario.to_str().unwrap()]).spawn().unwrap();
    let begun = |turns: u64| fs_err::metadata(&started).is_ok_and(|file| file.len() >= turns).then_some(());
    until("a conversation is in its second turn", || begun(2));
    signal(child.id(), Signal::INT);
    until("which does not end it", || begun(4));
    signal(child.id(), Signal::INT);
    lab.wait(child).expect(130);
    assert_eq!(lab.record().requests, [], "four turns are no conversation");
    let done = lab.resume(&[]);
    let record = lab.record();
    done.expect(0);
    assert_eq!(measured(&record).len(), 15);
}

#[test]
fn every_form_of_the_summary_has_the_turns() {
    let lab = Lab::new();
    let scenario = exec(&lab, &["--reuse"], "[run]\niterations = 6\n");
    lab.run(&["run", scenario.to_str().unwrap()]).expect(0);
    let run = lab.run_folder().unwrap();
    let shown = |format: &str| lab.run(&["report", run.to_str().unwrap(), "--format", format]).expect(0).stdout;
    let json: Json = serde_json::from_str(&shown("json")).unwrap();
    let turns = json["cells"][0]["turns"].as_array().unwrap();
    assert_eq!(turns.len(), 5);
    assert_eq!(turns[0]["reused_tokens"], json!({ "least": 0, "most": 0 }));
    assert!(turns[4]["metrics"]["ttft_ms"]["median"].as_f64().unwrap() > 0.0);
    let csv = shown("csv");
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let head = rows.headers().unwrap().clone();
    let place = |name: &str| head.iter().position(|n| n == name).unwrap();
    let reused: Vec<(String, String)> = rows
        .records()
        .map(Result::unwrap)
        .filter(|row| &row[place("metric")] == "reused_tokens")
        .map(|row| (row[place("turn")].to_owned(), row[place("median")].to_owned()))
        .collect();
    assert_eq!(reused.len(), 5);
    assert_eq!(reused[0], ("0".to_owned(), "0".to_owned()));
    let markdown = shown("md");
    let head = markdown.lines().position(|line| line.starts_with("| cell | turn |")).expect("a table of the turns");
    let table = markdown.lines().skip(head + 2).take_while(|line| line.starts_with('|'));
    let turns = table.map(|row| row.split(" | ").nth(1).unwrap());
    assert_eq!(turns.collect::<Vec<_>>(), ["0", "1", "2", "3", "4"], "{markdown}");
    let folder = lab.path("reports").join(run.file_name().unwrap());
    let page = fs_err::read_to_string(folder.join("index.html")).unwrap();
    assert!(elements(&page, "h2").contains(&"Turn by turn".to_owned()), "{:?}", elements(&page, "h2"));
    let folded = elements(&page, "summary");
    assert!(["5 turns", "The conversation"].iter().all(|name| folded.iter().any(|found| found == name)), "{folded:?}");
    for chart in ["turn-ttft", "turn-prefill", "decode-rate"] {
        assert!(folder.join(format!("charts/{chart}.svg")).is_file(), "{chart}");
    }
}
