//! Disks that are full, and folders that are deleted or moved, while the program writes there.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use inferometer::record::FinishState;

use crate::kills::{ENGINES, HEAD, ITERATIONS, MEASURED, PROMPT, code};
use crate::lab::{Done, Fault, Lab, Random, io, iterations, kept, lost, read, reported, rows, tail, tokens};

fn scenario(lab: &Lab) -> Result<String, Fault> {
    let text = format!("{HEAD}{ENGINES}{PROMPT}{MEASURED}");
    Ok(lab.write("scenario.toml", &text)?.display().to_string())
}

/// A limit on the size of a file fails a write as a full disk does; ignoring the signal makes it an
/// error.
pub fn full_file(lab: &Lab, random: &mut Random) -> Result<(), Fault> {
    let scenario = scenario(lab)?;
    // Blocks of 512 bytes; what the program says goes to a file too.
    let limit = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", 16 + random.below(120));
    let child = lab.command(&["sh", "-c", &limit, "sh"], &["run", &scenario, "--no-report"])?.spawn().map_err(io)?;
    let done = lab.end(child)?;
    ended(lab, &done, lab.folder().as_deref())?;
    goes_on(lab, &scenario)
}

/// A small tmpfs in a mount namespace of its own. Its content is copied out before it vanishes.
pub fn full_disk(lab: &Lab, random: &mut Random) -> Result<(), Fault> {
    let scenario = scenario(lab)?;
    fs_err::create_dir(lab.path("disk")).map_err(io)?;
    let size = 24 + random.below(200);
    let mount = format!("mount -t tmpfs -o size={size}k torture disk");
    let can = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", &mount])
        .current_dir(lab.path(""))
        .stderr(Stdio::null())
        .status();
    if !can.is_ok_and(|status| status.success()) {
        return Err(Fault::NotTried("a small disk needs root and unshare".to_owned()));
    }
    let words = format!("{mount} && \"$@\"; code=$?; cp -a disk/. results; exit $code");
    let arguments = ["run", &scenario, "--no-report", "--results", "disk"];
    let child = lab.command(&["unshare", "-m", "sh", "-c", &words, "sh"], &arguments)?.spawn().map_err(io)?;
    let done = lab.end(child)?;
    ended(lab, &done, lab.folder().as_deref())?;
    goes_on(lab, &scenario)
}

/// A run that met a full disk ends with 2 and keeps what it reported; else it is whole.
fn ended(lab: &Lab, done: &Done, folder: Option<&Path>) -> Result<(), Fault> {
    let there = folder.map_or(Ok(0), |dir| Ok(iterations(&rows(&read(dir)?)?)))?;
    let told = reported(&done.stderr);
    if told > there {
        return lost(format!("{told} iterations were reported, but {there} are in the record"));
    }
    match done.code {
        Some(0 | 4) if there == ITERATIONS => {}
        Some(2)
            if ["disk is full", "No space left", "File too large"].iter().any(|word| done.stderr.contains(word)) => {}
        code => return lost(format!("code {code:?} with {there} iterations: {}", tail(&done.stderr))),
    }
    folder.map_or(Ok(()), |dir| lab.must(&["results", "show", &dir.display().to_string()]))
}

/// With room again, the run is resumed to its end and loses nothing.
fn goes_on(lab: &Lab, scenario: &str) -> Result<(), Fault> {
    let Some(dir) = lab.folder() else { return code(lab, &["run", scenario, "--no-report"], &[0, 4]) };
    let before = rows(&read(&dir)?)?;
    code(lab, &["run", "--resume", &dir.display().to_string(), "--no-wait"], &[0, 4])?;
    let record = read(&dir)?;
    let after = rows(&record)?;
    kept(&before, &after)?;
    tokens(&record)?;
    match (iterations(&after), record.manifest.state) {
        (ITERATIONS, FinishState::Finished) => Ok(()),
        (count, state) => lost(format!("{count} of {ITERATIONS} iterations, {state:?}")),
    }
}

/// What cannot be printed is an error; the record is whole all the same.
pub fn full_stdout(lab: &Lab, random: &mut Random) -> Result<(), Fault> {
    let full = fs_err::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else { return Err(Fault::NotTried("there is no /dev/full".to_owned())) };
    let scenario = scenario(lab)?;
    let format = ["table", "csv", "json", "md"][random.below(4) as usize];
    let arguments = ["run", &scenario, "--no-report", "--format", format];
    let child = lab.command(&[], &arguments)?.stdout(full.into_file()).spawn().map_err(io)?;
    let done = lab.end(child)?;
    let Some(dir) = lab.folder() else { return lost("there is no record") };
    let record = read(&dir)?;
    let there = iterations(&rows(&record)?);
    // An invalid result keeps its own code.
    if !matches!(done.code, Some(2 | 4)) || !done.stderr.contains("cannot write to standard output") {
        return lost(format!("code {:?}: {}", done.code, tail(&done.stderr)));
    }
    if there == ITERATIONS { Ok(()) } else { lost(format!("{there} of {ITERATIONS} iterations")) }
}

/// The results are deleted or moved away while a run writes there.
pub fn folder(lab: &Lab, random: &mut Random) -> Result<(), Fault> {
    let scenario = scenario(lab)?;
    let mut child = lab.start(&["run", &scenario, "--no-report"])?;
    let until = Instant::now() + Duration::from_secs(60);
    while lab.folder().is_none() && Instant::now() < until && child.try_wait().map_err(io)?.is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    if lab.folder().is_none() {
        return lost(format!("there is no record: {}", tail(&lab.end(child)?.stderr)));
    }
    random.pause(Duration::from_millis(900));
    let before = lab.folder().map_or_else(|| Ok(Default::default()), |dir| rows(&read(&dir)?))?;
    let results = lab.path("results");
    let deleted = random.below(2) == 0;
    let disturbed = if deleted {
        // The run may be writing there.
        (0..200).any(|_| fs_err::remove_dir_all(&results).is_ok() || !results.exists())
    } else {
        fs_err::rename(&results, lab.path("moved")).is_ok()
    };
    let done = lab.end(child)?;
    if !disturbed {
        return Err(Fault::NotTried("the folder could not be deleted or moved".to_owned()));
    }
    // It may have been at its end already.
    if !matches!(done.code, Some(0 | 2 | 4)) || (done.code != Some(2) && iterations(&before) + 2 < ITERATIONS) {
        return lost(format!("code {:?} without its folder: {}", done.code, tail(&done.stderr)));
    }
    if deleted {
        return Ok(());
    }
    let Some(dir) = lab.folders("moved").pop() else { return lost("the moved folder has no record") };
    let there = rows(&read(&dir)?)?;
    kept(&before, &there)?;
    let told = reported(&done.stderr);
    if told > iterations(&there) {
        return lost(format!("{told} iterations were reported, but {} are in the record", iterations(&there)));
    }
    code(lab, &["run", "--resume", &dir.display().to_string(), "--no-wait", "--no-report"], &[0, 4])?;
    let record = read(&dir)?;
    kept(&there, &rows(&record)?)?;
    if record.manifest.state == FinishState::Finished { Ok(()) } else { lost("the moved run did not finish") }
}
