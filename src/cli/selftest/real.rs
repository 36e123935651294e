//! The self-test on a real engine.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

use super::super::printer::Printer;
use super::{EXIT_FAILED, Layout};
use crate::report::table::Table;
use crate::report::text::paragraph;
use crate::run::selftest::rate::{Rate, percent};
use crate::run::selftest::real::{Ended, Judged, Load, Overhead, SCENARIO, Sessions, be_load};
use inferometer_stats::sequential::Verdict;

const SESSIONS: u32 = 20;

#[derive(Debug, clap::Args)]
pub struct Real {
    /// Run real sessions on the transformer engine instead of simulated ones
    #[arg(long)]
    pub real: bool,
    /// How much to slow down B, such as `10%`, in additional sessions, half as many as the others
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = super::super::ab::percent, requires = "real")]
    injected: f64,
    /// Load one core intermittently with another process during the sessions
    #[arg(long, requires = "real")]
    load: bool,
    /// Scenario to run; default: the smallest synthetic model, one thread
    #[arg(long, value_name = "FILE", requires = "real")]
    scenario: Option<PathBuf>,
    /// Folder for the records of the sessions
    #[arg(long, value_name = "DIR", default_value = "results/selftest", requires = "real")]
    results: PathBuf,
    /// Run as the process that loads a core
    #[arg(long, hide = true)]
    pub as_load: bool,
}

/// Results of the self-test.
#[derive(Debug, Serialize)]
struct Found {
    loaded: bool,
    sessions: Vec<Ended>,
    judged: Vec<Judged>,
    /// Whether enough sessions were judged to show anything.
    shown: bool,
    /// `None` unless the built-in scenario was used.
    telemetry: Option<Overhead>,
}

impl Real {
    pub fn load(seed: u64) -> ExitCode {
        be_load(seed);
        ExitCode::SUCCESS
    }

    pub fn run(&self, sessions: Option<u64>, layout: Layout, seed: u64, printer: &Printer) -> anyhow::Result<ExitCode> {
        let identical = sessions.map_or(SESSIONS, |n| u32::try_from(n).unwrap_or(u32::MAX));
        let bench = self.bench()?;
        let load =
            self.load.then(|| Load::start(&bench.program, &["selftest", "--as-load", "--seed", &seed.to_string()]));
        let load = load.transpose().context("cannot start the process that loads a core")?;
        let mut sessions = Vec::new();
        for (slower, count) in [(0.0, identical), ((self.injected * 1e4).round() / 100.0, identical.div_ceil(2))] {
            for number in 1..=count {
                let ended = bench.run(slower, number)?;
                printer.note(format_args!("{} {number}/{count}: {}", name(slower), sentence(&ended)));
                sessions.push(ended);
            }
        }
        drop(load);
        let telemetry = self.scenario.is_none().then(|| bench.overhead()).transpose()?;
        let found = Found::of(self.load, sessions, telemetry);
        match layout {
            Layout::Json => printer.line(serde_json::to_string_pretty(&found)?),
            Layout::Table => printer.data(found.table(false)),
            Layout::Md => printer.data(found.table(true)),
        }
        Ok(if found.passed() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) })
    }

    fn bench(&self) -> anyhow::Result<Sessions> {
        // A separate folder, so that sessions of an earlier self-test are not mixed in.
        let now = crate::origin::utc_now().replace([':', '.'], "");
        let results = self.results.join(now);
        fs_err::create_dir_all(&results)?;
        let scenario = match &self.scenario {
            Some(path) => path.clone(),
            None => {
                let path = results.join("scenario.toml");
                fs_err::write(&path, SCENARIO)?;
                path
            }
        };
        let program = std::env::current_exe().context("cannot determine the path of this program")?;
        Ok(Sessions { program, scenario, results })
    }
}

fn name(slower: f64) -> String {
    if slower == 0.0 { "identical".to_owned() } else { format!("{slower} % slower") }
}

fn sentence(ended: &Ended) -> String {
    let refused = if ended.refused { " (refused by the pilot)" } else { "" };
    format!("{}{refused} after {} pairs", ended.verdict, ended.pairs)
}

/// Result of the session without pilot and delta that measures the cost of telemetry.
fn telemetry(overhead: &Overhead) -> String {
    let Overhead { interval_ms, pairs, ratio, interval, .. } = overhead;
    let told = match (ratio, interval) {
        (Some(ratio), Some(i)) => {
            let interval = format!("[{:.3}, {:.3}] at {}", i.lo, i.hi, percent(i.confidence));
            format!("{ratio:.3} times {interval}, {pairs} pairs")
        }
        _ => format!("not known: {} after {pairs} pairs ({})", overhead.verdict, overhead.reasons.join("; ")),
    };
    format!("Time per token with telemetry every {interval_ms} ms, relative to none: {told}")
}

impl Found {
    fn of(loaded: bool, sessions: Vec<Ended>, telemetry: Option<Overhead>) -> Self {
        let judged = Judged::of(&sessions);
        let shown = judged.iter().all(Judged::enough);
        Self { loaded, sessions, judged, shown, telemetry }
    }

    /// Whether the self-test passed. On a loaded machine it may judge nothing; otherwise it must.
    fn passed(&self) -> bool {
        self.wrong().is_empty() && (self.shown || self.loaded)
    }

    fn wrong(&self) -> Vec<String> {
        let why = |ended: &Ended| {
            let why = ended.wrong(self.loaded)?;
            let reasons = ended.reasons.join("; ");
            Some(format!("WRONG: {}, but {why}: {reasons} ({})", ended.verdict, ended.dir.display()))
        };
        self.sessions.iter().filter_map(why).collect()
    }

    /// One row per verdict, identical and slowed sessions separately.
    fn table(&self, markdown: bool) -> String {
        let kinds = || self.sessions.chunk_by(|a, b| a.slower_percent == b.slower_percent);
        let rows = kinds().flat_map(|sessions| {
            counts(sessions).into_iter().map(move |(what, count)| {
                (name(sessions[0].slower_percent), what, count, Rate::new(count, sessions.len() as u64), sessions.len())
            })
        });
        let table = Table::of("Verdicts", rows)
            .text("sides", |row| row.0.clone())
            .text("verdict", |row| row.1.clone())
            .number("sessions", |row| format!("{}/{}", row.2, row.4))
            .number("share", |row| percent(row.3.share))
            .number("95 % interval", |row| format!("{} - {}", percent(row.3.lo), percent(row.3.hi)));
        let text = if markdown { table.markdown() } else { table.terminal() + "\n" };
        let means: String = kinds().map(|sessions| mean(&name(sessions[0].slower_percent), sessions)).collect();
        let load = if self.loaded { "Another process loaded a core on and off.\n" } else { "" };
        text + load + &means + &self.ending()
    }

    fn ending(&self) -> String {
        let wrong = self.wrong();
        let mut lines = String::new();
        wrong.iter().for_each(|line| paragraph(&mut lines, line, "  "));
        for Judged { slower_percent, sessions, judged } in &self.judged {
            lines += &format!("{}: {judged} of {sessions} accepted by the pilot and judged\n", name(*slower_percent));
        }
        let told = match (wrong.len(), self.shown, self.loaded) {
            (0, true, _) => "No verdict is wrong.",
            (0, false, true) => {
                "No verdict is wrong, but fewer than half of the sessions of a kind were judged: this shows only \
                 that the pilot refuses a loaded machine."
            }
            (0, false, false) => {
                "FAILED: too few sessions. Fewer than half of the sessions of a kind were accepted by the pilot and judged: \
                 stop other work on this machine (see `inferometer doctor`) and try again."
            }
            (n, ..) => &format!("{n} of {} verdicts are wrong.", self.sessions.len()),
        };
        paragraph(&mut lines, told, "  ");
        self.telemetry.iter().for_each(|overhead| paragraph(&mut lines, &telemetry(overhead), "  "));
        lines + "Cost of recording: docs/explanation/overhead.md (cargo bench --bench overhead).\n"
    }
}

/// Number of sessions per verdict, omitting verdicts that did not occur.
fn counts(sessions: &[Ended]) -> Vec<(String, u64)> {
    use Verdict::{Failed, Improved, Inconclusive, Invalid, NotDecided, OutputChanged, Regressed, Unchanged};
    let all = [Unchanged, Regressed, Improved, Inconclusive, NotDecided, Invalid, OutputChanged, Failed];
    let mut counts = Vec::new();
    for verdict in all {
        for refused in [false, true] {
            let given = sessions.iter().filter(|s| s.verdict == verdict && s.refused == refused).count() as u64;
            let word = if refused { "refused by the pilot".to_owned() } else { verdict.name().to_owned() };
            counts.extend((given > 0).then_some((word, given)));
        }
    }
    counts
}

fn mean(of: &str, sessions: &[Ended]) -> String {
    let accepted: Vec<&Ended> = sessions.iter().filter(|s| !s.refused).collect();
    let widths: Vec<f64> = accepted.iter().filter_map(|s| s.half_width).collect();
    if accepted.is_empty() || widths.is_empty() {
        return String::new();
    }
    let pairs = accepted.iter().map(|s| f64::from(s.pairs)).sum::<f64>() / accepted.len() as f64;
    let half = widths.iter().sum::<f64>() / widths.len() as f64;
    format!("{of}: {pairs:.1} pairs on average, first gate known to +- {:.2} %\n", half.exp_m1() * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use inferometer_stats::robust::Interval;

    #[test]
    fn the_table_counts_verdicts_and_names_the_wrong_ones() {
        let ended = |slower_percent, verdict, refused| Ended {
            slower_percent,
            verdict,
            refused,
            pairs: 10,
            half_width: Some(0.02),
            reasons: vec!["decode is 4.0 % slower".to_owned()],
            dir: "x".into(),
        };
        let sessions = vec![
            ended(0.0, Verdict::Unchanged, false),
            ended(0.0, Verdict::Inconclusive, true),
            ended(10.0, Verdict::Regressed, false),
        ];
        let overhead = Overhead {
            interval_ms: 50,
            ratio: Some(1.002),
            interval: Some(Interval { lo: 0.995, hi: 1.01, confidence: 0.995 }),
            pairs: 30,
            verdict: Verdict::Inconclusive,
            reasons: Vec::new(),
            dir: "x".into(),
        };
        let mut found = Found::of(false, sessions, Some(overhead));
        let text = found.table(false);
        assert!(text.contains("No verdict is wrong") && text.contains("refused by the pilot"), "{text}");
        assert!(text.contains("identical: 1 of 2 accepted by the pilot and judged") && found.passed(), "{text}");
        let line = "relative to none: 1.002 times [0.995, 1.010] at 99.5 %, 30 pairs";
        assert!(text.replace("\n  ", " ").contains(line), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(found.table(true).contains("| 10 % slower | regressed | 1/1 | 100 % |"), "{}", found.table(true));
        found.sessions[0].verdict = Verdict::Regressed;
        assert!(found.table(false).contains("1 of 3 verdicts are wrong") && !found.passed());
    }

    #[test]
    fn where_nothing_was_judged_nothing_is_shown() {
        let invalid = |slower_percent| Ended {
            slower_percent,
            verdict: Verdict::Invalid,
            refused: false,
            pairs: 0,
            half_width: None,
            reasons: Vec::new(),
            dir: "x".into(),
        };
        let mut found = Found::of(false, vec![invalid(0.0), invalid(10.0)], None);
        let text = found.table(false);
        assert!(text.contains("FAILED: too few sessions") && !text.contains("No verdict is wrong"), "{text}");
        assert!(!found.passed());
        found.loaded = true;
        assert!(found.table(false).contains("this shows only") && found.passed());
    }
}
