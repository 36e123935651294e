//! Other activity on the machine during the check: load, stolen time, memory, swap, GPU.

use super::window::Window;
use super::{Finding, Grade};
use crate::spec::Machine;
use inferometer_protocol::units;

pub(super) fn findings(window: &Window, machine: &Machine) -> Vec<Finding> {
    vec![load(window, machine), steal(window, machine), memory(window, machine), swap(window), gpu(window)]
}

fn load(window: &Window, machine: &Machine) -> Finding {
    let (Some(percent), Some(cores)) = (window.busy_percent, machine.logical_cores) else {
        return Finding::not_visible("load", "the system does not report CPU utilization");
    };
    let cores = f64::from(cores);
    let busy = percent / 100.0 * cores;
    let seen = format!("{} of {cores} cores busy over one second", units::significant(busy));
    // An idle desktop keeps about a tenth of a core busy.
    if busy < 0.15 {
        return Finding::ok("load", seen);
    }
    let busiest: Vec<String> = window.busiest.iter().map(|(name, percent)| format!("{name} {percent:.0} %")).collect();
    let seen = if busiest.is_empty() { seen } else { format!("{seen}: {}", busiest.join(", ")) };
    let advice = "close other programs, or wait until they finish";
    match busy {
        b if b < 0.5 => Finding::note("load", seen, advice).at_best(Grade::B),
        b if b < cores / 2.0 => Finding::warning("load", seen, advice).at_best(Grade::C),
        _ => Finding::warning("load", seen, advice).at_best(Grade::D),
    }
}

fn steal(window: &Window, machine: &Machine) -> Finding {
    let Some(percent) = window.steal_percent else {
        return Finding::not_visible("stolen time", "the system does not report time stolen by a hypervisor");
    };
    let seen = format!("{} % of CPU time stolen by other guests", units::significant(percent));
    let advice = "use a dedicated machine or a larger guest; compare only in pairs";
    match percent {
        0.0 if machine.virtual_machine == Some(true) => Finding::ok("stolen time", seen + " in this second"),
        0.0 => Finding::ok("stolen time", seen),
        p if p < 1.0 => Finding::note("stolen time", seen, advice).at_best(Grade::B),
        p if p < 10.0 => Finding::warning("stolen time", seen, advice).at_best(Grade::C),
        _ => Finding::warning("stolen time", seen, advice).at_best(Grade::D),
    }
}

fn memory(window: &Window, machine: &Machine) -> Finding {
    let Some(available) = window.available_bytes else {
        return Finding::not_visible("memory", "the system does not report available memory");
    };
    let seen = match machine.memory_bytes {
        Some(all) => format!("{} of {} available", units::bytes(available), units::bytes(all)),
        None => format!("{} available", units::bytes(available)),
    };
    let share = machine.memory_bytes.map_or(1.0, |all| available as f64 / all as f64);
    let advice = "close programs that use memory; the model, its KV cache and some reserve must fit";
    match share {
        _ if available < 1 << 29 => Finding::warning("memory", seen, advice).at_best(Grade::D),
        s if s < 0.1 || available < 1 << 30 => Finding::warning("memory", seen, advice).at_best(Grade::C),
        s if s < 0.25 => Finding::note("memory", seen, advice),
        _ => Finding::ok("memory", seen),
    }
}

fn swap(window: &Window) -> Finding {
    if let Some(rate) = window.swap_bytes_per_s.filter(|rate| *rate > 0.0) {
        let seen = format!("the machine is swapping: {} in one second", units::bytes(rate as u64));
        return Finding::warning("swap", seen, "free memory before measuring, then check again").at_best(Grade::D);
    }
    match window.swap_used_bytes {
        None => Finding::not_visible("swap", "the system does not report swap use"),
        Some(0) => Finding::ok("swap", "nothing swapped out"),
        Some(bytes) => {
            let seen = format!("{} swapped out, no swapping now", units::bytes(bytes));
            let advice = "watch available memory; iterations during which the machine swaps are not comparable";
            Finding::note("swap", seen, advice)
        }
    }
}

/// Bits of NVML's mask that mean heat or an insufficient power supply: hardware slow-down, software
/// and hardware thermal slow-down, power brake
/// (<https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html>).
const SLOWED: u64 = 0x8 | 0x20 | 0x40 | 0x80;

fn gpu(window: &Window) -> Finding {
    const TOPIC: &str = "GPU";
    if let Some(mask) = window.gpu_throttle_reasons.filter(|mask| *mask as u64 & SLOWED != 0) {
        let seen = format!("heat or power limits slow down the GPU (NVML's reasons {:#x})", mask as u64);
        return Finding::warning(TOPIC, seen, "let it cool down, and check its power supply").at_best(Grade::D);
    }
    let Some(percent) = window.gpu_percent else {
        return Finding::not_visible(TOPIC, "no GPU reports its utilization");
    };
    let seen = format!("busy {percent:.0} % of the time");
    let advice = "close programs that use it (browsers, other models) if you measure an engine on it";
    match percent {
        // A desktop draws its windows.
        p if p < 10.0 => Finding::ok(TOPIC, seen),
        p if p < 50.0 => Finding::warning(TOPIC, seen, advice).at_best(Grade::C),
        _ => Finding::warning(TOPIC, seen, advice).at_best(Grade::D),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn window() -> Window {
        Window {
            busy_percent: Some(1.0),
            steal_percent: Some(0.0),
            available_bytes: Some(6 << 30),
            swap_used_bytes: Some(0),
            swap_bytes_per_s: Some(0.0),
            busiest: vec![("python3".to_owned(), 99.6)],
            ..Window::default()
        }
    }

    fn machine() -> Machine {
        Machine { logical_cores: Some(8), memory_bytes: Some(8 << 30), ..Machine::default() }
    }

    #[test]
    fn load_is_graded_by_cores_kept_busy() {
        let graded = |percent| load(&Window { busy_percent: percent, ..window() }, &machine());
        let grades: Vec<_> = [1.0, 4.0, 25.0, 50.0].map(|percent| graded(Some(percent)).at_best).into();
        assert_eq!(grades, [Grade::A, Grade::B, Grade::C, Grade::D]);
        let full = graded(Some(100.0));
        let seen = "8.00 of 8 cores busy over one second: python3 100 %";
        assert_eq!((full.level, full.seen.as_str()), (Level::Warning, seen));
        let unseen = graded(None);
        assert!(unseen.seen.starts_with("not visible") && !unseen.seen.contains(char::is_numeric), "{unseen:?}");
    }

    #[test]
    fn little_memory_and_swapping_are_warned_of() {
        let with = |available| memory(&Window { available_bytes: Some(available), ..window() }, &machine());
        assert_eq!([with(6 << 30), with(3 << 29)].map(|finding| finding.level), [Level::Ok, Level::Note]);
        assert_eq!([with(3 << 28), with(1 << 28)].map(|finding| finding.at_best), [Grade::C, Grade::D]);
        assert_eq!(swap(&window()).level, Level::Ok);
        assert_eq!(swap(&Window { swap_used_bytes: Some(5), ..window() }).level, Level::Note);
        let swapping = swap(&Window { swap_bytes_per_s: Some(4096.0), ..window() });
        assert_eq!((swapping.level, swapping.at_best), (Level::Warning, Grade::D));
    }

    #[test]
    fn stolen_time_is_graded() {
        let stolen = |percent| steal(&Window { steal_percent: Some(percent), ..window() }, &machine());
        let grades = [0.0, 0.3, 7.0, 30.0].map(|percent| stolen(percent).at_best);
        assert_eq!(grades, [Grade::A, Grade::B, Grade::C, Grade::D]);
        let unseen = steal(&Window { steal_percent: None, ..window() }, &machine());
        assert_eq!((unseen.level, unseen.at_best), (Level::Note, Grade::A));
    }

    #[test]
    fn a_busy_or_slowed_gpu_is_warned_of() {
        let graded =
            |percent, mask| gpu(&Window { gpu_percent: Some(percent), gpu_throttle_reasons: mask, ..window() }).at_best;
        let busy = [0.0, 30.0, 90.0].map(|percent| graded(percent, None));
        assert_eq!(busy, [Grade::A, Grade::C, Grade::D]);
        // 1 is idle, 4 a configured power cap: both are normal.
        assert_eq!([graded(0.0, Some(5.0)), graded(0.0, Some(64.0))], [Grade::A, Grade::D]);
        assert!(gpu(&window()).seen.starts_with("not visible"));
    }
}
