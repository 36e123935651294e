//! The report of an A/B session: pure functions of its record. Same record, same bytes.

mod advice;
mod charts;
mod detail;
mod difference;
pub mod junit;
pub mod markdown;
mod page;
mod quality;
pub mod summary;
mod tables;
pub mod terminal;
mod words;

use std::path::{Path, PathBuf};

pub use charts::Charts;
pub use summary::{AbSummary, Telling};

use super::{ReportError, folder, write_charts};
use crate::compare::profile::flamegraphs;
use crate::record::ab::AbRecord;

/// Folder of the profile differences in a report.
const PROFILES: &str = "profiles";

/// Writes `<reports>/<session>/`: index.html, charts/*.svg, summary.md, summary.json, junit.xml.
/// After a profiled pass also profiles/*.svg and profiles/functions.csv. Replaces an older report
/// of the session.
///
/// Returns the path of index.html.
///
/// # Errors
/// When the folder cannot be made or written; the message names the path.
pub fn write(record: &AbRecord, summary: &AbSummary, reports: &Path) -> Result<PathBuf, ReportError> {
    let folder = folder(reports, &record.manifest.session)?;
    let charts = Charts::of(summary);
    write_charts(&folder, charts.all())?;
    fs_err::write(folder.join("summary.json"), summary.to_json())?;
    fs_err::write(folder.join("summary.md"), markdown::render(summary))?;
    fs_err::write(folder.join("junit.xml"), junit::render(summary))?;
    let drawn = flamegraphs(&record.a, &record.b, &summary.profiles);
    if summary.profiles.iter().any(|cell| !cell.phases.is_empty()) {
        super::write_profiles(&folder.join(PROFILES), &summary.profiles, &drawn)?;
    }
    let page = folder.join("index.html");
    fs_err::write(&page, page::page(record, summary, &charts, &drawn))?;
    Ok(page)
}
