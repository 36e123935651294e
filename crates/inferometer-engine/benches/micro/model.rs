//! Forward passes of the synthetic Qwen3 `small` (67 M parameters) and whole generations of the
//! engine's session.

use std::cell::{LazyCell, RefCell};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use inferometer_engine::transformer::Transformer;
use inferometer_engine::transformer::backend::Backend;
use inferometer_engine::transformer::config::Config;
use inferometer_engine::transformer::model::{KvCache, Model};
use inferometer_engine::transformer::weights::WeightFolder;
use inferometer_host::Instrumentation;
use inferometer_host::recorder::{Recorder, Shared};
use inferometer_host::rng::seeded;
use inferometer_host::{Engine as _, Load, Session};
use inferometer_protocol::{EngineSpec, Prompt, Request, Sampling, Settings};
use rand::Rng;

use crate::subject::Subject;

const CHUNK: usize = 512;
const CONTEXTS: [usize; 2] = [128, 2048];
const PROMPT: usize = 128;
const GENERATED: u32 = 16;

fn prompt(length: usize) -> Vec<u32> {
    let mut rng = seeded(1, "benchmark prompt");
    (0..length).map(|_| rng.next_u32() % 32_000).collect()
}

fn load<B: Backend>(on: &Subject<B>) -> Model<B> {
    let folder = on.folder();
    let config = Config::from_folder(&folder).expect("a configuration");
    let weights = WeightFolder::open(&folder, &config).expect("its weights");
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

pub fn passes<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    let model = LazyCell::new(|| load(on));
    forward(c, on, &model);
    prefill(c, on, &model);
}

/// A model that is loaded on first use.
type Lazy<B, F> = LazyCell<Model<B>, F>;

/// One token after a context, up to its logits; an element is a token.
fn forward<B: Backend, F: FnOnce() -> Model<B>>(c: &mut Criterion, on: &Subject<B>, model: &Lazy<B, F>) {
    let mut group = c.benchmark_group("forward, one token");
    group.throughput(Throughput::Elements(1));
    let mut contexts = CONTEXTS.map(|context| context.min(on.prompt)).to_vec();
    contexts.dedup();
    for context in contexts {
        let cache = LazyCell::new(|| RefCell::new(filled(model, context)));
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
}

/// A chunk without and with a context before it, up to its keys and values; an element is a token.
fn prefill<B: Backend, F: FnOnce() -> Model<B>>(c: &mut Criterion, on: &Subject<B>, model: &Lazy<B, F>) {
    let chunk = CHUNK.min(on.prompt);
    if chunk == 1 {
        return;
    }
    let mut group = c.benchmark_group(format!("prefill, chunk of {chunk}"));
    group.throughput(Throughput::Elements(chunk as u64));
    let mut contexts = vec![0, on.prompt - chunk];
    contexts.dedup();
    for context in contexts {
        let cache = LazyCell::new(|| RefCell::new(filled(model, context)));
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

/// 16 tokens after a prompt without reuse, recorded as in the host; an element is a generated
/// token.
pub fn generate<B: Backend>(c: &mut Criterion, on: &Subject<B>) {
    let length = PROMPT.min(on.prompt);
    let request = Request {
        prompt: Prompt::Tokens(prompt(length)),
        sampling: Sampling { repetition_penalty: 1.1, ..Sampling::default() },
        toggles: Settings::from([("kv_reuse".to_owned(), "none".into())]),
        max_tokens: GENERATED,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    };
    let session = LazyCell::new(|| RefCell::new(open(on)));
    let mut group = c.benchmark_group("generate, 16 tokens");
    group.throughput(Throughput::Elements(GENERATED.into()));
    group.bench_function(BenchmarkId::new(on.name, length), |b| {
        let mut session = session.borrow_mut();
        b.iter(|| {
            let mut recorder = Recorder::new(GENERATED, Instrumentation::default(), Arc::<Shared>::default());
            session.generate(&request, &mut recorder).expect("a generation");
            assert_eq!(recorder.tokens.len(), GENERATED as usize);
        });
    });
    group.finish();
}

fn open<B: Backend>(on: &Subject<B>) -> Box<dyn Session> {
    let load = Load {
        engine: EngineSpec {
            name: "transformer".into(),
            label: "transformer".into(),
            options: Settings::from([("backend".to_owned(), on.engine.into())]),
        },
        model: Some(on.folder()),
        toggles: on.toggles.clone(),
    };
    Transformer.open(&load).expect("a session")
}
