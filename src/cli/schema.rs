//! `inferometer schema`

use std::process::ExitCode;

use schemars::schema_for;

use super::printer::Printer;
use crate::record::Manifest;
use crate::scenario;
use inferometer_protocol::messages;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Schema to print
    #[arg(value_name = "OF")]
    of: Of,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Of {
    /// The scenario file (scenarios/scenario.schema.json)
    Scenario,
    /// A line of the engine protocol in either direction (docs/reference/protocol.schema.json)
    Protocol,
    /// The record's run.json
    Record,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let schema = match args.of {
        Of::Scenario => scenario::schema(),
        Of::Protocol => messages::schema(),
        Of::Record => schema_for!(Manifest).to_value(),
    };
    printer.line(serde_json::to_string_pretty(&schema)?);
    Ok(ExitCode::SUCCESS)
}
