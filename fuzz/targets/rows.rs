//! `requests.csv`, `tokens.csv`, `spans.csv` or `telemetry.csv` (the first byte says which) in an
//! otherwise sound record.
#![no_main]

use std::sync::LazyLock;

use inferometer::record::{Manifest, bytes, csv};

static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    bytes::run_manifest(include_bytes!("../../tests/fixtures/record-v1/run.json")).expect("a manifest")
});

fn sound(name: &str) -> &'static [u8] {
    match name {
        csv::REQUESTS => include_bytes!("../../tests/fixtures/record-v1/requests.csv"),
        csv::TOKENS => include_bytes!("../../tests/fixtures/record-v1/tokens.csv"),
        csv::SPANS => include_bytes!("../../tests/fixtures/record-v1/spans.csv"),
        _ => include_bytes!("../../tests/fixtures/record-v1/telemetry.csv"),
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((which, text)) = input.split_first() else { return };
    let changed = [csv::REQUESTS, csv::TOKENS, csv::SPANS, csv::TELEMETRY][usize::from(which % 4)];
    let file = |name: &str| if name == changed { text } else { sound(name) }.to_vec();
    match bytes::record(MANIFEST.clone(), &file) {
        Ok(record) => assert!(record.tokens.len() <= text.len().max(64)),
        Err(error) => assert!(error.to_string().contains(".csv"), "{error}"),
    }
});
