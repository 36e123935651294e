//! What the engine offers, known without llama.cpp.

use inferometer_host::protocol::sampling::FIELDS;
use inferometer_host::protocol::toggle::{
    CACHE_CLEAR_CHUNKS, CACHE_CLEAR_TOKENS, CACHE_LIMIT, COMPILE, DRAFT_MODEL, DTYPE, KV_CACHE, KV_DTYPE, KV_REUSE,
    LAZY_PIPELINE, LOOKUP_NGRAM, MEMORY_LIMIT, NUM_DRAFT_TOKENS, PREFILL_CHUNK_SIZE, REPETITION_CONTEXT_SIZE,
    REPETITION_PENALTY, REPETITION_WINDOW_CAP, SAMPLING_ORDER, THREADS, WIRED_LIMIT,
};
use inferometer_host::protocol::{Honours, Kind, Offer, OptionSpec};

use crate::options::{
    BATCH, CONTEXT, DEFAULT_BATCH, FLASH_ATTENTION, FlashAttention, GPU_LAYERS, KvType, MLOCK, MMAP, MOST_CONTEXT,
};

/// Name in scenarios and receipts.
pub const NAME: &str = "llama-cpp";

const TOGGLES: [&str; 8] = [
    THREADS,
    KV_DTYPE,
    PREFILL_CHUNK_SIZE,
    KV_REUSE,
    REPETITION_PENALTY,
    REPETITION_CONTEXT_SIZE,
    REPETITION_WINDOW_CAP,
    SAMPLING_ORDER,
];

const NO_LIMITS: &str = "llama.cpp allocates its buffers once, at loading; there is no limit to set";
const NO_CACHE: &str = "llama.cpp keeps its buffers; there is no allocator cache to clear";
const NO_DRAFTS: &str = "llama.cpp's library decodes plainly; drafting is part of its programs, not of its library";
const REFUSED: [(&str, &str); 12] = [
    (DTYPE, "llama.cpp keeps the weights in the format of the GGUF file; load another file"),
    (KV_CACHE, "llama.cpp's KV cache is always full"),
    (MEMORY_LIMIT, NO_LIMITS),
    (CACHE_LIMIT, NO_LIMITS),
    (WIRED_LIMIT, NO_LIMITS),
    (CACHE_CLEAR_CHUNKS, NO_CACHE),
    (CACHE_CLEAR_TOKENS, NO_CACHE),
    (COMPILE, "llama.cpp always builds and plans its graph; there is nothing to switch"),
    (LAZY_PIPELINE, "llama.cpp samples on the host; no step can be submitted before its token is known"),
    (NUM_DRAFT_TOKENS, NO_DRAFTS),
    (LOOKUP_NGRAM, NO_DRAFTS),
    (DRAFT_MODEL, NO_DRAFTS),
];

/// Options, toggles and sampling fields of the engine.
#[must_use]
pub fn offer() -> Offer {
    Offer {
        name: NAME,
        label: NAME,
        meaning: "llama.cpp, by its library: GGUF files",
        options: options(),
        required: &[],
        serves: false,
        honours: Honours {
            toggles: Some(TOGGLES.into()),
            choices: &[(KV_DTYPE, &["f32", "f16"])],
            sampling: Some(FIELDS),
            refused: REFUSED.into(),
        },
        variants: Vec::new(),
        built_in: false,
    }
}

fn options() -> Vec<OptionSpec> {
    let option = |name, kind, choices, meaning| OptionSpec { name, kind, choices, paths: false, meaning };
    // The texts below repeat these.
    const { assert!(MOST_CONTEXT == 16_384 && DEFAULT_BATCH == 2048) };
    vec![
        option(CONTEXT, Kind::Count, &[], "positions of the KV cache, n_ctx (default: the model's, at most 16384)"),
        option(
            BATCH,
            Kind::Count,
            &[],
            "most tokens in one forward pass, n_batch and n_ubatch: the largest prefill_chunk_size (default: 2048)",
        ),
        option(GPU_LAYERS, Kind::Count, &[], "layers on the GPU, n_gpu_layers (default: all, if there is one)"),
        option(FLASH_ATTENTION, Kind::Text, &FlashAttention::NAMES, "flash attention (default: auto)"),
        option(
            KV_DTYPE,
            Kind::Text,
            &KvType::NAMES,
            "format of keys and values; the toggle of this name has fewer (default: f16)",
        ),
        option(MMAP, Kind::Bool, &[], "map the file instead of reading it (default: true)"),
        option(MLOCK, Kind::Bool, &[], "lock the weights in memory (default: false)"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferometer_host::protocol::toggle;

    #[test]
    fn every_toggle_is_honoured_or_refused_with_a_reason() {
        let offer = offer();
        for toggle in toggle::TOGGLES {
            let (honoured, reason) = (offer.honours.honours(toggle.name), offer.honours.reason(toggle.name));
            assert_eq!(honoured == Some(true), reason.is_none(), "{}", toggle.name);
        }
    }

    #[test]
    fn the_toggle_of_the_cache_has_choices_of_the_option() {
        let offer = offer();
        let toggle = offer.honours.choices_of(KV_DTYPE).unwrap();
        assert_eq!(Some(toggle), toggle::find(KV_DTYPE).map(|t| t.choices));
        assert!(toggle.iter().all(|name| KvType::NAMES.contains(name)));
    }
}
