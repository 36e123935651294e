//! Reads reference values computed by SciPy (`scripts/fixtures stats`).

use serde_json::Value;

/// `tests/data/stats/<name>.json`.
pub fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/data/stats/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

/// An array of numbers.
pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}
