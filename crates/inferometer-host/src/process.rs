//! The process around the serve loop: standard output, the parent's end, the allocator.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use inferometer_protocol::PARENT_VARIABLE;

use crate::Engine;
use crate::heap;
use crate::serve::{End, serve_on};

/// Exit code of a host that could not start; it has sent nothing.
const EXIT_NOT_STARTED: u8 = 2;

/// Makes this process an engine host: answers the harness on standard input and output until it
/// closes. The harness selects one of `engines` by name. Call this first in `main`, before any
/// thread starts.
///
/// Everything else that the process prints goes to standard error, which the harness keeps as the
/// host's log.
#[must_use]
#[expect(clippy::print_stderr, reason = "the host's standard error is its log")]
pub fn serve(engines: &[&dyn Engine]) -> ExitCode {
    if let Err(problem) = die_with_parent() {
        eprintln!("{problem}");
        return ExitCode::from(EXIT_NOT_STARTED);
    }
    heap::use_one_arena();
    let output = match take_stdout() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("cannot reserve standard output for the protocol: {error}");
            return ExitCode::from(EXIT_NOT_STARTED);
        }
    };
    match serve_on(io::stdin(), output, engines, || std::process::exit(0)) {
        End::Closed | End::InputEnded => ExitCode::SUCCESS,
        End::Broken | End::Panicked => ExitCode::FAILURE,
    }
}

/// On Linux the kernel kills this process when its parent ends; elsewhere the end of standard input
/// ends it.
fn die_with_parent() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| format!("cannot make this host end with its parent: {error}"))?;
    // The parent may have ended before the call above.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    match std::env::var(PARENT_VARIABLE) {
        Ok(expected) if parent.as_deref() != Some(&expected) => {
            Err(format!("the process that started this host ({expected}) has ended"))
        }
        _ => Ok(()),
    }
}

/// Reserves standard output for the protocol: other output, such as an engine library's, goes to
/// standard error.
fn take_stdout() -> io::Result<File> {
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    // SAFETY: descriptor 1 is open (it was just duplicated); `ManuallyDrop` keeps it from being
    // closed here.
    let mut stdout = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(1) });
    rustix::io::dup2(io::stderr(), &mut stdout)?;
    Ok(output.into())
}
