//! `inferometer host`

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::ExitCode;

use anyhow::Context;

use super::printer::Printer;
use crate::engine;
use crate::run::client::PARENT_VARIABLE;
use crate::run::host::{End, serve};

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args, _printer: &Printer) -> anyhow::Result<ExitCode> {
    die_with_parent()?;
    crate::telemetry::peak::use_one_arena();
    let output = take_stdout().context("cannot set standard output aside for the protocol")?;
    let end = serve(io::stdin(), output, engine::registry(), || std::process::exit(0));
    Ok(match end {
        End::Closed | End::InputEnded => ExitCode::SUCCESS,
        End::Broken | End::Panicked => ExitCode::FAILURE,
    })
}

/// On Linux the kernel kills this process when its parent ends; elsewhere the end of standard input does.
fn die_with_parent() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("cannot tie this host's life to its parent's")?;
    // The parent may have ended before the kernel knew what to do then.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    match std::env::var(PARENT_VARIABLE) {
        Ok(expected) if parent.as_deref() != Some(&expected) => {
            anyhow::bail!("the process that started this host ({expected}) is gone")
        }
        _ => Ok(()),
    }
}

/// Standard output for the protocol alone: whatever else prints there, such as a library of an engine, goes to stderr.
fn take_stdout() -> io::Result<File> {
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    // SAFETY: descriptor 1 is open (it was just duplicated); `ManuallyDrop` keeps it from being closed here.
    let mut stdout = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(1) });
    rustix::io::dup2(io::stderr(), &mut stdout)?;
    Ok(output.into())
}
