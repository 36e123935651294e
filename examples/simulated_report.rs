//! Writes the report of a simulated run: `cargo run --example simulated_report -- REPORTS
//! [clean|eventful|empty|one|many|engines|hostile]`.
//!
//! For looking at reports, and for `scripts/check-report`, without an engine.

#[path = "../tests/it/simulated_run.rs"]
#[allow(dead_code)]
mod simulated_run;

use std::path::PathBuf;

use simulated_run::{HOSTILE, Simulation, as_engines, eventful, poison};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let reports = PathBuf::from(
        args.next().ok_or("usage: simulated_report REPORTS [clean|eventful|empty|one|many|engines|hostile]")?,
    );
    let kind = args.next().unwrap_or_else(|| "eventful".to_owned());
    let mut record = match kind.as_str() {
        "eventful" => eventful(),
        "one" => Simulation { lengths: vec![512], caps: vec![0], iterations: 1, ..Simulation::default() }.record(),
        "many" => Simulation { caps: vec![0, 64, 128, 256, 512, 768, 1024, 2048], ..Simulation::default() }.record(),
        _ => Simulation::default().record(),
    };
    if kind == "empty" {
        record.requests.clear();
        record.tokens.clear();
        record.spans.clear();
        record.telemetry.clear();
    }
    if kind == "engines" {
        as_engines(&mut record, &["llama-cpp", "transformer"]);
    }
    if kind == "hostile" {
        poison(&mut record, HOSTILE);
    }
    record.manifest.run = kind;
    let page = inferometer::report::write(&record, &reports)?;
    #[allow(clippy::print_stdout)]
    {
        println!("{}", page.display());
    }
    Ok(())
}
