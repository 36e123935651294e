//! Comparisons of what was recorded: pure functions of records.

pub mod ab;
pub mod align;
pub mod baseline;
pub mod cells;
pub mod cost;
pub mod difference;
pub mod history;
pub mod outputs;
pub mod profile;
pub mod runs;
