//! Every key of the scenario file in one table: shape, bounds, default and meaning.
//!
//! The parser, the JSON Schema and the reference page all read this table, so that they cannot disagree.

mod ab;
mod profile;
mod shape;
mod workload;

pub use ab::{AB, BUILD, CELLS, GATE};
pub use profile::PROFILE;
pub use shape::{Key, Section, Shape};
use shape::{count, key, required};
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

pub const ARCHITECTURES: &[&str] = &["llama", "qwen3"];
/// As the weights of synthetic models may be stored; tests hold these to [`inferometer_protocol::Precision`] and
/// [`inferometer_protocol::Quantization`].
pub const DTYPES: &[&str] = &["f32", "f16", "bf16"];
pub const BITS: &[u64] = &[4, 8];
pub const GROUP_SIZES: &[u64] = &[32, 64, 128];
pub const GAUGES: &[&str] = &["cpu", "memory", "gpu", "power"];
pub const VARY: &str = "vary";

pub static SCENARIO: Section = Section {
    title: "",
    meaning: "The scenario itself.",
    one_of: None,
    keys: &[
        required(
            "name",
            Shape::Text,
            "short name: letters, digits, `-`, `_` and `.`, at most 64; part of the run's folder name",
        ),
        key("description", Shape::Text, "", "the question the scenario answers, in a sentence"),
        required("model", Shape::Section(&MODEL), "which model"),
        key("engine", Shape::Sections(&ENGINE), "", "which engines run it; one `transformer` if there is none"),
        required("workload", Shape::Kinds(WORKLOAD_KINDS), "what is generated from what"),
        key("sampling", Shape::Section(&SAMPLING), "", "how the next token is chosen"),
        key("run", Shape::Section(&RUN), "", "how often, how isolated, how long"),
        key("toggles", Shape::Section(&TOGGLES), "", "engine settings; a list of values is varied"),
        key("telemetry", Shape::Section(&TELEMETRY), "", "what is sampled beside the engine"),
        key("profile", Shape::Section(&PROFILE), "", "a profiled pass after the timed iterations"),
        key(
            "gate",
            Shape::Sections(&GATE),
            "",
            "what an A/B session decides, at most three; without any decode, prefill and peak memory",
        ),
        key("ab", Shape::Section(&AB), "", "how an A/B session goes"),
        key("build", Shape::Section(&BUILD), "", "how a commit becomes a program; without it this project's own way"),
    ],
};

pub static MODEL: Section = Section {
    title: "[model]",
    meaning: "Which model. Exactly one of the two keys.",
    one_of: Some(("path", "synthetic")),
    keys: &[
        key(
            "path",
            Shape::Text,
            "",
            "folder of the model (config.json, safetensors, tokenizer.json); relative to the scenario's folder, `~` is the home folder",
        ),
        key("synthetic", Shape::Section(&SYNTHETIC), "", "a model with seeded random weights, made on first use"),
    ],
};

pub static SYNTHETIC: Section = Section {
    title: "[model] synthetic",
    meaning: "A model with seeded random weights: real shapes, meaningless text.",
    one_of: None,
    keys: &[
        required("arch", Shape::Choice(ARCHITECTURES), "architecture"),
        required("preset", Shape::Text, "size; `inferometer model list` shows the sizes of each architecture"),
        key("seed", SEED, "1", "seed of the weights: same seed, same bytes"),
        key("dtype", Shape::Choice(DTYPES), "", "format of the weights on disk; without it the preset's own"),
        key("bits", Shape::Size(BITS), "", "quantize the matrices in MLX's affine format, in so many bits a weight"),
        key(
            "group_size",
            Shape::Size(GROUP_SIZES),
            "",
            "weights that share a scale, where `bits` is given; without it 64",
        ),
    ],
};

pub static ENGINE: Section = Section {
    title: "[[engine]]",
    meaning: "An engine; several of them are compared.",
    one_of: None,
    keys: &[
        key("name", Shape::Text, "\"transformer\"", "the engine's name; `inferometer engines` lists them"),
        key(
            "label",
            Shape::Text,
            "",
            "what tables and charts call it, different for each; the engine's name if not given (`auto` adds what it took)",
        ),
        key("options", Shape::Options, "", "the engine's own options; `inferometer engines` lists them"),
    ],
};

pub static SAMPLING: Section = Section {
    title: "[sampling]",
    meaning: "How the next token is chosen.",
    one_of: None,
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
            "the penalty looks at the last N tokens, prompt and generated; 0 = the whole history",
        ),
    ],
};

pub static RUN: Section = Section {
    title: "[run]",
    meaning: "How often, how isolated, how long.",
    one_of: None,
    keys: &[
        key("iterations", count(1, 10_000), "10", "measured iterations of each cell"),
        key("warmup", count(0, 1_000), "1", "unmeasured runs of each cell in each fresh host before it is measured"),
        key(
            "isolation",
            Shape::Choice(&["run", "cell", "iteration"]),
            "\"run\"",
            "a fresh engine host for each run, cell or iteration",
        ),
        key(
            "timeout_s",
            Shape::Number { least: 0.0, open: true, most: 86_400.0 },
            "600.0",
            "longest wait for any single answer of a host, in seconds",
        ),
        key(
            "cooldown_s",
            Shape::Number { least: 0.0, open: false, most: 3_600.0 },
            "0.0",
            "pause before each iteration, in seconds",
        ),
        key("order_seed", SEED, "0", "seed of the order in which cells take turns"),
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
            "what is done about an iteration disturbed by throttling, swapping, stolen time, foreign load or a changed power source",
        ),
    ],
};

pub static TELEMETRY: Section = Section {
    title: "[telemetry]",
    meaning: "What is sampled beside the engine while it works.",
    one_of: None,
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

/// One key a toggle of `spec::toggle`, and `vary`.
pub static TOGGLES: Section = Section {
    title: "[toggles]",
    meaning: "Engine settings. One value holds in every cell; a list of values is varied.",
    one_of: None,
    keys: &TOGGLE_KEYS,
};

static TOGGLE_KEYS: [Key; toggle::TOGGLES.len() + 1] = toggle_keys();

const fn toggle_keys() -> [Key; toggle::TOGGLES.len() + 1] {
    let vary = Shape::Choice(&["all", "one-at-a-time"]);
    let meaning = "`all`: every combination of values is a cell; `one-at-a-time`: first values are the centre, each cell differs from it in at most one toggle";
    let mut keys = [key(VARY, vary, "\"all\"", meaning); toggle::TOGGLES.len() + 1];
    let mut i = 0;
    while i < toggle::TOGGLES.len() {
        let spec = &toggle::TOGGLES[i];
        // `default` in the toggle's table is text for people: what the engine does when nothing is said.
        keys[i] = key(spec.name, Shape::Toggle(spec), "", spec.meaning);
        i += 1;
    }
    keys
}

/// Largest value of a toggle that counts tokens or chunks.
const MOST_COUNT: u64 = u32::MAX as u64;

/// Largest value of a toggle: what no machine has is a slip of the keyboard.
#[must_use]
pub fn most(spec: &ToggleSpec) -> f64 {
    match spec.name {
        toggle::THREADS => 1024.0,
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
    &TELEMETRY,
    &PROFILE,
    &GATE,
    &CELLS,
    &AB,
    &BUILD,
];
