//! The plan: the cells, the combinations merged into each, and their order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Level;
use inferometer_protocol::{Sampling, Settings};

/// One combination of engine, toggles and prompt length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// Position in [`Plan::cells`].
    pub id: u32,
    /// Index into the scenario's engines.
    pub engine: u32,
    /// Short name for tables and charts; contains only what differs between cells, such as `cap=768
    /// len=2048`.
    pub label: String,
    /// Exact prompt length in tokens; `None` for an unchanged text or a conversation.
    pub length: Option<u32>,
    /// All toggles of this cell as requested (`repetition_penalty` from `[sampling]` is not
    /// repeated here).
    pub toggles: Settings,
    /// Of these, the load-scope toggles.
    pub load: Settings,
    /// Sampling with the cell's toggles applied.
    pub sampling: Sampling,
    /// Predicted effective settings if `max_tokens` are generated; empty if the prompt's length, or
    /// which toggles the engine honours, is known only at run time.
    pub predicted: Settings,
    /// How many requests come, and when; `None`: one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Other combinations that do the same work and are not run again.
    pub merged: Vec<Settings>,
}

/// Everything that a run will do, decided before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    pub cells: Vec<Cell>,
    /// For each iteration (from 1) the ids of all cells in running order. Under isolation `cell`
    /// the driver runs a cell's iterations together, with the cells in the order of the first row.
    pub order: Vec<Vec<u32>>,
}

impl Plan {
    /// Number of measured iterations in the plan.
    #[must_use]
    pub fn iterations(&self) -> u64 {
        self.order.iter().map(|row| row.len() as u64).sum()
    }
}
