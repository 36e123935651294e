//! Selects the profiler for an engine.

use std::path::Path;

use crate::spec::ProfilerChoice;
use crate::telemetry;

/// A profiler that attaches to a process from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Linux; native code with unwind tables.
    Perf,
    /// macOS; native code.
    Sample,
    /// Python functions.
    PySpy,
}

impl Tool {
    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tool::Perf => "perf",
            Tool::Sample => "sample",
            Tool::PySpy => "py-spy",
        }
    }

    /// How to install it.
    #[must_use]
    pub fn how_to_get(self) -> &'static str {
        match self {
            Tool::Perf => "install your system's package (`linux-perf` or `linux-tools`)",
            Tool::Sample => "it is part of macOS",
            Tool::PySpy => "install it with `pip install py-spy`",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The host's profiler.
    Own,
    Outside(Tool),
    /// No profiler, for this reason.
    None(String),
}

/// The systems that profilers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    Linux,
    Macos,
    Other,
}

impl System {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        match () {
            () if cfg!(target_os = "macos") || telemetry::lacking::macos() => Self::Macos,
            () if cfg!(target_os = "linux") => Self::Linux,
            () => Self::Other,
        }
    }
}

/// Selects the profiler of a host. `own`: whether the host has one; `is_python`: whether it is a
/// Python program.
///
/// On macOS the host's own one runs only on request: it unwinds the stack in a signal handler,
/// which has ended programs on Apple Silicon (<https://github.com/tikv/pprof-rs/issues/187>).
pub fn choose(system: System, asked: ProfilerChoice, own: bool, is_python: impl FnOnce() -> bool) -> Source {
    let native = if system == System::Macos { Tool::Sample } else { Tool::Perf };
    let tool = match asked {
        ProfilerChoice::Pprof if own => return Source::Own,
        ProfilerChoice::Auto if own && system != System::Macos => return Source::Own,
        ProfilerChoice::Pprof => {
            let told =
                "its host has no profiler (capability `profile`); `profiler = \"auto\"` attaches one from outside";
            return Source::None(told.to_owned());
        }
        ProfilerChoice::Perf => Tool::Perf,
        ProfilerChoice::Sample => Tool::Sample,
        ProfilerChoice::PySpy => Tool::PySpy,
        // The interpreter's native stacks say little; the program's functions are wanted.
        ProfilerChoice::Auto if is_python() => Tool::PySpy,
        ProfilerChoice::Auto => native,
    };
    let elsewhere = match tool {
        Tool::Perf => system != System::Linux,
        Tool::Sample => system != System::Macos,
        Tool::PySpy => false,
    };
    if elsewhere {
        return Source::None(format!("`{}` is not available on this system; use `profiler = \"auto\"`", tool.name()));
    }
    Source::Outside(tool)
}

/// Whether a process runs the Python interpreter: by its executable if the system reports it (a
/// launcher may have replaced itself), else by its command line.
pub fn is_python(pid: u32, command: &[String]) -> bool {
    let named = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        name.starts_with("python") || name.starts_with("pypy")
    };
    if cfg!(target_os = "linux")
        && let Ok(executable) = fs_err::read_link(format!("/proc/{pid}/exe"))
    {
        return named(&executable);
    }
    command.first().is_some_and(|program| named(Path::new(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_s_own_profiler_comes_first_and_python_s_for_python() {
        let auto = |own, python| choose(System::Linux, ProfilerChoice::Auto, own, || python);
        assert_eq!(auto(true, true), Source::Own);
        assert_eq!(auto(false, true), Source::Outside(Tool::PySpy));
        assert_eq!(auto(false, false), Source::Outside(Tool::Perf));
        for system in [System::Linux, System::Macos] {
            let asked = |asked, own| choose(system, asked, own, || false);
            assert_eq!(asked(ProfilerChoice::PySpy, true), Source::Outside(Tool::PySpy));
            let foreign = if system == System::Macos { ProfilerChoice::Perf } else { ProfilerChoice::Sample };
            for (choice, told) in [(foreign, "on this system"), (ProfilerChoice::Pprof, "capability `profile`")] {
                let Source::None(why) = asked(choice, false) else { panic!("{choice:?}") };
                assert!(why.contains(told), "{why}");
            }
        }
    }

    #[test]
    fn on_macos_the_host_is_sampled_from_outside_unless_its_own_profiler_is_asked_for() {
        let on_macos = |asked, own, python| choose(System::Macos, asked, own, || python);
        assert_eq!(on_macos(ProfilerChoice::Auto, true, false), Source::Outside(Tool::Sample));
        assert_eq!(on_macos(ProfilerChoice::Auto, false, false), Source::Outside(Tool::Sample));
        assert_eq!(on_macos(ProfilerChoice::Auto, true, true), Source::Outside(Tool::PySpy));
        assert_eq!(on_macos(ProfilerChoice::Pprof, true, false), Source::Own);
    }

    #[test]
    fn a_python_program_is_known() {
        assert!(!is_python(std::process::id(), &["python3".to_owned()]) || !cfg!(target_os = "linux"));
        // No such process: only the command line is known.
        assert!(is_python(u32::MAX, &["/opt/bin/python3.12".to_owned(), "x.py".to_owned()]));
        assert!(!is_python(u32::MAX, &["./engine".to_owned(), "python".to_owned()]));
    }
}
