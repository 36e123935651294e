//! Every key of the scenario file in one table: shape, bounds, default and meaning.
//!
//! The parser, the JSON Schema and the reference page all read this table, so that they cannot disagree.

use crate::spec::effective::EFFECTIVE;
use crate::spec::toggle::{self, ToggleSpec};

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// A text that is not empty.
    Text,
    Flag,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// One of these whole numbers.
    Size(&'static [u64]),
    /// A whole number between `least` and `most`, both included; with `or_zero` 0 as well.
    Count {
        least: u64,
        most: u64,
        or_zero: bool,
    },
    /// A number up to `most`, from `least` (or, if `open`, above it).
    Number {
        least: f64,
        open: bool,
        most: f64,
    },
    /// A list, not empty, of different whole numbers between the bounds.
    Counts {
        least: u64,
        most: u64,
    },
    /// A list of different texts out of these.
    Choices(&'static [&'static str]),
    /// A table with the keys of that section.
    Section(&'static Section),
    /// A list of tables with the keys of that section.
    Sections(&'static Section),
    /// A table whose `kind` says which section's keys it has; without it those of the first.
    Kinds(&'static [(&'static str, &'static Section)]),
    /// The options of an engine; what they are, the engine says.
    Options,
    /// A value of the toggle, or a list of different values to vary.
    Toggle(&'static ToggleSpec),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    pub name: &'static str,
    pub shape: Shape,
    /// The value when the key is not there, as TOML; empty where there is none.
    pub default: &'static str,
    /// Whether the key must be there.
    pub required: bool,
    pub meaning: &'static str,
}

/// A table of the file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Section {
    /// As the file writes it: `[run]`, `[[engine]]`, `[model] synthetic`; empty for the top level.
    pub title: &'static str,
    pub meaning: &'static str,
    /// Two keys of which exactly one must be there.
    pub one_of: Option<(&'static str, &'static str)>,
    pub keys: &'static [Key],
}

impl Key {
    /// The default as JSON, where there is one.
    ///
    /// # Panics
    /// When the table's default is not TOML, which a test holds.
    #[must_use]
    pub fn default_value(&self) -> Option<serde_json::Value> {
        if self.default.is_empty() {
            return None;
        }
        let table: toml::Table = format!("x = {}", self.default).parse().expect("defaults of the table are TOML");
        Some(serde_json::to_value(&table["x"]).expect("a TOML value is a JSON value"))
    }
}

impl Section {
    /// The key of that name.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|k| k.name == name)
    }

    /// `[run]`, or `the scenario` for the top level.
    #[must_use]
    pub fn words(&self) -> &'static str {
        if self.title.is_empty() { "a scenario" } else { self.title }
    }
}

const fn key(name: &'static str, shape: Shape, default: &'static str, meaning: &'static str) -> Key {
    Key { name, shape, default, required: false, meaning }
}

const fn required(name: &'static str, shape: Shape, meaning: &'static str) -> Key {
    Key { name, shape, default: "", required: true, meaning }
}

const fn count(least: u64, most: u64) -> Shape {
    Shape::Count { least, most, or_zero: false }
}

/// TOML integers are signed.
const SEED: Shape = count(0, i64::MAX as u64);
/// Longest prompt and longest generation, in tokens.
pub const MOST_TOKENS: u64 = 1 << 20;
/// Texts in the file and prompt files, in bytes.
pub const MOST_SCENARIO_BYTES: u64 = 1 << 20;
pub const MOST_PROMPT_BYTES: u64 = 64 << 20;

pub const ARCHITECTURES: &[&str] = &["llama", "qwen3"];
/// Presets of synthetic models by architecture (made on an upper floor; a test holds the two together).
pub const PRESETS: &[(&str, &[&str])] =
    &[("llama", &["tiny", "small", "1b", "3b"]), ("qwen3", &["tiny", "small", "0.6b", "1.7b", "4b"])];
const ANY_PRESET: &[&str] = &["tiny", "small", "0.6b", "1b", "1.7b", "3b", "4b"];
/// As the weights of synthetic models may be stored; tests hold these to [`crate::spec::Precision`] and
/// [`crate::spec::Quantization`].
pub const DTYPES: &[&str] = &["f32", "f16", "bf16"];
pub const BITS: &[u64] = &[4, 8];
pub const GROUP_SIZES: &[u64] = &[32, 64, 128];
pub const GAUGES: &[&str] = &["cpu", "memory"];
pub const KIND: &str = "kind";
pub const WORKLOADS: &[&str] = &["prompt", "conversation"];
/// Workloads of later versions, refused by name.
pub const LATER_WORKLOADS: &[&str] = &["batch", "embed", "tokenize", "train"];
/// The sections of `[workload]`, by its `kind`.
pub const WORKLOAD_KINDS: &[(&str, &Section)] = &[("prompt", &PROMPT), ("conversation", &CONVERSATION)];
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
        required(
            "preset",
            Shape::Choice(ANY_PRESET),
            "size; `inferometer model list` shows the sizes of each architecture",
        ),
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

const KIND_KEY: Key = key(
    KIND,
    Shape::Choice(WORKLOADS),
    "\"prompt\"",
    "kind of work: `prompt` is one generation from one text, `conversation` one a turn",
);

pub static PROMPT: Section = Section {
    title: "[workload]",
    meaning: "What is generated from what: one generation from one text. Exactly one of `text` and `text_file`.",
    one_of: Some(("text", "text_file")),
    keys: &[
        KIND_KEY,
        key("text", Shape::Text, "", "the prompt's text"),
        key(
            "text_file",
            Shape::Text,
            "",
            "file with the prompt's text (UTF-8, at most 64 MiB), relative to the scenario's folder",
        ),
        key(
            "lengths",
            Shape::Counts { least: 1, most: MOST_TOKENS },
            "",
            "exact prompt lengths in tokens: the text's tokens are cut or repeated; without it the text is used as it is",
        ),
        key(
            "chat",
            Shape::Flag,
            "false",
            "render the text as a user's message by the model's chat template; not together with `lengths`",
        ),
        key("max_tokens", count(1, MOST_TOKENS), "128", "most tokens to generate"),
        IGNORE_EOS,
    ],
};

const IGNORE_EOS: Key = key(
    "ignore_eos",
    Shape::Flag,
    "false",
    "go on past the model's end-of-sequence tokens, so that every generation is equally long",
);

pub static CONVERSATION: Section = Section {
    title: "[workload]",
    meaning: "A conversation: each turn is a request with all that was said before, rendered by the model's chat template. \
              Exactly one of `turn` and `turns_file`.",
    one_of: Some(("turn", "turns_file")),
    keys: &[
        KIND_KEY,
        key("system", Shape::Text, "", "the system message, first in every prompt; none if not given"),
        key(
            "system_file",
            Shape::Text,
            "",
            "file with the system message (UTF-8, at most 64 MiB), relative to the scenario's folder; instead of `system`",
        ),
        key("turn", Shape::Sections(&TURN), "", "the turns, in their order"),
        key(
            "turns_file",
            Shape::Text,
            "",
            "TOML file (at most 1 MiB) that has nothing but the turns as `[[turn]]` tables, relative to the scenario's folder",
        ),
        key(
            "replies",
            Shape::Choice(REPLIES),
            "\"generated\"",
            "what stands in the history as the assistant's message: what was `generated`, or the `reply` of the turn (`fixed`), \
             whatever was generated",
        ),
        key("max_tokens", count(1, MOST_TOKENS), "128", "most tokens to generate in each turn"),
        IGNORE_EOS,
    ],
};

pub const REPLIES: &[&str] = &["generated", "fixed"];

const TURN_KEYS: &[Key] = &[
    required("user", Shape::Text, "what the user says"),
    key(
        "reply",
        Shape::Text,
        "",
        "what the assistant is taken to have said; with `replies = \"fixed\"` every turn but the last needs it, otherwise it is \
         not used",
    ),
];

pub static TURN: Section =
    Section { title: "[[workload.turn]]", meaning: "A turn of the conversation.", one_of: None, keys: TURN_KEYS };

/// What a `turns_file` holds: the same tables at its top level.
pub static TURNS_FILE: Section = Section {
    title: "a file of turns",
    meaning: "The turns of a conversation.",
    one_of: None,
    keys: &[required("turn", Shape::Sections(&FILE_TURN), "the turns, in their order")],
};

static FILE_TURN: Section =
    Section { title: "[[turn]]", meaning: "A turn of the conversation.", one_of: None, keys: TURN_KEYS };

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
        key("gauges", Shape::Choices(GAUGES), "[\"cpu\", \"memory\"]", "groups of gauges"),
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
pub static SECTIONS: &[&Section] =
    &[&SCENARIO, &MODEL, &SYNTHETIC, &ENGINE, &PROMPT, &CONVERSATION, &TURN, &SAMPLING, &RUN, &TOGGLES, &TELEMETRY];

/// Keys that later versions will have, with what they are for. Never taken silently.
pub const LATER: &[(&str, &str)] =
    &[("profile", "the sampling profiler and flamegraphs"), ("gate", "pass and fail criteria")];
