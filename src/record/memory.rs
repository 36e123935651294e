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
    /// Columns that are summed; the first must have a value.
    columns: &'static [&'static str],
    /// Whether it measures one host's process, so that two hosts have two series.
    pub of_process: bool,
    pub meaning: &'static str,
}

/// In order of preference: the first gauge that has values is the memory gauge of a run.
pub const GAUGES: [MemoryGauge; 6] = [
    MemoryGauge {
        name: "wired_bytes",
        columns: &["wired_bytes"],
        of_process: false,
        meaning: "wired memory of the whole system, including the memory that Metal wired for the engine",
    },
    MemoryGauge {
        name: "process_wired_bytes",
        columns: &["process_wired_bytes"],
        of_process: true,
        meaning: "wired memory of the engine's process",
    },
    MemoryGauge {
        name: GPU_OF_PROCESS,
        columns: &[GPU_OF_PROCESS],
        of_process: true,
        meaning: "GPU memory of the engine's process",
    },
    MemoryGauge {
        name: GPU_OF_ALL,
        columns: &[GPU_OF_ALL],
        of_process: false,
        meaning: "GPU memory of all processes, because that of one process cannot be read here",
    },
    MemoryGauge {
        name: "rss_bytes",
        columns: &["rss_bytes"],
        of_process: true,
        meaning: "resident memory of the engine's process",
    },
    MemoryGauge {
        name: "engine_bytes",
        columns: &["engine_active_bytes", "engine_cache_bytes"],
        of_process: true,
        meaning: "memory that the engine reports as in use and as kept for reuse (engine_active_bytes + engine_cache_bytes)",
    },
];

/// A memory gauge with its columns in a record's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    pub gauge: &'static MemoryGauge,
    columns: Vec<usize>,
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
        wanted
            .filter_map(|gauge| {
                let columns: Option<Vec<usize>> = gauge.columns.iter().map(|name| place(name)).collect();
                Some(Self { gauge, columns: columns? })
            })
            .collect()
    }

    /// The value in bytes; `None` if this row has none.
    #[must_use]
    pub fn value(&self, row: &TelemetryRow) -> Option<f64> {
        let at = |column: &usize| row.values.get(*column).copied().flatten().filter(|v| v.is_finite());
        let (first, others) = self.columns.split_first()?;
        Some(at(first)? + others.iter().filter_map(at).sum::<f64>())
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
    fn the_engine_s_series_is_what_it_uses_and_keeps() {
        let gauges = [info("rss_bytes", None), info(ENGINE[1], None), info(ENGINE[0], None), info(ENGINE[2], None)];
        let readers = Reader::all(&gauges);
        let row = |values: [Option<f64>; 4]| TelemetryRow { t_ns: 0, host: None, values: values.to_vec() };
        let engine = &readers[1];
        assert_eq!(engine.value(&row([Some(1.0), Some(4.0), Some(2.0), Some(9.0)])), Some(6.0));
        assert_eq!(engine.value(&row([Some(1.0), None, Some(2.0), None])), Some(2.0), "no cache reported");
        assert_eq!(engine.value(&row([Some(1.0), Some(4.0), None, None])), None);
        assert_eq!(readers[0].value(&row([Some(1.0), None, None, None])), Some(1.0));
    }
}
