//! What an engine implements: [`Engine`] before a model is loaded, [`Session`] after.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use inferometer_protocol::{
    Choice, Completion, Detail, EngineError, EngineMemory, EngineSpec, Offer, Phase, Receipt, Request, Settings,
    SpanTiming, TokenLogprob,
};

pub type Result<T> = std::result::Result<T, EngineError>;

/// A kind of engine. Its methods describe it before a model is loaded.
pub trait Engine: Sync {
    fn name(&self) -> &'static str;

    /// Options and toggles, for scenario checks and `inferometer engines`.
    fn offer(&self) -> Offer;

    /// Whether the engine can run on this machine.
    ///
    /// # Errors
    /// Why not, such as a missing device or library.
    fn available(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    /// The engine name in its receipts, if this engine delegates to another one.
    fn receipt_name(&self) -> &'static str {
        self.name()
    }

    /// Entries that the host adds to the receipt's details, such as why another engine was
    /// selected.
    fn notes(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Environment variables, by name, that the host process needs for these options and load-scope
    /// toggles; `cpus`: how many CPUs it may use, if known. Whoever starts the process sets them:
    /// some libraries take a setting from nowhere else, and a running process must not change its
    /// environment.
    fn environment(&self, spec: &EngineSpec, toggles: &Settings, cpus: Option<usize>) -> Vec<(&'static str, String)> {
        let _ = (spec, toggles, cpus);
        Vec::new()
    }

    /// Loads a model. Called only inside the host process.
    ///
    /// # Errors
    /// `model` when the model cannot be loaded (the message names file and tensor), `unsupported`
    /// for an option that the engine lacks.
    fn open(&self, load: &Load) -> Result<Box<dyn Session>>;
}

/// What [`Engine::open`] loads.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    pub engine: EngineSpec,
    /// The model's folder or file.
    pub model: Option<PathBuf>,
    /// Load-scope toggles by name, as requested.
    pub toggles: Settings,
}

/// A loaded engine. Lives on one thread; calls are serial.
pub trait Session {
    /// The engine's identity and the settings in force. Called after `open`, and before generations
    /// that request choices.
    fn receipt(&self) -> Receipt;

    /// Runs one generation. Sends each token to `sink` as soon as it is readable on the host.
    ///
    /// # Errors
    /// `bad_request` for an invalid prompt; any other kind for a failure of the engine.
    fn generate(&mut self, request: &Request, sink: &mut dyn TokenSink) -> Result<Completion>;

    /// A further session on the same model, which may generate at the same time as this one, with
    /// its own KV cache. Only engines whose receipt has the capability `concurrent` are asked.
    ///
    /// # Errors
    /// When the engine has no further sessions, or cannot make another.
    fn another(&self) -> Result<Box<dyn Session + Send>> {
        Err(EngineError::unsupported("this engine runs one generation at a time"))
    }

    /// A text of exactly `tokens` tokens, cut from `text` or from its repetition. Only engines with
    /// the capability `fit` are asked, outside every timed section.
    ///
    /// # Errors
    /// When the engine cannot count tokens, or finds no such text.
    fn fit(&mut self, text: &str, tokens: u32) -> Result<String> {
        let _ = (text, tokens);
        Err(EngineError::unsupported("this engine cannot cut a text to a number of tokens"))
    }

    /// Drops every KV cache and frees its memory, so that each request starts from the same state
    /// and one cell's peak memory does not include another's cache.
    ///
    /// # Errors
    /// When the engine fails to reset.
    fn reset(&mut self) -> Result<()>;

    /// Frees the allocator's cached memory, if the allocator has a cache.
    fn clear_cache(&mut self) -> Result<()> {
        Err(EngineError::unsupported("this engine has no allocator cache to clear"))
    }

    /// Memory as the engine reports it; unknown fields are `None`.
    fn memory(&self) -> EngineMemory {
        EngineMemory::default()
    }

    /// How the spans of single operations are timed; `None` if the engine records none.
    fn span_timing(&self, forced_sync: bool) -> Option<SpanTiming> {
        let _ = forced_sync;
        None
    }

    /// A probe that reads [`Session::memory`]'s allocator figures from any thread, also during a
    /// generation; `None` if the engine does not support this.
    fn memory_probe(&self) -> Option<MemoryProbe> {
        None
    }

    /// Text of generated ids, if the engine has a tokenizer. Called after the generation, outside
    /// every timed section.
    fn decode(&self, tokens: &[u32]) -> Option<String> {
        let _ = tokens;
        None
    }
}

/// Reads the engine's memory use. Must not wait for a lock that a generation holds for long.
pub type MemoryProbe = Arc<dyn Fn() -> EngineMemory + Send + Sync>;

/// Receives a session's tokens and spans as they happen. No method allocates, locks or does I/O.
pub trait TokenSink {
    /// Stamps token `id`. Call it when the token is readable on the host.
    fn token(&mut self, id: u32);
    /// Stamps tokens that became readable together, such as those of one pass of speculative
    /// decoding: with one stamp where the sink stamps.
    fn tokens(&mut self, ids: &[u32]) {
        for id in ids {
            self.token(*id);
        }
    }
    /// Whether [`TokenSink::choice`] must follow each token. Never true in a timed pass.
    fn wants_choices(&self) -> bool {
        false
    }
    /// Called after `token`: what the engine itself would have generated at this position.
    fn choice(&mut self, choice: Choice) {
        let _ = choice;
    }
    /// How many of the most likely tokens [`TokenSink::logprob`] must have; `None`: it must not be
    /// called. Always `None` in a timed pass.
    fn wants_logprobs(&self) -> Option<u32> {
        None
    }
    /// Called after `token`: how likely the model found it. May allocate.
    fn logprob(&mut self, logprob: TokenLogprob) {
        let _ = logprob;
    }
    /// Level of detail to record. A sink that wraps another one returns the inner sink's.
    fn detail(&self) -> Detail;
    /// Begins a span; pass the returned key to `end` to close it.
    fn begin(&mut self, phase: Phase) -> SpanKey;
    fn end(&mut self, key: SpanKey);
    /// Whether the harness asked to stop. Check it between prefill chunks and between tokens.
    fn cancelled(&self) -> bool;
}

/// Identifies an open span.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpanKey(pub(crate) usize);
