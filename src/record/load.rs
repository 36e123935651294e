//! How an iteration was checked for load by other programs.

/// What the check of an iteration rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoadCheck {
    /// Samples of gauges taken within the iteration.
    Gauges,
    /// The kernel's counters before and after it, which are enough for the shortest iteration.
    Counters,
    /// Neither can tell: its figures may be those of a busy machine.
    Unjudged,
}

impl LoadCheck {
    pub const ALL: [Self; 3] = [Self::Gauges, Self::Counters, Self::Unjudged];

    /// The name in the record.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gauges => "gauges",
            Self::Counters => "counters",
            Self::Unjudged => "unjudged",
        }
    }

    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|check| check.name() == name)
    }
}
