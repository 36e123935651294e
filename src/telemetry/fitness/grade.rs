//! What was found, how bad it is, and the grade that a machine gets for all of it.

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// Worth knowing when reading results.
    Note,
    /// Results will be worse for it.
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

/// Which differences a machine, as it is now, can be expected to tell from noise (METHOD 3, the defaults of delta). An
/// A/B session measures it: its pilot refuses a delta that the spread of its null pairs makes hopeless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Grade {
    /// A quiet machine.
    A,
    /// As a shared virtual machine.
    B,
    /// As a hosted runner.
    C,
    /// Figures of now say nothing.
    D,
}

impl Grade {
    /// The smallest difference in percent to gate on; `None` where there is none.
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
            Grade::D => "not fit: what is measured now says nothing about the engine",
        }
    }

    /// The best grade that all findings leave.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        findings.iter().map(|finding| finding.at_best).max().unwrap_or(Grade::A)
    }
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub topic: &'static str,
    pub level: Level,
    pub seen: String,
    /// What to do, where something can be done.
    pub advice: Option<String>,
    /// The best grade that a machine with this finding gets.
    pub at_best: Grade,
}

impl Finding {
    #[must_use]
    pub fn ok(topic: &'static str, seen: impl Into<String>) -> Self {
        Self { topic, level: Level::Ok, seen: seen.into(), advice: None, at_best: Grade::A }
    }

    /// Worth knowing; results are none the worse for it.
    #[must_use]
    pub fn note(topic: &'static str, seen: impl Into<String>, advice: &str) -> Self {
        Self { topic, level: Level::Note, seen: seen.into(), advice: Some(advice.to_owned()), at_best: Grade::A }
    }

    /// Results will be worse for it.
    #[must_use]
    pub fn warning(topic: &'static str, seen: impl Into<String>, advice: &str) -> Self {
        Self { level: Level::Warning, ..Self::note(topic, seen, advice) }
    }

    /// With this the machine gets no better grade.
    #[must_use]
    pub fn at_best(self, at_best: Grade) -> Self {
        Self { at_best, ..self }
    }

    /// The system does not show it. Nothing to do, and nothing is claimed.
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
        // METHOD 3.9: quiet machine, shared virtual machine, hosted runner.
        assert_eq!([Grade::A, Grade::B, Grade::C].map(|grade| grade.delta_percent().unwrap()), [1.0, 3.0, 5.0]);
        assert_eq!(Grade::D.delta_percent(), None);
    }

    #[test]
    fn what_is_not_visible_costs_nothing() {
        let finding = Finding::not_visible("heat", "no sensor");
        assert_eq!((finding.level, finding.at_best, finding.advice), (Level::Note, Grade::A, None));
    }
}
