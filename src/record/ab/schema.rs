//! The shapes of a session's own files, version 1.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::record::FinishState;
use crate::spec::{AbSettings, Gate, GitState, Machine, OutputsRule, Side};

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
    /// When it (or its last resumed sitting) ended.
    pub finished_utc: Option<String>,
    pub state: FinishState,
    /// How many times a command worked on this folder: 1, plus one a resume.
    #[serde(rename = "sittings")]
    pub segments: u32,
    /// A, then B.
    pub sides: [SideInfo; 2],
    pub gates: Vec<GateInfo>,
    pub settings: AbSettings,
    pub machine: Machine,
    /// Repository of the working folder, where there is one.
    pub git: Option<GitState>,
    /// How the sides' outputs compared before anything was measured; absent until they were.
    #[serde(default)]
    pub outputs: Option<OutputsFinding>,
    /// Whether it is known which gates are measured here; `gates` are those that are, from then on.
    #[serde(default)]
    pub gates_checked: bool,
    /// What the pilot said that refused the session.
    #[serde(default)]
    pub refused: Option<String>,
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl AbManifest {
    #[must_use]
    pub fn side(&self, side: Side) -> &SideInfo {
        &self.sides[side as usize]
    }
}

/// What one side is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SideInfo {
    /// What messages and reports call it, such as `main (1a2b3c4d)` or `repetition_window_cap=0`.
    pub label: String,
    /// Overrides of the scenario that this side alone has.
    pub settings: Vec<String>,
    /// The commit it was built from, where sides are commits.
    #[serde(default)]
    pub commit: Option<CommitInfo>,
}

/// A commit and the program that was built from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CommitInfo {
    pub hash: String,
    /// As it was named.
    pub revision: String,
    /// First line of its message.
    pub subject: String,
    /// Hosts the engines; program and arguments.
    pub program: Vec<String>,
    pub program_sha256: String,
    /// What the toolchain said of itself.
    pub toolchain: Option<String>,
}

/// A gate with everything filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateInfo {
    #[serde(flatten)]
    pub gate: Gate,
    /// Smallest change that matters: of a ratio as a share, of counts and bytes in their unit.
    pub least: f64,
    /// Where that comes from, in words.
    pub because: String,
    /// Cells it looks at, by id.
    pub cell_ids: Vec<u32>,
}

impl GateInfo {
    /// D of METHOD section 3, in the unit of what is compared.
    #[must_use]
    pub fn bound(&self) -> f64 {
        self.gate.metric.scale().bound(self.least)
    }
}

/// How the sides' outputs compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutputsFinding {
    pub rule: OutputsRule,
    /// Tokens compared, over cells and turns.
    pub tokens: u64,
    /// Where the sides part. Under `identical` and `any` the first of each cell and turn; under `margin` every token at
    /// which B would have gone another way.
    pub divergences: Vec<Divergence>,
    /// The sides differed, and A asked again differed from itself.
    #[serde(default)]
    pub unstable: bool,
    /// The side that failed to generate.
    #[serde(default)]
    pub failed: Option<SideFailure>,
}

/// A side that could not do what was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SideFailure {
    pub side: Side,
    pub cell: u32,
    pub reason: String,
}

/// A token at which the sides part.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Divergence {
    pub cell: u32,
    pub turn: u32,
    /// Position in the generation, from 0.
    pub index: u32,
    /// What A generated; absent where A had ended.
    pub a: Option<u32>,
    /// What B generated or would have; absent where B had ended.
    pub b: Option<u32>,
    /// Between B's two best logits; known under `margin` only.
    pub gap: Option<f32>,
    pub allowed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairKind {
    /// A against A, to see what the machine can tell apart.
    Pilot,
    /// A against B.
    Pair,
}

/// A row of `pairs.csv`: the sides in the order they ran, each with the number of its iteration in its own record.
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
    /// The iterations whose costs are compared: A's and B's, or in a pilot those of a seeming A and B.
    #[must_use]
    pub fn iterations(&self) -> [(Side, u32); 2] {
        let (first, second) = ((self.first, self.first_iteration), (self.second, self.second_iteration));
        if self.first == Side::B { [second, first] } else { [first, second] }
    }
}
