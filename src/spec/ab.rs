//! Gates and parameters of an A/B session.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use inferometer_protocol::Settings;

use super::Cell;

/// A decision of a session: is side B slower (or does it take more memory) by `delta` or more?
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    pub metric: GateMetric,
    pub cells: CellSelector,
    /// Smallest change that matters, above 0: for a ratio as a share (0.03 is 3 %), else in the
    /// metric's unit ([`Scale`]). `None`: the default.
    pub delta: Option<f64>,
}

/// Who asked for a gate. What cannot be gated on an engine or machine is an error if the user asked
/// for it, and left out with a reason if nobody did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateOrigin {
    /// The user: it stands in the scenario.
    #[default]
    Scenario,
    /// Nobody: the scenario has no gates.
    Default,
}

/// The metric that a gate compares. Its cost is a time or bytes: less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GateMetric {
    /// Time per generated token after the first, the inverse of `decode_tps`.
    DecodeTps,
    /// Time per computed prompt token, the inverse of `prefill_tps`.
    PrefillTps,
    /// From request accepted to first token readable.
    Ttft,
    /// From request accepted to last token.
    E2e,
    /// 95th percentile of the time between tokens.
    ItlP95,
    /// CPU time of the host process per request.
    Cpu,
    /// Peak memory of the iteration: the kernel's high-water mark, else the highest sample.
    PeakMemory,
    /// From opening the model to the first possible request.
    Load,
    /// How often memory rose and fell within an iteration.
    MemoryCycles,
    /// The largest of these cycles.
    MemorySwing,
    /// Sum of the falls of memory within an iteration.
    MemoryReclaimed,
}

/// How two values of a metric are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// ln(B / A).
    Ratio,
    /// B - A of a count, which may be 0 and then has no ratio.
    Count,
    /// B - A in bytes that may be 0.
    Bytes,
}

impl Scale {
    /// The bound for a smallest change: D of docs/explanation/method.md#looks.
    #[must_use]
    pub fn bound(self, least: f64) -> f64 {
        if self == Self::Ratio { least.ln_1p() } else { least }
    }

    /// The smallest change with this bound: the inverse of [`Scale::bound`].
    #[must_use]
    pub fn least(self, bound: f64) -> f64 {
        if self == Self::Ratio { bound.exp_m1() } else { bound }
    }

    /// Whether `least` is valid as the smallest change that matters.
    #[must_use]
    pub fn allows(self, least: f64) -> bool {
        least > 0.0 && if self == Self::Ratio { least < 1.0 } else { least.is_finite() }
    }
}

impl GateMetric {
    pub const ALL: [Self; 11] = [
        Self::DecodeTps,
        Self::PrefillTps,
        Self::Ttft,
        Self::E2e,
        Self::ItlP95,
        Self::Cpu,
        Self::PeakMemory,
        Self::Load,
        Self::MemoryCycles,
        Self::MemorySwing,
        Self::MemoryReclaimed,
    ];

    /// Name in scenarios.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DecodeTps => "decode_tps",
            Self::PrefillTps => "prefill_tps",
            Self::Ttft => "ttft",
            Self::E2e => "e2e",
            Self::ItlP95 => "itl_p95",
            Self::Cpu => "cpu",
            Self::PeakMemory => "peak_memory",
            Self::Load => "load",
            Self::MemoryCycles => "memory_cycles",
            Self::MemorySwing => "memory_swing",
            Self::MemoryReclaimed => "memory_reclaimed",
        }
    }

    /// Its scale.
    #[must_use]
    pub const fn scale(self) -> Scale {
        match self {
            Self::MemoryCycles => Scale::Count,
            Self::MemorySwing | Self::MemoryReclaimed => Scale::Bytes,
            _ => Scale::Ratio,
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// Name for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::DecodeTps => "decode",
            Self::PrefillTps => "prefill",
            Self::Ttft => "time to first token",
            Self::E2e => "end to end",
            Self::ItlP95 => "time between tokens, p95",
            Self::Cpu => "CPU time",
            Self::PeakMemory => "peak memory",
            Self::Load => "load",
            Self::MemoryCycles => "memory cycles",
            Self::MemorySwing => "memory swing",
            Self::MemoryReclaimed => "memory reclaimed",
        }
    }

    /// The word for a worse value: `slower`, or `more` for counts.
    #[must_use]
    pub fn worse(self) -> &'static str {
        if self.is_amount() { "more" } else { "slower" }
    }

    /// Whether it depends on when single tokens became readable, which must be verified.
    #[must_use]
    pub fn is_token_time(self) -> bool {
        !self.is_amount() && !matches!(self, Self::Load | Self::E2e)
    }

    /// The opposite of [`GateMetric::worse`].
    #[must_use]
    pub fn better(self) -> &'static str {
        if self.is_amount() { "less" } else { "faster" }
    }

    fn is_amount(self) -> bool {
        matches!(self, Self::PeakMemory | Self::Cpu) || self.scale() != Scale::Ratio
    }
}

/// The cells that a gate compares. All conditions must hold; none means all cells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CellSelector {
    /// Prompt length in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u32>,
    /// Label of the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Toggles as requested.
    #[serde(skip_serializing_if = "Settings::is_empty")]
    pub toggles: Settings,
}

impl CellSelector {
    /// Whether it selects every cell.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it selects `cell`, whose engine has this label. A cell stands for every combination
    /// merged into it.
    #[must_use]
    pub fn matches(&self, cell: &Cell, engine_label: &str) -> bool {
        let asked = |settings: &Settings| self.toggles.iter().all(|(name, value)| settings.get(name) == Some(value));
        self.length.is_none_or(|length| cell.length == Some(length))
            && self.engine.as_deref().is_none_or(|label| label == engine_label)
            && std::iter::once(&cell.toggles).chain(&cell.merged).any(asked)
    }
}

impl std::fmt::Display for CellSelector {
    /// `all cells`, or `length=8192 repetition_window_cap=0`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_all() {
            return f.write_str("all cells");
        }
        let length = self.length.map(|length| format!("length={length}"));
        let engine = self.engine.as_ref().map(|engine| format!("engine={engine}"));
        let toggles = self.toggles.iter().map(|(name, value)| format!("{name}={value}"));
        f.write_str(&length.into_iter().chain(engine).chain(toggles).collect::<Vec<_>>().join(" "))
    }
}

/// How far the two sides' outputs must agree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputsRule {
    /// The same tokens.
    #[default]
    Identical,
    /// Side A's tokens are forced through B; B may prefer another token only if its two best logits
    /// are closer than `logits`.
    Margin { logits: f64 },
    /// No requirement. Speed is then measured on different tokens.
    Any,
}

impl OutputsRule {
    /// Name in scenarios.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Margin { .. } => "margin",
            Self::Any => "any",
        }
    }
}

/// The scenario's `[ab]`: parameters of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct AbSettings {
    pub outputs: OutputsRule,
    /// A/A pairs before the first pair, at least [`AbSettings::LEAST_PILOT`]; 0 = no
    /// pilot.
    pub pilot: u32,
    /// Keep one resident host per side instead of starting a fresh host for each run.
    pub resident: bool,
    /// Seed for the order of the sides within each pair.
    pub seed: u64,
    /// The session tests Inferometer itself: gates accept simulated engines.
    pub self_test: bool,
}

impl AbSettings {
    /// Fewer A/A pairs do not show their spread.
    pub const LEAST_PILOT: u32 = 5;
    /// More A/A pairs would cost as much as a session.
    pub const MOST_PILOT: u32 = 30;

    /// Whether this is a valid number of A/A pairs.
    #[must_use]
    pub fn is_pilot(pairs: u32) -> bool {
        pairs == 0 || (Self::LEAST_PILOT..=Self::MOST_PILOT).contains(&pairs)
    }
}

impl Default for AbSettings {
    fn default() -> Self {
        Self { outputs: OutputsRule::Identical, pilot: 6, resident: false, seed: 0, self_test: false }
    }
}

/// One of the two compared sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The baseline.
    A,
    /// The side that is judged against it.
    B,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }

    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}
