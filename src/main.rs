//! The `inferometer` program: parses arguments, runs a verb, returns its exit code.

use std::process::ExitCode;

use inferometer_host::alloc::Counting;

/// Counts the allocations of a profiled pass in an engine host; the system's allocator otherwise.
#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    inferometer::cli::main()
}
