//! The receipt: what an engine is, and the settings it uses.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ModelIdentity, Settings};

/// Whether each token has its own time stamp.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenTiming {
    /// Every token is stamped when it becomes readable.
    Exact,
    /// Several tokens may share a stamp. Never ranked against exact timing.
    #[default]
    Inexact,
}

/// Capabilities of an engine. A capability that is not listed is not offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Capabilities {
    /// Prompts as token ids.
    pub tokens: bool,
    /// Prompts as text.
    pub text: bool,
    /// Prompts as chat messages.
    pub messages: bool,
    /// With `messages`: messages with more than a role and a text, `tools` and
    /// `template_arguments`, all of which reach the chat template.
    pub tools: bool,
    pub forced_tokens: bool,
    /// `cancel` takes effect during a generation.
    pub cancel: bool,
    /// `reset` drops the KV cache.
    pub reset: bool,
    pub clear_cache: bool,
    pub memory: bool,
    pub profile: bool,
    /// `generate` can report what would have been chosen, and by what margin.
    pub choices: bool,
    /// `generate` can report how likely the model found each token, and the most likely tokens.
    pub logprobs: bool,
    /// `generate` can send each token as soon as it is readable. Without it, token times are claims
    /// that nobody verified.
    pub stream: bool,
    /// `unload` frees the model, and `open` may follow.
    pub unload: bool,
    /// `fit` gives a text an exact number of tokens.
    pub fit: bool,
    /// Most generations with `concurrent` that may run at the same time; 0: none.
    pub concurrent: u32,
}

/// The process that does an engine's work, where that is not the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorksIn {
    /// A process of this machine, such as a server: its memory and CPU time are measured.
    Pid(u32),
    /// Another machine, or an unknown process: memory and CPU time are not measured.
    Elsewhere,
}

/// The engine's answer to `open`: identity, capabilities and the load-time settings in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    pub engine: String,
    pub version: String,
    #[serde(default)]
    pub commit: Option<String>,
    /// Tensor library with its version, such as `candle 0.11.1`.
    #[serde(default)]
    pub backend: Option<String>,
    /// Device, such as `cpu` or `metal: Apple M2 Max`.
    #[serde(default)]
    pub device: Option<String>,
    #[serde(default)]
    pub model: ModelIdentity,
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Names of the honoured toggles.
    #[serde(default)]
    pub toggles: Vec<String>,
    /// Names of the fields of `sampling` that the engine obeys. A request whose sampling needs
    /// another one is never sent. A toggle of the same name counts too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sampling: Vec<String>,
    /// Toggles and sampling fields that are not honoured, with the reason. What is in no list is
    /// not honoured either.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub not_honoured: BTreeMap<String, String>,
    #[serde(default)]
    pub token_timing: TokenTiming,
    /// Absent: the host does the work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub works_in: Option<WorksIn>,
    /// Whether equal requests give equal tokens (at temperature 0, or with an equal seed).
    #[serde(default)]
    pub deterministic: bool,
    /// What the engine's times include besides the model: `tokenization`, `sampling`,
    /// `detokenization`, `transport`.
    #[serde(default)]
    pub includes: Vec<String>,
    /// Effective load-time settings: `threads`, `dtype`, `kv_cache`, ...
    #[serde(default)]
    pub settings: Settings,
    /// Further facts: CPU features, build type, library versions.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
}

impl Receipt {
    /// Names of everything that a request may set and the engine declares: toggles and sampling
    /// fields.
    pub fn honoured(&self) -> impl Iterator<Item = &str> {
        self.toggles.iter().chain(&self.sampling).map(String::as_str)
    }

    /// Whether the engine declares this sampling field.
    #[must_use]
    pub fn samples_with(&self, field: &str) -> bool {
        self.honoured().any(|name| name == field)
    }
}
