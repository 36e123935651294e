//! Compares the choices that a session reports with a plain loop over the model that sorts all
//! logits.

use std::path::Path;
use std::sync::Arc;

use crate::transformer::backend::Backend;
use crate::transformer::config::Config;
use crate::transformer::model::Model;
use crate::transformer::testing::{VOCABULARY, config, folder, prompt, request};
use crate::transformer::weights::WeightFolder;
use inferometer_host::Instrumentation;
use inferometer_host::Session;
use inferometer_host::recorder::{Recorder, Shared};
use inferometer_protocol::{Choice, Request, Sampling, TokenLogprob};

const PROMPT: usize = 23;
const STEPS: usize = 24;
const PENALTY: f32 = 1.3;
const CONTEXT: usize = 16;

/// A greedy request with a penalty that changes its tokens.
fn penalized(forced: Option<Vec<u32>>) -> Request {
    let sampling = Sampling {
        repetition_penalty: f64::from(PENALTY),
        repetition_context_size: CONTEXT as u64,
        ..Sampling::default()
    };
    Request { sampling, forced_tokens: forced, ..request(prompt(PROMPT), STEPS as u32) }
}

fn ask(session: &mut dyn Session, request: &Request) -> (Vec<u32>, Vec<Choice>) {
    session.reset().unwrap();
    let mut recorder = Recorder::new(
        request.max_tokens,
        Instrumentation { choices: true, ..Instrumentation::default() },
        Arc::<Shared>::default(),
    );
    session.generate(request, &mut recorder).unwrap();
    (recorder.tokens, recorder.choices.unwrap())
}

/// Choices along `tokens`: best token, and best minus second best of the penalized logits.
fn plain<B: Backend>(backend: B, folder: &Path, tokens: &[u32]) -> Vec<Choice> {
    let config = Config::from_folder(folder).unwrap();
    let weights = WeightFolder::open(folder, &config).unwrap();
    let model = Model::load(backend, config, &weights, None).unwrap();
    let mut cache = model.cache().unwrap();
    let (mut history, mut run) = (prompt(PROMPT), 0);
    let step = |token: &u32| {
        let mut logits = Vec::new();
        let next = &history[run..];
        let out = model.forward(&model.backend.ids(next).unwrap(), next.len(), &mut cache).unwrap();
        model.backend.read(&out, &mut logits).unwrap();
        let recent: std::collections::BTreeSet<u32> = history[history.len() - CONTEXT..].iter().copied().collect();
        for id in recent {
            let logit = &mut logits[id as usize];
            *logit = if *logit > 0.0 { *logit / PENALTY } else { *logit * PENALTY };
        }
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b)));
        run = history.len();
        history.push(*token);
        Choice { token: order[0] as u32, gap: logits[order[0]] - logits[order[1]] }
    };
    tokens.iter().map(step).collect()
}

fn assert_alike(said: &[Choice], plain: &[Choice]) {
    assert_eq!(said.len(), plain.len());
    for (at, (said, plain)) in said.iter().zip(plain).enumerate() {
        assert!(said.token == plain.token && (said.gap - plain.gap).abs() < 1e-4, "{at}: {said:?}, plainly {plain:?}");
    }
    assert!(plain.iter().any(|choice| choice.gap > 0.01), "nothing to compare");
}

/// `backend` makes the session's backend; `alone` keeps the plain loop from running beside other
/// sessions.
fn session_says_what_a_bare_loop_finds<B: Backend>(
    session: &mut dyn Session,
    folder: &Path,
    lazy: &[bool],
    backend: impl Fn() -> B,
    alone: impl Fn(&dyn Fn() -> Vec<Choice>) -> Vec<Choice>,
) {
    for pipeline in lazy.iter().map(|on| Some(*on)).chain(lazy.is_empty().then_some(None)) {
        let with = |mut request: Request| {
            request.toggles.extend(pipeline.map(|on| ("lazy_pipeline".to_owned(), on.into())));
            request
        };
        let (free, said) = ask(session, &with(penalized(None)));
        assert_eq!(said.iter().map(|choice| choice.token).collect::<Vec<_>>(), free, "unforced, a choice is the token");
        assert_alike(&said, &alone(&|| plain(backend(), folder, &free)));
        // With other forced tokens the choices differ, and the penalty applies to the forced
        // tokens.
        let forced: Vec<u32> = free.iter().map(|id| (id + 1) % VOCABULARY).collect();
        let (tokens, said) = ask(session, &with(penalized(Some(forced.clone()))));
        assert_eq!(tokens, forced);
        assert_alike(&said, &alone(&|| plain(backend(), folder, &forced)));
        assert_eq!(said[0].token, free[0], "the first choice comes before anything is forced");
        assert!(said.iter().zip(&free).any(|(choice, free)| choice.token != *free));
        // The draw is the choice; the gap is that of the logits at any temperature.
        let mut hot = with(penalized(None));
        (hot.sampling.temperature, hot.sampling.seed) = (2.0, 5);
        let (drawn, said) = ask(session, &hot);
        assert_eq!(said.iter().map(|choice| choice.token).collect::<Vec<_>>(), drawn);
        let plainly = alone(&|| plain(backend(), folder, &drawn));
        assert!(said.iter().zip(&plainly).all(|(said, plain)| (said.gap - plain.gap).abs() < 1e-4));
        assert!(said.iter().zip(&plainly).any(|(said, plain)| said.token != plain.token), "too cold to draw another");
    }
}

#[test]
fn candle_says_what_it_would_have_chosen() {
    use crate::transformer::candle::{CandleBackend, Format, threads};
    use inferometer_host::Engine;
    for (arch, format) in [("llama", Format::F32), ("qwen3", Format::F32), ("qwen3", Format::Q8_0)] {
        let dir = folder(&config(arch));
        let load = crate::transformer::testing::load(dir.path(), &[("dtype", format.name().into())]);
        let mut session = crate::transformer::Transformer.open(&load).unwrap();
        let backend = || CandleBackend::new(format, threads::set(None).unwrap());
        session_says_what_a_bare_loop_finds(&mut *session, dir.path(), &[], backend, |f| f());
    }
}

#[cfg(any(feature = "mlx", all(feature = "metal", target_os = "macos", target_arch = "aarch64")))]
#[test]
fn mlx_says_what_it_would_have_chosen() {
    use crate::serial;
    use crate::transformer::mlx::MlxBackend;
    use inferometer_host::Engine;
    for arch in ["llama", "qwen3"] {
        let dir = folder(&config(arch));
        let mut load = crate::transformer::testing::load(dir.path(), &[("compile", false.into())]);
        load.engine.options.insert(crate::transformer::BACKEND.to_owned(), "mlx".into());
        let mut session = crate::transformer::Transformer.open(&load).unwrap();
        let backend = || MlxBackend::new(None, false);
        session_says_what_a_bare_loop_finds(&mut *session, dir.path(), &[false, true], backend, |f| serial::alone(f));
    }
}

fn forced() -> Vec<u32> {
    (0..STEPS as u32).map(|at| (7 * at + 3) % VOCABULARY).collect()
}

/// What a session says of forced tokens while it samples hot and with a penalty.
fn scored(session: &mut dyn Session) -> Vec<TokenLogprob> {
    let mut hot = penalized(Some(forced()));
    (hot.sampling.temperature, hot.sampling.seed) = (2.0, 5);
    session.reset().unwrap();
    let instrumentation = Instrumentation { logprobs: Some(5), ..Instrumentation::default() };
    let mut recorder = Recorder::new(hot.max_tokens, instrumentation, Arc::<Shared>::default());
    session.generate(&hot, &mut recorder).unwrap();
    assert_eq!(recorder.tokens, forced());
    recorder.logprobs.unwrap()
}

/// The probabilities are those of the logits, whatever is sampled: a plain loop over the model
/// gives the same.
fn are_of_the_raw_logits<B: Backend>(said: &[TokenLogprob], folder: &Path, backend: B) {
    assert_eq!(said.len(), STEPS);
    let config = Config::from_folder(folder).unwrap();
    let weights = WeightFolder::open(folder, &config).unwrap();
    let model = Model::load(backend, config, &weights, None).unwrap();
    let (mut cache, mut next) = (model.cache().unwrap(), prompt(PROMPT));
    for (at, (said, token)) in said.iter().zip(forced()).enumerate() {
        let mut logits = Vec::new();
        let out = model.forward(&model.backend.ids(&next).unwrap(), next.len(), &mut cache).unwrap();
        model.backend.read(&out, &mut logits).unwrap();
        let sum: f64 = logits.iter().map(|logit| f64::from(*logit).exp()).sum();
        let of = |id: u32| f64::from(logits[id as usize]) - sum.ln();
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
        assert!((f64::from(said.logprob) - of(token)).abs() < 1e-4, "{at}");
        assert_eq!(said.top.iter().map(|top| top.0).collect::<Vec<_>>(), order[..5], "{at}");
        assert!(said.top.iter().all(|(id, logprob)| (f64::from(*logprob) - of(*id)).abs() < 1e-4), "{at}");
        assert_eq!(said.check(token), Ok(()), "{at}");
        next = vec![token];
    }
}

#[test]
fn candle_says_how_likely_tokens_were() {
    use crate::transformer::candle::{CandleBackend, Format, threads};
    use inferometer_host::Engine;
    for format in [Format::F32, Format::Q8_0] {
        let dir = folder(&config("qwen3"));
        let load = crate::transformer::testing::load(dir.path(), &[("dtype", format.name().into())]);
        let mut session = crate::transformer::Transformer.open(&load).unwrap();
        let backend = CandleBackend::new(format, threads::set(None).unwrap());
        are_of_the_raw_logits(&scored(&mut *session), dir.path(), backend);
    }
}

#[cfg(any(feature = "mlx", all(feature = "metal", target_os = "macos", target_arch = "aarch64")))]
#[test]
fn mlx_says_how_likely_tokens_were() {
    use crate::serial;
    use crate::transformer::mlx::MlxBackend;
    use inferometer_host::Engine;
    let dir = folder(&config("qwen3"));
    let mut load = crate::transformer::testing::load(dir.path(), &[("compile", false.into())]);
    load.engine.options.insert(crate::transformer::BACKEND.to_owned(), "mlx".into());
    let mut session = crate::transformer::Transformer.open(&load).unwrap();
    let said = scored(&mut *session);
    serial::alone(|| are_of_the_raw_logits(&said, dir.path(), MlxBackend::new(None, false)));
}

#[test]
fn nothing_is_said_unasked() {
    let dir = folder(&config("llama"));
    let mut session = crate::transformer::testing::open(dir.path()).unwrap();
    let mut recorder = Recorder::new(4, Instrumentation::default(), Arc::<Shared>::default());
    session.generate(&request(prompt(9), 4), &mut recorder).unwrap();
    assert_eq!((recorder.tokens.len(), recorder.choices, recorder.logprobs), (4, None, None));
}
