//! The memory gauges of a record, and their values: which gauges show how an engine's memory rises
//! and falls.

use super::{GaugeInfo, TelemetryRow};

/// Memory that the engine reports through the protocol. In `telemetry.csv` these columns are filled
/// by separate rows.
pub const ENGINE: [&str; 3] = ["engine_active_bytes", "engine_cache_bytes", "engine_peak_bytes"];

/// Where the process's own GPU memory can be read, that of all processes adds nothing.
const GPU_OF_PROCESS: &str = "gpu_process_memory_bytes";
const GPU_OF_ALL: &str = "gpu_memory_bytes";

/// One measure of memory over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryGauge {
    pub name: &'static str,
    /// Whether it measures one host's process, so that two hosts have two series.
    pub of_process: bool,
    pub meaning: &'static str,
}

/// In order of preference: the first gauge that has values is the memory gauge of a run.
pub const GAUGES: [MemoryGauge; 8] = [
    MemoryGauge {
        name: "footprint_bytes",
        of_process: true,
        meaning: "memory that the system charges to the engine's process, Metal's buffers included",
    },
    MemoryGauge { name: GPU_OF_PROCESS, of_process: true, meaning: "GPU memory of the engine's process" },
    MemoryGauge {
        name: GPU_OF_ALL,
        of_process: false,
        meaning: "GPU memory of all processes, because that of one process cannot be read here",
    },
    MemoryGauge { name: "rss_bytes", of_process: true, meaning: "resident memory of the engine's process" },
    MemoryGauge { name: "engine_active_bytes", of_process: true, meaning: "memory in use, as the engine reports it" },
    MemoryGauge {
        name: "engine_cache_bytes",
        of_process: true,
        meaning: "freed memory that the engine's allocator keeps for reuse, as the engine reports it",
    },
    MemoryGauge {
        name: "wired_bytes",
        of_process: false,
        meaning: "wired memory of the whole system, including what Metal wired for the engine and what other programs wire; \
                  the kernel answers afresh a few times a second",
    },
    MemoryGauge { name: "process_wired_bytes", of_process: true, meaning: "wired memory of the engine's process" },
];

/// A memory gauge with its columns in a record's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    pub gauge: &'static MemoryGauge,
    column: usize,
}

impl Reader {
    /// Readers of the memory gauges that these columns provide, in order of preference.
    #[must_use]
    pub fn all(gauges: &[GaugeInfo]) -> Vec<Self> {
        let place = |name: &str| gauges.iter().position(|gauge| gauge.name == name);
        // A process that does not use the GPU has no value there; the memory of other processes is
        // not its memory.
        let told_apart = place(GPU_OF_PROCESS).is_some_and(|at| gauges[at].absent.is_none());
        let wanted = GAUGES.iter().filter(|gauge| !(told_apart && gauge.name == GPU_OF_ALL));
        wanted.filter_map(|gauge| Some(Self { gauge, column: place(gauge.name)? })).collect()
    }

    /// The value in bytes; `None` if this row has none.
    #[must_use]
    pub fn value(&self, row: &TelemetryRow) -> Option<f64> {
        row.values.get(self.column).copied().flatten().filter(|bytes| bytes.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, absent: Option<&str>) -> GaugeInfo {
        GaugeInfo {
            name: name.to_owned(),
            unit: "bytes".to_owned(),
            source: String::new(),
            absent: absent.map(str::to_owned),
        }
    }

    fn names(gauges: &[GaugeInfo]) -> Vec<&'static str> {
        Reader::all(gauges).iter().map(|reader| reader.gauge.name).collect()
    }

    #[test]
    fn the_gpu_of_all_counts_only_where_processes_cannot_be_told_apart() {
        let gauges = |absent| vec![info("rss_bytes", None), info(GPU_OF_ALL, None), info(GPU_OF_PROCESS, absent)];
        assert_eq!(names(&gauges(None)), [GPU_OF_PROCESS, "rss_bytes"]);
        assert_eq!(names(&gauges(Some("no permission"))), [GPU_OF_PROCESS, GPU_OF_ALL, "rss_bytes"]);
    }

    #[test]
    fn each_series_of_the_engine_stands_alone() {
        let gauges = [info("rss_bytes", None), info(ENGINE[1], None), info(ENGINE[0], None), info(ENGINE[2], None)];
        let readers = Reader::all(&gauges);
        assert_eq!(names(&gauges), ["rss_bytes", ENGINE[0], ENGINE[1]], "its peak is no series of levels");
        let row = |values: [Option<f64>; 4]| TelemetryRow { t_ns: 0, host: None, values: values.to_vec() };
        let values = |row: &TelemetryRow| readers.iter().map(|reader| reader.value(row)).collect::<Vec<_>>();
        assert_eq!(values(&row([Some(1.0), Some(4.0), Some(2.0), Some(9.0)])), [Some(1.0), Some(2.0), Some(4.0)]);
        assert_eq!(values(&row([None, Some(f64::NAN), None, Some(9.0)])), [None, None, None]);
    }

    /// The whole system's wired memory is read twice a second, too coarse for an iteration.
    #[test]
    fn on_a_mac_the_footprint_comes_first_and_wired_memory_after_the_engine_s_figures() {
        let mac = ["wired_bytes", "process_wired_bytes", "rss_bytes", ENGINE[1], ENGINE[0], "footprint_bytes"];
        let found = names(&mac.map(|name| info(name, None)));
        let expected = ["footprint_bytes", "rss_bytes", ENGINE[0], ENGINE[1], "wired_bytes", "process_wired_bytes"];
        assert_eq!(found, expected);
    }
}
