//! The plan: which cells there are, which are one and the same, and in what order they run.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use inferometer_protocol::{Sampling, Settings};

/// One combination of engine, toggles and prompt length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cell {
    /// Position in [`Plan::cells`].
    pub id: u32,
    /// Index into the scenario's engines.
    pub engine: u32,
    /// Short name for tables and charts; says only what differs between cells, such as `cap=768 len=2048`.
    pub label: String,
    /// Exact prompt length in tokens; `None` = the text as it is, or a conversation.
    pub length: Option<u32>,
    /// Toggles of this cell as requested, all of them (`repetition_penalty` from `[sampling]` is not repeated here).
    pub toggles: Settings,
    /// Of these, the ones of load scope.
    pub load: Settings,
    /// Sampling with the cell's toggles applied.
    pub sampling: Sampling,
    /// What should come out as effective, if `max_tokens` are generated; empty when the prompt's
    /// length, or what the engine honours, is known only when it runs.
    pub predicted: Settings,
    /// Other combinations that amount to the same work and are not run again.
    pub merged: Vec<Settings>,
}

/// Everything a run will do, decided before it starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    pub cells: Vec<Cell>,
    /// For each iteration (from 1) the ids of all cells, in the order they run. Under isolation `cell` the driver runs
    /// a cell's iterations together, cells in the order of the first row.
    pub order: Vec<Vec<u32>>,
}

impl Plan {
    /// Measured iterations of the whole plan.
    #[must_use]
    pub fn iterations(&self) -> u64 {
        self.order.iter().map(|row| row.len() as u64).sum()
    }
}
