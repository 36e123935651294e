//! Leaks of repeated loads, in sentences.

use super::summary::leaks::{Leak, MATTERS, Verdict};
use super::text;
use inferometer_protocol::units;

/// [`sentence`] as the beginning of a line. A cell's name stays as it is.
#[must_use]
pub fn line(leak: &Leak) -> String {
    let sentence = sentence(leak);
    if leak.label.is_empty() { text::capital(&sentence) } else { sentence }
}

/// What a cell's repeated loads left in memory.
#[must_use]
pub fn sentence(leak: &Leak) -> String {
    let Leak { loads, left_out, .. } = leak;
    let label = if leak.label.is_empty() { String::new() } else { format!("{}: ", text::label(&leak.label)) };
    let ends = format!(
        "{} after the first unload, {} after the last",
        units::bytes(leak.first_bytes),
        units::bytes(leak.last_bytes)
    );
    let Some(growth) = leak.growth else {
        return format!(
            "{label}leak: inconclusive: {} are too few for an interval (`run.iterations = 10` or more); {ends}",
            text::plural(*loads, "load")
        );
    };
    let interval = format!(
        "{} a load [{}, {}], {loads} loads without the first {left_out}",
        signed(growth.bytes),
        signed(growth.low),
        signed(growth.high)
    );
    let matters = units::bytes(MATTERS as u64);
    match leak.verdict {
        Verdict::Leaks => format!("{label}leaks memory when it is unloaded: {interval}; {ends}"),
        Verdict::NoLeak => format!(
            "{label}no leak: memory after unloading grows by at most {} a load ({interval}; {matters} would matter); {ends}",
            signed(growth.high.max(0.0))
        ),
        Verdict::Inconclusive => {
            format!("{label}leak: inconclusive: {interval}; {matters} would matter: measure more loads; {ends}")
        }
    }
}

fn signed(bytes: f64) -> String {
    let sign = if bytes <= -0.5 { "-" } else { "" };
    format!("{sign}{}", units::bytes(bytes.abs().round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_a_capital_or_with_the_name_of_its_cell() {
        let of = |label: &str| {
            let (cell, host, loads, left_out) = (0, 0, 3, 1);
            let verdict = Verdict::Inconclusive;
            let label = label.to_owned();
            line(&Leak { cell, label, host, loads, left_out, first_bytes: 1, last_bytes: 1, growth: None, verdict })
        };
        assert!(of("").starts_with("Leak: inconclusive"), "{}", of(""));
        for label in ["len=8", "dtype=f32"] {
            assert!(of(label).starts_with(&format!("{label}: leak: inconclusive")), "{}", of(label));
        }
    }
}
