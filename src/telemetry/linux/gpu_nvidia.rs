//! NVIDIA GPUs, through the driver's library (NVML), which is loaded when the first sampler starts.

use std::sync::OnceLock;

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

use super::super::pace::{Pace, Rate};
use super::super::{Source, gauge};
use crate::spec::GaugeInfo;
use inferometer_protocol::clock::now_ns;

/// The driver updates its figures every 20 to 200 ms.
const EVERY_MS: u64 = 100;

/// Gauge, the call that reads it, and how to combine several GPUs.
type Reading = fn(&Device<'static>, Option<u32>) -> Result<f64, NvmlError>;
type Combine = fn(f64, f64) -> f64;
type Figure = (&'static str, &'static str, Reading, Combine);
const READINGS: [Figure; 8] = [
    ("gpu_percent", "utilization", |gpu, _| Ok(f64::from(gpu.utilization_rates()?.gpu)), f64::max),
    ("gpu_memory_bytes", "memory in use", |gpu, _| Ok(gpu.memory_info()?.used as f64), |a, b| a + b),
    ("gpu_mhz", "clock", |gpu, _| Ok(f64::from(gpu.clock_info(Clock::SM)?)), f64::max),
    ("gpu_memory_mhz", "memory clock", |gpu, _| Ok(f64::from(gpu.clock_info(Clock::Memory)?)), f64::max),
    ("gpu_throttle_reasons", "clock throttle reasons", |gpu, _| reasons(gpu), |a, b| (a as u64 | b as u64) as f64),
    ("gpu_celsius", "temperature", |gpu, _| Ok(f64::from(gpu.temperature(TemperatureSensor::Gpu)?)), f64::max),
    ("gpu_process_memory_bytes", "memory of the process", process_memory, |a, b| a + b),
    ("gpu_watts", "energy since the driver was loaded", |gpu, _| joules(gpu), |a, b| a + b),
];
/// The last entry is an energy count; for a GPU without one, the current power is used.
const ENERGY: usize = READINGS.len() - 1;

fn reasons(gpu: &Device<'static>) -> Result<f64, NvmlError> {
    Ok(gpu.current_throttle_reasons()?.bits() as f64)
}

fn joules(gpu: &Device<'static>) -> Result<f64, NvmlError> {
    Ok(gpu.total_energy_consumption()? as f64 / 1000.0)
}

fn watts(gpu: &Device<'static>) -> Result<f64, NvmlError> {
    Ok(f64::from(gpu.power_usage()?) / 1000.0)
}

/// A process that computes and draws is in both lists with the same figure. A process in neither
/// has no value: it may use no GPU, or the driver may know it by another number than this container
/// does.
fn process_memory(gpu: &Device<'static>, target: Option<u32>) -> Result<f64, NvmlError> {
    let of = |list: Vec<ProcessInfo>| {
        let used = list.into_iter().filter(|process| Some(process.pid) == target).map(|p| p.used_gpu_memory);
        let bytes = used.filter_map(|used| match used {
            UsedGpuMemory::Used(bytes) => Some(bytes as f64),
            UsedGpuMemory::Unavailable => None,
        });
        bytes.reduce(|a, b| a + b)
    };
    let compute = of(gpu.running_compute_processes()?);
    let graphics = gpu.running_graphics_processes().ok().and_then(of);
    compute.into_iter().chain(graphics).reduce(f64::max).ok_or(NvmlError::NotFound)
}

/// The library stays loaded: finding it is slow, and its devices refer to it.
fn library() -> Result<&'static Nvml, String> {
    static LIBRARY: OnceLock<Result<Nvml, String>> = OnceLock::new();
    let found =
        LIBRARY.get_or_init(|| Nvml::init().map_err(|e| format!("NVIDIA's library cannot be used: {}", cause(&e))));
    found.as_ref().map_err(Clone::clone)
}

fn cause(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(e) => e.to_string(),
        other => other.to_string(),
    }
}

pub(super) struct Nvidia {
    gpus: Result<Vec<Device<'static>>, String>,
    /// In the order of [`READINGS`].
    absent: Vec<Option<String>>,
    counts_energy: bool,
    energy: Rate,
    pace: Pace,
}

impl Nvidia {
    pub fn new() -> Self {
        let gpus = library().and_then(|nvml| {
            let count = nvml.device_count().map_err(|e| cause(&e))?;
            let found: Result<Vec<_>, _> = (0..count).map(|at| nvml.device_by_index(at)).collect();
            let found = found.map_err(|e| format!("an NVIDIA GPU cannot be reached: {}", cause(&e)))?;
            if found.is_empty() { Err("no NVIDIA GPU".to_owned()) } else { Ok(found) }
        });
        let counts_energy = gpus.as_ref().is_ok_and(|gpus| gpus.iter().all(|gpu| joules(gpu).is_ok()));
        let absent = READINGS.iter().enumerate().map(|(at, (_, _, read, _))| {
            let gpus = match &gpus {
                Err(reason) => return Some(reason.clone()),
                Ok(gpus) => gpus,
            };
            let power = at == ENERGY && !counts_energy;
            let tried = gpus.iter().map(|gpu| if power { watts(gpu) } else { read(gpu, None) });
            match tried.reduce(Result::or) {
                // A list without this process is still a list.
                Some(Err(NvmlError::NotFound) | Ok(_)) | None => None,
                Some(Err(error)) => Some(format!("the NVIDIA driver does not report it: {}", cause(&error))),
            }
        });
        let absent = absent.collect();
        Self { gpus, absent, counts_energy, energy: Rate::default(), pace: Pace::often(EVERY_MS) }
    }
}

impl Source for Nvidia {
    fn gauges(&self) -> Vec<GaugeInfo> {
        let named = READINGS.iter().zip(&self.absent);
        named.map(|((name, what, _, _), absent)| gauge(name, &format!("NVML: {what}"), absent.clone())).collect()
    }

    fn sample(&mut self, target: Option<u32>, values: &mut [Option<f64>]) {
        let Ok(gpus) = &self.gpus else { return };
        let (absent, counts_energy, energy) = (&self.absent, self.counts_energy, &mut self.energy);
        self.pace.when_due(|| {
            for (at, (_, _, read, combine)) in READINGS.into_iter().enumerate() {
                if absent[at].is_some() || (at == ENERGY && !counts_energy) {
                    continue;
                }
                values[at] = gpus.iter().filter_map(|gpu| read(gpu, target).ok()).reduce(combine);
            }
            values[ENERGY] = match counts_energy {
                true => energy.per_s(now_ns(), values[ENERGY]),
                false => gpus.iter().filter_map(|gpu| watts(gpu).ok()).reduce(|a, b| a + b),
            };
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::read;
    use super::*;

    /// On any machine: a value or a reason for each gauge that needs neither a driver update nor a
    /// process.
    #[test]
    fn each_gauge_has_a_reason_or_can_be_read() {
        let mut nvidia = Nvidia::new();
        let values = read(&mut nvidia, None);
        for (info, value) in nvidia.gauges().iter().zip(&values) {
            let waits = ["gpu_process_memory_bytes", "gpu_watts"].contains(&info.name.as_str());
            assert!(info.absent.is_some() != value.is_some() || waits, "{info:?}: {value:?}");
        }
        if let Err(reason) = &nvidia.gpus {
            assert!(reason.contains("NVIDIA"), "{reason}");
            assert!(values.iter().all(Option::is_none));
        }
    }
}
