//! Differences of profiled passes in `compare` and in the report of a session, from simulated
//! records.

use inferometer::compare::profile::flamegraphs;
use inferometer::compare::runs::{Comparison, compare};
use inferometer::record::{ProfiledIteration, Record, RequestRow, Status};
use inferometer::report::ab::terminal as table;
use inferometer::report::ab::{AbSummary, Telling, markdown, write};
use inferometer::report::{compare as shown, profiles};
use inferometer_protocol::{Phase, Profile, ProfilePart, ProfileStack, SampleClock};

use crate::simulated_ab::session;
use crate::simulated_run::{HOSTILE, Simulation};

const NAMES: [&str; 6] = [
    "engine::main::h0123456789abcdef",
    "<engine::attention::Attention as engine::Layer>::forward",
    "engine::cache::contiguous",
    "__memmove_avx_unaligned_erms",
    "engine::kernels::dot",
    HOSTILE,
];

/// Attention with `copied` samples in a copy that it makes.
fn profile(copied: u64, wiggle: u64) -> Profile {
    let stack = |frames: &[u32], count| ProfileStack { thread: "main".to_owned(), frames: frames.to_vec(), count };
    let stacks = vec![stack(&[0, 1, 4], 300 + wiggle), stack(&[0, 1, 2, 3], copied), stack(&[0, 5], 7 - wiggle)];
    let part = |phase, stacks: Vec<ProfileStack>| {
        let count: u64 = stacks.iter().map(|stack| stack.count).sum();
        ProfilePart { phase: Some(phase), duration_ns: count * 1_100_000, cpu_ns: Some(count * 1_000_000), stacks }
    };
    Profile {
        profiler: "pprof".to_owned(),
        clock: SampleClock::Cpu,
        frequency_hz: 1000,
        functions: NAMES.map(str::to_owned).to_vec(),
        parts: vec![part(Phase::Prefill, vec![stack(&[0, 1, 4], 50 + wiggle)]), part(Phase::Decode, stacks)],
    }
}

/// Three profiled iterations of each cell.
fn profiled(record: &mut Record, copied: u64) {
    let cells: Vec<u32> = record.manifest.plan.cells.iter().map(|cell| cell.id).collect();
    let timed = record.requests.iter().find(|row| !row.warmup).unwrap().clone();
    for (cell, iteration) in cells.into_iter().flat_map(|cell| (1..=3).map(move |iteration| (cell, iteration))) {
        let request = 10_000 + u64::from(cell * 10 + iteration);
        record.profile.requests.push(RequestRow { request, cell, iteration, ..timed.clone() });
        record.profile.iterations.push(ProfiledIteration {
            cell,
            iteration,
            request,
            host: 0,
            prefill_tokens: 500,
            generated_tokens: 101,
            span_timing: None,
            allocations: Vec::new(),
            profile: Some(profile(copied, u64::from(iteration))),
            missing: None,
        });
    }
}

fn one_cell() -> Record {
    Simulation { caps: vec![0], lengths: vec![512], ..Simulation::default() }.record()
}

fn compared(a: u64, b: u64) -> (Record, Record, Comparison) {
    let (mut one, mut other) = (one_cell(), one_cell());
    profiled(&mut one, a);
    profiled(&mut other, b);
    let comparison = compare(&one, &other);
    (one, other, comparison)
}

#[test]
fn a_copy_per_token_is_the_first_row_in_every_format() {
    let (a, b, comparison) = compared(2, 150);
    let terminal = shown::table(&comparison, false);
    let decode = terminal.split("decode: A").nth(1).expect("a table of decoding");
    let first: Vec<&str> = decode.lines().skip_while(|line| !line.starts_with("──")).skip(1).take(3).collect();
    insta::assert_snapshot!(first.join("\n"), @"
    * __memmove_avx_unaligned_erms      0.0200  1.50  +1.48  [+1.36, +1.60]
        by cache::contiguous < Attention::forward < engine::main; only in B:
          Attention::forward calls cache::contiguous
    ");
    assert!(terminal.lines().all(|line| line.chars().count() <= 80), "{terminal}");
    let json: serde_json::Value = serde_json::from_str(&shown::json(&comparison)).unwrap();
    let row = &json["profiles"][0]["phases"][1]["functions"][0];
    assert_eq!(row["name"], NAMES[3]);
    assert_eq!(row["new_call"]["callee"], "engine::cache::contiguous");
    let change = row["self"]["change_ms_per_token"].as_f64().unwrap();
    // 148 samples of a millisecond more, in 101 tokens less the first.
    assert!((change - 148.0 / 100.0).abs() < 1e-9, "{row}");
    assert_eq!(serde_json::from_value::<Comparison>(json).unwrap(), comparison);
    let markdown = shown::markdown(&comparison);
    let decode = markdown.split("decode</summary>").nth(1).expect("a table of decoding");
    let tables: Vec<&str> = decode.split("\n\n").filter(|part| part.starts_with("| function")).collect();
    insta::assert_snapshot!(tables[0], @r#"
    | function, by self time | A ms | B ms | B-A | interval 95 % | called by |
    |---|--:|--:|--:|--:|---|
    | \_\_memmove\_avx\_unaligned\_erms | 0.0200 | 1.50 | **+1.48** | \[+1.36, +1.60\] | by cache&#58;&#58;contiguous &lt; Attention&#58;&#58;forward &lt; engine&#58;&#58;main; only in B&#58; Attention&#58;&#58;forward calls cache&#58;&#58;contiguous |
    "#);
    let csv = profiles::csv(&comparison.profiles);
    let rows: Vec<csv::StringRecord> = csv::Reader::from_reader(csv.as_bytes()).records().map(Result::unwrap).collect();
    let own = rows.iter().find(|row| &row[3] == "decode" && &row[4] == "self" && &row[5] == "1").unwrap();
    assert_eq!((&own[6], &own[15]), (NAMES[3], "true"));
    let drawn = flamegraphs(&a, &b, &comparison.profiles);
    let names: Vec<&str> = drawn.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["cell-0-prefill", "cell-0-decode"]);
    assert!(drawn.iter().all(|one| !one.svg.contains("<script>alert") && !one.svg.contains("href=\"http")));
}

#[test]
fn what_cannot_be_compared_is_said() {
    let mut all = Vec::new();
    let mut told = |a: &Record, b: &Record| {
        let comparison = compare(a, b);
        let terminal = shown::table(&comparison, false);
        assert!(terminal.lines().all(|line| line.chars().count() <= 80), "{terminal}");
        assert!(comparison.profiles.iter().all(|cell| cell.phases.is_empty() || cell.clock.is_some()));
        all.push(comparison.profiles[0].remark.clone().expect("what cannot be compared is said"));
    };
    let (a, mut b, comparison) = compared(2, 2);
    assert_eq!(comparison.profiles[0].remark, None);
    assert!(comparison.profiles[0].phases.iter().flat_map(|of| &of.functions).all(|row| !row.own.is_clear()));
    told(&a, &one_cell());
    told(&one_cell(), &b);
    assert!(compare(&one_cell(), &one_cell()).profiles.is_empty());
    b.profile.requests[0].status = Status::Invalid;
    told(&a, &b);
    b.profile.requests.iter_mut().for_each(|row| row.status = Status::Failed);
    told(&a, &b);
    b.profile.requests.iter_mut().for_each(|row| row.status = Status::Ok);
    for one in &mut b.profile.iterations {
        one.profile.as_mut().unwrap().clock = SampleClock::Wall;
    }
    told(&a, &b);
    for one in &mut b.profile.iterations {
        (one.profile, one.missing) = (None, Some("perf is not installed".to_owned()));
    }
    told(&a, &b);
    insta::assert_snapshot!(all.join("\n"), @r#"
    B has no profiling pass
    A has no profiling pass
    0 of 3 profiled iterations of A and 1 of 3 of B had external disturbances
    B has no profile of this cell: every iteration of its profiled pass failed
    not compared: A's pprof counts CPU time, B's pprof counts wall time
    B has no profile of this cell: perf is not installed
    "#);
}

/// In all figures per token, the first token of each turn belongs to the prefill.
#[test]
fn decode_is_per_token_after_the_first_of_each_turn() {
    let (a, mut b, comparison) = compared(2, 150);
    let decode = &comparison.profiles[0].phases[1];
    let summary = inferometer::report::summary::Summary::of(&a);
    let listed = summary.functions[0].phases[1].functions.iter().find(|row| row.function == NAMES[3]).unwrap();
    let shown = decode.functions.iter().find(|row| row.name == listed.function).unwrap();
    let summed = listed.self_ms_per_token.unwrap();
    assert!((shown.own.a_ms_per_token - summed).abs() < 1e-9 * summed, "{shown:?} {listed:?}");
    // A second turn of each iteration has its own first token, and a failed third turn excludes the
    // iteration.
    let first = decode.b.ms_per_token;
    for row in b.profile.requests.clone() {
        b.profile.requests.push(RequestRow { request: row.request + 1000, turn: 2, ..row });
    }
    let second = compare(&a, &b).profiles[0].phases[1].b.ms_per_token;
    assert!((second / first - 100.0 / 99.0).abs() < 1e-9, "{first} {second}");
    b.profile.requests.last_mut().unwrap().status = Status::Failed;
    assert_eq!(compare(&a, &b).profiles[0].phases[1].b.iterations, 2);
    // With one token per turn, there is no decoded token to divide by.
    b.profile.iterations.iter_mut().for_each(|one| one.generated_tokens = 2);
    assert_eq!(
        compare(&a, &b).profiles[0].phases.iter().map(|of| of.phase).collect::<Vec<_>>(),
        [Some(Phase::Prefill)]
    );
}

/// The files of a cell cover the same iterations and tokens as the summary.
#[test]
fn files_leave_out_what_failed_and_count_the_turns_that_ran() {
    let (mut record, _, _) = compared(2, 2);
    let dir = tempfile::tempdir().unwrap();
    let rows = |record: &Record| {
        inferometer::run::profile::files::write(dir.path(), record).unwrap();
        let listed = inferometer::report::summary::Summary::of(record).functions[0].phases[1].functions[0].clone();
        let table = fs_err::read_to_string(dir.path().join("profile/cell-0/functions.csv")).unwrap();
        let rows: Vec<csv::StringRecord> =
            csv::Reader::from_reader(table.as_bytes()).records().map(Result::unwrap).collect();
        let row = rows.into_iter().find(|row| &row[0] == "decode" && row[1] == listed.function).unwrap();
        let per_token: f64 = row[6].parse().unwrap();
        assert!((per_token - listed.self_ms_per_token.unwrap()).abs() < 1e-6, "{row:?} {listed:?}");
        row[8].parse::<u64>().unwrap()
    };
    let all = rows(&record);
    let turn = RequestRow { request: 20_000, turn: 2, ..record.profile.requests[0].clone() };
    record.profile.requests.push(turn);
    assert_eq!(rows(&record), all, "one iteration had two turns");
    record.profile.requests[0].status = Status::Failed;
    assert!(rows(&record) < all, "an iteration that failed is not in the files");
}

/// perf and others cannot tell phases apart: then everything is compared together.
#[test]
fn a_side_that_knows_no_phases_is_compared_as_a_whole() {
    let (a, mut b, _) = compared(2, 150);
    for one in &mut b.profile.iterations {
        one.profile.as_mut().unwrap().profiler = "perf".to_owned();
        one.profile.as_mut().unwrap().parts.iter_mut().for_each(|part| part.phase = None);
    }
    let found = compare(&a, &b).profiles.remove(0);
    assert_eq!(found.phases.iter().map(|of| of.phase).collect::<Vec<_>>(), [None]);
    assert_eq!(found.phases[0].functions[0].name, NAMES[3]);
    insta::assert_snapshot!(found.remark.unwrap(), @r#"A was sampled by pprof, B by perf: their stacks may be truncated differently"#);
}

#[test]
fn a_session_shows_where_the_time_went_beside_its_verdict() {
    let mut record = session("regressed");
    let before = AbSummary::of(&record, Telling::default());
    profiled(&mut record.a, 2);
    profiled(&mut record.b, 150);
    let summary = AbSummary::of(&record, Telling::default());
    assert_eq!(
        (summary.verdict, summary.exit_code, &summary.reasons),
        (before.verdict, before.exit_code, &before.reasons)
    );
    let terminal = table::render(&summary);
    let marked: Vec<&str> = terminal.lines().filter(|line| line.starts_with("* ")).collect();
    insta::assert_snapshot!(marked.join("\n"), @r#"
    * __memmove_avx_unaligned_erms      0.0200  1.50  +1.48  [+1.36, +1.60]
    * __memmove_avx_unaligned_erms      0.0200  1.50  +1.48  [+1.36, +1.60]
    * __memmove_avx_unaligned_erms      0.0200  1.50  +1.48  [+1.36, +1.60]
    * __memmove_avx_unaligned_erms      0.0200  1.50  +1.48  [+1.36, +1.60]
    * __memmove_avx_unaligned_erms      0.0200  1.50  +1.48  [+1.36, +1.60]
    "#);
    assert!(terminal.lines().all(|line| line.chars().count() <= 80), "{terminal}");
    let text = markdown::render(&summary);
    assert!(text.len() < 60_000, "a comment on a pull request holds 65536 characters");
    let dir = tempfile::tempdir().unwrap();
    let page = write(&record, &summary, dir.path()).unwrap();
    let html = fs_err::read_to_string(&page).unwrap();
    assert!(!html.contains("<script>alert"));
    let links = html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    let files: Vec<&str> = links.filter(|link| link.starts_with("profiles/")).collect();
    assert_eq!(files[..2], ["profiles/cell-0-prefill.svg", "profiles/cell-0-decode.svg"]);
    assert_eq!(files.len(), 2 * record.a.manifest.plan.cells.len());
    for file in files.into_iter().chain(["profiles/functions.csv"]) {
        assert!(page.with_file_name(file).is_file(), "{file}");
    }
    assert_eq!(fs_err::read_to_string(write(&record, &summary, dir.path()).unwrap()).unwrap(), html, "same bytes");
}
