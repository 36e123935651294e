//! Running: the engine host (child side), its client (parent side), and the driver that works through a plan.

pub mod client;
pub mod lines;
pub mod lock;
