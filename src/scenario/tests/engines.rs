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
fn a_model_path_must_exist() {
    let text = least("").replace("synthetic = { arch = \"qwen3\", preset = \"tiny\" }", "path = \"/no/such/model\"");
    let error = bad(&text, &[]);
    assert!(error.contains("no model at /no/such/model"), "{error}");
    assert!(error.contains("t.toml:3:8"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let there = text.replace("/no/such/model", &dir.path().display().to_string());
    assert_eq!(good(&there, &[]).model, ModelSpec::Path(dir.path().to_owned()));
    let exec = "[[engine]]\nname = \"exec\"\noptions = { command = [\"x\"] }\n";
    assert!(
        bad(&format!("{text}{exec}"), &[]).contains("no model at /no/such/model"),
        "as a run says for every engine"
    );
    let preset = bad(&least(""), &["model.synthetic.preset=1b"]);
    assert!(preset.contains("unknown preset `1b` of qwen3 models"), "{preset}");
}

#[test]
fn a_model_has_a_path_a_name_or_a_recipe() {
    let synthetic = "synthetic = { arch = \"qwen3\", preset = \"tiny\" }";
    let named = least("").replace(synthetic, "name = \"smollm2\"");
    assert_eq!(good(&named, &[]).model, ModelSpec::Path("/models/smollm2.gguf".into()));
    assert_eq!(good(&least(""), &["model.name=smollm2"]).model, ModelSpec::Path("/models/smollm2.gguf".into()));
    let dir = tempfile::tempdir().unwrap();
    let path = format!("model.path={}", dir.path().display());
    assert_eq!(good(&named, &[&path]).model, ModelSpec::Path(dir.path().to_owned()));
    let unknown = bad(&named.replace("smollm2", "smollm3"), &[]);
    assert!(unknown.contains("no model is named `smollm3`") && unknown.contains("t.toml:3:8"), "{unknown}");
    assert!(unknown.contains("help: look"), "{unknown}");
    let both = bad(&least("").replace(synthetic, &format!("name = \"smollm2\"\n{synthetic}")), &[]);
    assert!(both.contains("`name` and `synthetic` cannot be used together"), "{both}");
    let twice = bad(&least(""), &["model.name=smollm2", &path]);
    assert!(twice.contains("`path` and `name` cannot be used together"), "{twice}");
    let none = bad(&least("").replace(synthetic, ""), &[]);
    assert!(none.contains("[model] needs `path`, `name`, `synthetic` or `served`"), "{none}");
}

#[test]
fn only_an_engine_that_has_a_model_does_without_one() {
    let synthetic = "synthetic = { arch = \"qwen3\", preset = \"tiny\" }";
    let engine = |name: &str| format!("\n[[engine]]\nname = \"{name}\"\noptions = {{ command = [\"true\"] }}\n");
    let served = |name: &str| least(&engine(name)).replace(synthetic, "served = true");
    assert_eq!(good(&served("exec"), &[]).model, ModelSpec::Served);
    let told = bad(&served("transformer"), &[]);
    assert!(told.contains("engine `transformer` needs a model") && told.contains("already: `exec`"), "{told}");
    let off = bad(&served("exec"), &["model.served=false"]);
    assert!(off.contains("`served` can only be true"), "{off}");
}

#[test]
fn a_synthetic_model_is_stored_as_the_scenario_says() {
    let stored = |set: &[&str]| match good(&least(""), set).model {
        ModelSpec::Synthetic { dtype, quantization, .. } => (dtype, quantization),
        other => panic!("{other:?}"),
    };
    assert_eq!(stored(&[]), (None, None));
    assert_eq!(stored(&["model.synthetic.dtype=f16"]), (Some(Precision::F16), None));
    assert_eq!(stored(&["model.synthetic.bits=4"]), (None, Quantization::new(4, 64)));
    let groups = ["model.synthetic.bits=8", "model.synthetic.group_size=32"];
    assert_eq!(stored(&groups), (None, Quantization::new(8, 32)));
    for (set, said) in [
        ("model.synthetic.bits=7", "`bits` must be 2, 3, 4, 5, 6 or 8, not 7"),
        ("model.synthetic.bits=-4", "`bits` must be 2, 3, 4, 5, 6 or 8"),
        ("model.synthetic.bits=true", "`bits` must be 2, 3, 4, 5, 6 or 8"),
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

/// Two engines; each has its own toggles instead of, or besides, the scenario's.
const OWN: &str = "[[engine]]\nlabel = \"one\"\ntoggles = { threads = 2, prefill_chunk_size = [8, 16] }\n\
                   [[engine]]\nlabel = \"two\"\n[toggles]\nthreads = 1\nrepetition_window_cap = [0, 768]\n";

#[test]
fn an_engine_may_have_toggles_of_its_own() {
    let scenario = good(&least(OWN), &[]);
    let plan = plan(&scenario, &offers()).unwrap();
    let asked = |engine: u32, toggle: &str| -> Vec<String> {
        let cells = plan.cells.iter().filter(|cell| cell.engine == engine);
        let values = |cell: &crate::spec::Cell| {
            let all = std::iter::once(&cell.toggles).chain(&cell.merged);
            all.filter_map(|toggles| toggles.get(toggle).map(ToString::to_string)).collect::<Vec<_>>()
        };
        let mut found: Vec<String> = cells.flat_map(values).collect();
        found.sort();
        found.dedup();
        found
    };
    assert_eq!((asked(0, "threads"), asked(1, "threads")), (vec!["2".to_owned()], vec!["1".to_owned()]));
    assert_eq!((asked(0, "prefill_chunk_size").len(), asked(1, "prefill_chunk_size").len()), (2, 0));
    assert_eq!(
        (asked(0, "repetition_window_cap").len(), asked(1, "repetition_window_cap").len()),
        (2, 2),
        "the scenario's matrix holds for both"
    );
    assert_eq!(plan.cells[0].load.get("threads"), Some(&Value::Int(2)), "it reaches the host");
    assert!(plan.cells.iter().any(|cell| cell.label.contains("one") && cell.label.contains("chunk=16")));

    // Gates may select them.
    let gate = "[[gate]]\nmetric = \"decode_tps\"\ncells = { threads = 2 }\n";
    assert_eq!(good(&least(&format!("{OWN}{gate}")), &[]).gates.len(), 1);
}

#[test]
fn an_engine_s_own_toggles_are_checked_like_the_scenario_s() {
    let with = |toggles: &str| least(&format!("[[engine]]\ntoggles = {{ {toggles} }}\n"));
    for (toggles, told) in [
        ("treads = 2", "unknown key `treads` in [[engine]] toggles"),
        ("vary = \"all\"", "unknown key `vary` in [[engine]] toggles"),
        ("threads = -1", "`threads`"),
        ("compile = true", "engine `transformer` does not honour `compile`"),
        ("threads = [2, 2]", "`threads`"),
    ] {
        let text = with(toggles);
        let error = bad(&text, &[]);
        let line = text.lines().position(|line| line.starts_with("toggles")).unwrap() + 1;
        assert!(error.contains(told) && error.contains(&format!("t.toml:{line}:")), "{toggles}: {error}");
    }
    // What only one engine honours is refused for all, with the way to set it for the one.
    let both = "[[engine]]\nlabel = \"a\"\noptions = { backend = \"mlx\" }\n[[engine]]\nlabel = \"b\"\n";
    let error = bad(&least(&format!("{both}[toggles]\nmemory_limit = 9\n")), &[]);
    assert!(error.contains("or set it under `toggles` of the `[[engine]]`s that honour it"), "{error}");
    let own = both.replace("\"mlx\" }\n", "\"mlx\" }\ntoggles = { memory_limit = 9 }\n");
    assert_eq!(good(&least(&own), &[]).engine_toggles["a"].len(), 1);
}

#[test]
fn an_override_that_an_engine_would_not_see_is_refused() {
    let error = bad(&least(OWN), &["toggles.threads=3"]);
    assert!(error.contains("engine `one` has its own `threads`, so this has no effect on it"), "{error}");
    assert!(error.contains("set `engine.0.toggles.threads` instead"), "{error}");
    let own = good(&least(OWN), &["engine.0.toggles.threads=3"]);
    assert_eq!(own.engine_toggles["one"][0].values, [Value::Int(3)]);
}

#[test]
fn paths_in_a_command_are_relative_to_the_scenario_s_folder() {
    let dir = tempfile::tempdir().unwrap();
    fs_err::write(dir.path().join("adapter.py"), "").unwrap();
    let command = |command: &str, set: &[&str]| {
        let text = least(&format!("[[engine]]\nname = \"exec\"\noptions = {{ command = {command} }}\n"));
        let set: Vec<String> = set.iter().map(|one| (*one).to_owned()).collect();
        let scenario = from_text("t.toml", &text, dir.path(), &set, &offers()).unwrap();
        let words = scenario.engines[0].options["command"].as_texts().unwrap();
        words.iter().map(|word| word.replace(dir.path().to_str().unwrap(), "[HERE]")).collect::<Vec<_>>()
    };
    assert_eq!(command(r#"["./my-engine", "serve"]"#, &[]), ["[HERE]/my-engine", "serve"]);
    assert_eq!(command(r#"["bin/my-engine"]"#, &[]), ["[HERE]/bin/my-engine"]);
    assert_eq!(command(r#"["python3", "./adapter.py"]"#, &[]), ["python3", "[HERE]/adapter.py"]);
    let others = r#"["python3", "adapter.py", "http://host/x", "not/there", "--in=./adapter.py", "/etc/hosts"]"#;
    let expected: Vec<String> = serde_json::from_str(others).unwrap();
    assert_eq!(command(others, &[]), expected, "nothing else is a path for certain");
    let set = ["engine.0.options.command=[\"./my-engine\"]"];
    let here = std::path::absolute("my-engine").unwrap();
    assert_eq!(command(r#"["x"]"#, &set), [here.to_str().unwrap()], "an override is relative to the working folder");
}
