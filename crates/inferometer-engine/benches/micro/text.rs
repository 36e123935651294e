//! The tokenizer: text to ids and back.

use std::cell::LazyCell;

use criterion::{BenchmarkId, Criterion, Throughput};
use inferometer_engine::synthetic::preset;
use inferometer_engine::synthetic::vocabulary::{CORPUS, tokenizer as made};
use inferometer_engine::text::Tokenizer;
use inferometer_protocol::Architecture;

/// The shipped prompts as one text, by vocabulary; an element of decoding is a token.
pub fn tokenizer(c: &mut Criterion) {
    let text = CORPUS.concat();
    for name in ["small", "0.6b"] {
        let preset = preset::find(Architecture::Qwen3, name).expect("a preset of that name");
        let case = LazyCell::new(|| {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let json = made(preset).expect("a tokenizer").to_string();
            fs_err::write(folder.path().join("tokenizer.json"), json).expect("a temporary file");
            let tokenizer = Tokenizer::from_model(folder.path()).expect("the tokenizer just made");
            let ids = tokenizer.encode(&text, true).expect("ids");
            (tokenizer, ids)
        });
        let mut group = c.benchmark_group("tokenizer, encode");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(preset.vocabulary), |b| {
            let (tokenizer, _) = &*case;
            b.iter(|| tokenizer.encode(&text, true).expect("ids").len());
        });
        group.finish();
        let mut group = c.benchmark_group("tokenizer, decode");
        group.throughput(Throughput::Elements(512));
        group.bench_function(BenchmarkId::from_parameter(preset.vocabulary), |b| {
            let (tokenizer, ids) = &*case;
            b.iter(|| tokenizer.decode(&ids[..512]).expect("text").len());
        });
        group.finish();
    }
}
