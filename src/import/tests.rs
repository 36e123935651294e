use super::*;
use crate::record::metric::{DECODE_TPS, PREFILL_TPS, TTFT_MS};

fn fixture(name: &str) -> String {
    fs_err::read_to_string(format!("{}/tests/fixtures/import/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn runs(text: &str) -> Vec<Found> {
    parse(text, None).unwrap().1
}

fn fault(text: &str) -> String {
    let fault = parse(text, None).unwrap_err();
    fault.place.map(|place| place + ": ").unwrap_or_default() + &fault.message
}

#[test]
fn every_format_is_recognized_by_its_content() {
    for (file, format) in [
        ("llama-bench.json", Format::LlamaBench),
        ("llama-bench.jsonl", Format::LlamaBench),
        ("llama-bench.csv", Format::LlamaBench),
        ("llama-bench.sql", Format::LlamaBench),
        ("llama-bench-old.csv", Format::LlamaBench),
        ("mlx-lm.txt", Format::MlxLm),
        ("guidellm.json", Format::Guidellm),
        ("aiperf.json", Format::Aiperf),
        ("vllm.json", Format::Vllm),
        ("vllm-detailed.json", Format::Vllm),
    ] {
        assert_eq!(parse(&fixture(file), None).unwrap().0, format, "{file}");
    }
}

/// JSON and JSON lines hold the same samples as rates; CSV and SQL have means only.
#[test]
fn samples_of_llama_bench_are_iterations_and_means_are_not() {
    let [run] = &runs(&fixture("llama-bench.json"))[..] else { panic!("one build, one model") };
    let [pp, tg] = &run.cells[..] else { panic!("two tests") };
    assert_eq!((pp.label.as_str(), tg.label.as_str()), ("pp32", "tg8"));
    assert_eq!((pp.length, tg.length), (Some(32), None));
    let rates: Vec<f64> = pp.rows.iter().map(|row| row.prefill_tps.unwrap()).collect();
    for (rate, stated) in rates.iter().zip([146.34, 12.7548, 11.5887]) {
        assert!((rate / stated - 1.0).abs() < 1e-4, "{rate}");
    }
    assert!(tg.rows.iter().all(|row| row.decode_tps.is_some() && row.prefill_tps.is_none() && row.ttft_ms.is_none()));
    assert!(pp.rows.iter().chain(&tg.rows).all(|row| row.timing == Some(Timing::Imported)));
    assert_eq!((run.commit.clone(), run.version.clone()), (None, None), "`unknown` and 0 are no build");
    let lines = runs(&fixture("llama-bench.jsonl"));
    assert_eq!(lines[0].cells.iter().map(|cell| cell.rows.len()).collect::<Vec<_>>(), [3, 3]);
    for (file, mean) in [("llama-bench.csv", 53.763_834), ("llama-bench.sql", 17.206_289)] {
        let [run] = &runs(&fixture(file))[..] else { panic!("one build, one model") };
        assert!(run.cells.iter().all(|cell| cell.rows.is_empty()), "{file}");
        let average = &run.cells[0].averages[0];
        assert_eq!((average.metric.as_str(), average.value, average.of), (PREFILL_TPS, mean, AverageOf::Mean));
        assert!(average.deviation.is_some() && average.over.is_none());
        assert_eq!(run.cells[1].averages[0].metric, DECODE_TPS);
        // The settings are the same whatever the format.
        assert_eq!(run.cells[0].settings, lines[0].cells[0].settings, "{file}");
    }
}

#[test]
fn columns_of_old_versions_are_settings() {
    let [run] = &runs(&fixture("llama-bench-old.csv"))[..] else { panic!("one build, one model") };
    assert_eq!((run.commit.as_deref(), run.version.as_deref()), (Some("3469684"), Some("b1275")));
    assert_eq!(run.machine.accelerator.as_deref(), Some("NVIDIA GeForce RTX 3090 Ti"));
    assert_eq!(run.started.unwrap().to_string(), "2023-09-23T12:09:01Z");
    assert_eq!(run.cells[0].settings["f16_kv"], Value::Int(1));
    assert!(!run.cells[0].settings.contains_key("n_depth"), "that version had none");
    assert_eq!(run.cells[0].rows, []);
}

#[test]
fn a_file_of_several_builds_or_repeated_tests_gives_several_runs() {
    let csv = fixture("llama-bench.csv");
    let (head, rows) = csv.split_once('\n').unwrap();
    let other = rows.replace("\"unknown\",\"0\"", "\"abc1234\",\"77\"");
    assert_eq!(runs(&format!("{csv}{head}\n{other}")).len(), 2, "two builds, with the header again");
    assert_eq!(runs(&format!("{csv}{rows}")).len(), 2, "the same tests once more");
    let varied = rows.replace("\"2048\",\"512\",\"2\"", "\"2048\",\"512\",\"4\"");
    let [run] = &runs(&format!("{csv}{varied}"))[..] else { panic!("one run of four tests") };
    let labels: Vec<&str> = run.cells.iter().map(|cell| cell.label.as_str()).collect();
    assert_eq!(labels, ["pp32 n_threads=2", "tg8 n_threads=2", "pp32 n_threads=4", "tg8 n_threads=4"]);
}

#[test]
fn a_test_of_both_parts_and_one_at_a_depth() {
    let row = |p, n, d| format!("{{\"n_prompt\":{p},\"n_gen\":{n},\"n_depth\":{d},\"samples_ns\":[2000000000]}}\n");
    let [run] = &runs(&(row(64, 16, 0) + &row(64, 0, 512) + &row(0, 16, 512)))[..] else { panic!("one run") };
    let labels: Vec<&str> = run.cells.iter().map(|cell| cell.label.as_str()).collect();
    assert_eq!(labels, ["pp64+tg16", "pp64 @ d512", "tg16 @ d512"]);
    let both = &run.cells[0].rows[0];
    assert_eq!((both.e2e_ms, both.prefill_tps, both.decode_tps), (Some(2000.0), None, None));
    let deep = &run.cells[1].rows[0];
    assert_eq!((deep.prompt_tokens, deep.reused_tokens, deep.prefill_tokens), (Some(576), Some(512), Some(64)));
    assert_eq!((deep.prefill_tps, run.cells[2].rows[0].decode_tps), (Some(32.0), Some(8.0)));
}

#[test]
fn a_dump_of_sqlite_has_its_columns_in_the_table() {
    let dump = "PRAGMA foreign_keys=OFF;\nCREATE TABLE test (\n  build_commit TEXT, model_type TEXT, n_prompt INTEGER, n_gen INTEGER, avg_ts REAL\n);\n\
                INSERT INTO test VALUES('a;b','it''s (big)',512,0,10.5),('a;b','it''s (big)',0,128,NULL);\nCOMMIT;\n";
    let [run] = &runs(dump)[..] else { panic!("one run") };
    assert_eq!((run.commit.as_deref(), run.model.as_deref()), (Some("a;b"), Some("it's (big)")));
    assert_eq!((run.cells[0].averages[0].value, run.cells[1].averages.len()), (10.5, 0));
}

/// Characters of several bytes are no place to cut.
#[test]
fn a_dump_may_have_names_in_any_script() {
    let text = "CREATE TABLE \u{e9}t\u{e9} (\u{fc}ber TEXT);\nINSERT INTO \u{e9}t\u{e9} VALUES ('\u{4e2d}');\n";
    let rows = sql::rows(text).unwrap();
    assert_eq!(rows[0].1, [("\u{fc}ber".to_owned(), Some("\u{4e2d}".to_owned()))]);
}

#[test]
fn trials_of_mlx_lm_are_iterations() {
    let [run] = &runs(&fixture("mlx-lm.txt"))[..] else { panic!("one run") };
    let [cell] = &run.cells[..] else { panic!("one cell") };
    assert_eq!((cell.label.as_str(), cell.length, cell.rows.len()), ("pp64+tg16", Some(64), 3));
    let first = &cell.rows[0];
    assert_eq!((first.prefill_tps, first.decode_tps, first.e2e_ms), (Some(1999.104), Some(297.627), Some(86.0)));
    assert_eq!((first.engine_peak_bytes, first.counted_tokens, first.ttft_ms), (Some(7_000_000), Some(16), None));
    assert_eq!((cell.averages.len(), run.model.as_deref()), (0, None));
    // A log whose trials were cut off, and one of a batch, whose rates are sums.
    let cut = "Averages: prompt_tps=10.0, generation_tps=5.0, peak_memory=1.0\n";
    assert_eq!(runs(cut)[0].cells[0].averages.iter().map(|a| a.value).collect::<Vec<_>>(), [10.0, 5.0]);
    let batch = fixture("mlx-lm.txt").replace("batch_size=1", "batch_size=4");
    let cell = &runs(&batch)[0].cells[0];
    assert_eq!((cell.label.as_str(), cell.rows[0].counted_tokens), ("pp64+tg16 batch=4", None));
}

#[test]
fn requests_of_a_detailed_vllm_result_are_iterations() {
    let [run] = &runs(&fixture("vllm-detailed.json"))[..] else { panic!("one run") };
    let rows = &run.cells[0].rows;
    assert_eq!((rows.len(), run.model.as_deref()), (4, Some("Qwen/Qwen3-0.6B")));
    let close = |value: Option<f64>, wanted: f64| assert!((value.unwrap() / wanted - 1.0).abs() < 1e-9, "{value:?}");
    close(rows[0].ttft_ms, 31.0);
    close(rows[0].tpot_ms, 11.0);
    close(rows[0].itl_p50_ms, 11.0);
    close(rows[0].decode_tps, 3.0 / 0.033);
    // Two gaps of four tokens: chunks of several tokens have no gaps between tokens.
    close(rows[2].tpot_ms, 10.0);
    assert_eq!(rows[2].itl_p50_ms, None);
    assert_eq!((rows[3].status, rows[3].reason.as_str(), rows[3].ttft_ms), (Status::Failed, "TimeoutError", None));
    let [plain] = &runs(&fixture("vllm.json"))[..] else { panic!("one run") };
    let cell = &plain.cells[0];
    assert_eq!((cell.rows.len(), cell.label.as_str()), (0, "request_rate=inf max_concurrency=2"));
    let ttft = &cell.averages[0];
    assert_eq!((ttft.metric.as_str(), ttft.value, ttft.of, ttft.over), (TTFT_MS, 31.0, AverageOf::Median, Some(3)));
    assert_eq!(runs(&fixture("vllm.json").repeat(2)).len(), 2, "`--append-result`");
}

#[test]
fn benchmarks_of_guidellm_are_cells() {
    let [run] = &runs(&fixture("guidellm.json"))[..] else { panic!("one run") };
    assert_eq!((run.version.as_deref(), run.model.as_deref()), (Some("0.8.1"), Some("Qwen/Qwen3-0.6B")));
    assert_eq!(run.started.unwrap().to_string(), "2025-11-24T16:00:00.25Z");
    let [one, four] = &run.cells[..] else { panic!("two benchmarks") };
    assert_eq!((one.label.as_str(), four.label.as_str()), ("synchronous", "concurrent streams=4"));
    let row = &one.rows[1];
    assert_eq!((row.ttft_ms, row.tpot_ms, row.e2e_ms), (Some(31.5), Some(10.5), Some(210.0)));
    assert_eq!((row.prompt_tokens, row.counted_tokens), (Some(128), Some(16)));
    assert_eq!(four.averages.iter().map(|average| average.value).collect::<Vec<_>>(), [30.0, 10.0, 200.0]);
}

/// A report that guidellm 0.8.1 wrote about its mock server: means and maxima are its own.
#[test]
fn a_real_report_of_guidellm_gives_its_own_figures() {
    let text = fixture("guidellm-0.8.1.json");
    let [run] = &runs(&text)[..] else { panic!("one run") };
    let [cell] = &run.cells[..] else { panic!("one benchmark") };
    assert_eq!((cell.label.as_str(), cell.rows.len()), ("synchronous max_concurrency=1", 6));
    assert_eq!((run.model.as_deref(), run.version.as_deref()), (Some("mock"), Some("0.8.1")));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let metrics = &report["benchmarks"][0]["metrics"];
    type Figure = (&'static str, fn(&RequestRow) -> Option<f64>, f64);
    let figures: [Figure; 3] = [
        ("time_to_first_token_ms", |row| row.ttft_ms, 1.0),
        ("inter_token_latency_ms", |row| row.tpot_ms, 1.0),
        ("request_latency", |row| row.e2e_ms, 1e3),
    ];
    for (name, of, size) in figures {
        let values: Vec<f64> = cell.rows.iter().filter_map(of).collect();
        assert_eq!(values.len(), 6, "{name}");
        let stated = &metrics[name]["successful"];
        for (found, key) in
            [(values.iter().sum::<f64>() / 6.0, "mean"), (values.iter().copied().fold(f64::MIN, f64::max), "max")]
        {
            let wanted = stated[key].as_f64().unwrap() * size;
            assert!((found / wanted - 1.0).abs() < 1e-9, "{name}, {key}: {found}, stated {wanted}");
        }
    }
}

#[test]
fn statistics_of_aiperf_are_averages() {
    let [run] = &runs(&fixture("aiperf.json"))[..] else { panic!("one run") };
    assert_eq!((run.version.as_deref(), run.model.as_deref()), (Some("0.13.0"), Some("Qwen/Qwen3-0.6B")));
    let cell = &run.cells[0];
    assert_eq!((cell.label.as_str(), cell.rows.len()), ("concurrency=4", 0));
    let shown: Vec<(&str, f64, Option<u64>)> =
        cell.averages.iter().map(|average| (average.metric.as_str(), average.value, average.over)).collect();
    assert_eq!(shown, [("ttft_ms", 31.0, Some(50)), ("tpot_ms", 11.0, Some(50)), ("e2e_ms", 210.0, Some(50))]);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let json = fixture("llama-bench.json");
    let vllm = fixture("vllm-detailed.json");
    let insert = "INSERT INTO t (n_prompt, n_gen) VALUES ";
    for (text, wanted) in [
        (json.replace("218668539", "0"), "[0]: samples_ns[0] is 0, not a time above 0"),
        (json.replace("[ 146.34, ", "[ "), "[0]: 3 samples_ns, but 2 samples_ts"),
        (json.replace("\"n_gen\": 8", "\"n_gen\": -8"), "[1].n_gen: `-8` is not a number from 0 on"),
        (json[..400].to_owned(), "line 16: not JSON: EOF while parsing a value at line 16 column 22"),
        (fixture("llama-bench.csv") + "1,2\n", "line 4: 2 fields, but the header has 42"),
        (format!("{insert}(1, 2, 3);"), "line 1: 3 values for 2 columns"),
        (format!("\n{insert}('1, 2"), "line 2: a list of values without its end"),
        (fixture("mlx-lm.txt").replace("297.627", "fast"), "line 3: `generation_tps=fast` is not NAME=NUMBER"),
        (vllm.replace("[0.031, 0.033,", "[0.031, \"x\","), "ttfts[1]: `\"x\"` is not a number"),
        (
            vllm.replace("\"output_lens\": [4, 4, 4, 0]", "\"output_lens\": [4]"),
            "top level: 1 in output_lens, but 4 in ttfts",
        ),
        (
            fixture("guidellm.json").replace("\"request_latency\": 0.21,", "\"request_latency\": -1,"),
            "benchmarks[0].requests.successful[1].request_latency: -1 is not above 0",
        ),
        (
            fixture("aiperf.json").replace("\"unit\": \"ms\"", "\"unit\": \"miles\""),
            "time_to_first_token: its unit is miles, not a time",
        ),
        (
            fixture("llama-bench.md"),
            "llama-bench's table for people has rounded figures; let it write `-o json`, `jsonl`, `csv` or `sql`",
        ),
        (
            "{}".to_owned(),
            "not recognized as a result of any known tool; name it with `--format llama-bench|mlx-lm|guidellm|aiperf|vllm`",
        ),
        (String::new(), "the file is empty"),
        ("{\"benchmarks\":[]}".to_owned(), "no result of guidellm in it"),
    ] {
        assert_eq!(fault(&text), wanted);
    }
}

proptest::proptest! {
    /// Damaged files are read or refused, never a panic, and no figure is out of its range.
    #[test]
    fn damaged_files_are_read_or_refused(file in 0usize..8, at in 0usize..6000, put in "[ -~\n]{0,6}", format in 0usize..6) {
        const FILES: [&str; 8] = ["llama-bench.json", "llama-bench.csv", "llama-bench.sql", "llama-bench.jsonl",
            "mlx-lm.txt", "guidellm.json", "aiperf.json", "vllm-detailed.json"];
        let mut text = fixture(FILES[file]);
        let at = at % text.len();
        if text.is_char_boundary(at) && text.is_char_boundary((at + 3).min(text.len())) {
            text.replace_range(at..(at + 3).min(text.len()), &put);
        }
        for run in parse(&text, Format::ALL.get(format).copied()).map(|(_, runs)| runs).unwrap_or_default() {
            for row in run.cells.iter().flat_map(|cell| &cell.rows) {
                let figures = [row.prefill_tps, row.decode_tps, row.ttft_ms, row.e2e_ms, row.tpot_ms];
                proptest::prop_assert!(figures.iter().flatten().all(|figure| *figure >= 0.0), "{row:?}");
            }
        }
    }
}
