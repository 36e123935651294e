//! Developer's tool: how many operations MLX's graph of one decoded token has.
//!
//! usage: mlx_operations FOLDER [compile]
//!
//! Prints a JSON object: how often each primitive occurs in the graph of a decode step (greedy,
//! with a warm cache). The counts come from the DOT file that MLX writes before the step is
//! computed. `scripts/check-mlx-lm mlx` counts the operations of `mlx_lm` the same way.

use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use inferometer_engine::transformer::backend::{Backend, TokenSampler};
use inferometer_engine::transformer::config::Config;
use inferometer_engine::transformer::mlx::MlxBackend;
use inferometer_engine::transformer::model::Model;
use inferometer_engine::transformer::sampler::{Order, SamplingPlan};
use inferometer_engine::transformer::weights::WeightFolder;
use inferometer_protocol::Sampling;
use mlx_rs::Array;

unsafe extern "C" {
    fn fopen(path: *const c_char, mode: *const c_char) -> *mut mlx_sys::FILE;
    fn fclose(file: *mut mlx_sys::FILE) -> c_int;
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().context("usage: mlx_operations FOLDER [compile]")?);
    let compiled = arguments.next().is_some_and(|word| word == "compile");
    let config = Config::from_folder(&folder)?;
    let weights = WeightFolder::open(&folder, &config)?;
    let model = Model::load(MlxBackend::new(None, compiled), config, &weights, None)?;
    let mut cache = model.cache()?;
    let prompt = [5, 3, 8, 1];
    let choice =
        SamplingPlan { sampling: Sampling::default(), order: Order::default(), factor: 1.0, context_size: 0, cap: 0 };
    let mut sampler = model.backend.sampler(&choice, &prompt, 3)?;
    let mut step = |ids: &_, count| -> anyhow::Result<_> {
        sampler.penalize(model.forward(ids, count, &mut cache)?)?;
        Ok(sampler.choose(None)?)
    };
    // The first choice also checks the logits; the second step is like all further ones.
    let mut token = step(&model.backend.ids(&prompt)?, prompt.len())?;
    for _ in 0..2 {
        model.backend.wait(&token)?;
        token = step(&token, 1)?;
    }
    let dot = tempfile::tempdir()?;
    let dot = dot.path().join("graph.dot");
    let outputs: Vec<&Array> = token.chosen.iter().collect();
    export(&dot, &outputs)?;
    let text = fs_err::read_to_string(&dot)?;
    let mut counts = BTreeMap::<&str, usize>::new();
    // A primitive is a box, an array is not.
    for line in text.lines().filter(|line| line.contains("shape=rectangle")) {
        let name = line.split('"').nth(1).with_context(|| format!("no label in {line:?}"))?;
        *counts.entry(name).or_default() += 1;
    }
    Ok(serde_json::to_writer(std::io::stdout().lock(), &counts)?)
}

fn export(path: &Path, outputs: &[&Array]) -> anyhow::Result<()> {
    let name = CString::new(path.to_str().context("the temporary folder's name is not UTF-8")?)?;
    let handles: Vec<_> = outputs.iter().map(|array| array.as_ptr()).collect();
    // SAFETY: all pointers live until the calls return; file, namer and vector are freed once.
    unsafe {
        let file = fopen(name.as_ptr(), c"w".as_ptr());
        ensure!(!file.is_null(), "{} cannot be written", path.display());
        let namer = mlx_sys::mlx_node_namer_new();
        let arrays = mlx_sys::mlx_vector_array_new_data(handles.as_ptr(), handles.len());
        let status = mlx_sys::mlx_export_to_dot(file, namer, arrays);
        mlx_sys::mlx_vector_array_free(arrays);
        mlx_sys::mlx_node_namer_free(namer);
        ensure!(fclose(file) == 0 && status == 0, "MLX could not write its graph");
    }
    Ok(())
}
