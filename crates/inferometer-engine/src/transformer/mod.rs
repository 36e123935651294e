//! The project's own generation engine: decoder-only transformers, generic over a tensor backend.

pub mod arch;
pub mod backend;
pub mod candle;
pub mod checkpoint;
pub mod config;
mod detokenizing;
pub mod expected;
pub mod experts;
pub mod extent;
pub mod finite;
pub mod generation;
pub mod gguf;
pub mod identity;
#[cfg(any(feature = "mlx", all(feature = "metal", target_os = "macos", target_arch = "aarch64")))]
pub mod mlx;
pub mod model;
pub mod mxfp4;
mod on_candle;
#[cfg(any(feature = "mlx", all(feature = "metal", target_os = "macos", target_arch = "aarch64")))]
mod on_mlx;
// The same functions for builds without MLX, so that other code need not check.
#[cfg(not(any(feature = "mlx", all(feature = "metal", target_os = "macos", target_arch = "aarch64"))))]
#[path = "without_mlx.rs"]
mod on_mlx;
pub mod plan;
pub mod quantized;
pub mod rope;
pub mod sampler;
pub mod session;
pub mod speculation;
pub mod stored;
pub mod weights;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use checkpoint::Opened;
use model::Model;
use session::{Text, TransformerSession};

use inferometer_host::{Engine, Load, Result, Session};
use inferometer_protocol::toggle::{DRAFT_MODEL, KV_CACHE, NO_DRAFT_MODEL, Scope, find, fits, written};
use inferometer_protocol::{
    Capabilities, EngineError, EngineSpec, Honours, Kind, ModelIdentity, Offer, OptionSpec, Receipt, Settings,
    TokenTiming, Value, Variant,
};

pub const NAME: &str = "transformer";
pub const BACKEND: &str = "backend";

/// The prefix of `kv_cache` for a cache of the last N positions.
const ROTATING: &str = "rotating:";

/// The tensor libraries, the default one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    Candle,
    Mlx,
}

/// The engine in the registry.
pub struct Transformer;

/// Load-time toggles, checked against what the tensor library honours.
#[derive(Debug, Clone, PartialEq)]
struct LoadSettings(Settings);

impl Library {
    pub const ALL: [Library; 2] = [Library::Candle, Library::Mlx];
    const NAMES: [&str; 2] = ["candle", "mlx"];

    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Why it is not available in this build or on this machine, and how to get it.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        match self {
            Library::Candle => None,
            Library::Mlx => on_mlx::missing(),
        }
    }

    /// Why its speed on this machine says little, though it works.
    #[must_use]
    pub fn doubt(self) -> Option<String> {
        match self {
            Library::Candle => None,
            Library::Mlx => on_mlx::doubt(),
        }
    }

    /// Its device on this machine.
    #[must_use]
    pub fn place(self) -> Option<String> {
        match self {
            Library::Candle => Some("cpu".to_owned()),
            Library::Mlx => on_mlx::place(),
        }
    }

    fn honours(self) -> Honours {
        match self {
            Library::Candle => on_candle::honours(),
            Library::Mlx => on_mlx::honours(),
        }
    }

    /// The library named in an engine's options.
    fn of(engine: &EngineSpec) -> Result<Self> {
        let mut library = Library::Candle;
        for (name, value) in &engine.options {
            if name != BACKEND {
                return Err(EngineError::unsupported(format!(
                    "the {NAME} engine has no option {name:?}; it has {BACKEND:?}"
                )));
            }
            let named = |l: &Library| value.as_text() == Some(l.name());
            library = Self::ALL.into_iter().find(named).ok_or_else(|| {
                EngineError::unsupported(format!("backend = {value}: there are {}", Self::NAMES.join(" and ")))
            })?;
        }
        match library.missing() {
            None => Ok(library),
            Some(why) => Err(EngineError::unsupported(format!("backend = \"{}\": {why}", library.name()))),
        }
    }
}

impl Engine for Transformer {
    fn name(&self) -> &'static str {
        NAME
    }

    fn offer(&self) -> Offer {
        let variant = |library: Library| Variant {
            option: BACKEND,
            value: library.name(),
            missing: library.missing(),
            honours: library.honours(),
        };
        Offer {
            name: NAME,
            label: NAME,
            meaning: "built-in engine: Llama, Qwen, Gemma, gpt-oss and other models",
            options: vec![OptionSpec {
                name: BACKEND,
                kind: Kind::Text,
                choices: &Library::NAMES,
                paths: false,
                meaning: "tensor library that computes (default: candle)",
            }],
            required: &[],
            serves: false,
            honours: Library::Candle.honours(),
            variants: Library::ALL.map(variant).into(),
            built_in: true,
        }
    }

    fn environment(&self, spec: &EngineSpec, toggles: &Settings, cpus: Option<usize>) -> Vec<(&'static str, String)> {
        match Library::of(spec) {
            Ok(Library::Candle) => on_candle::environment(&LoadSettings(toggles.clone()), cpus),
            _ => Vec::new(),
        }
    }

    fn open(&self, load: &Load) -> Result<Box<dyn Session>> {
        let library = Library::of(&load.engine)?;
        let settings = LoadSettings::of(&load.toggles, &library.honours())?;
        let Some(folder) = &load.model else {
            return Err(EngineError::model(
                "no model was named; this engine needs a Hugging Face folder or a GGUF file",
            ));
        };
        match library {
            Library::Candle => on_candle::open(folder, &settings),
            Library::Mlx => on_mlx::open(folder, &settings),
        }
    }
}

impl LoadSettings {
    fn of(toggles: &Settings, honours: &Honours) -> Result<Self> {
        for (name, value) in toggles {
            let known = find(name).filter(|t| t.scope == Scope::Load && honours.honours(name) == Some(true));
            let Some(toggle) = known else {
                let reason = honours.reason(name).map(|reason| format!(": {reason}")).unwrap_or_default();
                let honoured = honours.toggles.iter().flatten().copied();
                let load = honoured.filter(|name| find(name).is_some_and(|t| t.scope == Scope::Load));
                return Err(EngineError::unsupported(format!(
                    "toggle {name} is not honoured at loading{reason}; these are: {}",
                    load.collect::<Vec<_>>().join(", ")
                )));
            };
            toggle.check(value).map_err(|problem| EngineError::bad_request(format!("toggle {name} {problem}")))?;
            let text = value.as_text().unwrap_or_default();
            if let Some(choices) = honours.choices_of(name).filter(|choices| !fits(choices, text)) {
                let all = written(choices).join(", ");
                return Err(EngineError::unsupported(format!("{name} = {text:?}: this backend has {all}")));
            }
        }
        Ok(Self(toggles.clone()))
    }

    fn text(&self, toggle: &str) -> Option<&str> {
        self.0.get(toggle).and_then(Value::as_text)
    }

    /// Positions that a rotating KV cache holds; `None` = a full one.
    fn window(&self) -> Option<usize> {
        self.text(KV_CACHE)?.strip_prefix(ROTATING)?.parse().ok()
    }

    /// The path of the model that drafts, if there is one.
    fn draft_model(&self) -> Option<&Path> {
        self.text(DRAFT_MODEL).filter(|text| *text != NO_DRAFT_MODEL).map(Path::new)
    }

    /// A number above zero; `None` leaves the choice to the engine.
    fn count(&self, toggle: &str) -> Option<usize> {
        let count = self.0.get(toggle).and_then(Value::as_count).filter(|n| *n > 0);
        count.map(|n| usize::try_from(n).unwrap_or(usize::MAX))
    }
}

/// Opens the model that drafts, if the settings name one, and adds it to the session.
fn with_draft_model<B: backend::Backend>(
    session: TransformerSession<B>,
    settings: &LoadSettings,
    backend: impl FnOnce(&dyn checkpoint::Checkpoint) -> B,
) -> Result<TransformerSession<B>> {
    let Some(path) = settings.draft_model() else { return Ok(session) };
    let (config, weights, text) = Opened::open(path)?.parts(path)?;
    let model = Model::load(backend(&*weights), config, &*weights, settings.window())?;
    let fingerprint = identity::fingerprint(path, &*weights)?;
    session.with_draft_model(model, &text, &path.display().to_string(), fingerprint)
}

/// The effective `draft_model`: as it was asked for.
fn draft_model(settings: &LoadSettings) -> (String, Value) {
    (DRAFT_MODEL.to_owned(), settings.text(DRAFT_MODEL).unwrap_or(NO_DRAFT_MODEL).into())
}

/// The effective `kv_cache`.
fn kv_cache(window: Option<usize>) -> (String, Value) {
    (KV_CACHE.to_owned(), window.map_or_else(|| "full".to_owned(), |n| format!("{ROTATING}{n}")).into())
}

/// The part of a receipt that is the same for every model on a tensor library.
fn receipt(backend: &str, device: &str, text: &Text, honours: &Honours) -> Receipt {
    Receipt {
        engine: NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: None,
        backend: Some(backend.to_owned()),
        device: Some(device.to_owned()),
        model: ModelIdentity::default(),
        capabilities: capabilities(text),
        toggles: honours.toggles.iter().flatten().map(|name| (*name).to_owned()).collect(),
        sampling: honours.sampling.into_iter().flatten().map(|name| (*name).to_owned()).collect(),
        not_honoured: honours.refused.iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned())).collect(),
        token_timing: TokenTiming::Exact,
        works_in: None,
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
        tools: text.tokenizer.is_some() && text.template.is_ok(),
        forced_tokens: true,
        cancel: true,
        reset: true,
        memory: true,
        choices: true,
        logprobs: true,
        // The host adds what it does for every engine.
        ..Capabilities::default()
    }
}

/// Details for the receipt: the build and the format of the weights in memory.
fn details(held: &backend::Held) -> BTreeMap<String, String> {
    let mut details = BTreeMap::from([
        ("build".to_owned(), if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()),
        ("target".to_owned(), format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)),
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
