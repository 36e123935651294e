//! The engine host: `inferometer-llama-cpp [NAME=VALUE...]`, started by the harness. The arguments
//! are engine options, for scenarios that name it by its command line.

use std::process::ExitCode;

use inferometer_llama_cpp::LlamaCpp;

#[expect(clippy::print_stderr, reason = "the host's standard error is its log")]
fn main() -> ExitCode {
    match LlamaCpp::with_arguments(std::env::args().skip(1)) {
        Ok(engine) => inferometer_host::serve(&[&engine]),
        Err(problem) => {
            eprintln!("inferometer-llama-cpp: {problem}");
            ExitCode::from(2)
        }
    }
}
