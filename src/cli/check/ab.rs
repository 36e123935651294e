//! A scenario's A/B settings as lines of the plan.

use crate::report::text::{label, plural};
use crate::run;
use crate::spec::{AbSettings, BuildSettings, Gate, OutputsRule, Plan, Scale, Scenario};

/// # Errors
/// When this machine cannot measure a gate of the scenario.
pub fn able(scenario: &Scenario) -> anyhow::Result<()> {
    Ok(run::ab::able::check(scenario)?)
}

/// A line per gate, one for `[ab]` and one for `[build]`; empty if the scenario has none of these.
pub fn facts(scenario: &Scenario, plan: &Plan) -> Vec<(&'static str, String)> {
    let mut facts: Vec<_> = scenario.gates.iter().map(|one| ("gate", gate(one, scenario, plan))).collect();
    if !facts.is_empty() || scenario.ab != AbSettings::default() {
        facts.push(("ab", session(&scenario.ab)));
    }
    facts.extend(scenario.build.iter().map(|one| ("build", build(one))));
    facts
}

fn gate(gate: &Gate, scenario: &Scenario, plan: &Plan) -> String {
    let engine = |index: u32| scenario.engines[index as usize].label.as_str();
    let cells = plan.cells.iter().filter(|cell| gate.cells.matches(cell, engine(cell.engine))).count();
    let cells = if gate.cells.is_all() {
        "all cells".to_owned()
    } else {
        format!("{} of {}: {}", cells, plural(plan.cells.len(), "cell"), label(&gate.cells.to_string()))
    };
    let delta = match gate.delta {
        Some(least) => format!("delta {}", gate.metric.scale().delta(least)),
        None if gate.metric.scale() == Scale::Ratio => "delta as the machine allows".to_owned(),
        None => "the usual delta".to_owned(),
    };
    format!("{}, {delta}, {cells}", gate.metric.name())
}

fn session(ab: &AbSettings) -> String {
    let outputs = match ab.outputs {
        OutputsRule::Margin { logits } => format!("margin of {logits} logits"),
        rule => rule.name().to_owned(),
    };
    let pilot = match ab.pilot {
        0 => "no pilot".to_owned(),
        pairs => format!("a pilot of {}", plural(pairs as usize, "A/A pair")),
    };
    let hosts = if ab.resident { "two resident hosts" } else { "a fresh host each turn" };
    let test = if ab.self_test { "; a self-test" } else { "" };
    format!("outputs {outputs}; {pilot}; {hosts}; order by seed {}{test}", ab.seed)
}

fn build(build: &BuildSettings) -> String {
    format!("{}; then {}", label(&build.command.join(" ")), label(&build.program.join(" ")))
}
