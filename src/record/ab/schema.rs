//! The shapes of `ab.json` and `pairs.csv`, version 1.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::{FinishState, Redacted};
use crate::spec::{AbSettings, Gate, GateOrigin, GitState, Machine, OutputsRule, Side};

/// Major version of `ab.json` and `pairs.csv`; a reader refuses a newer one.
pub const SCHEMA_VERSION: u32 = 1;

/// `ab.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AbManifest {
    pub schema_version: u32,
    /// Name of the session's folder.
    pub session: String,
    pub inferometer_version: String,
    /// Name of the scenario.
    pub scenario: String,
    /// RFC 3339; when the session began.
    pub origin_utc: String,
    /// When it (or its last run segment) ended.
    pub finished_utc: Option<String>,
    pub state: FinishState,
    /// Number of run segments: 1, plus one per resume.
    #[serde(rename = "sittings")]
    pub segments: u32,
    /// A, then B.
    pub sides: [SideInfo; 2],
    pub gates: Vec<GateInfo>,
    pub settings: AbSettings,
    pub machine: Machine,
    /// Repository of the working directory, if there is one.
    pub git: Option<GitState>,
    /// How the sides' outputs compared before the measurement; absent before that comparison.
    #[serde(default)]
    pub outputs: Option<OutputsFinding>,
    /// The number of tokens that the session chose for its requests; absent if the scenario states
    /// it, or the default was enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<ChosenLength>,
    /// Whether it is known which gates can be measured on this machine; from then on `gates` holds
    /// only these.
    #[serde(default)]
    pub gates_checked: bool,
    /// Why the pilot refused the session.
    #[serde(default)]
    pub refused: Option<String>,
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What was removed from the record so that it can be shared; absent from an original record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redacted: Option<Redacted>,
}

impl AbManifest {
    #[must_use]
    pub fn side(&self, side: Side) -> &SideInfo {
        &self.sides[side as usize]
    }
}

/// One side of the session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SideInfo {
    /// Name in messages and reports, such as `main (1a2b3c4d)` or `repetition_window_cap=0`.
    pub label: String,
    /// Overrides of the scenario on this side only.
    pub settings: Vec<String>,
    /// The commit that the side was built from, if sides are commits.
    #[serde(default)]
    pub commit: Option<CommitInfo>,
}

/// A commit and the program that was built from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommitInfo {
    pub hash: String,
    /// The revision as the user gave it.
    pub revision: String,
    /// First line of the commit message.
    pub subject: String,
    /// Command line of the engine host: program and arguments.
    pub program: Vec<String>,
    pub program_sha256: String,
    /// Version that the toolchain reported.
    pub toolchain: Option<String>,
}

/// A gate with all defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateInfo {
    #[serde(flatten)]
    pub gate: Gate,
    /// Who asked for it; records from before this field do not tell.
    #[serde(default)]
    pub origin: GateOrigin,
    /// Smallest change that matters (delta): for ratios as a share, for counts and bytes in their
    /// unit.
    pub least: f64,
    /// The origin of `least`, as a sentence.
    pub because: String,
    /// Ids of the gate's cells.
    pub cell_ids: Vec<u32>,
}

impl GateInfo {
    /// D of docs/explanation/method.md#looks, in the unit of the compared values.
    #[must_use]
    pub fn bound(&self) -> f64 {
        self.gate.metric.scale().bound(self.least)
    }
}

/// How long the requests of a session are where the scenario does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChosenLength {
    /// The default of `workload.max_tokens`.
    pub usual: u32,
    /// What both sides used instead; `run.json` of each has it too.
    pub chosen: u32,
    /// Why, as a clause.
    pub because: String,
}

/// How the sides' outputs compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutputsFinding {
    pub rule: OutputsRule,
    /// Tokens compared, over cells and turns.
    pub tokens: u64,
    /// Tokens at which the sides differ. Under `identical` and `any` the first of each cell and
    /// turn; under `margin` every token at which B would have chosen another.
    pub divergences: Vec<Divergence>,
    /// The sides differed, and A differed from itself when asked again.
    #[serde(default)]
    pub unstable: bool,
    /// The side that failed to generate.
    #[serde(default)]
    pub failed: Option<SideFailure>,
}

/// A side that failed to generate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SideFailure {
    pub side: Side,
    pub cell: u32,
    pub reason: String,
}

/// A token at which the sides differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Divergence {
    pub cell: u32,
    pub turn: u32,
    /// Position in the generation, from 0.
    pub index: u32,
    /// A's token; absent if A had ended.
    pub a: Option<u32>,
    /// B's token, or the one it would have chosen; absent if B had ended.
    pub b: Option<u32>,
    /// Gap between B's two best logits; only under `margin`.
    pub gap: Option<f32>,
    pub allowed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairKind {
    /// A against A, to measure the machine's noise.
    Pilot,
    /// A against B.
    Pair,
}

/// A row of `pairs.csv`: the sides in execution order, each with the number of its iteration in its
/// record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairRow {
    /// From 1, over both kinds.
    pub pair: u32,
    pub kind: PairKind,
    pub first: Side,
    pub first_iteration: u32,
    pub second: Side,
    pub second_iteration: u32,
}

impl PairRow {
    /// The compared iterations: A's and B's, or for an A/A pair the two of A.
    #[must_use]
    pub fn iterations(&self) -> [(Side, u32); 2] {
        let (first, second) = ((self.first, self.first_iteration), (self.second, self.second_iteration));
        if self.first == Side::B { [second, first] } else { [first, second] }
    }
}
