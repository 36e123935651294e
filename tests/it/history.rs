//! Histories of many runs, from simulated records.

use std::collections::BTreeSet;

use inferometer::compare::history::{Entry, Filter, History, history};
use inferometer::compare::runs::Change;
use inferometer::record::metric;
use inferometer::record::metric::{METRICS, Metric};
use inferometer::record::{Cause, GitState, Record};
use inferometer::report::history as shown;
use inferometer_stats::robust;

use crate::lab::{Lab, without_hashes};
use crate::simulated_run::{HOSTILE, Simulation, poison, save, spoil};

fn simulation() -> Simulation {
    Simulation { caps: vec![0], lengths: vec![512, 2048], iterations: 6, warmup: 0, max_tokens: 8, interval_ms: 0 }
}

/// A run on that day, with every value changed by up to 1 % depending on the day.
fn run(simulation: &Simulation, day: u32) -> Record {
    let mut record = simulation.record();
    record.manifest.origin_utc = format!("2026-{:02}-{:02}T09:21:13.000Z", 1 + day / 28, 1 + day % 28);
    record.manifest.run = format!("run-{day:03}");
    record.manifest.git =
        Some(GitState { commit: format!("{:040x}", (u128::from(day) + 1) << 112), dirty: day.is_multiple_of(2) });
    let wiggle = 1.0 + 0.01 * (f64::from(day * 7 % 19) - 9.0) / 9.0;
    record.requests.iter_mut().for_each(|row| row.decode_tps = row.decode_tps.map(|v| v * wiggle));
    record
}

/// Twenty runs; from the twelfth on decode of the second cell is 12 % slower.
fn runs() -> Vec<Record> {
    let mut runs: Vec<Record> = (0..20).map(|day| run(&simulation(), day)).collect();
    for record in &mut runs[11..] {
        for row in record.requests.iter_mut().filter(|row| row.cell == 1) {
            row.decode_tps = row.decode_tps.map(|v| v * 0.88);
        }
    }
    runs
}

fn filter(keys: &[&str]) -> Filter {
    let metrics: Vec<&'static Metric> = keys.iter().map(|key| metric::find(key).unwrap()).collect();
    Filter { metrics, cell: None, scenario: None }
}

fn of(records: &[Record], filter: &Filter) -> History {
    // In any order: a history sorts by time.
    history(records.iter().rev().map(|record| Entry::of(record).unwrap()).collect(), filter)
}

#[test]
fn a_step_is_marked_where_it_is_and_nothing_else() {
    let history = of(&runs(), &filter(&["decode_tps", "kv_cache_bytes", "tokenize_ms"]));
    let found: Vec<(&str, &str, usize)> =
        history.series.iter().map(|s| (s.cell.as_str(), s.metric.as_str(), s.changes.len())).collect();
    assert_eq!(
        found,
        [
            ("len=512", "decode_tps", 0),
            ("len=512", "kv_cache_bytes", 0),
            ("len=2048", "decode_tps", 1),
            ("len=2048", "kv_cache_bytes", 0),
        ],
        "what was never measured has no series"
    );
    let series = &history.series[2];
    let change = &series.changes[0];
    assert_eq!((change.at, change.run.as_str(), change.change), (11, "run-011", Change::Worse));
    assert!((change.ratio() - 0.88).abs() < 0.01, "{change:?}");
    assert!(series.points.windows(2).all(|pair| pair[0].started_utc < pair[1].started_utc));
}

#[test]
fn other_machines_and_other_work_are_other_series() {
    let mut records: Vec<Record> = (0..4).map(|day| run(&simulation(), day)).collect();
    records[1].manifest.machine.cpu = Some("Another CPU".to_owned());
    records[2].manifest.scenario.sampling.temperature = 0.5;
    records[3].manifest.inferometer_version = "9.9.9".to_owned();
    let history = of(&records, &Filter { cell: Some("2048".to_owned()), ..filter(&["decode_tps"]) });
    let lengths: Vec<usize> = history.series.iter().map(|series| series.points.len()).collect();
    assert_eq!(lengths.iter().sum::<usize>(), 4);
    // The temperature was changed in the scenario only; each cell keeps its own copy.
    assert_eq!(lengths, [1, 3]);
    records[2].manifest.plan.cells.iter_mut().for_each(|cell| cell.sampling.temperature = 0.5);
    let history = of(&records, &Filter { cell: Some("2048".to_owned()), ..filter(&["decode_tps"]) });
    assert_eq!(history.series.len(), 3);
    let table = shown::table(&history);
    let titles = table.split("\nlong-context: ").skip(1).map(|series| series.split("\nwhen ").next().unwrap());
    let titles: Vec<&str> = titles.collect();
    assert_eq!(titles.iter().collect::<BTreeSet<_>>().len(), 3, "each series is told apart: {titles:?}");
    insta::assert_snapshot!(without_hashes(&titles.join("\n")), @r#"
    len=2048 (work [HASH])
      on Another CPU, 4 cores, 64.0 GiB, Linux x86_64
    len=2048 (work [HASH])
      on Example CPU 9000, 4 cores, 64.0 GiB, Linux x86_64
    len=2048 (work [HASH])
      on Example CPU 9000, 4 cores, 64.0 GiB, Linux x86_64
    "#);
    assert!(of(&records, &Filter { scenario: Some("other".to_owned()), ..filter(&["decode_tps"]) }).series.is_empty());
}

#[test]
fn a_run_without_a_value_is_a_gap_and_never_zero() {
    let mut records = runs();
    for iteration in 1..=6 {
        spoil(&mut records[4], 1, iteration, Cause::Died, "crashed");
    }
    let history = of(&records, &filter(&["decode_tps"]));
    let point = &history.series[1].points[4];
    assert_eq!((point.figures, point.counts.failed), (None::<robust::Summary>, 6));
    assert_eq!(history.series[1].changes[0].at, 11, "positions count the gap");
    let csv = shown::csv(&history);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 40);
    assert_eq!((&rows[24][11], &rows[24][12]), ("0", ""));
    assert_eq!(rows.iter().filter(|row| !row[16].is_empty()).count(), 1);
    let json: History = serde_json::from_str(&shown::json(&history)).unwrap();
    assert_eq!(json, history);
}

#[test]
fn the_table_fits_the_terminal() {
    let table = shown::table(&of(&runs(), &filter(&["decode_tps", "peak_rss_bytes"])));
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let long = of(&runs(), &Filter { cell: Some("2048".to_owned()), ..filter(&["decode_tps"]) });
    insta::assert_snapshot!(shown::table(&long).split("\nthe newest").next().unwrap(), @r"
    20 runs, 1 series, 1 change point

    long-context: len=2048
      on Example CPU 9000, 4 cores, 64.0 GiB, Linux x86_64
    when (UTC)        commit         n  decode      interval  change point
                                         tok/s
    ─────────────────────────────────────────────────────────────────────────
    2026-01-09 09:21  000000000009+  6    79.6  [74.4, 80.7]
    2026-01-10 09:21  00000000000a   6    78.6  [73.4, 79.7]
    2026-01-11 09:21  00000000000b+  6    79.2  [74.0, 80.3]
    2026-01-12 09:21  00000000000c   6    68.7  [64.2, 69.7]  -12.1 %, worse
    2026-01-13 09:21  00000000000d+  6    69.3  [64.8, 70.3]
    2026-01-14 09:21  00000000000e   6    69.8  [65.3, 70.8]
    2026-01-15 09:21  00000000000f+  6    68.9  [64.4, 69.9]
    2026-01-16 09:21  000000000010   6    69.4  [64.9, 70.4]
    2026-01-17 09:21  000000000011+  6    70.0  [65.4, 71.0]
    2026-01-18 09:21  000000000012   6    69.1  [64.5, 70.0]
    2026-01-19 09:21  000000000013+  6    69.6  [65.0, 70.6]
    2026-01-20 09:21  000000000014   6    68.7  [64.2, 69.6]
    ");
}

#[test]
fn hostile_text_stays_text() {
    let mut records = runs();
    for record in &mut records {
        let started = record.manifest.origin_utc.clone();
        poison(record, HOSTILE);
        record.manifest.origin_utc = started;
        record.manifest.run = HOSTILE.to_owned();
        record.manifest.inferometer_version = HOSTILE.to_owned();
        record.manifest.git = Some(GitState { commit: HOSTILE.to_owned(), dirty: false });
    }
    let history = of(&records, &filter(&["decode_tps"]));
    let folder = tempfile::tempdir().unwrap();
    let page = fs_err::read_to_string(shown::write(&history, folder.path()).unwrap()).unwrap();
    for text in [&page, &shown::table(&history), &shown::markdown(&history)] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    }
    assert!(!page.contains("<script") && !page.contains("<!--") && !shown::markdown(&history).contains("<script"));
}

#[test]
fn series_of_one_run_are_counted_not_printed() {
    let lab = Lab::new();
    let results = lab.path("results");
    let small = Simulation { lengths: vec![512], iterations: 1, ..simulation() };
    save(&run(&small, 0), &results);
    let shown = lab.run(&["history"]).expect(0).stdout;
    assert!(shown.contains("5 series with one run are not shown; --all shows them"), "{shown}");
    assert!(!shown.contains("when (UTC)"), "{shown}");
    let all = lab.run(&["history", "--all"]).expect(0).stdout;
    assert!(all.contains("when (UTC)") && !all.contains("not shown"), "{all}");
}

#[test]
fn the_verb_leaves_out_what_it_cannot_read_and_says_so() {
    let lab = Lab::new();
    let results = lab.path("results");
    let small = Simulation { lengths: vec![512], iterations: 1, ..simulation() };
    for day in 0..9 {
        save(&run(&small, day), &results);
    }
    let mut undated = run(&small, 9);
    undated.manifest.origin_utc = "yesterday".to_owned();
    let broken = save(&run(&small, 10), &results);
    fs_err::write(broken.join("requests.csv"), "nonsense").unwrap();
    lab.write("results/run-json/run.json", "{");
    lab.write("results/session/ab.json", "{}");
    lab.write("results/notes.txt", "hello");

    let done = lab.run(&["history"]).expect(0);
    let name = broken.file_name().unwrap().to_str().unwrap();
    insta::assert_snapshot!(done.stderr.replace(name, "[BROKEN]"), @r#"
    warning: skipped results/[BROKEN]: results/[BROKEN]/requests.csv, line 1: the header is missing
    warning: skipped results/run-json: results/run-json/run.json: not a valid run.json: EOF while parsing an object at line 1 column 1
    history: reports/history/index.html
    "#);
    insta::assert_snapshot!(done.stdout.lines().next().unwrap(), @r#"9 runs, 5 series, 0 change points"#);
    let page = fs_err::read_to_string(lab.path("reports/history/index.html")).unwrap();
    assert_eq!(page.matches("<circle").count(), 5 * 9, "a dot a run and series");
    assert!(lab.path("reports/history/charts/series-4.svg").is_file());
    assert_eq!(Entry::of(&undated).unwrap_err(), "its origin_utc \"yesterday\" is not a time");

    for (format, begins) in [("json", "{\n  \"history_version\": 1"), ("csv", "scenario,machine"), ("md", "## History")]
    {
        let arguments = ["history", "results", "--metric", "decode_tps,load_s", "--format", format];
        let done = lab.run(&arguments).expect(0);
        assert!(done.stdout.starts_with(begins), "{}", done.stdout);
    }
    let refused: [&[&str]; 4] = [&["--metric", "speed"], &["--cell", "len=7"], &["nowhere"], &["results/session"]];
    let told = refused.map(|arguments| lab.run(&[&["history", "-q"], arguments].concat()).expect(2).stderr);
    let metrics: Vec<&str> = METRICS.iter().map(|metric| metric.key).collect();
    let told = told.join("\n").replace(name, "[BROKEN]").replace(&metrics.join(", "), "[METRICS]");
    insta::assert_snapshot!(told, @r#"
    error: unknown metric `speed`: use one of [METRICS], load_s, or all

    warning: skipped results/[BROKEN]: results/[BROKEN]/requests.csv, line 1: the header is missing
    warning: skipped results/run-json: results/run-json/run.json: not a valid run.json: EOF while parsing an object at line 1 column 1
    error: none of the 9 in results matches --metric, --cell and --scenario

    error: cannot read the results folder; name it with --results: failed to read directory `nowhere`: No such file or directory (os error 2)

    error: no runs in results/session; record one with `inferometer run SCENARIO`
    "#);
}
