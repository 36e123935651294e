//! A/B sessions on a real engine with a known slow-down; each session runs the whole program.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::Rng;
use serde::Serialize;

use crate::compare::ab::{Evidence, Judgement, judge};
use crate::record;
use crate::record::ab::AbRecord;
use crate::record::{RecordError, ab};
use inferometer_host::rng::seeded;
use inferometer_host::slow_down::SLOW_DOWN;
use inferometer_stats::robust::Interval;
use inferometer_stats::sequential::Verdict;

/// The scenario that is used if the user gives none.
pub const SCENARIO: &str = include_str!("real.toml");
/// Appended to it if only the time per token matters.
const DECODE: &str = "\n[[gate]]\nmetric = \"decode_tps\"\n";
/// Shortest and longest busy or idle interval of the foreign process, in milliseconds.
const LOAD_MS: (u64, u64) = (500, 4000);

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
pub enum RealError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the session in {dir} did not finish; its output:\n{said}")]
    NoEnd { dir: PathBuf, said: String },
}

/// Where and with which program sessions run.
#[derive(Debug, Clone)]
pub struct Sessions {
    /// This program.
    pub program: PathBuf,
    pub scenario: PathBuf,
    /// The parent folder of the sessions.
    pub results: PathBuf,
}

/// The outcome of a session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ended {
    pub slower_percent: f64,
    pub verdict: Verdict,
    /// The pilot refused the session because of noise.
    pub refused: bool,
    pub pairs: u32,
    /// Half of the first gate's interval, as a logarithm.
    pub half_width: Option<f64>,
    pub reasons: Vec<String>,
    pub dir: PathBuf,
}

/// Number of judged sessions of a kind: only these say something about the verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Judged {
    pub slower_percent: f64,
    pub sessions: usize,
    /// Neither refused by the pilot, nor invalid or failed.
    pub judged: usize,
}

impl Judged {
    /// Counts each kind; sessions of a kind must be adjacent.
    #[must_use]
    pub fn of(sessions: &[Ended]) -> Vec<Self> {
        let kinds = sessions.chunk_by(|a, b| a.slower_percent == b.slower_percent);
        kinds
            .map(|kind| Self {
                slower_percent: kind[0].slower_percent,
                sessions: kind.len(),
                judged: kind.iter().filter(|ended| ended.judged()).count(),
            })
            .collect()
    }

    /// Whether at least half of the sessions were judged, which is enough to assess the verdicts.
    #[must_use]
    pub fn enough(&self) -> bool {
        2 * self.judged >= self.sessions
    }
}

/// The cost of telemetry, from balanced pairs without and with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overhead {
    /// Between samples.
    pub interval_ms: u32,
    /// Time per token with telemetry / time per token without; `None` if not measured.
    pub ratio: Option<f64>,
    pub interval: Option<Interval>,
    pub pairs: u32,
    pub verdict: Verdict,
    pub reasons: Vec<String>,
    pub dir: PathBuf,
}

impl Ended {
    /// Whether the session ended with a decision, which may be `inconclusive`.
    #[must_use]
    pub fn judged(&self) -> bool {
        use Verdict::{Improved, Inconclusive, Regressed, Unchanged};
        !self.refused && matches!(self.verdict, Unchanged | Improved | Regressed | Inconclusive)
    }

    /// Why the verdict is wrong, if it is. A false change, or a false `unchanged`, is always wrong.
    /// Without foreign load, a slow-down must be found unless the pilot refused the session.
    #[must_use]
    pub fn wrong(&self, loaded: bool) -> Option<&'static str> {
        let identical = self.slower_percent == 0.0;
        match self.verdict {
            Verdict::Failed | Verdict::OutputChanged => Some("nothing failed and no token changed"),
            Verdict::Regressed if identical => Some("the sides are identical"),
            Verdict::Improved => Some("B is not faster"),
            Verdict::Unchanged if !identical => Some("B is slower"),
            Verdict::Inconclusive if !identical && !loaded && !self.refused => Some("the slow-down was not found"),
            _ => None,
        }
    }
}

impl Sessions {
    /// Runs session `number` in which B is slower by `slower_percent`.
    ///
    /// # Errors
    /// When the program cannot be run, or its record has no verdict.
    pub fn run(&self, slower_percent: f64, number: u32) -> Result<Ended, RealError> {
        let dir = self.results.join(format!("{slower_percent}-percent-{number:02}"));
        let sides = match slower_percent {
            0.0 => vec!["--same".to_owned()],
            percent => vec!["--b".to_owned(), format!("engine.0.options.{SLOW_DOWN}={percent}")],
        };
        let Done { dir, record, judgement } = session(&self.program, &self.scenario, &dir, &sides, number)?;
        let interval = judgement.gates.first().and_then(|gate| gate.interval);
        Ok(Ended {
            slower_percent,
            verdict: judgement.verdict,
            refused: record.manifest.refused.is_some(),
            pairs: judgement.counts.ok,
            half_width: interval.map(|i| (i.hi - i.lo) / 2.0),
            reasons: judgement.reasons,
            dir,
        })
    }

    /// Measures the cost of telemetry with the engine of [`SCENARIO`]: A without telemetry, B with
    /// the default interval.
    ///
    /// # Errors
    /// As [`Sessions::run`].
    pub fn overhead(&self) -> Result<Overhead, RealError> {
        let scenario = self.results.join("overhead.toml");
        fs_err::write(&scenario, format!("{SCENARIO}{DECODE}"))?;
        // With so small a delta all pairs are used; without a pilot, because the interval is useful
        // on any machine.
        let words = ["--a", "telemetry.interval_ms=0", "--delta", "1%", "--pilot", "0"].map(str::to_owned);
        let done = session(&self.program, &scenario, &self.results.join("overhead"), &words, 1)?;
        let Done { dir, record, judgement } = done;
        let gate = judgement.gates.first();
        Ok(Overhead {
            interval_ms: record.b.manifest.scenario.telemetry.interval_ms,
            ratio: gate.and_then(|gate| gate.estimate).map(f64::exp),
            interval: gate.and_then(|gate| gate.interval).map(|i| Interval { lo: i.lo.exp(), hi: i.hi.exp(), ..i }),
            pairs: judgement.counts.ok,
            verdict: judgement.verdict,
            reasons: judgement.reasons,
            dir,
        })
    }
}

/// A finished session.
struct Done {
    dir: PathBuf,
    record: AbRecord,
    judgement: Judgement,
}

/// Runs a whole session in a new folder in `results`.
fn session(program: &Path, scenario: &Path, results: &Path, words: &[String], seed: u32) -> Result<Done, RealError> {
    let output = Command::new(program)
        .args(["--quiet", "ab"])
        .arg(scenario)
        .args(words)
        .args(["--seed", &seed.to_string(), "--no-report", "--results"])
        .arg(results)
        .stdin(Stdio::null())
        .output()?;
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let no_end = || RealError::NoEnd { dir: results.to_owned(), said: said() };
    let session = session_in(results)?.ok_or_else(no_end)?;
    let record = ab::read(&session)?;
    if record.manifest.state != record::FinishState::Finished {
        return Err(no_end());
    }
    let judgement = judge(&Evidence::of(&record));
    Ok(Done { dir: session, record, judgement })
}

/// The newest session's folder in `dir`.
fn session_in(dir: &Path) -> io::Result<Option<PathBuf>> {
    let entries = match fs_err::read_dir(dir) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Folder names start with the time.
    Ok(entries.iter().map(fs_err::DirEntry::path).filter(|path| ab::is_session(path)).max())
}

/// Another process that loads a core intermittently; dropping it ends the process.
#[derive(Debug)]
pub struct Load(Child);

impl Load {
    /// Starts `program` with arguments that make it call [`be_load`].
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(program: &Path, arguments: &[&str]) -> io::Result<Self> {
        // The process ends when this pipe closes, however this process ends.
        Command::new(program).args(arguments).stdin(Stdio::piped()).spawn().map(Self)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Alternates between busy and idle for seeded durations, until standard input ends.
pub fn be_load(seed: u64) {
    let ended = std::thread::spawn(|| io::copy(&mut io::stdin(), &mut io::sink()));
    let mut random = seeded(seed, "foreign load");
    while !ended.is_finished() {
        let mut turn = || Duration::from_millis(LOAD_MS.0 + random.next_u64() % (LOAD_MS.1 - LOAD_MS.0));
        let busy_until = Instant::now() + turn();
        while Instant::now() < busy_until && !ended.is_finished() {
            std::hint::spin_loop();
        }
        let idle_until = Instant::now() + turn();
        while Instant::now() < idle_until && !ended.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(slower_percent: f64, verdict: Verdict, refused: bool) -> Ended {
        let (pairs, half_width, reasons, dir) = Default::default();
        Ended { slower_percent, verdict, refused, pairs, half_width, reasons, dir }
    }

    #[test]
    fn what_a_verdict_may_be() {
        use Verdict::{Failed, Improved, Inconclusive, Invalid, Regressed, Unchanged};
        for (slower, verdict, refused, loaded, right) in [
            (0.0, Unchanged, false, false, true),
            (0.0, Inconclusive, false, false, true),
            (0.0, Invalid, false, false, true),
            (0.0, Regressed, false, true, false),
            (0.0, Improved, false, false, false),
            (0.0, Failed, false, false, false),
            (10.0, Regressed, false, true, true),
            (10.0, Unchanged, false, true, false),
            (10.0, Inconclusive, true, false, true),
            (10.0, Inconclusive, false, false, false),
            (10.0, Inconclusive, false, true, true),
        ] {
            let wrong = ended(slower, verdict, refused).wrong(loaded);
            assert_eq!(wrong.is_none(), right, "{slower} {verdict} {refused} {loaded}: {wrong:?}");
        }
    }

    #[test]
    fn only_what_was_judged_counts() {
        use Verdict::{Inconclusive, Invalid, Regressed, Unchanged};
        let sessions = [
            ended(0.0, Unchanged, false),
            ended(0.0, Inconclusive, false),
            ended(0.0, Invalid, false),
            ended(0.0, Inconclusive, true),
            ended(10.0, Regressed, false),
            ended(10.0, Invalid, false),
            ended(10.0, Invalid, false),
        ];
        let [identical, slowed] = Judged::of(&sessions)[..] else { panic!("two kinds") };
        assert_eq!((identical.sessions, identical.judged, identical.enough()), (4, 2, true));
        assert_eq!((slowed.slower_percent, slowed.judged, slowed.enough()), (10.0, 1, false));
    }

    #[test]
    fn the_scenario_is_one() {
        let scenario =
            crate::scenario::from_text("real.toml", SCENARIO, Path::new(""), &[], &crate::engines::offers()).unwrap();
        assert_eq!(scenario.engines[0].name, "transformer");
    }
}
