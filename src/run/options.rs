//! What the command line decides about a measurement, besides the scenario.

use super::interrupt::Interrupt;

/// How to run a scenario.
pub struct Options {
    /// Wait for another measuring process instead of refusing to run beside it.
    pub wait: bool,
    /// Go on even where the engine or this program is not what the record began with.
    pub allow_changed: bool,
    pub interrupt: Interrupt,
}
