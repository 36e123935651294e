//! `inferometer doctor`

use std::path::PathBuf;
use std::process::ExitCode;

use super::printer::{Format, Printer};
use crate::run::lock::{LockError, Measuring};
use crate::spec::Machine;
use crate::telemetry::fitness::{self, Finding, Grade};
use crate::telemetry::machine::machine;
use crate::units;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder that records go to
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
    /// How to print the findings
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Advice, not a verdict: the exit code is 0 whatever is found.
pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    if matches!(args.format, Format::Csv | Format::Md) {
        anyhow::bail!("`doctor` prints table or json");
    }
    let machine = machine();
    let mut findings = fitness::look(&args.results);
    findings.push(other_measurement());
    match args.format {
        Format::Json => {
            let data = serde_json::json!({
                "inferometer_version": env!("CARGO_PKG_VERSION"),
                "machine": machine,
                "findings": findings,
            });
            printer.line(serde_json::to_string_pretty(&data)?);
        }
        _ => printer.data(table(&machine, &findings)),
    }
    Ok(ExitCode::SUCCESS)
}

fn other_measurement() -> Finding {
    const TOPIC: &str = "other measurement";
    match Measuring::acquire(false, |_| {}) {
        Ok(_) => Finding::ok(TOPIC, "none is running"),
        Err(LockError::Busy { holder }) => {
            let seen = format!("one is running on this machine ({holder})");
            Finding::new(TOPIC, Grade::Warning, seen, "wait for it: two measurements disturb each other")
        }
        Err(error) => Finding::not_visible(TOPIC, &error.to_string()),
    }
}

fn table(machine: &Machine, findings: &[Finding]) -> String {
    let mut text = format!("{}\n\n", describe(machine));
    let width = findings.iter().map(|f| f.topic.len()).max().unwrap_or_default();
    for finding in findings {
        let color = match finding.grade {
            Grade::Ok => 32,
            Grade::Note => 36,
            Grade::Warning => 33,
        };
        let grade = finding.grade.name();
        text += &format!("\x1b[{color}m{grade:<7}\x1b[0m  {:<width$}  {}\n", finding.topic, finding.seen);
        if let Some(advice) = &finding.advice {
            text += &format!("{:7}  {:<width$}  -> {advice}\n", "", "");
        }
    }
    let count = |grade| findings.iter().filter(|f| f.grade == grade).count();
    let plural = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    text + &match (count(Grade::Warning), count(Grade::Note)) {
        (0, 0) => "\nThis machine is fit to measure.\n".to_owned(),
        (0, notes) => format!("\nThis machine is fit to measure ({}).\n", plural(notes, "note")),
        (warnings, notes) => {
            format!(
                "\n{} and {}: results will be noisier or slower for it.\n",
                plural(warnings, "warning"),
                plural(notes, "note")
            )
        }
    }
}

/// The machine in one line, of what is known.
fn describe(machine: &Machine) -> String {
    let cores = match (machine.physical_cores, machine.logical_cores) {
        (Some(physical), Some(logical)) if physical != logical => Some(format!("{physical} cores ({logical} threads)")),
        (_, Some(logical)) => Some(format!("{logical} cores")),
        _ => None,
    };
    let parts = [
        Some(machine.os.clone()),
        machine.kernel.as_ref().map(|kernel| format!("kernel {kernel}")),
        Some(machine.arch.clone()),
        machine.cpu.clone(),
        cores,
        machine.memory_bytes.map(units::bytes),
    ];
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}
