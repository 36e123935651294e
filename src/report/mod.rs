//! Reports: pure functions of the record. Same record, same bytes.

pub mod ab;
pub mod charts;
pub mod compare;
pub mod engines;
pub mod export;
pub mod figures;
pub mod flamegraphs;
pub mod functions;
pub mod growth;
pub mod harmony;
pub mod history;
pub mod html;
pub mod interchange;
pub mod leaks;
pub mod markdown;
pub mod memory;
pub mod profiles;
pub mod quality;
pub mod results;
pub mod series;
pub mod spans;
pub mod summary;
pub mod svg;
pub mod table;
pub mod terminal;
pub mod text;
pub mod trace;
pub mod tradeoff;
pub mod traffic;
pub mod turns;

use std::io;
use std::path::{Path, PathBuf};

use crate::compare::profile::{CellProfiles, Flamegraph};
use crate::record::Record;
use charts::Charts;
use summary::Summary;
use svg::Chart;

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("the run is named {0:?}, which cannot be a folder; the record's run.json was changed by hand")]
    Name(String),
    #[error("cannot write the report: {0}; choose another folder with --reports")]
    Io(#[from] io::Error),
}

/// Writes `<reports>/<run>/`: index.html, charts/*.svg, summary.md, summary.json. Replaces an older
/// report of the run.
///
/// Files are not synced to disk: a report lost in a power cut can be made again from the record.
///
/// Returns the path of index.html.
///
/// # Errors
/// When the folder cannot be made or written; the message names the path.
pub fn write(record: &Record, reports: &Path) -> Result<PathBuf, ReportError> {
    let folder = folder(reports, &record.manifest.run)?;
    let summary = Summary::of(record);
    let charts = Charts::of(record, &summary);
    let drawings = write_charts(&folder, charts.all())?;
    for one in flamegraphs::of(record, &summary) {
        fs_err::write(drawings.join(&one.file), one.interactive())?;
    }
    fs_err::write(folder.join("summary.json"), summary.to_json())?;
    fs_err::write(folder.join("summary.md"), markdown::render(&summary))?;
    let page = folder.join("index.html");
    fs_err::write(&page, html::page(record, &summary, &charts))?;
    Ok(page)
}

/// Creates `folder` and writes the differences of profiled passes into it: the differential
/// flamegraphs and `functions.csv`.
///
/// # Errors
/// When the folder cannot be made or written; the message names the path.
pub fn write_profiles(folder: &Path, compared: &[CellProfiles], drawn: &[Flamegraph]) -> Result<(), ReportError> {
    fs_err::create_dir_all(folder)?;
    remove_old_charts(folder)?;
    for one in drawn {
        fs_err::write(folder.join(format!("{}.svg", one.name)), &one.svg)?;
    }
    fs_err::write(folder.join("functions.csv"), profiles::csv(compared))?;
    Ok(())
}

/// As JSON for people and programs, ended by a newline.
///
/// # Panics
/// Never for the shapes of reports: they have string keys and plain values only.
#[must_use]
pub fn json(shape: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(shape).expect("string keys and plain values only") + "\n"
}

/// The folder of the report called `name`.
fn folder(reports: &Path, name: &str) -> Result<PathBuf, ReportError> {
    if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
        return Err(ReportError::Name(name.to_owned()));
    }
    Ok(reports.join(name))
}

/// Writes `charts/` of a report, and returns its path.
fn write_charts<'a>(folder: &Path, charts: impl IntoIterator<Item = &'a Chart>) -> io::Result<PathBuf> {
    let drawings = folder.join("charts");
    fs_err::create_dir_all(&drawings)?;
    remove_old_charts(&drawings)?;
    for chart in charts {
        fs_err::write(drawings.join(format!("{}.svg", chart.name)), &chart.svg)?;
    }
    Ok(drawings)
}

/// Removes the charts of an older report.
fn remove_old_charts(folder: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "svg") {
            fs_err::remove_file(path)?;
        }
    }
    Ok(())
}
