//! Profilers that attach to an engine's process from outside, for hosts without a profiler.
//!
//! They come with the system or are installed by hand, may be missing or forbidden, and their
//! output is untrusted text. Every problem becomes the reason for a missing profile, never a
//! failure of the iteration.

mod perf;
mod process;
mod py_spy;
mod sample;
mod stacks;

use std::path::PathBuf;
use std::time::Duration;

use process::{Process, ended_well, said};

use super::source::Tool;
use crate::origin::Origin;
use crate::record::SpanRow;
use crate::run::interrupt::Interrupt;
use crate::run::pool::find_program;
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::{Phase, Profile, SampleClock};

/// Longest wait for a tool to attach, to end when asked to, and to print its samples.
const ATTACHING: Duration = Duration::from_secs(20);
const ENDING: Duration = Duration::from_secs(60);
const PRINTING: Duration = Duration::from_secs(180);
/// Largest output of a tool that is read, in bytes.
const MOST_BYTES: u64 = 256 << 20;
/// Assumed duration of an iteration before one was measured.
const USUAL: Duration = Duration::from_secs(10);

/// The profile in what `tool` printed, with one part for each of `durations`.
///
/// `phase` gives the phase of a sample's time, in nanoseconds of the machine's monotonic clock.
/// Only perf has times; other tools' samples belong to no phase.
///
/// # Errors
/// When it is not the tool's format, or a profile that cannot be: a record with one would not open.
pub fn parse(
    tool: Tool,
    frequency_hz: u32,
    printed: &[u8],
    phase: impl Fn(u64) -> Option<Phase>,
    durations: &[(Option<Phase>, u64)],
) -> Result<Profile, String> {
    let (stacks, clock) = match tool {
        Tool::Perf => (perf::stacks(printed, phase)?, SampleClock::Cpu),
        Tool::Sample => (sample::stacks(printed)?, SampleClock::Wall),
        Tool::PySpy => (py_spy::stacks(printed), SampleClock::Cpu),
    };
    let (functions, parts) = stacks.parts(durations);
    let profile = Profile { profiler: tool.name().to_owned(), clock, frequency_hz, functions, parts };
    profile.check().map_err(|why| format!("the profile that `{}` gave cannot be: {why}", tool.name()))?;
    Ok(profile)
}

/// A tool attached to an engine's process.
pub struct Outside {
    tool: Tool,
    process: Process,
    frequency_hz: u32,
    since_ns: u64,
    /// The duration given to a tool that needs one.
    told: Duration,
    dir: tempfile::TempDir,
}

impl Outside {
    /// Attaches `tool` to the process `pid`: `perf` to all current processes of its group and their
    /// children, py-spy to the process and its children, `sample` to the process only. `longest` is
    /// the duration of the longest measured iteration.
    ///
    /// # Errors
    /// Why it is not possible here, and what to do.
    pub fn start(
        tool: Tool,
        pid: u32,
        frequency_hz: u32,
        longest: Option<Duration>,
        interrupt: &Interrupt,
    ) -> Result<Self, String> {
        let name = tool.name();
        if find_program(name).is_none() {
            return Err(format!("`{name}` is not installed; {}", tool.how_to_get()));
        }
        let dir = tempfile::tempdir().map_err(|e| format!("cannot create a folder for the output of `{name}`: {e}"))?;
        let (data, out, err) = (dir.path().join("data"), dir.path().join("out"), dir.path().join("err"));
        let told = longest.unwrap_or(USUAL).mul_f64(1.25) + Duration::from_secs(1);
        let command = match tool {
            Tool::Perf => perf::record(pid, frequency_hz, &data),
            Tool::Sample => sample::command(pid, told, frequency_hz, &data),
            Tool::PySpy => py_spy::command(pid, frequency_hz, &data),
        };
        let mut process = Process::start(&command, &out, &err)?;
        let attached = process.until(ATTACHING, interrupt, |_| match tool {
            Tool::Perf => data.metadata().is_ok_and(|file| file.len() > 0),
            Tool::Sample | Tool::PySpy => [&out, &err].into_iter().any(|file| said(file).contains("Sampling process")),
        });
        attached.map_err(|why| match tool {
            Tool::Perf => format!("{why}{}", perf::hint()),
            Tool::PySpy => format!("{why}; {}", py_spy::HINT),
            Tool::Sample => why,
        })?;
        if tool == Tool::Perf {
            // It has opened its counters, but does not report when they run.
            interrupt.pause(perf::SETTLING);
        }
        Ok(Self { tool, process, frequency_hz, since_ns: now_ns(), told, dir })
    }

    /// Ends the tool and reads its samples. If they have times, `spans` assign them to phases.
    ///
    /// # Errors
    /// Why there is no profile.
    pub fn stop(mut self, spans: &[SpanRow], origin: &Origin, interrupt: &Interrupt) -> Result<Profile, String> {
        let name = self.tool.name();
        let whole_ns = now_ns().saturating_sub(self.since_ns);
        let data = self.dir.path().join("data");
        if self.tool == Tool::Sample {
            // `sample` runs for the duration given to it.
            let status = self.process.end(self.told + ENDING, &data, MOST_BYTES, interrupt)?;
            if !ended_well(status) {
                return Err(format!("`{name}` failed ({status}){}", self.process.words()));
            }
        } else {
            if let Some(status) = self.process.status() {
                return Err(format!("`{name}` ended during the generation ({status}){}", self.process.words()));
            }
            self.process.interrupt();
            let status = self.process.end(ENDING, &data, MOST_BYTES, interrupt)?;
            if !ended_well(status) {
                return Err(format!("`{name}` failed ({status}){}", self.process.words()));
            }
        }
        let read =
            |path: &PathBuf| inferometer_protocol::bounded::read_limited(path, MOST_BYTES).map_err(|e| e.to_string());
        let phases = Phases::of(spans);
        let (printed, durations) = match self.tool {
            Tool::Perf => (read(&self.print(&perf::script(&data), interrupt)?)?, phases.durations(whole_ns)),
            Tool::Sample => (read(&data)?, vec![(None, self.told_ns())]),
            Tool::PySpy => (read(&data)?, vec![(None, whole_ns)]),
        };
        let phase = |ns| phases.at(origin.t_ns(ns));
        let profile = parse(self.tool, self.frequency_hz, &printed, phase, &durations)?;
        if profile.parts.iter().all(|part| part.stacks.is_empty()) {
            return Err(format!("`{name}` took no sample: the generation was too short, or used no CPU time"));
        }
        Ok(profile)
    }

    /// Runs a program that prints the recorded samples; returns the output file.
    fn print(&self, command: &[String], interrupt: &Interrupt) -> Result<PathBuf, String> {
        let (out, err) = (self.dir.path().join("printed"), self.dir.path().join("printing"));
        let mut process = Process::start(command, &out, &err)?;
        let status = process.end(PRINTING, &out, MOST_BYTES, interrupt)?;
        if status.success() {
            Ok(out)
        } else {
            Err(format!("`{}` failed ({status}){}", command[..2].join(" "), process.words()))
        }
    }

    fn told_ns(&self) -> u64 {
        u64::try_from(self.told.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The engine's phases over time, from the run's origin.
struct Phases(Vec<(u64, u64, Phase)>);

impl Phases {
    fn of(spans: &[SpanRow]) -> Self {
        let phases = spans.iter().filter(|span| matches!(span.phase, Phase::Prefill | Phase::Decode));
        let mut phases: Vec<_> = phases.map(|span| (span.start_ns, span.end_ns, span.phase)).collect();
        phases.sort_unstable_by_key(|(start, end, _)| (*start, *end));
        Self(phases)
    }

    fn at(&self, t_ns: u64) -> Option<Phase> {
        let before = self.0.partition_point(|(start, _, _)| *start <= t_ns);
        let (_, end, phase) = self.0[..before].last()?;
        (t_ns < *end).then_some(*phase)
    }

    /// Durations of prefill, decode, and the rest of the whole time.
    fn durations(&self, whole_ns: u64) -> Vec<(Option<Phase>, u64)> {
        let of = |wanted: Phase| {
            let own = self.0.iter().filter(|(_, _, phase)| *phase == wanted);
            own.map(|(start, end, _)| end.saturating_sub(*start)).fold(0_u64, u64::saturating_add)
        };
        let (prefill, decode) = (of(Phase::Prefill), of(Phase::Decode));
        let left = whole_ns.saturating_sub(prefill.saturating_add(decode));
        vec![(Some(Phase::Prefill), prefill), (Some(Phase::Decode), decode), (None, left)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by fuzzing: such a profile was recorded, and the record did not open again.
    #[test]
    fn an_impossible_number_of_samples_is_refused() {
        let parsed = |printed: &str| parse(Tool::PySpy, 97, printed.as_bytes(), |_| None, &[(None, 5)]);
        assert_eq!(parsed("main;work 7\n").unwrap().parts[0].stacks[0].count, 7);
        assert_eq!(
            parsed("main;work 17405300000000\n").unwrap_err(),
            "the profile that `py-spy` gave cannot be: it has an impossible number of samples"
        );
    }

    #[test]
    fn a_sample_falls_into_the_phase_of_its_time() {
        let span = |phase, start_ns, end_ns| SpanRow { request: 0, phase, index: 0, start_ns, end_ns };
        let phases = Phases::of(&[
            span(Phase::Decode, 200, 300),
            span(Phase::Prefill, 100, 190),
            span(Phase::Forward, 0, 1000),
            span(Phase::Prefill, 400, 450),
        ]);
        let at = [99, 100, 189, 190, 200, 299, 300, 420, 450].map(|t| phases.at(t));
        let (p, d) = (Some(Phase::Prefill), Some(Phase::Decode));
        assert_eq!(at, [None, p, p, None, d, d, None, p, None]);
        assert_eq!(phases.durations(1000), [(p, 140), (d, 100), (None, 760)]);
    }
}
