//! `inferometer schema`

use std::process::ExitCode;

use schemars::schema_for;

use super::printer::Printer;
use crate::record::Manifest;
use crate::scenario;
use crate::spec::protocol::{Envelope, FromHost, ToHost};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the schema describes
    #[arg(value_name = "OF")]
    of: Of,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Of {
    /// The scenario file (scenarios/scenario.schema.json)
    Scenario,
    /// A line of the engine protocol from the harness to a host
    ProtocolToHost,
    /// A line of the engine protocol from a host to the harness
    ProtocolFromHost,
    /// The record's run.json
    Record,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let schema = match args.of {
        Of::Scenario => scenario::schema(),
        Of::ProtocolToHost => schema_for!(Envelope<ToHost>).to_value(),
        Of::ProtocolFromHost => schema_for!(Envelope<FromHost>).to_value(),
        Of::Record => schema_for!(Manifest).to_value(),
    };
    printer.line(serde_json::to_string_pretty(&schema)?);
    Ok(ExitCode::SUCCESS)
}
