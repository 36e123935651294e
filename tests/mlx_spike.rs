//! The tensor backend trait on a second library: the same generic forward pass on MLX and on candle, same logits.

use std::path::Path;

use inferometer::engine::synthetic::{self, Recipe};
use inferometer::engine::transformer::backend::Backend;
use inferometer::engine::transformer::candle::{CandleBackend, Format, threads};
use inferometer::engine::transformer::config::Config;
use inferometer::engine::transformer::mlx::MlxBackend;
use inferometer::engine::transformer::model::{self, Model};
use inferometer::engine::transformer::weights::WeightFolder;
use inferometer::spec::Architecture;

fn load<B: Backend>(backend: B, folder: &Path) -> Model<B> {
    let config = Config::from_folder(folder).unwrap();
    let weights = WeightFolder::open(folder, &model::expected(&config), &model::optional(&config)).unwrap();
    Model::load(backend, config, &weights, None).unwrap()
}

/// Logits after a prefill in two chunks, two single tokens, and again after forgetting the last of them.
fn logits<B: Backend>(backend: B, folder: &Path) -> Vec<Vec<f32>> {
    let model = load(backend, folder);
    let mut cache = model.cache().unwrap();
    let prompt: Vec<u32> = (0..37).map(|i| 5 + i * 11).collect();
    let mut all = Vec::new();
    let mut step = |ids: &[u32], cache: &mut _| {
        let mut values = Vec::new();
        let out = model.forward(&model.backend.ids(ids).unwrap(), ids.len(), cache).unwrap();
        model.backend.read(&out, &mut values).unwrap();
        all.push(values);
    };
    step(&prompt[..20], &mut cache);
    step(&prompt[20..], &mut cache);
    step(&[7], &mut cache);
    step(&[9], &mut cache);
    assert_eq!(cache.len(), 39);
    cache.note(&[prompt.as_slice(), &[7]].concat());
    cache.forget_unknown();
    assert_eq!(cache.len(), 38);
    step(&[9], &mut cache);
    assert_eq!(cache.len(), 39);
    all
}

#[test]
fn mlx_and_candle_give_the_same_logits() {
    for architecture in [Architecture::Llama, Architecture::Qwen3] {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        let recipe = Recipe::find(architecture, "tiny", 3).unwrap();
        synthetic::create(&recipe, &model).unwrap();
        let candle = logits(CandleBackend::new(Format::F32, threads::set(None).unwrap()), &model);
        let mlx = logits(MlxBackend::new(None, false), &model);
        for (step, (a, b)) in candle.iter().zip(&mlx).enumerate() {
            assert_eq!(a.len(), b.len());
            let largest = a.iter().fold(0f32, |m, x| m.max(x.abs()));
            let worst = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0f32, f32::max);
            assert!(largest > 0.1, "{architecture} step {step}: nothing to compare");
            assert!(worst / largest < 1e-4, "{architecture} step {step}: off by {worst} of {largest}");
        }
        assert_eq!(mlx[3], mlx[4], "{architecture}: truncating and repeating should change nothing");
    }
}
