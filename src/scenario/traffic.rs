//! `[load]`: how many requests come, and when.

use super::cursor::Table;
use super::diagnose::Problem;
use crate::spec::{Arrivals, Level, Limits, Scenario, TrafficSettings, Workload};

/// Longest iteration: a day.
const MOST_SECONDS: f64 = 86_400.0;

/// `None` if the scenario has no such table.
pub fn settings(table: &Table<'_>) -> Option<TrafficSettings> {
    table.span?;
    let sessions = table.counts("sessions").into_iter().flatten().map(|n| Level::Sessions(n as u32));
    let rates = table.numbers("rates_per_s").into_iter().flatten().map(Level::PerSecond);
    let levels: Vec<Level> = sessions.chain(rates).collect();
    if let (None, None, Some(span)) = (table.entry("sessions"), table.entry("rates_per_s"), table.span) {
        let problem = Problem::new("[load] needs `sessions` or `rates_per_s`").at(span);
        table.problem(problem.help("`sessions = [1, 4]` is a closed loop, `rates_per_s = [0.5, 2]` an open one"));
    }
    for key in ["arrivals", "seed"] {
        if let (Some(entry), None) = (table.entry(key), table.entry("rates_per_s")) {
            let problem = Problem::new(format!("`{key}` has no effect without `rates_per_s`")).at(entry.key_span);
            table.problem(problem.help("each session sends its next request when it has the answer; remove the key"));
        }
    }
    let slowest = levels.iter().filter_map(|level| if let Level::PerSecond(rate) = level { Some(*rate) } else { None });
    let slowest = slowest.fold(f64::INFINITY, f64::min);
    let longest_s = f64::from(table.count32("requests")) / slowest;
    if let (true, Some(entry)) = (longest_s > MOST_SECONDS, table.entry("rates_per_s")) {
        let told = format!("an iteration at {slowest} requests per second takes {:.0} hours", longest_s / 3600.0);
        table.problem(Problem::new(told).at(entry.value.span).help("lower `requests`, or raise the rate"));
    }
    let limit = |key: &str| table.entry(key).map(|_| table.number(key));
    Some(TrafficSettings {
        levels,
        arrivals: match table.choice("arrivals") {
            "constant" => Arrivals::Constant,
            _ => Arrivals::Poisson,
        },
        requests: table.count32("requests"),
        seed: table.count("seed"),
        limits: Limits {
            ttft_ms: limit("limit_ttft_ms"),
            tpot_ms: limit("limit_tpot_ms"),
            e2e_ms: limit("limit_e2e_ms"),
        },
    })
}

/// Reports what cannot be measured under load.
pub fn suits(table: &Table<'_>, scenario: &Scenario) {
    if scenario.traffic.is_none() {
        return;
    }
    let refused = [
        ("workload", matches!(scenario.workload, Workload::Conversation(_)), "a conversation"),
        ("profile", scenario.profile.is_some(), "a profiling pass"),
        ("quality", scenario.quality.is_some(), "a quality pass"),
    ];
    for (key, there, what) in refused {
        if let (true, Some(entry)) = (there, table.entry(key)) {
            let problem = Problem::new(format!("`[load]` cannot be used with {what}")).at(entry.key_span);
            table.problem(problem.help("measure it in a scenario of its own, without `[load]`"));
        }
    }
}
