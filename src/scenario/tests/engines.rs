//! Engines, what they honour, and models.

use super::*;

#[test]
fn an_unknown_engine_names_the_nearest_and_all() {
    let error = bad(&least("[[engine]]\nname = \"transfomer\"\n"), &[]);
    assert!(error.contains("unknown engine `transfomer`"), "{error}");
    assert!(error.contains("did you mean `transformer`?"), "{error}");
    assert!(error.contains("this build has `transformer` and `exec`"), "{error}");
    let twice = bad(&least("[[engine]]\n[[engine]]\nname = \"transformer\"\n"), &[]);
    assert!(twice.contains("two engines have the name `transformer`"), "{twice}");
}

#[test]
fn an_engine_that_does_not_honour_a_toggle_refuses_it() {
    for toggle in ["compile = true", "compile = [true, false]"] {
        let error = bad(&least(&format!("[toggles]\n{toggle}\n")), &[]);
        assert!(error.contains("engine `transformer` does not honour `compile`"), "{error}");
        assert!(error.contains("it would have no effect"), "{error}");
    }
    let exec = "[[engine]]\nname = \"exec\"\noptions = { command = [\"x\"] }\n[toggles]\ncompile = true\n";
    assert_eq!(good(&least(exec), &[]).toggles.len(), 1, "only the running engine can say");
}

#[test]
fn what_an_engine_honours_follows_from_its_options() {
    let with = |backend: &str, toggle: &str| {
        least(&format!("[[engine]]\noptions = {{ backend = \"{backend}\" }}\n[toggles]\n{toggle}\n"))
    };
    for text in [with("candle", "memory_limit = 9"), least("[toggles]\nmemory_limit = [8, 9]\n")] {
        let error = bad(&text, &[]);
        let line = text.lines().position(|line| line.starts_with("memory_limit")).unwrap() + 1;
        assert!(error.contains(&format!("t.toml:{line}:1")), "{error}");
        assert!(error.contains("^^^^^^^^^^^^ candle sets no limits"), "{error}");
        assert!(error.contains("it is honoured with `options = { backend = \"mlx\" }`"), "{error}");
    }
    assert_eq!(good(&with("mlx", "memory_limit = 9"), &[]).toggles.len(), 1);
    assert_eq!(good(&with("mlx", "kv_cache = \"rotating:9\""), &[]).toggles.len(), 1);
    let full = bad(&with("mlx", "kv_cache = \"full\""), &[]);
    assert!(full.contains("does not accept `full`") && full.contains("accepts `rotating:N`"), "{full}");
}

#[test]
fn a_variant_that_is_not_here_is_refused_with_the_way_to_get_it() {
    let error = bad(&least("[[engine]]\noptions = { backend = \"cuda\" }\n[toggles]\ncompile = true\n"), &[]);
    assert!(!error.contains("compile"), "what it would honour is not known: {error}");
    assert!(error.contains("option `backend` cannot be cuda here"), "{error}");
    assert!(error.contains("^^^^^^ this build has no CUDA: buy one"), "{error}");
}

#[test]
fn a_model_path_must_exist_for_a_built_in_engine() {
    let text = least("").replace("synthetic = { arch = \"qwen3\", preset = \"tiny\" }", "path = \"/no/such/model\"");
    let error = bad(&text, &[]);
    assert!(error.contains("no model at /no/such/model"), "{error}");
    assert!(error.contains("t.toml:3:8"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let there = text.replace("/no/such/model", &dir.path().display().to_string());
    assert_eq!(good(&there, &[]).model, ModelSpec::Path(dir.path().to_owned()));
    let preset = bad(&least(""), &["model.synthetic.preset=1b"]);
    assert!(preset.contains("unknown preset `1b` of qwen3 models"), "{preset}");
}

#[test]
fn a_synthetic_model_is_stored_as_the_scenario_says() {
    let stored = |set: &[&str]| match good(&least(""), set).model {
        ModelSpec::Synthetic { dtype, quantization, .. } => (dtype, quantization),
        ModelSpec::Path(path) => panic!("{}", path.display()),
    };
    assert_eq!(stored(&[]), (None, None));
    assert_eq!(stored(&["model.synthetic.dtype=f16"]), (Some(Precision::F16), None));
    assert_eq!(stored(&["model.synthetic.bits=4"]), (None, Quantization::new(4, 64)));
    let groups = ["model.synthetic.bits=8", "model.synthetic.group_size=32"];
    assert_eq!(stored(&groups), (None, Quantization::new(8, 32)));
    for (set, said) in [
        ("model.synthetic.bits=5", "`bits` must be 4 or 8, not 5"),
        ("model.synthetic.bits=-4", "`bits` must be 4 or 8"),
        ("model.synthetic.bits=true", "`bits` must be 4 or 8"),
        ("model.synthetic.group_size=64", "`group_size` has no effect without `bits`"),
        ("model.synthetic.dtype=f8", "`dtype` cannot be"),
    ] {
        let error = bad(&least(""), &[set]);
        assert!(error.contains(said), "{set}: {error}");
    }
    // The record round-trips; for other models its format is unchanged.
    for set in [&groups[..], &[]] {
        let model = good(&least(""), set).model;
        let json = serde_json::to_value(&model).unwrap();
        assert_eq!(json["synthetic"].get("quantization").is_some(), !set.is_empty(), "{json}");
        assert_eq!(serde_json::from_value::<ModelSpec>(json).unwrap(), model);
    }
}
