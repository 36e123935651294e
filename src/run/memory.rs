//! Memory during an iteration: merges the engine's samples with those of the gauges, and computes
//! the oscillation columns.

use crate::origin::Origin;
use crate::record::memory::{ENGINE, Reader};
use crate::record::{GaugeInfo, TelemetryRow};
use crate::run::external::Window;
use crate::telemetry::peak;
use inferometer_protocol::messages::Generated;
use inferometer_protocol::{EngineMemory, MemorySample};
use inferometer_stats::oscillation::{Known, SAMPLES_PER_CYCLE, Sample, jitter, oscillation};

/// A sample of the engine's memory, on the run's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineSample {
    pub t_ns: u64,
    pub host: u32,
    pub memory: EngineMemory,
}

/// The memory samples of a reply, on the run's clock. `offset_ns` is host minus harness.
///
/// # Errors
/// Why they are invalid: times that do not rise, times outside the request, or more samples than
/// the interval allows.
pub fn engine_samples(
    generated: &Generated,
    host: u32,
    interval_ms: Option<u32>,
    offset_ns: i64,
    origin: &Origin,
) -> Result<Vec<EngineSample>, String> {
    let samples = &generated.memory_samples;
    let (from, to) = (generated.accepted_ns, generated.finished_ns);
    let interval_ns = u64::from(interval_ms.unwrap_or(0)) * 1_000_000;
    // One at the start, one at the end, and some that were early after a late one.
    let most =
        to.saturating_sub(from).checked_div(interval_ns).map_or(0, |n| n.saturating_add(n / 4).saturating_add(8));
    let rises = |pair: &[MemorySample]| pair[0].t_ns < pair[1].t_ns;
    if samples.len() as u64 > most {
        return Err(format!("the engine sent {} memory samples, but at most {most} were expected", samples.len()));
    }
    if !samples.windows(2).all(rises) {
        return Err("the engine's memory samples do not rise in time".to_owned());
    }
    if samples.iter().any(|sample| !(from..=to).contains(&sample.t_ns)) {
        return Err("the engine sent memory samples from outside the request".to_owned());
    }
    let at = |t_ns: u64| u64::try_from((i128::from(t_ns) - i128::from(offset_ns)).max(0)).unwrap_or(u64::MAX);
    Ok(samples.iter().map(|s| EngineSample { t_ns: origin.t_ns(at(s.t_ns)), host, memory: s.memory }).collect())
}

/// The rise and fall of memory during an iteration (docs/explanation/method.md#memory-oscillation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swings {
    pub cycles: u32,
    /// The largest cycle.
    pub largest_bytes: u64,
    /// Sum of all falls.
    pub reclaimed_bytes: u64,
}

/// Tracks memory over a run segment.
#[derive(Debug)]
pub struct Memory {
    width: usize,
    /// Columns of [`ENGINE`].
    engine: [Option<usize>; 3],
    /// Whether the engine reported each value.
    said: [bool; 3],
    /// The gauge whose samples stand for a missing high-water mark.
    sampled: Option<usize>,
    readers: Vec<Reader>,
    /// The first reader, in order of preference, that has given a value.
    chosen: Option<usize>,
    /// Samples of each reader from before the first host was started.
    idle: Vec<Vec<f64>>,
    idle_until_ns: Option<u64>,
}

impl Memory {
    /// `gauges` are the columns of the rows.
    #[must_use]
    pub fn new(gauges: &[GaugeInfo]) -> Self {
        let readers = Reader::all(gauges);
        Self {
            width: gauges.len(),
            engine: ENGINE.map(|name| gauges.iter().position(|gauge| gauge.name == name)),
            said: [false; 3],
            sampled: peak::SAMPLED
                .iter()
                .find_map(|name| gauges.iter().position(|gauge| gauge.name == *name && gauge.absent.is_none())),
            chosen: None,
            idle: vec![Vec::new(); readers.len()],
            readers,
            idle_until_ns: None,
        }
    }

    /// Records that a host is started: the machine is no longer idle.
    pub fn loads(&mut self, now_ns: u64) {
        self.idle_until_ns.get_or_insert(now_ns);
    }

    /// Merges the engine's samples with those of the gauges, and returns the swings of memory
    /// during an iteration.
    pub fn note(
        &mut self,
        iteration: Window,
        telemetry: &mut Vec<TelemetryRow>,
        engine: &[EngineSample],
    ) -> Option<Swings> {
        telemetry.extend(engine.iter().filter_map(|sample| self.row(sample)));
        telemetry.sort_by_key(|row| row.t_ns);
        self.keep_idle(telemetry);
        let has_value = |reader: &Reader| telemetry.iter().any(|row| row.host.is_some() && reader.value(row).is_some());
        self.chosen =
            self.readers[..self.chosen.unwrap_or(self.readers.len())].iter().position(has_value).or(self.chosen);
        self.swings(iteration, telemetry)
    }

    /// The highest sample of the process's memory in a stretch of time, in bytes.
    #[must_use]
    pub fn highest(&self, Window { host, start_ns, end_ns }: Window, telemetry: &[TelemetryRow]) -> Option<u64> {
        let column = self.sampled?;
        let within = telemetry.iter().filter(|row| row.host == Some(host) && (start_ns..=end_ns).contains(&row.t_ns));
        within.filter_map(|row| *row.values.get(column)?).max_by(f64::total_cmp).map(|bytes| bytes as u64)
    }

    /// Name of the gauge that fills the memory columns.
    #[must_use]
    pub fn gauge(&self) -> Option<&'static str> {
        self.chosen.map(|chosen| self.readers[chosen].gauge.name)
    }

    /// Why a column of the engine stayed empty in this run segment; `None` if it has values.
    #[must_use]
    pub fn unsaid(&self, gauge: &str) -> Option<String> {
        let at = ENGINE.iter().position(|name| *name == gauge)?;
        (!self.said[at]).then(|| "the engine does not report its memory during generation".to_owned())
    }

    /// A row with values only in the engine's columns; `None` if it would be empty.
    fn row(&mut self, sample: &EngineSample) -> Option<TelemetryRow> {
        let memory = sample.memory;
        let mut values = vec![None; self.width];
        let said = [memory.active_bytes, memory.cache_bytes, memory.peak_bytes];
        for (i, (column, bytes)) in self.engine.iter().zip(said).enumerate() {
            if let (Some(column), Some(bytes)) = (column, bytes) {
                values[*column] = Some(bytes as f64);
                self.said[i] = true;
            }
        }
        let row = TelemetryRow { t_ns: sample.t_ns, host: Some(sample.host), values };
        row.values.iter().any(Option::is_some).then_some(row)
    }

    fn keep_idle(&mut self, telemetry: &[TelemetryRow]) {
        let Some(until) = self.idle_until_ns else { return };
        for row in telemetry.iter().filter(|row| row.t_ns < until) {
            for (reader, idle) in self.readers.iter().zip(&mut self.idle) {
                idle.extend(reader.value(row));
            }
        }
    }

    /// `None` if there are too few samples for one cycle.
    fn swings(&self, Window { host, start_ns, end_ns }: Window, telemetry: &[TelemetryRow]) -> Option<Swings> {
        let chosen = self.chosen?;
        let reader = &self.readers[chosen];
        let own = |row: &&TelemetryRow| !reader.gauge.of_process || row.host == Some(host);
        let during = telemetry.iter().filter(|row| (start_ns..=end_ns).contains(&row.t_ns)).filter(own);
        let during: Vec<Sample> = during.filter_map(|row| Some(at(row, reader.value(row)?))).collect();
        if (during.len() as f64) < SAMPLES_PER_CYCLE {
            return None;
        }
        let known = Known { jitter_bytes: jitter(&self.idle[chosen]), ..Known::default() };
        let found = oscillation(&[&during], &known)?;
        Some(Swings {
            cycles: u32::try_from(found.counted.cycles).unwrap_or(u32::MAX),
            largest_bytes: found.counted.range_largest_bytes.unwrap_or(0.0) as u64,
            reclaimed_bytes: found.reclaimed_bytes as u64,
        })
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn at(row: &TelemetryRow, bytes: f64) -> Sample {
    Sample { t_s: seconds(row.t_ns), bytes }
}

#[cfg(test)]
mod tests {
    use super::super::measure::tests::reply;
    use super::*;

    const MIB: f64 = 1_048_576.0;

    fn memory(names: &[&str]) -> Memory {
        let info = |name: &&str| GaugeInfo {
            name: (*name).to_owned(),
            unit: "bytes".to_owned(),
            source: String::new(),
            absent: None,
        };
        Memory::new(&names.iter().map(info).collect::<Vec<_>>())
    }

    fn sampled(t_ms: u64, host: Option<u32>, value: Option<f64>) -> TelemetryRow {
        TelemetryRow { t_ns: t_ms * 1_000_000, host, values: vec![value.map(|mib| mib * MIB)] }
    }

    fn engine(t_ms: u64, active: u64) -> EngineSample {
        let memory = EngineMemory { active_bytes: Some(active), ..EngineMemory::default() };
        EngineSample { t_ns: t_ms * 1_000_000, host: 0, memory }
    }

    fn turns(host: u32) -> Window {
        Window { host, start_ns: 1_000_000_000, end_ns: 3_000_000_000 }
    }

    /// Rises by 64 MiB within 500 ms and falls back; one sample every 50 ms.
    fn saw(host: u32) -> Vec<TelemetryRow> {
        (0..80).map(|i| sampled(i * 50, Some(host), Some(100.0 + (i % 10) as f64 * 64.0 / 9.0))).collect()
    }

    #[test]
    fn swings_are_those_from_the_first_turn_to_the_last() {
        let mut memory = memory(&["rss_bytes"]);
        let found = memory.note(turns(0), &mut saw(0), &[]).unwrap();
        // From 1 s to 3 s: four teeth, the fourth rises to the end of the third second, where the
        // fifth begins.
        assert_eq!(found, Swings { cycles: 4, largest_bytes: 64 * MIB as u64, reclaimed_bytes: 4 * 64 * MIB as u64 });
        assert_eq!(memory.note(turns(7), &mut saw(0), &[]), None, "samples of another process");
        let mut few = saw(0).into_iter().step_by(5).collect();
        assert_eq!(memory.note(turns(0), &mut few, &[]), None, "nine samples are too few for a cycle");
    }

    #[test]
    fn an_idle_stretch_before_the_first_host_says_what_is_jitter() {
        let counted = |idle: bool| {
            let mut memory = memory(&["wired_bytes"]);
            memory.loads(if idle { 990_000_000 } else { 0 });
            memory.note(turns(0), &mut saw(0), &[]).map(|found| found.cycles)
        };
        assert_eq!(counted(false), Some(4));
        // Six times the idle step of 7 MiB between samples is less than a swing of 64 MiB.
        assert_eq!(counted(true), Some(4));
        let mut memory = memory(&["wired_bytes"]);
        memory.loads(990_000_000);
        let mut telemetry: Vec<TelemetryRow> =
            (0..20).map(|i| sampled(i * 50, None, Some(100.0 + (i * i % 7) as f64 * 20.0))).collect();
        telemetry.extend(saw(0).into_iter().skip(20));
        let found = memory.note(turns(0), &mut telemetry, &[]).unwrap();
        assert_eq!(found.cycles, 0, "240 MiB and more would be a swing");
    }

    #[test]
    fn the_engine_s_samples_stand_between_the_gauges_in_rows_of_their_own() {
        let mut memory = memory(&["rss_bytes", "engine_active_bytes", "engine_cache_bytes", "engine_peak_bytes"]);
        let mut telemetry = vec![sampled(1000, Some(0), Some(1.0)), sampled(1050, Some(0), Some(2.0))];
        telemetry.iter_mut().for_each(|row| row.values.resize(4, None));
        memory.note(turns(0), &mut telemetry, &[engine(1010, 7), engine(1060, 8)]);
        let told: Vec<_> =
            telemetry.iter().map(|row| (row.t_ns / 1_000_000, row.values[0].is_some(), row.values[1])).collect();
        assert_eq!(told, [(1000, true, None), (1010, false, Some(7.0)), (1050, true, None), (1060, false, Some(8.0))]);
        assert!(telemetry.iter().all(|row| row.values.len() == 4));
        assert_eq!(memory.unsaid("engine_active_bytes"), None);
        assert!(memory.unsaid("engine_cache_bytes").is_some());
        assert_eq!(memory.unsaid("rss_bytes"), None, "not a gauge of the engine");
    }

    #[test]
    fn samples_that_cannot_be_are_refused() {
        let origin = Origin::start();
        let check = |stamps: &[u64], interval| {
            let mut reply = reply(&[13, 15], true);
            reply.memory_samples = stamps
                .iter()
                .map(|ms| MemorySample { t_ns: ms * 1_000_000, memory: EngineMemory::default() })
                .collect();
            engine_samples(&reply, 0, interval, 0, &origin).map(|samples| samples.len())
        };
        assert_eq!(check(&[1, 5, 16], Some(5)), Ok(3));
        assert!(check(&[5, 5], Some(5)).unwrap_err().contains("rise"));
        assert!(check(&[0, 5], Some(5)).unwrap_err().contains("outside"));
        assert!(check(&[5, 17], Some(5)).unwrap_err().contains("outside"));
        assert!(check(&(1..16).collect::<Vec<_>>(), Some(5)).unwrap_err().contains("most"));
        assert!(check(&[5], None).unwrap_err().contains("most"), "not requested");
        assert_eq!(check(&[], None), Ok(0));
    }
}
