//! The statistics of the method page, as pure functions of numbers.

pub mod change;
#[cfg(test)]
mod fixtures;
pub mod growth;
pub mod mean_change;
pub mod multiple;
pub mod oscillation;
pub mod rank;
mod rng;
pub mod robust;
pub mod sequential;
pub mod slope;
mod special;
pub mod two_sample;
