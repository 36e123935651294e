//! Settings of a measurement that come from the command line, not from the scenario.

use super::interrupt::Interrupt;

/// Settings for running a scenario.
pub struct Options {
    /// Wait for another measuring process instead of refusing to start.
    pub wait: bool,
    /// Continue even if the engine or this program differs from the start of the record.
    pub allow_changed: bool,
    pub interrupt: Interrupt,
}
