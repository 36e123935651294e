//! What changes the speed of the machine: a hypervisor, power, clocks, heat.

#[cfg(target_os = "linux")]
use std::path::Path;

use super::window::Window;
use super::{Finding, Grade};
use crate::spec::Machine;

pub(super) fn findings(window: &Window, machine: &Machine) -> Vec<Finding> {
    let hosted =
        ["CI", "GITHUB_ACTIONS"].iter().any(|name| std::env::var_os(name).is_some_and(|value| value == "true"));
    let mut findings = vec![virtual_machine(machine, hosted), power(machine, window), power_mode(window)];
    findings.push(governor(machine));
    #[cfg(target_os = "linux")]
    {
        let cpus = Path::new("/sys/devices/system/cpu");
        findings.extend([super::linux::turbo(cpus), super::linux::heat(cpus, window.throttles_per_s)]);
    }
    #[cfg(target_os = "macos")]
    findings.push(super::macos::heat(window.thermal_pressure));
    findings
}

/// `hosted`: whether a CI system runs this.
fn virtual_machine(machine: &Machine, hosted: bool) -> Finding {
    const TOPIC: &str = "virtual machine";
    let advice = "expect a drift of several percent; compare in interleaved pairs, never with a stored baseline";
    match machine.virtual_machine {
        Some(true) if hosted => Finding::note(TOPIC, "a hosted runner, shared with others", advice).at_best(Grade::C),
        Some(true) => Finding::note(TOPIC, "this machine is a virtual machine", advice).at_best(Grade::B),
        Some(false) => Finding::ok(TOPIC, "none"),
        None => Finding::not_visible(TOPIC, "the system does not report whether it is one"),
    }
}

fn power(machine: &Machine, window: &Window) -> Finding {
    let source = match window.on_battery {
        Some(on) => Some(if on > 0.0 { "battery" } else { "mains" }),
        None => machine.power_source.as_deref(),
    };
    match source {
        Some("battery") => {
            let advice = "connect the charger: on battery, clocks are lower and change with the charge";
            Finding::warning("power", "on battery", advice).at_best(Grade::C)
        }
        Some(source) => Finding::ok("power", format!("on {source}")),
        None => Finding::not_visible("power", "the system reports no power supply"),
    }
}

fn power_mode(window: &Window) -> Finding {
    match window.low_power_mode {
        Some(on) if on > 0.0 => {
            let advice = if cfg!(target_os = "macos") {
                "`sudo pmset -a lowpowermode 0` turns it off"
            } else {
                "`powerprofilesctl set performance` turns it off"
            };
            Finding::warning("power mode", "low-power mode is on and lowers the clocks", advice).at_best(Grade::C)
        }
        Some(_) => Finding::ok("power mode", "no low-power mode"),
        None => Finding::not_visible("power mode", "the system does not report its power mode"),
    }
}

fn governor(machine: &Machine) -> Finding {
    match machine.governor.as_deref() {
        Some("performance") => Finding::ok("governor", "performance"),
        Some(other) => {
            let advice = "`sudo cpupower frequency-set -g performance` keeps the clock high between tokens";
            Finding::note("governor", other, advice).at_best(Grade::B)
        }
        None => Finding::not_visible("governor", "the system reports no frequency governor"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_guest_is_a_shared_machine_and_on_a_ci_system_a_hosted_one() {
        let graded =
            |guest, hosted| virtual_machine(&Machine { virtual_machine: guest, ..Machine::default() }, hosted).at_best;
        assert_eq!([graded(Some(true), false), graded(Some(true), true)], [Grade::B, Grade::C]);
        assert_eq!([graded(Some(false), true), graded(None, true)], [Grade::A, Grade::A], "a self-hosted runner");
    }

    #[test]
    fn battery_and_low_power_are_warned_of() {
        let on = |source: &str| {
            power(&Machine { power_source: Some(source.to_owned()), ..Machine::default() }, &Window::default())
        };
        assert_eq!([on("mains").level, on("battery").level], [Level::Ok, Level::Warning]);
        let gauge = |value| Window { on_battery: Some(value), low_power_mode: Some(value), ..Window::default() };
        let mains = Machine { power_source: Some("mains".to_owned()), ..Machine::default() };
        assert_eq!(power(&mains, &gauge(1.0)).at_best, Grade::C, "the gauge is current");
        assert_eq!([power_mode(&gauge(0.0)).level, power_mode(&gauge(1.0)).level], [Level::Ok, Level::Warning]);
        assert!(power_mode(&Window::default()).seen.starts_with("not visible"));
    }

    #[test]
    fn a_governor_that_saves_power_costs_a_grade() {
        let with = |name: &str| governor(&Machine { governor: Some(name.to_owned()), ..Machine::default() });
        assert_eq!([with("performance").at_best, with("powersave").at_best], [Grade::A, Grade::B]);
    }
}
