//! The profiler of a profiled iteration, in the engine host or attached from outside, and the files
//! made from its profile.

mod external;
pub mod files;
mod source;

use crate::origin::Origin;
use crate::record::SpanRow;
use crate::run::host::HostError;
use crate::run::interrupt::Interrupt;
use crate::run::pool::Resident;
use crate::spec::ProfileSettings;
use inferometer_protocol::Profile;

use external::Outside;
pub use external::parse;
pub use source::{Source, System, Tool, choose};

/// A profiler during one iteration.
pub enum Profiler {
    /// No stacks are requested.
    Off,
    /// The engine host's profiler.
    Own,
    Outside(Box<Outside>),
    /// No profiler is available, for this reason.
    Missing(String),
}

/// The profiler's result for one iteration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    pub profile: Option<Profile>,
    /// Why a requested profile is missing.
    pub missing: Option<String>,
}

impl Seen {
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn missing(why: &str) -> Self {
        Self { profile: None, missing: Some(why.to_owned()) }
    }
}

impl From<Result<Profile, String>> for Seen {
    fn from(result: Result<Profile, String>) -> Self {
        match result {
            Ok(profile) => Self { profile: Some(profile), missing: None },
            Err(why) => Self::missing(&why),
        }
    }
}

impl Profiler {
    /// Starts the profiler for the settings and the host's process. A missing or failing profiler
    /// is not an error.
    ///
    /// # Errors
    /// When the host is lost in the process.
    pub fn start(
        resident: &mut Resident,
        settings: &ProfileSettings,
        interrupt: &Interrupt,
    ) -> Result<Self, HostError> {
        if !settings.flamegraph {
            return Ok(Self::Off);
        }
        let Some(pid) = resident.measured() else {
            return Ok(Self::Missing("the engine works on another machine".to_owned()));
        };
        let own = resident.receipt.capabilities.profile;
        let tool = match choose(System::here(), settings.profiler, own, || source::is_python(pid, &resident.command)) {
            Source::Own => {
                return match resident.host.profile_start(settings.frequency_hz) {
                    Ok(()) => Ok(Self::Own),
                    Err(HostError::Engine(error)) => Ok(Self::Missing(error.message)),
                    Err(error) => Err(error),
                };
            }
            Source::Outside(tool) => tool,
            Source::None(why) => return Ok(Self::Missing(why)),
        };
        let attached = Outside::start(tool, pid, settings.frequency_hz, resident.longest, interrupt);
        Ok(attached.map_or_else(Self::Missing, |outside| Self::Outside(Box::new(outside))))
    }

    /// Stops the profiler. `spans` are those of the iteration; they assign samples to phases if the
    /// profiler cannot.
    ///
    /// # Errors
    /// When the host is lost in the process.
    pub fn stop(
        self,
        resident: &mut Resident,
        spans: &[SpanRow],
        origin: &Origin,
        interrupt: &Interrupt,
    ) -> Result<Seen, HostError> {
        Ok(match self {
            Self::Off => Seen::nothing(),
            Self::Missing(why) => Seen::missing(&why),
            Self::Own => match resident.host.profile_stop() {
                Ok(profile) => Ok(profile).into(),
                Err(HostError::Engine(error)) => Seen::missing(&error.message),
                Err(error) => return Err(error),
            },
            Self::Outside(outside) => outside.stop(spans, origin, interrupt).into(),
        })
    }
}
