//! Where every figure comes from: machine, build, model, hosts and receipts, scenario, order,
//! gauges, clocks.

use maud::{Markup, html};
use serde_json::Value as Json;

use super::section as titled;
use crate::record::{GitState, HostInfo, Record};
use crate::report::summary::Summary;
use crate::report::table::{Cell, Table};
use crate::report::text;
use crate::report::text::plural;
use crate::spec::Isolation;
use crate::telemetry;
use inferometer_protocol::units;

/// Most hosts and rounds shown; `run.json` has all.
const SHOWN: usize = 12;

pub fn section(record: &Record, summary: &Summary) -> Markup {
    titled(
        "provenance",
        "Provenance",
        html! {
            div.columns {
                div { h3 { "Run" } (facts(&run(record, summary))) }
                div { h3 { "Machine" } (facts(&machine(record))) }
            }
            h3 { "Engine hosts and receipts" }
            (hosts(record))
            h3 { "Gauges" }
            (gauges(record))
            h3 { "Scenario as resolved" }
            details { summary { "Show" } pre { (scenario(record)) } }
            h3 { "Order of cells" }
            (order(record))
        },
    )
}

/// A list of names with their values.
pub(in crate::report) fn facts(rows: &[(&str, String)]) -> Markup {
    html! {
        dl.pairs {
            @for (name, value) in rows { div { dt { (name) } dd { (text::sentence(value)) } } }
        }
    }
}

fn run(record: &Record, summary: &Summary) -> Vec<(&'static str, String)> {
    let manifest = &record.manifest;
    let isolation = match summary.run.isolation {
        Isolation::Run => "one host for the whole run",
        Isolation::Cell => "a fresh host for each cell",
        Isolation::Iteration => "a fresh host for each iteration",
        Isolation::Load => "a fresh host for each cell, which loads the model for each iteration",
    };
    let mut rows = vec![
        ("Record", manifest.run.clone()),
        ("Schema version", manifest.schema_version.to_string()),
        ("Started", manifest.origin_utc.clone()),
        ended(manifest.finished_utc.as_ref()),
        ("Run segments", manifest.segments.to_string()),
        ("Isolation", isolation.to_owned()),
        ("Warm-ups", format!("{} for each cell in each fresh host", summary.run.warmup)),
        ("Order seed", summary.run.order_seed.to_string()),
        commit(manifest.git.as_ref()),
        ("Scenario SHA-256", manifest.scenario_sha256.clone()),
        ("Inferometer", manifest.inferometer_version.clone()),
    ];
    if let Some(model) = summary.run.engines.iter().find_map(|engine| engine.model.as_ref()) {
        rows.push(("Model", model.path.clone()));
        let fingerprint = model.fingerprint.clone();
        rows.push(("Model fingerprint", fingerprint.unwrap_or_else(|| "not reported by the engine".to_owned())));
    }
    if !manifest.scenario.overrides.is_empty() {
        rows.push(("Overrides", manifest.scenario.overrides.join(", ")));
    }
    rows
}

pub(in crate::report) fn ended(utc: Option<&String>) -> (&'static str, String) {
    ("Ended", utc.cloned().unwrap_or_else(|| "not recorded".to_owned()))
}

pub(in crate::report) fn commit(git: Option<&GitState>) -> (&'static str, String) {
    let words = match git {
        Some(git) if git.dirty => format!("{} with uncommitted changes", git.commit),
        Some(git) => git.commit.clone(),
        None => "not in a repository".to_owned(),
    };
    ("Commit of the working folder", words)
}

/// The facts about the machine; unknown ones say so.
pub(in crate::report) fn machine(record: &Record) -> Vec<(&'static str, String)> {
    let machine = &record.manifest.machine;
    let unknown = || "not known".to_owned();
    let count = |n: Option<u32>| n.map_or_else(unknown, |n| n.to_string());
    let words = |text: &Option<String>| text.clone().unwrap_or_else(unknown);
    vec![
        ("System", machine.system().unwrap_or_else(unknown)),
        ("Kernel", words(&machine.kernel)),
        ("CPU", words(&machine.cpu)),
        ("Cores", format!("{} physical, {} logical", count(machine.physical_cores), count(machine.logical_cores))),
        ("CPU features", if machine.cpu_features.is_empty() { unknown() } else { machine.cpu_features.join(", ") }),
        ("Memory", machine.memory_bytes.map_or_else(unknown, units::bytes)),
        ("Accelerator", words(&machine.accelerator)),
        ("Virtual machine", machine.virtual_machine.map_or_else(unknown, |v| if v { "yes" } else { "no" }.to_owned())),
        ("Governor", words(&machine.governor)),
        ("Power source", words(&machine.power_source)),
        ("Load at start", machine.load_at_start.map_or_else(unknown, |load| format!("{load:.2}"))),
    ]
}

fn hosts(record: &Record) -> Markup {
    let hosts = &record.manifest.hosts;
    html! {
        @if hosts.is_empty() { p { "No host started." } }
        @for host in hosts.iter().take(SHOWN) { (one_host(record, host)) }
        @if hosts.len() > SHOWN { p.note { "The first " (SHOWN) " of " (hosts.len()) " hosts; run.json has all." } }
    }
}

fn one_host(record: &Record, host: &HostInfo) -> Markup {
    let engine = record.manifest.scenario.engines.get(host.engine as usize).map_or("?", |e| e.label.as_str());
    let huge = host.huge_page_bytes.map_or_else(|| "unknown".to_owned(), units::bytes);
    let rows = [
        ("Process", format!("{}: {}", host.pid, host.command.join(" "))),
        ("Executable SHA-256", host.executable_sha256.clone().unwrap_or_else(|| "could not be read".to_owned())),
        ("Load time", format!("{} s", units::significant(host.load_s))),
        ("Memory in huge pages", huge),
        ("Clock", clock(host)),
    ];
    html! {
        details {
            summary {
                "Host " (host.host) ": " (text::label(engine)) " " (text::label(&host.receipt.version))
                @for (name, value) in &host.load { ", " (text::label(&format!("{name}={value}"))) }
            }
            (facts(&rows))
            (receipt(host).html())
        }
    }
}

fn receipt(host: &HostInfo) -> Table<(String, String)> {
    let mut fields = Vec::new();
    flatten("", &serde_json::to_value(&host.receipt).unwrap_or(Json::Null), &mut fields);
    Table::of("Receipt", fields)
        .head("receipt", |(name, _)| Cell::from(name).code())
        .said("value", |(_, value)| value.clone())
        .text("how known", |(name, _)| if is_verified(host, name) { "verified" } else { "reported" })
}

fn clock(host: &HostInfo) -> String {
    let round_trip = units::duration_ns(host.clock_round_trip_ns);
    let offset = units::duration_ns(host.clock_offset_ns.unsigned_abs());
    let sign = if host.clock_offset_ns < 0 { "-" } else { "" };
    format!("{}, {sign}{offset} from the harness's (round trip {round_trip})", host.clock)
}

/// Whether the harness checked the field, or a group that it belongs to.
fn is_verified(host: &HostInfo, name: &str) -> bool {
    host.verified.iter().any(|v| name == v || name.strip_prefix(v.as_str()).is_some_and(|rest| rest.starts_with('.')))
}

/// Leaves of a JSON value by their dotted names; null values are left out.
fn flatten(name: &str, value: &Json, fields: &mut Vec<(String, String)>) {
    match value {
        Json::Object(map) => {
            for (key, inner) in map {
                let path = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                flatten(&path, inner, fields);
            }
        }
        Json::Array(items) => {
            let words: Vec<String> = items.iter().map(plain).collect();
            fields.push((name.to_owned(), if words.is_empty() { "none".to_owned() } else { words.join(", ") }));
        }
        Json::Null => {}
        leaf => fields.push((name.to_owned(), plain(leaf))),
    }
}

fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn gauges(record: &Record) -> Markup {
    let gauges = &record.manifest.gauges;
    let table = Table::of("Gauges", gauges)
        .head("gauge", |gauge| Cell::from(&gauge.name).code())
        .text("unit", |gauge| &gauge.unit)
        .said("source", |gauge| &gauge.source)
        .said("recorded", |gauge| gauge.absent.as_ref().map_or("yes".to_owned(), |reason| format!("no: {reason}")));
    html! {
        @for sitting in &record.manifest.sampling { p.note { (text::sentence(&telemetry::describe(sitting))) } }
        @if gauges.is_empty() { p { "None." } } @else { (table.html()) }
    }
}

/// The scenario as JSON, long texts in it shortened.
fn scenario(record: &Record) -> String {
    let mut scenario = serde_json::to_value(&record.manifest.scenario).unwrap_or(Json::Null);
    shorten(&mut scenario);
    text::visible(&serde_json::to_string_pretty(&scenario).unwrap_or_default())
}

fn shorten(value: &mut Json) {
    match value {
        Json::String(words) => {
            let (shown, rest) = text::shortened(words, text::SHOWN);
            *words = if rest > 0 { format!("{shown} … {rest} more characters") } else { shown };
        }
        Json::Array(items) => items.iter_mut().for_each(shorten),
        Json::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}

fn order(record: &Record) -> Markup {
    let order = &record.manifest.plan.order;
    html! {
        p.note { "Cells by number, in their planned order." }
        details {
            summary { (plural(order.len(), "round")) }
            ol {
                @for round in order.iter().take(SHOWN) { li { (text::list(round, 64)) } }
            }
            @if order.len() > SHOWN { p.note { "The first " (SHOWN) " of " (order.len()) "; run.json has all." } }
        }
    }
}
