//! What was tried and lost, as a table. `tests/it` includes this file for its test.

use std::collections::BTreeMap;
use std::time::Duration;

/// Rounds of one kind.
#[derive(Debug, Default)]
pub struct Count {
    pub tried: u64,
    pub lost: u64,
    pub seconds: f64,
    /// How many rounds could not be tried, and the reason of the last one.
    pub not_tried: u64,
    pub why: String,
}

pub fn table(counts: &BTreeMap<&str, Count>, took: Duration) -> String {
    let mut lines = "| kind | rounds | lost | not tried | seconds |\n|---|---:|---:|---|---:|\n".to_owned();
    for (name, count) in counts {
        let not_tried = match count.not_tried {
            0 => "0".to_owned(),
            rounds => format!("{rounds}: {}", count.why),
        };
        lines += &format!("| {name} | {} | {} | {not_tried} | {:.0} |\n", count.tried, count.lost, count.seconds);
    }
    let sum = |of: fn(&Count) -> u64| counts.values().map(of).sum::<u64>();
    let (tried, lost) = (sum(|count| count.tried), sum(|count| count.lost));
    lines + &format!("| all | {tried} | {lost} | {} | {:.0} |\n", sum(|count| count.not_tried), took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_that_were_not_tried_are_counted_beside_those_that_were() {
        let count = Count { tried: 7, lost: 1, seconds: 3.0, not_tried: 2, why: "no tmpfs".to_owned() };
        let counts = BTreeMap::from([("clock", Count { tried: 4, ..Count::default() }), ("full-disk", count)]);
        let shown = table(&counts, Duration::from_secs(9));
        assert!(shown.contains("| full-disk | 7 | 1 | 2: no tmpfs | 3 |"), "{shown}");
        assert!(
            shown.contains("| clock | 4 | 0 | 0 | 0 |") && shown.ends_with("| all | 11 | 1 | 2 | 9 |\n"),
            "{shown}"
        );
    }
}
