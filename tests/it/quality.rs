//! The quality pass through the whole program: perplexity in runs, KL divergence in sessions, and
//! everything that prevents them.

use std::path::{Path, PathBuf};

use inferometer::record::ab;
use inferometer::record::quality::Scored;

use crate::lab::{Done, Lab, section};

const TEXT: &str = "[quality]\ntext_file = \"text.txt\"\ncontext = 8\ntokens = 40\n";
/// Decided after ten pairs, whatever the machine does.
const AB: &str = "[ab]\npilot = 0\noutputs = \"any\"\n[[gate]]\nmetric = \"peak_memory\"\ndelta = \"95%\"\n";

/// A scenario of the tiny model on one thread; `rest` is further TOML.
fn scenario(lab: &Lab, rest: &str) -> PathBuf {
    let essay = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/prompts/essay.txt");
    lab.write("text.txt", fs_err::read(essay).unwrap());
    lab.write(
        "quality.toml",
        format!(
            "name = \"quality\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\" }}\n\
             [workload]\ntext = \"one two three four five\"\nlengths = [8, 16]\nmax_tokens = 4\nignore_eos = true\n\
             [run]\niterations = 1\nexternal_causes = \"warn\"\n{rest}"
        ),
    )
}

fn json(done: &Done) -> serde_json::Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e} in {}", done.stdout))
}

/// Exit code and errors of a scenario that is refused before anything runs.
fn refused(lab: &Lab, scenario: &Path, code: i32) -> String {
    let done = lab.measure(scenario, &[]).expect(code);
    assert!(lab.run_folder().is_none(), "nothing is recorded");
    lab.shown(&done.stderr)
}

/// `perplexity` of a line, computed from its numbers.
fn by_hand(scored: &Scored) -> f64 {
    let losses = scored.logprobs.iter().map(|one| -f64::from(*one));
    (losses.sum::<f64>() / scored.logprobs.len() as f64).exp()
}

/// Its host has unloaded the model when the pass begins.
#[test]
fn a_model_that_was_unloaded_is_loaded_for_the_pass() {
    let lab = Lab::new();
    let scenario = scenario(&lab, TEXT);
    lab.measure(&scenario, &["--set", "run.isolation=load", "--set", "workload.lengths=[8]"]).expect(0);
    let quality = lab.record().quality;
    assert_eq!(quality.len(), 1);
    assert_eq!((quality[0].logprobs.len(), &quality[0].missing), (40, &None));
    let dir = lab.run_folder().unwrap();
    lab.run(&["report", dir.to_str().unwrap()]).expect(0);
    let page = lab.path("reports").join(dir.file_name().unwrap()).join("index.html");
    let page = fs_err::read_to_string(page).unwrap();
    assert!(section(&page, "figures").contains("eak: inconclusive"), "the page has the verdict on leaks");
}

#[test]
fn a_run_shows_perplexity_beside_speed() {
    let lab = Lab::new();
    let scenario = scenario(&lab, &format!("{TEXT}[toggles]\ndtype = [\"f32\", \"q8_0\"]\nthreads = 1\n"));
    let done = lab.measure(&scenario, &["--format", "json"]).expect(0);
    let record = lab.record();
    // Cells that differ in length only are scored once.
    let cells: Vec<_> = record.quality.iter().map(|scored| scored.cells.clone()).collect();
    assert_eq!(cells, [[0, 2], [1, 3]]);
    for scored in &record.quality {
        assert_eq!((scored.context, scored.logprobs.len(), scored.top.len()), (8, 40, 0));
        let repeated = scored.repeated.unwrap();
        assert_eq!((repeated.tokens, repeated.difference), (32, 0.0), "it is deterministic");
        assert_eq!(scored.text_hash, record.quality[0].text_hash);
    }
    let shown = json(&done);
    let of = |cell: usize| shown["cells"][cell]["quality"]["perplexity"]["perplexity"].as_f64().unwrap();
    for (cell, scored) in [(0, 0), (2, 0), (1, 1), (3, 1)] {
        assert!((of(cell) / by_hand(&record.quality[scored]) - 1.0).abs() < 1e-9);
    }
    assert!(of(0) != of(1) && (of(0) / of(1) - 1.0).abs() < 0.05, "rounding of weights is seen and small");

    let dir = lab.run_folder().unwrap();
    let report = |format: &str| lab.run(&["report", dir.to_str().unwrap(), "--format", format]).expect(0).stdout;
    let table = report("table");
    assert_eq!(table.matches("    perplexity ").count(), 4, "{table}");
    assert!(table.contains("perplexity: of 40 tokens of text.txt after 8 tokens of context"), "{table}");
    assert!(report("md").lines().any(|line| line.starts_with("| cell |") && line.contains("perplexity")));
    let csv = report("csv");
    let rows: Vec<&str> = csv.lines().filter(|line| line.contains(",perplexity,")).collect();
    assert_eq!(rows.len(), 4, "{csv}");
    assert!(rows[0].contains(&format!(",40,{},", of(0))), "{}", rows[0]);
    let page = fs_err::read_to_string(lab.path("reports").join(dir.file_name().unwrap()).join("index.html")).unwrap();
    assert!(section(&page, "figures").contains("Perplexity"), "{page}");
}

#[test]
fn a_session_shows_what_a_side_costs() {
    let lab = Lab::new();
    let path = scenario(&lab, &format!("{TEXT}{AB}"));
    let sides = ["--a", "dtype=f32", "--b", "dtype=q8_0"];
    let arguments = [&["ab", path.to_str().unwrap(), "--format", "json"][..], &sides].concat();
    let shown = json(&lab.run(&arguments).expect(0));
    let dir = fs_err::read_dir(lab.path("results")).unwrap().next().unwrap().unwrap().path();
    let record = ab::open(&dir).unwrap();
    let (a, b) = (&record.a.quality[0], &record.b.quality[0]);
    assert_eq!((a.top.len(), a.top[0].len()), (40, 256));
    let found = &shown["quality"][0];
    assert_eq!(found["cells"], serde_json::json!([0, 1]));
    let ratio = found["divergence"]["ratio"].as_f64().unwrap();
    assert!((ratio / (by_hand(b) / by_hand(a)) - 1.0).abs() < 1e-6, "{ratio}");
    let kl = found["divergence"]["kl"].as_f64().unwrap();
    assert!(kl > 0.0 && kl < 0.1, "{kl}");

    let report = |format: &str| lab.run(&["report", dir.to_str().unwrap(), "--format", format]).expect(0).stdout;
    let table = report("table");
    assert!(table.contains("KL divergence at least"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert!(report("md").contains("KL 99 %"), "the table is in the comment too");
    let page = fs_err::read_to_string(lab.path("reports").join(dir.file_name().unwrap()).join("index.html")).unwrap();
    assert!(section(&page, "quality").contains("KL"), "{page}");

    // A redacted record has the perplexity, but neither the text's tokens nor what follows from
    // them.
    let out = lab.path("redacted");
    lab.run(&["results", "redact", dir.to_str().unwrap(), "--output", out.to_str().unwrap()]).expect(0);
    let out = fs_err::read_dir(&out).unwrap().next().unwrap().unwrap().path();
    let copy = ab::open(&out).unwrap();
    let line = &copy.a.quality[0];
    assert!(line.ids.is_empty() && line.top.is_empty() && line.missing.is_none());
    assert_eq!(line.logprobs, a.logprobs);
    assert_eq!(copy.a.manifest.scenario.quality.as_ref().unwrap().text, "[text]");
    let shown = lab.run(&["report", out.to_str().unwrap(), "--format", "table"]).expect(0).stdout;
    assert!(shown.contains("not compared") && shown.contains("redacted"), "{shown}");
}

#[test]
fn equal_sides_do_not_diverge() {
    let lab = Lab::new();
    let path = scenario(&lab, AB);
    let text = lab.path("text.txt");
    let arguments =
        ["ab", path.to_str().unwrap(), "--same", "--quality", text.to_str().unwrap(), "--set", "quality.tokens=16"];
    let arguments = [&arguments[..], &["--set", "quality.context=4", "--format", "json", "--no-report"]].concat();
    let shown = json(&lab.run(&arguments).expect(0));
    let of = &shown["quality"][0]["divergence"];
    assert_eq!((of["kl"].as_f64(), of["ratio"].as_f64(), of["same_top"].as_f64()), (Some(0.0), Some(1.0), Some(1.0)));
}

#[test]
fn an_engine_without_probabilities_has_no_column_but_a_reason() {
    let lab = Lab::new();
    let path = scenario(&lab, &format!("{TEXT}[[engine]]\nname = \"simulated\"\n"));
    let done =
        lab.measure(&path, &[]).expect(0).says("no perplexity of cell `len=8`: engine `simulated` cannot report it");
    let record = lab.record();
    let why = record.quality[0].missing.as_deref().unwrap();
    insta::assert_snapshot!(why, @r#"engine `simulated` cannot report it: it lacks the capability `logprobs`"#);
    assert!(record.quality[0].logprobs.is_empty());
    assert!(
        done.stdout.contains("perplexity –") && done.stdout.contains("no perplexity of len=8 and len=16"),
        "{}",
        done.stdout
    );
}

#[test]
fn a_text_that_cannot_be_scored_is_refused() {
    let lab = Lab::new();
    let path = scenario(&lab, TEXT);
    let told = |text: &[u8], code: i32| {
        lab.write("text.txt", text);
        refused(&lab, &path, code)
    };
    insta::assert_snapshot!(told(b"Too short for this.", 2), @r#"error: the quality text text.txt has 6 tokens by the model's tokenizer, but `quality.context` = 8 and `quality.tokens` = 40 need 48: give a longer text, or lower one of them"#);
    insta::assert_snapshot!(told(b"\xff\xfe", 2), @r#"
    error: cannot read the quality text `text.txt`: it is not UTF-8 text: line 1, byte 0 of the file
      --> [LAB]/quality.toml:13:13
       |
    13 | text_file = "text.txt"
       |             ^^^^^^^^^^
       |
       = help: looked for [LAB]/text.txt
    "#);
    insta::assert_snapshot!(told(b" ", 2), @r#"
    error: cannot read the quality text `text.txt`: it is empty
      --> [LAB]/quality.toml:13:13
       |
    13 | text_file = "text.txt"
       |             ^^^^^^^^^^
       |
       = help: looked for [LAB]/text.txt
    "#);
    fs_err::remove_file(lab.path("text.txt")).unwrap();
    insta::assert_snapshot!(refused(&lab, &path, 2), @r#"
    error: cannot read the quality text `text.txt`: there is no such file
      --> [LAB]/quality.toml:13:13
       |
    13 | text_file = "text.txt"
       |             ^^^^^^^^^^
       |
       = help: looked for [LAB]/text.txt
    "#);
    let both = scenario(&lab, "[quality]\ntext = \"a\"\ntext_file = \"text.txt\"\n");
    insta::assert_snapshot!(refused(&lab, &both, 2), @r#"
    error: `text` and `text_file` cannot be used together
      --> [LAB]/quality.toml:14:1
       |
    14 | text_file = "text.txt"
       | ^^^^^^^^^ remove one of the two
    "#);
    let none = scenario(&lab, "[quality]\ntokens = 1\n");
    insta::assert_snapshot!(refused(&lab, &none, 2), @r#"
    error: [quality] needs either `text` or `text_file`
      --> [LAB]/quality.toml:12:2
       |
    12 | [quality]
       |  ^^^^^^^
       |
       = help: `text`: the text
       = help: `text_file`: file with the text (UTF-8, at most 64 MiB), relative
               to the scenario's folder; `prompts/us-constitution.txt` is 25 kB
               long

    error: `tokens` must be a whole number from 2 to 4096, not 1
      --> [LAB]/quality.toml:13:10
       |
    13 | tokens = 1
       |          ^
       |
       = help: `tokens`: tokens after them that are scored
    "#);
    let long = scenario(&lab, "[quality]\ntext_file = \"text.txt\"\ncontext = 65536\n");
    insta::assert_snapshot!(refused(&lab, &long, 2), @r#"error: the quality text text.txt has 5744 tokens by the model's tokenizer, but `quality.context` = 65536 and `quality.tokens` = 512 need 66048: give a longer text, or lower one of them"#);
}

#[test]
fn a_corrupted_line_is_not_believed() {
    let lab = Lab::new();
    let path = scenario(&lab, TEXT);
    lab.measure(&path, &[]).expect(0);
    let dir = lab.run_folder().unwrap();
    let file = dir.join("quality.jsonl");
    let text = fs_err::read_to_string(&file).unwrap();
    fs_err::write(&file, text.replacen("\"logprobs\":[-", "\"logprobs\":[", 1)).unwrap();
    let report = || lab.run(&["report", dir.to_str().unwrap(), "--format", "table"]);
    let shown = report().expect(0).stdout;
    assert!(shown.contains("perplexity –") && shown.contains("the record contradicts itself"), "{shown}");
    fs_err::write(&file, &text[..text.len() / 2]).unwrap();
    report().expect(2).says("quality.jsonl").says("remove the line");
}

/// A run that is killed or stopped before the pass has it after `--resume`; what failed is tried
/// again.
#[test]
fn the_pass_is_resumed() {
    let lab = Lab::new();
    let path = scenario(&lab, TEXT);
    lab.measure(&path, &[]).expect(0);
    let dir = lab.run_folder().unwrap();
    let before = lab.record().quality;
    let file = dir.join("quality.jsonl");
    let resumed = || {
        let manifest = dir.join("run.json");
        let text = fs_err::read_to_string(&manifest).unwrap();
        fs_err::write(&manifest, text.replacen("\"state\": \"finished\"", "\"state\": \"interrupted\"", 1)).unwrap();
        lab.resume(&[]).expect(0);
        lab.record().quality
    };
    fs_err::remove_file(&file).unwrap();
    assert_eq!(resumed()[0].logprobs, before[0].logprobs);
    let failed = Scored { logprobs: Vec::new(), missing: Some("no host".to_owned()), ..before[0].clone() };
    fs_err::write(&file, serde_json::to_string(&failed).unwrap() + "\n").unwrap();
    let after = resumed();
    assert_eq!((after.len(), &after[0].missing), (1, &None));
    assert_eq!(after[0].logprobs, before[0].logprobs);
}
