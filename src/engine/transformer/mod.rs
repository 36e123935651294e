//! The project's own generation engine: Llama and Qwen3 from Hugging Face folders, generic over a tensor backend.

pub mod backend;
pub mod candle;
pub mod config;
pub mod generation;
pub mod identity;
#[cfg(feature = "mlx")]
pub mod mlx;
pub mod model;
pub mod quantized;
pub mod rope;
pub mod sampler;
pub mod session;
pub mod stored;
pub mod weights;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod loading_tests;
#[cfg(test)]
mod quantized_tests;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::path::Path;

use candle::threads::{self, Threads};
use candle::{CandleBackend, Format};
use config::Config;
use model::Model;
use session::{REQUEST_TOGGLES, Text, TransformerSession};
use weights::WeightFolder;

use super::{Engine, Load, Result, Session};
use crate::spec::toggle::{DTYPE, KV_CACHE, THREADS, find};
use crate::spec::{
    Capabilities, EngineError, EngineSpec, Kind, Offer, OptionSpec, Receipt, Settings, TokenTiming, Value,
};
use crate::text::{ChatTemplate, Tokenizer};

const NAME: &str = "transformer";
const BACKEND: &str = "backend";
const BACKENDS: &[&str] = &["candle"];
/// How `kv_cache` begins for a cache of the last N positions.
const ROTATING: &str = "rotating:";
const LOAD_TOGGLES: [&str; 3] = [THREADS, DTYPE, KV_CACHE];

/// The engine as the registry has it.
pub struct Transformer;

/// Load-time settings, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LoadSettings {
    format: Format,
    /// `None`: the engine's own choice.
    threads: Option<usize>,
    /// Positions that a rotating KV cache holds; `None` = a full one.
    window: Option<usize>,
}

impl Engine for Transformer {
    fn name(&self) -> &'static str {
        NAME
    }

    fn offer(&self) -> Offer {
        Offer {
            name: NAME,
            meaning: "built-in engine: Llama and Qwen3 models from a Hugging Face folder, on the CPU",
            options: vec![OptionSpec {
                name: BACKEND,
                kind: Kind::Text,
                choices: BACKENDS,
                meaning: "tensor library that computes (default: candle)",
            }],
            required: &[],
            toggles: Some(toggles()),
            choices: &[(DTYPE, &["f32", "q8_0"])],
            built_in: true,
        }
    }

    fn open(&self, load: &Load) -> Result<Box<dyn Session>> {
        let settings = LoadSettings::of(load)?;
        let Some(folder) = &load.model else {
            return Err(EngineError::model("no model was named; this engine needs a Hugging Face model folder"));
        };
        Ok(Box::new(open_on_candle(folder, settings)?))
    }
}

fn toggles() -> Vec<&'static str> {
    REQUEST_TOGGLES.into_iter().chain(LOAD_TOGGLES).collect()
}

impl LoadSettings {
    fn of(load: &Load) -> Result<Self> {
        check_options(&load.engine)?;
        for (name, value) in &load.toggles {
            let Some(toggle) = LOAD_TOGGLES.contains(&name.as_str()).then(|| find(name)).flatten() else {
                let offered = LOAD_TOGGLES.join(", ");
                return Err(EngineError::unsupported(format!(
                    "toggle {name} is not honoured at loading; these are: {offered}"
                )));
            };
            toggle.check(value).map_err(|problem| EngineError::bad_request(format!("toggle {name} {problem}")))?;
        }
        let text = |name: &str| load.toggles.get(name).and_then(Value::as_text);
        let window = text(KV_CACHE).and_then(|kind| kind.strip_prefix(ROTATING)).and_then(|n| n.parse().ok());
        let format = match text(DTYPE) {
            None => Format::Q8_0,
            Some(name) => Format::ALL.into_iter().find(|f| f.name() == name).ok_or_else(|| {
                let all = Format::ALL.map(Format::name).join(", ");
                EngineError::unsupported(format!("dtype = {name:?}: the candle backend has {all}"))
            })?,
        };
        let threads = load.toggles.get(THREADS).and_then(Value::as_count).filter(|n| *n > 0);
        Ok(Self { format, threads: threads.map(|n| usize::try_from(n).unwrap_or(usize::MAX)), window })
    }
}

fn check_options(engine: &EngineSpec) -> Result<()> {
    for (name, value) in &engine.options {
        if name != BACKEND {
            return Err(EngineError::unsupported(format!(
                "the {NAME} engine has no option {name:?}; it has {BACKEND:?}"
            )));
        }
        if !value.as_text().is_some_and(|text| BACKENDS.contains(&text)) {
            return Err(EngineError::unsupported(format!("backend = {value}: this build has {}", BACKENDS.join(", "))));
        }
    }
    Ok(())
}

fn open_on_candle(folder: &Path, settings: LoadSettings) -> Result<TransformerSession<CandleBackend>> {
    let config = Config::from_folder(folder)?;
    let needed = model::expected(&config);
    let weights = WeightFolder::open(folder, &needed, &model::optional(&config))?;
    let text = text(folder)?;
    let threads = threads::set(settings.threads)?;
    let model = Model::load(CandleBackend::new(settings.format, threads), config, &weights, settings.window)?;
    let receipt = Receipt {
        model: identity::identity(folder, &model.config, &weights, &needed, model.held())?,
        details: details(model.held(), threads),
        settings: Settings::from([
            (THREADS.to_owned(), threads.rayon.max(threads.quantized).into()),
            (DTYPE.to_owned(), model.held().format().into()),
            (KV_CACHE.to_owned(), kv_cache(settings.window).into()),
        ]),
        capabilities: capabilities(&text),
        ..receipt()
    };
    let session = TransformerSession::new(model, text, receipt);
    // candle lays matrices out for the processor when they are first used: that belongs to loading.
    session.warm_up()?;
    Ok(session)
}

fn kv_cache(window: Option<usize>) -> String {
    window.map_or_else(|| "full".to_owned(), |n| format!("{ROTATING}{n}"))
}

fn text(folder: &Path) -> Result<Text> {
    let tokenizer = if folder.join("tokenizer.json").is_file() {
        Some(Tokenizer::from_folder(folder).map_err(|e| EngineError::model(e.to_string()))?)
    } else {
        None
    };
    Ok(Text { tokenizer, template: ChatTemplate::from_folder(folder).map_err(|e| e.to_string()) })
}

/// What is the same for every model.
fn receipt() -> Receipt {
    Receipt {
        engine: NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: None,
        backend: Some(candle::NAME.to_owned()),
        device: Some("cpu".to_owned()),
        model: crate::spec::ModelIdentity::default(),
        capabilities: Capabilities::default(),
        toggles: toggles().into_iter().map(str::to_owned).collect(),
        token_timing: TokenTiming::Exact,
        deterministic: true,
        includes: vec!["tokenization".to_owned(), "sampling".to_owned()],
        settings: Settings::new(),
        details: BTreeMap::new(),
    }
}

fn capabilities(text: &Text) -> Capabilities {
    Capabilities {
        tokens: true,
        text: text.tokenizer.is_some(),
        messages: text.tokenizer.is_some() && text.template.is_ok(),
        forced_tokens: true,
        cancel: true,
        reset: true,
        clear_cache: false,
        memory: true,
        profile: false,
    }
}

fn details(held: &backend::Held, threads: Threads) -> BTreeMap<String, String> {
    let mut details = BTreeMap::from([
        ("build".to_owned(), if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()),
        ("target".to_owned(), format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)),
        ("cpu_features".to_owned(), candle::cpu_features().join(" ")),
        ("rayon_threads".to_owned(), threads.rayon.to_string()),
        ("quantized_product_threads".to_owned(), threads.quantized.to_string()),
    ]);
    if held.copies > 0 {
        details.insert("repacked_weight_bytes".to_owned(), held.copies.to_string());
    }
    if !held.converted.is_empty() {
        let forms: Vec<&str> = held.converted.iter().map(String::as_str).collect();
        details.insert("source_format".to_owned(), forms.join("; "));
    }
    if !held.unquantized.is_empty() {
        details.insert("not_quantized".to_owned(), held.unquantized.join(" "));
    }
    details
}
