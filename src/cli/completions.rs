//! `inferometer completions`

use std::process::ExitCode;

use super::printer::Printer;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell to generate the script for
    shell: clap_complete::Shell,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "inferometer", &mut script);
    printer.data(String::from_utf8(script)?);
    Ok(ExitCode::SUCCESS)
}
