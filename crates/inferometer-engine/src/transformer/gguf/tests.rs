//! GGUF files against folders with the same weights.

use std::path::Path;

use serde_json::{Value as Json, json};

use super::fixture::write;
use crate::gguf::GgmlType;
use crate::transformer::Transformer;
use crate::transformer::backend::Backend;
use crate::transformer::candle::{CandleBackend, Format, threads};
use crate::transformer::checkpoint::Opened;
use crate::transformer::model::Model;
use crate::transformer::testing::{Stored, config, load, open, prompt, request, run, tensors, write_model};
use inferometer_host::Engine;
use inferometer_protocol::ErrorKind;

/// The tiny configuration of each family that GGUF files have.
fn families() -> Vec<Json> {
    let with = |model_type: &str, changes: Json| {
        let mut config = config(model_type);
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        config
    };
    vec![
        with("llama", json!({"tie_word_embeddings": false})),
        with("qwen2", json!({})),
        with("qwen3", json!({})),
        with(
            "qwen3_moe",
            json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": true}),
        ),
        with("smollm3", json!({"num_hidden_layers": 4})),
        with("phi3", json!({"partial_rotary_factor": 0.5})),
        with("gemma3_text", json!({"num_hidden_layers": 6, "sliding_window": 8, "query_pre_attn_scalar": 16})),
        with(
            "gpt_oss",
            json!({"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 8,
                               "intermediate_size": 32}),
        ),
    ]
}

fn files(config: &Json, kind: GgmlType) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tensors = tensors(config, 1);
    write_model(dir.path(), config, &tensors);
    write(&dir.path().join("model.gguf"), config, &tensors, kind);
    dir
}

#[test]
fn a_file_gives_the_tokens_of_the_folder_with_the_same_weights() {
    for config in families() {
        let dir = files(&config, GgmlType::F32);
        let mut folder = open(dir.path()).unwrap();
        let mut file = Transformer.open(&load(&dir.path().join("model.gguf"), &[])).unwrap();
        let receipt = file.receipt();
        let name = config["model_type"].as_str().unwrap();
        assert_eq!((&receipt.settings["dtype"], receipt.details.get("source_format")), (&"f32".into(), None), "{name}");
        assert_eq!(receipt.model.parameters, folder.receipt().model.parameters, "{name}");
        for length in [1, 30] {
            let request = request(prompt(length), 16);
            let (want, got) = (run(&mut *folder, &request).unwrap().0, run(&mut *file, &request).unwrap().0);
            assert_eq!(got, want, "{name}, {length} tokens");
        }
    }
}

/// Rows of 64 and 96 values: whole blocks of 32 fit, those of 256 do not.
#[test]
fn matrices_stay_in_the_stored_type_unless_another_is_asked_for() {
    let config = config("llama");
    for (kind, name) in [
        (GgmlType::F16, "f16"),
        (GgmlType::BF16, "bf16"),
        (GgmlType::Q4_0, "q4_0"),
        (GgmlType::Q4_1, "q4_1"),
        (GgmlType::Q5_0, "q5_0"),
        (GgmlType::Q5_1, "q5_1"),
        (GgmlType::Q8_0, "q8_0"),
    ] {
        let dir = files(&config, kind);
        let path = dir.path().join("model.gguf");
        let stored = Transformer.open(&load(&path, &[])).unwrap();
        let receipt = stored.receipt();
        assert_eq!((&receipt.settings["dtype"], receipt.details.get("source_format")), (&name.into(), None));
        drop(stored);
        let widened = Transformer.open(&load(&path, &[("dtype", "f32".into())])).unwrap();
        assert_eq!(widened.receipt().details["source_format"], name);
        // The same weights; only the inputs of products may be rounded to eight bits.
        let (kept, widened) = (logits(&path, Format::Stored), logits(&path, Format::F32));
        let size = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let off = size(&mut kept.iter().zip(&widened).map(|(a, b)| a - b)) / size(&mut widened.iter().copied());
        assert!(off < 0.1, "{name}: off by {off}");
    }
}

#[test]
fn the_affine_form_of_a_type_has_the_same_values() {
    let config = config("llama");
    for (kind, affine) in
        [(GgmlType::Q4_0, true), (GgmlType::Q4_1, true), (GgmlType::Q8_0, true), (GgmlType::Q5_0, false)]
    {
        let dir = files(&config, kind);
        let Opened { weights, .. } = Opened::open(&dir.path().join("model.gguf")).unwrap();
        let weight = weights.matrix("model.layers.1.mlp.up_proj").unwrap();
        let converted = weight.ggml().unwrap().affine().map(|tensor| tensor.to_f32());
        let largest = weight.to_f32().iter().fold(0f32, |a, b| a.max(b.abs()));
        let close = |values: Vec<f32>| weight.to_f32().iter().zip(values).all(|(a, b)| (a - b).abs() < 1e-6 * largest);
        assert_eq!(converted.map(close), affine.then_some(true), "{kind}");
    }
}

fn logits(path: &Path, format: Format) -> Vec<f32> {
    let Opened { config, weights, .. } = Opened::open(path).unwrap();
    let backend = CandleBackend::new(format, threads::set(None).unwrap());
    let model = Model::load(backend, config, &*weights, None).unwrap();
    let mut values = Vec::new();
    let ids = model.backend.ids(&prompt(12)).unwrap();
    let logits = model.forward(&ids, 12, &mut model.cache().unwrap()).unwrap();
    model.backend.read(&logits, &mut values).unwrap();
    values
}

/// The error of opening the file of a tiny Llama after a change of what is written.
fn refused(change: impl FnOnce(&mut Json, &mut Vec<Stored>)) -> String {
    let mut config = config("llama");
    let mut tensors = tensors(&config, 1);
    change(&mut config, &mut tensors);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    write(&path, &config, &tensors, GgmlType::F32);
    let error = Transformer.open(&load(&path, &[])).err().expect("the file should be refused");
    assert_eq!(error.kind, ErrorKind::Model, "{error}");
    assert!(error.message.contains("model.gguf"), "{error}");
    error.message
}

#[test]
fn a_file_that_does_not_fit_its_metadata_is_refused_and_the_tensor_or_key_named() {
    let up = "model.layers.1.mlp.up_proj.weight";
    let missing = refused(|_, tensors| tensors.retain(|tensor| tensor.0 != up));
    assert!(missing.contains("blk.1.ffn_up.weight is missing"), "{missing}");
    let shape = refused(|_, tensors| tensors.iter_mut().find(|tensor| tensor.0 == up).unwrap().2 = vec![64, 96]);
    assert!(shape.contains("blk.1.ffn_up.weight has shape [64, 96], but the metadata says [96, 64]"), "{shape}");
    let extra = refused(|_, tensors| {
        let tensor = tensors[0].clone();
        tensors.push(("model.layers.9.mlp.up_proj.weight".to_owned(), tensor.1, tensor.2, tensor.3));
    });
    assert!(extra.contains("blk.9.ffn_up.weight is extra"), "{extra}");
    let unknown = refused(|config, _| config["model_type"] = json!("mamba"));
    assert!(unknown.contains("general.architecture") && unknown.contains("\"mamba\" is not supported"), "{unknown}");
    let odd = refused(|config, _| config["head_dim"] = json!(15));
    assert!(odd.contains("head_dim 15 is odd"), "{odd}");
}
