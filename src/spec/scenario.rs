//! A parsed scenario: defaults filled in, values checked, files read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use inferometer_protocol::{Chat, EngineSpec, ModelSpec, Sampling, Value};

use super::{AbSettings, BuildSettings, Gate, TrafficSettings};

/// A resolved scenario, independent of its file. Stored whole in `run.json`.
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
    /// A toggle that is the same in every cell has one value; the others are varied.
    pub toggles: Vec<Axis>,
    pub vary: Vary,
    /// By label: toggles of one engine only, which replace the scenario's of the same name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub engine_toggles: BTreeMap<String, Vec<Axis>>,
    pub telemetry: TelemetrySettings,
    /// Decisions of an A/B session; if empty, the three default gates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// Parameters of an A/B session.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ab: AbSettings,
    /// How to build commits; `None`: this project's own build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<BuildSettings>,
    /// The profiling pass after the timed iterations, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<ProfileSettings>,
    /// The text that is scored after the timed iterations, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<QualitySettings>,
    /// Many requests an iteration instead of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<TrafficSettings>,
    /// The scenario states no `workload.max_tokens`: it is the default, or what an A/B session
    /// chose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default_length: bool,
    /// `--set` overrides as given, in order.
    #[serde(default)]
    pub overrides: Vec<String>,
}

impl Scenario {
    /// The toggles of an engine: the scenario's, with its own in their place or behind them.
    #[must_use]
    pub fn toggles_of(&self, engine: &EngineSpec) -> Vec<Axis> {
        let own = self.own_toggles(engine);
        let instead = |axis: &Axis| own.iter().find(|own| own.toggle == axis.toggle).unwrap_or(axis).clone();
        let mut axes: Vec<Axis> = self.toggles.iter().map(instead).collect();
        axes.extend(own.iter().filter(|own| self.toggles.iter().all(|axis| axis.toggle != own.toggle)).cloned());
        axes
    }

    /// The toggles that only this engine has.
    #[must_use]
    pub fn own_toggles(&self, engine: &EngineSpec) -> &[Axis] {
        self.engine_toggles.get(&engine.label).map_or(&[], Vec::as_slice)
    }

    /// The toggles of all engines: each with every value that some engine takes, in the order of
    /// the file.
    #[must_use]
    pub fn all_toggles(&self) -> Vec<Axis> {
        let mut all: Vec<Axis> = Vec::new();
        for axis in self.engines.iter().flat_map(|engine| self.toggles_of(engine)) {
            match all.iter_mut().find(|known| known.toggle == axis.toggle) {
                None => all.push(axis),
                Some(known) => {
                    let new: Vec<Value> =
                        axis.values.into_iter().filter(|value| !known.values.contains(value)).collect();
                    known.values.extend(new);
                }
            }
        }
        all
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A toggle with its values, in the scenario's order.
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
    /// Each cell differs from the first values in at most one toggle.
    OneAtATime,
}

/// The workload, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Workload {
    Prompt(PromptWorkload),
    Conversation(ConversationWorkload),
}

impl Workload {
    /// Measured requests per iteration: one, or one per turn.
    #[must_use]
    pub fn turns(&self) -> usize {
        match self {
            Workload::Prompt(_) => 1,
            Workload::Conversation(work) => work.turns.len(),
        }
    }

    /// Turns that a warm-up runs, with few tokens each: for a conversation the first and the last,
    /// so that the whole history is run once, then resumed from an earlier turn.
    #[must_use]
    pub fn warmup_turns(&self) -> Vec<usize> {
        match self.turns() {
            0 | 1 => vec![0],
            turns => vec![0, turns - 1],
        }
    }

    /// Requested exact prompt lengths; empty for an unchanged text and for a conversation.
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

    /// Whether generation continues past end-of-sequence tokens.
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
    /// File of the text, as the scenario names it.
    pub text_file: Option<String>,
    /// Exact token counts: the text's ids are cut or repeated. Empty: the unchanged text, tokenized
    /// by the engine.
    pub lengths: Vec<u32>,
    /// Render the text as one user message with the model's chat template. Not together with
    /// `lengths`.
    pub chat: bool,
    /// A whole chat instead of the text; then `text` is empty, and `text_file` the chat's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Chat>,
    pub max_tokens: u32,
    pub ignore_eos: bool,
}

/// A conversation: each turn is a request whose prompt contains all earlier messages, rendered with
/// the model's chat template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConversationWorkload {
    /// The system message (content of `system_file`, or `system`).
    pub system: Option<String>,
    /// File of the system message, as the scenario names it.
    pub system_file: Option<String>,
    /// At least one.
    pub turns: Vec<Turn>,
    /// File of the turns, as the scenario names it.
    pub turns_file: Option<String>,
    /// Functions that the model may call, as JSON Schemas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<serde_json::Value>>,
    /// Further variables of the chat template.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub template_arguments: serde_json::Map<String, serde_json::Value>,
    pub replies: Replies,
    /// Most tokens to generate in each turn.
    pub max_tokens: u32,
    pub ignore_eos: bool,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Turn {
    pub user: String,
    /// The assistant's message, if replies are fixed; then every turn except the last has one.
    pub reply: Option<String>,
}

/// The assistant's messages in the history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Replies {
    /// What the engine generated.
    #[default]
    Generated,
    /// The scenario's own text, whatever was generated: every side does the same work.
    Fixed,
}

/// Lifetime of a host process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// One host for each engine and load-time settings, for the whole run.
    #[default]
    Run,
    /// A fresh host for each cell, whose iterations run consecutively.
    Cell,
    /// A fresh host for each iteration.
    Iteration,
    /// A fresh host for each cell, in which the model is unloaded after each iteration and loaded
    /// again before the next.
    Load,
}

impl Isolation {
    /// Whether all iterations of a cell run before the next cell.
    #[must_use]
    pub fn by_cell(self) -> bool {
        matches!(self, Isolation::Cell | Isolation::Load)
    }

    /// Whether the model is loaded for each iteration, so that each needs its own warm-up.
    #[must_use]
    pub fn loads_each(self) -> bool {
        matches!(self, Isolation::Iteration | Isolation::Load)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunSettings {
    /// Measured iterations of each cell, at least 1.
    pub iterations: u32,
    /// Unmeasured iterations of each cell in each fresh host before the measured ones.
    pub warmup: u32,
    pub isolation: Isolation,
    /// Longest wait for a single answer of a host, in seconds.
    pub timeout_s: f64,
    /// Pause before each iteration, in seconds.
    pub cooldown_s: f64,
    /// Seed for the order of the cells.
    pub order_seed: u64,
    /// Effective settings that may differ from what was requested.
    pub allow_mismatch: Vec<String>,
    /// How to treat throttling, swapping, stolen time, foreign load and a changed power source.
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

/// How to treat an iteration that something outside the engine may have disturbed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExternalCauses {
    /// It is invalid, with the cause as its reason.
    #[default]
    Invalidate,
    /// It remains valid, and the run has a warning.
    Warn,
}

/// The profiling pass, which runs after the timed iterations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProfileSettings {
    /// Sample stacks with a profiler.
    pub flamegraph: bool,
    /// Time single operations, and count allocations if the host supports it.
    pub spans: bool,
    /// Profiled iterations of each cell; comparing two profiles needs several to estimate the
    /// uncertainty.
    pub iterations: u32,
    /// Samples per second.
    pub frequency_hz: u32,
    pub profiler: ProfilerChoice,
    pub threads: Threads,
    /// How operations are timed on a lazy backend.
    pub sync: SpanSync,
}

/// The quality pass, which runs after the timed iterations: how likely a fixed text is to the model
/// under each cell's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QualitySettings {
    /// Content of `text_file`, or `text`.
    pub text: String,
    /// File of the text, as the scenario names it.
    pub text_file: Option<String>,
    /// Tokens at the start of the text that are sent as the prompt and not scored, at least 1.
    pub context: u32,
    /// Tokens after them that are scored, at least 2.
    pub tokens: u32,
}

/// The profiler to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProfilerChoice {
    /// The host's own if it has one (not on macOS, where it could end the host), else an installed
    /// one that suits the engine's process.
    #[default]
    Auto,
    Pprof,
    Perf,
    Sample,
    PySpy,
}

/// Whether equal stacks of different threads are combined.
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
    /// Without synchronization: a span contains the time to submit the operation.
    #[default]
    Submit,
    /// Each operation finishes within its span, which prevents overlap.
    ForcedSync,
}
