//! A model of llama.cpp in memory, with its context: the KV cache and the buffers of its forward
//! passes.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use inferometer_host::Result;
use inferometer_host::protocol::{EngineError, ErrorKind};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::{DecodeError, LlamaModelLoadError};

use crate::log::{self, Printed};
use crate::options::{CONTEXT, FlashAttention, GPU_LAYERS, KvType, Options};
use crate::request::Limits;

/// The one sequence of the context.
const SEQUENCE: i32 = 0;
/// llama.cpp's word for all layers.
const ALL_LAYERS: u32 = i32::MAX as u32;

/// A loaded model.
pub struct Loaded {
    /// Borrows from `model`, so it comes first: fields are dropped in their order.
    context: LlamaContext<'static>,
    model: Arc<LlamaModel>,
    /// The library is initialized as long as this lives.
    _backend: LlamaBackend,
    batch: LlamaBatch<'static>,
    /// Threads that the context was created with.
    pub threads: i32,
    pub options: Options,
    pub printed: Printed,
}

impl Loaded {
    /// Loads a GGUF file.
    ///
    /// # Errors
    /// `model` when llama.cpp refuses the file, `out_of_memory` when a buffer cannot be allocated;
    /// both with what llama.cpp printed.
    pub fn open(file: &Path, options: Options) -> Result<Self> {
        log::keep();
        let loaded = Self::load(file, options);
        let printed = log::take();
        let fails = |failed: Failed| match failed {
            Failed::Told(error) => error,
            Failed::Model => EngineError::model(format!("{}: cannot be loaded; {}", file.display(), printed.reasons())),
            Failed::Context(positions) => EngineError::new(
                kind(&printed),
                format!(
                    "{}: no context of {positions} positions (engine option `{CONTEXT}`); {}",
                    file.display(),
                    printed.reasons()
                ),
            ),
        };
        match loaded {
            Ok(loaded) => Ok(Self { printed, ..loaded }),
            Err(failed) => Err(fails(failed)),
        }
    }

    fn load(file: &Path, options: Options) -> std::result::Result<Self, Failed> {
        let backend = LlamaBackend::init().map_err(|error| {
            Failed::Told(EngineError::internal(format!("llama.cpp cannot be initialized twice at once: {error}")))
        })?;
        if options.gpu_layers.is_some_and(|layers| layers > 0) && !backend.supports_gpu_offload() {
            return Err(Failed::Told(EngineError::unsupported(format!(
                "option {GPU_LAYERS}: this build of llama.cpp has no GPU, or this machine has none; leave the option \
                 out, or build with one of the features cuda, vulkan and rocm"
            ))));
        }
        let gpu_layers = options.gpu_layers.unwrap_or(ALL_LAYERS);
        let params = LlamaModelParams::default()
            .with_n_gpu_layers(gpu_layers)
            .with_use_mmap(options.mmap)
            .with_use_mlock(options.mlock);
        let model = LlamaModel::load_from_file(&backend, file, &params).map_err(|error| match error {
            LlamaModelLoadError::NullResult => Failed::Model,
            other => Failed::Told(EngineError::model(format!("{}: {other}", file.display()))),
        })?;
        let model = Arc::new(model);
        let threads = options.threads.unwrap_or_else(own_threads);
        let positions = options.positions(model.n_ctx_train());
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(positions))
            .with_n_batch(options.batch)
            .with_n_ubatch(options.batch)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_type_k(kv_cache_type(options.kv_type))
            .with_type_v(kv_cache_type(options.kv_type))
            .with_flash_attention_policy(flash_attention(options.flash_attention));
        let context = model.new_context(&backend, params).map_err(|_| Failed::Context(positions))?;
        // SAFETY: the context borrows from the model inside the `Arc`, which does not move and is
        // dropped after the context (see the order of the fields). The context is private, so the
        // longer lifetime cannot leave this struct.
        let context = unsafe { std::mem::transmute::<LlamaContext<'_>, LlamaContext<'static>>(context) };
        let batch = LlamaBatch::new(context.n_ubatch() as usize, 1);
        let mut loaded = Self {
            context,
            model: Arc::clone(&model),
            _backend: backend,
            batch,
            threads,
            options,
            printed: Printed::default(),
        };
        drop(model);
        loaded.warm_up().map_err(Failed::Told)?;
        Ok(loaded)
    }

    /// Runs one token and forgets it: pages of a mapped file are read, threads are started.
    fn warm_up(&mut self) -> Result<()> {
        let begin = self.model.vocab().bos().0;
        let token = u32::try_from(begin).ok().filter(|id| *id < self.limits().vocabulary).unwrap_or(0);
        self.run(&[token], 0, true)?;
        self.clear();
        Ok(())
    }

    pub fn model(&self) -> &LlamaModel {
        &self.model
    }

    /// What a request must fit into, read from the context.
    pub fn limits(&self) -> Limits {
        Limits {
            vocabulary: u32::try_from(self.model.n_vocab()).unwrap_or(0),
            context: self.context.n_ctx() as usize,
            pass: self.context.n_ubatch() as usize,
        }
    }

    /// The largest call of `llama_decode`, read from the context.
    pub fn n_batch(&self) -> u32 {
        self.context.n_batch()
    }

    /// Runs tokens behind `position` tokens and waits until they are computed. At most
    /// [`Limits::pass`] tokens: one forward pass. `last`: the logits of the last one are wanted.
    ///
    /// # Errors
    /// `out_of_memory` when no buffer can be allocated, `internal` otherwise.
    pub fn run(&mut self, tokens: &[u32], position: usize, last: bool) -> Result<()> {
        self.batch.clear();
        for (at, token) in tokens.iter().enumerate() {
            let logits = last && at + 1 == tokens.len();
            self.batch
                .add(LlamaToken(*token as i32), (position + at) as i32, &[SEQUENCE], logits)
                .map_err(|error| EngineError::internal(format!("{} tokens in one pass: {error}", tokens.len())))?;
        }
        self.context.decode(&mut self.batch).map_err(|error| failed(&error, tokens.len(), position))?;
        // A GPU may still be at work.
        self.context.synchronize();
        Ok(())
    }

    /// Logits of the last token that was run, if they were wanted.
    pub fn logits(&self) -> &[f32] {
        self.context.get_logits_ith(self.batch.n_tokens() - 1)
    }

    /// Length of the KV cache, read from it.
    pub fn cached(&self) -> usize {
        usize::try_from(self.context.kv_cache_seq_pos_max(SEQUENCE) + 1).unwrap_or(0)
    }

    /// Keeps the first `length` positions of the KV cache, if it can: recurrent layers cannot go
    /// back, and caches with a sliding window may have dropped what would be needed. Gives the
    /// number of positions kept.
    pub fn keep(&mut self, length: usize) -> usize {
        if length < self.cached() {
            let kept = length > 0 && self.context.kv_cache_seq_rm(SEQUENCE, Some(length as u32), None).is_ok();
            if !kept || self.cached() != length {
                self.forget();
            }
        }
        self.cached()
    }

    /// Empties the KV cache without touching its memory.
    fn forget(&mut self) {
        if self.context.kv_cache_seq_rm(SEQUENCE, None, None).is_err() || self.cached() > 0 {
            self.clear();
        }
    }

    /// Empties the KV cache and overwrites its memory.
    pub fn clear(&mut self) {
        self.context.clear_kv_cache();
    }
}

/// Why a load failed.
enum Failed {
    Told(EngineError),
    /// llama.cpp gave no model.
    Model,
    /// llama.cpp gave no context of this many positions.
    Context(u32),
}

/// llama.cpp returns no reason, only prints one. Its words for memory that cannot be had contain
/// `alloc`.
fn kind(printed: &Printed) -> ErrorKind {
    if printed.reasons().contains("alloc") { ErrorKind::OutOfMemory } else { ErrorKind::Model }
}

fn failed(error: &DecodeError, tokens: usize, position: usize) -> EngineError {
    /// `llama_decode` could not allocate.
    const NO_MEMORY: i32 = -2;
    let kind = match error {
        DecodeError::Unknown(NO_MEMORY) => ErrorKind::OutOfMemory,
        _ => ErrorKind::Internal,
    };
    EngineError::new(kind, format!("llama_decode of {tokens} tokens behind {position}: {error}; see the host's log"))
}

/// As many threads as this process may use processors: its own affinity counts.
fn own_threads() -> i32 {
    std::thread::available_parallelism().map_or(1, |n| i32::try_from(n.get()).unwrap_or(i32::MAX))
}

fn flash_attention(asked: FlashAttention) -> llama_cpp_sys_2::llama_flash_attn_type {
    match asked {
        FlashAttention::Auto => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO,
        FlashAttention::On => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_ENABLED,
        FlashAttention::Off => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED,
    }
}

fn kv_cache_type(kv_type: KvType) -> KvCacheType {
    match kv_type {
        KvType::F32 => KvCacheType::F32,
        KvType::F16 => KvCacheType::F16,
        KvType::Bf16 => KvCacheType::BF16,
        KvType::Q8_0 => KvCacheType::Q8_0,
        KvType::Q5_1 => KvCacheType::Q5_1,
        KvType::Q5_0 => KvCacheType::Q5_0,
        KvType::Q4_1 => KvCacheType::Q4_1,
        KvType::Q4_0 => KvCacheType::Q4_0,
        KvType::Iq4Nl => KvCacheType::IQ4_NL,
    }
}
