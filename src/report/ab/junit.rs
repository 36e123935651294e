//! A session as JUnit XML for CI systems: one suite with a test case for the session and one for
//! each gate.

use super::summary::{AbSummary, GateSummary};
use super::words;
use crate::report::svg::escape;
use crate::report::text;
use inferometer_stats::sequential::Verdict;

/// `junit.xml`. The session's case reports what belongs to no gate: outputs, failures, invalid
/// pairs, a refused pilot.
#[must_use]
pub fn render(summary: &AbSummary) -> String {
    let mut cases = vec![session(summary)];
    cases.extend(summary.gates.iter().map(|gate| of_gate(summary, gate)));
    let count = |mark: &str| cases.iter().filter(|case| case.contains(mark)).count();
    let (failures, skipped) = (count("<failure "), count("<skipped "));
    let name = escape(&text::label(&summary.scenario));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"inferometer ab: {name}\" tests=\"{}\" \
         failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" timestamp=\"{}\">\n{}</testsuite>\n</testsuites>\n",
        cases.len(),
        escape(&text::label(&summary.started_utc)),
        cases.concat()
    )
}

fn session(summary: &AbSummary) -> String {
    let of_gates = summary.gates.iter().any(|gate| gate.verdict == summary.verdict);
    let reason = summary.reasons.join(" ");
    // If a gate has the same verdict, that gate's case reports it.
    let outcome = if of_gates { None } else { outcome(summary, summary.verdict, &reason) };
    case(summary, "session", outcome.as_deref(), &format!("{}\n{}", words::counts(summary), words::outputs(summary)))
}

fn of_gate(summary: &AbSummary, gate: &GateSummary) -> String {
    let name = format!("{} in {}", gate.judgement.info.gate.metric.name(), words::cells(gate));
    // The gate is open because something else decided the session; another case reports that.
    let verdict = match gate.verdict {
        Verdict::NotDecided if summary.verdict != Verdict::NotDecided => None,
        verdict => outcome(summary, verdict, &gate.sentence),
    };
    let skipped = "<skipped message=\"not decided: the session ended first\"/>".to_owned();
    let outcome = if gate.verdict == Verdict::NotDecided && verdict.is_none() { Some(skipped) } else { verdict };
    case(summary, &name, outcome.as_deref(), &gate.sentence)
}

/// The `failure` or `skipped` element of a case that did not pass.
fn outcome(summary: &AbSummary, verdict: Verdict, reason: &str) -> Option<String> {
    let message = escape(&text::sentence(reason));
    let code = verdict.exit_code();
    if code == 0 {
        None
    } else if code == Verdict::Inconclusive.exit_code() && summary.neutral {
        Some(format!("<skipped message=\"{}: {message}\"/>", verdict.name()))
    } else {
        Some(format!("<failure type=\"{}\" message=\"{message}\"/>", verdict.name()))
    }
}

fn case(summary: &AbSummary, name: &str, outcome: Option<&str>, said: &str) -> String {
    format!(
        "<testcase classname=\"inferometer.{}\" name=\"{}\">{}<system-out>{}</system-out></testcase>\n",
        escape(&text::label(&summary.scenario)),
        escape(name),
        outcome.unwrap_or_default(),
        escape(said)
    )
}
