//! `inferometer engines`

mod install;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::cli::printer::{Layout, Printer};
use crate::engines::{self, Known};
use crate::run::conformance::{Check, Outcome, Target, check, names};
use crate::run::interrupt::Interrupt;
use inferometer_protocol::{EngineSpec, Honours, Offer, OptionSpec, Settings, Value, Variant};

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Format of the list
    #[arg(long, value_enum, default_value_t = Layout::Table)]
    format: Layout,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check that a program implements the engine protocol
    Check(CheckArgs),
    /// Install an engine with your python3 and pip, or list those that can be installed
    Install(install::InstallArgs),
    /// Remove an installed engine
    Uninstall(install::UninstallArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// Model for the program to open, if it needs one
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// Engine name for the program to open
    #[arg(long, value_name = "NAME", default_value = "exec")]
    engine: String,
    /// Engine option for the program to open with; a value that is not valid TOML is taken as text
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = option)]
    options: Vec<(String, Value)>,
    /// Longest wait for a single answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    timeout_s: u64,
    /// Run only the checks whose names contain this text
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    only: String,
    /// File to append the program's stderr to; by default it is kept only if a check fails
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Format of the results
    #[arg(long, value_enum, default_value_t = Layout::Table)]
    format: Layout,
    /// The program and its arguments, after `--`; without it, the installed program of the engine
    /// that `--engine` names
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Name of the file with the program's stderr, unless the user names one.
const LOG: &str = "host.log";
/// A check failed.
const EXIT_FAILED: u8 = 1;

fn option(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("must have the form NAME=VALUE")?;
    let parsed = toml::from_str::<Settings>(&format!("value = {value}")).ok().and_then(|mut s| s.remove("value"));
    Ok((name.trim().to_owned(), parsed.unwrap_or_else(|| value.into())))
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<ExitCode> {
    match &args.action {
        Some(Action::Check(args)) => return run_checks(args, printer),
        Some(Action::Install(args)) => {
            return install::install(args, printer).map(|()| ExitCode::SUCCESS);
        }
        Some(Action::Uninstall(args)) => {
            return install::uninstall(args, printer).map(|()| ExitCode::SUCCESS);
        }
        None => {}
    }
    let listed: Vec<Listed> = engines::all().into_iter().map(Listed::of).collect();
    match args.format {
        Layout::Table => printer.data(table(&listed)),
        Layout::Json => printer.line(serde_json::to_string_pretty(&json(&listed))?),
    }
    Ok(ExitCode::SUCCESS)
}

/// The command line's program, or that of the engine that it names.
fn command(args: &CheckArgs, engine: &EngineSpec) -> anyhow::Result<Vec<String>> {
    if !args.command.is_empty() {
        return Ok(args.command.clone());
    }
    match engines::find(&engine.name) {
        Some(Known::Program(program)) => Ok(program.hosting(engine)?),
        _ => bail!("give the program to check after `--`, or an engine that has one with --engine"),
    }
}

fn run_checks(args: &CheckArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir().context("cannot create a temporary folder for the program's log")?;
    let engine = EngineSpec {
        name: args.engine.clone(),
        label: args.engine.clone(),
        options: args.options.iter().cloned().collect(),
    };
    let target = Target {
        command: command(args, &engine)?,
        engine,
        model: args.model.clone(),
        log: args.log.clone().unwrap_or_else(|| folder.path().join(LOG)),
        timeout: Duration::from_secs(args.timeout_s),
        interrupt: Interrupt::new(|_| {}),
    };
    target.interrupt.end_at_first()?;
    let wanted = |name: &str| name.contains(args.only.as_str());
    if !names().into_iter().any(wanted) {
        anyhow::bail!("no check is named like {:?}; the checks are: {}", args.only, names().join(", "));
    }
    let mut lines = Lines::default();
    let checks = check(&target, wanted, &mut |check| {
        if args.format == Layout::Table {
            printer.data(lines.of(check));
        }
    });
    printer.data(lines.flush());
    let count = |outcome| checks.iter().filter(|check| check.outcome == outcome).count();
    let failed = count(Outcome::Failed);
    match args.format {
        Layout::Table => {
            let (passed, skipped) = (count(Outcome::Passed), count(Outcome::Skipped));
            printer.line(format_args!("{passed} passed, {failed} failed, {skipped} skipped"));
        }
        Layout::Json => printer.line(serde_json::to_string_pretty(&checks)?),
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let log = folder.path().join(LOG);
    if args.log.is_none() && log.metadata().is_ok_and(|about| about.len() > 0) {
        // Reasons name it.
        printer.note(format_args!("the program's stderr: {}", folder.keep().join(LOG).display()));
    }
    Ok(ExitCode::from(EXIT_FAILED))
}

/// The lines of the checks. Checks in a row that are skipped for one reason are one line.
#[derive(Default)]
struct Lines {
    skipped: Vec<Check>,
}

impl Lines {
    /// What can be printed after this check.
    fn of(&mut self, check: &Check) -> String {
        let same = self.skipped.last().is_none_or(|last| last.reason == check.reason);
        let mut text = if check.outcome == Outcome::Skipped && same { String::new() } else { self.flush() };
        match check.outcome {
            Outcome::Skipped => self.skipped.push(check.clone()),
            _ => text += &check_line(check),
        }
        text
    }

    /// The line of the checks that were skipped last.
    fn flush(&mut self) -> String {
        match std::mem::take(&mut self.skipped).as_slice() {
            [] => String::new(),
            [one] => check_line(one),
            all => {
                let (first, last) = (all[0].name, all[all.len() - 1].name);
                format!("skip  {} checks ({first} to {last}): {}\n", all.len(), all[0].reason)
            }
        }
    }
}

fn check_line(check: &Check) -> String {
    let word = match check.outcome {
        Outcome::Passed => "pass",
        Outcome::Failed => "FAIL",
        Outcome::Skipped => "skip",
    };
    let reason =
        if check.reason.is_empty() { String::new() } else { format!(": {}", check.reason.replace('\n', "\n      ")) };
    format!("{word}  {}{reason}\n", check.name)
}

/// An engine in the list.
struct Listed {
    offer: Offer,
    /// Why it cannot run on this machine.
    missing: Option<String>,
    /// What the engine reports about itself on this machine.
    notes: BTreeMap<String, String>,
}

impl Listed {
    fn of(engine: Known) -> Self {
        Self { offer: engine.offer(), missing: engine.available().err(), notes: engine.notes() }
    }
}

fn toggles(honours: &Honours) -> String {
    match &honours.toggles {
        Some(toggles) if toggles.is_empty() => "none".to_owned(),
        Some(toggles) => toggles.join(", "),
        None => "listed in its receipt when it runs".to_owned(),
    }
}

fn sampling(honours: &Honours) -> String {
    match honours.sampling {
        Some([]) => "none: one fixed way".to_owned(),
        Some(fields) => fields.join(", "),
        None => "listed in its receipt when it runs".to_owned(),
    }
}

fn table(engines: &[Listed]) -> String {
    let mut text = String::new();
    for Listed { offer, missing, notes } in engines {
        let hosted = if offer.built_in { "built in" } else { "external" };
        text += &format!("{} ({hosted}): {}\n", offer.name, offer.meaning);
        for option in &offer.options {
            let needed = if offer.required.contains(&option.name) { ", required" } else { "" };
            let kind =
                if option.choices.is_empty() { option.kind.words().to_owned() } else { option.choices.join(" | ") };
            text += &format!("  option {}: {} ({kind}{needed})\n", option.name, option.meaning);
        }
        for (what, said) in notes {
            text += &format!("  {what}: {said}\n");
        }
        text += &honoured(offer);
        text += &format!("  runs here: {}\n", missing.as_ref().map_or("yes".to_owned(), |why| format!("no, {why}")));
    }
    text
}

/// Which toggles and sampling fields are honoured: once, or for each available variant.
fn honoured(offer: &Offer) -> String {
    let lines = |when: &str, honours: &Honours| {
        let mut text = format!("  toggles{when}: {}\n", toggles(honours));
        text += &format!("  sampling{when}: {}\n", sampling(honours));
        for (toggle, reason) in &honours.refused {
            text += &format!("  not{when}: {toggle} ({reason})\n");
        }
        text
    };
    if offer.variants.is_empty() {
        return lines("", &offer.honours);
    }
    let variant = |v: &Variant| match &v.missing {
        None => lines(&format!(" with {} = {}", v.option, v.value), &v.honours),
        Some(why) => format!("  {} = {} is not available: {why}\n", v.option, v.value),
    };
    offer.variants.iter().map(variant).collect()
}

fn json(engines: &[Listed]) -> serde_json::Value {
    let option = |offer: &Offer, option: &OptionSpec| {
        serde_json::json!({
            "name": option.name,
            "kind": option.kind,
            "choices": option.choices,
            "required": offer.required.contains(&option.name),
            "meaning": option.meaning,
        })
    };
    let refused = |honours: &Honours| -> serde_json::Map<_, _> {
        honours.refused.iter().map(|(toggle, reason)| ((*toggle).to_owned(), (*reason).into())).collect()
    };
    let variant = |v: &Variant| {
        serde_json::json!({
            "option": v.option,
            "value": v.value,
            "missing": v.missing,
            "toggles": v.honours.toggles,
            "sampling": v.honours.sampling,
            "refused": refused(&v.honours),
        })
    };
    let engine = |Listed { offer, missing, notes }: &Listed| {
        serde_json::json!({
            "name": offer.name,
            "meaning": offer.meaning,
            "built_in": offer.built_in,
            "options": offer.options.iter().map(|o| option(offer, o)).collect::<Vec<_>>(),
            "toggles": offer.honours.toggles,
            "sampling": offer.honours.sampling,
            "refused": refused(&offer.honours),
            "variants": offer.variants.iter().map(variant).collect::<Vec<_>>(),
            "runs_here": missing.is_none(),
            "missing": missing,
            "notes": notes,
        })
    };
    engines.iter().map(engine).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_in_a_row_that_are_skipped_for_one_reason_are_one_line() {
        let mut lines = Lines::default();
        let check = |name, outcome, reason: &str| Check { name, outcome, reason: reason.to_owned() };
        let skipped = |name, reason| check(name, Outcome::Skipped, reason);
        let checks = [
            check("greets", Outcome::Passed, ""),
            skipped("resets", "no model could be opened"),
            skipped("cancels", "no model could be opened"),
            skipped("counts", "no model could be opened"),
            skipped("streams", "it does not declare `stream`"),
            check("ends", Outcome::Failed, "it hangs"),
            skipped("last", "no time"),
        ];
        let text: String = checks.iter().map(|check| lines.of(check)).collect();
        insta::assert_snapshot!(text + &lines.flush(), @r#"
        pass  greets
        skip  3 checks (resets to counts): no model could be opened
        skip  streams: it does not declare `stream`
        FAIL  ends: it hangs
        skip  last: no time
        "#);
    }
}
