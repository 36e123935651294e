//! `inferometer model list`

use std::path::PathBuf;

use serde::Serialize;

use crate::cli::printer::{Layout, Printer};
use crate::models::{Found, Place, Survey, survey};
use crate::report::table::{Cell, Table};
use crate::report::text;
use inferometer_engine::glance::{Glance, glance};
use inferometer_engine::synthetic::preset::{PRESETS, Preset};
use inferometer_protocol::Architecture;
use inferometer_protocol::units::bytes;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Format of the output
    #[arg(long, value_enum, default_value_t = Layout::Table)]
    format: Layout,
}

/// One model, as `list --format json` shows it.
#[derive(Serialize)]
struct Row {
    #[serde(flatten)]
    found: Found,
    #[serde(flatten)]
    glance: Glance,
}

/// One preset, as `list --format json` shows it.
#[derive(Debug, Serialize)]
struct Listed {
    architecture: Architecture,
    preset: &'static str,
    parameters: u64,
    disk_bytes: u64,
    q8_0_bytes: u64,
    meaning: &'static str,
}

pub fn run(args: &Args, printer: &Printer) -> anyhow::Result<()> {
    let Survey { found, places, remarks } = survey();
    let row = |found: Found| Row { glance: glance(&found.path), found };
    let rows: Vec<Row> = found.into_iter().map(row).collect();
    let presets = presets()?;
    if args.format == Layout::Json {
        let json = serde_json::json!({"models": rows, "places": places, "remarks": remarks, "presets": presets});
        printer.line(serde_json::to_string_pretty(&json)?);
        return Ok(());
    }
    for looked in places.iter().filter(|looked| looked.exists) {
        let here: Vec<&Row> =
            rows.iter().filter(|row| row.found.place == looked.place && row.is_in(&looked.folder)).collect();
        print(looked.place, &looked.folder.display().to_string(), here, printer);
    }
    let absent: Vec<PathBuf> = places.into_iter().filter(|looked| !looked.exists).map(|looked| looked.folder).collect();
    if rows.is_empty() {
        printer.line("No models on this machine. `inferometer model get --list` shows some to fetch.");
    }
    if !absent.is_empty() {
        printer.line("Places that are not there:");
        absent.iter().for_each(|folder| printer.line(format_args!("  {}", folder.display())));
    }
    remarks.iter().for_each(|remark| printer.warning(remark));
    printer.line("\nPresets of synthetic models (`inferometer bench synthetic:ARCHITECTURE/PRESET`):");
    printer.data(preset_table(presets).terminal());
    Ok(())
}

impl Row {
    fn is_in(&self, folder: &std::path::Path) -> bool {
        self.found.path.starts_with(folder)
    }
}

fn print(place: Place, folder: &str, rows: Vec<&Row>, printer: &Printer) {
    if rows.is_empty() {
        printer.line(format_args!("{place}, {folder}: no models\n"));
        return;
    }
    printer.line(format_args!("{place}, {folder}:"));
    let or_dash = |text: &Option<String>| text.clone().map_or_else(Cell::nothing, Cell::from);
    let table = Table::of(place.name(), rows)
        .head("name", |row| text::broken(&row.found.name, NAME, &BETWEEN))
        .at_most(NAME as u16)
        .text("arch", |row| or_dash(&row.glance.architecture))
        .at_most(12)
        .text("format", |row| or_dash(&row.glance.format))
        .at_most(16)
        .number("bits", |row| row.glance.bits.map_or_else(Cell::nothing, |bits| format!("{bits:.1}").into()))
        .number("size", |row| bytes(row.glance.disk_bytes))
        .number("context", |row| {
            row.glance.context_length.map_or_else(Cell::nothing, |tokens| tokens.to_string().into())
        })
        .text("runs", |row| if row.glance.refused.is_none() { "yes" } else { "no" })
        .text("", |row| or_dash(&row.glance.refused))
        .beneath();
    printer.data(table.terminal());
    printer.line("");
}

/// Width of the names; the other columns need the rest of 80.
const NAME: usize = 22;

/// Long names are broken after these.
const BETWEEN: [char; 6] = ['/', '-', '_', '.', ':', '@'];

fn presets() -> anyhow::Result<Vec<Listed>> {
    let listed = |preset: &Preset| {
        let weight = preset.weight()?;
        anyhow::Ok(Listed {
            architecture: preset.arch,
            preset: preset.name,
            parameters: weight.parameters,
            disk_bytes: weight.disk_bytes,
            q8_0_bytes: weight.q8_0_bytes,
            meaning: preset.meaning,
        })
    };
    PRESETS.iter().map(listed).collect()
}

fn preset_table(presets: Vec<Listed>) -> Table<Listed> {
    Table::of("Presets", presets)
        .text("architecture", |row| row.architecture.name())
        .text("preset", |row| row.preset)
        .number("parameters", |row| format!("{:.1} M", row.parameters as f64 / 1e6))
        .number("on disk", |row| bytes(row.disk_bytes))
        .number("as q8_0", |row| bytes(row.q8_0_bytes))
        .text("", |row| row.meaning)
}
