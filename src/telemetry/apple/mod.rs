//! Sources on macOS: kernel calls for the process and the machine, macmon for the chip, and the
//! system's own state.
//!
//! Only `kernel` and `chip` call the system, without converting anything; everything else is built
//! and tested on every system, with structures as the kernel writes them.

mod background;
#[cfg(target_os = "macos")]
mod chip;
mod footprint;
#[cfg(target_os = "macos")]
mod kernel;
mod layout;
mod memory;
mod power;
mod process;
mod sources;
mod state;
mod waiting;

#[cfg(target_os = "macos")]
pub(super) fn sources() -> Vec<Box<dyn super::Source>> {
    vec![
        Box::new(sources::ProcessUsage::new(kernel::usage, kernel::tick())),
        Box::new(sources::ProcessTask::new(kernel::task)),
        Box::new(sources::MachineMemory::new(kernel::vm_statistics, kernel::page_bytes())),
        Box::new(sources::SwapUsed::new(kernel::swap_used_bytes)),
        Box::new(sources::MachineState::new(kernel::state)),
        Box::new(chip::Chip::default()),
    ]
}

/// Whether the machine runs on a battery; `None` if the system does not report it.
#[cfg(target_os = "macos")]
pub(super) fn on_battery() -> Option<bool> {
    kernel::state().on_battery().map(|on| on > 0.0)
}

/// CPU time of a process, in units of the kernel's ticks of 42 ns.
#[cfg(target_os = "macos")]
pub(super) fn cpu_time(pid: u32) -> Option<std::time::Duration> {
    let usage = process::Usage::of(&kernel::usage(pid).ok()?)?;
    usage.cpu_ns(kernel::tick()).map(std::time::Duration::from_nanos)
}

#[cfg(target_os = "macos")]
pub(super) use waiting::Reading;

/// The sums of a process's waiting; `None` while a thread of it can run.
#[cfg(target_os = "macos")]
pub(super) fn waiting(pid: u32) -> Option<Reading> {
    let at_ns = inferometer_protocol::clock::now_ns();
    let task = process::Task::of(&kernel::task(pid).ok()?)?;
    let usage = process::Usage::of(&kernel::usage(pid).ok()?)?;
    Reading::of(&usage, &task, kernel::tick(), at_ns)
}

/// Resets the high-water mark of a process's footprint.
///
/// # Errors
/// Why there is no mark.
#[cfg(target_os = "macos")]
pub(super) fn reset_peak(pid: u32) -> Result<(), String> {
    footprint::reset(pid, kernel::reset_footprint_interval, kernel::usage)
}

/// Highest footprint of a process since the reset, in bytes.
#[cfg(target_os = "macos")]
pub(super) fn peak(pid: u32) -> Option<u64> {
    process::Usage::of(&kernel::usage(pid).ok()?)?.interval_peak_bytes
}

/// Footprint of a process, in bytes.
#[cfg(target_os = "macos")]
pub(super) fn footprint(pid: u32) -> Option<u64> {
    Some(process::Usage::of(&kernel::usage(pid).ok()?)?.footprint_bytes)
}

/// Instructions and cycles of a process since it began; `None` if the processor does not count
/// them.
#[cfg(target_os = "macos")]
pub(super) fn counts(pid: u32) -> Result<Option<(u64, u64)>, String> {
    let usage = kernel::usage(pid)?;
    Ok(process::Usage::of(&usage).and_then(|usage| usage.instructions.zip(usage.cycles)))
}
