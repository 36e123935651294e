//! Tiny models for this engine's tests: shapes of a few kilobytes, and folders with faults.

use std::path::Path;
use std::sync::Arc;

use rand::Rng;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value as Json, json};

use super::config::Config;
use super::expected::{Source, expected};
use super::quantized::Affine;
use super::weights::{Expected, Format};
use inferometer_host::recorder::{Recorder, Shared};
use inferometer_host::rng::seeded;
use inferometer_host::{Detail, Instrumentation};
use inferometer_host::{Engine, Load, Result, Session};
use inferometer_protocol::{Completion, EngineSpec, Prompt, Request, Sampling, Settings, Value};

/// One tensor to store: name, dtype, shape, bytes.
pub type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

pub const VOCABULARY: u32 = 512;

/// Configuration of a tiny model: 2 layers, hidden 64, 4 query heads over 2 key/value heads.
pub fn config(arch: &str) -> Json {
    json!({"model_type": arch, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
           "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "vocab_size": VOCABULARY,
           "rms_norm_eps": 1e-6, "max_position_embeddings": 1024, "rope_theta": 10000.0,
           "tie_word_embeddings": true})
}

/// Seeded random tensors in f32 for the model in `config`, scaled so that every part of the model
/// affects the tokens.
pub fn tensors(config: &Json, seed: u64) -> Vec<Stored> {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let config = Config::from_folder(dir.path()).unwrap();
    let mut rng = seeded(seed, "tiny model");
    let mut uniform = || (rng.next_u32() as f32 / u32::MAX as f32) * 2.0 - 1.0;
    let needed = expected(&config, &Source::Described);
    let store = |tensor: Expected| {
        let count: usize = tensor.shape.iter().product();
        let norm = tensor.shape.len() == 1;
        let scale = if norm { 0.2 } else { 3.0 / (tensor.shape[1] as f32).sqrt() };
        let offset = if norm { 1.0 } else { 0.0 };
        let bytes = (0..count).flat_map(|_| (offset + scale * uniform()).to_le_bytes()).collect();
        (tensor.name, Dtype::F32, tensor.shape, bytes)
    };
    needed.into_iter().map(store).collect()
}

/// The same tensors in the format of a folder with that configuration: quantized matrices in three
/// parts.
pub fn quantized(config: &Json, tensors: Vec<Stored>) -> Vec<Stored> {
    let config = Config::from_json(config, Path::new("config.json")).unwrap();
    let needed = expected(&config, &Source::Described);
    let weight = |name: &str| needed.iter().find(|weight| weight.name == name).unwrap();
    tensors.into_iter().flat_map(|tensor| parts(weight(&tensor.0), tensor)).collect()
}

fn parts(weight: &Expected, (name, dtype, shape, bytes): Stored) -> Vec<Stored> {
    let Format::Affine(quantization) = weight.format else { return vec![(name, dtype, shape, bytes)] };
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let (bits, group_size) = (quantization.bits(), quantization.group_size());
    let (mut packed, mut scales, mut biases) = (Vec::new(), Vec::new(), Vec::new());
    for group in values.chunks_exact(group_size) {
        let affine = Affine::of(group, bits);
        let mut bytes = vec![0; group_size * bits as usize / 8];
        affine.pack(group, bits, &mut bytes);
        packed.append(&mut bytes);
        scales.extend(affine.scale.to_le_bytes());
        biases.extend(affine.bias.to_le_bytes());
    }
    let contents = [(Dtype::U32, packed), (Dtype::F32, scales), (Dtype::F32, biases)];
    weight
        .parts()
        .into_iter()
        .zip(contents)
        .map(|(part, (dtype, bytes))| (part.name, dtype, part.shape, bytes))
        .collect()
}

/// Writes one safetensors file.
pub fn write_file(path: &Path, tensors: &[Stored]) {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// Writes a model's folder.
pub fn write_model(folder: &Path, config: &Json, tensors: &[Stored]) {
    fs_err::write(folder.join("config.json"), config.to_string()).unwrap();
    write_file(&folder.join("model.safetensors"), tensors);
}

/// A folder with a tiny model.
pub fn folder(config: &Json) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), config, &tensors(config, 1));
    dir
}

pub fn load(folder: &Path, toggles: &[(&str, Value)]) -> Load {
    Load {
        engine: EngineSpec { name: "transformer".into(), label: "transformer".into(), options: Settings::new() },
        model: Some(folder.to_owned()),
        toggles: toggles.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
    }
}

/// Opens a folder in f32.
pub fn open(folder: &Path) -> Result<Box<dyn Session>> {
    super::Transformer.open(&load(folder, &[("dtype", "f32".into())]))
}

/// Prompt ids that do not repeat in a pattern.
pub fn prompt(length: usize) -> Vec<u32> {
    let mut rng = seeded(length as u64, "tiny prompt");
    (0..length).map(|_| rng.next_u32() % VOCABULARY).collect()
}

pub fn request(prompt: Vec<u32>, max_tokens: u32) -> Request {
    Request {
        prompt: Prompt::Tokens(prompt),
        sampling: Sampling::default(),
        toggles: Settings::new(),
        max_tokens,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    }
}

pub fn with_toggle(mut request: Request, name: &str, value: impl Into<Value>) -> Request {
    request.toggles.insert(name.to_owned(), value.into());
    request
}

/// Runs a request and returns its tokens and its completion.
pub fn run(session: &mut dyn Session, request: &Request) -> Result<(Vec<u32>, Completion)> {
    let mut recorder = Recorder::new(
        request.max_tokens.min(4096),
        Instrumentation { detail: Detail::Operations, ..Instrumentation::default() },
        Arc::<Shared>::default(),
    );
    let completion = session.generate(request, &mut recorder)?;
    Ok((recorder.tokens, completion))
}
