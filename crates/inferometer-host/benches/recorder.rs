//! Cost of recording on the token path. It must stay under 100 ns per token.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use inferometer_host::TokenSink;
use inferometer_host::recorder::{Recorder, Shared};
use inferometer_host::{Detail, Instrumentation};
use inferometer_protocol::Phase;

const TOKENS: u32 = 4096;

fn recorder(c: &mut Criterion) {
    let mut group = c.benchmark_group("recorder");
    group.throughput(Throughput::Elements(u64::from(TOKENS)));
    group.bench_function("token", |b| {
        b.iter_batched_ref(
            || Recorder::new(TOKENS, Instrumentation::default(), Arc::new(Shared::default())),
            |recorder| {
                for id in 0..TOKENS {
                    if !recorder.cancelled() {
                        recorder.token(black_box(id));
                    }
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("token_with_span", |b| {
        b.iter_batched_ref(
            || {
                Recorder::new(
                    TOKENS,
                    Instrumentation { detail: Detail::Operations, ..Instrumentation::default() },
                    Arc::new(Shared::default()),
                )
            },
            |recorder| {
                for id in 0..TOKENS {
                    let span = recorder.begin(Phase::Forward);
                    recorder.token(black_box(id));
                    recorder.end(span);
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, recorder);
criterion_main!(benches);
