//! `inferometer doctor`

mod deep;

use std::path::PathBuf;
use std::process::ExitCode;

use super::printer::{Layout, Printer};
use crate::report::text::paragraph;
use crate::run::lock::{LockError, Measuring};
use crate::spec::Machine;
use crate::telemetry::fitness;
use crate::telemetry::fitness::{Finding, Grade, Level};
use crate::telemetry::machine::machine;
use inferometer_protocol::units;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder for records; checked for free space
    #[arg(long, value_name = "DIR", default_value = "results")]
    results: PathBuf,
    /// Try every gauge, profiler, tensor library and gate here, for about a minute, and report what
    /// works, what does not, and what differs from what was promised
    #[arg(long)]
    deep: bool,
    /// Format of the findings
    #[arg(long, value_enum, default_value_t = Layout::Table)]
    format: Layout,
}

/// Advice, not a verdict: the exit code is always 0.
pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    let machine = machine();
    let mut findings = fitness::look(&args.results);
    findings.push(other_measurement());
    let grade = Grade::of(&findings);
    let deep = match args.deep {
        true => Some(deep::look(&mut |what| printer.note(format_args!("trying {what}")))?),
        false => None,
    };
    match args.format {
        Layout::Json => {
            let data = serde_json::json!({
                "inferometer_version": env!("CARGO_PKG_VERSION"),
                "machine": machine,
                "grade": grade,
                "smallest_delta_percent": grade.delta_percent(),
                "findings": findings,
                "deep": deep,
            });
            printer.line(serde_json::to_string_pretty(&data)?);
        }
        Layout::Table => {
            let deep = deep.map_or_else(String::new, |report| headed(&report));
            printer.styled(table(&machine, &findings) + &deep);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The report of what was tried, with what a reader elsewhere must know.
fn headed(report: &deep::Report) -> String {
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let mlx = if cfg!(feature = "mlx") { ", MLX on the CPU" } else { "" };
    format!("\ninferometer {} ({build}{mlx})\n{}", env!("CARGO_PKG_VERSION"), report.text())
}

fn other_measurement() -> Finding {
    const TOPIC: &str = "other measurement";
    match Measuring::acquire(false, &|| false, |_| {}) {
        Ok(_) => Finding::ok(TOPIC, "none is running"),
        Err(LockError::Busy { holder }) => {
            let seen = format!("one is running on this machine ({holder})");
            Finding::warning(TOPIC, seen, "wait for it: two measurements disturb each other").at_best(Grade::D)
        }
        Err(error) => Finding::not_visible(TOPIC, &error.to_string()),
    }
}

fn table(machine: &Machine, findings: &[Finding]) -> String {
    let mut text = String::new();
    paragraph(&mut text, &describe(machine), "");
    text.push('\n');
    let topics = findings.iter().map(|f| f.topic.len()).max().unwrap_or_default();
    let indent = " ".repeat("warning".len() + 2 + topics + 2);
    for finding in findings {
        let color = match finding.level {
            Level::Ok => 32,
            Level::Note => 36,
            Level::Warning => 33,
        };
        let (level, topic) = (finding.level.name(), finding.topic);
        let mut lines = String::new();
        paragraph(&mut lines, &format!("{level:<7}  {topic:<topics$}  {}", finding.seen), &indent);
        text += &lines.replacen(level, &format!("\x1b[{color}m{level}\x1b[0m"), 1);
        if let Some(advice) = &finding.advice {
            paragraph(&mut text, &format!("{indent}-> {advice}"), &format!("{indent}   "));
        }
    }
    text + "\n" + &verdict(findings)
}

/// The grade, and what keeps it from being better.
fn verdict(findings: &[Finding]) -> String {
    let grade = Grade::of(findings);
    let mut text = format!("Grade {grade:?}: {}.", grade.meaning());
    if grade > Grade::A {
        let reasons: Vec<&str> = findings.iter().filter(|f| f.at_best == grade).map(|f| f.topic).collect();
        text += &format!(" Because of: {}.", reasons.join(", "));
    }
    let mut lines = String::new();
    paragraph(&mut lines, &text, "");
    lines
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grade_comes_with_what_it_is_for() {
        let guest = Finding::note("virtual machine", "a guest", "pairs").at_best(Grade::B);
        let text = verdict(&[guest.clone(), Finding::ok("load", "none")]);
        assert!(
            text.starts_with("Grade B: ") && text.contains("3 %") && text.contains("Because of: virtual"),
            "{text}"
        );
        assert!(!text.contains("load") && text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(verdict(&[]).starts_with("Grade A: "));
        let busy = Finding::warning("load", "8 of 8 cores busy", "wait").at_best(Grade::D);
        let table = table(&Machine::default(), &[guest, busy]);
        let words = table.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("Grade D: ") && words.ends_with("Because of: load."), "{table}");
    }
}
