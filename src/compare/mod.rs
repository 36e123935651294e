//! Comparisons of records, as pure functions.

pub mod ab;
pub mod align;
pub mod cells;
pub mod cost;
pub mod difference;
pub mod engines;
pub mod history;
pub mod many;
pub mod outputs;
pub mod profile;
pub mod quality;
pub mod runs;
