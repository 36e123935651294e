//! Values that are not finite, in weights and in what follows from them, end a generation.

use inferometer_protocol::ErrorKind;
use serde_json::Value as Json;

use crate::transformer::Transformer;
use crate::transformer::testing::{Stored, config, load, prompt, request, run, tensors, with_toggle, write_model};
use inferometer_host::{Engine, Result};

fn untied(arch: &str) -> Json {
    let mut config = config(arch);
    config["tie_word_embeddings"] = false.into();
    config
}

/// Sets values of a tensor, from index `at` on.
fn set(tensors: &mut [Stored], name: &str, at: usize, values: &[f32]) {
    let tensor = tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap();
    for (bytes, value) in tensor.3[4 * at..].as_chunks_mut::<4>().0.iter_mut().zip(values) {
        *bytes = value.to_le_bytes();
    }
}

/// What 12 tokens after a prompt in two chunks come to.
fn generated(config: &Json, tensors: &[Stored], dtype: &str) -> Result<Vec<u32>> {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), config, tensors);
    let mut session = Transformer.open(&load(dir.path(), &[("dtype", dtype.into())]))?;
    Ok(run(&mut *session, &with_toggle(request(prompt(24), 12), "prefill_chunk_size", 16i64))?.0)
}

#[track_caller]
fn fails(config: &Json, tensors: &[Stored], dtype: &str, words: &str) {
    let error = generated(config, tensors, dtype).expect_err(dtype);
    assert_eq!(error.kind, ErrorKind::NotFinite, "{error}");
    assert!(error.message.contains(words) && error.message.contains("model verify"), "{words:?}: {error}");
}

#[test]
fn one_weight_that_is_not_finite_ends_the_generation_and_its_layer_is_named() {
    for arch in ["llama", "qwen3"] {
        let config = untied(arch);
        for (name, words) in [
            ("model.layers.0.self_attn.v_proj.weight", "first in layer 0 "),
            ("model.layers.1.mlp.down_proj.weight", "first in layer 1 "),
            ("model.layers.1.input_layernorm.weight", "first in layer 1 "),
            ("model.norm.weight", "final norm"),
            ("lm_head.weight", "output projection"),
        ] {
            for none in [f32::NAN, f32::INFINITY] {
                let mut tensors = tensors(&config, 1);
                set(&mut tensors, name, 3, &[none]);
                fails(&config, &tensors, "f32", words);
                // Norms stay in f32, so what they give is checked; matrices are refused at once.
                let words = if name.contains("norm") { words } else { name };
                fails(&config, &tensors, "q8_0", words);
            }
        }
    }
}

/// Tokens come until one is chosen whose embedding is damaged.
#[test]
fn the_place_is_found_in_decode_too() {
    let config = untied("llama");
    let mut damaged = tensors(&config, 1);
    let tokens = generated(&config, &damaged, "f32").unwrap();
    let seen = prompt(24);
    let later = tokens.iter().skip(2).find(|token| !seen.contains(token)).expect("a token that the prompt lacks");
    set(&mut damaged, "model.embed_tokens.weight", *later as usize * 64, &[f32::NAN]);
    fails(&config, &damaged, "f32", "first in the embedding");
}

/// Every weight is finite; sums are not.
#[test]
fn an_overflow_of_activations_is_found_in_both_formats() {
    let config = untied("llama");
    let mut tensors = tensors(&config, 1);
    set(&mut tensors, "model.layers.1.mlp.up_proj.weight", 0, &[1e30; 96 * 64]);
    set(&mut tensors, "model.layers.1.mlp.down_proj.weight", 0, &[1e30; 96 * 64]);
    for dtype in ["f32", "q8_0"] {
        fails(&config, &tensors, dtype, "first in layer 1 ");
    }
}
