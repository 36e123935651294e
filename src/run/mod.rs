//! Running things: the driver, the two sides of the engine protocol, what makes an iteration count.

pub mod client;
pub mod conformance;
pub mod host;
pub mod lines;
pub mod lock;
pub mod measure;
pub mod schedule;
pub mod validity;
