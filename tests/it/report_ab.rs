//! The report of simulated A/B sessions: every verdict in every format.

use std::sync::OnceLock;

use inferometer::compare::quality::{divergence, perplexity};
use inferometer::record::FinishState;
use inferometer::record::ab::AbRecord;
use inferometer::record::quality::Scored;
use inferometer::report::ab::summary::QualityComparison;
use inferometer::report::ab::terminal as table;
use inferometer::report::ab::{AbSummary, Charts, Telling, junit, markdown, write};
use inferometer::report::summary::CellQuality;
use inferometer::spec::GateMetric;
use inferometer_stats::growth::Term;
use inferometer_stats::sequential::Verdict;

use crate::lab::{elements, line};
use crate::simulated_ab::{KINDS, Session, save, session};
use crate::simulated_run::HOSTILE;

fn told(record: &AbRecord) -> AbSummary {
    AbSummary::of(record, Telling::default())
}

/// The summary of a simulated session, made once because resampling is slow.
fn of(kind: &'static str) -> &'static AbSummary {
    static MADE: [OnceLock<AbSummary>; KINDS.len()] = [const { OnceLock::new() }; KINDS.len()];
    let at = KINDS.iter().position(|known| *known == kind).expect("a kind of session");
    MADE[at].get_or_init(|| told(&session(kind)))
}

fn neutral(record: &AbRecord) -> AbSummary {
    AbSummary::of(record, Telling { neutral_ok: true })
}

#[test]
fn a_made_session_comes_to_the_verdict_it_is_named_after() {
    for kind in KINDS.iter().filter(|kind| **kind != "hostile") {
        let summary = of(kind);
        assert_eq!(summary.verdict.name(), *kind, "{:?}", summary.reasons);
        assert_eq!(summary.exit_code, summary.verdict.exit_code());
        assert!(!summary.advice.is_empty() && !summary.neutral);
        assert_eq!(summary.marks(), ["synthetic model"]);
    }
}

/// The sentence on quality where A found each token as likely as e^-1, and B so much less.
fn damage(less: [f32; 4], change: fn(&mut AbSummary)) -> String {
    let scored = |less: [f32; 4]| Scored {
        cells: vec![0],
        host: None,
        context: 1,
        bytes: None,
        text_hash: "same".to_owned(),
        ids: Vec::new(),
        logprobs: less.map(|less| -1.0 - less).to_vec(),
        top: vec![vec![(1, -0.1)]; 4],
        repeated: None,
        missing: None,
    };
    let (a, b) = (scored([0.0; 4]), scored(less));
    let side = |of| CellQuality { perplexity: perplexity(of), missing: None };
    let divergence = Some(divergence(&a, &b).unwrap());
    let mut summary = of("regressed").clone();
    summary.quality =
        vec![QualityComparison { cells: vec![0], a: side(&a), b: side(&b), divergence, not_compared: None }];
    change(&mut summary);
    let page = markdown::render(&summary);
    let line = page.lines().find(|line| line.contains("its perplexity")).expect("a sentence on quality");
    line.replace("&#58;", ":")
}

#[test]
fn no_direction_is_stated_where_the_interval_contains_0_or_is_missing() {
    let clear = damage([0.5, 0.5, 0.5, 0.6], |_| ());
    assert!(clear.contains("B: decode 8.0 % slower; its perplexity is 69.0 % higher"), "{clear}");
    let clear = damage([-0.5, -0.5, -0.5, -0.6], |_| ());
    assert!(clear.contains("its perplexity is 40.8 % lower"), "{clear}");
    let unclear = damage([0.5, -0.5, 0.5, -0.4], |_| ());
    assert!(unclear.contains("its perplexity does not clearly differ: +2.5 % "), "{unclear}");
    let unclear: [fn(&mut AbSummary); 2] = [
        |summary| summary.gates[0].judgement.interval = None,
        |summary| summary.gates[0].judgement.interval.as_mut().unwrap().lo = -0.01,
    ];
    for change in unclear {
        let told = damage([0.5; 4], change);
        assert!(told.contains("B: decode does not clearly differ; "), "{told}");
    }
}

#[test]
fn the_terminal_has_the_verdict_the_gates_and_what_to_do() {
    insta::assert_snapshot!(table::render(of("regressed")), @r#"
    long-context: REGRESSED (exit 1)  [synthetic model]
      decode is 8.0 % slower [+7.5 %, +8.4 %] after 10 pairs

    A  main (1a1a1a1a), “Cache the rotations”
    B  HEAD (2b2b2b2b), “Copy the cache at every token”

    gate                          B vs A   delta   pairs   caught   verdict
    ───────────────────────────────────────────────────────────────────────────
    decode           +8.0 % [+7.5, +8.4]     3 %      10    3.1 %   regressed
    prefill       -0.07 % [-0.39, +0.40]     3 %      10    3.1 %   unchanged
    peak memory     0.0 % [-0.06, +0.06]     3 %      10      3 %   unchanged

    B vs A: change of time or bytes, with its interval; + is worse. caught: the
    smallest slow-down that this session would have caught nine times in ten.

    10 pairs; a pilot of 6 A/A pairs
    tokens must be identical; 320 tokens compared, all the same
    decode: the cost per token of context moved (b in t(n) = a + b n): +8.27e-4
      ms/token, +20.8 % at 4100 tokens
    other metrics that stand out (advisory): TPOT +20.9 % (len=4096 and 4 cells
      more); ITL p50 +20.9 % (len=4096 and 4 cells more); ITL p95 +20.9 % (len=4096
      and 4 cells more); ITL p99 +20.9 % (len=4096 and 4 cells more); ITL max
      +20.9 % (len=4096 and 4 cells more) and 2 metrics more
    next: Check which cells and which cost moved, then profile B in those cells.
    next: If the slow-down is intended, say so in the commit message and raise the
      gate's delta.
    "#);
    insta::assert_snapshot!(table::render(of("failed")), @r#"
    long-context: FAILED (exit 1)  [synthetic model]
      side B fails in 1 of 4 pairs: side B in cell `len=2048`: the host was killed
      by signal 9 in prefill (pair 10)

    A  main (1a1a1a1a), “Cache the rotations”
    B  HEAD (2b2b2b2b), “Copy the cache at every token”

    gate           B vs A   delta   pairs   caught   verdict
    ──────────────────────────────────────────────────────────────
    decode        +0.42 %     3 %       2        –   not decided
    prefill       -0.08 %     3 %       2        –   not decided
    peak memory   -0.02 %     3 %       2        –   not decided

    B vs A: change of time or bytes, with its interval; + is worse. caught: the
    smallest slow-down that this session would have caught nine times in ten.

    2 pairs; dropped and replaced 1 for A; B failed in 1; a pilot of 6 A/A pairs
    tokens must be identical; 128 tokens compared, all the same
    next: See the failed iterations and the host's log in B's record, `b/`.
    "#);
}

#[test]
fn every_session_fits_eighty_columns() {
    for kind in KINDS.iter().filter(|kind| **kind != "hostile") {
        let shown = table::render(of(kind));
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        assert!(shown.is_ascii() || !shown.contains('\u{a0}'), "{shown}");
    }
    let mut long = session("unchanged");
    long.manifest.gates[0].gate.cells.length = Some(1_048_576);
    long.manifest.gates[0].gate.cells.engine = Some("an-engine-with-a-label-of-32-chr".to_owned());
    let shown = table::render(&told(&long));
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
}

#[test]
fn a_spoilt_pilot_and_allowed_divergences_are_called_so() {
    let mut summary = of("output-changed").clone();
    (summary.counts.pilot_ok, summary.counts.pilot_dropped) = (0, 5);
    summary.outputs.divergences.truncate(1);
    let shown = markdown::render(&summary);
    assert!(shown.contains("a pilot without a valid pair") && shown.contains("1 divergence, allowed"), "{shown}");
}

#[test]
fn a_pull_request_sees_the_verdict_first_and_the_rest_folded() {
    insta::assert_snapshot!(markdown::render(of("output-changed")), @r#"
    ## ✕ long-context: output changed

    **given A's tokens, B (HEAD (2b2b2b2b)) prefers a different token in 1 places by more than 0.05 logits, first at position 5 (cell 1, turn 0)&#58; token 4242 instead of token 17, by 1.25**

    > synthetic model: random weights, so speed and memory are meaningful, but the text is not

    | gate | cells | B vs A | delta | pairs | caught | verdict |
    |---|---|--:|--:|--:|--:|---|
    | decode | all cells | – | 3 % | 0 | – | **not decided** |
    | prefill | all cells | – | 3 % | 0 | – | **not decided** |
    | peak memory | all cells | – | 3 % | 0 | – | **not decided** |

    B vs A: change of time or bytes, with its interval; + is worse. caught: the smallest slow-down that this session would have caught nine times in ten.

    - The two sides do different work, so their speeds cannot be compared. First find out why the tokens differ.

    <details><summary>What is compared</summary>

    - **A**: main (1a1a1a1a), “Cache the rotations”
    - **B**: HEAD (2b2b2b2b), “Copy the cache at every token”

    | differs | A | B |
    |---|---|---|
    | commit | 1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a | 2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b |
    | revision | main | HEAD |
    | subject | Cache the rotations | Copy the cache at every token |
    | program SHA-256 | 1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a | 2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b |
    | engine&#58; executable's SHA-256 | abababababab | babababababa |

    </details>

    <details><summary>Outputs</summary>

    tokens may differ where B's two best logits are within 0.05; 128 tokens compared, 2 divergences (1 not allowed)

    | cell | turn | position | token of A | token of B | gap of B's logits | allowed |
    |---|--:|--:|--:|--:|--:|--:|
    | len=512 | 0 | 3 | 17 | 4242 | 0.01 | yes |
    | len=2048 | 0 | 5 | 17 | 4242 | 1.25 | **no** |

    </details>

    0 pairs; 20261120T092113Z-ab-long-context-1a2b3c4d, on Example CPU 9000 (Linux x86\_64), order seed 7, inferometer 0.1.0
    "#);
    let regressed = markdown::render(of("regressed"));
    let open: String = regressed.split("<details>").next().unwrap().to_owned();
    assert!(open.starts_with("## ✕ long-context: regressed\n"), "{open}");
    let gates: Vec<&str> = open.lines().filter(|line| line.starts_with('|')).collect();
    insta::assert_snapshot!(gates.join("\n"), @r#"
    | gate | cells | B vs A | delta | pairs | caught | verdict |
    |---|---|--:|--:|--:|--:|---|
    | decode | all cells | +8.0 % \[+7.5, +8.4\] | 3 % | 10 | 3.1 % | **regressed** |
    | prefill | all cells | -0.07 % \[-0.39, +0.40\] | 3 % | 10 | 3.1 % | **unchanged** |
    | peak memory | all cells | 0.0 % \[-0.06, +0.06\] | 3 % | 10 | 3 % | **unchanged** |
    "#);
    let moved = regressed.split("<details>").find(|part| part.starts_with("<summary>Which cost moved")).unwrap();
    insta::assert_snapshot!(moved, @r#"
    <summary>Which cost moved</summary>

    - transformer, decode&#58; the cost per token of context moved (b in t(n) = a + b n)&#58; +8.27e-4 ms/token, +20.8 % at 4100 tokens
    - transformer, prefill: no coefficient clearly moved

    </details>
    "#);
    assert_eq!(regressed.matches("<details>").count(), regressed.matches("</details>").count());
}

#[test]
fn what_is_not_proven_passes_only_where_that_was_asked_for() {
    let record = session("inconclusive");
    let (plain, passed) = (of("inconclusive"), neutral(&record));
    assert_eq!((plain.exit_code, passed.exit_code, passed.neutral), (3, 0, true));
    insta::assert_snapshot!(table::render(&passed).lines().next().unwrap(), @r#"long-context: INCONCLUSIVE (exit 0 because of --neutral-ok)  [synthetic model]"#);
    let comment = markdown::render(&passed);
    insta::assert_snapshot!(comment.split("\n| ").next().unwrap(), @r#"
    ## ? long-context: inconclusive

    **decode is not settled after 30 pairs&#58; 1.3 % slower \[-1.2 %, +4.1 %\]; a delta of 3.3 % would have given unchanged**

    Not proven either way. It counts as passed because of `--neutral-ok`.

    > synthetic model: random weights, so speed and memory are meaningful, but the text is not
    "#);
    let outcomes = |summary: &AbSummary| {
        let text = junit::render(summary);
        let outcome = |line: &str| {
            ["<failure ", "<skipped "]
                .iter()
                .find_map(|tag| line.split_once(tag).map(|(_, rest)| format!("{tag}{rest}")))
        };
        text.lines().filter_map(outcome).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!(outcomes(plain), @r#"<failure type="inconclusive" message="decode is not settled after 30 pairs: 1.3 % slower [-1.2 %, +4.1 %]; a delta of 3.3 % would have given unchanged"/><system-out>decode is not settled after 30 pairs: 1.3 % slower [-1.2 %, +4.1 %]; a delta of 3.3 % would have given unchanged</system-out></testcase>"#);
    insta::assert_snapshot!(outcomes(&passed), @r#"<skipped message="inconclusive: decode is not settled after 30 pairs: 1.3 % slower [-1.2 %, +4.1 %]; a delta of 3.3 % would have given unchanged"/><system-out>decode is not settled after 30 pairs: 1.3 % slower [-1.2 %, +4.1 %]; a delta of 3.3 % would have given unchanged</system-out></testcase>"#);
    for kind in ["regressed", "failed", "invalid", "output-changed"] {
        let summary = neutral(&session(kind));
        assert!(summary.exit_code > 0 && !summary.neutral, "{kind}");
        assert!(junit::render(&summary).contains(&format!("<failure type=\"{kind}\"")), "{kind}");
    }
}

#[test]
fn what_was_broken_off_has_not_passed() {
    let mut broken_off = neutral(&session("not-decided"));
    for _ in 0..2 {
        assert_eq!((broken_off.exit_code, broken_off.neutral), (3, false));
        assert!(broken_off.advice.iter().all(|advice| !advice.contains("--neutral-ok")), "{:?}", broken_off.advice);
        let mut record = session("inconclusive");
        record.manifest.state = FinishState::Interrupted;
        broken_off = neutral(&record);
    }
}

#[test]
fn what_would_have_decided_a_gate_is_said_of_that_gate() {
    let summary = of("inconclusive");
    let open: Vec<_> = summary.gates.iter().filter(|gate| gate.would_decide.is_some()).collect();
    assert!(!open.is_empty());
    for gate in open {
        // Rounded up: a delta that is a little smaller would not have decided.
        let delta = (gate.would_decide.unwrap() * 1000.0 - 1e-6).ceil() / 10.0;
        let delta = format!("a delta of {delta:.1} %");
        assert!(gate.sentence.contains(&delta), "{delta}: {}", gate.sentence);
        let of_gate = format!("the gate on {}.", gate.judgement.name());
        let said: Vec<_> = summary.advice.iter().filter(|advice| advice.ends_with(&of_gate)).collect();
        assert!(matches!(said[..], [advice] if advice.contains(&delta)), "{delta}: {:?}", summary.advice);
    }
}

/// Checks XML with Python, because this project has no XML parser.
fn well_formed(xml: &str) {
    let script = "import sys, xml.etree.ElementTree as e; e.fromstring(sys.argv[1].encode())";
    let out = std::process::Command::new("python3").args(["-c", script, xml]).output().unwrap();
    assert!(out.status.success(), "{}\n{xml}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn junit_has_a_case_a_gate_and_one_for_the_session() {
    insta::assert_snapshot!(junit::render(of("regressed")), @r#"
    <?xml version="1.0" encoding="UTF-8"?>
    <testsuites>
    <testsuite name="inferometer ab: long-context" tests="4" failures="1" errors="0" skipped="0" timestamp="2026-11-20T09:21:13.000Z">
    <testcase classname="inferometer.long-context" name="session"><system-out>10 pairs; a pilot of 6 A/A pairs
    tokens must be identical; 320 tokens compared, all the same</system-out></testcase>
    <testcase classname="inferometer.long-context" name="decode_tps in all cells"><failure type="regressed" message="decode is 8.0 % slower [+7.5 %, +8.4 %] after 10 pairs"/><system-out>decode is 8.0 % slower [+7.5 %, +8.4 %] after 10 pairs</system-out></testcase>
    <testcase classname="inferometer.long-context" name="prefill_tps in all cells"><system-out>prefill differs by less than 3.0 % after 10 pairs: 0.07 % faster [-0.39 %, +0.40 %]</system-out></testcase>
    <testcase classname="inferometer.long-context" name="peak_memory in all cells"><system-out>peak memory differs by less than 3.0 % after 10 pairs: 0.0 % less [-0.06 %, +0.06 %]</system-out></testcase>
    </testsuite>
    </testsuites>
    "#);
    for kind in KINDS {
        let text = junit::render(of(kind));
        let count = |name: &str| text.matches(&format!("<{name} ")).count();
        let suite = text.lines().find(|line| line.starts_with("<testsuite ")).unwrap();
        assert_eq!(count("testcase"), 4);
        for (attribute, element) in [("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")] {
            assert!(suite.contains(&format!(" {attribute}=\"{}\"", count(element))), "{kind}: {suite}");
        }
        well_formed(&text);
        let exit = of(kind).exit_code;
        assert_eq!(count("failure") > 0, exit != 0, "{kind}");
    }
}

#[test]
fn the_cost_that_moved_is_named() {
    let five = || vec![256, 512, 1024, 2048, 4096];
    let context = of("regressed").laws[0].change.as_ref().unwrap();
    assert_eq!(context.named, Some(Term::PerTokenOfContext));
    let same = told(&Session { lengths: five(), ..Session::default() }.record());
    assert_eq!(same.laws.len(), 2);
    assert!(same.laws.iter().all(|law| law.change.as_ref().unwrap().named.is_none()), "{:?}", same.laws);
    let two = of("unchanged");
    insta::assert_snapshot!(two.laws[0].not_identifiable.as_ref().unwrap(), @r#"a growth law needs at least 5 lengths, not 2"#);
}

#[test]
fn figures_are_those_of_the_pairs() {
    let record = Session { lengths: vec![512], noise: 0.0, prefill: 1.25, ..Session::default() }.record();
    let summary = told(&record);
    let gate = summary.gates.iter().find(|gate| gate.judgement.metric() == GateMetric::PrefillTps).unwrap();
    assert!((gate.ratio.unwrap() - 1.25).abs() < 1e-9);
    assert_eq!((gate.judgement.x.len(), gate.verdict), (10, Verdict::Regressed));
    assert!(gate.judgement.x.iter().all(|(_, x)| (x - 1.25_f64.ln()).abs() < 1e-9));
    let effect = summary.effects.iter().find(|effect| effect.metric == "prefill_tps").unwrap();
    assert!((effect.shift - 1.25_f64.ln()).abs() < 1e-9 && effect.stands_out());
    let decode = summary.effects.iter().find(|effect| effect.metric == "decode_tps").unwrap();
    assert_eq!((decode.shift, decode.p_value, decode.adjusted), (0.0, 1.0, 1.0));
    assert!(summary.effects.iter().all(|effect| effect.adjusted >= effect.p_value));
}

#[test]
fn the_files_are_there_and_say_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (record, summary) = (session("regressed"), of("regressed"));
    let page = write(&record, summary, dir.path()).unwrap();
    let folder = page.parent().unwrap();
    let read = |name: &str| fs_err::read_to_string(folder.join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!((&json["verdict"], &json["exit_code"]), (&"regressed".into(), &1.into()));
    assert_eq!(json["gates"][0]["metric"], "decode_tps");
    assert_eq!(json["gates"][0]["verdict"], "regressed");
    assert_eq!(json["gates"][0]["x"].as_array().unwrap().len(), 10);
    assert_eq!(json["sides"][1]["commit"]["revision"], "HEAD");
    assert_eq!(read("summary.md"), markdown::render(summary));
    assert_eq!(read("junit.xml"), junit::render(summary));
    let html = read("index.html");
    for chart in Charts::of(summary).all() {
        assert!(html.contains(&chart.svg), "{}", chart.name);
        assert_eq!(read(&format!("charts/{}.svg", chart.name)), chart.svg);
    }
    insta::assert_snapshot!([elements(&html, "h1"), elements(&html, "h2")].concat().join("\n"), @r#"
    long-context synthetic model
    Gates
    Every pair
    Cell by cell
    Which cost moved
    Every metric (advisory)
    Outputs
    What differs between the sides
    Excluded pairs
    Provenance
    "#);
    assert!(!html.contains("<script"));
    assert_eq!(html.matches("http://").count(), html.matches("http://www.w3.org/2000/svg").count());
    let again = write(&record, &told(&record), dir.path()).unwrap();
    assert_eq!(fs_err::read_to_string(again).unwrap(), html, "same record, same bytes");
}

#[test]
fn the_page_about_sessions_names_every_field() {
    let page = fs_err::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guides/ab.md")).unwrap();
    let (_, page) = page.split_once("`summary.json` has").expect("the page has the fields");
    let json: serde_json::Value = serde_json::from_str(&of("inconclusive").to_json()).unwrap();
    let gate = json["gates"][0].as_object().unwrap();
    for field in json.as_object().unwrap().keys().chain(gate.keys()) {
        assert!(page.contains(&format!("`{field}`")), "docs/guides/ab.md says nothing of {field}");
    }
}

#[test]
fn charts_hold_a_dot_for_every_pair_and_a_cross_for_every_other() {
    let summary = of("failed");
    let charts = Charts::of(summary);
    assert_eq!(charts.pairs.len(), 3);
    for chart in &charts.pairs {
        assert_eq!(chart.svg.matches("<circle").count(), 2, "{}", chart.description);
    }
    let told: Vec<&str> = charts.pairs.iter().map(|chart| chart.description.as_str()).collect();
    insta::assert_snapshot!(told.join("\n"), @r#"
    Every pair: decode, all cells: 2 pairs (0 with A first, 2 with B first), changes of B vs A from -0.1 % to +0.9 %; 2 excluded pairs.
    Every pair: prefill, all cells: 2 pairs (0 with A first, 2 with B first), changes of B vs A from -0.4 % to +0.2 %; 2 excluded pairs.
    Every pair: peak memory, all cells: 2 pairs (0 with A first, 2 with B first), changes of B vs A from -0.0 % to -0.0 %; 2 excluded pairs.
    "#);
    assert!(Charts::of(of("output-changed")).all().next().is_none(), "nothing was measured");
}

#[test]
fn hostile_text_stays_text() {
    let (record, summary) = (session("hostile"), of("hostile"));
    let dir = tempfile::tempdir().unwrap();
    let page = write(&record, summary, dir.path()).unwrap();
    let html = fs_err::read_to_string(page).unwrap();
    let formats = [&html, &markdown::render(summary), &junit::render(summary), &table::render(summary)];
    for (at, text) in formats.into_iter().enumerate() {
        assert!(at == 3 || !text.contains("<script") && !text.contains("<img"), "format {at}");
        assert!(!text.contains(['\u{202e}', '\u{0}', '\u{1b}']), "format {at}");
        assert!(text.contains("alert(1)"), "format {at} shows it");
    }
    assert!(HOSTILE.contains('|'));
    let markdown = markdown::render(summary);
    let rows: Vec<&str> = markdown.lines().filter(|line| line.starts_with("| decode")).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.replace("\\|", "").matches('|').count() == 8), "{rows:?}");
}

#[test]
fn hosts_that_stay_load_once_and_that_is_no_sample() {
    let mut record = Session { lengths: vec![512], ..Session::default() }.record();
    let loads = |record: &AbRecord| told(record).effects.iter().any(|effect| effect.metric == "load_s");
    for side in [&mut record.a, &mut record.b] {
        side.requests.iter_mut().for_each(|row| row.load_s = Some(0.5));
    }
    assert!(loads(&record));
    record.manifest.settings.resident = true;
    assert!(!loads(&record));
}

#[test]
fn warnings_of_a_side_are_the_session_s() {
    let mut record = session("not-decided");
    record.b.manifest.warnings = vec!["other programs used 2 cores".to_owned()];
    let summary = told(&record);
    assert_eq!(summary.warnings, ["side B: other programs used 2 cores"]);
    assert_eq!(line(&table::render(&summary), "side B: "), summary.warnings[0]);
}

#[test]
fn the_verb_makes_the_page_of_a_session_again() {
    let folder = tempfile::tempdir().unwrap();
    let record = session("improved");
    let saved = save(&record, &folder.path().join("results"));
    let name = saved.file_name().unwrap().to_str().unwrap();
    let inferometer = |arguments: &[&str]| {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_inferometer"));
        command.current_dir(folder.path()).env("NO_COLOR", "1").arg("report").args(arguments).assert()
    };
    let out = inferometer(&[]).success();
    let printed = String::from_utf8(out.get_output().stdout.clone()).unwrap();
    assert_eq!(printed.trim(), format!("reports/{name}/index.html"), "the newest is found");
    assert!(folder.path().join("reports").join(name).join("junit.xml").is_file());
    let told = inferometer(&[name, "--format", "table"]).success();
    assert_eq!(String::from_utf8(told.get_output().stdout.clone()).unwrap(), table::render(of("improved")));
    let csv = inferometer(&[name, "--format", "csv"]).failure();
    insta::assert_snapshot!(String::from_utf8(csv.get_output().stderr.clone()).unwrap().replace(name, "[SESSION]"), @r#"error: no CSV summary for an A/B session: its pairs are in results/[SESSION]/pairs.csv, its sides' runs in a/ and b/"#);
    inferometer(&[&format!("results/{name}/a")]).success();
}

#[test]
fn a_session_cannot_name_a_folder_elsewhere() {
    let mut record = session("unchanged");
    record.manifest.session = "../elsewhere".to_owned();
    let error = write(&record, &told(&record), std::path::Path::new("/nowhere")).unwrap_err();
    insta::assert_snapshot!(error, @r#"the run is named "../elsewhere", which cannot be a folder; the record's run.json was changed by hand"#);
}

/// Two gates on differences: B's memory rises and falls three times as often as A's, and as far.
fn counted() -> AbRecord {
    let mut record = Session::default().record();
    let rows = record.a.requests.iter_mut().map(|row| (0, row)).chain(record.b.requests.iter_mut().map(|row| (3, row)));
    for (more, row) in rows.filter(|(_, row)| !row.warmup) {
        row.memory_cycles = Some(row.iteration % 2 + more);
        row.memory_swing_bytes = Some(if row.iteration % 2 == 0 { 0 } else { 1 << 20 });
    }
    for (at, metric, least) in [(1, GateMetric::MemoryCycles, 2.0), (2, GateMetric::MemorySwing, 67_108_864.0)] {
        let gate = &mut record.manifest.gates[at];
        (gate.gate.metric, gate.gate.delta, gate.least) = (metric, Some(least), least);
    }
    record
}

#[test]
fn gates_on_counts_are_told_in_counts_everywhere() {
    let summary = told(&counted());
    assert_eq!((summary.verdict, summary.exit_code), (Verdict::Regressed, 1));
    insta::assert_snapshot!(table::render(&summary), @r#"
    long-context: REGRESSED (exit 1)  [synthetic model]
      memory cycles is 3 more [+3, +3] after 10 pairs

    A  main (1a1a1a1a), “Cache the rotations”
    B  HEAD (2b2b2b2b), “Copy the cache at every token”

    gate                     B vs A      delta   pairs     caught   verdict
    ───────────────────────────────────────────────────────────────────────────
    decode   +0.10 % [-0.62, +0.99]        3 %      10      3.2 %   unchanged
    memory              +3 [+3, +3]          2      10          2   regressed
    cycles
    memory                 0 [0, 0]   64.0 MiB      10   64.0 MiB   unchanged
    swing

    B vs A: change of time, bytes or counts, with its interval; + is worse. caught:
    the smallest slow-down that this session would have caught nine times in ten.

    10 pairs; a pilot of 6 A/A pairs
    tokens must be identical; 128 tokens compared, all the same
    next: Check which cells and which cost moved, then profile B in those cells.
    next: If the slow-down is intended, say so in the commit message and raise the
      gate's delta.
    "#);
    let json: serde_json::Value = serde_json::from_str(&summary.to_json()).unwrap();
    let gate = &json["gates"][1];
    assert_eq!(
        (gate["scale"].as_str(), gate["estimate"].as_f64(), gate["least"].as_f64()),
        (Some("count"), Some(3.0), Some(2.0))
    );
    assert!(gate["ratio"].is_null() && json["gates"][0]["ratio"].is_number());
    let effects = json["effects"].as_array().unwrap();
    let cycles = effects.iter().find(|effect| effect["metric"] == "memory_cycles").unwrap();
    assert_eq!((cycles["scale"].as_str(), cycles["shift"].as_f64()), (Some("count"), Some(3.0)));
    let told = markdown::render(&summary);
    let gates: Vec<&str> = told.lines().filter(|line| line.starts_with("| memory ")).collect();
    insta::assert_snapshot!(gates.join("\n"), @r#"
    | memory cycles | all cells | +3 \[+3, +3\] | 2 | 10 | 2 | **regressed** |
    | memory swing | all cells | 0 \[0, 0\] | 64.0 MiB | 10 | 64.0 MiB | **unchanged** |
    "#);
    let cases = junit::render(&summary);
    insta::assert_snapshot!(cases.lines().find(|line| line.contains("name=\"memory_cycles in ")).expect(&cases), @r#"<testcase classname="inferometer.long-context" name="memory_cycles in all cells"><failure type="regressed" message="memory cycles is 3 more [+3, +3] after 10 pairs"/><system-out>memory cycles is 3 more [+3, +3] after 10 pairs</system-out></testcase>"#);
    let charts = Charts::of(&summary);
    let pairs: Vec<&str> = charts.pairs.iter().map(|chart| chart.description.as_str()).collect();
    insta::assert_snapshot!(pairs.join("\n"), @r#"
    Every pair: decode, all cells: 10 pairs (5 with A first, 5 with B first), changes of B vs A from -0.7 % to +1.3 %; 0 excluded pairs.
    Every pair: memory cycles, all cells: 10 pairs (5 with A first, 5 with B first), changes of B vs A from +3.0 to +3.0; 0 excluded pairs.
    Every pair: memory swing, all cells: 10 pairs (5 with A first, 5 with B first), changes of B vs A from +0.0 MiB to +0.0 MiB; 0 excluded pairs.
    "#);
    // A chart of ratios has no place for counts and bytes.
    insta::assert_snapshot!(elements(&charts.gates.unwrap().svg, "text").join("\n"), @r#"
    Every gate: B vs A
    mark: estimate; bar: interval; shaded: less than delta
    decode
    unchanged, all cells
    −4 %
    −2 %
    0
    +2 %
    +4 %
    change of time or bytes from A to B: right of 0 is worse
    "#);
    let dir = tempfile::tempdir().unwrap();
    let folder = save(&counted(), dir.path());
    assert_eq!(inferometer::record::ab::read(&folder).unwrap().manifest.gates[1].least, 2.0);
}
