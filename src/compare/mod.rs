//! Comparisons of what was recorded: pure functions of records.

pub mod align;
pub mod cells;
pub mod difference;
pub mod outputs;
pub mod runs;
