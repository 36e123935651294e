//! Reads a long record. The target: a `tokens.csv` of a million rows in about a second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use inferometer::record::read;

const TOKENS: u64 = 1_000_000;

/// The fixture's record with its first request extended to a million tokens.
fn long_record() -> tempfile::TempDir {
    let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/record-v1");
    let dir = tempfile::tempdir().expect("a temporary folder");
    for file in ["run.json", "requests.csv", "spans.csv", "telemetry.csv"] {
        fs_err::copy(from.join(file), dir.path().join(file)).expect("the fixture");
    }
    let requests = dir.path().join("requests.csv");
    let text =
        fs_err::read_to_string(&requests).expect("the fixture").replacen(",3,2,1,0,", &format!(",{TOKENS},2,1,0,"), 1);
    fs_err::write(&requests, text).expect("a copy of the fixture");
    let mut tokens = "request,index,id,t_ns\n".to_owned();
    for index in 0..TOKENS {
        tokens += &format!("0,{index},{},{}\n", index * 7919 % 151_936, 1_000_000_000 + index * 12_345_678);
    }
    for line in fs_err::read_to_string(from.join("tokens.csv")).expect("the fixture").lines().skip(4) {
        tokens += &format!("{line}\n");
    }
    fs_err::write(dir.path().join("tokens.csv"), tokens).expect("a temporary file");
    dir
}

fn record(c: &mut Criterion) {
    let dir = long_record();
    assert_eq!(read(dir.path()).expect("a valid record").tokens.len() as u64, TOKENS + 6);
    let mut group = c.benchmark_group("record");
    group.throughput(Throughput::Elements(TOKENS)).sample_size(10);
    group
        .bench_function("read_a_million_tokens", |b| b.iter(|| read(dir.path()).expect("a valid record").tokens.len()));
    group.finish();
}

criterion_group!(benches, record);
criterion_main!(benches);
