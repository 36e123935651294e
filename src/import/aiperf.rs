//! AIPerf's `profile_export_aiperf.json`: statistics over the requests, without the requests.
//!
//! Source: AIPerf, `common/models/export_models.py` (`JsonExportData`).

use serde_json::Value as Json;

use super::json::Node;
use super::{Fault, Found, FoundCell, setting};
use crate::record::AverageOf;
use crate::record::metric::{E2E_MS, TTFT_MS};

pub(super) fn runs(export: &Json) -> Result<Vec<Found>, Fault> {
    let export = Node::root(export, "");
    let mut cell = FoundCell::default();
    let load = ["loadgen", "load"].iter().find_map(|key| export.below(&["input_config", key]));
    for name in ["concurrency", "request_rate", "request_count"] {
        if let Some(node) = load.as_ref().and_then(|load| load.get(name)).filter(|node| node.value.is_number()) {
            cell.settings.insert(name.to_owned(), setting(&node.value.to_string()));
        }
    }
    let shown = ["concurrency", "request_rate"];
    let words = shown.iter().filter_map(|name| Some(format!("{name}={}", cell.settings.get(*name)?)));
    cell.label = words.collect::<Vec<_>>().join(" ");
    let wanted = [(TTFT_MS, "time_to_first_token"), ("tpot_ms", "inter_token_latency"), (E2E_MS, "request_latency")];
    for (metric, name) in wanted {
        let Some(found) = export.get(name) else { continue };
        let size = match found.text("unit").as_deref() {
            Some("ms") => 1.0,
            Some("sec" | "s") => 1e3,
            Some("us") => 1e-3,
            Some("ns") => 1e-6,
            other => return Err(found.fault(format!("its unit is {}, not a time", other.unwrap_or("missing")))),
        };
        let over = found.count_at("count")?.or(requests(&export)?).map(u64::from);
        let deviation = found.get("std").map(|node| node.number()).transpose()?.map(|value| value * size);
        match (found.positive_at("p50")?, found.positive_at("avg")?) {
            (Some(median), _) => cell.average(metric, median * size, AverageOf::Median, over, deviation),
            (None, Some(mean)) => cell.average(metric, mean * size, AverageOf::Mean, over, deviation),
            (None, None) => {}
        }
    }
    let mut warnings = Vec::new();
    if export.get("is_complete").is_some_and(|node| node.value == &Json::Bool(false)) {
        warnings.push("AIPerf says that the run is not complete".to_owned());
    }
    if export.get("was_cancelled").is_some_and(|node| node.value == &Json::Bool(true)) {
        warnings.push("AIPerf says that the run was cancelled".to_owned());
    }
    Ok(vec![Found {
        version: export.text("aiperf_version"),
        engine: "server",
        model: model(&export),
        started: export.text("start_time").as_deref().and_then(time),
        cells: vec![cell],
        warnings,
        ..Found::default()
    }])
}

fn requests(export: &Node<'_>) -> Result<Option<u32>, Fault> {
    export.get("request_count").map_or(Ok(None), |count| count.count_at("avg"))
}

/// Versions have a list of names, a list of objects with a name, or such a list one level deeper.
fn model(export: &Node<'_>) -> Option<String> {
    let config = export.get("input_config")?;
    let names = [&["endpoint", "model_names"][..], &["models", "items"], &["models"]];
    let list = names.iter().find_map(|place| config.below(place)?.items().ok())?;
    let first = list.first()?;
    first.value.as_str().map(str::to_owned).or_else(|| first.text("name"))
}

/// With or without a zone; without, as if UTC.
fn time(text: &str) -> Option<jiff::Timestamp> {
    text.parse().ok().or_else(|| {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}
