//! Forward passes of the synthetic Qwen3 `small` (67 M parameters) and whole generations of the engine's session.

use std::cell::{LazyCell, RefCell};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use inferometer::engine::recorder::{Recorder, Shared};
use inferometer::engine::transformer::backend::Backend;
use inferometer::engine::transformer::config::Config;
use inferometer::engine::transformer::model::{KvCache, Model, expected, optional};
use inferometer::engine::transformer::weights::WeightFolder;
use inferometer::engine::{Load, Session, find};
use inferometer::rng::seeded;
use inferometer::spec::{EngineSpec, Prompt, Request, Sampling, Settings, Value};
use rand::Rng;

use crate::subject::Subject;

const CHUNK: usize = 512;
const CONTEXTS: [usize; 2] = [128, 2048];
const PROMPT: usize = 128;
const GENERATED: u32 = 32;

fn prompt(length: usize) -> Vec<u32> {
    let mut rng = seeded(1, "benchmark prompt");
    (0..length).map(|_| rng.next_u32() % 32_000).collect()
}

fn load<B: Backend>(on: &Subject<B>) -> Model<B> {
    let folder = on.folder();
    let config = Config::from_folder(&folder).expect("a configuration");
    let weights = WeightFolder::open(&folder, &expected(&config), &optional(&config)).expect("its weights");
    Model::load((on.backend)(), config, &weights, None).expect("a model")
}

/// A cache that holds `length` tokens of a prompt.
fn filled<B: Backend>(model: &Model<B>, length: usize) -> KvCache<B> {
    let mut cache = model.cache().expect("a cache");
    cache.reserve(length + CHUNK).expect("memory for the cache");
    for chunk in prompt(length).chunks(CHUNK) {
        let ids = model.backend.ids(chunk).expect("ids");
        model.fill(&ids, chunk.len(), &mut cache).expect("a forward pass");
        cache.note(chunk);
    }
    cache
}

/// One token behind a context, up to its logits, and a chunk behind nothing and behind a context, up to its keys and
/// values; an element is a token.
pub fn forward<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    let model = LazyCell::new(|| load(on));
    let mut group = c.benchmark_group("forward, one token");
    group.throughput(Throughput::Elements(1));
    for context in CONTEXTS {
        let cache = LazyCell::new(|| RefCell::new(filled(&model, context)));
        group.bench_function(BenchmarkId::new(on.name, context), |b| {
            let mut cache = cache.borrow_mut();
            let ids = model.backend.ids(&[7]).expect("an id");
            b.iter(|| {
                (on.compute)(&model.forward(&ids, 1, &mut cache).expect("a forward pass"));
                cache.forget_unknown();
            });
        });
    }
    group.finish();

    let chunk = CHUNK.min(on.rows);
    let mut group = c.benchmark_group(format!("prefill, chunk of {chunk}"));
    group.throughput(Throughput::Elements(chunk as u64));
    for context in [0, 2048 - CHUNK] {
        let cache = LazyCell::new(|| RefCell::new(filled(&model, context)));
        group.bench_function(BenchmarkId::new(on.name, context), |b| {
            let mut cache = cache.borrow_mut();
            let ids = model.backend.ids(&prompt(chunk)).expect("ids");
            b.iter(|| {
                model.fill(&ids, chunk, &mut cache).expect("a forward pass");
                cache.forget_unknown();
            });
        });
    }
    group.finish();
}

/// 32 tokens after a prompt of 128 without reuse, stamped and recorded as the host does it; an element is a generated
/// token.
pub fn generate<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    let request = Request {
        prompt: Prompt::Tokens(prompt(PROMPT)),
        sampling: Sampling { repetition_penalty: 1.1, ..Sampling::default() },
        toggles: Settings::from([("kv_reuse".to_owned(), "none".into())]),
        max_tokens: GENERATED,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    };
    let session = LazyCell::new(|| RefCell::new(open(on)));
    let mut group = c.benchmark_group("generate, 32 tokens after 128");
    group.throughput(Throughput::Elements(GENERATED.into()));
    group.bench_function(on.name, |b| {
        let mut session = session.borrow_mut();
        b.iter(|| {
            let mut recorder = Recorder::new(GENERATED, false, Arc::<Shared>::default());
            session.generate(&request, &mut recorder).expect("a generation");
            assert_eq!(recorder.tokens.len(), GENERATED as usize);
        });
    });
    group.finish();
}

fn open<B: Backend>(on: &Subject<B>) -> Box<dyn Session> {
    let (backend, dtype) = on.engine;
    let load = Load {
        engine: EngineSpec {
            name: "transformer".into(),
            label: "transformer".into(),
            options: Settings::from([("backend".to_owned(), backend.into())]),
        },
        model: Some(on.folder()),
        toggles: dtype.map(|dtype| ("dtype".to_owned(), Value::from(dtype))).into_iter().collect(),
    };
    find("transformer").expect("the transformer engine is built in").open(&load).expect("a session")
}
