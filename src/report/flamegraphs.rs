//! Flamegraphs of the profiled pass: interactive files beside the page, static images in it.

use super::functions::cells;
use super::summary::{Summary, functions};
use super::text;
use crate::profile::flamegraph::Look;
use crate::profile::{flamegraph_svg, folded};
use crate::record::Record;
use crate::spec::Threads;
use inferometer_protocol::Phase;

/// The page's images leave out frames narrower than this, in percent. If an image is too large, the
/// next value is used.
const STILL_PERCENT: [f64; 4] = [0.1, 0.3, 1.0, 3.0];
/// Largest static image, in bytes.
const STILL_BYTES: usize = 150_000;
const FILE_PERCENT: f64 = 0.01;

/// The flamegraph of a phase of a cell.
pub struct Flamegraph {
    pub cell: u32,
    pub phase: Option<Phase>,
    /// Name of the interactive file among the charts.
    pub file: String,
    title: String,
    subtitle: String,
    stacks: Vec<(String, u64)>,
}

/// One of each cell and phase that has enough samples.
#[must_use]
pub fn of(record: &Record, summary: &Summary) -> Vec<Flamegraph> {
    let threads = record.manifest.scenario.profile.as_ref().map_or(Threads::Merged, |profile| profile.threads);
    let mut found = Vec::new();
    for (cell, seen) in cells(summary) {
        let profiles = functions::profiles(record, cell.cell);
        for phase in seen.phases.iter().filter(|phase| phase.too_few().is_none()) {
            found.push(Flamegraph {
                cell: cell.cell,
                phase: phase.phase,
                file: format!("flamegraph-cell-{}-{}.svg", cell.cell, phase.name()),
                title: format!("{}: {}", text::label(cell.name()), phase.name()),
                subtitle: phase.sampled.clone(),
                stacks: folded(&profiles, phase.phase, threads),
            });
        }
    }
    found
}

impl Flamegraph {
    /// With the script for zoom and search.
    #[must_use]
    pub fn interactive(&self) -> String {
        self.drawn(FILE_PERCENT, true)
    }

    /// A static image of bounded size.
    #[must_use]
    pub fn still(&self) -> String {
        let mut svg = String::new();
        for percent in STILL_PERCENT {
            svg = self.drawn(percent, false);
            if svg.len() <= STILL_BYTES {
                break;
            }
        }
        svg
    }

    fn drawn(&self, narrowest_percent: f64, interactive: bool) -> String {
        let look = Look { title: &self.title, subtitle: &self.subtitle, narrowest_percent, interactive };
        flamegraph_svg(&self.stacks, &look).unwrap_or_default()
    }
}
