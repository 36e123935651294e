//! The `mlx-lm` engine: Python's mlx_lm in a virtual environment of its own, which
//! `inferometer engines install mlx-lm` makes.

use super::installed::{Package, VERSION};
use super::program::Program;
use inferometer_protocol::sampling::FIELDS;
use inferometer_protocol::toggle::{
    CACHE_CLEAR_CHUNKS, CACHE_CLEAR_TOKENS, CACHE_LIMIT, COMPILE, DRAFT_MODEL, DTYPE, KV_CACHE, KV_DTYPE, KV_REUSE,
    LAZY_PIPELINE, LOOKUP_NGRAM, MEMORY_LIMIT, NUM_DRAFT_TOKENS, PREFILL_CHUNK_SIZE, REPETITION_CONTEXT_SIZE,
    REPETITION_PENALTY, REPETITION_WINDOW_CAP, SAMPLING_ORDER, THREADS, WIRED_LIMIT,
};
use inferometer_protocol::{EngineSpec, Honours, Kind, Offer, OptionSpec};

pub const PROGRAM: Program = Program { name: "mlx-lm", receipt_name: "mlx_lm", offer, command };

pub static PACKAGE: Package = Package {
    name: PROGRAM.name,
    what: "Python's mlx_lm",
    licence: "MIT",
    licence_page: "https://github.com/ml-explore/mlx-lm/blob/main/LICENSE",
    version: "0.32.2",
    download_bytes: 61_000_000,
    disk_bytes: 352 << 20,
    requirements,
    adapter: ("mlx_lm_adapter.py", include_str!("../../adapters/mlx_lm_adapter.py")),
};

/// The MLX that an MLX build of this program has.
const MLX: &str = "0.32.2";

/// What the adapter honours; its receipt says the same.
const TOGGLES: [&str; 11] = [
    REPETITION_PENALTY,
    REPETITION_CONTEXT_SIZE,
    REPETITION_WINDOW_CAP,
    KV_REUSE,
    KV_CACHE,
    MEMORY_LIMIT,
    CACHE_LIMIT,
    LAZY_PIPELINE,
    NUM_DRAFT_TOKENS,
    DRAFT_MODEL,
    SAMPLING_ORDER,
];

/// What the adapter refuses, with the reasons of its receipt.
const REFUSED: [(&str, &str); 9] = [
    (
        PREFILL_CHUNK_SIZE,
        "mlx_lm runs the last prompt token alone, whatever the step; see the option prefill_step_size",
    ),
    (CACHE_CLEAR_CHUNKS, "mlx_lm clears the cache after every prefill step, and this cannot be changed"),
    (CACHE_CLEAR_TOKENS, "mlx_lm clears the cache every 256 tokens, and this cannot be changed"),
    (WIRED_LIMIT, "on Metal, mlx_lm itself wires as much as the device recommends"),
    (THREADS, "MLX has no setting for threads: Metal has none, and on the CPU its BLAS chooses"),
    (DTYPE, "mlx_lm computes in the format that the model's folder has"),
    (COMPILE, "mlx_lm's models decide what is compiled"),
    (LOOKUP_NGRAM, "mlx_lm drafts with a draft model only"),
    (KV_DTYPE, "keys and values have the format of the activations; the option kv_bits quantizes them"),
];

fn offer() -> Offer {
    Offer {
        name: PROGRAM.name,
        label: PROGRAM.name,
        meaning: "Python's mlx_lm, for folders in MLX's or the hub's format",
        options: vec![
            OptionSpec {
                name: VERSION,
                kind: Kind::Text,
                choices: &[],
                paths: false,
                meaning: "the installed version to run; default: the one that inferometer was tested with",
            },
            count("prefill_step_size", "tokens of the prompt in one forward pass; default: 2048, as mlx_lm"),
            count("max_kv_size", "rotating KV cache of N positions that always keeps the first 4, as mlx_lm"),
            count("kv_bits", "quantize the KV cache to 2, 3, 4, 5, 6 or 8 bits"),
            count("kv_group_size", "numbers that share a scale in a quantized KV cache; default: 64"),
            count("quantized_kv_start", "tokens in the KV cache before it is quantized; default: 5000, as mlx_lm"),
        ],
        honours: Honours {
            toggles: Some(TOGGLES.into()),
            choices: &[(SAMPLING_ORDER, &["filters_first"])],
            sampling: Some(FIELDS),
            refused: REFUSED.into(),
        },
        ..Offer::default()
    }
}

fn count(name: &'static str, meaning: &'static str) -> OptionSpec {
    OptionSpec { name, kind: Kind::Count, choices: &[], paths: false, meaning }
}

fn command(spec: &EngineSpec) -> Result<Vec<String>, String> {
    PACKAGE.command(spec)
}

fn requirements(version: &str) -> Vec<String> {
    let exact = format!("mlx-lm=={version}");
    match (cfg!(target_os = "linux"), version == PACKAGE.version) {
        // On macOS mlx-lm itself requires mlx.
        (false, _) => vec![exact],
        (true, true) => vec![exact, format!("mlx[cpu]=={MLX}")],
        (true, false) => vec![exact, "mlx[cpu]".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The harness refuses by the offer, the adapter by itself: they must not differ.
    #[test]
    fn the_adapter_says_what_the_offer_says() {
        let (_, adapter) = PACKAGE.adapter;
        let between = |begin: &str, end: &str| {
            let from = adapter.find(begin).unwrap() + begin.len();
            &adapter[from..from + adapter[from..].find(end).unwrap()]
        };
        let names = |text: &'static str| -> Vec<&str> { text.split('"').skip(1).step_by(2).collect() };
        assert_eq!(names(between("\nTOGGLES = [", "]")), TOGGLES);
        let refused: Vec<&str> = REFUSED.iter().flat_map(|(toggle, reason)| [*toggle, *reason]).collect();
        assert_eq!(names(between("\nNOT_HONOURED = {", "}")), refused);
        assert_eq!(names(between("\nSAMPLING = [", "]")), FIELDS);
        let options: Vec<&str> = offer().options.iter().map(|option| option.name).collect();
        assert_eq!(names(between("\nOPTIONS = {", "}")), options[1..], "all but the version");
    }
}
