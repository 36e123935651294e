//! Whether this machine can measure what a gate compares, known before anything runs.

use crate::run::error::RunError;
use crate::spec::{GateMetric, Scenario};
use crate::telemetry;

/// What is measured here, each with the reason if it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Able {
    peak: Result<(), String>,
    cpu: Result<(), String>,
    swings: Result<(), String>,
}

impl Able {
    /// On this machine, with the scenario's telemetry.
    #[must_use]
    pub fn here(scenario: &Scenario) -> Self {
        let own = std::process::id();
        let peak = match (telemetry::peak::reset(own), telemetry::peak::current(own)) {
            (Err(why), None) => Err(format!("{why}, and the memory of a process cannot be read")),
            _ => Ok(()),
        };
        let cpu =
            telemetry::cpu_time(own).map(|_| ()).ok_or_else(|| "the CPU time of a process cannot be read".to_owned());
        let groups = &scenario.telemetry.gauges;
        let swings = match scenario.telemetry.interval_ms {
            0 => Err("telemetry is off (`telemetry.interval_ms = 0`)".to_owned()),
            _ if !groups.iter().any(|group| group == "memory") => {
                Err("the group `memory` is not in `telemetry.gauges`".to_owned())
            }
            _ => Ok(()),
        };
        Self { peak, cpu, swings }
    }

    /// Why a gate's metric cannot be measured; `None` if nothing is known against it.
    #[must_use]
    pub fn why_not(&self, metric: GateMetric) -> Option<&str> {
        let able = match metric {
            GateMetric::PeakMemory => &self.peak,
            GateMetric::Cpu => &self.cpu,
            GateMetric::MemoryCycles | GateMetric::MemorySwing | GateMetric::MemoryReclaimed => &self.swings,
            _ => return None,
        };
        able.as_ref().err().map(String::as_str)
    }

    /// # Errors
    /// When a gate that the scenario states cannot be measured.
    fn allow(&self, scenario: &Scenario) -> Result<(), RunError> {
        let mut stated = scenario.gates.iter().map(|gate| gate.metric);
        let found = stated.find_map(|metric| Some((metric.name(), self.why_not(metric)?)));
        match found {
            Some((name, why)) => Err(RunError::Ab(format!(
                "the gate on `{name}` cannot be measured here: {why}. Remove this [[gate]] or use another metric"
            ))),
            None => Ok(()),
        }
    }
}

/// Refuses gates of the scenario that cannot be measured on this machine. A default gate is left
/// out instead, with the reason, once the session knows what its engine reports.
///
/// # Errors
/// When there is such a gate.
pub fn check(scenario: &Scenario) -> Result<(), RunError> {
    Able::here(scenario).allow(scenario)
}

#[cfg(test)]
impl Able {
    pub fn all() -> Self {
        Self { peak: Ok(()), cpu: Ok(()), swings: Ok(()) }
    }

    pub fn without_peak(why: &str) -> Self {
        Self { peak: Err(why.to_owned()), ..Self::all() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_measured_has_a_reason() {
        let able = Able { swings: Err("off".to_owned()), ..Able::without_peak("no mark") };
        let reasons = GateMetric::ALL.map(|metric| able.why_not(metric));
        let named = GateMetric::ALL.into_iter().zip(reasons).filter_map(|(metric, why)| Some((metric.name(), why?)));
        assert_eq!(
            named.collect::<Vec<_>>(),
            [
                ("peak_memory", "no mark"),
                ("memory_cycles", "off"),
                ("memory_swing", "off"),
                ("memory_reclaimed", "off")
            ]
        );
    }
}
