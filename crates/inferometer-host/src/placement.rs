//! Where the host's threads run: the `affinity` option of built-in engines, and the quality of
//! service on macOS.
//!
//! Both are set before the engine starts threads, which inherit them, and are then read back from
//! the system. Threads that a library started at load time are bound too.

use std::collections::{BTreeMap, BTreeSet};

use crate::Result;
use inferometer_protocol::{EngineError, EngineSpec, Kind, OptionSpec, Value};

pub const AFFINITY: &str = "affinity";

/// An option of every engine that this binary hosts.
pub const OPTION: OptionSpec = OptionSpec {
    name: AFFINITY,
    kind: Kind::Text,
    choices: &[],
    paths: false,
    meaning: "CPUs that the engine's threads may use, such as \"0,1\" or \"0-3,8\" (Linux; default: the system's)",
};

/// CPU numbers are below this.
const MOST_CPUS: usize = 1024;

/// The CPUs and details in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// CPUs in force, if `affinity` was given.
    pub affinity: Option<String>,
    pub details: BTreeMap<String, String>,
}

/// Removes `affinity` from the engine's options and applies it to this thread and the threads it
/// starts; on macOS requests the user-interactive quality of service. Call it on the thread that
/// will generate.
///
/// # Errors
/// When the list is malformed, or names a CPU that this process may not use.
pub fn place(engine: &mut EngineSpec) -> Result<Placement> {
    let affinity = engine.options.remove(AFFINITY).map(|value| in_force(&value)).transpose()?;
    Ok(Placement { affinity, details: os::details() })
}

/// How many CPUs an engine with these options may use, as far as this process knows: those of its
/// `affinity`, else those of this process.
#[must_use]
pub fn allowed(engine: &EngineSpec) -> Option<usize> {
    let listed = engine.options.get(AFFINITY).and_then(Value::as_text).and_then(|text| cpus(text).ok());
    listed.map(|cpus| cpus.len()).or_else(|| std::thread::available_parallelism().ok().map(usize::from))
}

fn in_force(value: &Value) -> Result<String> {
    let text = value.as_text().unwrap_or_default();
    let asked = cpus(text).map_err(|why| EngineError::bad_request(format!("{AFFINITY} = {value}: {why}")))?;
    let refused = |why: String| EngineError::unsupported(format!("{AFFINITY} = {value}: {why}"));
    let got = os::bind(&asked).map_err(refused)?;
    if got == asked {
        // In a test, the process's other threads belong to other tests.
        if !cfg!(test) {
            os::bind_others(&asked).map_err(refused)?;
        }
        return Ok(written(&got));
    }
    let absent = written(&asked.difference(&got).copied().collect());
    Err(EngineError::bad_request(format!(
        "{AFFINITY} = {value}: CPU {absent} does not exist or this process may not use it; of this list it may use {}",
        if got.is_empty() { "none".to_owned() } else { written(&got) }
    )))
}

/// The CPUs of a list such as `0,1` or `0-3,8`.
fn cpus(text: &str) -> std::result::Result<BTreeSet<usize>, String> {
    let bad = |part: &str| format!("{part:?} is not a CPU number or a range; write \"0,1\" or \"0-3,8\"");
    let number = |part: &str| -> std::result::Result<usize, String> {
        let cpu = part.trim().parse().map_err(|_| bad(part))?;
        if cpu < MOST_CPUS {
            Ok(cpu)
        } else {
            Err(format!("CPU {cpu} is above the highest possible number, {}", MOST_CPUS - 1))
        }
    };
    let mut all = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(format!("the range {part:?} is reversed"));
        }
        all.extend(first..=last);
    }
    Ok(all)
}

/// The shortest text for this list.
fn written(cpus: &BTreeSet<usize>) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for &cpu in cpus {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let range =
        |(first, last): (usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(target_os = "linux")]
mod os {
    use std::collections::{BTreeMap, BTreeSet};

    use rustix::io::Errno;
    use rustix::process::Pid;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// Binds this thread and returns which of these CPUs it then has.
    pub fn bind(cpus: &BTreeSet<usize>) -> Result<BTreeSet<usize>, String> {
        let mut set = CpuSet::new();
        cpus.iter().for_each(|cpu| set.set(*cpu));
        match sched_setaffinity(None, &set) {
            Ok(()) => current().map_err(|e| format!("cannot read back the CPUs in force: {e}")),
            // None of the CPUs exists: nothing was changed.
            Err(Errno::INVAL) => Ok(BTreeSet::new()),
            Err(e) => Err(format!("the system refused: {e}")),
        }
    }

    /// Binds the process's other threads: a library may have started some at load time, as OpenBLAS
    /// does.
    pub fn bind_others(cpus: &BTreeSet<usize>) -> Result<(), String> {
        let failed = |e: &dyn std::fmt::Display| format!("not all threads of the host could be bound: {e}");
        let mut set = CpuSet::new();
        cpus.iter().for_each(|cpu| set.set(*cpu));
        for task in fs_err::read_dir("/proc/self/task").map_err(|e| failed(&e))? {
            let name = task.map_err(|e| failed(&e))?.file_name();
            let thread = name.to_str().and_then(|id| id.parse().ok()).and_then(Pid::from_raw);
            match sched_setaffinity(thread, &set) {
                // The thread has ended.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(e) => return Err(failed(&e)),
            }
        }
        Ok(())
    }

    fn current() -> rustix::io::Result<BTreeSet<usize>> {
        let set = sched_getaffinity(None)?;
        Ok((0..super::MOST_CPUS).filter(|cpu| set.is_set(*cpu)).collect())
    }

    /// The CPUs that this thread may use, whether or not `affinity` was given.
    pub fn details() -> BTreeMap<String, String> {
        let cpus = current().ok().map(|cpus| ("cpus".to_owned(), super::written(&cpus)));
        cpus.into_iter().collect()
    }
}

#[cfg(target_os = "macos")]
mod os {
    use std::collections::{BTreeMap, BTreeSet};

    use libc::qos_class_t::QOS_CLASS_USER_INTERACTIVE;

    pub fn bind_others(_cpus: &BTreeSet<usize>) -> Result<(), String> {
        Ok(())
    }

    pub fn bind(_cpus: &BTreeSet<usize>) -> Result<BTreeSet<usize>, String> {
        Err("macOS cannot bind a thread to a CPU; remove the option (docs/guides/macos.md describes what the host does instead)"
            .to_owned())
    }

    /// Requests the quality of service that gets performance cores first, and returns the result.
    pub fn details() -> BTreeMap<String, String> {
        // SAFETY: concerns the calling thread alone.
        let status = unsafe { libc::pthread_set_qos_class_self_np(QOS_CLASS_USER_INTERACTIVE, 0) };
        let qos = match status {
            0 => in_force(),
            error => format!("not set: {}", std::io::Error::from_raw_os_error(error)),
        };
        BTreeMap::from([("qos".to_owned(), qos)])
    }

    fn in_force() -> String {
        let (mut class, mut priority) = (libc::qos_class_t::QOS_CLASS_UNSPECIFIED, 0);
        // SAFETY: this thread is alive; both places are written before they are read.
        let status = unsafe { libc::pthread_get_qos_class_np(libc::pthread_self(), &mut class, &mut priority) };
        match (status, class) {
            (0, QOS_CLASS_USER_INTERACTIVE) => "user-interactive".to_owned(),
            (0, other) => format!("requested user-interactive, got class {:#x}", other as u32),
            (error, _) => {
                format!(
                    "requested user-interactive; could not read it back: {}",
                    std::io::Error::from_raw_os_error(error)
                )
            }
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
mod os {
    use std::collections::{BTreeMap, BTreeSet};

    pub fn bind_others(_cpus: &BTreeSet<usize>) -> Result<(), String> {
        Ok(())
    }

    pub fn bind(_cpus: &BTreeSet<usize>) -> Result<BTreeSet<usize>, String> {
        Err("not supported on this system; remove the option".to_owned())
    }

    pub fn details() -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferometer_protocol::Settings;

    #[test]
    fn lists_are_read_and_written() {
        for (text, short) in [("0,1", "0-1"), ("0-3,8", "0-3,8"), (" 2 , 0 ", "0,2"), ("5", "5"), ("3,1-2,2", "1-3")] {
            assert_eq!(written(&cpus(text).unwrap()), short);
        }
        for (text, said) in [
            ("", "not a CPU number"),
            ("0,", "not a CPU number"),
            ("a", "\"a\""),
            ("-1", "not a CPU number"),
            ("0-1-2", "\"1-2\""),
            ("3-1", "reversed"),
            ("0-99999999999", "possible number, 1023"),
        ] {
            let why = cpus(text).unwrap_err();
            assert!(why.contains(said), "{text:?}: {why}");
        }
    }

    fn placed(affinity: impl Into<Value>) -> Result<Placement> {
        let options = Settings::from([(AFFINITY.to_owned(), affinity.into())]);
        let mut engine = EngineSpec { name: "e".into(), label: "e".into(), options };
        // On its own thread: the binding stays with the thread.
        let placed = std::thread::spawn(move || (place(&mut engine), engine)).join().unwrap();
        assert!(placed.1.options.is_empty(), "the engine itself knows no such option");
        placed.0
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_cpus_asked_for_are_the_cpus_in_force() {
        let mut free = EngineSpec { name: "e".into(), label: "e".into(), options: Settings::new() };
        let allowed = place(&mut free).unwrap();
        assert_eq!(allowed.affinity, None);
        let first = cpus(&allowed.details["cpus"]).unwrap().first().unwrap().to_string();
        let bound = placed(first.as_str()).unwrap();
        assert_eq!(bound.affinity.as_ref(), Some(&first));
        assert_eq!(bound.details["cpus"], first, "read back from the system");
        for absent in ["1023".to_owned(), format!("{first},1023")] {
            let error = placed(absent.as_str()).unwrap_err().message;
            assert!(error.contains("CPU 1023 does not exist"), "{error}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_value() {
        let error = placed("all").unwrap_err().message;
        assert!(error.contains("affinity = all") || error.contains("affinity = \"all\""), "{error}");
        assert!(placed(3i64).is_err());
    }
}
