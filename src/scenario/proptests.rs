//! Random input to the parser: it never panics, and valid input is parsed as intended.

use std::path::Path;

use proptest::prelude::*;

use super::tests::offers;
use super::{from_text, load, outline, plan};
use crate::spec::Scenario;

/// Pieces of scenarios, so that random texts get further than the first line.
const PIECES: &[&str] = &[
    "name",
    "[model]",
    "[[engine]]",
    "[workload]",
    "[run]",
    "[toggles]",
    "[telemetry]",
    "[[gate]]",
    "[ab]",
    "[build]",
    "metric",
    "\"ttft\"",
    "cells",
    "delta",
    "\"3%\"",
    "command",
    "synthetic",
    "path",
    "options",
    "lengths",
    "text",
    "text_file",
    "kind",
    "turn",
    "turns_file",
    "[[workload.turn]]",
    "user",
    "\"conversation\"",
    "iterations",
    "prefill_chunk_size",
    "kv_cache",
    "vary",
    "gauges",
    "=",
    "\n",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    "\"",
    "'",
    "\"\"\"",
    "1",
    "-1",
    "0",
    "1e999",
    "99999999999999999999",
    "nan",
    "true",
    "1979-05-27",
    "\"x\"",
    "\"rotating:1\"",
    " ",
    "\t",
    "\r\n",
    "#",
    "\u{feff}",
    "\u{1b}[31m",
    "é",
    "\u{202e}",
    "\0",
];

fn soup() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(PIECES), 0..60).prop_map(|pieces| pieces.concat())
}

/// Parses, then continues as a verb would, or renders the diagnostic.
fn exercise(text: &str, overrides: &[String]) {
    match from_text("t.toml", text, Path::new("/nowhere"), overrides, &offers()) {
        Ok(scenario) => _ = plan(&scenario, &offers()).map(|plan| outline(&scenario, &plan)),
        Err(error) => {
            assert!(!error.problems().is_empty());
            assert!(!error.to_string().is_empty() && !error.styled().is_empty());
        }
    }
}

#[derive(Debug, Clone)]
struct Meant {
    lengths: Vec<u32>,
    chunks: Vec<u32>,
    caps: Vec<u32>,
    penalty: f64,
    context: u32,
    iterations: u32,
    max_tokens: u32,
    star: bool,
}

fn distinct(values: std::ops::Range<u32>, count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::btree_set(values, count).prop_map(|set| set.into_iter().collect()).prop_shuffle()
}

prop_compose! {
    fn meant()(
        lengths in distinct(1..5000, 0..4),
        chunks in distinct(1..5000, 1..4),
        caps in distinct(0..5000, 1..4),
        penalty in prop::sample::select(vec![1.0, 1.1]),
        context in 0_u32..3000,
        iterations in 1_u32..4,
        max_tokens in 1_u32..200,
        star in any::<bool>(),
    ) -> Meant {
        Meant { lengths, chunks, caps, penalty, context, iterations, max_tokens, star }
    }
}

impl Meant {
    fn text(&self) -> String {
        let lengths = if self.lengths.is_empty() { String::new() } else { format!("lengths = {:?}\n", self.lengths) };
        format!(
            "name = \"p\"\n[model]\nsynthetic = {{ arch = \"llama\", preset = \"tiny\" }}\n[workload]\ntext = \"x\"\n\
             max_tokens = {}\n{lengths}[sampling]\nrepetition_penalty = {:?}\nrepetition_context_size = {}\n\
             [run]\niterations = {}\n[toggles]\nvary = \"{}\"\nprefill_chunk_size = {:?}\nrepetition_window_cap = {:?}\n",
            self.max_tokens,
            self.penalty,
            self.context,
            self.iterations,
            if self.star { "one-at-a-time" } else { "all" },
            self.chunks,
            self.caps,
        )
    }

    fn combinations(&self) -> usize {
        match self.star {
            true => self.chunks.len() + self.caps.len() - 1,
            false => self.chunks.len() * self.caps.len(),
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), set in any::<String>()) {
        exercise(&text, &[]);
        exercise(&text, &[set]);
    }

    #[test]
    fn soup_of_pieces_never_panics(text in soup(), overrides in prop::collection::vec(soup(), 0..3)) {
        exercise(&text, &overrides);
    }

    #[test]
    fn arbitrary_bytes_in_a_file_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.toml");
        fs_err::write(&path, &bytes).unwrap();
        if let Err(error) = load(&path, &[], &offers()) {
            prop_assert!(error.to_string().contains("s.toml"), "{error}");
        }
    }

    #[test]
    fn a_valid_scenario_comes_out_as_meant(meant in meant()) {
        let scenario = from_text("t", &meant.text(), Path::new(""), &[], &offers()).unwrap();
        prop_assert_eq!(scenario.workload.lengths(), &meant.lengths);
        prop_assert_eq!(scenario.workload.max_tokens(), meant.max_tokens);
        prop_assert_eq!(scenario.run.iterations, meant.iterations);
        prop_assert_eq!(scenario.toggles.iter().map(|a| a.values.len()).product::<usize>(), meant.chunks.len() * meant.caps.len());
        let again: Scenario = serde_json::from_str(&serde_json::to_string(&scenario).unwrap()).unwrap();
        prop_assert_eq!(again, scenario);
    }

    /// Merging loses no combination, no two cells share a label, and the members of a cell have
    /// equal predictions.
    #[test]
    fn merging_loses_nothing(meant in meant()) {
        let scenario = from_text("t", &meant.text(), Path::new(""), &[], &offers()).unwrap();
        let plan = plan(&scenario, &offers()).unwrap();
        let members: usize = plan.cells.iter().map(|c| 1 + c.merged.len()).sum();
        prop_assert_eq!(members, meant.combinations() * meant.lengths.len().max(1));
        let mut labels: Vec<&str> = plan.cells.iter().map(|c| c.label.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        prop_assert_eq!(labels.len(), plan.cells.len());
        for cell in &plan.cells {
            let Some(prompt_tokens) = cell.length else {
                prop_assert!(cell.merged.is_empty());
                continue;
            };
            let shape = inferometer_protocol::Shape { prompt_tokens, reused_tokens: 0, generated_tokens: meant.max_tokens };
            for toggles in &cell.merged {
                prop_assert_eq!(&inferometer_protocol::predict(&scenario.sampling, toggles, shape), &cell.predicted);
            }
        }
        prop_assert_eq!(outline(&scenario, &plan).requests, plan.cells.len() as u64 * u64::from(meant.iterations));
    }
}
