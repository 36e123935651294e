//! A profiled pass in the report and in the trace.

use std::collections::BTreeMap;

use inferometer::report::charts::Charts;
use inferometer::report::summary::Summary;
use inferometer::report::{html, markdown, trace};
use inferometer_protocol::Phase;
use serde_json::Value;

use super::{profiled, trace_format};
use crate::lab::{elements, section};

#[test]
fn every_microsecond_of_a_token_has_its_place_in_the_summary() {
    let record = profiled::record();
    let summary = Summary::of(&record);
    assert_eq!(summary.spans.len(), 2);
    let capped = &summary.spans[1];
    assert_eq!((capped.iterations, capped.chunks_ms.len()), (3, 4));
    let [prefill, decode] = capped.phases.as_slice() else { panic!("{capped:?}") };
    let spans: Vec<Phase> = prefill.spans.iter().map(|span| span.span).collect();
    assert_eq!(spans, [Phase::Forward, Phase::PrefillChunk]);
    assert_eq!(prefill.unaccounted.own_ms.median, 0.0);
    // 40 ms in four chunks, 8.9 ms of each in its forward pass.
    assert!((prefill.spans[1].own.own_ms.median - (40.0 - 4.0 * 8.9)).abs() < 1e-9);
    let per_token: BTreeMap<&str, f64> =
        decode.spans.iter().map(|s| (s.span.name(), s.own.per_token_us.unwrap().median)).collect();
    let wanted = [("detokenize", 20.0), ("forward", 8000.0), ("penalty", 1000.0), ("sample", 250.0)];
    for (span, us) in wanted {
        assert!((per_token[span] - us).abs() < 1e-6, "{span}: {per_token:?}");
    }
    assert!((decode.unaccounted.per_token_us.unwrap().median - 130.0).abs() < 1e-6);
    let shares: f64 = decode.spans.iter().map(|span| span.own.share.unwrap().median).sum();
    assert!((shares + decode.unaccounted.share.unwrap().median - 1.0).abs() < 1e-9);

    // The main claim of the spans: the penalty is flat with the cap and grows with the history
    // without it.
    let penalty =
        |at: usize| summary.spans[at].along.iter().find(|a| a.span == Phase::Penalty).unwrap().growth.unwrap();
    assert_eq!(penalty(1), 0.0);
    assert!(penalty(0) > 0.8, "{}", penalty(0));
    let decode = &capped.allocations[1];
    assert_eq!((decode.phase, decode.per_token.median, decode.per_token.min), (Phase::Decode, 42.0, 41.0));
    assert_eq!(decode.bytes_per_token.median, 2048.0);
    let back: Summary = serde_json::from_str(&summary.to_json()).unwrap();
    assert_eq!(back, summary);
}

#[test]
fn a_profiled_iteration_that_failed_is_in_no_figure() {
    let mut record = profiled::record();
    record.profile.requests[0].status = inferometer::record::Status::Failed;
    let summary = Summary::of(&record);
    assert_eq!((summary.spans[0].iterations, summary.spans[1].iterations), (2, 3));
    record.profile.requests.iter_mut().for_each(|row| row.status = inferometer::record::Status::Invalid);
    assert!(Summary::of(&record).spans.is_empty());
}

#[test]
fn the_page_and_the_markdown_say_where_the_time_goes() {
    let record = profiled::record();
    let summary = Summary::of(&record);
    let page = html::page(&record, &summary, &Charts::of(&record, &summary));
    let rows = elements(section(&page, "spans"), "tr");
    insta::assert_snapshot!(rows.join("\n"), @r#"
    Span Count Total Own time Own time per token Share of the phase
    forward 4 35.6 ms 35.6 ms 17.4 µs 89.0 %
    rest of the chunks 4 40.0 ms 4.40 ms 2.15 µs 11.0 %
    unaccounted – 0 ns 0 ns 0 ns 0.0 %
    Span Count Total Own time Own time per token Share of the phase
    forward 63 504 ms 504 ms 8.00 ms 77.2 %
    penalty 63 123 ms 123 ms 1.96 ms 18.9 %
    sample 63 15.8 ms 15.8 ms 250 µs 2.4 %
    detokenize 63 1.26 ms 1.26 ms 20.0 µs 0.19 %
    unaccounted – 8.19 ms 8.19 ms 130 µs 1.3 %
    Chunk Time
    1 10.0 ms
    2 10.0 ms
    3 10.0 ms
    4 10.0 ms
    Span First Second Third Last Growth
    forward 8.00 ms 8.00 ms 8.00 ms 8.00 ms +0 %
    penalty 1.25 ms 1.74 ms 2.21 ms 2.68 ms +114 %
    sample 250 µs 250 µs 250 µs 250 µs +0 %
    detokenize 20.0 µs 20.0 µs 20.0 µs 20.0 µs +0 %
    Phase Allocations per token Bytes per token
    Prefill 2.00 1.00 KiB
    Decode 42.0 (41.0 – 43.0) 2.00 KiB
    Span Count Total Own time Own time per token Share of the phase
    forward 4 35.6 ms 35.6 ms 17.4 µs 89.0 %
    rest of the chunks 4 40.0 ms 4.40 ms 2.15 µs 11.0 %
    unaccounted – 0 ns 0 ns 0 ns 0.0 %
    Span Count Total Own time Own time per token Share of the phase
    forward 63 504 ms 504 ms 8.00 ms 85.1 %
    penalty 63 63.0 ms 63.0 ms 1.00 ms 10.6 %
    sample 63 15.8 ms 15.8 ms 250 µs 2.7 %
    detokenize 63 1.26 ms 1.26 ms 20.0 µs 0.21 %
    unaccounted – 8.19 ms 8.19 ms 130 µs 1.4 %
    Chunk Time
    1 10.0 ms
    2 10.0 ms
    3 10.0 ms
    4 10.0 ms
    Span First Second Third Last Growth
    forward 8.00 ms 8.00 ms 8.00 ms 8.00 ms +0 %
    penalty 1.00 ms 1.00 ms 1.00 ms 1.00 ms +0 %
    sample 250 µs 250 µs 250 µs 250 µs +0 %
    detokenize 20.0 µs 20.0 µs 20.0 µs 20.0 µs +0 %
    Phase Allocations per token Bytes per token
    Prefill 2.00 1.00 KiB
    Decode 42.0 (41.0 – 43.0) 2.00 KiB
    "#);
    let told = markdown::render(&summary);
    let table = &told[told.find("| cell | phase | span |").expect(&told)..];
    insta::assert_snapshot!(table.split("\n\n").next().unwrap(), @r#"
    | cell | phase | span | own time per token | share of the phase |
    |---|---|---|--:|--:|
    | cap=0 | prefill | forward | 17.4 µs | 89.0 % |
    | cap=0 | prefill | rest of the chunks | 2.15 µs | 11.0 % |
    | cap=0 | prefill | unaccounted | 0 ns | 0.0 % |
    | cap=0 | decode | forward | 8.00 ms | 77.2 % |
    | cap=0 | decode | penalty | 1.96 ms | 18.9 % |
    | cap=0 | decode | sample | 250 µs | 2.4 % |
    | cap=0 | decode | detokenize | 20.0 µs | 0.19 % |
    | cap=0 | decode | unaccounted | 130 µs | 1.3 % |
    | cap=768 | prefill | forward | 17.4 µs | 89.0 % |
    | cap=768 | prefill | rest of the chunks | 2.15 µs | 11.0 % |
    | cap=768 | prefill | unaccounted | 0 ns | 0.0 % |
    | cap=768 | decode | forward | 8.00 ms | 85.1 % |
    | cap=768 | decode | penalty | 1.00 ms | 10.6 % |
    | cap=768 | decode | sample | 250 µs | 2.7 % |
    | cap=768 | decode | detokenize | 20.0 µs | 0.21 % |
    | cap=768 | decode | unaccounted | 130 µs | 1.4 % |
    "#);
    // Without the pass nothing is said of it.
    let plain = crate::simulated_run::Simulation { iterations: 2, ..Default::default() }.record();
    let summary = Summary::of(&plain);
    assert!(!html::page(&plain, &summary, &Charts::of(&plain, &summary)).contains("id=\"spans\""));
    let json: Value = serde_json::from_str(&summary.to_json()).unwrap();
    assert_eq!(json.get("spans"), None);
}

fn traced(record: &inferometer::record::Record) -> (String, Vec<Value>) {
    let mut bytes = Vec::new();
    trace::write(record, &mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let Value::Object(mut whole) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
    let Some(Value::Array(events)) = whole.remove("traceEvents") else { panic!("no events") };
    (text, events)
}

#[test]
fn the_trace_has_every_row_of_the_record_at_its_nanosecond() {
    let mut record = profiled::record();
    record.manifest.plan.cells[0].label = "a \"quoted\" <label>\n\u{202e}".to_owned();
    // An engine whose spans cross: they go to a thread of their own.
    let last = record.profile.spans.last().unwrap();
    let mut crossing = *last;
    (crossing.start_ns, crossing.end_ns) = (last.start_ns + 1, last.end_ns + 2);
    record.profile.spans.push(crossing);
    let (text, events) = traced(&record);
    let of = |ph: &str, name: Option<&str>| {
        let fits = |e: &&Value| e["ph"] == ph && name.is_none_or(|name| e["name"] == name);
        events.iter().filter(fits).collect::<Vec<_>>()
    };
    assert_eq!(of("i", Some("token")).len(), record.tokens.len() + record.profile.tokens.len());
    let requests = record.requests.len() + record.profile.requests.len();
    let spans = record.spans.len() + record.profile.spans.len();
    assert_eq!(of("X", None).len(), requests + spans + 1, "and the load");
    let samples: usize = record.telemetry.iter().map(|row| row.values.iter().flatten().count()).sum();
    assert_eq!(of("C", None).len(), samples);
    let rss = of("C", Some("rss_bytes"));
    assert!(rss.iter().all(|e| e["args"]["bytes"].is_number()));
    // Nanoseconds are exact. Searches the text, because a parser would turn them into floats.
    let ns = record.profile.spans[7].start_ns;
    assert!(text.contains(&format!("\"ts\":{}.{:03},", ns / 1000, ns % 1000)));
    assert!(of("X", Some("a \"quoted\" <label>\n\u{202e}, profiled 1")).len() == 1);
    let threads: Vec<&Value> = of("M", Some("thread_name")).into_iter().map(|e| &e["args"]["name"]).collect();
    assert_eq!(threads, ["requests", "phases and spans", "spans that cross others", "tokens"]);
}

#[test]
fn export_writes_the_trace_of_a_record_on_disk_and_it_keeps_to_the_format() {
    let record = profiled::record();
    let lab = crate::lab::Lab::new();
    let folder = profiled::save(&record, &lab.path("results"));
    let file = lab.path("trace.json");
    let export = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_inferometer"));
        command.arg("export").arg(&folder).args(arguments).output().unwrap()
    };
    let done = export(&["--format", "trace", "-o", file.to_str().unwrap()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(done.stdout.is_empty());
    let sound = fs_err::read(&file).unwrap();
    let text = String::from_utf8(sound.clone()).unwrap();
    trace_format::check(&text).unwrap();
    for (part, wrong) in
        [("\"dur\":", "\"dur\":9"), ("\"ph\":\"C\"", "\"ph\":\"X\""), ("{\"bytes\":", "{\"bytes\":null,\"b\":")]
    {
        let damaged = text.replacen(part, wrong, 2);
        assert!(damaged != text && trace_format::check(&damaged).is_err(), "{wrong} was not found");
    }
    assert_eq!(export(&["--format", "trace"]).stdout, sound);
    assert!(export(&["--format", "csv"]).stdout.starts_with(b"run,cell,label"));
    let summary: Summary = serde_json::from_slice(&export(&["--format", "json"]).stdout).unwrap();
    assert_eq!(summary.cells.len(), 2);
    let nowhere = lab.path("no/such/folder/trace.json");
    let refused = export(&["--format", "trace", "-o", nowhere.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    insta::assert_snapshot!(lab.shown(&String::from_utf8(refused.stderr).unwrap()), @r#"error: failed to create file `[LAB]/no/such/folder/trace.json`: No such file or directory (os error 2)"#);
}
