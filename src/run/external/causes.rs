//! The external causes: the gauges that show each one, and all thresholds.

use std::time::Duration;

use super::look::Look;
use crate::record;
use inferometer_protocol::units::{bytes, significant};

/// Cores that other programs may use on average.
///
/// Two virtual cores are two halves of one core: half a core of foreign load already costs a busy
/// sibling a tenth or more. An idle desktop uses about a tenth of a core, and `doctor` also warns
/// from half a core on. The larger of this limit and [`FOREIGN_SHARE`] applies.
const FOREIGN_CORES: f64 = 0.5;
/// The same as a share of all cores, because caches and memory are shared in proportion.
const FOREIGN_SHARE: f64 = 1.0 / 8.0;
/// Mean share of all cores' time that other guests may take, in percent: the smallest slow-down
/// that a gate detects on a shared machine (docs/explanation/method.md#figures-of-a-gate). Single
/// ticks of 10 ms stay below it.
pub const STOLEN_PERCENT: f64 = 3.0;
/// Mean rate at which the machine may swap in and out, in bytes per second. At 4 KiB and 100 µs per
/// page this takes a fortieth of the time.
const SWAPPED_BYTES_PER_S: f64 = 1_048_576.0;
/// Smaller amounts are ignored, however short the iteration.
const SWAPPED_BYTES: f64 = 1_048_576.0;
/// Size of a page, to convert faults to bytes.
const PAGE_BYTES: f64 = 4096.0;
/// From this level on, macOS slows the machine down (`NSProcessInfoThermalStateSerious`).
const THERMAL_SERIOUS: f64 = 2.0;
/// Bits of NVML's mask of clock event reasons: hardware slow-down (0x8), software (0x20) and
/// hardware (0x40) thermal slow-down, power brake (0x80). A power cap (0x4) and idle clocks (0x1)
/// are ordinary.
const GPU_SLOWED: u64 = 0x8 | 0x20 | 0x40 | 0x80;

/// External causes of an iteration, in the order of the reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExternalCause {
    OwnSwap,
    Swap,
    Throttling,
    Power,
    Steal,
    ForeignLoad,
    /// Foreign load too, seen by what it cost the engine.
    Waiting,
}

/// A cause found in an iteration.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub cause: ExternalCause,
    /// The same text in every iteration, so that findings can be grouped.
    pub words: String,
    /// The amount, if the cause has one; reported as the maximum over the iterations.
    pub amount: Option<f64>,
}

impl Finding {
    pub fn new(cause: ExternalCause, words: impl Into<String>, amount: Option<f64>) -> Self {
        Self { cause, words: words.into(), amount }
    }

    pub fn steal(percent: f64) -> Self {
        let words = format!("other guests took more than {STOLEN_PERCENT} % of the CPU time");
        Self::new(ExternalCause::Steal, words, Some(percent))
    }
}

impl ExternalCause {
    /// The cause's name in the record.
    #[must_use]
    pub fn of_record(self) -> record::Cause {
        match self {
            ExternalCause::OwnSwap => record::Cause::OwnSwap,
            ExternalCause::Swap => record::Cause::Swap,
            ExternalCause::Throttling => record::Cause::Throttling,
            ExternalCause::Power => record::Cause::Power,
            ExternalCause::Steal => record::Cause::Steal,
            ExternalCause::ForeignLoad | ExternalCause::Waiting => record::Cause::ForeignLoad,
        }
    }

    /// An amount with its unit.
    #[must_use]
    pub fn amount(self, amount: f64) -> String {
        match self {
            ExternalCause::OwnSwap | ExternalCause::Swap => format!("{}/s", bytes(amount.max(0.0) as u64)),
            ExternalCause::Steal | ExternalCause::Waiting => format!("{} %", significant(amount)),
            ExternalCause::ForeignLoad => format!("{} cores", significant(amount)),
            ExternalCause::Throttling | ExternalCause::Power => significant(amount),
        }
    }

    /// Advice to the user.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            ExternalCause::OwnSwap => "use a smaller model or cache, or a machine with more memory",
            ExternalCause::Swap => "close programs that use much memory",
            ExternalCause::Throttling => "let the machine cool down, or increase `run.cooldown_s`",
            ExternalCause::Power => "keep the power source and the power mode unchanged",
            ExternalCause::Steal => "use a dedicated machine, or a larger guest",
            ExternalCause::ForeignLoad | ExternalCause::Waiting => {
                "end other programs or wait for them; `inferometer doctor` lists the busiest"
            }
        }
    }
}

/// The state of the power supply at the start of the run segment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Supply {
    pub on_battery: Option<f64>,
    pub low_power_mode: Option<f64>,
}

/// All external causes of an iteration.
#[must_use]
pub fn all(look: &Look<'_>, cores: Option<f64>, helpers: Duration, supply: &Supply) -> Vec<Finding> {
    let foreign = cores.and_then(|cores| foreign_load(look, cores, helpers));
    let mut found: Vec<Finding> =
        [swapping(look), throttling(look), power(look, supply), steal(look), foreign].into_iter().flatten().collect();
    found.sort_by_key(|finding| finding.cause);
    found
}

/// Swapping on the machine. The engine's own swap decides whose memory it is: it grows or shrinks,
/// or is above zero while pages are read back.
fn swapping(look: &Look<'_>) -> Option<Finding> {
    let (swapped_in, swapped_out) = (look.mean("swap_in_bytes_per_s"), look.mean("swap_out_bytes_per_s"));
    // Without both gauges, nothing is known.
    swapped_in.or(swapped_out)?;
    let swapped_in = swapped_in.unwrap_or(0.0);
    let machine = swapped_in + swapped_out.unwrap_or(0.0);
    let swapped: Vec<f64> = look.levels("process_swap_bytes").collect();
    let (least, most) = swapped.iter().fold((f64::INFINITY, 0.0_f64), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
    // Major faults alone may come from pages of a file.
    let read_back = if most >= SWAPPED_BYTES {
        swapped_in.min(look.mean("major_faults_per_s").unwrap_or(0.0) * PAGE_BYTES)
    } else {
        0.0
    };
    let moved = if most - least >= SWAPPED_BYTES { (most - least) / look.seconds() } else { 0.0 };
    let own = moved.max(read_back);
    if own > SWAPPED_BYTES_PER_S {
        let words = "the engine's own memory was swapped (it does not fit)";
        return Some(Finding::new(ExternalCause::OwnSwap, words, Some(own)));
    }
    (machine > SWAPPED_BYTES_PER_S).then(|| {
        let whose = if swapped.is_empty() {
            "whose memory it was is unknown on this system"
        } else {
            "not the engine's memory"
        };
        Finding::new(ExternalCause::Swap, format!("the machine swapped, {whose}"), Some(machine))
    })
}

fn throttling(look: &Look<'_>) -> Option<Finding> {
    let found = |words: &str| Some(Finding::new(ExternalCause::Throttling, words, None));
    if look.ever("thermal_throttles_per_s") {
        return found("the CPU throttled because of its temperature");
    }
    if look.states("thermal_pressure").any(|level| level >= THERMAL_SERIOUS) {
        return found("the system slowed the machine down because of its temperature");
    }
    if look.states("gpu_throttle_reasons").any(|mask| mask as u64 & GPU_SLOWED != 0) {
        return found("the GPU throttled because of its temperature or power supply");
    }
    None
}

fn power(look: &Look<'_>, supply: &Supply) -> Option<Finding> {
    let differs = |gauge, before: Option<f64>| {
        let Some(before) = before else { return false };
        look.states(gauge).any(|now| now != before)
    };
    let found = |words: &str| Some(Finding::new(ExternalCause::Power, words, None));
    if differs("on_battery", supply.on_battery) {
        return found("the power source differed from the start of the run segment");
    }
    if differs("low_power_mode", supply.low_power_mode) {
        return found("low-power mode differed from the start of the run segment");
    }
    None
}

fn steal(look: &Look<'_>) -> Option<Finding> {
    let percent = look.mean("steal_percent").filter(|percent| *percent > STOLEN_PERCENT)?;
    Some(Finding::steal(percent))
}

/// Mean number of cores used by others than the engine and its children. Each gauge is averaged
/// over its own stretches, because the machine's CPU is sampled less often than the engine's.
fn foreign_load(look: &Look<'_>, cores: f64, helpers: Duration) -> Option<Finding> {
    let busy = look.mean("system_cpu_percent")? / 100.0 * cores;
    let engine = look.mean("process_cpu_percent")? / 100.0 + helpers.as_secs_f64() / look.seconds();
    let tolerated = FOREIGN_CORES.max(cores * FOREIGN_SHARE);
    let used = Some(busy - engine).filter(|used| *used > tolerated)?;
    let words = format!("other programs used more than {} cores", tolerated);
    Some(Finding::new(ExternalCause::ForeignLoad, words, Some(used)))
}
