//! Several engines in one run, side by side: from simulated records and from a run made here.

use inferometer::compare::engines::{Ranking, SideBySide, Topic, side_by_side};
use inferometer::compare::outputs::Outputs;
use inferometer::compare::runs::Change;
use inferometer::record::{Record, Timing};
use inferometer::report::charts::Charts;
use inferometer::report::summary::Summary;
use inferometer::report::{engines, html, markdown, terminal};
use inferometer::spec::{Axis, Isolation};
use inferometer_protocol::Value;

use crate::lab::{Lab, elements, section};
use crate::simulated_run::{HOSTILE, Simulation, as_engines, diverge, poison};

/// Two engines at two lengths. The second one decodes faster by 1.31 and prefills as the first.
fn two() -> Record {
    let mut record = Simulation { caps: vec![0, 768], lengths: vec![512, 2048], ..Simulation::default() }.record();
    as_engines(&mut record, &["transformer", "llama-cpp"]);
    let mut first = Vec::new();
    for row in record.requests.iter_mut().filter(|row| !row.warmup) {
        // The same noise on both sides, so that the ratio is known.
        let at = (row.iteration, row.cell % 2);
        if row.cell < 2 {
            first.push((at, row.decode_tps, row.prefill_tps));
        }
    }
    for row in record.requests.iter_mut().filter(|row| !row.warmup && row.cell >= 2) {
        let at = (row.iteration, row.cell % 2);
        let (_, decode, prefill) = first.iter().find(|(of, ..)| *of == at).unwrap();
        row.decode_tps = decode.map(|tps| tps * 1.31);
        row.prefill_tps = *prefill;
    }
    record
}

fn compared(record: &Record) -> SideBySide {
    side_by_side(record).expect("two engines did the same work")
}

fn ranking<'a>(of: &'a SideBySide, metric: &str) -> &'a Ranking {
    of.works[0].rankings.iter().find(|ranking| ranking.metric == metric).unwrap()
}

#[test]
fn engines_are_ranked_by_each_metric_against_the_first() {
    let of = compared(&two());
    assert_eq!(of.engines, ["transformer", "llama-cpp"]);
    assert_eq!(of.works.iter().map(|work| work.length).collect::<Vec<_>>(), [Some(512), Some(2048)]);
    assert_eq!(of.tests, 8, "four metrics at two lengths");
    let decode = ranking(&of, "decode_tps");
    let order: Vec<u32> = decode.places.iter().map(|place| place.cell).collect();
    assert_eq!(order, [2, 0], "the best first");
    assert_eq!(decode.reference().unwrap().cell, 0);
    let against = decode.places[0].against.as_ref().unwrap();
    assert!((against.ratio.unwrap() - 1.31).abs() < 1e-9, "{against:?}");
    let interval = against.interval.unwrap();
    assert!(interval.lo > 1.2 && interval.lo < 1.31 && interval.hi > 1.31 && interval.hi < 1.4, "{interval:?}");
    assert_eq!(against.change, Change::Better);
    let prefill = ranking(&of, "prefill_tps").places.iter().find_map(|place| place.against.clone()).unwrap();
    assert_eq!((prefill.ratio, prefill.change), (Some(1.0), Change::NotShown));
    assert_eq!(of.works[0].sides[1].outputs, Some(Outputs::Same));
    let back: SideBySide = serde_json::from_str(&serde_json::to_string(&of).unwrap()).unwrap();
    assert_eq!(back, of);
}

#[test]
fn what_differs_comes_first_then_outputs_then_ratios() {
    let mut record = two();
    for iteration in 1..=10 {
        diverge(&mut record, 3, iteration, 41);
    }
    record.manifest.hosts[1].receipt.includes.push("transport".to_owned());
    let lines = engines::lines(&compared(&record));
    insta::assert_snapshot!(lines.join("\n"), @r#"
    settings that differ: threads: 1 (transformer), 2 (llama-cpp)
    timing that differs: times include: the model, sampling (transformer), the model, sampling, transport (llama-cpp)
    outputs, 512 tokens, against transformer: llama-cpp: same 64 tokens
    outputs, 2048 tokens, against transformer: llama-cpp: equal for 41 of 64 tokens, then different
    prefill, 512 tokens: llama-cpp does not clearly differ from transformer, 1.00 [0.994, 1.01]
    prefill, 2048 tokens: llama-cpp does not clearly differ from transformer, 1.00 [0.994, 1.01]
    decode, 512 tokens: llama-cpp 1.31 times as fast as transformer [1.30, 1.32]
    decode, 2048 tokens: llama-cpp 1.31 times as fast as transformer [1.30, 1.32]
    TTFT, 512 tokens: llama-cpp does not clearly differ from transformer, 0.996 [0.989, 1.00]
    TTFT, 2048 tokens: llama-cpp does not clearly differ from transformer, 0.996 [0.990, 1.00]
    peak memory, 512 tokens: llama-cpp within 0.5 % of transformer
    peak memory, 2048 tokens: llama-cpp within 0.5 % of transformer
    "#);
    let shown = terminal::render(&Summary::of(&record));
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let at = |text: &str| shown.find(text).unwrap_or_else(|| panic!("no {text} in {shown}"));
    assert!(at("settings that differ") < at("outputs, 512 tokens") && at("outputs, 512 tokens") < at("decode, 512"));
}

#[test]
fn the_threads_of_each_engine_are_a_difference_and_equal_settings_are_not() {
    let mut record = two();
    record.manifest.hosts[1].receipt.settings.insert("mlock".to_owned(), Value::Bool(true));
    let of = compared(&record);
    let found = |what: &str| of.differences.iter().find(|of| of.what == what);
    let threads = found("threads").unwrap();
    assert_eq!(threads.values, [Some("1".to_owned()), Some("2".to_owned())]);
    assert!(threads.topic == Topic::Setting && threads.is_headline());
    assert!(found("dtype").is_none(), "both report q8_0: {:?}", of.differences);
    let mlock = found("mlock").unwrap();
    assert_eq!(mlock.values, [None, Some("true".to_owned())]);
    assert!(!mlock.is_headline(), "only one engine reports it");
}

#[test]
fn times_that_are_not_verified_are_not_ranked_but_memory_is() {
    for (timing, told) in [
        (Timing::Claimed, "llama-cpp not ranked: its token times are not verified"),
        (Timing::Inexact, "llama-cpp not ranked: several tokens share a time stamp"),
    ] {
        let mut record = two();
        record.requests.iter_mut().filter(|row| row.cell >= 2).for_each(|row| row.timing = Some(timing));
        let of = compared(&record);
        let place = ranking(&of, "decode_tps").places.last().unwrap();
        let against = place.against.as_ref().unwrap();
        assert_eq!((place.cell, place.figures, against.ratio), (2, None, None));
        assert_eq!(against.change, Change::NotRanked);
        let lines = engines::lines(&of);
        assert!(lines.contains(&format!("decode, 512 tokens: {told}")), "{lines:#?}");
        assert!(ranking(&of, "peak_rss_bytes").places.iter().all(|place| place.figures.is_some()));
        let charts = Charts::of(&record, &Summary::of(&record));
        assert!(charts.tradeoff.charts.is_empty() && charts.tradeoff.notes[0].contains("not drawn"));
    }
}

#[test]
fn the_first_engine_with_figures_is_the_reference() {
    let mut record = two();
    record.requests.iter_mut().filter(|row| row.cell < 2).for_each(|row| row.timing = Some(Timing::Claimed));
    let lines = engines::lines(&compared(&record));
    let decode: Vec<&String> = lines.iter().filter(|line| line.starts_with("decode, 512")).collect();
    insta::assert_snapshot!(decode[0], @r#"decode, 512 tokens: transformer not ranked: its token times are not verified"#);
}

/// The second engine keeps the scenario's two values of a toggle that the first has for itself.
#[test]
fn cells_of_one_engine_that_differ_have_names_of_their_own() {
    let mut record = two();
    let scenario = &mut record.manifest.scenario;
    scenario.engine_toggles.remove("llama-cpp");
    scenario.toggles.push(Axis { toggle: "threads".to_owned(), values: vec![Value::Int(2), Value::Int(4)] });
    let mut more = record.manifest.plan.cells[2].clone();
    more.id = 4;
    more.toggles.insert("threads".to_owned(), Value::Int(4));
    record.manifest.plan.cells.push(more);
    let of = compared(&record);
    let names: Vec<&str> = of.works[0].sides.iter().map(|side| side.name.as_str()).collect();
    assert_eq!(names, ["transformer", "llama-cpp threads=2", "llama-cpp threads=4"]);
}

#[test]
fn few_iterations_give_a_ratio_without_a_judgement() {
    let mut record = two();
    record.requests.retain(|row| row.iteration <= 2);
    let of = compared(&record);
    assert_eq!(of.tests, 0);
    let lines = engines::lines(&of);
    insta::assert_snapshot!(lines.iter().find(|line| line.starts_with("decode, 512")).unwrap(), @r#"decode, 512 tokens: llama-cpp 1.31 times as fast as transformer (too few iterations to tell)"#);
}

#[test]
fn engines_that_do_not_take_turns_are_told() {
    let mut record = two();
    assert!(engines::note(&compared(&record), "within process").contains("alternate in random order"));
    record.manifest.scenario.run.isolation = Isolation::Cell;
    assert!(engines::note(&compared(&record), "within process").contains("do not alternate (see `run.isolation`)"));
}

#[test]
fn one_engine_or_none_with_the_same_work_has_no_comparison() {
    assert!(side_by_side(&Simulation::default().record()).is_none());
    let mut record = two();
    record.manifest.plan.cells.iter_mut().filter(|cell| cell.engine == 1).for_each(|cell| cell.length = Some(7));
    assert!(side_by_side(&record).is_none());
    let json: serde_json::Value =
        serde_json::from_str(&Summary::of(&Simulation::default().record()).to_json()).unwrap();
    assert!(json.get("side_by_side").is_none());
}

#[test]
fn the_page_and_markdown_show_the_engines_after_the_figures() {
    let record = two();
    let summary = Summary::of(&record);
    let charts = Charts::of(&record, &summary);
    let page = html::page(&record, &summary, &charts);
    let headings = elements(&page, "h2");
    assert_eq!(headings[..2], ["Figures", "Engines side by side"]);
    let part = section(&page, "engines");
    insta::assert_snapshot!(elements(part, "td").join(" | "), @r#"1 | 2 | 10 | 64 | verified | reference | 10 | 64 | verified | same 64 tokens | 10 | 64 | verified | reference | 10 | 64 | verified | same 64 tokens | 955 tok/s | 1 | – | reference | 955 tok/s | 1.00 | [0.994, 1.01] | does not clearly differ | 130 tok/s | 1.31 | [1.30, 1.32] | better | 99.4 tok/s | 1 | – | reference | 533 ms | 0.996 | [0.989, 1.00] | does not clearly differ | 537 ms | 1 | – | reference | 192 MiB | 1 | – | reference | 192 MiB | 1.00 | [1.00, 1.00] | within 0.5 % | 853 tok/s | 1 | – | reference | 853 tok/s | 1.00 | [0.994, 1.01] | does not clearly differ | 103 tok/s | 1.31 | [1.30, 1.32] | better | 78.4 tok/s | 1 | – | reference | 2388 ms | 0.996 | [0.990, 1.00] | does not clearly differ | 2403 ms | 1 | – | reference | 227 MiB | 1 | – | reference | 227 MiB | 1.00 | [1.00, 1.00] | within 0.5 %"#);
    let heads = elements(part, "th");
    assert!(heads.iter().any(|head| head == "llama-cpp") && !heads.iter().any(|head| head == "Llama-cpp"), "{heads:?}");
    let names: Vec<&str> = charts.tradeoff.charts.iter().map(|chart| chart.name.as_str()).collect();
    assert_eq!(names, ["tradeoff-0", "tradeoff-1"]);
    insta::assert_snapshot!(charts.tradeoff.charts[0].description, @r#"Latency against throughput, 512 tokens. transformer, 192 MiB: time to first token 537 ms, decode 99.4 tok/s. llama-cpp, 192 MiB: time to first token 533 ms, decode 130 tok/s. Beaten by no other in both: llama-cpp."#);
    assert!(charts.rates.charts.iter().any(|chart| chart.name == "peak-memory"));
    let text = markdown::render(&summary);
    let at = |text_wanted: &str| text.find(text_wanted).unwrap_or_else(|| panic!("no {text_wanted} in {text}"));
    assert!(text.contains("Mann-Whitney, Benjamini-Hochberg)"), "the note is whole: {text}");
    assert!(at("| cell |") < at("### Engines side by side") && at("- settings that differ") < at("- decode, 512"));
}

#[test]
fn hostile_names_stay_text() {
    let mut record = two();
    poison(&mut record, HOSTILE);
    let summary = Summary::of(&record);
    let page = html::page(&record, &summary, &Charts::of(&record, &summary));
    for text in [&terminal::render(&summary), &markdown::render(&summary), &page] {
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text}");
    }
    assert!(!markdown::render(&summary).contains("<script") && !page.contains("<script"));
}

/// Two hosts of the adapter of the tests, of which the second waits longer for each token.
#[test]
fn a_run_of_two_engines_ranks_them() {
    let lab = Lab::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/engine.py");
    let engine = |label: &str, ms: &str| {
        format!(
            "[[engine]]\nname = \"exec\"\nlabel = {label:?}\noptions = {{ command = [\"python3\", {script:?}, \
             \"--token-ms\", {ms:?}] }}\n"
        )
    };
    let scenario = lab.write(
        "scenario.toml",
        format!(
            "name = \"lab\"\n[model]\npath = \".\"\n{}{}[workload]\ntext = \"one two\"\nmax_tokens = 8\n\
             ignore_eos = true\n[run]\niterations = 6\nexternal_causes = \"warn\"\n",
            engine("quick", "2"),
            engine("slow", "8")
        ),
    );
    let done = lab.run(&["run", scenario.to_str().unwrap()]);
    assert!(done.stdout.contains("engines side by side: quick and slow"), "{}{}", done.stdout, done.stderr);
    let of = compared(&lab.record());
    assert_eq!(of.works[0].sides[1].outputs, Some(Outputs::Same));
    let decode = ranking(&of, "decode_tps");
    assert_eq!(decode.places.iter().map(|place| place.cell).collect::<Vec<_>>(), [0, 1]);
    let ratio = decode.places[1].against.as_ref().unwrap().ratio.unwrap();
    assert!(ratio < 0.6, "8 ms against 2 ms a token: {ratio}");
}
