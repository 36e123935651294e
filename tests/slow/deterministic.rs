//! The ten-iteration regression run: equal tokens in every iteration, in a second run, and whatever
//! the chunk size.

use std::collections::{BTreeMap, BTreeSet};

use inferometer::record::Status;
use serde_json::Value;

use super::{Bench, Run, assert_counts};

/// The hashes of each cell, in the order of the rows.
fn hashes(run: &Run) -> BTreeMap<u32, Vec<String>> {
    let rows = run.measured().count();
    let stalled = run.measured().filter(|row| row.status == Status::Invalid).count();
    assert!(stalled * 5 <= rows, "{stalled} of {rows} iterations are invalid");
    let mut cells: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for row in run.measured() {
        assert_counts(row);
        cells.entry(row.cell).or_default().push(row.token_hash.clone().unwrap());
    }
    cells
}

/// The plan's cells as run.json has them.
fn cells(run: &Run) -> Vec<Value> {
    let manifest = fs_err::read_to_string(run.folder().join("run.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    manifest["plan"]["cells"].as_array().unwrap().clone()
}

/// Runs it twice. Every cell gives ten equal token hashes, and the same ones both times.
#[test]
fn ten_iterations_give_equal_tokens_twice() {
    let bench = Bench::new();
    let first = bench.run("first", "deterministic-10", &[]);
    let second = bench.run("second", "deterministic-10", &[]);
    let found = hashes(&first);
    assert!(!found.is_empty() && found.len() == cells(&first).len(), "{:?}", found.keys());
    for (cell, found) in &found {
        let distinct: BTreeSet<&String> = found.iter().collect();
        assert!(found.len() == 10 && distinct.len() == 1, "cell {cell}: {found:?}");
    }
    assert_eq!(found, hashes(&second), "the second run gave other tokens");

    let mut ids: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for token in &first.record.tokens {
        ids.entry(token.request).or_default().extend(token.id);
    }
    for row in first.measured() {
        let ids = &ids[&row.request];
        let distinct = ids.iter().collect::<BTreeSet<_>>().len();
        // A reply that repeats one token would be equal whatever the engine computed.
        assert!(distinct * 2 >= ids.len().min(64), "request {}: {distinct} distinct of {}", row.request, ids.len());
    }
}

/// The effective chunk size of a row.
fn chunk(row: &inferometer::record::RequestRow) -> String {
    format!("{:?}", row.effective.get("prefill_chunk_size"))
}

/// The same prompts in prefill chunks of 16, 512 and 2048 tokens.
fn chunks(dtype: &str, whatever_the_chunk: bool) {
    let bench = Bench::new();
    let dtype_key = format!("toggles.dtype=\"{dtype}\"");
    let sizes = "toggles.prefill_chunk_size=[16,512,2048]";
    let arguments = ["--set", "run.iterations=2", "--set", &dtype_key, "--set", sizes];
    let run = bench.run("chunks", "deterministic-10", &arguments);
    let cells = cells(&run);
    let mut groups: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for row in run.measured() {
        assert_counts(row);
        let cell = &cells[row.cell as usize];
        let mut toggles = cell["toggles"].as_object().unwrap().clone();
        let size = toggles.remove("prefill_chunk_size");
        let size = size.filter(|_| !whatever_the_chunk);
        // Sorted, so that the order of keys in the record does not matter.
        let toggles: BTreeMap<String, Value> = toggles.into_iter().collect();
        let (tokens, sizes) = groups.entry(format!("{} {toggles:?} {size:?}", cell["length"])).or_default();
        tokens.insert(row.token_hash.clone().unwrap());
        sizes.insert(chunk(row));
    }
    assert!(!groups.is_empty());
    for (group, (tokens, _)) in &groups {
        assert_eq!(tokens.len(), 1, "{dtype}, {group}: {tokens:?}");
    }
    if whatever_the_chunk {
        let compared = groups.values().any(|(_, sizes)| sizes.len() > 1);
        assert!(compared, "every cell ran the same chunk: nothing was compared");
    }
}

#[test]
fn in_f32_the_chunk_size_does_not_change_the_tokens() {
    chunks("f32", true);
}

#[test]
fn in_q8_0_equal_chunks_give_equal_tokens() {
    chunks("q8_0", false);
}
