//! Every key of the scenario file in one table: shape, bounds, default and meaning.
//!
//! The parser, the JSON Schema and the reference page all read this table, so they cannot disagree.

mod ab;
mod profile;
mod quality;
mod shape;
mod traffic;
mod workload;

pub use ab::{AB, BUILD, CELLS, GATE};
pub use profile::PROFILE;
pub use quality::QUALITY;
pub use shape::{Key, Section, Shape};
use shape::{count, key, required};
pub use traffic::LOAD;
pub use workload::{CONVERSATION, KIND, LATER_WORKLOADS, PROMPT, TURN, TURNS_FILE, WORKLOAD_KINDS};

use inferometer_protocol::effective::EFFECTIVE;
use inferometer_protocol::toggle;
use inferometer_protocol::toggle::ToggleSpec;

/// TOML integers are signed.
const SEED: Shape = count(0, i64::MAX as u64);
/// Longest prompt and longest generation, in tokens.
pub const MOST_TOKENS: u64 = 1 << 20;
/// Texts in the file and prompt files, in bytes.
pub const MOST_SCENARIO_BYTES: u64 = 1 << 20;
pub const MOST_PROMPT_BYTES: u64 = 64 << 20;

/// Architectures of synthetic models; a test compares them with
/// [`inferometer_protocol::Architecture`].
pub const ARCHITECTURES: &[&str] =
    &["llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "smollm3", "phi3", "gemma3", "gpt_oss"];
/// Storage formats of synthetic models' weights; tests compare these with
/// [`inferometer_protocol::Precision`] and [`inferometer_protocol::Quantization`].
pub const DTYPES: &[&str] = &["f32", "f16", "bf16"];
pub const BITS: &[u64] = &[2, 3, 4, 5, 6, 8];
pub const GROUP_SIZES: &[u64] = &[32, 64, 128];
pub const GAUGES: &[&str] = &["cpu", "memory", "gpu", "power"];
pub const VARY: &str = "vary";

pub static SCENARIO: Section = Section {
    title: "",
    meaning: "The scenario itself.",
    one_of: &[],
    keys: &[
        required(
            "name",
            Shape::Text,
            "short name: letters, digits, `-`, `_` and `.`, at most 64; part of the run's folder name",
        ),
        key("description", Shape::Text, "", "the question that the scenario answers, in a sentence"),
        required("model", Shape::Section(&MODEL), "which model"),
        key("engine", Shape::Sections(&ENGINE), "", "engines to run; default: one `transformer`"),
        required("workload", Shape::Kinds(WORKLOAD_KINDS), "prompts and the number of tokens to generate"),
        key("sampling", Shape::Section(&SAMPLING), "", "how the next token is chosen"),
        key("run", Shape::Section(&RUN), "", "iterations, isolation and time limits"),
        key("toggles", Shape::Section(&TOGGLES), "", "engine settings; a list of values gives several cells"),
        key("telemetry", Shape::Section(&TELEMETRY), "", "what is sampled while the engine works"),
        key("profile", Shape::Section(&PROFILE), "", "a profiling pass after the timed iterations"),
        key("load", Shape::Section(&LOAD), "", "many requests at the same time, instead of one after the other"),
        key("quality", Shape::Section(&QUALITY), "", "perplexity of a fixed text after the timed iterations"),
        key(
            "gate",
            Shape::Sections(&GATE),
            "",
            "decisions of an A/B session, at most three; default: decode, prefill and peak memory",
        ),
        key("ab", Shape::Section(&AB), "", "parameters of an A/B session"),
        key("build", Shape::Section(&BUILD), "", "how to build a commit; default: this project's own build"),
    ],
};

pub static MODEL: Section = Section {
    title: "[model]",
    meaning: "The model. Exactly one of the four keys.",
    one_of: &["path", "name", "synthetic", "served"],
    keys: &[
        key(
            "path",
            Shape::Text,
            "",
            "folder of the model (config.json, safetensors, tokenizer.json) or GGUF file; relative to the scenario's folder, `~` is the home folder",
        ),
        key(
            "name",
            Shape::Text,
            "",
            "name of a model on this machine, as `inferometer model list` shows it, or a part that only one name begins or ends with",
        ),
        key("synthetic", Shape::Section(&SYNTHETIC), "", "a model with seeded random weights, created on first use"),
        key(
            "served",
            Shape::Flag,
            "",
            "`true`: the model that a server has (engine `openai`); the server then cuts prompts to their lengths",
        ),
    ],
};

pub static SYNTHETIC: Section = Section {
    title: "[model] synthetic",
    meaning: "A model with seeded random weights: real shapes, meaningless text.",
    one_of: &[],
    keys: &[
        required("arch", Shape::Choice(ARCHITECTURES), "architecture"),
        required("preset", Shape::Text, "size; `inferometer model list` shows the sizes of each architecture"),
        key("seed", SEED, "1", "seed of the weights: same seed, same bytes"),
        key("dtype", Shape::Choice(DTYPES), "", "format of the weights on disk; default: the preset's"),
        key(
            "bits",
            Shape::Size(BITS),
            "",
            "quantize the matrices in MLX's affine format, with this many bits per weight",
        ),
        key(
            "group_size",
            Shape::Size(GROUP_SIZES),
            "",
            "number of weights that share a scale, with `bits`; default 64",
        ),
    ],
};

pub static ENGINE: Section = Section {
    title: "[[engine]]",
    meaning: "An engine. With several, the run compares them.",
    one_of: &[],
    keys: &[
        key("name", Shape::Text, "\"transformer\"", "the engine's name; `inferometer engines` lists them"),
        key(
            "label",
            Shape::Text,
            "",
            "unique name in tables and charts; default: the engine's name (`auto` adds the selected engine)",
        ),
        key("options", Shape::Options, "", "options of the engine; `inferometer engines` lists them"),
        key("toggles", Shape::Section(&ENGINE_TOGGLES), "", "settings of this engine only"),
    ],
};

pub static SAMPLING: Section = Section {
    title: "[sampling]",
    meaning: "How the next token is chosen.",
    one_of: &[],
    keys: &[
        key("seed", SEED, "0", "seed of the draws"),
        key(
            "temperature",
            Shape::Number { least: 0.0, open: false, most: 100.0 },
            "0.0",
            "0 = greedy: always the most likely token",
        ),
        key("top_k", count(0, MOST_TOKENS), "0", "keep the K most likely tokens; 0 = all"),
        key(
            "top_p",
            Shape::Number { least: 0.0, open: true, most: 1.0 },
            "1.0",
            "keep the smallest set of most likely tokens whose probabilities sum to at least P; 1 = all",
        ),
        key(
            "min_p",
            Shape::Number { least: 0.0, open: false, most: 1.0 },
            "0.0",
            "drop tokens less likely than P times the most likely one; 0 = none",
        ),
        key(
            "repetition_penalty",
            Shape::Number { least: 0.01, open: false, most: 100.0 },
            "1.0",
            "logits of tokens in the window are divided (if positive) or multiplied (if negative) by this; 1 = off",
        ),
        key(
            "repetition_context_size",
            count(0, MOST_COUNT),
            "20",
            "the penalty covers the last N tokens, prompt and generated; 0 = the whole history",
        ),
    ],
};

pub static RUN: Section = Section {
    title: "[run]",
    meaning: "Iterations, isolation and time limits.",
    one_of: &[],
    keys: &[
        key("iterations", count(1, 10_000), "10", "measured iterations of each cell"),
        key(
            "warmup",
            count(0, 1_000),
            "1",
            "unmeasured iterations of each cell in each fresh host before the measured ones; more follow while token times are not verified",
        ),
        key(
            "isolation",
            Shape::Choice(&["run", "cell", "iteration", "load"]),
            "\"run\"",
            "start a fresh engine host for each run, cell or iteration; `load`: for each cell, with the model loaded before and unloaded after each iteration",
        ),
        key(
            "timeout_s",
            Shape::Number { least: 0.0, open: true, most: 86_400.0 },
            "600.0",
            "longest wait for a single answer of a host, in seconds",
        ),
        key(
            "cooldown_s",
            Shape::Number { least: 0.0, open: false, most: 3_600.0 },
            "0.0",
            "pause before each iteration, in seconds",
        ),
        key("order_seed", SEED, "0", "seed for the order of the cells"),
        key(
            "allow_mismatch",
            Shape::Choices(EFFECTIVE),
            "[]",
            "effective settings that may differ from what was requested",
        ),
        key(
            "external_causes",
            Shape::Choice(&["invalidate", "warn"]),
            "\"invalidate\"",
            "how to treat an iteration disturbed by throttling, swapping, stolen time, foreign load or a changed power source",
        ),
    ],
};

pub static TELEMETRY: Section = Section {
    title: "[telemetry]",
    meaning: "What is sampled while the engine works.",
    one_of: &[],
    keys: &[
        key(
            "interval_ms",
            Shape::Count { least: 5, most: 10_000, or_zero: true },
            "50",
            "time between samples in milliseconds; 0 = no telemetry",
        ),
        key("gauges", Shape::Choices(GAUGES), "[\"cpu\", \"memory\", \"gpu\", \"power\"]", "groups of gauges"),
    ],
};

/// One key per toggle of `spec::toggle`, and `vary`.
pub static TOGGLES: Section = Section {
    title: "[toggles]",
    meaning: "Engine settings. A single value applies to every cell; a list of values gives several cells.",
    one_of: &[],
    keys: &TOGGLE_KEYS,
};

/// One key per toggle of `spec::toggle`.
pub static ENGINE_TOGGLES: Section = Section {
    title: "[[engine]] toggles",
    meaning: "Settings of this engine only, with the keys and values of [toggles]: they replace those of the same name there, or \
              are added to them. A list of values gives several cells of this engine.",
    one_of: &[],
    keys: &OWN_TOGGLE_KEYS,
};

static OWN_TOGGLE_KEYS: [Key; toggle::TOGGLES.len()] = {
    let all = toggle_keys();
    let mut keys = [all[0]; toggle::TOGGLES.len()];
    let mut i = 0;
    while i < keys.len() {
        keys[i] = all[i];
        i += 1;
    }
    keys
};

static TOGGLE_KEYS: [Key; toggle::TOGGLES.len() + 1] = toggle_keys();

const fn toggle_keys() -> [Key; toggle::TOGGLES.len() + 1] {
    let vary = Shape::Choice(&["all", "one-at-a-time"]);
    let meaning = "`all`: every combination of values is a cell; `one-at-a-time`: each cell differs from the first values in at most one toggle";
    let mut keys = [key(VARY, vary, "\"all\"", meaning); toggle::TOGGLES.len() + 1];
    let mut i = 0;
    while i < toggle::TOGGLES.len() {
        let spec = &toggle::TOGGLES[i];
        // `default` in the toggles' table describes the default for people; it is not a TOML value.
        keys[i] = key(spec.name, Shape::Toggle(spec), "", spec.meaning);
        i += 1;
    }
    keys
}

/// Largest value of a toggle that counts tokens or chunks.
const MOST_COUNT: u64 = u32::MAX as u64;

/// Largest value of a toggle: a number that no machine supports is a typing mistake.
#[must_use]
pub fn most(spec: &ToggleSpec) -> f64 {
    match spec.name {
        toggle::THREADS => 1024.0,
        toggle::NUM_DRAFT_TOKENS => toggle::MOST_DRAFT_TOKENS as f64,
        toggle::REPETITION_PENALTY => 100.0,
        name if name.ends_with("_limit") => (1_u64 << 50) as f64,
        _ => MOST_COUNT as f64,
    }
}

/// Every section, in the order of the file.
pub static SECTIONS: &[&Section] = &[
    &SCENARIO,
    &MODEL,
    &SYNTHETIC,
    &ENGINE,
    &PROMPT,
    &CONVERSATION,
    &TURN,
    &SAMPLING,
    &RUN,
    &TOGGLES,
    &ENGINE_TOGGLES,
    &TELEMETRY,
    &PROFILE,
    &LOAD,
    &QUALITY,
    &GATE,
    &CELLS,
    &AB,
    &BUILD,
];
