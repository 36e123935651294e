//! The transformer engine on the smallest synthetic models, as the host opens it.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use inferometer::telemetry::lacking;
use inferometer_engine::synthetic::{Recipe, create};
use inferometer_engine::text::{ChatTemplate, Tokenizer};
use inferometer_engine::transformer::Transformer;
use inferometer_host::Instrumentation;
use inferometer_host::recorder::{Recorder, Shared};
use inferometer_host::{Engine as _, Load, Session};
use inferometer_protocol::{
    Architecture, Chat, Completion, EngineSpec, Message, Prompt, Request, Sampling, Settings, Value,
};

use super::lab::{Lab, measured};

/// The smallest preset of every architecture, made once for all tests of this file.
fn models() -> &'static [(Architecture, tempfile::TempDir)] {
    static MODELS: OnceLock<Vec<(Architecture, tempfile::TempDir)>> = OnceLock::new();
    MODELS.get_or_init(|| {
        let make = |arch| {
            let dir = tempfile::tempdir().unwrap();
            create(&Recipe::find(arch, "tiny", 1).unwrap(), &dir.path().join("model")).unwrap();
            (arch, dir)
        };
        Architecture::ALL.into_iter().map(make).collect()
    })
}

fn open(folder: &Path, dtype: &str) -> Box<dyn Session> {
    let engine = EngineSpec { name: "transformer".into(), label: "t".into(), options: Settings::new() };
    let toggles = Settings::from([("dtype".to_owned(), dtype.into())]);
    Transformer.open(&Load { engine, model: Some(folder.join("model")), toggles }).unwrap()
}

fn request(prompt: Prompt, max_tokens: u32) -> Request {
    Request {
        prompt,
        sampling: Sampling::default(),
        toggles: Settings::new(),
        max_tokens,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    }
}

/// Runs a request on an empty cache.
fn fresh(session: &mut dyn Session, request: &Request) -> (Vec<u32>, Completion) {
    session.reset().unwrap();
    let mut recorder = Recorder::new(request.max_tokens, Instrumentation::default(), Arc::<Shared>::default());
    let completion = session.generate(request, &mut recorder).unwrap();
    (recorder.tokens, completion)
}

const TEXT: &str = "An interferometer sends light down two paths and compares what comes back. ";

#[test]
fn synthetic_models_generate_varied_text_that_depends_on_the_prompt() {
    for (arch, dir) in models() {
        for dtype in ["f32", "q8_0"] {
            let mut session = open(dir.path(), dtype);
            let receipt = session.receipt();
            assert!(receipt.model.synthetic && receipt.deterministic && receipt.capabilities.text);
            assert_eq!(receipt.settings["dtype"], dtype.into());
            let text = request(Prompt::Text(TEXT.repeat(4)), 64);
            let (tokens, completion) = fresh(&mut *session, &text);
            let distinct: std::collections::BTreeSet<_> = tokens.iter().collect();
            assert!(distinct.len() >= 32, "{arch} {dtype}: {} distinct ids in {tokens:?}", distinct.len());
            assert_eq!(tokens, fresh(&mut *session, &text).0, "{arch} {dtype}");
            assert_eq!(completion.cache_tokens, Some(completion.prompt_tokens + 63));
            assert!(!session.decode(&tokens).unwrap().is_empty());
            let said = Message::new("user", TEXT);
            assert!(receipt.capabilities.messages);
            let (answer, chat) = fresh(&mut *session, &request(Prompt::Messages(Chat::of(vec![said.clone()])), 4));
            let rendered = ChatTemplate::from_model(&dir.path().join("model"))
                .unwrap()
                .render(&Chat::of(vec![said]), true)
                .unwrap();
            let tokenizer = Tokenizer::from_model(&dir.path().join("model")).unwrap();
            let ids = tokenizer.encode(&rendered, false).unwrap();
            assert_eq!(chat.prompt_tokens as usize, ids.len());
            assert_eq!(answer, fresh(&mut *session, &request(Prompt::Tokens(ids), 4)).0);
            let ids = |first: u32| {
                let ids = (0..completion.prompt_tokens).map(|at| if at == 0 { first } else { 100 + at }).collect();
                request(Prompt::Tokens(ids), 64)
            };
            assert_ne!(fresh(&mut *session, &ids(50)).0, fresh(&mut *session, &ids(51)).0, "{arch} {dtype}");
        }
    }
}

#[test]
fn chunk_sizes_agree_in_f32_and_each_repeats_in_q8_0() {
    for (arch, dir) in models() {
        let ids: Vec<u32> = (0..603u32).map(|at| 30 + at * 37 % 400).collect();
        for dtype in ["f32", "q8_0"] {
            let mut session = open(dir.path(), dtype);
            let mut chunked = |chunk: i64| {
                let mut request = request(Prompt::Tokens(ids.clone()), 24);
                request.toggles.insert("prefill_chunk_size".to_owned(), Value::Int(chunk));
                fresh(&mut *session, &request).0
            };
            if dtype == "f32" {
                let whole = chunked(2048);
                assert_eq!((&chunked(16), &chunked(512)), (&whole, &whole), "{arch}");
            } else {
                assert_eq!(chunked(512), chunked(512), "{arch}");
            }
        }
    }
}

/// Cells take turns in one host; memory that the long cell needed must not show in the short one.
#[test]
fn a_short_cell_after_a_long_one_has_a_small_peak() {
    let lab = Lab::new();
    let scenario = lab.write(
        "memory.toml",
        format!(
            "name = \"memory\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\", seed = 1 }}\n\
             [[engine]]\nname = \"transformer\"\n[toggles]\nthreads = [2]\n\
             [workload]\nkind = \"prompt\"\ntext = \"{TEXT}\"\nlengths = [16, 2048]\nmax_tokens = 4\nignore_eos = true\n\
             [run]\nwarmup = 1\niterations = 2\n"
        ),
    );
    lab.measure(&scenario, &[]).expect(0);
    let record = lab.record();
    let rows = |tokens: u32| measured(&record).into_iter().filter(move |row| row.prompt_tokens == Some(tokens));
    let long_kv = rows(2048).map(|row| row.kv_cache_bytes.unwrap()).max().unwrap();
    for row in rows(16) {
        assert!(row.kv_cache_bytes.unwrap() < long_kv / 4, "{:?} of {long_kv}", row.kv_cache_bytes);
    }
    if cfg!(target_env = "gnu") && !lacking::leaves_out("the kernel's high-water mark") {
        let peaks = |tokens| rows(tokens).map(|row| row.peak_rss_bytes.unwrap()).collect::<Vec<_>>();
        let (short, long) = (peaks(16), peaks(2048));
        let (least, least_long) = (*short.iter().min().unwrap(), *long.iter().min().unwrap());
        assert!(least < least_long);
        let limit = least + (least_long - least) / 4;
        assert!(short.iter().all(|peak| *peak < limit), "short {short:?}, long {long:?}");
    }
}
