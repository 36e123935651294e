//! llama-bench's JSON lines and SQL, which llama.cpp's `scripts/compare-llama-bench.py` reads.
//!
//! A cell gives two rows. `n_prompt` = length: its prefill. `n_gen` = N at `n_depth` = length: its
//! decode, where llama-bench counts N tokens in the time of N and we N-1 gaps between N tokens, so
//! one row is N-1 tokens long. llama-bench's own rows contain neither sampling nor tokenization.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::values;
use crate::record::metric::{DECODE_TPS, METRICS, Metric, PREFILL_TPS};
use crate::record::{HostInfo, Record};
use crate::spec::Workload;
use inferometer_protocol::toggle::{KV_DTYPE, PREFILL_CHUNK_SIZE, THREADS};

/// One line for each rate of each cell with a prompt of exact length.
#[must_use]
pub fn llama_bench(record: &Record) -> String {
    let mut text = String::new();
    for row in rows(record) {
        let _ = writeln!(text, "{}", Value::Object(row));
    }
    text
}

/// The same rows as statements for SQLite, without the samples, which llama-bench's table lacks.
#[must_use]
pub fn llama_bench_sql(record: &Record) -> String {
    let mut text = String::new();
    for mut row in rows(record) {
        row.retain(|_, value| !value.is_array());
        if text.is_empty() {
            let kind = |value: &Value| match value {
                Value::String(_) => "TEXT",
                Value::Number(number) if number.is_f64() => "REAL",
                _ => "INTEGER",
            };
            let columns: Vec<String> = row.iter().map(|(name, value)| format!("  {name} {}", kind(value))).collect();
            let _ = writeln!(text, "CREATE TABLE IF NOT EXISTS llama_bench (\n{}\n);\n", columns.join(",\n"));
        }
        let plain = |value: &Value| match value {
            Value::String(text) => text.replace('\'', "''"),
            Value::Bool(holds) => u8::from(*holds).to_string(),
            other => other.to_string(),
        };
        let names: Vec<&str> = row.keys().map(String::as_str).collect();
        let values: Vec<String> = row.values().map(|value| format!("'{}'", plain(value))).collect();
        let _ = writeln!(text, "INSERT INTO llama_bench ({}) VALUES ({});", names.join(", "), values.join(", "));
    }
    text
}

fn rows(record: &Record) -> Vec<Map<String, Value>> {
    let mut rows = Vec::new();
    let generated = match &record.manifest.scenario.workload {
        Workload::Prompt(work) => u64::from(work.max_tokens),
        Workload::Conversation(_) => return rows,
    };
    // llama-bench sends one request after the other.
    for cell in record.manifest.plan.cells.iter().filter(|cell| cell.level.is_none()) {
        let Some(host) = record.manifest.hosts.iter().find(|host| host.engine == cell.engine) else { continue };
        let Some(length) = cell.length.map(u64::from) else { continue };
        let gaps = generated.saturating_sub(1);
        for (key, tokens, place) in [
            (PREFILL_TPS, length, [("n_prompt", length), ("n_gen", 0), ("n_depth", 0)]),
            (DECODE_TPS, gaps, [("n_prompt", 0), ("n_gen", gaps), ("n_depth", length)]),
        ] {
            let Some(metric) = METRICS.iter().find(|metric| metric.key == key) else { continue };
            let Some(measured) = rate(record, cell.id, metric, tokens) else { continue };
            let mut row = about(record, host, &cell.toggles);
            row.extend(place.map(|(name, value)| (name.to_owned(), value.into())));
            row.extend(measured);
            rows.push(row);
        }
    }
    rows
}

/// Mean and standard deviation, as llama-bench gives them, and the samples.
fn rate(record: &Record, cell: u32, metric: &Metric, tokens: u64) -> Option<Map<String, Value>> {
    let rates = values(record, cell, metric);
    if rates.is_empty() || tokens == 0 {
        return None;
    }
    let times: Vec<f64> = rates.iter().map(|rate| tokens as f64 / rate * 1e9).collect();
    let (avg_ts, stddev_ts) = moments(&rates);
    let (avg_ns, stddev_ns) = moments(&times);
    let whole = |ns: f64| ns.round() as u64;
    let row = json!({
        "test_time": record.manifest.origin_utc,
        "avg_ns": whole(avg_ns),
        "stddev_ns": whole(stddev_ns),
        "avg_ts": avg_ts,
        "stddev_ts": stddev_ts,
        "samples_ns": times.into_iter().map(whole).collect::<Vec<_>>(),
        "samples_ts": rates,
    });
    row.as_object().cloned()
}

/// Mean and sample standard deviation; 0 for a single value, as llama-bench writes it.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

/// What llama-bench says about build, machine, model and settings. Its reader needs every key; what
/// this record does not know has the value that stands for nothing there.
fn about(record: &Record, host: &HostInfo, toggles: &inferometer_protocol::Settings) -> Map<String, Value> {
    let (machine, receipt) = (&record.manifest.machine, &host.receipt);
    let count = |name: &str| toggles.get(name).or(receipt.settings.get(name)).and_then(|value| value.as_count());
    let kv = toggles.get(KV_DTYPE).or(receipt.settings.get(KV_DTYPE)).map_or_else(String::new, ToString::to_string);
    let kind = [receipt.model.architecture.as_deref(), receipt.model.weight_format.as_deref()];
    let kind = kind.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let chunk = count(PREFILL_CHUNK_SIZE).unwrap_or(0);
    let row = json!({
        "build_commit": receipt.commit.as_deref().or(record.manifest.git.as_ref().map(|git| git.commit.as_str())).unwrap_or("unknown"),
        "build_number": 0,
        "cpu_info": machine.cpu.as_deref().unwrap_or(""),
        "gpu_info": machine.accelerator.as_deref().unwrap_or(""),
        "backends": receipt.backend.as_deref().unwrap_or(&receipt.engine),
        "model_filename": receipt.model.name,
        "model_type": kind,
        "model_size": receipt.model.weight_bytes.unwrap_or(0),
        "model_n_params": receipt.model.parameters.unwrap_or(0),
        "n_batch": chunk,
        "n_ubatch": chunk,
        "n_threads": count(THREADS).unwrap_or(0),
        "cpu_mask": "0x0",
        "cpu_strict": false,
        "poll": 0,
        "type_k": kv,
        "type_v": kv,
        "n_gpu_layers": 0,
        "n_cpu_moe": 0,
        "split_mode": "",
        "main_gpu": 0,
        "no_kv_offload": false,
        "flash_attn": false,
        "tensor_split": "0.00",
        "tensor_buft_overrides": "none",
        "use_mmap": false,
        "load_mode": "",
        "embeddings": false,
        "no_op_offload": 0,
        "fit_target": 0,
        "fit_min_ctx": 0,
    });
    row.as_object().cloned().unwrap_or_default()
}
