//! `run.json`, `ab.json`, `pairs.csv` and the lines of a profiled pass: the first byte says which.
#![no_main]

use inferometer::record::bytes;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((which, text)) = input.split_first() else { return };
    match which % 4 {
        0 => _ = bytes::run_manifest(text).map_err(|error| error.to_string()),
        1 => _ = bytes::ab_manifest(text).map_err(|error| error.to_string()),
        2 => _ = bytes::pairs(text).map_err(|error| error.to_string()),
        _ => _ = bytes::profiled_iterations(text).map_err(|error| error.to_string()),
    }
});
