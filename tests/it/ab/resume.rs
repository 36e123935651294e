//! Sessions that are killed, damaged and resumed: committed data stays, and no partial pair is ever
//! used.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;

use inferometer::compare::ab::Judgement;
use inferometer::record::ab;
use inferometer::record::ab::{AbRecord, PairRow};
use inferometer::record::{FinishState, RequestRow};
use inferometer::spec::Side;
use inferometer_stats::sequential::Verdict;
use rustix::process::Signal;

use super::sides::{EQUAL, transformer};
use super::{MEMORY, NO_PILOT, check, folder, judged, pairs, record, simulated};
use crate::lab::{Done, Lab, line, signal, until, without_hashes};

/// A scenario with two cells per turn and a pilot.
fn scenario(lab: &Lab) -> PathBuf {
    lab.write(
        "scenario.toml",
        format!(
            "name = \"lab\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\", seed = 1 }}\n\
             [[engine]]\nname = \"simulated\"\noptions = {{ a_ms = 1 }}\n\
             [workload]\ntext = \"one two three four five\"\nlengths = [8, 16]\nmax_tokens = 3\nignore_eos = true\n[ab]\npilot = 5\n{MEMORY}"
        ),
    )
}

fn begin(lab: &Lab, scenario: &Path) -> Child {
    begin_with(lab, scenario, &["--same"])
}

fn begin_with(lab: &Lab, scenario: &Path, arguments: &[&str]) -> Child {
    let mut child = lab.program(&[&["ab", scenario.to_str().unwrap()], arguments].concat()).spawn().unwrap();
    let begun = until("the session begins or the program ends", || {
        let mut entries = fs_err::read_dir(lab.path("results")).into_iter().flatten();
        let any = entries.any(|entry| ab::is_session(&entry.unwrap().path()));
        any.then_some(true).or_else(|| child.try_wait().unwrap().map(|_| false))
    });
    assert!(begun, "{}", lab.done(child.wait_with_output().unwrap()).stderr);
    child
}

fn go_on(lab: &Lab, arguments: &[&str]) -> Child {
    lab.program(&[&["ab", "--resume", folder(lab).to_str().unwrap()], arguments].concat()).spawn().unwrap()
}

/// Checks that the session finished with the verdict unchanged.
#[track_caller]
fn ended(done: Done, finished: &AbRecord) {
    assert_eq!(judged(finished).verdict, Verdict::Unchanged, "{:?}", judged(finished).reasons);
    done.expect(0);
    assert_eq!(finished.manifest.state, FinishState::Finished);
}

fn resume(lab: &Lab, arguments: &[&str]) -> Done {
    let child = go_on(lab, arguments);
    lab.wait(child)
}

fn lines(path: &Path) -> usize {
    fs_err::read(path).unwrap().iter().filter(|byte| **byte == b'\n').count()
}

/// Kills it as soon as `file` has `more` further lines; `false` if it finished before that.
fn kill_after(lab: &Lab, mut child: Child, file: &str, more: usize) -> bool {
    let path = folder(lab).join(file);
    let before = lines(&path);
    let killed = until("the file grows or the session ends", || match child.try_wait().unwrap() {
        Some(_) => Some(false),
        None => (lines(&path) >= before + more).then_some(true),
    });
    // It may have ended in the meantime.
    let _ = child.kill();
    child.wait().unwrap();
    killed
}

/// The state of a killed session: its pairs, the rows of each, and the iterations that belong to no
/// pair.
struct Snapshot {
    pairs: Vec<PairRow>,
    rows: Vec<Vec<RequestRow>>,
    half: BTreeSet<(Side, u32)>,
}

fn rows(record: &AbRecord, side: Side, iteration: u32) -> Vec<RequestRow> {
    let of = if side == Side::A { &record.a } else { &record.b };
    of.requests.iter().filter(|row| !row.warmup && row.iteration == iteration).cloned().collect()
}

fn used(pairs: &[PairRow]) -> BTreeSet<(Side, u32)> {
    pairs.iter().flat_map(PairRow::iterations).collect()
}

fn snapshot(record: &AbRecord) -> Snapshot {
    let begun = |side, of: &inferometer::record::Record| {
        of.requests.iter().filter(|row| row.iteration > 0).map(move |row| (side, row.iteration)).collect::<Vec<_>>()
    };
    let all: BTreeSet<_> = begun(Side::A, &record.a).into_iter().chain(begun(Side::B, &record.b)).collect();
    let pairs = record.pairs.clone();
    let named = used(&pairs);
    Snapshot {
        rows: pairs.iter().flat_map(PairRow::iterations).map(|(side, it)| rows(record, side, it)).collect(),
        half: all.difference(&named).copied().collect(),
        pairs,
    }
}

impl Snapshot {
    fn forget_behind(&mut self, pairs: usize) {
        self.pairs.truncate(pairs);
        self.rows.truncate(2 * pairs);
    }

    #[track_caller]
    fn check(&self, later: &AbRecord) {
        assert_eq!(later.pairs[..self.pairs.len()], self.pairs, "committed pairs stay");
        let same = self.pairs.iter().flat_map(PairRow::iterations).map(|(side, it)| rows(later, side, it));
        assert!(same.eq(self.rows.iter().cloned()), "and so do their rows");
        let reused: Vec<_> = used(&later.pairs).intersection(&self.half).copied().collect();
        assert!(reused.is_empty(), "iterations of half pairs are used: {reused:?}");
    }
}

/// Damages the files like a kill in the middle of a write.
fn tear(lab: &Lab, step: usize) {
    let append = |name: &str, text: &str| {
        let mut file = fs_err::OpenOptions::new().append(true).open(folder(lab).join(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    };
    match step % 4 {
        0 => append("pairs.csv", "9,pair,a,"),
        1 => {
            append("a/requests.csv", "17,false,0,");
            append("b/tokens.csv", "3,0,1");
        }
        2 => {
            // The last pair's own line is torn, so the pair is not committed and its turns are not
            // used.
            let path = folder(lab).join("pairs.csv");
            let text = fs_err::read_to_string(&path).unwrap();
            if text.lines().count() > 1 {
                fs_err::write(&path, &text[..text.len() - 3]).unwrap();
            }
        }
        _ => {}
    }
}

/// Kills a session several times, each time after another write, then lets it finish.
fn killed_often(lab: &Lab) -> (AbRecord, Vec<Snapshot>) {
    let mut snapshots = Vec::new();
    let mut child = begin(lab, &scenario(lab));
    for step in 0..12 {
        let (file, most) = [("a/requests.csv", 5), ("pairs.csv", 2), ("b/requests.csv", 3)][step % 3];
        if !kill_after(lab, child, file, 1 + step % most) {
            break;
        }
        tear(lab, step);
        let now = snapshot(&record(lab));
        // A pair whose line is torn now counts as never committed.
        snapshots.iter_mut().for_each(|earlier: &mut Snapshot| earlier.forget_behind(now.pairs.len()));
        snapshots.push(now);
        child = go_on(lab, &[]);
        if step == 11 {
            lab.wait(child);
            break;
        }
    }
    (record(lab), snapshots)
}

#[test]
fn a_session_killed_at_any_write_goes_on_without_half_pairs() {
    let lab = Lab::new();
    let (finished, snapshots) = killed_often(&lab);
    for snapshot in &snapshots {
        snapshot.check(&finished);
    }
    check(&finished);
    assert!(snapshots.len() >= 6, "it was killed {} times only", snapshots.len());
    assert!(snapshots.iter().any(|snapshot| !snapshot.half.is_empty()), "no kill broke a pair off");
    assert_eq!(finished.manifest.state, FinishState::Finished);
    assert_eq!(finished.manifest.segments as usize, snapshots.len() + 1);
    let judgement: Judgement = judged(&finished);
    assert_eq!(judgement.verdict, Verdict::Unchanged, "{:?}", judgement.reasons);
    assert_eq!(judgement.counts.ok, 10);
    assert!(judgement.counts.pilot_ok >= 5);
    resume(&lab, &[]).expect(0).says("nothing left to do");
}

#[test]
fn rows_lost_behind_a_pair_s_back_are_never_taken_for_later_ones() {
    let lab = Lab::new();
    let scenario = simulated(&lab, &[("quick", "a_ms = 1")], &format!("{NO_PILOT}{MEMORY}"));
    let child = begin(&lab, &scenario);
    kill_after(&lab, child, "pairs.csv", 2);
    // A kill cannot cause this, but a disk can: the rows of B's last turns are lost, but the pairs
    // that name them are not.
    let path = folder(&lab).join("b/requests.csv");
    let text = fs_err::read_to_string(&path).unwrap();
    let kept: String = text.lines().take(3).map(|line| format!("{line}\n")).collect();
    fs_err::write(&path, kept).unwrap();
    let before = record(&lab).pairs.len();
    assert!(before > 0, "pairs were committed");
    resume(&lab, &[]);
    let finished = record(&lab);
    let judgement = judged(&finished);
    for pair in &judgement.pairs[..before] {
        assert!(!pair.counts(), "pair {} has lost its rows", pair.row.pair);
    }
    check(&finished);
}

#[test]
fn under_margin_a_resumed_session_goes_on_along_the_same_tokens() {
    let lab = Lab::new();
    let (scenario, _) = transformer(&lab, "[sampling]\nrepetition_penalty = 1.1\n");
    let sides = ["--a", "repetition_window_cap=0", "--b", "repetition_window_cap=768"];
    let child = begin_with(&lab, &scenario, &[&sides[..], &["--outputs", "margin", "--resident"]].concat());
    assert!(kill_after(&lab, child, "pairs.csv", 2));
    let snapshot = snapshot(&record(&lab));
    let done = resume(&lab, &[]);
    let finished = record(&lab);
    snapshot.check(&finished);
    check(&finished);
    ended(done, &finished);
    // A's tokens are needed again, but each finding is recorded only once.
    assert_eq!(finished.manifest.outputs.as_ref().map(|found| found.tokens), Some(4));
    let equal = finished.manifest.warnings.iter().filter(|warning| warning.starts_with(EQUAL));
    assert_eq!(equal.count(), 1, "{:?}", finished.manifest.warnings);
    let hashes: BTreeSet<_> = finished
        .a
        .requests
        .iter()
        .chain(&finished.b.requests)
        .filter(|row| !row.warmup)
        .map(|row| &row.token_hash)
        .collect();
    assert_eq!(hashes.len(), 1, "the same tokens throughout: {hashes:?}");
}

#[test]
fn control_c_stops_after_the_turn_and_resume_goes_on() {
    let lab = Lab::new();
    let child = begin(&lab, &scenario(&lab));
    let path = folder(&lab).join("pairs.csv");
    until("a pair is there", || (lines(&path) > 1).then_some(()));
    signal(child.id(), Signal::INT);
    let done = lab.wait(child).expect(130);
    insta::assert_snapshot!(lab.shown(&line(&done.stderr, "interrupted")), @r#"interrupted; resume with `inferometer ab --resume results/[RUN]`"#);
    let stopped = record(&lab);
    assert_eq!(stopped.manifest.state, FinishState::Interrupted);
    let snapshot = snapshot(&stopped);
    let done = resume(&lab, &[]);
    let finished = record(&lab);
    snapshot.check(&finished);
    check(&finished);
    assert_eq!(finished.manifest.state, FinishState::Finished);
    ended(done, &finished);
}

#[test]
fn a_session_does_not_go_on_with_another_engine_or_program() {
    let lab = Lab::new();
    let scenario = lab.exec(&[], &format!("{NO_PILOT}{MEMORY}"));
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine.py");
    let copy = lab.write("engine.py", fs_err::read(&fixture).unwrap());
    let text = fs_err::read_to_string(&scenario).unwrap();
    fs_err::write(&scenario, text.replace(fixture.to_str().unwrap(), copy.to_str().unwrap())).unwrap();
    let child = begin(&lab, &scenario);
    assert!(kill_after(&lab, child, "pairs.csv", 1));
    let before = record(&lab);

    let mut file = fs_err::OpenOptions::new().append(true).open(&copy).unwrap();
    file.write_all(b"# not what it was\n").unwrap();
    let done = resume(&lab, &[]).expect(2);
    insta::assert_snapshot!(without_hashes(&lab.shown(&line(&done.stderr, "error: "))), @r#"error: engine `exec` changed since this run started: [LAB]/engine.py was [HASH], is [HASH]; start a new run, or resume with `--allow-changed`"#);
    let refused = record(&lab);
    assert_eq!((refused.pairs.len(), refused.manifest.state), (before.pairs.len(), FinishState::Interrupted));
    fs_err::copy(&fixture, &copy).unwrap();

    let manifest = folder(&lab).join("a/run.json");
    let text = fs_err::read_to_string(&manifest).unwrap();
    let own = format!("\"inferometer_version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    assert!(text.contains(&own));
    fs_err::write(&manifest, text.replace(&own, "\"inferometer_version\": \"0.0.1\"")).unwrap();
    let done = resume(&lab, &[]).expect(2);
    insta::assert_snapshot!(line(&done.stderr, "error: ").replace(env!("CARGO_PKG_VERSION"), "[OWN]"), @r#"error: this program changed since this run started: the version was 0.0.1, is [OWN]; start a new run, or resume with `--allow-changed`"#);

    let done = resume(&lab, &["--allow-changed"]);
    let finished = record(&lab);
    ended(done, &finished);
    assert!(pairs(&finished) >= 10 && finished.pairs[..before.pairs.len()] == before.pairs);
    let own = env!("CARGO_PKG_VERSION");
    let changed = format!("this program changed during the run: the version was 0.0.1, is {own}");
    assert!(finished.manifest.warnings.contains(&changed), "{:?}", finished.manifest.warnings);
}
