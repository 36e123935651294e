//! The `inferometer` program: parses arguments, runs a verb, returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    inferometer::cli::main()
}
