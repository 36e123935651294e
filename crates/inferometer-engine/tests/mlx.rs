//! The transformer on MLX as a whole: the same logits as candle, one wait per token, memory is
//! freed, bad folders are refused.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inferometer_engine::synthetic;
use inferometer_engine::synthetic::Recipe;
use inferometer_engine::transformer::Transformer;
use inferometer_engine::transformer::backend::Backend;
use inferometer_engine::transformer::candle::{CandleBackend, Format, threads};
use inferometer_engine::transformer::config::Config;
use inferometer_engine::transformer::mlx::{MlxBackend, calls};
use inferometer_engine::transformer::model::Model;
use inferometer_engine::transformer::weights::WeightFolder;
use inferometer_host::recorder::{Recorder, Shared};
use inferometer_host::{Detail, Instrumentation};
use inferometer_host::{Engine as _, Load, Result, Session};
use inferometer_protocol::{Architecture, EngineSpec, Phase, Prompt, Request, Sampling, Settings, SpanTiming, Value};
use mlx_rs::memory;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

/// Lets one test run at a time: MLX counts memory for the whole process.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn create(architecture: Architecture, folder: &Path) {
    synthetic::create(&Recipe::find(architecture, "tiny", 3).unwrap(), folder).unwrap();
}

fn load<B: Backend>(backend: B, folder: &Path) -> Model<B> {
    let config = Config::from_folder(folder).unwrap();
    let weights = WeightFolder::open(folder, &config).unwrap();
    Model::load(backend, config, &weights, None).unwrap()
}

fn open(folder: &Path) -> Result<Box<dyn Session>> {
    open_with(folder, Settings::new())
}

fn open_with(folder: &Path, mut toggles: Settings) -> Result<Box<dyn Session>> {
    let options = Settings::from([("backend".to_owned(), "mlx".into())]);
    let engine = EngineSpec { name: "transformer".into(), label: "transformer".into(), options };
    // Compiling needs a compiler on the CPU and does not matter to these tests.
    toggles.insert("compile".to_owned(), false.into());
    Transformer.open(&Load { engine, model: Some(folder.to_owned()), toggles })
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| 5 + i * 11 % 900).collect()
}

fn request(prompt: Vec<u32>, steps: u32, toggles: &[(&str, Value)]) -> Request {
    Request {
        prompt: Prompt::Tokens(prompt),
        sampling: Sampling { repetition_penalty: 1.1, ..Sampling::default() },
        toggles: toggles.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        max_tokens: steps,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    }
}

fn generate(session: &mut dyn Session, prompt: Vec<u32>, steps: u32, toggles: &[(&str, Value)]) -> Vec<u32> {
    let request = request(prompt, steps, toggles);
    let mut recorder = Recorder::new(steps, Instrumentation::default(), Arc::<Shared>::default());
    session.generate(&request, &mut recorder).unwrap();
    recorder.tokens
}

/// Logits after a prefill in two chunks, two single tokens, and again after removing the last
/// token.
fn logits<B: Backend>(backend: B, folder: &Path) -> Vec<Vec<f32>> {
    let model = load(backend, folder);
    let mut cache = model.cache().unwrap();
    let prompt = prompt(37);
    let mut all = Vec::new();
    let mut step = |ids: &[u32], cache: &mut _| {
        let mut values = Vec::new();
        let out = model.forward(&model.backend.ids(ids).unwrap(), ids.len(), cache).unwrap();
        model.backend.read(&out, &mut values).unwrap();
        all.push(values);
    };
    step(&prompt[..20], &mut cache);
    step(&prompt[20..], &mut cache);
    step(&[7], &mut cache);
    step(&[9], &mut cache);
    assert_eq!(cache.len(), 39);
    cache.note(&[prompt.as_slice(), &[7]].concat());
    cache.forget_unknown();
    assert_eq!(cache.len(), 38);
    step(&[9], &mut cache);
    assert_eq!(cache.len(), 39);
    all
}

#[test]
fn mlx_and_candle_give_the_same_logits() {
    let _alone = alone();
    for architecture in [Architecture::Llama, Architecture::Qwen3] {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        create(architecture, &model);
        let candle = logits(CandleBackend::new(Format::F32, threads::set(None).unwrap()), &model);
        let mlx = logits(MlxBackend::new(None, false), &model);
        for (step, (a, b)) in candle.iter().zip(&mlx).enumerate() {
            assert_eq!(a.len(), b.len());
            let largest = a.iter().fold(0f32, |m, x| m.max(x.abs()));
            let worst = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0f32, f32::max);
            assert!(largest > 0.1, "{architecture} step {step}: nothing to compare");
            assert!(worst / largest < 1e-4, "{architecture} step {step}: off by {worst} of {largest}");
        }
        assert_eq!(mlx[3], mlx[4], "{architecture}: truncating and repeating should change nothing");
    }
}

#[test]
fn the_host_waits_once_a_token() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    create(Architecture::Qwen3, &model);
    let mut session = open(&model).unwrap();
    let mut tokens = Vec::new();
    for pipeline in [true, false] {
        for (length, chunk, steps) in [(20, 2048, 40), (20, 8, 40), (1, 2048, 1)] {
            session.reset().unwrap();
            calls::take();
            let toggles = [("lazy_pipeline", pipeline.into()), ("prefill_chunk_size", Value::Int(chunk))];
            tokens.push(generate(&mut *session, prompt(length), steps, &toggles));
            let calls = calls::take();
            // The host waits for each prefill chunk except the last.
            let chunks = u64::from(length).div_ceil(chunk as u64);
            let what =
                format!("pipeline {pipeline}, {length} tokens in chunks of {chunk}, {steps} generated: {calls:?}");
            assert_eq!(calls.waits, u64::from(steps) + chunks - 1, "{what}");
            assert_eq!(calls.submits, u64::from(steps), "{what}");
        }
    }
    assert_eq!(tokens[..3], tokens[3..], "the pipeline should not change tokens");
    assert!(tokens.iter().zip([40, 40, 1]).all(|(tokens, steps)| tokens.len() == steps));
}

#[test]
fn a_model_leaves_no_memory_behind() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    create(Architecture::Llama, &model);
    let left = || {
        memory::clear_cache().unwrap();
        (memory::active_memory().unwrap(), memory::cache_memory().unwrap())
    };
    let start = left();
    for time in 1..=20 {
        let mut session = open(&model).unwrap();
        generate(&mut *session, prompt(40), 8, &[]);
        let held = session.memory().active_bytes.unwrap();
        assert!(held > start.0 as u64 + 1_000_000, "the weights alone take more than {held} bytes");
        drop(session);
        assert_eq!(left(), start, "active and cache memory after unloading for the {time}. time");
    }
}

/// With any detail of spans, with a pipeline or without, and with a penalty that depends on every
/// choice before.
#[test]
fn profiled_and_with_forced_sync_the_tokens_are_the_same() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    create(Architecture::Qwen3, &model);
    let mut session = open(&model).unwrap();
    let steps = 24;
    for pipeline in [false, true] {
        let toggles = [
            ("lazy_pipeline", Value::Bool(pipeline)),
            ("prefill_chunk_size", Value::Int(16)),
            ("kv_reuse", "none".into()),
        ];
        let timed = generate(&mut *session, prompt(40), steps, &toggles);
        for forced_sync in [false, true] {
            let detail = if forced_sync { Detail::ForcedSync } else { Detail::Operations };
            let instrumentation = Instrumentation { detail, ..Instrumentation::default() };
            let mut recorder = Recorder::new(steps, instrumentation, Arc::<Shared>::default());
            calls::take();
            session.generate(&request(prompt(40), steps, &toggles), &mut recorder).unwrap();
            let waits = calls::take().waits;
            assert_eq!(recorder.tokens, timed, "pipeline {pipeline}, forced sync {forced_sync}");
            let count = |phase| recorder.spans.iter().filter(|span| span.phase == phase).count() as u64;
            let (steps, chunks) = (u64::from(steps), 3);
            assert_eq!((count(Phase::Forward), count(Phase::PrefillChunk)), (steps + chunks - 1, chunks));
            assert_eq!((count(Phase::Penalty), count(Phase::Sample), count(Phase::Detokenize)), (steps, steps, steps));
            // Each step has three more waits: for the logits, the penalized logits and the choice.
            let synced = if forced_sync { 3 * steps } else { 0 };
            assert_eq!(waits, steps + chunks - 1 + synced);
            // For a chunk before the last one, the span of its forward pass then contains the
            // waiting.
            assert_eq!(count(Phase::Wait), if forced_sync { steps } else { steps + chunks - 1 });
            let timing = if forced_sync { SpanTiming::ForcedSync } else { SpanTiming::Submit };
            assert_eq!(session.span_timing(forced_sync), Some(timing));
        }
    }
}

type Change<'a> = &'a dyn Fn(&mut Vec<(String, TensorView)>);

/// Rewrites the model's tensors.
fn rewrite(folder: &Path, change: Change) {
    let file = folder.join("model.safetensors");
    let bytes = fs_err::read(&file).unwrap();
    let stored = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = stored.tensors();
    change(&mut tensors);
    safetensors::serialize_to_file(tensors, None, &file).unwrap();
}

#[test]
fn a_folder_with_a_missing_or_an_extra_tensor_is_refused() {
    let _alone = alone();
    let name = "model.layers.1.mlp.up_proj.weight";
    let refused = |change: Change| {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        create(Architecture::Llama, &model);
        assert!(open(&model).is_ok());
        rewrite(&model, change);
        open(&model).err().expect("the folder should be refused").to_string()
    };
    let missing = refused(&|tensors| tensors.retain(|(stored, _)| stored != name));
    assert!(missing.contains(name), "{missing}");
    let extra = refused(&|tensors| {
        let (_, tensor) = tensors.iter().find(|(stored, _)| stored == name).unwrap().clone();
        tensors.push(("model.layers.1.mlp.side_proj.weight".to_owned(), tensor));
    });
    assert!(extra.contains("side_proj"), "{extra}");
}

/// By look-up, and by the model itself, whose drafts are always right; with a penalty, drawn and
/// greedy, in plain and sliding windows.
#[test]
fn speculative_tokens_are_those_of_plain_decoding() {
    let _alone = alone();
    for architecture in [Architecture::Llama, Architecture::Gemma3] {
        let dir = tempfile::tempdir().unwrap();
        create(architecture, dir.path());
        let draft = Value::from(dir.path().to_str().unwrap());
        let mut session = open_with(dir.path(), Settings::from([("draft_model".to_owned(), draft)])).unwrap();
        for temperature in [0.0, 1.0] {
            let mut run = |toggles: &[(&str, Value)]| {
                session.reset().unwrap();
                let mut request = request(prompt(40), 61, toggles);
                request.sampling = Sampling { temperature, seed: 5, top_k: 40, ..request.sampling };
                let mut recorder = Recorder::new(61, Instrumentation::default(), Arc::<Shared>::default());
                let completion = session.generate(&request, &mut recorder).unwrap();
                (recorder.tokens, completion)
            };
            let (plain, _) = run(&[]);
            let (drafted, completion) = run(&[("num_draft_tokens", 4u32.into())]);
            assert_eq!(drafted, plain, "{architecture}, temperature {temperature}");
            let counts = completion.speculation.unwrap();
            assert_eq!((counts.impossible(61), completion.cache_tokens), (None, Some(100)));
            assert_eq!(completion.effective["lazy_pipeline"], false.into());
            if temperature == 0.0 {
                assert_eq!((counts.passes, counts.drafted_tokens, counts.accepted_tokens), (12, 48, 48));
            }
            let (looked_up, _) = run(&[("num_draft_tokens", 3u32.into()), ("lookup_ngram", 1u32.into())]);
            assert_eq!(looked_up, plain, "{architecture}, temperature {temperature}");
        }
        let both = request(prompt(9), 5, &[("num_draft_tokens", 3u32.into()), ("lazy_pipeline", true.into())]);
        let mut recorder = Recorder::new(5, Instrumentation::default(), Arc::<Shared>::default());
        let error = session.generate(&both, &mut recorder).unwrap_err().to_string();
        assert!(error.contains("does not go with lazy_pipeline"), "{error}");
    }
}
