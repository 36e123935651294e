//! A/B sessions: two sides, turn by turn, until a verdict.
//!
//! The order of things: both sides generate once and their outputs are compared; null pairs of A show what the machine can
//! tell apart; then pairs, in balanced order, with a look at the gates after 10, 20 and 30 of them. Each pair is on the disk
//! before the next begins. A profiled pass follows where the scenario asks for one, which decides nothing.

pub mod gates;
pub mod order;
mod outputs;
mod profile;
mod session;
mod start;

pub use start::{Outcome, Setup, hold, resume, run, run_held};
