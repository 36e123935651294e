//! `inferometer results prune`

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};

use super::Where;
use crate::cli::printer::Printer;
use crate::record::{ab, folder, manifest};
use inferometer_protocol::units;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove records older than this, such as `30d`, `12h` or `8w`
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<jiff::SignedDuration>,
    /// Keep the newest N records of each scenario
    #[arg(long, value_name = "N")]
    keep: Option<usize>,
    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: Where,
}

/// Parses `30d`.
fn age(text: &str) -> Result<jiff::SignedDuration, String> {
    let wrong = || "must be a whole number of hours, days or weeks, such as 12h, 30d or 8w".to_owned();
    let (number, hours) = match text.trim().char_indices().last() {
        Some((at, 'h')) => (&text.trim()[..at], 1),
        Some((at, 'd')) => (&text.trim()[..at], 24),
        Some((at, 'w')) => (&text.trim()[..at], 24 * 7),
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    Ok(jiff::SignedDuration::from_hours(i64::from(number) * hours))
}

/// A record that can be removed.
struct Old {
    dir: PathBuf,
    /// Kind and scenario.
    group: (bool, String),
    started: jiff::Timestamp,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<()> {
    if args.older_than.is_none() && args.keep.is_none() {
        bail!("say what to remove: --older-than 30d, --keep N, or both");
    }
    if folder::is_record(&args.place.results) {
        bail!("{} is a record, not a folder of records", args.place.results.display());
    }
    let mut records = Vec::new();
    for dir in args.place.folders()? {
        match read(dir.clone()) {
            Ok(record) => records.push(record),
            Err(error) => printer.warning(format_args!("{} stays: {error}", dir.display())),
        }
    }
    let (mut removed, mut bytes) = (0, 0);
    for record in chosen(args, records) {
        let dir = &record.dir;
        if let Err(error) = folder::check_removable(dir) {
            printer.warning(format_args!("{} stays: {error}", dir.display()));
            continue;
        }
        let size = folder::bytes(dir)?;
        if !args.dry_run
            && let Err(error) = folder::remove(dir)
        {
            printer.warning(format_args!("{} stays: {error}", dir.display()));
            continue;
        }
        let verb = if args.dry_run { "would remove" } else { "removed" };
        printer.line(format_args!("{verb} {} ({})", dir.display(), units::bytes(size)));
        (removed, bytes) = (removed + 1, bytes + size);
    }
    let records = crate::report::text::plural(removed, "record");
    let verb = if args.dry_run { "would remove" } else { "removed" };
    printer.line(format_args!("{verb} {records}, {} ({bytes} bytes)", units::bytes(bytes)));
    Ok(())
}

fn read(dir: PathBuf) -> anyhow::Result<Old> {
    let (is_session, scenario, started) = if ab::is_session(&dir) {
        let manifest = ab::manifest(&dir)?;
        (true, manifest.scenario, manifest.origin_utc)
    } else {
        let manifest = manifest::read(&dir)?;
        (false, manifest.scenario.name, manifest.origin_utc)
    };
    let started = started.parse().with_context(|| format!("its start {started:?} is not a time"))?;
    Ok(Old { dir, group: (is_session, scenario), started })
}

/// The records to remove, oldest first: those beyond the newest N, if they are old enough.
fn chosen(args: &Args, mut records: Vec<Old>) -> Vec<Old> {
    records.sort_by(|a, b| (b.started, &b.dir).cmp(&(a.started, &a.dir)));
    let now = jiff::Timestamp::now();
    let mut newer: BTreeMap<(bool, String), usize> = BTreeMap::new();
    records.retain(|record| {
        let rank = newer.entry(record.group.clone()).or_default();
        *rank += 1;
        let beyond = args.keep.is_none_or(|keep| *rank > keep);
        let old = args.older_than.is_none_or(|age| now.duration_since(record.started) > age);
        beyond && old
    });
    records.reverse();
    records
}

#[cfg(test)]
mod tests {
    use super::age;

    #[test]
    fn ages_are_hours_days_or_weeks() {
        assert_eq!(age("30d").unwrap().as_hours(), 720);
        assert_eq!(age("2w").unwrap().as_hours(), 336);
        assert_eq!(age("12h").unwrap().as_hours(), 12);
        for wrong in ["", "d", "30", "-1d", "1.5d", "3m", "30 é"] {
            assert!(age(wrong).unwrap_err().contains("30d"), "{wrong}");
        }
    }
}
