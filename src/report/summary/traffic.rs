//! A cell under load: how many requests were sent, and whether the engine kept up with them.

use serde::{Deserialize, Serialize};

use crate::record::metric;
use crate::record::metric::iterations;
use crate::record::{RequestRow, Status};
use crate::spec::{Cell, Level};
use inferometer_stats::robust;

/// Where an engine does not keep up, it answers less than this share of the requests that arrive,
const BEHIND: f64 = 0.95;
/// and the last quarter of an iteration's requests takes this many times as long as its first.
const GROWS: f64 = 2.0;
/// Fewer requests do not show whether waiting grows.
const LEAST_REQUESTS: usize = 16;

/// A cell under load, over its valid iterations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrafficSummary {
    pub level: Level,
    pub requests: usize,
    /// Of these, requests that failed. Their times are in no figure.
    pub failed: usize,
    /// 95th percentile of the time to the last token if it is counted from sending, in
    /// milliseconds; the median over the iterations. A closed loop would show this.
    pub e2e_p95_from_sending_ms: Option<f64>,
    /// An open loop that the engine does not keep up with: how much longer a request takes for each
    /// second that it comes later, in milliseconds. Null where it keeps up, or where nothing shows
    /// it.
    pub grows_ms_per_s: Option<f64>,
    /// Longest delay between the intended start of a request and its sending, in milliseconds: the
    /// harness was late, or as many requests were running as the engine takes.
    pub sent_late_ms: f64,
}

/// `None` for a cell that is not under load. `rows`: of all measured iterations.
#[must_use]
pub fn of_cell(cell: &Cell, rows: &[&RequestRow]) -> Option<TrafficSummary> {
    let level = cell.level?;
    // An iteration that something else disturbed says nothing about the engine.
    let judged: Vec<&[&RequestRow]> =
        iterations(rows).filter(|rows| rows.iter().all(|row| row.status != Status::Invalid)).collect();
    let all = || judged.iter().flat_map(|rows| rows.iter());
    let from_sending = |rows: &&[&RequestRow]| {
        let times: Vec<f64> = rows.iter().filter_map(|row| row.e2e_ms).collect();
        robust::quantile(&robust::sorted(&times), 0.95)
    };
    let from_sending: Vec<f64> = judged.iter().filter_map(from_sending).collect();
    let growths: Vec<f64> = judged.iter().filter_map(|rows| growth(level, rows)).collect();
    let late = |row: &&&RequestRow| Some(row.start_ns.saturating_sub(row.intended_ns?) as f64 / 1e6);
    Some(TrafficSummary {
        level,
        requests: all().count(),
        failed: all().filter(|row| row.status == Status::Failed).count(),
        e2e_p95_from_sending_ms: robust::quantile(&robust::sorted(&from_sending), 0.5),
        grows_ms_per_s: robust::quantile(&robust::sorted(&growths), 0.5).filter(|_| growths.len() == judged.len()),
        sent_late_ms: all().filter_map(|row| late(&row)).fold(0.0, f64::max),
    })
}

/// Requests that came per second. Random arrivals have another rate than the one they are drawn
/// with.
fn arrived(rows: &[&RequestRow]) -> Option<f64> {
    let due = || rows.iter().filter_map(|row| row.intended_ns);
    let span = due().max()?.checked_sub(due().min()?).filter(|ns| *ns > 0)?;
    Some((rows.len() - 1) as f64 / (span as f64 / 1e9))
}

/// By how much requests of an open loop take longer the later they come, if they clearly do.
fn growth(level: Level, rows: &[&RequestRow]) -> Option<f64> {
    let Level::PerSecond(_) = level else { return None };
    let answered = metric::find(metric::REQUESTS_PER_S)?.of_iteration(rows)?;
    if rows.len() < LEAST_REQUESTS || answered >= BEHIND * arrived(rows)? {
        return None;
    }
    let mut times: Vec<(f64, f64)> =
        rows.iter().filter_map(|row| Some((row.intended_ns? as f64 / 1e9, row.since_start(row.e2e_ms)?))).collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0));
    let quarter = times.len() / 4;
    let middle = |part: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        robust::quantile(&robust::sorted(&part.iter().map(of).collect::<Vec<_>>()), 0.5)
    };
    let (first, last) = (&times[..quarter], &times[times.len() - quarter..]);
    let (before, after) = (middle(first, |at| at.1)?, middle(last, |at| at.1)?);
    let seconds = middle(last, |at| at.0)? - middle(first, |at| at.0)?;
    (after > GROWS * before && seconds > 0.0).then(|| (after - before) / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests ten times a second, each of which takes `ms` of its number.
    fn rows(ms: impl Fn(u64) -> f64) -> Vec<RequestRow> {
        let row = |n: u64| RequestRow {
            iteration: 1,
            turn: n as u32,
            intended_ns: Some(n * 100_000_000),
            start_ns: n * 100_000_000 + 2_000_000,
            end_ns: n * 100_000_000 + (ms(n) * 1e6) as u64,
            e2e_ms: Some(80.0),
            late_ms: Some(ms(n) - 80.0),
            ..RequestRow::default()
        };
        (0..40).map(row).collect()
    }

    fn growth_of(level: Level, rows: &[RequestRow]) -> Option<f64> {
        growth(level, &rows.iter().collect::<Vec<_>>())
    }

    #[test]
    fn waiting_that_grows_is_told_by_its_rate() {
        // A server that does half of the rate: each request waits 100 ms longer than the one
        // before.
        let behind = rows(|n| 200.0 + 100.0 * n as f64);
        let grows = growth_of(Level::PerSecond(10.0), &behind).unwrap();
        assert!((grows - 1000.0).abs() < 1e-6, "{grows} ms a second");
        assert_eq!(growth_of(Level::PerSecond(10.0), &rows(|_| 90.0)), None);
        assert_eq!(growth_of(Level::PerSecond(10.0), &rows(|n| 90.0 + n as f64)), None, "not clearly");
        assert_eq!(growth_of(Level::Sessions(2), &behind), None, "a closed loop cannot fall behind");
        assert_eq!(growth_of(Level::PerSecond(10.0), &behind[..8]), None, "too few");
    }

    #[test]
    fn failed_requests_are_counted_and_in_no_figure() {
        let mut rows = rows(|_| 90.0);
        (rows[3].status, rows[3].e2e_ms) = (Status::Failed, None);
        let json = serde_json::json!({"id": 0, "engine": 0, "label": "", "length": null, "toggles": {}, "load": {},
            "sampling": inferometer_protocol::Sampling::default(), "predicted": {}, "merged": [],
            "level": {"per_second": 10.0}});
        let cell: Cell = serde_json::from_value(json).unwrap();
        let found = of_cell(&cell, &rows.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!((found.requests, found.failed), (40, 1));
        assert_eq!((found.e2e_p95_from_sending_ms, found.grows_ms_per_s), (Some(80.0), None));
        assert!((found.sent_late_ms - 2.0).abs() < 1e-9);
        rows[0].status = Status::Invalid;
        assert_eq!(of_cell(&cell, &rows.iter().collect::<Vec<_>>()).unwrap().requests, 0, "a disturbed iteration");
    }
}
