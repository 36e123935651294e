//! Writes the report of a simulated A/B session: `cargo run --example simulated_ab_report --
//! REPORTS KIND`, a verdict or `hostile`.
//!
//! For looking at reports, and for `scripts/check-report`, without an engine.

#[path = "../tests/it/simulated_ab.rs"]
#[allow(dead_code)]
mod simulated_ab;
#[path = "../tests/it/simulated_run.rs"]
#[allow(dead_code)]
mod simulated_run;

use std::path::PathBuf;

use inferometer::report::ab::{AbSummary, Telling, terminal, write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = format!("usage: simulated_ab_report REPORTS {}", simulated_ab::KINDS.join("|"));
    let (Some(reports), Some(kind)) = (args.next().map(PathBuf::from), args.next()) else { return Err(usage.into()) };
    let mut record = simulated_ab::session(&kind);
    record.manifest.session = format!("ab-{kind}");
    let summary = AbSummary::of(&record, Telling::default());
    let page = write(&record, &summary, &reports)?;
    #[allow(clippy::print_stdout)]
    {
        println!("{}\n{}", terminal::render(&summary), page.display());
    }
    Ok(())
}
