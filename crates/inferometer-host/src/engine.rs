//! What an engine implements: [`Engine`] before a model is loaded, [`Session`] after.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use inferometer_protocol::{
    Choice, Completion, Detail, EngineError, EngineMemory, EngineSpec, Offer, Phase, Receipt, Request, Settings,
    SpanTiming,
};

pub type Result<T> = std::result::Result<T, EngineError>;

/// A kind of engine, known without starting it.
pub trait Engine: Sync {
    fn name(&self) -> &'static str;

    /// Options and toggles, for scenario checks and `inferometer engines`.
    fn offer(&self) -> Offer;

    /// Whether it can run on this machine.
    ///
    /// # Errors
    /// Why it cannot: a device or a library that is not there.
    fn available(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    /// The name that its receipts give, where it stands for another engine.
    fn receipt_name(&self) -> &'static str {
        self.name()
    }

    /// What the host adds to the details of its receipts, such as why another engine was taken.
    fn notes(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Loads a model. Called inside the host only.
    ///
    /// # Errors
    /// `model` when the folder cannot be loaded (naming file and tensor), `unsupported` for options it does not have.
    fn open(&self, load: &Load) -> Result<Box<dyn Session>>;
}

/// What `open` is given.
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
    /// What this session is and really uses.
    fn receipt(&self) -> Receipt;

    /// Runs one generation. Tokens go to `sink` the moment each is readable on the host.
    ///
    /// # Errors
    /// `bad_request` for a prompt it cannot take; any other kind for a failure of the engine.
    fn generate(&mut self, request: &Request, sink: &mut dyn TokenSink) -> Result<Completion>;

    /// Drops every KV cache and gives its memory back, so that one cell's peak does not show in that of the next and
    /// each request finds the same state, whatever came before.
    ///
    /// # Errors
    /// When the engine cannot.
    fn reset(&mut self) -> Result<()>;

    /// Gives cached allocator memory back, where there is such a cache.
    fn clear_cache(&mut self) -> Result<()> {
        Err(EngineError::unsupported("this engine has no allocator cache to clear"))
    }

    /// What the engine itself reports; absent fields stay absent.
    fn memory(&self) -> EngineMemory {
        EngineMemory::default()
    }

    /// How it times spans of single operations; absent where it records none.
    fn span_timing(&self, forced_sync: bool) -> Option<SpanTiming> {
        let _ = forced_sync;
        None
    }

    /// Reads what [`Session::memory`] says of the allocator from any thread at any time, also during a generation; `None`
    /// for an engine that cannot be asked so.
    fn memory_probe(&self) -> Option<MemoryProbe> {
        None
    }

    /// Text of generated ids, where the engine has a tokenizer. Called after the generation, outside every timed section.
    fn decode(&self, tokens: &[u32]) -> Option<String> {
        let _ = tokens;
        None
    }
}

/// Says what the engine has in memory. Takes no lock that a generation holds for long.
pub type MemoryProbe = Arc<dyn Fn() -> EngineMemory + Send + Sync>;

/// Where a session reports what happens while it happens. Nothing here allocates, locks or does I/O.
pub trait TokenSink {
    /// Called when token `id` is readable on the host; stamps it.
    fn token(&mut self, id: u32);
    /// Whether each token is to be followed by [`TokenSink::choice`]. Never in a timed pass.
    fn wants_choices(&self) -> bool {
        false
    }
    /// Called after `token`: what the engine would have generated in its place.
    fn choice(&mut self, choice: Choice) {
        let _ = choice;
    }
    /// How closely the generation is looked at. A sink around another one passes the question on.
    fn detail(&self) -> Detail;
    /// A span begins now; `end` with the returned key closes it.
    fn begin(&mut self, phase: Phase) -> SpanKey;
    fn end(&mut self, key: SpanKey);
    /// Whether the harness asked to stop. Checked between prefill chunks and between tokens.
    fn cancelled(&self) -> bool;
}

/// Names a span that has begun.
#[derive(Debug, Clone, Copy, Default)]
pub struct SpanKey(pub(crate) usize);
