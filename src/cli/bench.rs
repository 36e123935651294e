//! `inferometer bench`

use std::process::ExitCode;

use super::printer::Printer;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args, _printer: &Printer) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
