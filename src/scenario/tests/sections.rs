//! Keys and their defaults, and overrides of them.

use super::*;

#[test]
fn every_default_is_filled_in() {
    let scenario = good(&least(""), &[]);
    assert_eq!(scenario.engines.len(), 1);
    assert_eq!(scenario.engines[0].name, "transformer");
    assert_eq!(scenario.engines[0].label, "transformer");
    assert!(matches!(&scenario.model, ModelSpec::Synthetic { preset, seed: 1, .. } if preset == "tiny"));
    assert_eq!(scenario.sampling, Sampling::default());
    assert_eq!((scenario.run.iterations, scenario.run.warmup), (10, 1));
    assert_eq!((scenario.run.timeout_s, scenario.run.isolation), (600.0, Isolation::Run));
    assert_eq!((scenario.telemetry.interval_ms, scenario.telemetry.gauges.len()), (50, 4));
    assert_eq!((scenario.vary, scenario.toggles.len()), (Vary::All, 0));
    let Workload::Prompt(workload) = &scenario.workload else { panic!("a prompt is the default") };
    assert_eq!((workload.max_tokens, workload.ignore_eos, workload.chat), (128, false, false));
}

/// An empty table requests the pass with all its defaults; so can `--set`.
#[test]
fn a_profiled_pass_is_asked_for_by_its_table() {
    assert_eq!(good(&least(""), &[]).profile, None);
    let pass = good(&least("[profile]\n"), &[]).profile.unwrap();
    assert_eq!((pass.flamegraph, pass.spans, pass.iterations, pass.frequency_hz), (true, true, 3, 997));
    assert_eq!((pass.profiler, pass.threads, pass.sync), Default::default());
    assert_eq!(good(&least(""), &["profile={}"]).profile, Some(pass));
    let text = "[profile]\nprofiler = \"py-spy\"\nthreads = \"apart\"\nsync = \"forced_sync\"\nspans = false\n";
    let pass = good(&least(text), &[]).profile.unwrap();
    assert_eq!(
        (pass.profiler, pass.threads, pass.sync, pass.spans),
        (ProfilerChoice::PySpy, Threads::Apart, SpanSync::ForcedSync, false)
    );
    assert!(bad(&least("[profile]\nspans = false\n"), &["profile.flamegraph=false"]).contains("nothing to do"));
}

/// A key that the table lists but the parser does not read would be ignored silently.
#[test]
fn the_parser_reads_every_key_of_the_table() {
    for section in SECTIONS {
        for key in section.keys {
            let date = "1979-05-27";
            let text = match section.title {
                "" if key.name == "engine" => "engine = 1979-05-27\n".to_owned(),
                "" => format!("{} = {date}\n", key.name),
                "[workload]" if key.name == keys::KIND => format!("[workload]\nkind = {date}\n"),
                "[workload]" if std::ptr::eq(*section, &raw const keys::CONVERSATION) => {
                    format!("[workload]\nkind = \"conversation\"\n{} = {date}\n", key.name)
                }
                "[[workload.turn]]" => {
                    format!("[workload]\nkind = \"conversation\"\n[[workload.turn]]\n{} = {date}\n", key.name)
                }
                "[[engine]] toggles" => format!("[[engine]]\ntoggles = {{ {} = {date} }}\n", key.name),
                "[[gate]]" => format!("[[gate]]\n{} = {date}\n", key.name),
                "[[gate]] cells" => format!("[[gate]]\nmetric = \"ttft\"\ncells = {{ {} = {date} }}\n", key.name),
                "[model] synthetic" => format!("[model]\nsynthetic = {{ {} = {date} }}\n", key.name),
                title => format!("{title}\n{} = {date}\n", key.name),
            };
            let text = if section.title.contains("workload") || section.title.is_empty() {
                text
            } else {
                format!("{text}[workload]\ntext = \"a\"\n")
            };
            let error = parse(&text, &[]).expect_err("a date is never right");
            let found = error.problems().iter().any(|p| p.title.contains(key.name) && p.title.contains("a date"));
            assert!(found, "{} `{}` is not read:\n{error}", section.words(), key.name);
        }
    }
}

#[test]
fn defaults_of_the_table_are_what_the_parser_makes_of_them() {
    assert_eq!(good(&least(""), &[]).ab, AbSettings::default());
    assert_eq!(
        (good(&least(""), &[]).build, good(&least("[build]\n"), &[]).build),
        (None, Some(BuildSettings::default()))
    );
    let usual = serde_json::to_value(BuildSettings::default()).unwrap();
    for key in keys::BUILD.keys {
        assert_eq!(key.default_value().unwrap(), usual[key.name], "{}", key.name);
    }
    assert_eq!(keys::ARCHITECTURES, Architecture::ALL.map(Architecture::name));
    for section in SECTIONS {
        for key in section.keys.iter().filter(|k| !k.default.is_empty()) {
            let value: toml::Table = format!("x = {}", key.default).parse().expect("a default is TOML");
            let fits = match key.shape {
                Shape::Text | Shape::Choice(_) => value["x"].is_str(),
                Shape::Size(_) => value["x"].is_integer(),
                Shape::Flag => value["x"].is_bool(),
                Shape::Count { .. } => value["x"].is_integer(),
                Shape::Number { .. } => value["x"].is_float(),
                Shape::Choices(_) | Shape::Texts { .. } => value["x"].is_array(),
                Shape::AllOr(_) => value["x"].as_str() == Some("all"),
                _ => false,
            };
            assert!(fits, "{} = {}", key.name, key.default);
        }
    }
}

#[test]
fn overrides_reach_every_kind_of_key() {
    let text = least("[run]\niterations = 3\n[[engine]]\nname = \"exec\"\noptions = { command = [\"a\"] }\n");
    let set = [
        "run.iterations=4",
        "workload.lengths=[64,128]",
        "toggles.prefill_chunk_size=[16,512]",
        "toggles.kv_cache=rotating:512",
        "engine.0.options.command=['b', 'c d']",
        "engine.0.label=other one",
        "\"sampling\".seed = 7",
        "model.path=src/scenario",
    ];
    let scenario = good(&text, &set);
    assert_eq!(scenario.run.iterations, 4);
    assert_eq!(scenario.overrides, set);
    assert_eq!(scenario.sampling.seed, 7);
    assert_eq!(scenario.engines[0].label, "other one");
    assert_eq!(scenario.engines[0].options["command"].as_texts().unwrap(), ["b", "c d"]);
    assert_eq!(scenario.toggles[1].values, [Value::from("rotating:512")]);
    assert_eq!(scenario.workload.lengths(), [64, 128]);
    assert!(
        matches!(&scenario.model, ModelSpec::Path(p) if *p == std::path::absolute("src/scenario").unwrap()),
        "{:?}",
        scenario.model
    );
    let plain = good(&least(""), &["engine.0.options.backend=candle"]);
    assert_eq!(plain.engines[0].options["backend"], Value::from("candle"));
}

#[test]
fn a_misplaced_key_is_told_its_place() {
    assert!(bad(&least("[run]\nmax_tokens = 3\n"), &[]).contains("this key belongs in [workload]"));
    assert!(bad(&least("[run.toggles]\nthreads = 3\n"), &[]).contains("this is a separate table: [toggles]"));
    assert!(bad(&least("[engine]\nname = \"exec\"\n"), &[]).contains("write `[[engine]]` above its keys"));
    let label = bad(&least("[[engine]]\nlabel = \"a\\nb\"\n"), &[]);
    assert!(label.contains("one line of at most 32"), "{label}");
}

#[test]
fn a_toggle_stands_in_one_place() {
    let error = bad(&least("[sampling]\nrepetition_penalty = 1.1\n[toggles]\nrepetition_penalty = 1.2\n"), &[]);
    assert!(error.contains("is set in [sampling] and in [toggles]"), "{error}");
    let option = bad(&least("[[engine]]\noptions = { threads = 2 }\n"), &[]);
    assert!(option.contains("this is a toggle: put it under [toggles]"), "{option}");
}

#[test]
fn values_that_are_there_twice_are_refused() {
    assert!(bad(&least("lengths = [7, 7]\n"), &[]).contains("`lengths` has 7 twice"));
    assert!(bad(&least("[toggles]\nrepetition_penalty = [1, 1.0]\n"), &[]).contains("has 1 twice"));
    assert!(bad(&least("[telemetry]\ngauges = [\"cpu\", \"cpu\"]\n"), &[]).contains("twice"));
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow() {
    for deep in [
        format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("x = {}", "{a=".repeat(100_000)),
        format!("[{}]", "a.".repeat(100_000) + "a"),
        format!("{} = 1", "a.".repeat(100_000) + "a"),
    ] {
        assert!(bad(&deep, &[]).contains("not valid TOML"));
    }
    bad(&least(""), &[&format!("{}a=1", "a.".repeat(50_000)), &format!("a={}", "[".repeat(100_000))]);
}
