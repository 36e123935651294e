//! Folders in MLX's quantized format: the loaded weights, and the errors for folders that do not
//! fit their configuration.

use safetensors::Dtype;
use serde_json::{Value as Json, json};

use crate::transformer::checkpoint::Checkpoint as _;
use crate::transformer::testing::{Stored, config, load, open, prompt, quantized, request, run, tensors, write_model};
use crate::transformer::weights::{Expected, WeightFolder};
use inferometer_host::Engine;
use inferometer_protocol::ErrorKind;

const VALUES: &str = "model.layers.1.self_attn.v_proj";

/// Hidden size 64, so that groups of 64 fill all rows except those of `down_proj` (96), which is
/// not quantized.
fn described(arch: &str, bits: u32, group_size: usize) -> Json {
    let mut config = config(arch);
    config["quantization"] = json!({"group_size": group_size, "bits": bits});
    config
}

fn stored(config: &Json) -> Vec<Stored> {
    quantized(config, tensors(config, 1))
}

fn written(config: &Json, stored: &[Stored]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), config, stored);
    dir
}

fn tokens(dir: &tempfile::TempDir) -> Vec<u32> {
    run(&mut *open(dir.path()).unwrap(), &request(prompt(9), 8)).unwrap().0
}

/// The model in f32 with the dequantized weights of the quantized folder.
fn dequantized(dir: &tempfile::TempDir, plain: &Json) -> tempfile::TempDir {
    let config = crate::transformer::config::Config::from_folder(dir.path()).unwrap();
    let weights = WeightFolder::open(dir.path(), &config).unwrap();
    let values = |weight: &Expected| {
        let values = match weight.is_matrix() {
            true => weights.matrix(weight.module()).unwrap().to_f32(),
            false => weights.read(&weight.name).unwrap().to_f32(),
        };
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        (weight.name.clone(), Dtype::F32, weight.shape.clone(), bytes)
    };
    written(plain, &weights.weights().map(values).collect::<Vec<_>>())
}

#[test]
fn a_quantized_folder_is_the_model_that_its_numbers_stand_for() {
    for (arch, bits, group_size) in [("llama", 4, 32), ("qwen3", 4, 64), ("llama", 8, 64), ("qwen3", 8, 32)] {
        let config = described(arch, bits, group_size);
        let dir = written(&config, &stored(&config));
        let plain = crate::transformer::testing::config(arch);
        assert_eq!(tokens(&dir), tokens(&dequantized(&dir, &plain)), "{arch}, {bits} bits, groups of {group_size}");
        // Four bits change the tokens compared with the original weights.
        assert!(bits == 8 || tokens(&dir) != tokens(&written(&plain, &tensors(&plain, 1))), "{arch}");
        let receipt = open(dir.path()).unwrap().receipt();
        let said = format!("MLX affine, {bits} bits, groups of {group_size}");
        assert_eq!(receipt.details["source_format"], said);
        assert_eq!((&receipt.settings["dtype"], receipt.model.weight_format.as_deref()), (&"f32".into(), Some("f32")));
        let q8 = crate::transformer::Transformer.open(&load(dir.path(), &[])).unwrap().receipt();
        assert_eq!((&q8.settings["dtype"], &q8.details["source_format"]), (&"q8_0".into(), &said));
        assert_eq!(q8.model.parameters, open(dequantized(&dir, &plain).path()).unwrap().receipt().model.parameters);
    }
    let plain = config("llama");
    let receipt = open(written(&plain, &tensors(&plain, 1)).path()).unwrap().receipt();
    assert!(!receipt.details.contains_key("source_format"));
}

#[test]
fn single_matrices_have_their_own_form_or_none() {
    let mut config = described("llama", 4, 32);
    config["quantization"][VALUES] = json!({"group_size": 64, "bits": 8});
    config["quantization"]["model.embed_tokens"] = json!(false);
    config["quantization"]["model.layers.0.mlp.up_proj"] = json!(true);
    // MLX's folders have it twice.
    config["quantization_config"] = config["quantization"].clone();
    let all = stored(&config);
    let shape = |name: &str| &all.iter().find(|t| t.0 == name).unwrap().2;
    assert_eq!(
        (shape("model.embed_tokens.weight"), shape(&format!("{VALUES}.weight"))),
        (&vec![512, 64], &vec![32, 16])
    );
    let dir = written(&config, &all);
    assert_eq!(tokens(&dir), tokens(&dequantized(&dir, &crate::transformer::testing::config("llama"))));
    let said = open(dir.path()).unwrap().receipt().details["source_format"].clone();
    assert_eq!(said, "MLX affine, 4 bits, groups of 32; MLX affine, 8 bits, groups of 64");
}

/// The error of opening a folder with 4 bits in groups of 32 after `change`.
fn refused(change: impl FnOnce(&mut Json, &mut Vec<Stored>)) -> String {
    let mut config = described("llama", 4, 32);
    let mut stored = stored(&config);
    change(&mut config, &mut stored);
    let error = open(written(&config, &stored).path()).err().expect("the folder should be refused");
    assert_eq!(error.kind, ErrorKind::Model, "{error}");
    error.message
}

fn find<'a>(stored: &'a mut [Stored], name: &str) -> &'a mut Stored {
    stored.iter_mut().find(|t| t.0 == name).unwrap()
}

fn names(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

#[test]
fn a_folder_that_does_not_fit_its_quantization_is_refused_and_the_tensor_named() {
    let [weight, scales, biases] = ["weight", "scales", "biases"].map(|part| format!("{VALUES}.{part}"));
    let file = "model.safetensors";
    for part in [&scales, &biases] {
        let message = refused(|_, s| s.retain(|t| t.0 != **part));
        names(&message, &[part, "missing", file, "4 bits, groups of 32", &format!("{VALUES:?}: false")]);
    }
    names(&refused(|_, s| s.retain(|t| t.0 != weight)), &[&weight, "missing", file]);
    // Two rows as one, with the same bytes.
    names(&refused(|_, s| find(s, &scales).2 = vec![16, 4]), &[&scales, "[16, 4]", "[32, 2]", file]);
    let message = refused(|c, _| c["quantization"]["bits"] = json!(8));
    names(&message, &["[512, 8]", "[512, 16]", "8 bits", "model.embed_tokens.weight", file]);
    names(&refused(|_, s| find(s, &weight).1 = Dtype::F32), &[&weight, "F32", "must be U32", file]);
    names(&refused(|_, s| find(s, &scales).1 = Dtype::U32), &[&scales, "U32", "F32, F16 and BF16", file]);
    let halved = |t: &mut Stored| {
        t.1 = Dtype::F16;
        t.3.truncate(t.3.len() / 2);
    };
    names(&refused(|_, s| halved(find(s, &biases))), &[&scales, &biases, "F16", "F32", "one dtype"]);
    let extra = refused(|_, s| s.push(("model.norm.scales".to_owned(), Dtype::F32, vec![2], vec![0; 8])));
    names(&extra, &["model.norm.scales", "extra", file]);
}

#[test]
fn a_quantized_folder_whose_configuration_does_not_say_so_is_refused() {
    let silent = refused(|c, _| c["quantization"] = Json::Null);
    names(&silent, &["model.embed_tokens.biases", "extra", "group_size and bits", "`quantization`"]);
    let message = refused(|c, s| {
        c["quantization"] = Json::Null;
        s.retain(|t| t.0.ends_with(".weight"));
    });
    names(&message, &["model.embed_tokens.weight", "U32", "group_size and bits", "`quantization`"]);
    let one = refused(|c, _| c["quantization"][VALUES] = json!(false));
    names(&one, &[&format!("{VALUES}.biases"), "extra", "does not say"]);
}

/// As in `mlx_lm`: `mlx_lm.convert` may leave any matrix out, and does not say so.
#[test]
fn what_has_no_scales_is_not_quantized() {
    let config = described("llama", 4, 32);
    let plain = tensors(&crate::transformer::testing::config("llama"), 1);
    let mixed: Vec<Stored> = stored(&config)
        .into_iter()
        .filter(|tensor| !tensor.0.starts_with(VALUES))
        .chain(plain.iter().filter(|tensor| tensor.0.starts_with(VALUES)).cloned())
        .collect();
    let dir = written(&config, &mixed);
    assert_eq!(tokens(&dir), tokens(&dequantized(&dir, &crate::transformer::testing::config("llama"))));
    let all = tokens(&written(&config, &plain));
    assert_eq!(all, tokens(&written(&crate::transformer::testing::config("llama"), &plain)));
}

#[test]
fn a_stored_head_of_a_tied_model_must_be_the_embedding() {
    let with_head = |change: u8, parts: usize| {
        let config = described("llama", 4, 32);
        let mut all = stored(&config);
        let table: Vec<Stored> = all.iter().filter(|t| t.0.contains("embed_tokens")).cloned().collect();
        for (name, dtype, shape, mut bytes) in table.into_iter().take(parts) {
            bytes[0] ^= change;
            all.push((name.replace("model.embed_tokens", "lm_head"), dtype, shape, bytes));
        }
        written(&config, &all)
    };
    let config = described("llama", 4, 32);
    assert_eq!(tokens(&with_head(0, 3)), tokens(&written(&config, &stored(&config))));
    let message = |dir: tempfile::TempDir| open(dir.path()).err().unwrap().message;
    names(&message(with_head(1, 3)), &["lm_head.weight", "tie_word_embeddings"]);
    names(&message(with_head(0, 1)), &["lm_head.scales", "missing"]);
}

#[test]
fn quantizations_that_this_engine_lacks_are_refused_by_key() {
    for (quantization, words) in [
        (json!({"bits": 7, "group_size": 64}), ["quantization.bits = 7", "2, 3, 4, 5, 6, 8"]),
        (json!({"bits": "4", "group_size": 64}), ["quantization.bits = \"4\"", "2, 3, 4, 5, 6, 8"]),
        (json!({"group_size": 64}), ["quantization.bits", "absent"]),
        (json!({"bits": 4, "group_size": 16}), ["quantization.group_size = 16", "32, 64, 128"]),
        (json!({"bits": 4, "group_size": 32, "mode": "nvfp4"}), ["quantization.mode = \"nvfp4\"", "\"affine\""]),
        (json!({"bits": 4, "group_size": 64, "mode": "mxfp4"}), ["quantization.group_size", "mxfp4"]),
        (json!({"bits": 4, "group_size": 32, "mode": 1}), ["quantization.mode = 1", "\"affine\""]),
        (json!(4), ["quantization", "no object"]),
        (json!({"bits": 4, "group_size": 32, "quant_method": "awq"}), ["quant_method = \"awq\"", "mlx_lm.convert"]),
        (json!({"bits": 4, "group_size": 32, VALUES: {"bits": 7, "group_size": 32}}), [VALUES, "bits = 7"]),
        (json!({"bits": 4, "group_size": 32, VALUES: "no"}), [VALUES, "true, false"]),
        (json!({"bits": 4, "group_size": 32, "model.layers.2.mlp.up_proj": false}), ["layers.2", "neither"]),
        (json!({"bits": 4, "group_size": 32, "model.norm": false}), ["model.norm", "neither"]),
        (
            json!({"bits": 4, "group_size": 32, "model.layers.0.mlp.down_proj": {"bits": 4, "group_size": 64}}),
            ["rows of 96 values", "groups of 64"],
        ),
    ] {
        let message = refused(|c, _| c["quantization"] = quantization.clone());
        names(&message, &words);
        names(&message, &["config.json"]);
    }
    let other = refused(|c, _| {
        c["quantization_config"] = json!({"quant_method": "gptq", "bits": 4, "group_size": 128});
        c["quantization"] = Json::Null;
    });
    names(&other, &["quantization_config.quant_method", "gptq", "config.json"]);
}

/// `config.json` may name exactly the matrices that the model has.
#[test]
fn every_matrix_can_be_excepted_by_name() {
    let mut untied = described("qwen3", 4, 32);
    untied["tie_word_embeddings"] = json!(false);
    let all = tensors(&untied, 1);
    let matrices: Vec<&str> = all.iter().filter(|t| t.2.len() == 2).map(|t| t.0.trim_end_matches(".weight")).collect();
    assert_eq!(matrices.len(), 2 + 2 * 7);
    for name in matrices {
        untied["quantization"][name] = json!(false);
    }
    let dir = written(&untied, &all);
    let mut plain = config("qwen3");
    plain["tie_word_embeddings"] = json!(false);
    assert_eq!(tokens(&dir), tokens(&written(&plain, &all)));
}
