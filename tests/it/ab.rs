//! A/B sessions through the whole program: verdicts and exit codes, sides that fail, and resuming
//! after a kill.
//!
//! These tests must pass on a busy machine. If speed decides, one side is many times slower. If the
//! sides must not differ, the gate is memory with a wide delta.

mod commits;
mod length;
mod profile;
mod resume;
mod sides;
mod verdicts;

use std::path::{Path, PathBuf};

use inferometer::compare::ab::{Evidence, Judgement, PairOutcome, judge};
use inferometer::record::ab;
use inferometer::record::ab::{AbRecord, PairKind};

use crate::lab::{Done, Lab};

/// A gate that does not depend on load: both sides are the same program.
const MEMORY: &str = "[[gate]]\nmetric = \"peak_memory\"\ndelta = \"50%\"\n";
/// A gate for two sides, one of which is many times slower.
const DECODE: &str = "[[gate]]\nmetric = \"decode_tps\"\ndelta = \"50%\"\n";
/// A gate of a load time that the engine pretends.
const LOAD: &str = "[[gate]]\nmetric = \"load\"\ndelta = \"50%\"\n";
const NO_PILOT: &str = "[ab]\npilot = 0\n";

/// A scenario of simulated engines, each a label with options; `rest` is further TOML.
fn simulated(lab: &Lab, engines: &[(&str, &str)], rest: &str) -> PathBuf {
    let engines: String = engines
        .iter()
        .map(|(label, options)| {
            format!("[[engine]]\nname = \"simulated\"\nlabel = {label:?}\noptions = {{ {options} }}\n")
        })
        .collect();
    let run = if rest.contains("[run]") { "" } else { "[run]\ntimeout_s = 30.0\n" };
    lab.write(
        "scenario.toml",
        format!(
            "name = \"lab\"\n[model]\npath = \".\"\n{engines}[workload]\ntext = \"one two three four five\"\n\
             max_tokens = 4\nignore_eos = true\n{run}{rest}"
        ),
    )
}

/// The folder of the only session.
fn folder(lab: &Lab) -> PathBuf {
    let entries = fs_err::read_dir(lab.path("results")).expect("there are results").map(|entry| entry.unwrap().path());
    let found: Vec<PathBuf> = entries.filter(|path| ab::is_session(path)).collect();
    let [folder] = found.as_slice() else { panic!("there is not one session but {found:?}") };
    folder.clone()
}

fn record(lab: &Lab) -> AbRecord {
    ab::read(&folder(lab)).unwrap()
}

fn judged(record: &AbRecord) -> Judgement {
    judge(&Evidence::of(record))
}

/// The JSON that a session printed on stdout.
fn told(done: &Done) -> serde_json::Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e} in {}", done.stdout))
}

/// Runs a session. Returns its JSON and its record.
#[track_caller]
fn session(lab: &Lab, scenario: &Path, arguments: &[&str], code: i32) -> (Done, AbRecord) {
    (once(lab, scenario, arguments).expect(code), record(lab))
}

fn once(lab: &Lab, scenario: &Path, arguments: &[&str]) -> Done {
    lab.run(&[&["ab", scenario.to_str().unwrap(), "--format", "json", "--no-report"], arguments].concat())
}

/// Checks every record of a session: no iteration belongs to two pairs, the iterations of valid
/// pairs are complete, and valid pairs are in the balanced order of the seed.
#[track_caller]
fn check(record: &AbRecord) {
    let judgement = judged(record);
    let mut used = std::collections::BTreeSet::new();
    for pair in &record.pairs {
        for (side, iteration) in pair.iterations() {
            assert!(used.insert((side, iteration)), "iteration {iteration} of side {} is used twice", side.name());
        }
    }
    let cells = record.a.manifest.plan.cells.len();
    for pair in judgement.pairs.iter().filter(|pair| pair.outcome == PairOutcome::Ok) {
        for (side, iteration) in pair.row.iterations() {
            let of = if side == inferometer::spec::Side::A { &record.a } else { &record.b };
            let rows = of.requests.iter().filter(|row| !row.warmup && row.iteration == iteration);
            assert_eq!(rows.count(), cells, "pair {} side {}", pair.row.pair, side.name());
        }
    }
    let firsts: Vec<_> = judgement.pairs.iter().filter(|pair| pair.counts()).map(|pair| pair.row.first).collect();
    let planned = inferometer::run::ab::order::orders(record.manifest.settings.seed, firsts.len());
    assert_eq!(firsts, planned, "the order is not the seed's");
    for side in [&record.a, &record.b] {
        let last = side.requests.iter().map(|row| row.iteration).max().unwrap_or(0);
        assert!(side.manifest.plan.order.len() >= last as usize, "every turn has its place in the order");
    }
}

/// How many pairs of A and B there are.
fn pairs(record: &AbRecord) -> usize {
    record.pairs.iter().filter(|pair| pair.kind == PairKind::Pair).count()
}
