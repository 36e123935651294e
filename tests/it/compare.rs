//! Comparisons of two runs, from simulated records and from runs made here.

use std::path::Path;

use inferometer::compare::many;
use inferometer::compare::outputs::Outputs;
use inferometer::compare::runs::{CellComparison, Change, Comparison, compare};
use inferometer::record::metric::METRICS;
use inferometer::record::{Cause, FinishState, Record, RequestRow};
use inferometer::report::compare as shown;
use inferometer_protocol::{TokenTiming, Value};

use crate::lab::Lab;
use crate::simulated_run::{HOSTILE, Simulation, diverge, poison, save, spoil};

fn simulated() -> Record {
    Simulation { lengths: vec![512, 2048], ..Simulation::default() }.record()
}

/// Another run of the same scenario, every value a little different.
fn later() -> Record {
    let mut record = simulated();
    record.manifest.run = "20261121T092113Z-long-context-1a2b3c4d".to_owned();
    record.manifest.origin_utc = "2026-11-21T09:21:13.000Z".to_owned();
    for row in &mut record.requests {
        let wiggle = 1.0 + 0.004 * (f64::from(row.iteration * 7 % 11) - 5.0) / 5.0;
        scale(row, wiggle);
    }
    record
}

/// Makes a request's decode slower by a factor.
fn scale(row: &mut RequestRow, factor: f64) {
    row.decode_tps = row.decode_tps.map(|v| v / factor);
    row.tpot_ms = row.tpot_ms.map(|v| v * factor);
}

fn change(cell: &CellComparison, key: &str) -> Change {
    cell.metric(key).unwrap().change
}

#[test]
fn a_slower_decode_is_found_where_it_is_and_nowhere_else() {
    let (a, mut b) = (simulated(), later());
    b.requests.iter_mut().filter(|row| row.cell == 1).for_each(|row| scale(row, 1.1));
    let comparison = compare(&a, &b);
    assert_eq!(comparison.cells.len(), 4);
    for cell in &comparison.cells {
        let slower = cell.cell_b == 1;
        for figures in &cell.metrics {
            let of_decode = matches!(figures.metric.as_str(), "decode_tps" | "tpot_ms");
            let wanted = if slower && of_decode { Change::Worse } else { Change::NotShown };
            let unmeasured = figures.a.is_none();
            assert!(unmeasured || figures.metric == "load_s" || figures.change == wanted, "{}: {figures:?}", cell.name);
        }
    }
    let decode = comparison.cells[1].metric("decode_tps").unwrap();
    let (ratio, interval) = (decode.ratio.unwrap(), decode.interval.unwrap());
    assert!((ratio - 1.0 / 1.1).abs() < 0.01, "{ratio}");
    assert!(interval.lo <= ratio && ratio <= interval.hi && interval.hi < 1.0, "{interval:?}");
    assert!(comparison.cells[1].metric("tpot_ms").unwrap().ratio.unwrap() > 1.08, "the same from the other side");
    assert!(comparison.differences.is_empty(), "{:?}", comparison.differences);

    let back = compare(&b, &a);
    assert_eq!(change(&back.cells[1], "decode_tps"), Change::Better);
    assert_eq!(change(&back.cells[1], "tpot_ms"), Change::Better);
}

#[test]
fn what_was_not_measured_is_never_a_number() {
    let (a, b) = (simulated(), later());
    let comparison = compare(&a, &b);
    let cell = &comparison.cells[0];
    assert_eq!(change(cell, "tokenize_ms"), Change::NotMeasured);
    assert_eq!(change(cell, "load_s"), Change::NotTested, "one host a side");
    let json: serde_json::Value = serde_json::from_str(&shown::json(&comparison)).unwrap();
    assert_eq!(json["outcome"], "trend");
    let metric =
        |key: &str| json["cells"][0]["metrics"].as_array().unwrap().iter().find(|m| m["metric"] == key).unwrap();
    for field in ["a", "b", "ratio", "interval", "p_value"] {
        assert!(metric("tokenize_ms")[field].is_null(), "{field}");
    }
    let back: Comparison = serde_json::from_value(json).unwrap();
    assert_eq!(back, comparison);
    let csv = shown::csv(std::slice::from_ref(&comparison));
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4 * (METRICS.len() + 1), "every metric, and loading");
    let absent = rows.iter().find(|row| &row[5] == "tokenize_ms").unwrap();
    assert_eq!([&absent[7], &absent[8], &absent[11], &absent[15], &absent[16]], ["0", "", "", "", "not_measured"]);
}

#[test]
fn few_iterations_are_not_tested() {
    let (mut a, mut b) = (simulated(), later());
    a.requests.retain(|row| row.iteration <= 3);
    b.requests.retain(|row| row.iteration <= 4);
    let comparison = compare(&a, &b);
    assert_eq!(comparison.tests, 0);
    let decode = comparison.cells[0].metric("decode_tps").unwrap();
    assert_eq!((decode.change, decode.interval, decode.p_value), (Change::NotTested, None, None));
    assert!(decode.ratio.is_some(), "the ratio can be seen, not judged");
    assert_eq!((comparison.a.counts.missing(), comparison.b.counts.missing()), (28, 24));
}

#[test]
fn outputs_come_before_speed() {
    let (a, mut b) = (simulated(), later());
    for iteration in 1..=10 {
        diverge(&mut b, 2, iteration, 17);
    }
    diverge(&mut b, 3, 5, 9);
    b.requests.iter_mut().filter(|row| row.cell == 1).for_each(|row| row.token_hash = None);
    let comparison = compare(&a, &b);
    let outputs: Vec<&Outputs> = comparison.cells.iter().map(|cell| &cell.outputs).collect();
    assert_eq!(
        outputs,
        [
            &Outputs::Same,
            &Outputs::Unknown,
            &Outputs::Differ { index: Some(17), turn: None },
            &Outputs::Several { a: 1, b: 2, common: 1 },
        ]
    );
    let table = shown::table(&comparison, false);
    let said = table.find("OUTPUTS DIFFER in 2 of 4 cells").expect("it is said");
    assert!(said < table.find("Decode tok/s").unwrap(), "{table}");
    let cells: Vec<&str> = table.lines().filter(|line| line.starts_with("cap=")).collect();
    insta::assert_snapshot!(cells.join("\n"), @r#"
    cap=0 len=512: 10 and 10 iterations, same tokens
    cap=0 len=2048: 10 and 10 iterations, tokens not known
    cap=768 len=512: 10 and 10 iterations, other tokens from index 17 on
    cap=768 len=2048: 10 and 10 iterations, 1 output in A, 2 in B, 1 in common
    "#);
}

#[test]
fn what_sets_the_runs_apart_is_said() {
    let (mut a, mut b) = (simulated(), later());
    a.manifest.plan.cells.truncate(2);
    a.manifest.plan.order.iter_mut().for_each(|round| round.retain(|id| *id < 2));
    a.requests.retain(|row| row.cell < 2);
    b.manifest.scenario.engines[0].label = "mlx".to_owned();
    for cell in &mut b.manifest.plan.cells {
        cell.toggles.insert("threads".to_owned(), Value::Int(4));
        if cell.length == Some(2048) {
            cell.length = Some(4096);
        }
    }
    b.manifest.hosts[0].receipt.backend = Some("MLX 0.33".to_owned());
    b.manifest.machine.governor = Some("powersave".to_owned());
    b.manifest.machine.cpu_features.pop();
    b.manifest.git = None;
    b.manifest.scenario.run.order_seed = 43;
    b.manifest.state = FinishState::Interrupted;
    a.manifest.segments = 2;
    spoil(&mut a, 0, 1, Cause::Died, "crashed");
    let comparison = compare(&a, &b);
    assert_eq!((comparison.cells.len(), comparison.only_a.len(), comparison.only_b.len()), (1, 1, 3));
    let table = shown::table(&comparison, false);
    insta::assert_snapshot!(table, @r#"
    A  20261120T092113Z-long-context-1a2b3c4d
       long-context, started 2026-11-20T09:21:13.000Z, commit 0123456789ab with
       changes, 19 of 20 iterations ok, 1 failed
    B  20261121T092113Z-long-context-1a2b3c4d
       long-context, started 2026-11-21T09:21:13.000Z, 40 of 40 iterations ok

    trend, not a verdict: the runs were made at different times, and on a shared
      machine a comparison like this reports a change for more than half of
      identical builds; use `inferometer ab` for a verdict
    engine is transformer in all of A and mlx in all of B; cells are matched by
      everything else
    threads is 2 in all of A and 4 in all of B; cells are matched by everything else
    A was resumed: its iterations come from 2 run segments
    B was interrupted
    only in A: cap=0 len=2048
    only in B: cap=0 len=2048, cap=768 len=512 and cap=768 len=2048

    differs                        A                         B
    ───────────────────────────────────────────────────────────────────
    program   commit               0123456789ab with         –
                                   changes
    machine   CPU feature avx512f  yes                       –
              frequency governor   –                         powersave
    engine    backend              candle 0.11.1             MLX 0.33
    scenario  run.order_seed       42                        43

    cap=0 len=512: 9/10 and 10 iterations, same tokens
    metric                 A        B     B/A      interval %      p  trend
    ────────────────────────────────────────────────────────────────────────────
    Prefill tok/s        956      955   0.0 %    [-0.6, +0.6]  1.000  not shown
    Decode tok/s        99.4     99.2  -0.1 %    [-1.2, +0.9]   .806  not shown
    TTFT ms              537      537   0.0 %    [-0.6, +0.6]  1.000  not shown
    ITL p50 ms          10.0     10.0   0.0 %    [-0.6, +0.7]   .935  not shown
    ITL p99 ms          10.3     10.3   0.0 %  [-17.8, +21.7]   .935  not shown
    Peak memory      192 MiB  192 MiB   0.0 %      [0.0, 0.0]  1.000  not shown

    B/A: shift of the values of all iterations, with its 95 % interval. The interval
      is about these two runs, not about the builds. Worse, better: 12 tests
      (Mann-Whitney); 5 % or less of these results are false positives on average
      (Benjamini-Hochberg). "Not shown" does not mean unchanged
    synthetic model: random weights, so speed and memory are meaningful, but the
      text is not
    "#);
}

#[test]
fn exact_and_inexact_stamps_are_not_ranked() {
    let (a, mut b) = (simulated(), later());
    b.manifest.hosts[0].receipt.token_timing = TokenTiming::Inexact;
    let comparison = compare(&a, &b);
    let cell = &comparison.cells[0];
    assert_eq!((change(cell, "decode_tps"), cell.metric("decode_tps").unwrap().ratio), (Change::NotRanked, None));
    assert_eq!(change(cell, "peak_rss_bytes"), Change::NotShown, "memory has no stamps");
}

#[test]
fn the_table_fits_the_terminal_and_markdown_its_columns() {
    let (a, mut b) = (simulated(), later());
    b.requests.iter_mut().filter(|row| row.cell == 1).for_each(|row| scale(row, 31.7));
    let comparison = compare(&a, &b);
    for table in [shown::table(&comparison, false), shown::table(&comparison, true)] {
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }
    // Without `--all`: the snapshot of what sets the runs apart.
    let all = shown::table(&comparison, true);
    let cell = all.split("\n\n").find(|part| part.starts_with("cap=0 len=512: ")).unwrap();
    // A new metric lengthens it.
    insta::assert_snapshot!(cell.lines().take(7).collect::<Vec<_>>().join("\n"), @r#"
    cap=0 len=512: 10 and 10 iterations, same tokens
    metric                  A         B     B/A      interval %      p  trend
    ───────────────────────────────────────────────────────────────────────────────
    Prefill tok/s         955       955   0.0 %    [-0.6, +0.6]  1.000  not shown
    Decode tok/s         99.4      99.2  -0.1 %    [-0.9, +0.9]   .880  not shown
    TTFT ms               537       537   0.0 %    [-0.6, +0.6]  1.000  not shown
    TPOT ms              10.1      10.1  +0.1 %    [-0.9, +1.0]   .880  not shown
    "#);
    assert!(cell.lines().last().unwrap().starts_with("Load s "), "{cell}");
    let unwrapped = all.replace("\n  ", " ");
    let missing = unwrapped.lines().find(|line| line.starts_with("not measured: ")).unwrap();
    assert!(missing.contains("Tokenize, Engine peak, ") && !missing.contains("Peak footprint"), "{missing}");
    let markdown = shown::markdown(&comparison);
    let widths: Vec<usize> = markdown.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
    assert!(widths.len() > 30 && widths.iter().all(|width| *width == 9), "{markdown}");
}

#[test]
fn hostile_text_stays_text() {
    let (mut a, mut b) = (simulated(), later());
    poison(&mut a, HOSTILE);
    poison(&mut b, &format!("{HOSTILE} two"));
    a.manifest.run = HOSTILE.to_owned();
    let comparison = compare(&a, &b);
    for text in [shown::table(&comparison, true), shown::markdown(&comparison)] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    }
    assert!(!shown::markdown(&comparison).contains("<script"));
}

#[test]
fn the_verb_says_a_trend_and_never_fails_for_it() {
    let lab = Lab::new();
    let results = lab.path("results");
    let (a, mut b) = (simulated(), later());
    b.requests.iter_mut().for_each(|row| scale(row, 2.0));
    let (a, b) = (save(&a, &results), save(&b, &results));
    let name = a.file_name().unwrap().to_str().unwrap();
    let read = |dir: &Path| inferometer::record::read(dir).unwrap();
    let done = lab.run(&["compare", name, b.to_str().unwrap()]).expect(0);
    let comparison = compare(&read(&a), &read(&b));
    assert_eq!(change(&comparison.cells[0], "decode_tps"), Change::Worse);
    assert_eq!(done.stdout, shown::table(&comparison, false));
    for (format, begins) in
        [("json", "{\n  \"comparison_version\": 1"), ("md", "## Comparison"), ("csv", "run_a,run_b")]
    {
        let done = lab.run(&["compare", name, b.to_str().unwrap(), "--format", format]).expect(0);
        assert!(done.stdout.starts_with(begins), "{}", done.stdout);
    }
    insta::assert_snapshot!(lab.run(&["compare", name, "nowhere"]).shown(&lab), @r#"
    exit 2
    --- stderr
    error: no run nowhere (also looked in results); `inferometer results list` shows the recorded runs
    "#);
    insta::assert_snapshot!(lab.run(&["compare", name]).shown(&lab), @r#"
    exit 2
    --- stderr
    error: the following required arguments were not provided:
      <RUN_B>

    Usage: inferometer compare <RUN_A> <RUN_B> [RUN]...

    For more information, try '--help'.
    "#);
    let same = lab.run(&["compare", name, name]).expect(0);
    let (head, _) = same.stdout.split_once("\n\ncap=").unwrap();
    insta::assert_snapshot!(head, @r#"
    A  20261120T092113Z-long-context-5f70bf18
       long-context, started 2026-11-20T09:21:13.000Z, commit 0123456789ab with
       changes, 40 of 40 iterations ok
    B  20261120T092113Z-long-context-5f70bf18
       long-context, started 2026-11-20T09:21:13.000Z, commit 0123456789ab with
       changes, 40 of 40 iterations ok

    trend, not a verdict: the runs were made at different times, and on a shared
      machine a comparison like this reports a change for more than half of
      identical builds; use `inferometer ab` for a verdict
    A and B are the same run
    "#);
}

#[test]
fn two_real_runs_are_compared() {
    let lab = Lab::new();
    let scenario = lab.exec(&["--token-ms", "1"], "[run]\niterations = 4\n");
    let mut runs = Vec::new();
    for results in ["first", "second"] {
        lab.measure(&scenario, &["--results", results]).expect(0);
        let folder = fs_err::read_dir(lab.path(results)).unwrap().next().unwrap().unwrap().path();
        runs.push(folder.to_str().unwrap().to_owned());
    }
    let done = lab.run(&["compare", &runs[0], &runs[1], "--format", "json"]).expect(0);
    let comparison: Comparison = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(comparison.cells.len(), 1);
    let cell = &comparison.cells[0];
    assert_eq!((&cell.outputs, cell.prompts_differ), (&Outputs::Same, Some(false)));
    assert!(comparison.differences.is_empty(), "{:?}", comparison.differences);
    let decode = cell.metric("decode_tps").unwrap();
    assert!(decode.a.unwrap().median > 0.0 && decode.b.unwrap().median > 0.0);
}

/// Three later runs of the same scenario. The second decodes slower in one cell, the third has
/// another engine and other tokens.
fn three() -> [Record; 3] {
    let (same, mut slower, mut other) = (later(), later(), later());
    for (record, name) in [(&mut slower, "20261122T092113Z-slower"), (&mut other, "20261123T092113Z-other")] {
        record.manifest.run = name.to_owned();
    }
    slower.requests.iter_mut().filter(|row| row.cell == 1).for_each(|row| scale(row, 1.1));
    slower.manifest.machine.governor = Some("powersave".to_owned());
    other.manifest.scenario.engines[0].label = "mlx".to_owned();
    (1..=10).for_each(|iteration| diverge(&mut other, 0, iteration, 41));
    [same, slower, other]
}

#[test]
fn more_runs_are_compared_with_the_first_and_judged_together() {
    let compared = many::compare(&simulated(), &three());
    let tests: usize = [1, 2].map(|n| many::compare(&simulated(), &three()[..n]).tests).iter().sum();
    assert_eq!(compared.tests, tests, "all tests of all pairs");
    assert!(compared.comparisons.iter().all(|of| of.tests == compared.tests));
    // Judged together: an adjusted p-value depends on the tests of the other pairs.
    let alone = compare(&simulated(), &three()[1]);
    let adjusted = |of: &Comparison| of.cells[1].metric("decode_tps").unwrap().p_adjusted.unwrap();
    assert!(adjusted(&compared.comparisons[1]) > adjusted(&alone));
    assert_eq!(change(&compared.comparisons[1].cells[1], "decode_tps"), Change::Worse);
    let table = shown::many::table(&compared, false);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let (head, _) = table.split_once("\n\ncap=0 len=512\n").unwrap();
    insta::assert_snapshot!(head, @r#"
    A  20261120T092113Z-long-context-1a2b3c4d
       long-context, started 2026-11-20T09:21:13.000Z, commit 0123456789ab with
       changes, 40 of 40 iterations ok
    B  20261121T092113Z-long-context-1a2b3c4d
       long-context, started 2026-11-21T09:21:13.000Z, commit 0123456789ab with
       changes, 40 of 40 iterations ok
    C  20261122T092113Z-slower
       long-context, started 2026-11-21T09:21:13.000Z, commit 0123456789ab with
       changes, 40 of 40 iterations ok
    D  20261123T092113Z-other
       long-context, started 2026-11-21T09:21:13.000Z, commit 0123456789ab with
       changes, 40 of 40 iterations ok

    trend, not a verdict: the runs were made at different times, and on a shared
      machine a comparison like this reports a change for more than half of
      identical builds; use `inferometer ab` for a verdict
    A and D: OUTPUTS DIFFER in 1 of 4 cells: cap=0 len=512: other tokens from index
      41 on
    A and D: engine is transformer in all of A and mlx in all of D; cells are
      matched by everything else

    differs                      A  B  C          D
    ────────────────────────────────────────────────
    machine  frequency governor  –  –  powersave  –

    decode, cap=0 len=2048: C 0.909 times as fast as A [0.902, 0.916]; no clear
      difference: B and D
    "#);
    let first = table.split("\n\n").find(|part| part.starts_with("cap=0 len=2048\n")).unwrap();
    insta::assert_snapshot!(first, @r#"
    cap=0 len=2048
    metric                 A                B                C                D
    ────────────────────────────────────────────────────────────────────────────
    Prefill tok/s        853  0.0 % not shown  0.0 % not shown  0.0 % not shown
                                 [-0.6, +0.6]     [-0.6, +0.6]     [-0.6, +0.6]
    Decode tok/s        78.4  0.0 % not shown     -9.1 % worse  0.0 % not shown
                                 [-0.8, +0.8]     [-9.8, -8.4]     [-0.8, +0.8]
    TTFT ms             2403  0.0 % not shown  0.0 % not shown  0.0 % not shown
                                 [-0.6, +0.6]     [-0.6, +0.6]     [-0.6, +0.6]
    TPOT ms             12.8  0.0 % not shown    +10.0 % worse  0.0 % not shown
                                 [-0.8, +0.8]    [+9.1, +10.9]     [-0.8, +0.8]
    ITL p50 ms          12.8  0.0 % not shown  0.0 % not shown  0.0 % not shown
                                 [-0.7, +0.7]     [-0.7, +0.7]     [-0.7, +0.7]
    ITL p99 ms          13.0  0.0 % not shown  0.0 % not shown  0.0 % not shown
                               [-13.6, +15.8]   [-13.6, +15.8]   [-13.6, +15.8]
    Peak memory      227 MiB  0.0 % not shown  0.0 % not shown  0.0 % not shown
                                   [0.0, 0.0]       [0.0, 0.0]       [0.0, 0.0]
    "#);
}

#[test]
fn more_runs_than_fit_beside_each_other_have_a_row_each() {
    let [same, slower, other] = three();
    let compared = many::compare(&simulated(), &[same.clone(), slower, other, same]);
    let table = shown::many::table(&compared, false);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let part = table.split("\n\n").find(|part| part.starts_with("cap=0 len=2048\n")).unwrap();
    insta::assert_snapshot!(part.lines().take(12).collect::<Vec<_>>().join("\n"), @r#"
    cap=0 len=2048
    metric           run        A   median     to A      interval %  trend
    ───────────────────────────────────────────────────────────────────────────
    Prefill tok/s    B        853      853    0.0 %    [-0.6, +0.6]  not shown
                     C        853      853    0.0 %    [-0.6, +0.6]  not shown
                     D        853      853    0.0 %    [-0.6, +0.6]  not shown
                     E        853      853    0.0 %    [-0.6, +0.6]  not shown
    Decode tok/s     B       78.4     78.3    0.0 %    [-0.8, +0.8]  not shown
                     C       78.4     71.1   -9.1 %    [-9.8, -8.4]  worse
                     D       78.4     78.3    0.0 %    [-0.8, +0.8]  not shown
                     E       78.4     78.3    0.0 %    [-0.8, +0.8]  not shown
    TTFT ms          B       2403     2403    0.0 %    [-0.6, +0.6]  not shown
    "#);
    let differing: Vec<&str> = table.lines().filter(|line| line.starts_with("differs: ")).collect();
    insta::assert_snapshot!(differing.join("\n"), @r#"differs: machine frequency governor: absent (A B D E), powersave (C)"#);
}

#[test]
fn the_verb_compares_any_number_of_runs_in_every_format() {
    let lab = Lab::new();
    let results = lab.path("results");
    let saved: Vec<String> = std::iter::once(simulated())
        .chain(three())
        .enumerate()
        .map(|(at, mut record)| {
            record.manifest.run = format!("2026112{at}T092113Z-run");
            save(&record, &results).file_name().unwrap().to_str().unwrap().to_owned()
        })
        .collect();
    let names: Vec<&str> = saved.iter().map(String::as_str).collect();
    let done = |format: &str| {
        let line = [&["compare"][..], &names, &["--format", format]].concat();
        lab.run(&line).expect(0).stdout
    };
    let back: many::ManyRuns = serde_json::from_str(&done("json")).unwrap();
    assert_eq!((back.many_runs_version, back.comparisons.len()), (1, 3));
    let csv = done("csv");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 3 * 4 * (METRICS.len() + 1), "every metric of every cell of every pair");
    assert!(rows.iter().all(|row| &row[0] == names[0]) && &rows[rows.len() - 1][1] == names[3]);
    let markdown = done("md");
    assert!(markdown.starts_with("## Comparison of 4 runs\n"), "{markdown}");
    let pair = lab.run(&["compare", names[0], names[1], "--format", "md"]).expect(0).stdout;
    for whole in [&markdown, &pair] {
        assert!(
            whole.contains(" for a verdict\n") || whole.contains(" for a verdict**\n"),
            "no caveat is cut off: {whole}"
        );
    }
    let widths: Vec<usize> = markdown.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
    assert!(widths.len() > 30 && widths.iter().all(|width| *width == 7), "{markdown}");
    assert_eq!(done("table"), shown::many::table(&back, false));
}

#[test]
fn many_runs_without_a_common_cell_have_no_figures() {
    let mut others = three();
    for cell in others.iter_mut().flat_map(|record| &mut record.manifest.plan.cells) {
        cell.length = Some(7);
    }
    let table = shown::many::table(&many::compare(&simulated(), &others), false);
    assert!(table.contains("A and C: nothing to compare: no cell of A does the same work as a cell of C"), "{table}");
    assert!(!table.contains("Mann-Whitney") && !table.contains("metric  "), "{table}");
}

#[test]
fn hostile_text_of_many_runs_stays_text() {
    let mut records = three();
    records.iter_mut().enumerate().for_each(|(at, record)| poison(record, &format!("{HOSTILE} {at}")));
    let compared = many::compare(&simulated(), &records);
    for text in [shown::many::table(&compared, true), shown::many::markdown(&compared)] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    }
    assert!(!shown::many::markdown(&compared).contains("<script"));
}
