//! Findings, their severity, and the resulting grade of a machine.

use serde::Serialize;

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// Useful to know when reading results.
    Note,
    /// Makes results worse.
    Warning,
}

impl Level {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warning => "warning",
        }
    }
}

/// The differences that a machine in its current state can be expected to distinguish from noise
/// (docs/explanation/method.md#figures-of-a-gate: the defaults of delta). An A/B session measures
/// this: its pilot refuses a delta that is hopeless given the spread of its A/A pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Grade {
    /// A quiet machine.
    A,
    /// Like a shared virtual machine.
    B,
    /// Like a hosted runner.
    C,
    /// Measurements made now are meaningless.
    D,
}

impl Grade {
    /// The smallest difference in percent to gate on, if any.
    #[must_use]
    pub fn delta_percent(self) -> Option<f64> {
        match self {
            Grade::A => Some(1.0),
            Grade::B => Some(3.0),
            Grade::C => Some(5.0),
            Grade::D => None,
        }
    }

    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Grade::A => "a quiet machine: gate on differences of 1 % and more",
            Grade::B => "as good as a shared virtual machine: gate on differences of 3 % and more",
            Grade::C => "as good as a hosted runner: gate on differences of 5 % and more",
            Grade::D => "not fit: measurements made now do not describe the engine",
        }
    }

    /// The best grade that all findings allow.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        findings.iter().map(|finding| finding.at_best).max().unwrap_or(Grade::A)
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub topic: &'static str,
    pub level: Level,
    pub seen: String,
    /// What to do, if something can be done.
    pub advice: Option<String>,
    /// The best grade possible with this finding.
    pub at_best: Grade,
}

impl Finding {
    #[must_use]
    pub fn ok(topic: &'static str, seen: impl Into<String>) -> Self {
        Self { topic, level: Level::Ok, seen: seen.into(), advice: None, at_best: Grade::A }
    }

    /// Useful to know; does not make results worse.
    #[must_use]
    pub fn note(topic: &'static str, seen: impl Into<String>, advice: &str) -> Self {
        Self { topic, level: Level::Note, seen: seen.into(), advice: Some(advice.to_owned()), at_best: Grade::A }
    }

    /// Makes results worse.
    #[must_use]
    pub fn warning(topic: &'static str, seen: impl Into<String>, advice: &str) -> Self {
        Self { level: Level::Warning, ..Self::note(topic, seen, advice) }
    }

    /// Limits the grade.
    #[must_use]
    pub fn at_best(self, at_best: Grade) -> Self {
        Self { at_best, ..self }
    }

    /// The system does not report it: no claim and no advice.
    #[must_use]
    pub fn not_visible(topic: &'static str, what: &str) -> Self {
        Self { topic, level: Level::Note, seen: format!("not visible: {what}"), advice: None, at_best: Grade::A }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_sets_the_grade() {
        let with = |grades: &[Grade]| {
            let finding = |grade: &Grade| Finding::note("topic", "seen", "advice").at_best(*grade);
            Grade::of(&grades.iter().map(finding).collect::<Vec<_>>())
        };
        assert_eq!(with(&[]), Grade::A);
        assert_eq!(with(&[Grade::A, Grade::C, Grade::B]), Grade::C);
        assert_eq!(with(&[Grade::D, Grade::A]), Grade::D);
        // docs/explanation/method.md#figures-of-a-gate: quiet machine, shared virtual machine,
        // hosted runner.
        assert_eq!([Grade::A, Grade::B, Grade::C].map(|grade| grade.delta_percent().unwrap()), [1.0, 3.0, 5.0]);
        assert_eq!(Grade::D.delta_percent(), None);
    }

    #[test]
    fn what_is_not_visible_costs_nothing() {
        let finding = Finding::not_visible("heat", "no sensor");
        assert_eq!((finding.level, finding.at_best, finding.advice), (Level::Note, Grade::A, None));
    }
}
