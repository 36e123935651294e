//! The measurements of a recorded run, cell by cell.

use std::collections::BTreeSet;

use crate::record::metric;
use crate::record::metric::Metric;
use crate::record::{Counts, HostInfo, Imported, Record, RequestRow, Status, of_valid};
use crate::spec::Cell;
use inferometer_protocol::TokenTiming;
use inferometer_stats::robust;

/// A cell of a run with its measured rows.
#[derive(Debug)]
pub struct Measured<'a> {
    pub cell: &'a Cell,
    /// Label of its engine.
    pub engine: &'a str,
    /// Rows of valid iterations only, in their order.
    pub valid: Vec<&'a RequestRow>,
    /// All rows of valid iterations: under load some of their requests may have failed.
    whole: Vec<&'a RequestRow>,
    pub counts: Counts,
    /// The hosts that ran the cell, including failed ones.
    pub hosts: Vec<&'a HostInfo>,
    /// The program that measured, if it was another one.
    pub imported: Option<&'a Imported>,
}

/// Every cell of the plan, in its order, without warm-ups.
#[must_use]
pub fn measured(record: &Record) -> Vec<Measured<'_>> {
    let manifest = &record.manifest;
    let mut rows: Vec<Vec<&RequestRow>> = vec![Vec::new(); manifest.plan.cells.len()];
    for row in record.requests.iter().filter(|row| !row.warmup) {
        if let Some(own) = rows.get_mut(row.cell as usize) {
            own.push(row);
        }
    }
    manifest
        .plan
        .cells
        .iter()
        .zip(rows)
        .map(|(cell, rows)| {
            let planned = manifest.plan.order.iter().filter(|round| round.contains(&cell.id)).count();
            let numbers: BTreeSet<u32> = rows.iter().map(|row| row.host).collect();
            Measured {
                cell,
                engine: manifest.scenario.engines.get(cell.engine as usize).map_or("", |e| e.label.as_str()),
                counts: Counts::of(planned, &rows),
                hosts: manifest.hosts.iter().filter(|host| numbers.contains(&host.host)).collect(),
                imported: manifest.imported.as_ref(),
                whole: of_valid(&rows),
                valid: rows.into_iter().filter(|row| row.status == Status::Ok).collect(),
            }
        })
        .collect()
}

impl Measured<'_> {
    /// Name in tables.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.cell.label.is_empty() { self.engine } else { &self.cell.label }
    }

    /// The metric's value in each valid iteration that has it, in order; for loading, one per load.
    #[must_use]
    pub fn values(&self, metric: &Metric) -> Vec<f64> {
        if metric.key == metric::LOAD_S {
            return self.hosts.iter().flat_map(|host| host.loads_s()).collect();
        }
        metric::iterations(&self.whole).filter_map(|turns| metric.of_iteration(turns)).collect()
    }

    /// The metric's figures: of its values, else the mean or median that another program stated.
    #[must_use]
    pub fn figures(&self, metric: &Metric) -> Option<robust::Summary> {
        let stated = || self.imported?.average(self.cell.id, metric.key).map(robust::Summary::stated);
        robust::summarize(&self.values(metric)).or_else(stated)
    }

    /// `Exact` if every host stamped every token; `None` if no host started.
    #[must_use]
    pub fn token_timing(&self) -> Option<TokenTiming> {
        let inexact = self.hosts.iter().any(|host| host.receipt.token_timing == TokenTiming::Inexact);
        (!self.hosts.is_empty()).then_some(if inexact { TokenTiming::Inexact } else { TokenTiming::Exact })
    }
}
