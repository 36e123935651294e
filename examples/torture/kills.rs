//! SIGKILL at random moments; then the run is resumed to its end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use inferometer::record::ab;
use inferometer::record::{FinishState, Record, Status};

use crate::lab::{Fault, Lab, Random, Rows, Tokens, iterations, kept, lost, read, reported, rows, tail, tokens};

/// Head of every scenario: the simulated engine, invalid for nothing that a busy machine does.
pub const HEAD: &str = "name = \"torture\"\n[model]\npath = \".\"\n";
const ENGINE: &str = "[[engine]]\nname = \"simulated\"\noptions = { a_ms = 1.0, c_ms = 2.0 }\n";
/// Two cells.
pub const ENGINES: &str = "[[engine]]\nname = \"simulated\"\nlabel = \"one\"\noptions = { a_ms = 1.0, c_ms = 2.0 }\n\
                           [[engine]]\nname = \"simulated\"\nlabel = \"two\"\noptions = { a_ms = 2.0 }\n";
pub const PROMPT: &str = "[workload]\ntext = \"one two three four five\"\nmax_tokens = 8\nignore_eos = true\n";
pub const MEASURED: &str = "[run]\niterations = 5\nwarmup = 1\nexternal_causes = \"warn\"\ntimeout_s = 30.0\n\
                            [telemetry]\ninterval_ms = 50\n";
const TURNS: &str = "[workload]\nkind = \"conversation\"\nsystem = \"be brief\"\nmax_tokens = 4\nignore_eos = true\n\
                     turn = [{ user = \"one\", reply = \"two\" }, { user = \"three\", reply = \"four\" }, { user = \"five\" }]\n";
/// Measured iterations of [`MEASURED`] with [`ENGINES`].
pub const ITERATIONS: usize = 10;
/// Longest wait before a kill.
const SOON: Duration = Duration::from_millis(1500);

pub fn run(lab: &Lab, random: &mut Random) -> Result<(), Fault> {
    killed_runs(lab, random, PROMPT, &[])
}

pub fn profile(lab: &Lab, random: &mut Random) -> Result<(), Fault> {
    killed_runs(lab, random, PROMPT, &["--profile"])
}

pub fn conversation(lab: &Lab, random: &mut Random) -> Result<(), Fault> {
    killed_runs(lab, random, TURNS, &[])
}

/// The tokens of a run that nobody disturbs; one is made for each workload.
fn undisturbed(lab: &Lab, scenario: &str, workload: &str) -> Result<Tokens, Fault> {
    static MADE: Mutex<BTreeMap<String, Tokens>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(tokens) = made.get(workload) {
        return Ok(tokens.clone());
    }
    let apart = ["--no-report", "--results", "undisturbed", "--set", "run.iterations=1"];
    code(lab, &[&["run", scenario], apart.as_slice()].concat(), &[0, 4])?;
    let Some(dir) = lab.folders("undisturbed").pop() else { return lost("an undisturbed run has no record") };
    let tokens = tokens(&read(&dir)?)?;
    made.insert(workload.to_owned(), tokens.clone());
    Ok(tokens)
}

/// What a record held at some moment.
#[derive(Default)]
struct Known {
    rows: Rows,
    profiled: usize,
}

impl Known {
    fn of(record: &Record) -> Result<Self, Fault> {
        Ok(Self { rows: rows(record)?, profiled: record.profile.iterations.len() })
    }
}

fn killed_runs(lab: &Lab, random: &mut Random, workload: &str, more: &[&str]) -> Result<(), Fault> {
    let scenario = lab.write("scenario.toml", &format!("{HEAD}{ENGINES}{workload}{MEASURED}"))?;
    let scenario = scenario.display().to_string();
    let begin: Vec<&str> = [&["run", &scenario, "--no-report"], more].concat();
    let expected = undisturbed(lab, &scenario, workload)?;
    let mut known = Known::default();
    for _ in 0..1 + random.below(3) {
        let folder = lab.folder().map(|dir| dir.display().to_string());
        let child = match &folder {
            // A lock that a killed run left would refuse this.
            Some(dir) => lab.start(&["run", "--resume", dir, "--no-report", "--no-wait"])?,
            None => lab.start(&begin)?,
        };
        random.pause(SOON);
        known = kill(lab, child, known)?;
    }
    let folder = lab.folder().map(|dir| dir.display().to_string());
    match &folder {
        Some(dir) => code(lab, &["run", "--resume", dir, "--no-wait"], &[0, 4])?,
        None => code(lab, &begin, &[0, 4])?,
    }
    finished(lab, &known, &expected, !more.is_empty())
}

/// Kills the harness and compares its record with what it held before and with what it had
/// reported.
fn kill(lab: &Lab, mut child: std::process::Child, known: Known) -> Result<Known, Fault> {
    let before = match lab.folder() {
        Some(dir) => Known::of(&read(&dir)?)?,
        None => Known::default(),
    };
    _ = child.kill();
    _ = child.wait();
    let said = lab.said()?;
    if said.contains("another measurement is running") {
        return lost("a killed run left its lock");
    }
    let Some(dir) = lab.folder() else {
        return if reported(&said) > 0 { lost("iterations were reported, but there is no record") } else { Ok(known) };
    };
    let after = Known::of(&read(&dir)?)?;
    kept(&known.rows, &after.rows)?;
    kept(&before.rows, &after.rows)?;
    if after.profiled < before.profiled.max(known.profiled) {
        return lost(format!("{} profiled iterations of {} are left", after.profiled, before.profiled));
    }
    let (told, there) = (reported(&said), iterations(&after.rows) + after.profiled);
    if told > there {
        return lost(format!("{told} iterations were reported, but {there} are in the record"));
    }
    lab.must(&["results", "show", &dir.display().to_string()])?;
    Ok(after)
}

fn finished(lab: &Lab, known: &Known, expected: &Tokens, profiled: bool) -> Result<(), Fault> {
    let Some(dir) = lab.folder() else { return lost("there is no record at the end") };
    let record = read(&dir)?;
    let all = rows(&record)?;
    kept(&known.rows, &all)?;
    if iterations(&all) != ITERATIONS || record.manifest.state != FinishState::Finished {
        return lost(format!("{} of {ITERATIONS} iterations, {:?}", iterations(&all), record.manifest.state));
    }
    if profiled && record.profile.iterations.is_empty() {
        return lost("the profiled pass is missing");
    }
    let failed = all.values().find(|row| row.status == Status::Failed);
    if let Some(row) = failed {
        return lost(format!("an iteration failed: {}", row.reason));
    }
    let found = tokens(&record)?;
    if let Some((at, _)) = found.iter().find(|(at, own)| expected.get(at).is_some_and(|tokens| tokens != *own)) {
        return lost(format!("cell and turn {at:?} have other tokens than an undisturbed run"));
    }
    if !record.requests.is_sorted_by_key(|row| row.start_ns) {
        return lost("time does not go on over the resumes");
    }
    lab.must(&["report", &dir.display().to_string()])
}

/// Runs the program, which must end with one of these codes.
pub fn code(lab: &Lab, arguments: &[&str], codes: &[i32]) -> Result<(), Fault> {
    let done = lab.finish(arguments)?;
    match done.code {
        Some(code) if codes.contains(&code) => Ok(()),
        code => lost(format!("{arguments:?} ended with {code:?}: {}", tail(&done.stderr))),
    }
}

/// A session of equal sides.
pub fn ab(lab: &Lab, random: &mut Random) -> Result<(), Fault> {
    let gates = "[run]\nexternal_causes = \"warn\"\ntimeout_s = 30.0\n[ab]\npilot = 5\n[[gate]]\nmetric = \"peak_memory\"\ndelta = \"50%\"\n";
    let scenario = lab.write("scenario.toml", &format!("{HEAD}{ENGINE}{PROMPT}{gates}"))?;
    let scenario = scenario.display().to_string();
    let resident: &[&str] = if random.below(2) == 0 { &["--resident"] } else { &[] };
    let begin = [&["ab", &scenario, "--same", "--no-report"], resident].concat();
    let mut pairs = Vec::new();
    let session = |lab: &Lab| lab.folder().filter(|dir| ab::is_session(dir));
    for _ in 0..1 + random.below(3) {
        let dir = session(lab).map(|dir| dir.display().to_string());
        let mut child = match &dir {
            Some(dir) => lab.start(&["ab", "--resume", dir, "--no-report", "--no-wait"])?,
            None => lab.start(&begin)?,
        };
        random.pause(SOON);
        let before = session(lab).map_or_else(|| Ok(Vec::new()), |dir| session_pairs(&dir))?;
        _ = child.kill();
        _ = child.wait();
        let said = lab.said()?;
        if said.contains("another measurement is running") {
            return lost("a killed session left its lock");
        }
        let after = session(lab).map_or_else(|| Ok(Vec::new()), |dir| session_pairs(&dir))?;
        if !after.starts_with(&before) || !after.starts_with(&pairs) {
            return lost("a committed pair is gone or changed");
        }
        let told = reported_pairs(&said);
        if after.len() < told {
            return lost(format!("{told} pairs were reported, but {} are in the session", after.len()));
        }
        pairs = after;
    }
    // Equal sides on a busy machine: the verdict may be any, but there is one.
    let codes = [0, 1, 3, 4];
    match session(lab).map(|dir| dir.display().to_string()) {
        Some(dir) => code(lab, &["ab", "--resume", &dir, "--no-report", "--no-wait"], &codes)?,
        None => code(lab, &begin, &codes)?,
    }
    let Some(dir) = session(lab) else { return lost("there is no session at the end") };
    if !session_pairs(&dir)?.starts_with(&pairs) {
        return lost("a committed pair is gone or changed at the end");
    }
    match ab::read(&dir).map(|record| record.manifest.state) {
        Ok(FinishState::Finished) => lab.must(&["report", &dir.display().to_string()]),
        other => lost(format!("the session is not finished: {other:?}")),
    }
}

/// The largest N of the lines `pilot N/M` or `pair N/M`.
fn reported_pairs(said: &str) -> usize {
    let counts = said.lines().filter_map(|line| {
        let rest = line.strip_prefix("pilot ").or(line.strip_prefix("pair "))?;
        rest.split_once('/')?.0.parse().ok()
    });
    counts.max().unwrap_or(0)
}

/// The pairs of a session, each with its rows on both sides, which must be there.
fn session_pairs(dir: &Path) -> Result<Vec<(ab::PairRow, Rows)>, Fault> {
    // The manifest comes first and says whether there is a session yet.
    let record = match ab::read(dir) {
        Ok(record) => record,
        Err(error) => return lost(format!("the session does not open: {error}")),
    };
    let (a, b) = (rows(&record.a)?, rows(&record.b)?);
    let mut pairs = Vec::new();
    for pair in record.pairs {
        let mut own = Rows::new();
        for (side, iteration) in pair.iterations() {
            let of_side = if side == inferometer::spec::Side::A { &a } else { &b };
            let found = of_side.iter().filter(|((_, at, _), _)| *at == iteration);
            let found: Vec<_> = found.map(|((cell, at, turn), row)| ((*cell, *at, *turn), row.clone())).collect();
            if found.is_empty() {
                return lost(format!("pair {} names iteration {iteration}, which is not there", pair.pair));
            }
            // Both iterations of a pilot's pair are of one side and so have different numbers.
            own.extend(found.into_iter().map(|((cell, at, turn), row)| ((cell + 1000 * side as u32, at, turn), row)));
        }
        pairs.push((pair, own));
    }
    Ok(pairs)
}

/// Kills the engine's host instead of the harness: it costs iterations, never the run.
pub fn host(lab: &Lab, random: &mut Random) -> Result<(), Fault> {
    let scenario = lab.write("scenario.toml", &format!("{HEAD}{ENGINES}{PROMPT}{MEASURED}"))?;
    let mut child = lab.start(&["run", &scenario.display().to_string(), "--no-report"])?;
    let mut killed = 0;
    let until = Instant::now() + Duration::from_secs(60);
    while child.try_wait().map_err(crate::lab::io)?.is_none() && Instant::now() < until {
        random.pause(Duration::from_millis(900));
        let hosts =
            lab.folder().and_then(|dir| read(&dir).ok()).map(|record| record.manifest.hosts).unwrap_or_default();
        let pid = hosts.last().and_then(|host| rustix::process::Pid::from_raw(host.pid as i32));
        // Its pid may be another's by now only if it is not this round's.
        if let Some(pid) = pid.filter(|pid| lab.running().contains(pid))
            && killed < 2
            && rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
        {
            killed += 1;
        }
    }
    let done = lab.end(child)?;
    let Some(dir) = lab.folder() else { return lost("there is no record") };
    let record = read(&dir)?;
    // The first host of all may die before it is ready: then nothing can be measured.
    if done.code == Some(2) {
        return if record.requests.iter().any(|row| !row.warmup) { lost(tail(&done.stderr)) } else { Ok(()) };
    }
    let all = rows(&record)?;
    let bad = all.values().filter(|row| row.status == Status::Failed).count();
    if iterations(&all) != ITERATIONS || bad > killed {
        return lost(format!("{} of {ITERATIONS} iterations, {bad} failed, {killed} hosts killed", iterations(&all)));
    }
    tokens(&record)?;
    // An invalid iteration, which a busy machine can cause, comes before a failed one.
    let invalid = all.values().any(|row| row.status == Status::Invalid);
    match (bad, done.code) {
        (0, Some(0 | 4)) | (1.., Some(1)) => Ok(()),
        (1.., Some(4)) if invalid => Ok(()),
        (_, code) => lost(format!("{bad} iterations failed, but the exit code is {code:?}")),
    }
}
