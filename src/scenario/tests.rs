//! Scenarios from text to resolved form, and the messages for invalid ones.

mod ab;
mod cells;
mod engines;
mod sections;
mod workload;

use std::path::Path;

use super::keys::{self, SECTIONS, Shape};
use super::{Offers, ScenarioError, Unnamed, from_text, load, plan};
use crate::spec::{
    AbSettings, BuildSettings, Isolation, Plan, ProfilerChoice, Replies, Scenario, SpanSync, Threads, Vary, Workload,
};
use inferometer_protocol::{
    Architecture, Honours, Kind, ModelSpec, Offer, OptionSpec, Precision, Quantization, Sampling, Settings, Value,
    Variant, sampling,
};

pub(super) fn offers() -> Offers {
    let backend = OptionSpec {
        name: "backend",
        kind: Kind::Text,
        choices: &["candle", "mlx", "cuda"],
        paths: false,
        meaning: "what computes the tensors",
    };
    let command =
        OptionSpec { name: "command", kind: Kind::Texts, choices: &[], paths: true, meaning: "program and arguments" };
    let honoured = vec![
        "repetition_penalty",
        "repetition_context_size",
        "repetition_window_cap",
        "prefill_chunk_size",
        "kv_reuse",
        "threads",
        "dtype",
    ];
    // `mlx` honours more than `candle`; `cuda` is not in this build.
    let mut on_mlx = honoured.clone();
    on_mlx.extend(["memory_limit", "kv_cache"]);
    let variant = |value, missing: Option<&str>, toggles, refused: &[_]| Variant {
        option: "backend",
        value,
        missing: missing.map(str::to_owned),
        honours: Honours {
            toggles: Some(toggles),
            choices: &[("kv_cache", &["rotating:"])],
            sampling: Some(sampling::FIELDS),
            refused: refused.into(),
        },
    };
    let variants = vec![
        variant("candle", None, honoured.clone(), &[("memory_limit", "candle sets no limits")]),
        variant("mlx", None, on_mlx, &[("threads", "never seen: it is honoured")]),
        Variant {
            honours: Honours::default(),
            ..variant("cuda", Some("this build has no CUDA: buy one"), Vec::new(), &[])
        },
    ];
    let transformer = Offer {
        name: "transformer",
        label: "transformer",
        meaning: "the project's own engine",
        options: vec![backend],
        required: &[],
        serves: false,
        honours: variants[0].honours.clone(),
        variants,
        built_in: true,
    };
    let exec = Offer {
        name: "exec",
        label: "exec",
        meaning: "any program that speaks the protocol",
        options: vec![command],
        required: &["command"],
        serves: true,
        honours: Honours::default(),
        variants: Vec::new(),
        built_in: false,
    };
    let presets = ["tiny", "small"].map(|name| (Architecture::Qwen3, name));
    Offers {
        engines: vec![transformer, exec],
        presets: [&presets[..], &[(Architecture::Llama, "tiny")]].concat(),
        model: |name| match name {
            "smollm2" => Ok("/models/smollm2.gguf".into()),
            _ => Err(Unnamed { problem: format!("no model is named `{name}`"), help: vec!["look".to_owned()] }),
        },
    }
}

/// A minimal scenario, followed by `rest`.
fn least(rest: &str) -> String {
    format!(
        "name = \"t\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\" }}\n[workload]\ntext = \"hello\"\n{rest}"
    )
}

fn parse(text: &str, overrides: &[&str]) -> Result<Scenario, ScenarioError> {
    let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
    from_text("t.toml", text, Path::new("/nowhere"), &overrides, &offers())
}

fn good(text: &str, overrides: &[&str]) -> Scenario {
    parse(text, overrides).unwrap_or_else(|error| panic!("{error}"))
}

fn bad(text: &str, overrides: &[&str]) -> String {
    parse(text, overrides).expect_err("a problem was expected").to_string()
}

fn planned(text: &str) -> Plan {
    plan(&good(text, &[]), &offers()).unwrap()
}

fn labels(plan: &Plan) -> Vec<&str> {
    plan.cells.iter().map(|c| c.label.as_str()).collect()
}
