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
    let count =
        |kind: fn(&Outcome) -> bool| cases.iter().filter_map(|case| case.outcome.as_ref()).filter(|o| kind(o)).count();
    let failures = count(|outcome| matches!(outcome, Outcome::Failure { .. }));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    let name = escape(&text::label(&summary.scenario));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"inferometer ab: {name}\" tests=\"{}\" \
         failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" timestamp=\"{}\">\n{}</testsuite>\n</testsuites>\n",
        cases.len(),
        escape(&text::label(&summary.started_utc)),
        cases.iter().map(Case::xml).collect::<String>()
    )
}

/// Why a case did not pass, as plain text.
enum Outcome {
    Failure { verdict: Verdict, message: String },
    Skipped(String),
}

struct Case {
    /// The scenario's name.
    class: String,
    name: String,
    /// `None` if it passed.
    outcome: Option<Outcome>,
    said: String,
}

impl Case {
    fn of(summary: &AbSummary, name: &str, outcome: Option<Outcome>, said: String) -> Self {
        Self { class: text::label(&summary.scenario), name: name.to_owned(), outcome, said }
    }

    fn xml(&self) -> String {
        let outcome = match &self.outcome {
            None => String::new(),
            Some(Outcome::Skipped(message)) => format!("<skipped message=\"{}\"/>", escape(message)),
            Some(Outcome::Failure { verdict, message }) => {
                format!("<failure type=\"{}\" message=\"{}\"/>", verdict.name(), escape(message))
            }
        };
        format!(
            "<testcase classname=\"inferometer.{}\" name=\"{}\">{outcome}<system-out>{}</system-out></testcase>\n",
            escape(&self.class),
            escape(&self.name),
            escape(&self.said)
        )
    }
}

fn session(summary: &AbSummary) -> Case {
    let of_gates = summary.gates.iter().any(|gate| gate.verdict == summary.verdict);
    let reason = summary.reasons.join(" ");
    // If a gate has the same verdict, that gate's case reports it.
    let outcome = if of_gates { None } else { outcome(summary, summary.verdict, &reason) };
    Case::of(summary, "session", outcome, format!("{}\n{}", words::counts(summary), words::outputs(summary)))
}

fn of_gate(summary: &AbSummary, gate: &GateSummary) -> Case {
    let name = format!("{} in {}", gate.judgement.info.gate.metric.name(), words::cells(gate));
    // The gate is open because something else decided the session; another case reports that.
    let outcome = match gate.verdict {
        Verdict::NotDecided if summary.verdict != Verdict::NotDecided => {
            Some(Outcome::Skipped("not decided: the session ended first".to_owned()))
        }
        verdict => outcome(summary, verdict, &gate.sentence),
    };
    Case::of(summary, &name, outcome, gate.sentence.clone())
}

fn outcome(summary: &AbSummary, verdict: Verdict, reason: &str) -> Option<Outcome> {
    let message = text::sentence(reason);
    let code = verdict.exit_code();
    if code == 0 {
        None
    } else if code == Verdict::Inconclusive.exit_code() && summary.neutral {
        Some(Outcome::Skipped(format!("{}: {message}", verdict.name())))
    } else {
        Some(Outcome::Failure { verdict, message })
    }
}
