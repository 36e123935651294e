//! Reports, from simulated records.

use std::collections::BTreeSet;

use crate::lab::{elements, section};
use crate::simulated_run::{HOSTILE, Simulation, as_conversation, eventful, poison, save, spoil};
use inferometer::record::metric::{METRICS, PEAK_MEMORY, PEAK_RSS_BYTES};
use inferometer::record::{Cause, Fault, Record, RequestRow};
use inferometer::report::charts::Charts;
use inferometer::report::summary::{Agreement, Determinism, Standing, Summary};
use inferometer::report::terminal as table;
use inferometer::report::{export, html, markdown};
use inferometer_stats::growth::Law;

#[test]
fn a_clean_run_is_valid_and_deterministic() {
    let record = Simulation::default().record();
    let summary = Summary::of(&record);
    assert_eq!(summary.validity.standing, Standing::Valid, "{:?}", summary.validity);
    assert_eq!(summary.cells.len(), 6);
    for cell in &summary.cells {
        assert_eq!((cell.counts.planned, cell.counts.ok, cell.counts.missing()), (10, 10, 0));
        assert_eq!(cell.determinism, Determinism::Deterministic);
        assert_eq!(cell.metric("decode_tps").unwrap().n, 10);
        assert_eq!(cell.metric("tokenize_ms"), None);
    }
    assert!(summary.run.synthetic);
    assert_eq!(summary.run.interval_scope, "within process");
}

#[test]
fn rates_that_are_not_known_well_are_said() {
    let mut record = Simulation::default().record();
    record.manifest.machine.load_at_start = Some(12.4);
    assert_eq!(Summary::of(&record).validity.standing, Standing::Valid, "a busy machine alone harms no figure");
    for row in record.requests.iter_mut().filter(|row| row.cell == 1) {
        row.decode_tps = Some(50.0 + f64::from(row.iteration) * 5.0);
    }
    let validity = Summary::of(&record).validity;
    assert_eq!(validity.standing, Standing::ValidWithWarnings);
    assert_eq!(
        validity.remarks[..1],
        [
            "Iterations differ widely in 1 cell; the widest interval is that of cap=0 len=2048, decode [60.0, 95.0] tok/s; \
          the machine was busy when the run began (load average 12.4 on 4 cores)."
        ]
    );
}

/// A run of one cell of which the first iterations, as many as there are causes, went wrong.
fn spoiled(causes: &[Cause]) -> Record {
    let mut record = Simulation { lengths: vec![512], caps: vec![0], ..Simulation::default() }.record();
    let measured = record.requests.iter_mut().filter(|row| !row.warmup);
    measured.zip(causes).for_each(|(row, cause)| row.mark(&Fault::new(*cause, "a reason")));
    record
}

#[test]
fn a_failed_warm_up_shows_its_whole_reason() {
    let mut record = Simulation { lengths: vec![512], caps: vec![0], ..Simulation::default() }.record();
    let reason =
        format!("its stamps {} (a busy machine, or wrong stamps)", "lie before those of the harness ".repeat(6));
    let warmup = record.requests.iter_mut().find(|row| row.warmup).unwrap();
    warmup.mark(&Fault::new(Cause::Stamps, reason.clone()));
    let remarks = Summary::of(&record).validity.remarks;
    let told = format!("1 warm-up did not succeed (the first: {reason}).");
    assert!(remarks.contains(&told), "{remarks:#?}");
}

/// The exit code of `run` is that of the standing.
#[test]
fn a_run_is_called_valid_only_if_its_figures_can_be_used() {
    for (causes, standing, words) in [
        (
            vec![Cause::ForeignLoad; 4],
            Standing::ValidWithWarnings,
            "valid with warnings: 6 of 10 iterations ok, 4 invalid",
        ),
        (vec![Cause::ForeignLoad; 5], Standing::NotValid, "not valid: 5 of 10 iterations ok, 5 invalid"),
        (vec![Cause::Stamps], Standing::NotValid, "not valid: 9 of 10 iterations ok, 1 invalid"),
        (vec![Cause::Died, Cause::Stamps], Standing::NotValid, "not valid: 8 of 10 iterations ok, 1 failed, 1 invalid"),
        (vec![Cause::Died], Standing::Failed, "failed: 9 of 10 iterations ok, 1 failed"),
        (vec![Cause::Died; 10], Standing::Failed, "failed: 0 of 10 iterations ok, 10 failed"),
    ] {
        let summary = Summary::of(&spoiled(&causes));
        assert_eq!(summary.validity.standing, standing, "{words}");
        assert_eq!(table::remarks(&summary)[0], words);
    }
}

#[test]
fn rejected_values_are_greyed_named_and_count_for_nothing() {
    let record = spoiled(&[Cause::ForeignLoad, Cause::Stamps]);
    let clean = spoiled(&[]);
    let (summary, whole) = (Summary::of(&record), Summary::of(&clean));
    let row = record.requests.iter().find(|row| !row.warmup).unwrap();
    let rejected = &summary.cells[0].rejected;
    assert_eq!((rejected.len(), rejected[0].iteration, rejected[0].decode_tps), (2, 1, row.decode_tps));
    assert_eq!(summary.cells[0].metric("decode_tps").unwrap().n, 8);
    let line = table::rejected(&summary);
    assert!(line.contains("rejected, not counted: iteration 1: prefill "), "{line}");
    assert_eq!(table::rejected(&whole), "");
    let page = html::page(&record, &summary, &Charts::of(&record, &summary));
    assert!(page.contains("<p class=\"rejected\">") && markdown::render(&summary).contains("rejected, not counted"));
    let chart = |record: &Record, summary: &Summary| Charts::of(record, summary).iterations.charts[0].svg.clone();
    let (drawn, without) = (chart(&record, &summary), chart(&clean, &whole));
    assert!(drawn.contains("8 valid iterations") && drawn.contains("2 rejected, 0 lost"), "{drawn}");
    let grey = |svg: &str| svg.matches("stroke=\"#9AA3AD\"").count();
    assert_eq!(grey(&drawn), grey(&without) + 4, "two crosses of two lines");
}

#[test]
fn too_few_iterations_for_an_interval_are_named_with_the_number_that_it_needs() {
    let few = |n: usize| {
        let mut record = spoiled(&[]);
        record.requests.retain(|row| row.iteration as usize <= n);
        table::remarks(&Summary::of(&record)).into_iter().find(|line| line.starts_with("no confidence interval"))
    };
    let told = "no confidence interval: 3 valid iterations are too few, 6 are needed (`run.iterations = 6` or more)";
    assert_eq!((few(3).as_deref(), few(6)), (Some(told), None));
}

/// Decode rates 1 to 10 tok/s: median 5.5, 2nd to 9th order statistics, all by hand.
#[test]
fn figures_equal_those_computed_by_hand() {
    let mut record = Simulation { lengths: vec![512], caps: vec![0], ..Simulation::default() }.record();
    for row in record.requests.iter_mut().filter(|row| !row.warmup) {
        row.decode_tps = Some(f64::from(row.iteration));
        row.cpu_ms = Some(640.0);
    }
    for row in record.requests.iter_mut().filter(|row| row.warmup) {
        row.decode_tps = Some(1e9);
    }
    let summary = Summary::of(&record);
    let decode = summary.cells[0].metric("decode_tps").unwrap();
    assert_eq!((decode.n, decode.median, decode.mad, decode.min, decode.max), (10, 5.5, 2.5, 1.0, 10.0));
    let interval = decode.interval.unwrap();
    assert_eq!((interval.lo, interval.hi), (2.0, 9.0));
    assert_eq!(summary.cells[0].metric("cpu_ms_per_token").unwrap().median, 10.0);
    assert_eq!(summary.cells[0].metric("load_s").unwrap().median, 0.8125);

    spoil(&mut record, 0, 10, Cause::Throttling, "throttled");
    let summary = Summary::of(&record);
    let decode = summary.cells[0].metric("decode_tps").unwrap();
    assert_eq!((decode.n, decode.median, decode.max), (9, 5.0, 9.0), "an invalid iteration does not count");
}

#[test]
fn what_went_wrong_is_said() {
    let record = eventful();
    let summary = Summary::of(&record);
    assert_eq!(summary.validity.standing, Standing::OutputsDiffer);
    let counts = summary.validity.counts;
    assert_eq!((counts.planned, counts.ok, counts.failed, counts.invalid), (60, 58, 1, 1));
    let cell = &summary.cells[2];
    assert_eq!(cell.determinism, Determinism::Nondeterministic);
    assert_eq!(cell.hashes[0].iterations.len(), 9);
    assert_eq!(cell.hashes[1].iterations, [5]);
    assert_eq!(cell.hashes[1].first_differing_index, Some(17));
    let shown = table::render(&summary);
    insta::assert_snapshot!("terminal_table", shown);
    let table = shown
        .split(
            "

",
        )
        .next()
        .unwrap();
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

/// The simulated times follow laws: a token takes 9 ms and 1/900 ms for each token of the prompt
/// (without a cap 1/1500 more), a prefill 1 ms a token and n² / 12,000.
#[test]
fn five_lengths_give_the_growth_laws() {
    let lengths = vec![512, 1024, 2048, 4096, 8192];
    let record = Simulation { lengths: lengths.clone(), ..Simulation::default() }.record();
    let summary = Summary::of(&record);
    let found: Vec<(&str, Law)> = summary.growth.iter().map(|one| (one.series.as_str(), one.law)).collect();
    let (all, capped) = ("repetition_window_cap=0", "repetition_window_cap=768");
    let laws = [Law::Decode, Law::Prefill];
    assert_eq!(found, [(all, laws[0]), (all, laws[1]), (capped, laws[0]), (capped, laws[1])]);
    let values = |at: usize| -> Vec<f64> {
        summary.growth[at].estimate.as_ref().unwrap().terms.iter().map(|term| term.value).collect()
    };
    let near = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 0.05, "{got} {want}");
    near(values(0)[0], 9.0);
    near(values(0)[1], 1.0 / 900.0 + 1.0 / 1500.0);
    near(values(2)[1], 1.0 / 900.0);
    near(values(3)[1], 1.0);
    near(values(3)[2], 1.0 / 12_000.0);
    let markdown = markdown::render(&summary);
    let told: Vec<&str> = markdown.lines().filter(|line| line.starts_with("- repetition\\_window\\_cap=")).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    - repetition\_window\_cap=0: decode t(n) = a + b n: a = 9.07 ms [9.00, 9.15], b = 1.78 µs/token [1.77, 1.80]; n from 544 to 8224 tokens of context; residuals 0.924 %
    - repetition\_window\_cap=0: prefill p(n) = c + d n + e n²: c not identifiable (-8.17 to 10.9 ms), d = 0.996 ms/token [0.979, 1.01], e = 84.0 ns/token² [80.7, 87.4]; n from 512 to 8192 tokens of prompt; residuals 0.779 %
    - repetition\_window\_cap=768: decode t(n) = a + b n: a = 9.12 ms [9.06, 9.16], b = 1.11 µs/token [1.09, 1.13]; n from 544 to 8224 tokens of context; residuals 0.819 %
    - repetition\_window\_cap=768: prefill p(n) = c + d n + e n²: c not identifiable (-4.82 to 7.39 ms), d = 1.00 ms/token [0.989, 1.01], e = 83.2 ns/token² [81.6, 85.2]; n from 512 to 8192 tokens of prompt; residuals 0.766 %
    "#);
    let drawn = Charts::of(&record, &summary);
    let page = html::page(&record, &summary, &drawn);
    let length = section(&page, "length");
    insta::assert_snapshot!(elements(length, "h3").join("\n"), @r#"Growth laws"#);
    insta::assert_snapshot!(elements(length, "p")[1], @r#"The dashed line is the fitted growth law."#);
    insta::assert_snapshot!(elements(length, "li").join("\n"), @r#"
    repetition_window_cap=0 : decode t(n) = a + b n: a = 9.07 ms [9.00, 9.15], b = 1.78 µs/token [1.77, 1.80]; n from 544 to 8224 tokens of context; residuals 0.924 %
    repetition_window_cap=0 : prefill p(n) = c + d n + e n²: c not identifiable (-8.17 to 10.9 ms), d = 0.996 ms/token [0.979, 1.01], e = 84.0 ns/token² [80.7, 87.4]; n from 512 to 8192 tokens of prompt; residuals 0.779 %
    repetition_window_cap=768 : decode t(n) = a + b n: a = 9.12 ms [9.06, 9.16], b = 1.11 µs/token [1.09, 1.13]; n from 544 to 8224 tokens of context; residuals 0.819 %
    repetition_window_cap=768 : prefill p(n) = c + d n + e n²: c not identifiable (-4.82 to 7.39 ms), d = 1.00 ms/token [0.989, 1.01], e = 83.2 ns/token² [81.6, 85.2]; n from 512 to 8192 tokens of prompt; residuals 0.766 %
    "#);

    let nine = Simulation { lengths, caps: vec![0], iterations: 9, ..Simulation::default() }.record();
    for law in Summary::of(&nine).growth {
        assert_eq!(law.estimate, None);
        let why = "a growth law needs at least 10 rounds at every length; there are 9 at";
        assert!(law.not_identifiable.unwrap().starts_with(why));
    }
    assert!(Summary::of(&Simulation::default().record()).growth.is_empty(), "three lengths say nothing of growth");
}

/// Two iterations of a conversation of three turns.
fn talk() -> Record {
    as_conversation(
        Simulation { caps: vec![0], lengths: vec![512], iterations: 6, ..Simulation::default() }.record(),
        3,
    )
}

#[test]
fn an_iteration_of_a_conversation_gives_one_number() {
    let record = talk();
    let summary = Summary::of(&record);
    let cell = &summary.cells[0];
    assert_eq!((cell.counts.planned, cell.counts.ok, cell.determinism), (2, 2, Determinism::Deterministic));
    let turns: Vec<&RequestRow> = record.requests.iter().filter(|row| row.iteration == 2).collect();
    assert_eq!(turns.iter().map(|row| row.turn).collect::<Vec<_>>(), [0, 1, 2]);
    let sum = |of: fn(&RequestRow) -> Option<f64>| turns.iter().map(|row| of(row).unwrap()).sum::<f64>();
    let gaps = sum(|row| Some(f64::from(row.generated_tokens? - 1)));
    let of_second = |key: &str| {
        let figures = cell.metric(key).unwrap();
        assert_eq!(figures.n, 2, "{key}");
        // The median of two values is their mean.
        let only_first = Record { requests: record.requests[..3].to_vec(), ..record.clone() };
        2.0 * figures.median - Summary::of(&only_first).cells[0].metric(key).unwrap().median
    };
    let near = |key: &str, wanted: f64| {
        let found = of_second(key);
        assert!((found / wanted - 1.0).abs() < 1e-9, "{key}: {found}, not {wanted}");
    };
    near("decode_tps", gaps / sum(|row| Some(row.decode_ms? / 1e3)));
    near("tpot_ms", sum(|row| row.decode_ms) / gaps);
    near("ttft_ms", sum(|row| row.ttft_ms) / 3.0);
    near("cpu_ms_per_token", sum(|row| row.cpu_ms) / sum(|row| row.generated_tokens.map(f64::from)));
    near("itl_max_ms", turns.iter().filter_map(|row| row.itl_max_ms).fold(0.0, f64::max));
    let mut p99: Vec<f64> = turns.iter().filter_map(|row| row.itl_p99_ms).collect();
    p99.sort_by(f64::total_cmp);
    near("itl_p99_ms", p99[1]);
    assert_eq!(cell.prompt_length(), None, "there is not one length");
    assert_eq!(cell.turns[2].prompt_tokens.map(|n| (n.least, n.most)), Some((712, 712)));
    assert_eq!(cell.turns[1].metric("ttft_ms").unwrap().n, 2);
}

#[test]
fn a_conversation_that_differs_is_told_with_its_turn() {
    let mut record = talk();
    let request = record.requests.iter().find(|row| (row.iteration, row.turn) == (2, 1)).unwrap().request;
    for token in record.tokens.iter_mut().filter(|t| t.request == request && t.index >= 17) {
        token.id = token.id.map(|id| id ^ 1);
    }
    record.requests[request as usize].token_hash = Some("feedfacecafebeef".to_owned());
    let summary = Summary::of(&record);
    assert_eq!(summary.cells[0].determinism, Determinism::Nondeterministic);
    let other = &summary.cells[0].hashes[1];
    assert_eq!(
        (&other.iterations[..], other.first_differing_turn, other.first_differing_index),
        (&[2][..], Some(1), Some(17))
    );
    let (_, shown) = page(&record);
    insta::assert_snapshot!(elements(section(&shown, "outputs"), "tr").join("\n"), @r#"
    Cell Token hash Iterations First difference Text
    transformer 7298e397f49d4381 1 – 3 turns 910a2dec89025cc1 The lamp turned once more over the water, and nobody counted. not the same in all iterations 910a2dec89025cc1 The lamp turned once more over the water, and nobody counted.
    77945d336ca7b3e5 2 turn 1, token index 17
    "#);
    insta::assert_snapshot!(summary.validity.remarks.join("\n"), @r#"transformer: nondeterministic: different tokens in iteration 2 from token index 17 of turn 1 on."#);
}

#[test]
fn the_table_of_a_conversation_fits_the_terminal() {
    let shown = table::render(&Summary::of(&talk()));
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    insta::assert_snapshot!(shown, @r#"
    cell         n  prefill  decode  TTFT     ITL ms     peak    same
                      tok/s   tok/s    ms    p50/p99   memory  tokens
    ──────────────────────────────────────────────────────────────────
    transformer  2      957    99.1   536  10.0/11.3  192 MiB     yes

    cell         turn  prompt  reused  prefill   cache  TTFT  prefill  decode
                       tokens  tokens   tokens  tokens    ms    tok/s   tok/s
    ──────────────────────────────────────────────────────────────────────────
    transformer     0     512       0      512     575   537      956    98.8
                    1     612     512      100     675   538      955    99.2
                    2     712     612      100     775   534      961    99.4

    valid: 2 of 2 iterations ok
    transformer: synthetic-qwen3-small-1, candle 0.11.1, cpu, q8_0, 2 threads
    no confidence interval: 2 valid iterations are too few, 6 are needed
      (`run.iterations = 6` or more)
    an iteration is a whole conversation: rates are over all its turns, TTFT is the
      mean of its turns
    synthetic model: random weights, so speed and memory are meaningful, but the
      text is not
    "#);
}

#[test]
fn charts_of_a_conversation_go_by_turn_and_by_length() {
    let (charts, page) = page(&talk());
    let names: Vec<&str> = charts.turns.charts.iter().map(|chart| chart.name.as_str()).collect();
    assert_eq!(names, ["turn-ttft", "turn-prefill"]);
    for chart in charts.turns.charts.iter().chain(&charts.rates.charts) {
        assert_eq!(dots(&chart.svg), 6, "{}: a dot for each turn of each iteration", chart.name);
    }
    insta::assert_snapshot!(charts.turns.charts[1].description, @r#"Prompt tokens computed, turn by turn, medians in tokens. transformer: 512 at turn 0, 100 at turn 1, 100 at turn 2."#);
    assert_eq!(dots(&charts.iterations.charts[0].svg), 2, "but one for each iteration here");
    insta::assert_snapshot!(elements(&page, "h2").join("\n"), @r#"
    Figures
    Turn by turn
    Rate and memory against prompt length
    Every iteration
    Time between tokens
    Memory and CPU over time
    Memory oscillation
    Settings requested and effective
    Outputs
    Provenance
    "#);
    insta::assert_snapshot!(elements(section(&page, "outputs"), "p").join("\n"), @r#"
    The model's weights are random, so its text is noise; equal hashes still mean equal tokens.
    From prompts/talk.toml .
    Fixed reply:
    Fixed reply:
    Fixed reply:
    "#);
}

#[test]
fn a_resumed_run_is_not_called_one_process() {
    let mut record = Simulation::default().record();
    assert_eq!(Summary::of(&record).run.interval_scope, "within process");
    record.requests.iter_mut().filter(|row| row.iteration > 5).for_each(|row| row.host += 1);
    assert_eq!(Summary::of(&record).run.interval_scope, "over a few processes");
}

#[test]
fn an_empty_run_is_not_valid_and_has_no_figures() {
    let mut record = Simulation { iterations: 2, ..Simulation::default() }.record();
    record.requests.clear();
    record.tokens.clear();
    let summary = Summary::of(&record);
    assert_eq!(summary.validity.standing, Standing::NotValid);
    insta::assert_snapshot!(table::render(&summary), @r#"
    cell                n  prefill  decode  TTFT   ITL ms    peak    same
                             tok/s   tok/s    ms  p50/p99  memory  tokens
    ──────────────────────────────────────────────────────────────────────
    cap=0 len=512     0/2        –       –     –        –       –       –
    cap=0 len=2048    0/2        –       –     –        –       –       –
    cap=0 len=8192    0/2        –       –     –        –       –       –
    cap=768 len=512   0/2        –       –     –        –       –       –
    cap=768 len=2048  0/2        –       –     –        –       –       –
    cap=768 len=8192  0/2        –       –     –        –       –       –

    not valid: 0 of 12 iterations ok, 12 missing
    transformer: synthetic-qwen3-small-1, candle 0.11.1, cpu, q8_0, 2 threads
    synthetic model: random weights, so speed and memory are meaningful, but the
      text is not
    The run is finished; 0 of 12 planned iterations are in the record
    "#);
    let json: serde_json::Value = serde_json::from_str(&summary.to_json()).unwrap();
    assert!(json["cells"][0]["metrics"]["decode_tps"].is_null());
}

#[test]
fn one_iteration_has_no_interval() {
    let summary = Summary::of(&Simulation { iterations: 1, ..Simulation::default() }.record());
    assert_eq!(summary.cells[0].metric("decode_tps").unwrap().interval, None);
    assert_eq!(summary.cells[0].determinism, Determinism::Unknown);
    assert!(!table::render(&summary).contains('['));
}

#[test]
fn requested_and_effective_stand_side_by_side() {
    let mut record = Simulation::default().record();
    let agreement = |summary: &Summary, name: &str| {
        summary.cells[0].settings.iter().find(|row| row.name == name).map(|row| row.agreement)
    };
    let summary = Summary::of(&record);
    assert_eq!(agreement(&summary, "prefill_chunk_size"), Some(Agreement::AsRequested));
    assert_eq!(agreement(&summary, "repetition_window"), Some(Agreement::AsPredicted));
    assert_eq!(agreement(&summary, "repetition_window_cap"), Some(Agreement::AsPredicted));
    assert_eq!(agreement(&summary, "dtype"), Some(Agreement::EngineChose));
    for row in &mut record.requests {
        row.effective.insert("repetition_window".to_owned(), 64_i64.into());
        row.effective.insert("threads".to_owned(), 1_i64.into());
    }
    let summary = Summary::of(&record);
    assert_eq!(agreement(&summary, "repetition_window"), Some(Agreement::Mismatch));
    assert_eq!(agreement(&summary, "threads"), Some(Agreement::Mismatch));
    insta::assert_snapshot!(summary.validity.remarks.join("\n"), @r#"
    cap=0 len=512: repetition_window should have been 575, the engine used 64.
    cap=0 len=512: threads should have been 2, the engine used 1.
    cap=0 len=2048: repetition_window should have been 2111, the engine used 64.
    cap=0 len=2048: threads should have been 2, the engine used 1.
    cap=0 len=8192: repetition_window should have been 4096, the engine used 64.
    cap=0 len=8192: threads should have been 2, the engine used 1.
    cap=768 len=512: repetition_window should have been 575, the engine used 64.
    cap=768 len=512: threads should have been 2, the engine used 1.
    cap=768 len=2048: repetition_window should have been 768, the engine used 64.
    cap=768 len=2048: threads should have been 2, the engine used 1.
    cap=768 len=8192: repetition_window should have been 768, the engine used 64.
    cap=768 len=8192: threads should have been 2, the engine used 1.
    cap=0 len=512 and cap=768 len=512 did the same work: their effective settings are equal.
    cap=0 len=2048 and cap=768 len=2048 did the same work: their effective settings are equal.
    cap=0 len=8192 and cap=768 len=8192 did the same work: their effective settings are equal.
    "#);
    record.manifest.scenario.run.allow_mismatch = vec!["threads".to_owned()];
    assert_eq!(agreement(&Summary::of(&record), "threads"), Some(Agreement::MismatchAllowed));
}

#[test]
fn exports_hold_the_same_figures() {
    let summary = Summary::of(&eventful());
    let back: Summary = serde_json::from_str(&summary.to_json()).unwrap();
    assert_eq!(back, summary);
    let csv = export::csv(&summary);
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let decode = rows.iter().find(|r| &r[1] == "0" && &r[7] == "decode_tps").unwrap();
    assert_eq!(decode[10].parse::<f64>().unwrap(), summary.cells[0].metric("decode_tps").unwrap().median);
    let absent = rows.iter().find(|r| &r[7] == "cpu_cycles_per_token").unwrap();
    assert_eq!((&absent[9], &absent[10]), ("0", ""));
    let markdown = markdown::render(&summary);
    // The first table; the folded parts below have further tables.
    let first = markdown.split("<details>").next().unwrap();
    let widths: Vec<usize> = first.lines().filter(|l| l.starts_with('|')).map(|l| l.matches('|').count()).collect();
    assert!(widths.len() == 8 && widths.iter().all(|w| *w == widths[0]), "{markdown}");
}

fn small() -> Simulation {
    Simulation { lengths: vec![16, 64], iterations: 2, max_tokens: 8, ..Simulation::default() }
}

fn inferometer(folder: &std::path::Path) -> assert_cmd::Command {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_inferometer"));
    command.current_dir(folder).env("NO_COLOR", "1");
    command
}

#[test]
fn the_verb_reports_the_newest_run() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    let mut record = small().record();
    record.manifest.origin_utc = "2026-11-19T00:00:00.000Z".to_owned();
    let older = save(&record, &results);
    record.manifest.origin_utc = "2026-11-20T00:00:00.000Z".to_owned();
    let newer = save(&record, &results);
    let name = newer.file_name().unwrap().to_str().unwrap().to_owned();

    let out = inferometer(folder.path()).arg("report").assert().success();
    let printed = String::from_utf8(out.get_output().stdout.clone()).unwrap();
    assert_eq!(printed.trim(), format!("reports/{name}/index.html"));
    let made = folder.path().join("reports").join(&name);
    for file in ["index.html", "summary.json", "summary.md", "charts/decode-rate.svg", "charts/timeline.svg"] {
        assert!(made.join(file).is_file(), "{file}");
    }
    let first = fs_err::read(made.join("index.html")).unwrap();

    let older = older.file_name().unwrap();
    let out = inferometer(folder.path()).arg("report").arg(older).args(["--format", "json", "-q"]).assert().success();
    let summary: Summary = serde_json::from_slice(&out.get_output().stdout).unwrap();
    assert_eq!(summary.run.started_utc, "2026-11-19T00:00:00.000Z");

    inferometer(folder.path()).arg("report").arg(&newer).assert().success();
    assert_eq!(fs_err::read(made.join("index.html")).unwrap(), first, "same record, same bytes");
}

#[test]
fn the_verb_says_what_to_do_without_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let missing = inferometer(folder.path()).arg("report").assert().code(2);
    fs_err::create_dir(folder.path().join("results")).unwrap();
    let empty = inferometer(folder.path()).arg("report").assert().code(2);
    let named = inferometer(folder.path()).args(["report", "nowhere"]).assert().code(2);
    let told = [missing, empty, named].map(|done| String::from_utf8(done.get_output().stderr.clone()).unwrap());
    insta::assert_snapshot!(told.join("\n"), @r#"
    error: record one with `inferometer run SCENARIO`, or name the folder with --results: failed to read directory `results`: No such file or directory (os error 2)

    error: no runs in results; record one with `inferometer run SCENARIO`, or name the folder with --results

    error: no run nowhere (also looked in results); `inferometer results list` shows the recorded runs
    "#);
}

fn page(record: &Record) -> (Charts, String) {
    let summary = Summary::of(record);
    let charts = Charts::of(record, &summary);
    let page = html::page(record, &summary, &charts);
    (charts, page)
}

fn dots(svg: &str) -> usize {
    svg.matches("<circle").count()
}

#[test]
fn charts_hold_a_dot_for_every_valid_iteration() {
    let (charts, page) = page(&eventful());
    for chart in &charts.rates.charts {
        assert_eq!(dots(&chart.svg), 58, "{}", chart.name);
    }
    let panels: Vec<usize> = charts.iterations.charts.iter().map(|chart| dots(&chart.svg)).collect();
    assert_eq!(panels, [10, 9, 10, 10, 9, 10]);
    assert_eq!(charts.latency.charts.len(), 6);
    assert_eq!(charts.timeline.charts.len(), 2);
    assert_eq!(dots(&page), 4 * 58);
}

#[test]
fn a_chart_looks_as_it_did() {
    let (charts, _) = page(&small().record());
    let svg = |name: &str| charts.all().find(|chart| chart.name == name).unwrap().svg.clone();
    insta::assert_snapshot!("decode_rate", svg("decode-rate"));
    insta::assert_snapshot!("iterations", svg("iterations-0"));
    insta::assert_snapshot!("latency", svg("itl-0"));
}

#[test]
fn empty_and_one_iteration_runs_have_a_page_that_says_why() {
    let mut record = Simulation { iterations: 2, ..Simulation::default() }.record();
    record.requests.clear();
    record.tokens.clear();
    record.spans.clear();
    record.telemetry.clear();
    record.manifest.hosts.clear();
    let (charts, shown) = page(&record);
    assert_eq!(charts.all().count(), 0);
    let absent =
        elements(&shown, "p").into_iter().filter(|text| text.starts_with("No") || text.contains(": not drawn"));
    let (metrics, others): (Vec<_>, Vec<_>) = absent.partition(|text| text.starts_with("Not measured in this run: "));
    let [metrics] = metrics.as_slice() else { panic!("{metrics:?}") };
    // A system has one of the kinds of peak memory.
    for metric in METRICS.iter().filter(|metric| metric.key == PEAK_RSS_BYTES || !PEAK_MEMORY.contains(&metric.key)) {
        assert!(metrics.contains(metric.title), "{}: {metrics}", metric.title);
    }
    insta::assert_snapshot!(others.join("\n"), @r#"
    Not valid. 0 of 12 iterations are valid; 12 missing.
    Not drawn: decode rate, prefill rate and peak memory against prompt length, because no valid iteration has it.
    Not drawn: no valid iteration has a decode rate.
    Not drawn: no valid iteration has two or more tokens with time stamps.
    Not drawn: no gauge has a value.
    No valid iteration has a token hash.
    No host started.
    "#);
    assert!(!shown.contains("NaN") && !shown.contains("inf "));

    let one = Simulation { lengths: vec![512], caps: vec![0], iterations: 1, ..Simulation::default() }.record();
    let (charts, shown) = page(&one);
    assert!(charts.rates.charts.is_empty());
    insta::assert_snapshot!(charts.rates.notes.join("\n"), @r#"Not drawn: decode rate, prefill rate and peak memory against prompt length, because only one prompt length was measured (512 tokens)."#);
    let shown_notes = elements(section(&shown, "length"), "p");
    assert!(charts.rates.notes.iter().all(|note| shown_notes.contains(note)), "{shown_notes:?}");
    assert_eq!(dots(&shown), 1);
}

#[test]
fn hostile_text_stays_text() {
    stays_text(small().record(), 6);
    let rows_of_turns = 2 + 4 * 3;
    stays_text(as_conversation(Simulation { iterations: 6, ..small() }.record(), 3), 6 + rows_of_turns);
}

fn stays_text(mut record: Record, rows: usize) {
    poison(&mut record, HOSTILE);
    let summary = Summary::of(&record);
    let (charts, shown) = page(&record);
    let drawn: Vec<&str> = charts.all().map(|chart| chart.svg.as_str()).collect();
    assert!(drawn.len() > 8);
    for markup in drawn.iter().copied().chain([shown.as_str()]) {
        for forbidden in ["<script", "<img", "]]>", "\u{202e}", "\u{0}", "\u{1b}"] {
            assert!(!markup.contains(forbidden), "{forbidden:?}");
        }
        assert_eq!(markup.matches("<!--").count(), 0);
    }
    assert!(shown.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "it is shown, not dropped");
    let markdown = markdown::render(&summary);
    assert!(!markdown.contains("<script") && !markdown.contains('\u{202e}'));
    let widths: Vec<usize> = markdown
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(|line| line.replace("\\|", "").matches('|').count())
        .collect();
    assert!(widths.len() == rows && widths.iter().all(|width| *width == widths[0]), "{markdown}");
    let table = table::render(&summary);
    assert!(!table.contains('\u{1b}') && !table.contains('\u{202e}'));
}

#[test]
fn a_flood_of_text_is_shortened_and_said() {
    let mut record = small().record();
    poison(&mut record, &"flood ".repeat(200_000));
    let (_, shown) = page(&record);
    let cut: BTreeSet<String> = elements(&shown, "span class=\"cut\"").into_iter().collect();
    insta::assert_snapshot!(cut.into_iter().collect::<Vec<_>>().join("\n"), @r#"
    not in the record
    … 1199400 more characters
    "#);
    assert!(shown.len() < 2 << 20, "{} bytes", shown.len());
}

#[test]
fn a_run_cannot_name_a_folder_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["", "..", "../x", "a/b", ".hidden"] {
        let mut record = small().record();
        record.manifest.run = name.to_owned();
        assert!(inferometer::report::write(&record, folder.path()).is_err(), "{name:?}");
    }
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn energy_is_a_figure_a_token_and_says_what_it_is_of() {
    let mut record = Simulation { iterations: 3, ..Simulation::default() }.record();
    let gauge = |name: &str, absent: Option<&str>| inferometer::record::GaugeInfo {
        name: name.to_owned(),
        unit: "W".to_owned(),
        source: String::new(),
        absent: absent.map(str::to_owned),
    };
    record.telemetry.clear();
    record.manifest.gauges = vec![
        gauge("cpu_watts", None),
        gauge("system_watts", None),
        gauge("gpu_watts", Some("no GPU")),
        gauge("ane_watts", None),
    ];
    let energy = |record: &Record| -> Vec<String> {
        let remarks = Summary::of(record).validity.remarks.into_iter();
        remarks.filter(|remark| remark.starts_with("Energy ")).collect()
    };
    assert_eq!(energy(&record), Vec::<String>::new());
    for row in record.requests.iter_mut().filter(|row| !row.warmup) {
        row.prefill_energy_j = row.prefill_tokens.map(|n| f64::from(n) * 0.5);
        row.decode_energy_j = row.generated_tokens.map(|n| f64::from(n - 1) * 2.0);
    }
    let summary = Summary::of(&record);
    for (key, median) in [("prefill_j_per_token", 0.5), ("decode_j_per_token", 2.0)] {
        assert!((summary.cells[0].metric(key).unwrap().median - median).abs() < 1e-12, "{key}");
    }
    insta::assert_snapshot!(energy(&record).join("\n"), @r#"Energy is the sum of cpu_watts and ane_watts. It includes other processes and the machine's idle power."#);
}
