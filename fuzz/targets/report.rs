//! A record that opens becomes a summary, a table and Markdown, whatever it says. The input is a
//! `run.json` and a `requests.csv` with a byte 0x1f between them, or a `requests.csv` alone; the
//! other files are sound.
#![no_main]

use inferometer::record::{bytes, csv};
use inferometer::report::summary::Summary;
use inferometer::report::{markdown, terminal};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (manifest, requests) = match input.iter().position(|byte| *byte == 0x1f) {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (include_bytes!("../../tests/fixtures/record-v1/run.json").as_slice(), input),
    };
    let Ok(manifest) = bytes::run_manifest(manifest) else { return };
    let file = |name: &str| match name {
        csv::REQUESTS => requests.to_vec(),
        csv::TOKENS => include_bytes!("../../tests/fixtures/record-v1/tokens.csv").to_vec(),
        csv::SPANS => include_bytes!("../../tests/fixtures/record-v1/spans.csv").to_vec(),
        _ => include_bytes!("../../tests/fixtures/record-v1/telemetry.csv").to_vec(),
    };
    let Ok(record) = bytes::record(manifest, &file) else { return };
    let summary = Summary::of(&record);
    let _ = (terminal::render(&summary), markdown::render(&summary));
    serde_json::to_vec(&summary).expect("a summary can be written");
});
