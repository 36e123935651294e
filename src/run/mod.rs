//! Running things: the driver, the two sides of the engine protocol, what makes an iteration count.

pub mod ab;
pub mod attempt;
pub mod build;
pub mod host;
pub mod conformance;
pub mod driver;
pub mod energy;
pub mod error;
pub mod external;
pub mod pool;
pub mod interrupt;
pub mod lock;
pub mod measure;
pub mod memory;
pub mod outputs;
pub mod profile;
pub mod progress;
pub mod prompts;
pub mod schedule;
pub mod selftest;
pub mod session;
pub mod stretches;
mod turns;
pub mod validity;
pub mod worker;
