//! The chip's gauges, measured by macmon in a separate thread.

use std::sync::OnceLock;
use std::time::Duration;

use super::background::{Background, Measure};
use super::power::{Reading, Tier, Watts, counted};
use crate::spec::GaugeInfo;
use crate::telemetry::{Source, gauge};

/// Averaging window of macmon. Shorter windows would cost more: each end reads dozens of sensors.
const WINDOW: Duration = Duration::from_secs(1);
/// The first window, which only shows what is available.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait for the first window, including macmon's start.
const PATIENCE: Duration = Duration::from_secs(5);

/// Utilization, clocks, watts and temperatures: one value per window, in the sample after its end;
/// the samples between stay empty.
#[derive(Default)]
pub(super) struct Chip {
    /// Starts with the first sample.
    background: Option<Background<Reading>>,
    seen: u64,
}

/// What this machine has: the first reading of this process.
fn found() -> &'static Result<Reading, String> {
    static FOUND: OnceLock<Result<Reading, String>> = OnceLock::new();
    FOUND.get_or_init(|| start().first(PATIENCE))
}

fn start() -> Background<Reading> {
    Background::start("macmon", FIRST, WINDOW, || {
        let mut sampler = macmon::Sampler::new().map_err(|e| format!("macmon: {e}"))?;
        let gpu_clocks = sampler.get_soc_info().gpu_freqs.len();
        let measure: Measure<Reading> = Box::new(move |window| {
            let window = u32::try_from(window.as_millis()).unwrap_or(u32::MAX);
            let metrics = sampler.get_metrics(window).map_err(|e| format!("macmon: {e}"))?;
            Ok(reading(&metrics, gpu_clocks))
        });
        Ok(measure)
    })
}

/// `gpu_clocks`: number of entries in the table that macmon needs to read the GPU; the first entry
/// is "off".
fn reading(metrics: &macmon::Metrics, gpu_clocks: usize) -> Reading {
    let tier = |tier: &macmon::CpuTierMetrics| Tier {
        cores: tier.cores.len() as u32,
        mhz: tier.freq_mhz,
        active: f64::from(tier.active_ratio),
    };
    let [cpu, gpu, ane, dram] =
        [metrics.cpu_power, metrics.gpu_power, metrics.ane_power, metrics.ram_power].map(f64::from);
    Reading {
        tiers: metrics.cpu_tiers.iter().map(tier).collect(),
        gpu_active: (gpu_clocks > 1).then(|| f64::from(metrics.gpu_active_ratio)),
        gpu_mhz: counted(metrics.gpu_freq_mhz.into()),
        watts: Watts::counted(cpu, gpu, ane, dram),
        system_watts: counted(metrics.sys_power.into()),
        cpu_celsius: metrics.temp.cpu_temp_avg.map(f64::from),
        gpu_celsius: metrics.temp.gpu_temp_avg.map(f64::from),
    }
}

/// Name, macmon's source, and the figure.
type Figure = (&'static str, &'static str, fn(&Reading) -> Option<f64>);

const FIGURES: [Figure; 14] = [
    ("cpu_mhz", "IOReport, clock while active", Reading::cpu_mhz),
    ("performance_cpu_percent", "IOReport", |reading| reading.performance().0),
    ("performance_cpu_mhz", "IOReport, clock while active", |reading| reading.performance().1),
    ("efficiency_cpu_percent", "IOReport", |reading| reading.efficiency().0),
    ("efficiency_cpu_mhz", "IOReport, clock while active", |reading| reading.efficiency().1),
    ("gpu_percent", "IOReport", Reading::gpu_percent),
    ("gpu_mhz", "IOReport, clock while active", |reading| reading.gpu_mhz),
    ("cpu_watts", "IOReport", |reading| reading.watts?.cpu),
    ("dram_watts", "IOReport", |reading| reading.watts?.dram),
    ("gpu_watts", "IOReport", |reading| reading.watts.map(|watts| watts.gpu)),
    ("ane_watts", "IOReport", |reading| reading.watts.map(|watts| watts.ane)),
    ("system_watts", "SMC", |reading| reading.system_watts),
    ("cpu_celsius", "SMC or HID, mean of the sensors", |reading| reading.cpu_celsius),
    ("gpu_celsius", "SMC or HID, mean of the sensors", |reading| reading.gpu_celsius),
];

impl Source for Chip {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let absent = |figure: fn(&Reading) -> Option<f64>| match found() {
            Err(why) => Some(why.clone()),
            // An idle GPU has no clock; its utilization shows whether it has one at all.
            Ok(reading) if figure(reading).is_none() => {
                Some("macmon does not find this figure on this machine".to_owned())
            }
            Ok(_) => None,
        };
        let about = |of: &str| format!("macmon ({of}), mean over the previous {} s", WINDOW.as_secs());
        let gauges = FIGURES.iter().map(|(name, of, figure)| match *name {
            "gpu_mhz" => gauge(name, &about(of), absent(|reading| reading.gpu_active)),
            _ => gauge(name, &about(of), absent(*figure)),
        });
        let shared = "the GPU uses the machine's memory: see `wired_bytes` and `footprint_bytes`";
        let memory = ["gpu_memory_bytes", "gpu_process_memory_bytes"];
        gauges.chain(memory.map(|name| gauge(name, "", Some(shared.to_owned())))).collect()
    }

    fn sample(&mut self, _target: Option<u32>, values: &mut [Option<f64>]) {
        let background = self.background.get_or_insert_with(start);
        let Some(reading) = background.newer_than(&mut self.seen) else { return };
        for (value, (_, _, figure)) in values.iter_mut().zip(FIGURES) {
            *value = figure(&reading);
        }
    }
}
