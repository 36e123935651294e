//! A/B sessions: two sides, run alternately, until a verdict.
//!
//! Order: both sides generate once and their outputs are compared; A/A pairs measure the machine's
//! noise; then pairs run in balanced order, with a look at the gates after 10, 20 and 30 pairs.
//! Each pair is on disk before the next starts. A profiled pass follows if the scenario requests
//! one; it does not affect the verdict.

pub mod able;
pub mod gates;
mod length;
pub mod order;
mod outputs;
mod profile;
mod quality;
mod session;
mod short;
mod start;

pub use start::{Outcome, Setup, before_builds, resume, run};
