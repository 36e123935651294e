//! The sampling profiler of an engine host: pprof's SIGPROF timer, which counts CPU time of the
//! whole process, split by phase.
//!
//! It runs only on request and never in a timed pass. The signal handler does not allocate: it
//! unwinds with the tables that every build has (frame pointers are not needed) into a preallocated
//! buffer. It takes no sample while the thread is inside the unwinder, the loader or the kernel's
//! clock page, where unwinding is unsafe. A sample names functions, not lines: an inlined call
//! counts for the function that contains it.

mod symbols;

use std::collections::{BTreeMap, HashMap};

use self::symbols::Symbols;
use inferometer_protocol::clock::now_ns;
use inferometer_protocol::profile::{UNKNOWN, clean};
use inferometer_protocol::{Phase, Profile, ProfilePart, ProfileStack, SampleClock};

/// Valid sampling frequencies. The kernel's tick allows at most 1000 on most systems, often 250.
pub const FREQUENCIES_HZ: std::ops::RangeInclusive<u32> = 1..=10_000;

/// Whether this build can sample its own process.
pub const AVAILABLE: bool =
    cfg!(all(any(target_os = "linux", target_os = "macos"), any(target_arch = "x86_64", target_arch = "aarch64")));

/// Objects in which no sample is taken: unwinding there may wait for a lock that the interrupted
/// thread holds. The C library itself is not listed, so that time in `memcpy` is sampled.
const UNSAFE_TO_UNWIND: [&str; 5] = ["libgcc_s", "ld-linux", "libpthread", "vdso", "libunwind"];

/// Maximum number of distinct stacks in a profile: with 128 frames each they fit on one line of the
/// protocol.
const MOST_STACKS: usize = 20_000;

/// Replaces the outer frames of a stack that is too deep.
pub const CALLERS_CUT: &str = "[callers beyond the deepest frames kept]";
/// Replaces the inner frames of rare stacks when there are too many distinct stacks.
const RARE_CUT: &str = "[rarer stacks, cut short]";

/// pprof's signal handler; the next frame is the kernel's return from the signal.
const HANDLER: &str = "perf_signal_handler";

#[derive(Debug, thiserror::Error)]
pub enum SamplingError {
    #[error("a profiler cannot take {0} samples per second; give a frequency from 1 to 10000")]
    Frequency(u32),
    #[error("the profiler is already running; send `profile_stop` first")]
    Running,
    #[error("a process cannot sample itself on this system")]
    Unavailable,
    #[error("the sampling profiler failed: {0}")]
    Failed(String),
}

/// A running profiler. Dropping it stops it.
pub struct Running {
    guard: pprof::ProfilerGuard<'static>,
    frequency_hz: u32,
    /// Everything sampled before the current phase began: pprof only accumulates.
    before: Option<pprof::UnresolvedReport>,
    phase: Option<Phase>,
    since: Moment,
    parts: Vec<Part>,
}

/// Samples of a phase, before their addresses are resolved.
struct Part {
    phase: Option<Phase>,
    duration_ns: u64,
    cpu_ns: u64,
    counts: HashMap<Stack, u64>,
}

/// Addresses, innermost first, and the thread's name.
type Stack = (String, Vec<usize>);

#[derive(Clone, Copy)]
struct Moment {
    wall_ns: u64,
    cpu_ns: u64,
}

impl Moment {
    fn now() -> Self {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Self { wall_ns: now_ns(), cpu_ns: (cpu.tv_sec as u64) * 1_000_000_000 + cpu.tv_nsec as u64 }
    }
}

/// Starts sampling all threads of this process, outside of any phase.
///
/// # Errors
/// For a frequency outside [`FREQUENCIES_HZ`], when the profiler is already running, or when the
/// system refuses.
pub fn start(frequency_hz: u32) -> Result<Running, SamplingError> {
    if !FREQUENCIES_HZ.contains(&frequency_hz) {
        return Err(SamplingError::Frequency(frequency_hz));
    }
    if !AVAILABLE {
        return Err(SamplingError::Unavailable);
    }
    let guard = pprof::ProfilerGuardBuilder::default()
        .frequency(frequency_hz as i32)
        .blocklist(&UNSAFE_TO_UNWIND)
        .build()
        .map_err(|error| match error {
            pprof::Error::Running => SamplingError::Running,
            other => SamplingError::Failed(other.to_string()),
        })?;
    Ok(Running { guard, frequency_hz, before: None, phase: None, since: Moment::now(), parts: Vec::new() })
}

impl Running {
    /// Ends the current phase; later samples belong to `phase`.
    pub fn phase(&mut self, phase: Option<Phase>) {
        let taken = self.take();
        self.go_on(phase, taken);
    }

    fn go_on(&mut self, phase: Option<Phase>, taken: Result<(), SamplingError>) {
        self.phase = phase;
        match taken {
            // The time that this reading took belongs to no phase.
            Ok(()) => self.since = Moment::now(),
            Err(error) => {
                tracing::warn!(
                    "cannot read the samples of a phase; they and its time count for the next phase: {error}"
                )
            }
        }
    }

    /// Stops sampling and resolves the function names, after everything that is measured.
    ///
    /// # Errors
    /// When the samples cannot be read.
    pub fn stop(mut self) -> Result<Profile, SamplingError> {
        self.take()?;
        let Self { guard, frequency_hz, parts, .. } = self;
        drop(guard);
        Ok(Names::default().profile(frequency_hz, parts))
    }

    /// Adds the samples since the phase began to its part.
    fn take(&mut self) -> Result<(), SamplingError> {
        let now = Moment::now();
        let all = self.guard.report().build_unresolved().map_err(|error| SamplingError::Failed(error.to_string()))?;
        let part = match self.parts.iter().position(|part| part.phase == self.phase) {
            Some(at) => &mut self.parts[at],
            None => {
                self.parts.push(Part { phase: self.phase, duration_ns: 0, cpu_ns: 0, counts: HashMap::new() });
                self.parts.last_mut().expect("pushed just now")
            }
        };
        part.duration_ns += now.wall_ns.saturating_sub(self.since.wall_ns);
        part.cpu_ns += now.cpu_ns.saturating_sub(self.since.cpu_ns);
        for (found, count) in &all.data {
            let before = self.before.as_ref().and_then(|before| before.data.get(found)).copied().unwrap_or(0);
            let new = u64::try_from(count - before).unwrap_or(0);
            if new > 0 {
                let thread = String::from_utf8_lossy(&found.thread_name[..found.thread_name_length]).into_owned();
                let addresses = found.frames.iter().map(|frame| frame.ip() as usize).collect();
                *part.counts.entry((thread, addresses)).or_default() += new;
            }
        }
        self.before = Some(all);
        Ok(())
    }
}

/// Function names by address, each looked up once.
#[derive(Default)]
struct Names {
    /// Index into `functions`.
    of: HashMap<usize, u32>,
    functions: Vec<String>,
    places: HashMap<String, u32>,
    symbols: Symbols,
}

impl Names {
    fn profile(mut self, frequency_hz: u32, parts: Vec<Part>) -> Profile {
        let most = MOST_STACKS / parts.len().max(1);
        let rare = self.place(RARE_CUT);
        let parts = parts.into_iter().map(|part| {
            let stacks = self.stacks(part.counts);
            ProfilePart {
                phase: part.phase,
                duration_ns: part.duration_ns,
                cpu_ns: Some(part.cpu_ns),
                stacks: bounded(stacks, most, rare),
            }
        });
        let parts = parts.collect();
        Profile {
            profiler: "pprof".to_owned(),
            clock: SampleClock::Cpu,
            frequency_hz,
            functions: self.functions,
            parts,
        }
    }

    /// Distinct stacks by name, without the profiler's own frames.
    fn stacks(&mut self, counts: HashMap<Stack, u64>) -> Vec<ProfileStack> {
        let mut named = BTreeMap::<(String, Vec<u32>), u64>::new();
        for ((thread, addresses), count) in counts {
            let deepest = addresses.len() == pprof::MAX_DEPTH;
            // A return address lies after its call, which may be the last instruction of its
            // function.
            let mut frames: Vec<u32> =
                addresses.iter().map(|address| self.function(address.saturating_sub(1))).collect();
            let handler = |place: &u32| self.functions[*place as usize].trim_start_matches('_') == HANDLER;
            let own = frames.iter().rposition(handler).map_or(0, |at| (at + 2).min(frames.len()));
            if let Some(interrupted) = addresses.get(own) {
                frames[own] = self.function(*interrupted);
            }
            frames.drain(..own);
            // At a thread's start there is no caller; unwinding reports a null address.
            while frames.last().is_some_and(|place| self.functions[*place as usize] == UNKNOWN) {
                frames.pop();
            }
            if frames.is_empty() || frames.iter().any(|place| is_profiler(&self.functions[*place as usize])) {
                continue;
            }
            if deepest {
                frames.push(self.place(CALLERS_CUT));
            }
            frames.reverse();
            *named.entry((thread, frames)).or_default() += count;
        }
        named.into_iter().map(|((thread, frames), count)| ProfileStack { thread, frames, count }).collect()
    }

    fn function(&mut self, address: usize) -> u32 {
        if let Some(place) = self.of.get(&address) {
            return *place;
        }
        let name = self.symbols.name(address);
        let place = self.place(&clean(&name));
        self.of.insert(address, place);
        place
    }

    /// Index of a name in `functions`.
    fn place(&mut self, name: &str) -> u32 {
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = self.functions.len() as u32;
        self.functions.push(name.to_owned());
        self.places.insert(name.to_owned(), place);
        place
    }
}

/// A signal may also interrupt the thread that reads the samples.
fn is_profiler(function: &str) -> bool {
    function.contains("sampling::Running") || function.starts_with("pprof::")
}

/// At most `most` stacks: the rarest lose their inner frames, replaced by `rare`, until there are
/// few enough.
fn bounded(mut stacks: Vec<ProfileStack>, most: usize, rare: u32) -> Vec<ProfileStack> {
    if stacks.len() <= most {
        return stacks;
    }
    stacks.sort_by_key(|stack| std::cmp::Reverse(stack.count));
    let rest = stacks.split_off(most / 2);
    for depth in [32, 16, 8, 4, 2, 1, 0] {
        let mut cut = BTreeMap::<(&str, Vec<u32>), u64>::new();
        for stack in &rest {
            let mut frames = stack.frames.clone();
            if frames.len() > depth {
                frames.truncate(depth);
                frames.push(rare);
            }
            *cut.entry((&stack.thread, frames)).or_default() += stack.count;
        }
        if cut.len() <= most - most / 2 || depth == 0 {
            let owned =
                |((thread, frames), count): ((&str, _), _)| ProfileStack { thread: thread.to_owned(), frames, count };
            stacks.extend(cut.into_iter().map(owned));
            break;
        }
    }
    stacks
}

/// A process has only one timer: tests that sample take turns.
#[cfg(test)]
pub(crate) static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests;
