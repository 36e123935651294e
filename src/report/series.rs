//! Oscillation of a series that another program recorded.

use serde_json::{Map, Value, json};

use super::memory::{FIGURES, Measure};
use super::table::Table;
use super::text::plural;
use crate::series::{Series, Unit};
use inferometer_protocol::units::{duration_ns, significant};
use inferometer_stats::oscillation::{Finding, Known, LEAST_SAMPLES, Oscillation, Sample, oscillation};

/// A series and its analysis.
pub struct Analysis<'a> {
    series: &'a Series,
    found: Oscillation,
}

impl<'a> Analysis<'a> {
    /// `shortest_cycle_s` is the shortest cycle of interest, `warm_from_s` where the plateau
    /// begins, both in seconds. `None` with fewer than two samples.
    #[must_use]
    pub fn of(series: &'a Series, shortest_cycle_s: Option<f64>, warm_from_s: Option<f64>) -> Option<Self> {
        let samples: Vec<Sample> = series.samples.iter().map(|&(t_s, bytes)| Sample { t_s, bytes }).collect();
        let least_swing = match series.unit {
            Unit::Bytes => None,
            // A least swing of its own needs a unit; the share of the peak holds for every series.
            Unit::Other(_) => Some(0.0),
        };
        let known = Known { shortest_cycle_s, warm_from_s, least_swing, ..Known::default() };
        Some(Self { series, found: oscillation(&[&samples], &known)? })
    }

    fn measure(&self) -> Measure<'_> {
        match &self.series.unit {
            Unit::Bytes => Measure::Bytes,
            Unit::Other(unit) => Measure::Number(unit),
        }
    }

    /// Figures with their meanings, the finding, and notes; each line ended by a newline.
    #[must_use]
    pub fn terminal(&self) -> String {
        let rows: Vec<_> = FIGURES.iter().map(|figure| (figure, (figure.of)(&self.found, self.measure()))).collect();
        let table = Table::of("Oscillation figures", rows)
            .head("figure", |row| row.0.title)
            .number("value", |row| row.1.clone())
            .said("meaning", |row| row.0.meaning);
        let mut out = table.terminal() + "\n";
        for line in self.sentences() {
            super::text::paragraph(&mut out, &line, "  ");
        }
        out
    }

    /// The finding first, then what limits it.
    #[must_use]
    pub fn sentences(&self) -> Vec<String> {
        let found = &self.found;
        let watched = duration_ns((found.duration_s * 1e9) as u64);
        let span = format!("{} in {watched}", plural(found.samples, "sample"));
        let h = self.measure().shown(found.counted.h_bytes);
        let column = &self.series.column;
        let cycles = plural(found.counted.cycles, "cycle");
        let verdict = match found.finding() {
            Finding::Oscillates if !found.sampling.enough => format!("oscillates: at least {cycles} of {h} or more"),
            Finding::Oscillates => format!("oscillates: {cycles} of {h} or more"),
            Finding::Steady => format!("steady: no cycle of {h} or more"),
            Finding::TooFewSamples => {
                format!("not decided: fewer than {LEAST_SAMPLES} samples give neither a rate of cycles nor a slope")
            }
            Finding::TooCoarse => "not decided: no cycle was seen, but the samples are too far apart".to_owned(),
        };
        let mut lines = vec![format!("{column}: {verdict} ({span})")];
        lines.extend(found.sampling.warning().map(|warning| format!("{column}: {warning}")));
        if found.sampling.longest_gap_s > 3.0 * found.sampling.interval_s {
            let gap = significant(found.sampling.longest_gap_s);
            lines.push(format!("{column}: no sample for {gap} s at one place; a cycle within it is not seen"));
        }
        if self.series.empty > 0 {
            lines.push(format!("{column}: {} without a value left out", plural(self.series.empty, "row")));
        }
        lines.push(match self.series.unit {
            Unit::Bytes => "h = max(16 MiB, 1 % of the highest sample); there are no idle samples".to_owned(),
            Unit::Other(_) => "h = 1 % of the highest sample: the values are no bytes".to_owned(),
        });
        lines
    }

    /// The figures by name; values that are no bytes have names without `_bytes`.
    #[must_use]
    pub fn json(&self) -> Value {
        let unit = match &self.series.unit {
            Unit::Bytes => "bytes",
            Unit::Other(unit) => unit,
        };
        let figures = serde_json::to_value(&self.found).unwrap_or_default();
        let figures = if self.series.unit == Unit::Bytes { figures } else { plain(figures) };
        json!({
            "column": self.series.column,
            "unit": unit,
            "empty_rows": self.series.empty,
            "finding": self.found.finding(),
            "warning": self.found.sampling.warning(),
            "oscillation": figures,
        })
    }
}

/// Without `_bytes` in the names of members.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let member = |(name, value): (String, Value)| (name.replace("_bytes", ""), plain(value));
            Value::Object(members.into_iter().map(member).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        other => other,
    }
}
