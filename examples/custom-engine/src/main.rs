//! An engine host: a program that any `inferometer` drives as an `exec` engine.

mod engine;

use std::process::ExitCode;

fn main() -> ExitCode {
    inferometer_host::serve(&[&engine::Custom])
}
