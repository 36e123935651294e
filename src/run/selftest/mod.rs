//! The self-test of the harness (docs/explanation/selftest.md): how often a verdict is wrong when
//! the truth is known.
//!
//! It runs in virtual time, on simulated noise: thousands of sessions in seconds, decided by the
//! same function as real ones. Pilots, dropped pairs and outputs are not simulated. First the noise
//! is compared with what is known about shared machines.

pub mod calibration;
pub mod rate;
pub mod real;
pub mod sessions;

use serde::Serialize;

use calibration::{Design, flagged};
use rate::{Limit, Rate};
use sessions::{Case, Tally};

use inferometer_host::simulated::noise::Profile;

/// The delta of the sessions.
const DELTA: f64 = 0.03;
/// Drift of a machine that heats up, per run.
const DRIFT_PERCENT: f64 = 0.3;
/// Tolerance of the calibration.
const POINTS: f64 = 0.05;

/// A measured share and its limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    pub what: String,
    pub rate: Rate,
    /// `None` if the share is only shown.
    pub limit: Option<Limit>,
    pub passed: bool,
    /// All outcomes of the sessions; `None` in calibration.
    pub case: Option<Case>,
    pub tally: Option<Tally>,
}

impl Check {
    fn new(what: impl Into<String>, rate: Rate, limit: Option<Limit>) -> Self {
        let passed = limit.is_none_or(|limit| limit.holds(rate));
        Self { what: what.into(), rate, limit, passed, case: None, tally: None }
    }
}

/// The results of the self-test.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub profile: &'static str,
    pub delta: f64,
    pub sessions: u64,
    pub seed: u64,
    pub calibration: Vec<Check>,
    pub verdicts: Vec<Check>,
}

impl Report {
    #[must_use]
    pub fn passed(&self) -> bool {
        self.calibration.iter().chain(&self.verdicts).all(|check| check.passed)
    }
}

/// Runs the whole self-test in virtual time, with `sessions` of each kind (at least 1).
#[must_use]
pub fn virtual_time(sessions: u64, seed: u64) -> Report {
    let profile = Profile::SHARED_VM;
    let sessions = sessions.max(1);
    let calibrate = |(design, what, limit): (Design, &str, Option<f64>)| {
        let limit = limit.map(|share| Limit::About(share, POINTS));
        Check::new(what, flagged(design, profile, sessions, seed), limit)
    };
    let verdicts = questions().into_iter().map(|question| {
        let tally = sessions::run(&question.case, profile, sessions, seed);
        let check = Check::new(question.what, Rate::new((question.count)(&tally), sessions), Some(question.limit));
        Check { case: Some(question.case), tally: Some(tally), ..check }
    });
    Report {
        profile: profile.name,
        delta: DELTA,
        sessions,
        seed,
        calibration: designs().map(calibrate).into(),
        verdicts: verdicts.collect(),
    }
}

/// The designs of docs/explanation/selftest.md. The share for a stored baseline needs a level per
/// session, which the noise does not include; without it (the second line, only shown) the
/// simulator gives a smaller share.
fn designs() -> [(Design, &'static str, Option<f64>); 4] {
    [
        (Design::Stored, "stored baseline, level added", Some(0.60)),
        (Design::StoredSameLevel, "... without the added level", None),
        (Design::Blocks, "A's runs, then B's, Welch", Some(0.30)),
        (Design::Pairs, "random pairs, signed-rank", Some(0.05)),
    ]
}

/// A share of sessions and its limit.
struct Question {
    what: String,
    case: Case,
    count: fn(&Tally) -> u64,
    limit: Limit,
}

fn questions() -> Vec<Question> {
    let same = Case { gates: 1, one_noise: false, slower_percent: 0.0, drift_percent: 0.0, delta: DELTA };
    let slower = |slower_percent| Case { slower_percent, ..same };
    let regressed: fn(&Tally) -> u64 = |tally| tally.regressed;
    let unchanged: fn(&Tally) -> u64 = |tally| tally.unchanged;
    let asked = [
        ("identical: regressed", same, regressed, Limit::AtMost(0.005)),
        ("identical, 3 gates: regressed", Case { gates: 3, ..same }, regressed, Limit::AtMost(0.01)),
        ("... of one noise: regressed", Case { gates: 3, one_noise: true, ..same }, regressed, Limit::AtMost(0.01)),
        ("5 % slower: regressed", slower(5.0), regressed, Limit::AtLeast(0.95)),
        ("10 % slower: regressed", slower(10.0), regressed, Limit::AtLeast(0.995)),
        ("3 % slower: unchanged", slower(3.0), unchanged, Limit::AtMost(0.05)),
    ];
    let drifting = |drift_percent: f64| {
        asked.into_iter().map(move |(what, case, count, limit)| Question {
            what: what.to_owned(),
            case: Case { drift_percent, ..case },
            count,
            limit,
        })
    };
    drifting(0.0).chain(drifting(DRIFT_PERCENT)).collect()
}
