//! Developer's tool: the weights of a model's folder, dequantized and widened to f32.
//!
//! usage: `dequantize DIR FILE.safetensors`. `scripts/check-mlx-lm quantized` compares them with
//! MLX's dequantized weights.

use std::path::{Path, PathBuf};

use anyhow::Context;
use inferometer_engine::transformer::checkpoint::Checkpoint as _;
use inferometer_engine::transformer::config::Config;
use inferometer_engine::transformer::weights::WeightFolder;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [folder, file] = arguments.as_slice() else { anyhow::bail!("usage: dequantize DIR FILE.safetensors") };
    dequantize(folder, file)
}

fn dequantize(folder: &Path, file: &Path) -> anyhow::Result<()> {
    let config = Config::from_folder(folder)?;
    let weights = WeightFolder::open(folder, &config)?;
    let mut tensors = Vec::new();
    for weight in weights.weights() {
        let values = match weight.is_matrix() {
            true => weights.matrix(weight.module())?.to_f32(),
            false => weights.read(&weight.name)?.to_f32(),
        };
        let bytes: Vec<u8> = values.into_iter().flat_map(f32::to_le_bytes).collect();
        tensors.push((weight.name.clone(), weight.shape.clone(), bytes));
    }
    let views = tensors
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    safetensors::serialize_to_file(views, None, file).with_context(|| format!("cannot write {}", file.display()))
}
