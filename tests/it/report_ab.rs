//! The report of A/B sessions that are not measured but made: every verdict, in every format.

use inferometer::record::ab::AbRecord;
use inferometer::report::ab::{AbSummary, Charts, Telling, junit, markdown, table, write};
use inferometer::spec::GateMetric;
use inferometer::stats::sequential::Verdict;

use crate::simulated_ab::{KINDS, Session, session};
use crate::simulated_run::HOSTILE;

fn told(record: &AbRecord) -> AbSummary {
    AbSummary::of(record, Telling::default())
}

fn neutral(record: &AbRecord) -> AbSummary {
    AbSummary::of(record, Telling { neutral_ok: true })
}

#[test]
fn a_made_session_comes_to_the_verdict_it_is_named_after() {
    for kind in KINDS.iter().filter(|kind| **kind != "hostile") {
        let summary = told(&session(kind));
        assert_eq!(summary.verdict.name(), *kind, "{:?}", summary.reasons);
        assert_eq!(summary.exit_code, summary.verdict.exit_code());
        assert!(!summary.advice.is_empty() && !summary.neutral);
        assert_eq!(summary.marks(), ["synthetic model"]);
    }
}

#[test]
fn the_terminal_has_the_verdict_the_gates_and_what_to_do() {
    insta::assert_snapshot!(table::render(&told(&session("regressed"))), @"");
    insta::assert_snapshot!(table::render(&told(&session("failed"))), @"");
}

#[test]
fn every_session_fits_eighty_columns() {
    for kind in KINDS.iter().filter(|kind| **kind != "hostile") {
        let shown = table::render(&told(&session(kind)));
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
fn a_pull_request_sees_the_verdict_first_and_the_rest_folded() {
    insta::assert_snapshot!(markdown::render(&told(&session("output-changed"))), @"");
    let regressed = markdown::render(&told(&session("regressed")));
    let open: String = regressed.split("<details>").next().unwrap().to_owned();
    assert!(open.starts_with("## ✕ long-context: regressed\n"), "{open}");
    assert!(open.contains("| decode | all cells | +8.0 %"), "{open}");
    assert!(regressed.contains("per token of context"), "{regressed}");
    assert_eq!(regressed.matches("<details>").count(), regressed.matches("</details>").count());
}

#[test]
fn what_is_not_proven_passes_only_where_that_was_asked_for() {
    let record = session("inconclusive");
    let (plain, passed) = (told(&record), neutral(&record));
    assert_eq!((plain.exit_code, passed.exit_code, passed.neutral), (3, 0, true));
    assert!(table::render(&passed).contains("INCONCLUSIVE (exit 0 by --neutral-ok)"));
    assert!(markdown::render(&passed).contains("counts as passed here because of `--neutral-ok`"));
    assert!(junit::render(&plain).contains("<failure type=\"inconclusive\""));
    assert!(junit::render(&passed).contains("<skipped message=\"inconclusive: "));
    for kind in ["regressed", "failed", "invalid", "output-changed"] {
        let summary = neutral(&session(kind));
        assert!(summary.exit_code > 0 && !summary.neutral, "{kind}");
        assert!(junit::render(&summary).contains(&format!("<failure type=\"{kind}\"")), "{kind}");
    }
}

/// Python has a parser of XML, this project none.
fn well_formed(xml: &str) {
    let script = "import sys, xml.etree.ElementTree as e; e.fromstring(sys.argv[1].encode())";
    let out = std::process::Command::new("python3").args(["-c", script, xml]).output().unwrap();
    assert!(out.status.success(), "{}\n{xml}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn junit_has_a_case_a_gate_and_one_for_the_session() {
    insta::assert_snapshot!(junit::render(&told(&session("regressed"))), @"");
    for kind in KINDS {
        let text = junit::render(&told(&session(kind)));
        let count = |name: &str| text.matches(&format!("<{name} ")).count();
        let suite = text.lines().find(|line| line.starts_with("<testsuite ")).unwrap();
        assert_eq!(count("testcase"), 4);
        for (attribute, element) in [("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")] {
            assert!(suite.contains(&format!(" {attribute}=\"{}\"", count(element))), "{kind}: {suite}");
        }
        well_formed(&text);
        let exit = told(&session(kind)).exit_code;
        assert_eq!(count("failure") > 0, exit != 0, "{kind}");
    }
}

#[test]
fn the_cost_that_moved_is_named() {
    let moved = |session: Session| table::render(&told(&session.record()));
    let five = || vec![256, 512, 1024, 2048, 4096];
    let context = moved(Session { lengths: five(), per_context: 0.05, ..Session::default() });
    assert!(context.contains("decode: what moved is the cost per token of context (b in"), "{context}");
    let constant = moved(Session { lengths: five(), per_token: 1.1, ..Session::default() });
    assert!(constant.contains("REGRESSED"), "{constant}");
    let same = told(&Session { lengths: five(), ..Session::default() }.record());
    assert_eq!(same.laws.len(), 2);
    assert!(same.laws.iter().all(|law| law.change.as_ref().unwrap().named.is_none()), "{:?}", same.laws);
    let two = told(&session("unchanged"));
    assert!(two.laws[0].not_identifiable.as_ref().unwrap().contains("needs 5 lengths"), "{:?}", two.laws[0]);
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
    let record = session("regressed");
    let page = write(&record, &told(&record), dir.path()).unwrap();
    let folder = page.parent().unwrap();
    let read = |name: &str| fs_err::read_to_string(folder.join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&read("summary.json")).unwrap();
    assert_eq!((&json["verdict"], &json["exit_code"]), (&"regressed".into(), &1.into()));
    assert_eq!(json["gates"][0]["metric"], "decode_tps");
    assert_eq!(json["gates"][0]["verdict"], "regressed");
    assert_eq!(json["gates"][0]["x"].as_array().unwrap().len(), 10);
    assert_eq!(json["sides"][1]["commit"]["revision"], "HEAD");
    for name in ["summary.md", "junit.xml"] {
        assert!(read(name).contains("regressed"), "{name}");
    }
    let html = read("index.html");
    for chart in Charts::of(&told(&record)).all() {
        assert!(html.contains(&chart.svg), "{}", chart.name);
        assert_eq!(read(&format!("charts/{}.svg", chart.name)), chart.svg);
    }
    for words in ["Regressed", "Which cost moved", "Every pair", "What differs between the sides", "Provenance"] {
        assert!(html.contains(words), "{words}");
    }
    assert!(
        !html.contains("<script") && !html.contains("http://")
            || html.matches("http://").count() == html.matches("http://www.w3.org/2000/svg").count()
    );
    let again = write(&record, &told(&record), dir.path()).unwrap();
    assert_eq!(fs_err::read_to_string(again).unwrap(), html, "same record, same bytes");
}

#[test]
fn charts_hold_a_dot_for_every_pair_and_a_cross_for_every_other() {
    let summary = told(&session("failed"));
    let charts = Charts::of(&summary);
    assert_eq!(charts.pairs.len(), 3);
    for chart in &charts.pairs {
        assert_eq!(chart.svg.matches("<circle").count(), 2, "{}", chart.description);
        assert!(chart.description.contains("2 pairs do not count"), "{}", chart.description);
    }
    assert!(Charts::of(&told(&session("output-changed"))).all().next().is_none(), "nothing was measured");
}

#[test]
fn hostile_text_stays_text() {
    let record = session("hostile");
    let summary = told(&record);
    let dir = tempfile::tempdir().unwrap();
    let page = write(&record, &summary, dir.path()).unwrap();
    let html = fs_err::read_to_string(page).unwrap();
    let formats = [&html, &markdown::render(&summary), &junit::render(&summary), &table::render(&summary)];
    for (at, text) in formats.into_iter().enumerate() {
        assert!(at == 3 || !text.contains("<script") && !text.contains("<img"), "format {at}");
        assert!(!text.contains(['\u{202e}', '\u{0}', '\u{1b}']), "format {at}");
        assert!(text.contains("alert(1)"), "format {at} shows it");
    }
    assert!(
        HOSTILE.contains('|')
            && markdown::render(&summary)
                .lines()
                .filter(|l| l.starts_with("| decode"))
                .all(|l| { l.replace("\\|", "").matches('|').count() == 8 })
    );
}

#[test]
fn a_session_cannot_name_a_folder_elsewhere() {
    let mut record = session("unchanged");
    record.manifest.session = "../elsewhere".to_owned();
    let error = write(&record, &told(&record), std::path::Path::new("/nowhere")).unwrap_err();
    assert!(error.to_string().contains("cannot be a folder"), "{error}");
}
