//! All gauges on all systems: name, unit, group, meaning, and why one may be absent.

/// One gauge, as in every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gauge {
    /// Column of `telemetry.csv`, including the unit.
    pub name: &'static str,
    pub unit: &'static str,
    /// One of [`GROUPS`](super::GROUPS).
    pub group: &'static str,
    pub meaning: &'static str,
    /// Why it is absent on a system without a source for it.
    pub elsewhere: &'static str,
}

const fn cpu(name: &'static str, unit: &'static str, meaning: &'static str, elsewhere: &'static str) -> Gauge {
    Gauge { name, unit, group: "cpu", meaning, elsewhere }
}

const fn memory(name: &'static str, unit: &'static str, meaning: &'static str, elsewhere: &'static str) -> Gauge {
    Gauge { name, unit, group: "memory", meaning, elsewhere }
}

const fn gpu(name: &'static str, unit: &'static str, meaning: &'static str, elsewhere: &'static str) -> Gauge {
    Gauge { name, unit, group: "gpu", meaning, elsewhere }
}

const fn power(name: &'static str, unit: &'static str, meaning: &'static str, elsewhere: &'static str) -> Gauge {
    Gauge { name, unit, group: "power", meaning, elsewhere }
}

const UNREAD: &str = "not read on this system";
pub(super) const LINUX: &str = "Linux only";
const MAC: &str = "macOS only";
const CLUSTERS: &str = "Apple Silicon only: elsewhere figures are not split by kind of core";

/// All gauges in the order of their columns.
#[rustfmt::skip]
pub const GAUGES: &[Gauge] = &[
    cpu("process_cpu_percent", "percent", "CPU time of the host process, in percent of one core", UNREAD),
    cpu("process_threads", "count", "threads of the host process", UNREAD),
    cpu("voluntary_switches_per_s", "1/s", "context switches of the host process because a thread waited; on macOS all switches", UNREAD),
    cpu("involuntary_switches_per_s", "1/s", "context switches of the host process because a thread had to leave its core", UNREAD),
    cpu("minor_faults_per_s", "1/s", "page faults of the host process that needed no disk", UNREAD),
    cpu("major_faults_per_s", "1/s", "page faults of the host process that read from a disk", UNREAD),
    cpu("process_instructions_per_s", "1/s", "instructions retired by the host process", UNREAD),
    cpu("process_cycles_per_s", "1/s", "CPU cycles of the host process", UNREAD),
    cpu("system_cpu_percent", "percent", "share of all cores that is busy, 0 to 100", UNREAD),
    cpu("load_1m", "count", "load average over the last minute", UNREAD),
    cpu("steal_percent", "percent", "share of all cores that a hypervisor gave to others while this machine had work, 0 to 100", LINUX),
    cpu("cpu_pressure_some_percent", "percent", "share of time in which some task waited for a core", LINUX),
    cpu("io_pressure_some_percent", "percent", "share of time in which some task waited for input or output", LINUX),
    cpu("cpu_mhz", "MHz", "mean clock of the cores", UNREAD),
    cpu("performance_cpu_percent", "percent", "share of the performance cores that is busy, 0 to 100", CLUSTERS),
    cpu("performance_cpu_mhz", "MHz", "clock of the performance cores", CLUSTERS),
    cpu("efficiency_cpu_percent", "percent", "share of the efficiency cores that is busy, 0 to 100", CLUSTERS),
    cpu("efficiency_cpu_mhz", "MHz", "clock of the efficiency cores", CLUSTERS),
    cpu("thermal_throttles_per_s", "1/s", "how often heat slowed down a core or a package", "Linux only: elsewhere see `thermal_pressure`"),
    cpu("cgroup_throttled_percent", "percent", "time for which the cgroup's CPU quota stopped its tasks, summed over cores, in percent of one core", LINUX),
    memory("rss_bytes", "bytes", "resident memory of the host process", UNREAD),
    memory("rss_anon_bytes", "bytes", "of this, anonymous memory", "this system does not report which part of resident memory is anonymous"),
    memory("rss_file_bytes", "bytes", "of this, pages backed by files", "this system does not report which part of resident memory is backed by files"),
    memory("process_swap_bytes", "bytes", "anonymous memory of the host process that is swapped out", LINUX),
    memory("locked_bytes", "bytes", "memory of the host process that is locked against swapping", LINUX),
    memory("pss_bytes", "bytes", "resident memory of the host process, shared pages counted in part; at most one reading per second", LINUX),
    memory("footprint_bytes", "bytes", "physical footprint of the host process: memory that the system charges to it, including compressed memory", MAC),
    memory("process_wired_bytes", "bytes", "wired memory of the host process", MAC),
    memory("available_memory_bytes", "bytes", "memory available to programs without swapping", UNREAD),
    memory("swap_used_bytes", "bytes", "swap in use, whole system", UNREAD),
    memory("swap_in_bytes_per_s", "bytes/s", "memory read back from swap, whole system", UNREAD),
    memory("swap_out_bytes_per_s", "bytes/s", "memory written to swap, whole system", UNREAD),
    memory("memory_pressure_some_percent", "percent", "share of time in which some task waited for memory", LINUX),
    memory("memory_pressure_full_percent", "percent", "share of time in which all tasks waited for memory", LINUX),
    memory("cgroup_memory_bytes", "bytes", "memory charged to the cgroup of this program, including file cache", LINUX),
    memory("cgroup_memory_limit_bytes", "bytes", "the lowest memory limit of this cgroup and those above it", LINUX),
    memory("wired_bytes", "bytes", "wired memory, whole system: pages that cannot be moved or swapped", MAC),
    memory("compressed_bytes", "bytes", "physical memory used for compressed pages, whole system", MAC),
    memory("purgeable_bytes", "bytes", "memory that the system may reclaim at any time, whole system", MAC),
    memory("engine_active_bytes", "bytes", "memory allocated by the engine, as the engine reports", UNREAD),
    memory("engine_cache_bytes", "bytes", "memory that the engine's allocator keeps for reuse, as the engine reports", UNREAD),
    memory("engine_peak_bytes", "bytes", "highest active memory of the engine in this request so far, as the engine reports", UNREAD),
    gpu("gpu_percent", "percent", "share of time in which the GPU was busy, 0 to 100; for several GPUs, the busiest", UNREAD),
    gpu("gpu_memory_bytes", "bytes", "GPU memory in use by all processes, all GPUs", UNREAD),
    gpu("gpu_process_memory_bytes", "bytes", "GPU memory of the host process, all GPUs", UNREAD),
    gpu("gpu_mhz", "MHz", "clock of the GPU; for several, the highest", UNREAD),
    gpu("gpu_memory_mhz", "MHz", "clock of the GPU's memory; for several, the highest", UNREAD),
    gpu("gpu_throttle_reasons", "bits", "why the GPU's clock is limited: NVML's bit mask, combined over all GPUs", "NVIDIA only"),
    power("cpu_watts", "W", "power of the CPU packages", UNREAD),
    power("dram_watts", "W", "power of the memory", UNREAD),
    power("gpu_watts", "W", "power of all GPUs", UNREAD),
    power("ane_watts", "W", "power of the neural engine", "Apple Silicon only"),
    power("system_watts", "W", "power of the whole machine", UNREAD),
    power("cpu_celsius", "°C", "temperature of the CPU: on Linux its hottest sensor, on macOS the mean of its sensors", UNREAD),
    power("gpu_celsius", "°C", "temperature of the GPU; for several, the hottest", UNREAD),
    power("thermal_pressure", "level", "thermal state of the system: 0 nominal, 1 fair, 2 serious, 3 critical", MAC),
    power("on_battery", "0/1", "1 while the machine runs on a battery", UNREAD),
    power("low_power_mode", "0/1", "1 while a low-power mode is on", UNREAD),
];

/// Gauges that no source reads: the engine reports them through the protocol, in separate rows.
pub const FROM_ENGINE: [&str; 3] = ["engine_active_bytes", "engine_cache_bytes", "engine_peak_bytes"];

/// The gauge of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Gauge> {
    GAUGES.iter().find(|gauge| gauge.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_say_their_unit() {
        for (at, gauge) in GAUGES.iter().enumerate() {
            assert!(GAUGES[..at].iter().all(|other| other.name != gauge.name), "{} twice", gauge.name);
            let ending = match gauge.unit {
                "bytes" => "_bytes",
                "percent" => "_percent",
                "1/s" | "bytes/s" => "_per_s",
                "MHz" => "_mhz",
                "W" => "_watts",
                "°C" => "_celsius",
                _ => "",
            };
            assert!(gauge.name.ends_with(ending), "{} in {}", gauge.name, gauge.unit);
        }
        assert!(FROM_ENGINE.iter().all(|name| find(name).is_some()));
    }

    #[test]
    fn groups_follow_one_another_in_their_order() {
        let mut groups: Vec<_> = GAUGES.iter().map(|gauge| gauge.group).collect();
        groups.dedup();
        assert_eq!(groups, super::super::GROUPS);
    }
}
