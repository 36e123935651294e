//! Tiny GGUF files of models in this crate's tests, written as `llama.cpp` converts them.

use std::path::Path;

use candle_core::quantized::QTensor;
use candle_core::{Device, Tensor};
use serde_json::Value as Json;

use super::names;
use crate::gguf::GgmlType;
use crate::gguf::writer::Writer;
use crate::transformer::gguf::metadata::COUNTS;
use crate::transformer::testing::{Stored, VOCABULARY};

/// Writes the model of that configuration and those f32 tensors; its matrices become `kind`.
pub fn write(path: &Path, config: &Json, tensors: &[Stored], kind: GgmlType) {
    let mut writer = metadata(config);
    let sandwich = config["model_type"] == "gemma3_text" || config["model_type"] == "gpt_oss";
    for (name, shape, values) in stacked(tensors) {
        let values = converted(config, &name, &shape, values);
        let kind = if shape.len() == 1 || name.ends_with("bias") { GgmlType::F32 } else { kind };
        writer.tensor(&names::of(&name, sandwich), &shape, kind, blocks(kind, &shape, values));
    }
    writer.write(path);
}

/// All but the tensors.
pub fn metadata(config: &Json) -> Writer {
    let model_type = config["model_type"].as_str().unwrap();
    let prefix = match model_type {
        "gemma3_text" => "gemma3",
        "gpt_oss" => "gpt-oss",
        "qwen3_moe" => "qwen3moe",
        other => other,
    };
    let mut writer = Writer::default();
    writer.text("general.architecture", prefix);
    for (key, field) in COUNTS {
        if let Some(count) = config[field].as_u64().or(config[&field.replace("num_exp", "num_local_exp")].as_u64()) {
            writer.u32(&format!("{prefix}.{key}"), count as u32);
        }
    }
    if let Some(count) = config["moe_intermediate_size"]
        .as_u64()
        .or_else(|| config["num_local_experts"].as_u64().and(config["intermediate_size"].as_u64()))
    {
        writer.u32(&format!("{prefix}.expert_feed_forward_length"), count as u32);
    }
    for (key, field) in [("attention.layer_norm_rms_epsilon", "rms_norm_eps"), ("rope.freq_base", "rope_theta")] {
        writer.f32(&format!("{prefix}.{key}"), config[field].as_f64().unwrap() as f32);
    }
    if let Some(part) = config["partial_rotary_factor"].as_f64() {
        let dims = (part * config["head_dim"].as_f64().unwrap()) as u32;
        writer.u32(&format!("{prefix}.rope.dimension_count"), dims);
    }
    writer.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "gpt-2");
    let tokens: Vec<String> = (0..VOCABULARY).map(|id| format!("t{id}")).collect();
    writer.texts("tokenizer.ggml.tokens", &tokens).texts::<String>("tokenizer.ggml.merges", &[]);
    writer.u32("tokenizer.ggml.eos_token_id", 1);
    writer
}

/// Names, shapes and values; single experts as one tensor.
fn stacked(tensors: &[Stored]) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let mut out: Vec<(String, Vec<usize>, Vec<f32>)> = Vec::new();
    for (name, _, shape, bytes) in tensors {
        let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let expert = name.split_once(".mlp.experts.").and_then(|(layer, rest)| {
            let (at, part) = rest.split_once('.')?;
            at.parse::<usize>().ok()?;
            Some(format!("{layer}.mlp.switch_mlp.{part}"))
        });
        match expert {
            None => out.push((name.clone(), shape.clone(), values)),
            Some(stack) => match out.iter_mut().find(|(name, ..)| *name == stack) {
                None => out.push((stack, [&[1], shape.as_slice()].concat(), values)),
                Some((_, shape, all)) => {
                    shape[0] += 1;
                    all.extend(values);
                }
            },
        }
    }
    out
}

/// Values as the converter changes them.
fn converted(config: &Json, name: &str, shape: &[usize], values: Vec<f32>) -> Vec<f32> {
    let model_type = config["model_type"].as_str().unwrap();
    if model_type == "gemma3_text" && name.contains("norm") {
        return values.into_iter().map(|x| x + 1.0).collect();
    }
    let heads = [("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")];
    let heads = heads.into_iter().find(|(part, _)| name.contains(part)).and_then(|(_, field)| config[field].as_u64());
    match heads {
        Some(heads) if matches!(model_type, "llama" | "smollm3") => {
            let (head, width) = (shape[0] / heads as usize, values.len() / shape[0]);
            // Pairs become neighbours.
            let from = |row: usize| row / head * head + row % head / 2 + row % 2 * (head / 2);
            (0..shape[0]).flat_map(|row| &values[from(row) * width..][..width]).copied().collect()
        }
        _ => values,
    }
}

fn blocks(kind: GgmlType, shape: &[usize], values: Vec<f32>) -> Vec<u8> {
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, kind.candle().unwrap()).unwrap().data().unwrap().into_owned()
}
