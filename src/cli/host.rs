//! `inferometer host`

use std::process::ExitCode;

use super::printer::Printer;
use crate::engines;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_args: &Args, _printer: &Printer) -> anyhow::Result<ExitCode> {
    Ok(inferometer_host::serve(&engines::built_in()))
}
