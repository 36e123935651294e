//! A scenario after parsing: every default filled in, every value checked, every file read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use inferometer_protocol::{EngineSpec, ModelSpec, Sampling, Value};

use super::{AbSettings, BuildSettings, Gate};

/// A resolved scenario: stands alone, without the file it came from. Stored whole in `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scenario {
    pub name: String,
    pub description: Option<String>,
    pub model: ModelSpec,
    /// At least one; labels are unique.
    pub engines: Vec<EngineSpec>,
    pub workload: Workload,
    pub sampling: Sampling,
    pub run: RunSettings,
    /// Toggles that hold in every cell have one value; the others are varied.
    pub toggles: Vec<Axis>,
    pub vary: Vary,
    pub telemetry: TelemetrySettings,
    /// What an A/B session decides; without any the usual three.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// How an A/B session goes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ab: AbSettings,
    /// How the programs of commits are built; without it this project's own way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildSettings>,
    /// The profiled pass after the timed ones; without it there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileSettings>,
    /// `--set` overrides as given, in order.
    #[serde(default)]
    pub overrides: Vec<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A toggle with the values it takes, in the scenario's order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Axis {
    pub toggle: String,
    pub values: Vec<Value>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Vary {
    /// Every combination is a cell.
    #[default]
    All,
    /// The first value of every toggle is the centre; each cell differs from it in at most one toggle.
    OneAtATime,
}

/// One kind a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Workload {
    Prompt(PromptWorkload),
    Conversation(ConversationWorkload),
}

impl Workload {
    /// Measured requests in one iteration: one, or one a turn.
    #[must_use]
    pub fn turns(&self) -> usize {
        match self {
            Workload::Prompt(_) => 1,
            Workload::Conversation(work) => work.turns.len(),
        }
    }

    /// Turns that a warm-up runs, with few tokens each: of a conversation the first and the last, so that the whole history is
    /// run once, and taken up again from an earlier turn.
    #[must_use]
    pub fn warmup_turns(&self) -> Vec<usize> {
        match self.turns() {
            0 | 1 => vec![0],
            turns => vec![0, turns - 1],
        }
    }

    /// Exact prompt lengths asked for; none where the text is taken as it is, and in a conversation.
    #[must_use]
    pub fn lengths(&self) -> &[u32] {
        match self {
            Workload::Prompt(work) => &work.lengths,
            Workload::Conversation(_) => &[],
        }
    }

    /// Most tokens that a request generates.
    #[must_use]
    pub fn max_tokens(&self) -> u32 {
        match self {
            Workload::Prompt(work) => work.max_tokens,
            Workload::Conversation(work) => work.max_tokens,
        }
    }

    /// Whether generation goes on past end-of-sequence tokens.
    #[must_use]
    pub fn ignore_eos(&self) -> bool {
        match self {
            Workload::Prompt(work) => work.ignore_eos,
            Workload::Conversation(work) => work.ignore_eos,
        }
    }
}

/// One prompt, at one or several exact lengths.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PromptWorkload {
    /// The prompt's text (content of `text_file`, or `text`).
    pub text: String,
    /// Where the text came from, as the scenario names it.
    pub text_file: Option<String>,
    /// Exact token counts: the text's ids are cut or repeated. Empty: the text as it is, tokenized by the engine.
    pub lengths: Vec<u32>,
    /// Render the text as one user message with the model's chat template. Not together with `lengths`.
    pub chat: bool,
    pub max_tokens: u32,
    pub ignore_eos: bool,
}

/// Messages back and forth: each turn is a request whose prompt is everything said so far, rendered by the model's chat
/// template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConversationWorkload {
    /// The system message (content of `system_file`, or `system`).
    pub system: Option<String>,
    /// Where the system message came from, as the scenario names it.
    pub system_file: Option<String>,
    /// At least one.
    pub turns: Vec<Turn>,
    /// Where the turns came from, as the scenario names it.
    pub turns_file: Option<String>,
    pub replies: Replies,
    /// Most tokens to generate in each turn.
    pub max_tokens: u32,
    pub ignore_eos: bool,
}

/// What is said in one turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Turn {
    pub user: String,
    /// What the assistant is taken to have said, where replies are fixed. All but the last turn have one then.
    pub reply: Option<String>,
}

/// What stands in the history as the assistant's message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Replies {
    /// What the engine generated.
    #[default]
    Generated,
    /// The scenario's own text, whatever was generated: every side does the same work.
    Fixed,
}

/// How long a host process lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// One host for each engine and load-time settings, for the whole run.
    #[default]
    Run,
    /// A fresh host for each cell; a cell's iterations follow one another.
    Cell,
    /// A fresh host for each iteration.
    Iteration,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSettings {
    /// Measured iterations of each cell, at least 1.
    pub iterations: u32,
    /// Unmeasured runs of each cell in each fresh host before it is measured.
    pub warmup: u32,
    pub isolation: Isolation,
    /// Longest wait for any single answer of a host, in seconds.
    pub timeout_s: f64,
    /// Pause before each iteration, in seconds.
    pub cooldown_s: f64,
    /// Seed of the order in which cells take turns.
    pub order_seed: u64,
    /// Effective settings that may differ from what was requested.
    pub allow_mismatch: Vec<String>,
    /// What is done about throttling, swapping, stolen time, foreign load and a changed power source.
    #[serde(default)]
    pub external_causes: ExternalCauses,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TelemetrySettings {
    /// Time between samples; 0 = no telemetry.
    pub interval_ms: u32,
    /// Gauge groups: `cpu`, `memory`, `gpu`, `power`.
    pub gauges: Vec<String>,
}

/// What is done about an iteration that something outside the engine may have disturbed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExternalCauses {
    /// It is invalid, with the cause as its reason.
    #[default]
    Invalidate,
    /// It counts, and the run carries a warning.
    Warn,
}

/// The profiled pass: runs after the timed iterations, never among them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileSettings {
    /// Take stacks with a sampling profiler.
    pub flamegraph: bool,
    /// Time single operations, and count allocations where the host can.
    pub spans: bool,
    /// Profiled iterations of each cell; differences between two profiles need several for their uncertainty.
    pub iterations: u32,
    /// Samples a second of the profiler.
    pub frequency_hz: u32,
    pub profiler: ProfilerChoice,
    pub threads: Threads,
    /// How operations are timed on a lazy backend.
    pub sync: SpanSync,
}

/// Which profiler takes the stacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProfilerChoice {
    /// The host's own where it has one, else what fits the engine's process and is installed.
    #[default]
    Auto,
    Pprof,
    Perf,
    Sample,
    PySpy,
}

/// Whether the same stack in two threads is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Threads {
    #[default]
    Merged,
    Apart,
}

/// How spans of single operations are timed on a lazy backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpanSync {
    /// As the engine works: a span holds what it takes to submit the operation.
    #[default]
    Submit,
    /// Each operation is finished within its span, at the price of the overlap.
    ForcedSync,
}
