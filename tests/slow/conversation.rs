//! The shipped conversations of twenty turns: with reuse a turn computes only what is new to it,
//! and gives the same tokens as without; ten iterations give the same tokens in every turn, and so
//! does a second run.

use std::collections::{BTreeMap, BTreeSet};

use inferometer::record::RequestRow;

use super::{Bench, Run, assert_counts};

const TURNS: usize = 20;

/// The whole conversations of a run: by label of the cell the rows of each iteration, by turn.
fn conversations(run: &Run) -> BTreeMap<String, Vec<Vec<&RequestRow>>> {
    run.record.requests.iter().for_each(assert_counts);
    let mut iterations: BTreeMap<(u32, u32), Vec<&RequestRow>> = BTreeMap::new();
    for row in run.measured() {
        iterations.entry((row.cell, row.iteration)).or_default().push(row);
    }
    let mut found: BTreeMap<String, Vec<Vec<&RequestRow>>> = BTreeMap::new();
    for ((cell, _), rows) in iterations {
        let turns: Vec<usize> = rows.iter().map(|row| row.turn as usize).collect();
        assert_eq!(turns, (0..TURNS).collect::<Vec<_>>());
        let cell = run.record.manifest.plan.cells.iter().find(|one| one.id == cell).unwrap();
        found.entry(cell.label.clone()).or_default().push(rows);
    }
    found
}

fn hashes(rows: &[&RequestRow]) -> Vec<String> {
    rows.iter().map(|row| row.token_hash.clone().unwrap()).collect()
}

/// What a turn computed, reused and left in the cache. `reuse`: the prefix of the turn before is
/// taken over.
fn assert_turns(label: &str, reuse: bool, rows: &[&RequestRow]) {
    let (mut before, mut generated) = (0, 0);
    for row in rows {
        let [prompt, reused, prefill, cache] =
            [row.prompt_tokens, row.reused_tokens, row.prefill_tokens, row.cache_tokens].map(Option::unwrap);
        // The prompt before is a part of this one, and a generated token may happen to be the fixed
        // reply's.
        let allowed = if reuse { before..=before + generated } else { 0..=0 };
        let sound = allowed.contains(&reused) && prefill == prompt - reused;
        assert!(sound, "{label}, turn {}: {prompt} tokens, {reused} reused, {prefill} computed", row.turn);
        (before, generated) = (prompt, row.generated_tokens.unwrap());
        assert_eq!(cache, prompt + generated - 1, "{label}, turn {}: what the cache holds", row.turn);
    }
}

#[test]
fn reuse_changes_what_is_computed_and_no_token() {
    let bench = Bench::new();
    let reuse = bench.run("reuse", "conversation-20", &[]);
    let reuse = conversations(&reuse);
    let labels: Vec<&str> = reuse.keys().map(String::as_str).collect();
    assert_eq!(labels, ["reuse=none", "reuse=prefix"]);
    let tokens: BTreeSet<Vec<String>> = reuse.values().flatten().map(|rows| hashes(rows)).collect();
    assert_eq!(tokens.len(), 1, "reuse changed the tokens");
    let turns: BTreeSet<&String> = tokens.iter().flatten().collect();
    assert_eq!(turns.len(), TURNS, "turns of different prompts gave the same tokens");
    for (label, iterations) in &reuse {
        for rows in iterations {
            assert_turns(label, label == "reuse=prefix", rows);
        }
    }
    for name in ["first", "second"] {
        let ten = bench.run(name, "conversation-20-ten", &[]);
        let ten = conversations(&ten);
        assert_eq!(ten.len(), 1, "{:?}", ten.keys());
        let iterations = ten.values().next().unwrap();
        assert_eq!(iterations.len(), 10);
        let found: BTreeSet<Vec<String>> = iterations.iter().map(|rows| hashes(rows)).collect();
        assert_eq!(found, tokens, "{name}: other tokens");
    }
}
