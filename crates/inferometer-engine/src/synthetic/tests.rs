use std::collections::HashSet;

use super::*;
use crate::transformer::checkpoint::Checkpoint as _;
use crate::transformer::config::Config;
use crate::transformer::expected::{Source, expected};
use crate::transformer::weights::{Expected, WeightFolder};

#[test]
fn shards_hold_the_same_tensors_as_one_file() {
    let recipe = Recipe::find(Architecture::Llama, "tiny", 3).unwrap();
    let tensors = recipe.tensors().unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_weights(&tensors, folder.path(), 1_500_000).unwrap();
    fs_err::write(folder.path().join("config.json"), recipe.preset.config(3).to_string()).unwrap();
    let config = Config::from_folder(folder.path()).unwrap();
    let weights = WeightFolder::open(folder.path(), &config).unwrap();
    let paths: Vec<_> =
        weights.paths().into_iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(paths.len(), 4, "{paths:?}");
    assert_eq!(paths[1], "model-00002-of-00004.safetensors");
    for tensor in &tensors {
        assert_eq!(weights.read(&tensor.name).unwrap().bytes, tensor.bytes(), "{}", tensor.name);
    }
}

#[test]
fn a_marker_is_read_back_and_another_version_refused() {
    let plain = Recipe::find(Architecture::Qwen3, "small", u64::MAX).unwrap();
    let quantization = Quantization::new(8, 128);
    for recipe in [plain, plain.stored(Some(Precision::F16), None), plain.stored(None, quantization)] {
        assert_eq!(recipe_of(&recipe.config()).unwrap(), Some(recipe));
    }
    assert_eq!(recipe_of(&json!({})).unwrap(), None);
    let fault = |key: &str, value: Value| {
        let mut config = plain.stored(Some(Precision::F16), quantization).config();
        config[MARKER][key] = value;
        recipe_of(&config).unwrap_err().message
    };
    assert!(fault("generator_version", json!(GENERATOR_VERSION + 1)).contains("generator version"));
    assert!(fault("dtype", json!("f8")).contains("f8"));
    assert!(fault("group_size", json!(48)).contains("groups of 48"));
}

#[test]
fn what_the_preset_says_anyway_does_not_make_another_model() {
    let plain = Recipe::find(Architecture::Qwen3, "small", 1).unwrap();
    assert_eq!(plain.stored(Some(Precision::Bf16), None), plain);
    assert_eq!(plain.config(), plain.preset.config(1));
    assert!(plain.folder_name().starts_with("qwen3-small-s1-"));
    let names: HashSet<String> = [None, Quantization::new(4, 64), Quantization::new(4, 32)]
        .iter()
        .flat_map(|q| Precision::ALL.map(|precision| plain.stored(Some(precision), *q).folder_name()))
        .collect();
    assert_eq!(names.len(), 9);
    assert!(names.iter().any(|name| name.starts_with("qwen3-small-f16-4bit-g32-s1-")), "{names:?}");
}

/// Every matrix of every preset whose rows groups fill is quantized, and has the size of the
/// format.
#[test]
fn matrices_of_presets_have_the_size_of_the_format() {
    for preset in preset::PRESETS {
        for (bits, group_size) in [(4, 128), (8, 32)] {
            let recipe = Recipe::find(preset.arch, preset.name, 1).unwrap();
            let recipe = recipe.stored(Some(Precision::F16), Quantization::new(bits, group_size));
            let config = Config::from_json(&recipe.config(), Path::new("config.json")).unwrap();
            let of = |matrix: bool| {
                let weights = expected(&config, &Source::Described);
                let filled = |weight: &&Expected| {
                    (weight.is_matrix() && !weight.name.ends_with("bias"))
                        && weight.shape.last().is_some_and(|columns| columns.is_multiple_of(group_size))
                };
                let counted = weights.iter().filter(|weight| filled(weight) == matrix);
                counted.map(|weight| weight.shape.iter().product::<usize>() as u64).sum::<u64>()
            };
            let scales = 2 * 2 * of(true) / group_size as u64;
            let bytes = of(true) * u64::from(bits) / 8 + scales + 2 * of(false);
            assert_eq!(recipe.disk_bytes().unwrap(), bytes, "{} {}", preset.arch, preset.name);
        }
    }
}

#[test]
fn quantized_tensors_stand_for_what_the_plain_ones_hold() {
    let plain = Recipe::find(Architecture::Llama, "tiny", 3).unwrap().stored(Some(Precision::Bf16), None);
    let quantized = plain.stored(Some(Precision::Bf16), Quantization::new(8, 32));
    let folder = |recipe: &Recipe| {
        let folder = tempfile::tempdir().unwrap();
        write_weights(&recipe.tensors().unwrap(), folder.path(), SHARD_BYTES).unwrap();
        let config = Config::from_json(&recipe.config(), Path::new("config.json")).unwrap();
        (WeightFolder::open(folder.path(), &config).unwrap(), folder)
    };
    let ((plain, _plain_folder), (quantized, _quantized_folder)) = (folder(&plain), folder(&quantized));
    for weight in plain.weights().filter(|weight| weight.is_matrix()) {
        let (was, is) = (plain.matrix(weight.module()).unwrap(), quantized.matrix(weight.module()).unwrap());
        assert_eq!((is.quantization().is_some(), is.shape()), (true, was.shape()));
        let (was, is) = (was.to_f32(), is.to_f32());
        let largest = was.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        // Half a step, where 256 steps cover twice the largest value, plus the rounding of bias and
        // scale to bf16.
        let off = was.iter().zip(&is).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off <= largest / 80.0, "{}: off by {off} of {largest}", weight.name);
    }
}
