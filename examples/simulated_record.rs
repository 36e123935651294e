//! Writes the record of a simulated run: `cargo run --example simulated_record -- RESULTS
//! TOKEN_ROWS`.
//!
//! For `scripts/bench-report`: ten cells of ten iterations, as many token rows as asked for or a
//! few more.

#[path = "../tests/it/simulated_run.rs"]
#[allow(dead_code)]
mod simulated_run;

use std::path::PathBuf;

use simulated_run::{Simulation, save};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const USAGE: &str = "usage: simulated_record RESULTS TOKEN_ROWS";
    let mut args = std::env::args().skip(1);
    let results = PathBuf::from(args.next().ok_or(USAGE)?);
    let rows: u32 = args.next().ok_or(USAGE)?.parse()?;
    let simulation = Simulation {
        caps: vec![0, 768],
        lengths: vec![128, 512, 1024, 2048, 4096],
        max_tokens: rows.div_ceil(110).max(2),
        ..Simulation::default()
    };
    let folder = save(&simulation.record(), &results);
    #[allow(clippy::print_stdout)]
    {
        println!("{}", folder.display());
    }
    Ok(())
}
