//! Jumps of the wall clock, with libfaketime (Debian's package `libfaketime`) where it is
//! installed.

use std::path::Path;

use inferometer::record::FinishState;

use crate::kills::{ENGINES, HEAD, ITERATIONS, MEASURED, PROMPT, code};
use crate::lab::{Fault, Lab, Random, io, iterations, kept, lost, read, rows, tail, tokens};

const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
];

pub fn round(lab: &Lab, random: &mut Random) -> Result<(), Fault> {
    let Some(library) = PLACES.iter().find(|path| Path::new(path).exists()) else {
        return Err(Fault::NotTried("libfaketime is not installed".to_owned()));
    };
    let scenario = lab.write("scenario.toml", &format!("{HEAD}{ENGINES}{PROMPT}{MEASURED}"))?;
    let clock = lab.write("clock", "+0")?;
    let mut child = lab
        .command(&[], &["run", &scenario.display().to_string(), "--no-report"])?
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        // The kernel's monotonic clock does not jump either.
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .spawn()
        .map_err(io)?;
    let kills = random.below(2) == 0;
    for _ in 0..1 + random.below(4) {
        random.pause(std::time::Duration::from_millis(700));
        // Up to a year, forwards or backwards.
        let jump = random.below(2 * 365 * 86400) as i64 - 365 * 86400;
        fs_err::write(&clock, format!("{jump:+}")).map_err(io)?;
    }
    if kills {
        _ = child.kill();
        _ = child.wait();
        lab.said()?;
    } else {
        let done = lab.end(child)?;
        if !matches!(done.code, Some(0 | 4)) {
            return lost(format!("code {:?}: {}", done.code, tail(&done.stderr)));
        }
    }
    let Some(dir) = lab.folder() else {
        return if kills { Ok(()) } else { lost("there is no record") };
    };
    // Resumed at the true time, which may lie before or after the jumps.
    let before = rows(&read(&dir)?)?;
    code(lab, &["run", "--resume", &dir.display().to_string(), "--no-report", "--no-wait"], &[0, 4])?;
    let record = read(&dir)?;
    let after = rows(&record)?;
    kept(&before, &after)?;
    tokens(&record)?;
    if !record.requests.is_sorted_by_key(|row| row.start_ns) {
        return lost("the record's times do not rise");
    }
    if let Some(row) = after.values().find(|row| row.end_ns.saturating_sub(row.start_ns) > 60_000_000_000) {
        return lost(format!("iteration {} took {} ns", row.iteration, row.end_ns - row.start_ns));
    }
    match (iterations(&after), record.manifest.state) {
        (ITERATIONS, FinishState::Finished) => Ok(()),
        (count, state) => lost(format!("{count} of {ITERATIONS} iterations, {state:?}")),
    }
}
