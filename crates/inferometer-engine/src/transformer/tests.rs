//! Model folders that are damaged, incomplete or stored in unusual ways.

use safetensors::Dtype;
use serde_json::{Value as Json, json};

use super::testing::{Stored, config, folder, load, open, prompt, request, run, tensors, write_file, write_model};
use inferometer_host::Engine;
use inferometer_protocol::{ErrorKind, Settings};

const FILE: &str = "model.safetensors";
const PROJECTION: &str = "model.layers.1.mlp.up_proj.weight";

/// The error of opening a folder whose tensors were changed by `change`.
fn refused(config: &Json, change: impl FnOnce(&mut Vec<Stored>)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut stored = tensors(config, 1);
    change(&mut stored);
    write_model(dir.path(), config, &stored);
    message(dir.path())
}

fn message(folder: &std::path::Path) -> String {
    let error = open(folder).err().expect("the folder should be refused");
    assert_eq!(error.kind, ErrorKind::Model, "{error}");
    error.message
}

fn names(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

fn find<'a>(stored: &'a mut [Stored], name: &str) -> &'a mut Stored {
    stored.iter_mut().find(|t| t.0 == name).unwrap()
}

/// The same values in half precision.
fn halve(stored: &mut [Stored], dtype: Dtype) {
    for (_, kind, _, bytes) in stored {
        let values = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        *bytes = match dtype {
            Dtype::F16 => values.flat_map(|x| half::f16::from_f32(x).to_le_bytes()).collect(),
            _ => values.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect(),
        };
        *kind = dtype;
    }
}

#[test]
fn a_missing_extra_misshapen_or_foreign_tensor_is_named() {
    let config = config("llama");
    names(&refused(&config, |s| s.retain(|t| t.0 != PROJECTION)), &[PROJECTION, "missing", FILE]);
    let extra = ("model.layers.7.mlp.up_proj.weight".to_owned(), Dtype::F32, vec![1], vec![0; 4]);
    names(&refused(&config, |s| s.push(extra)), &["model.layers.7.mlp.up_proj.weight", "extra", FILE]);
    let transposed = refused(&config, |s| find(s, PROJECTION).2.reverse());
    names(&transposed, &[PROJECTION, "[64, 96]", "[96, 64]", FILE]);
    let integers = refused(&config, |s| find(s, PROJECTION).1 = Dtype::I32);
    names(&integers, &[PROJECTION, "I32", FILE]);
    // Only Qwen3 has a head norm.
    let norm = ("model.layers.0.self_attn.q_norm.weight".to_owned(), Dtype::F32, vec![16], vec![0; 64]);
    names(&refused(&config, |s| s.push(norm)), &["q_norm", "extra"]);
    let dir = folder(&super::testing::config("qwen3"));
    fs_err::write(dir.path().join("config.json"), config.to_string()).unwrap();
    names(&message(dir.path()), &["norm", "extra"]);
}

#[test]
fn a_file_cut_anywhere_is_truncated_and_the_tensor_named() {
    let dir = folder(&config("llama"));
    let path = dir.path().join(FILE);
    let whole = fs_err::read(&path).unwrap();
    for cut in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs_err::write(&path, &whole[..cut]).unwrap();
        names(&message(dir.path()), &[FILE]);
    }
    names(&message(dir.path()), &["truncated", "tensor model."]);
    let mut longer = whole;
    longer.push(0);
    fs_err::write(&path, longer).unwrap();
    names(&message(dir.path()), &[FILE, "1 bytes follow"]);
}

#[test]
fn garbage_is_refused_at_once() {
    let dir = folder(&config("llama"));
    let path = dir.path().join(FILE);
    let garbage: Vec<u8> = (0..10_000_000u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as u8).collect();
    fs_err::write(&path, &garbage).unwrap();
    names(&message(dir.path()), &[FILE, "not a safetensors file"]);
    // A plausible header length, then garbage.
    let mut sly = 1000u64.to_le_bytes().to_vec();
    sly.extend(&garbage);
    fs_err::write(&path, sly).unwrap();
    names(&message(dir.path()), &[FILE, "header"]);
    fs_err::write(dir.path().join("config.json"), &garbage).unwrap();
    names(&message(dir.path()), &["config.json", "longer than"]);
    fs_err::write(dir.path().join("config.json"), &garbage[..1000]).unwrap();
    names(&message(dir.path()), &["config.json", "JSON"]);
    fs_err::write(dir.path().join("config.json"), "").unwrap();
    names(&message(dir.path()), &["config.json"]);
}

#[test]
fn folders_that_are_none_are_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    names(&message(&dir.path().join("nowhere")), &["nowhere", "there is nothing at"]);
    names(&message(dir.path()), &["config.json"]);
    fs_err::write(dir.path().join("config.json"), config("llama").to_string()).unwrap();
    names(&message(dir.path()), &[FILE, "model.safetensors.index.json"]);
    let none = super::Transformer.open(&inferometer_host::Load { model: None, ..load(dir.path(), &[]) });
    names(&none.err().unwrap().message, &["no model"]);
}

/// Splits the tensors over two files with an index.
fn shard(folder: &std::path::Path, config: &Json, index: impl FnOnce(&mut Json)) {
    let stored = tensors(config, 1);
    let (first, second) = stored.split_at(stored.len() / 2);
    fs_err::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut map = json!({});
    for (file, part) in [("a.safetensors", first), ("b.safetensors", second)] {
        write_file(&folder.join(file), part);
        part.iter().for_each(|t| map[&t.0] = json!(file));
    }
    index(&mut map);
    let text = json!({"metadata": {}, "weight_map": map}).to_string();
    fs_err::write(folder.join("model.safetensors.index.json"), text).unwrap();
}

#[test]
fn shards_load_like_one_file_and_their_index_is_checked() {
    let config = config("qwen3");
    let tokens = |folder: &std::path::Path| run(&mut *open(folder).unwrap(), &request(prompt(9), 8)).unwrap().0;
    let sharded = tempfile::tempdir().unwrap();
    shard(sharded.path(), &config, |_| ());
    assert_eq!(tokens(sharded.path()), tokens(folder(&config).path()));

    shard(sharded.path(), &config, |map| map["model.norm.weight"] = json!("b.safetensors"));
    names(&message(sharded.path()), &["model.norm.weight", "a.safetensors", "b.safetensors", "index.json"]);
    shard(sharded.path(), &config, |map| map["model.norm.weight"] = json!("c.safetensors"));
    names(&message(sharded.path()), &["c.safetensors"]);
    shard(sharded.path(), &config, |map| map["model.norm.weight"] = json!("../a.safetensors"));
    names(&message(sharded.path()), &["../a.safetensors", "index.json"]);
    shard(sharded.path(), &config, |map| map["ghost"] = json!("a.safetensors"));
    names(&message(sharded.path()), &["ghost", "missing"]);
    shard(sharded.path(), &config, |_| ());
    write_file(&sharded.path().join("b.safetensors"), &tensors(&config, 1));
    names(&message(sharded.path()), &["also in"]);
    shard(sharded.path(), &config, |_| ());
    fs_err::remove_file(sharded.path().join("b.safetensors")).unwrap();
    names(&message(sharded.path()), &["b.safetensors"]);
}

#[test]
fn half_precision_loads_and_frequency_buffers_are_passed_over() {
    let config = config("llama");
    let opened = |stored: &[Stored]| {
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path(), &config, stored);
        run(&mut *open(dir.path()).unwrap(), &request(prompt(9), 8)).unwrap().0
    };
    for dtype in [Dtype::F16, Dtype::BF16] {
        let mut stored = tensors(&config, 1);
        halve(&mut stored, dtype);
        let halved = opened(&stored);
        // The same rounded values stored in f32 give the same tokens.
        for (_, kind, _, bytes) in &mut stored {
            let words = bytes.as_chunks::<2>().0.iter();
            let widened: Vec<f32> = match dtype {
                Dtype::F16 => words.map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
                _ => words.map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
            };
            *bytes = widened.iter().flat_map(|x| x.to_le_bytes()).collect();
            *kind = Dtype::F32;
        }
        assert_eq!(halved, opened(&stored));
    }
    let mut stored = tensors(&config, 1);
    let plain = opened(&stored);
    stored.push(("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), Dtype::F32, vec![8], vec![0; 32]));
    assert_eq!(plain, opened(&stored));
}

#[test]
fn a_tied_model_may_store_its_head_if_it_is_the_embedding() {
    let config = config("llama");
    let with_head = |change: u8| {
        let dir = tempfile::tempdir().unwrap();
        let mut stored = tensors(&config, 1);
        let mut head = stored.iter().find(|t| t.0 == "model.embed_tokens.weight").unwrap().clone();
        head.0 = "lm_head.weight".to_owned();
        head.3[0] ^= change;
        stored.push(head);
        write_model(dir.path(), &config, &stored);
        dir
    };
    let tokens = |dir: &tempfile::TempDir| run(&mut *open(dir.path()).unwrap(), &request(prompt(9), 8)).unwrap().0;
    assert_eq!(tokens(&with_head(0)), tokens(&folder(&config)));
    names(&message(with_head(1).path()), &["lm_head.weight", "tie_word_embeddings"]);
    let mut untied = config;
    untied["tie_word_embeddings"] = json!(false);
    assert_eq!(tokens(&folder(&untied)).len(), 8);
}

#[test]
fn what_is_loaded_is_said_in_the_receipt() {
    let dir = folder(&config("llama"));
    let open =
        |dtype: &str| super::Transformer.open(&load(dir.path(), &[("dtype", dtype.into())])).map(|s| s.receipt());
    let (f32, q8) = (open("f32").unwrap(), open("q8_0").unwrap());
    let parameters = 512 * 64 + 64 + 2 * (2 * 64 + 64 * 64 * 2 + 2 * 32 * 64 + 3 * 96 * 64);
    assert_eq!(f32.model.parameters, Some(parameters));
    assert_eq!(f32.model.weight_bytes, Some(4 * parameters));
    // 34 bytes for 32 weights; five norms of 64 stay in f32.
    assert_eq!(q8.model.weight_bytes, Some((parameters - 5 * 64) / 32 * 34 + 5 * 64 * 4));
    assert_eq!(q8.settings["dtype"], "q8_0".into());
    assert_eq!(q8.settings["kv_cache"], "full".into());
    assert!(q8.settings["threads"].as_count() >= Some(1));
    assert!(!q8.model.synthetic && q8.details.contains_key("build"));
    assert_eq!(q8.model.fingerprint, f32.model.fingerprint);
    assert!(open("q4_0").is_err_and(|e| e.message.contains("q8_0")));
    let bf16 = open("bf16").unwrap();
    assert_eq!((&bf16.settings["dtype"], bf16.model.weight_bytes), (&"bf16".into(), Some(2 * parameters + 5 * 64 * 2)));
    let other = tempfile::tempdir().unwrap();
    write_model(other.path(), &config("llama"), &tensors(&config("llama"), 2));
    assert_ne!(super::testing::open(other.path()).unwrap().receipt().model.fingerprint, f32.model.fingerprint);
    // Heads of 20 and a hidden size of 40 do not fit blocks of 32.
    let mut odd = config("llama");
    for (key, value) in [("hidden_size", 40), ("head_dim", 20), ("intermediate_size", 64)] {
        odd[key] = json!(value);
    }
    let odd = folder(&odd);
    let mut session = super::Transformer.open(&load(odd.path(), &[("dtype", "q8_0".into())])).unwrap();
    let kept = session.receipt().details["not_quantized"].clone();
    assert!(kept.contains("q_proj") && kept.contains("o_proj") && !kept.contains("down_proj"), "{kept}");
    let receipt = session.receipt();
    assert_eq!(
        (&receipt.settings["dtype"], receipt.model.weight_format.as_deref()),
        (&"f32+q8_0".into(), Some("f32+q8_0"))
    );
    let (tokens, completion) = run(&mut *session, &request(prompt(9), 8)).unwrap();
    assert_eq!((tokens.len(), &completion.effective["dtype"]), (8, &"f32+q8_0".into()));
    // If no matrix fits, the receipt does not claim the requested format.
    let mut none = config("llama");
    for (key, value) in [("hidden_size", 40), ("head_dim", 20), ("intermediate_size", 40)] {
        none[key] = json!(value);
    }
    let none = folder(&none);
    let receipt = super::Transformer.open(&load(none.path(), &[("dtype", "q8_0".into())])).unwrap().receipt();
    assert_eq!((&receipt.settings["dtype"], receipt.model.weight_format.as_deref()), (&"f32".into(), Some("f32")));
}

/// Whatever the folder stores, nothing of it is lost unless that is asked for; quantized folders
/// stay quantized.
#[test]
fn without_a_dtype_the_weights_are_as_the_folder_stores_them() {
    let receipt = |dir: &tempfile::TempDir| super::Transformer.open(&load(dir.path(), &[])).unwrap().receipt();
    let plain = receipt(&folder(&config("llama")));
    assert_eq!((&plain.settings["dtype"], plain.model.weight_format.as_deref()), (&"f32".into(), Some("f32")));
    assert!(!plain.details.contains_key("source_format"));
    // Norms stay in f32, and so does one matrix: the computation is in f32, and the receipt says
    // from what.
    let json = config("llama");
    let mut halved = tensors(&json, 1);
    for (name, dtype, shape, bytes) in &mut halved {
        if shape.len() == 2 && !name.contains("v_proj") {
            *dtype = Dtype::BF16;
            *bytes = bytes.as_chunks::<4>().0.iter().flat_map(|value| [value[2], value[3]]).collect();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path(), &json, &halved);
    let halved = receipt(&dir);
    assert_eq!((&halved.settings["dtype"], halved.details["source_format"].as_str()), (&"f32".into(), "bf16"));
    // Of 4 bits and f32 the larger share decides: `embed_tokens` alone is a third of this model.
    for (kept, dtype) in [(&["model.embed_tokens"][..], "q8_0"), (&["model.embed_tokens", "up", "gate"], "f32")] {
        let mut json = config("llama");
        json["quantization"] = json!({"group_size": 32, "bits": 4});
        for name in kept {
            let names = match *name {
                "up" | "gate" => (0..2).map(|layer| format!("model.layers.{layer}.mlp.{name}_proj")).collect(),
                name => vec![name.to_owned()],
            };
            names.into_iter().for_each(|name| json["quantization"][name] = json!(false));
        }
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path(), &json, &super::testing::quantized(&json, tensors(&json, 1)));
        let receipt = receipt(&dir);
        assert_eq!(receipt.settings["dtype"], dtype.into(), "{kept:?}");
        assert_eq!(receipt.details["source_format"], "MLX affine, 4 bits, groups of 32");
    }
}

#[test]
fn options_and_toggles_it_does_not_have_are_refused() {
    let dir = folder(&config("llama"));
    for (name, value) in [
        ("kv_cache", "rotating:0".into()),
        ("memory_limit", 1i64.into()),
        ("dtype", "q3".into()),
        ("threads", (-1i64).into()),
    ] {
        let error = super::Transformer.open(&load(dir.path(), &[(name, value)])).err().unwrap();
        assert!(error.message.contains(name), "{error}");
    }
    for (name, value) in [("backend", "abacus"), ("speed", "high")] {
        let mut load = load(dir.path(), &[]);
        load.engine.options.insert(name.to_owned(), value.into());
        let error = super::Transformer.open(&load).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains(if name == "speed" { name } else { value }), "{error}");
    }
    let error = super::Transformer.open(&load(dir.path(), &[("memory_limit", 1i64.into())])).err().unwrap();
    assert!(error.message.contains("system's allocator"), "the reason is missing: {error}");
}

#[test]
fn an_unhonoured_toggle_has_its_reason_in_offer_and_receipt() {
    let dir = folder(&config("llama"));
    let receipt = open(dir.path()).unwrap().receipt();
    let offer = super::Transformer.offer();
    for toggle in inferometer_protocol::toggle::TOGGLES {
        let (honours, name) = (offer.honours(&Settings::new()), toggle.name.to_owned());
        assert_eq!(honours.honours(&name), Some(receipt.toggles.contains(&name)), "{name}");
        assert_eq!(honours.reason(&name), receipt.not_honoured.get(&name).map(String::as_str), "{name}");
        assert_ne!(receipt.toggles.contains(&name), receipt.not_honoured.contains_key(&name), "{name}");
    }
}

#[test]
fn the_offer_and_the_receipt_declare_the_same_sampling() {
    let dir = folder(&config("llama"));
    let receipt = open(dir.path()).unwrap().receipt();
    let offer = super::Transformer.offer();
    assert_eq!(offer.honours(&Settings::new()).sampling.unwrap(), receipt.sampling);
    assert_eq!(receipt.sampling, inferometer_protocol::sampling::FIELDS);
}

/// Asking for a library gives an engine, or a message that says what to do.
#[test]
fn a_backend_that_this_build_lacks_is_refused_with_the_way_to_get_it() {
    let dir = folder(&config("llama"));
    let mut load = load(dir.path(), &[]);
    load.toggles.clear();
    load.engine.options.insert("backend".to_owned(), "mlx".into());
    let opened = super::Transformer.open(&load);
    match super::Library::Mlx.missing() {
        None => assert!(opened.unwrap().receipt().backend.is_some_and(|name| name.starts_with("mlx"))),
        Some(why) => {
            let error = opened.err().unwrap();
            assert!(error.message.contains(&why) && why.contains("scripts/mlx-linux"), "{error}");
        }
    }
}

/// The fingerprint covers every file that affects tokens.
#[test]
fn every_small_file_counts_in_the_fingerprint() {
    let dir = folder(&config("llama"));
    let fingerprint = || {
        let config = super::config::Config::from_folder(dir.path()).unwrap();
        let weights = super::weights::WeightFolder::open(dir.path(), &config).unwrap();
        super::identity::fingerprint(dir.path(), &weights).unwrap()
    };
    let mut seen = vec![fingerprint()];
    // If this changes on purpose, increase the version in the fingerprint's mark.
    assert_eq!(seen[0], "de75f4301b0f712d136f87704d8d0379292f2c24ab5fb2b23b2c4d01dbea17b0");
    for name in ["generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        for content in ["{}", "{ }"] {
            fs_err::write(dir.path().join(name), content).unwrap();
            let now = fingerprint();
            assert!(!seen.contains(&now), "{name}: {content}");
            seen.push(now);
        }
    }
}
