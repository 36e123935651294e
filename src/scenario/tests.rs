//! Scenarios from text to resolved form, and the messages for invalid ones.

mod ab;

use std::path::Path;

use super::Offers;
use super::keys::{self, SECTIONS, Shape};
use super::{ScenarioError, from_text, load, plan};
use crate::spec::{
    AbSettings, BuildSettings, Isolation, Plan, ProfilerChoice, Replies, Scenario, SpanSync, Threads, Vary, Workload,
};
use inferometer_protocol::{
    Architecture, Honours, Kind, ModelSpec, Offer, OptionSpec, Precision, Quantization, Sampling, Settings, Value,
    Variant,
};

pub(super) fn offers() -> Offers {
    let backend = OptionSpec {
        name: "backend",
        kind: Kind::Text,
        choices: &["candle", "mlx", "cuda"],
        meaning: "what computes the tensors",
    };
    let command = OptionSpec { name: "command", kind: Kind::Texts, choices: &[], meaning: "program and arguments" };
    let honoured = vec![
        "repetition_penalty",
        "repetition_context_size",
        "repetition_window_cap",
        "prefill_chunk_size",
        "kv_reuse",
        "threads",
        "dtype",
    ];
    // `mlx` honours more than `candle`; `cuda` is not in this build.
    let mut on_mlx = honoured.clone();
    on_mlx.extend(["memory_limit", "kv_cache"]);
    let variant = |value, missing: Option<&str>, toggles, refused: &[_]| Variant {
        option: "backend",
        value,
        missing: missing.map(str::to_owned),
        honours: Honours { toggles: Some(toggles), choices: &[("kv_cache", &["rotating:"])], refused: refused.into() },
    };
    let variants = vec![
        variant("candle", None, honoured.clone(), &[("memory_limit", "candle sets no limits")]),
        variant("mlx", None, on_mlx, &[("threads", "never seen: it is honoured")]),
        Variant {
            honours: Honours::default(),
            ..variant("cuda", Some("this build has no CUDA: buy one"), Vec::new(), &[])
        },
    ];
    let transformer = Offer {
        name: "transformer",
        label: "transformer",
        meaning: "the project's own engine",
        options: vec![backend],
        required: &[],
        honours: variants[0].honours.clone(),
        variants,
        built_in: true,
    };
    let exec = Offer {
        name: "exec",
        label: "exec",
        meaning: "any program that speaks the protocol",
        options: vec![command],
        required: &["command"],
        honours: Honours::default(),
        variants: Vec::new(),
        built_in: false,
    };
    let presets = ["tiny", "small"].map(|name| (Architecture::Qwen3, name));
    Offers { engines: vec![transformer, exec], presets: [&presets[..], &[(Architecture::Llama, "tiny")]].concat() }
}

/// A minimal scenario, followed by `rest`.
fn least(rest: &str) -> String {
    format!(
        "name = \"t\"\n[model]\nsynthetic = {{ arch = \"qwen3\", preset = \"tiny\" }}\n[workload]\ntext = \"hello\"\n{rest}"
    )
}

fn parse(text: &str, overrides: &[&str]) -> Result<Scenario, ScenarioError> {
    let overrides: Vec<String> = overrides.iter().map(|o| (*o).to_owned()).collect();
    from_text("t.toml", text, Path::new("/nowhere"), &overrides, &offers())
}

fn good(text: &str, overrides: &[&str]) -> Scenario {
    parse(text, overrides).unwrap_or_else(|error| panic!("{error}"))
}

fn bad(text: &str, overrides: &[&str]) -> String {
    parse(text, overrides).expect_err("a problem was expected").to_string()
}

fn planned(text: &str) -> Plan {
    plan(&good(text, &[]), &offers()).unwrap()
}

fn labels(plan: &Plan) -> Vec<&str> {
    plan.cells.iter().map(|c| c.label.as_str()).collect()
}

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
        "model.path=some/where",
    ];
    let scenario = good(&text, &set);
    assert_eq!(scenario.run.iterations, 4);
    assert_eq!(scenario.overrides, set);
    assert_eq!(scenario.sampling.seed, 7);
    assert_eq!(scenario.engines[0].label, "other one");
    assert_eq!(scenario.engines[0].options["command"].as_texts().unwrap(), ["b", "c d"]);
    assert_eq!(scenario.toggles[1].values, [Value::from("rotating:512")]);
    assert_eq!(scenario.workload.lengths(), [64, 128]);
    assert!(matches!(&scenario.model, ModelSpec::Path(p) if p == Path::new("some/where")), "{:?}", scenario.model);
    let plain = good(&least(""), &["engine.0.options.backend=candle"]);
    assert_eq!(plain.engines[0].options["backend"], Value::from("candle"));
}

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

#[test]
fn cells_that_do_the_same_work_are_merged_and_remembered() {
    let plan = planned(&least(
        "lengths = [512, 2048]\nmax_tokens = 64\n[sampling]\nrepetition_penalty = 1.1\nrepetition_context_size = 0\n\
         [toggles]\nrepetition_window_cap = [0, 768]\nprefill_chunk_size = [512, 2048]\n",
    ));
    assert_eq!(
        labels(&plan),
        [
            "len=512",
            "cap=0 chunk=512 len=2048",
            "cap=0 chunk=2048 len=2048",
            "cap=768 chunk=512 len=2048",
            "cap=768 chunk=2048 len=2048"
        ]
    );
    assert_eq!(plan.cells[0].merged.len(), 3);
    assert_eq!(plan.cells[0].predicted["repetition_window"], Value::Int(575));
    assert_eq!(plan.cells[3].predicted["repetition_window"], Value::Int(768));
    assert_eq!(plan.iterations(), 50);
    for (i, cell) in plan.cells.iter().enumerate() {
        assert_eq!(cell.id as usize, i);
    }
}

#[test]
fn settings_whose_effect_nobody_predicts_stay_apart() {
    let unknown_length = planned(&least("[toggles]\nprefill_chunk_size = [512, 2048]\n"));
    assert_eq!(labels(&unknown_length), ["chunk=512", "chunk=2048"]);
    assert!(unknown_length.cells[0].predicted.is_empty());
    let load = planned(&least("lengths = [64]\n[toggles]\ndtype = [\"f32\", \"q8_0\"]\nthreads = 2\n"));
    assert_eq!(labels(&load), ["dtype=f32", "dtype=q8_0"]);
    assert_eq!(load.cells[1].load, Settings::from([("dtype".into(), "q8_0".into()), ("threads".into(), 2_u32.into())]));
    assert_eq!(labels(&planned(&least("lengths = [64]\n"))), ["len=64"]);
    let exec = "[[engine]]\nname = \"exec\"\noptions = { command = [\"x\"] }\n";
    let unknown_engine =
        planned(&least(&format!("lengths = [64]\n[toggles]\nprefill_chunk_size = [512, 2048]\n{exec}")));
    assert_eq!(labels(&unknown_engine), ["chunk=512", "chunk=2048"]);
    assert!(unknown_engine.cells.iter().all(|cell| cell.predicted.is_empty() && cell.merged.is_empty()));
    assert_eq!(labels(&planned(&least(""))), ["transformer"]);
}

#[test]
fn toggles_of_sampling_are_applied_to_the_cell() {
    let plan =
        planned(&least("lengths = [64]\n[toggles]\nrepetition_penalty = [1, 1.5]\nrepetition_context_size = 8\n"));
    assert_eq!(labels(&plan), ["penalty=1", "penalty=1.5"]);
    assert_eq!(plan.cells[1].sampling.repetition_penalty, 1.5);
    assert_eq!(plan.cells[1].sampling.repetition_context_size, 8);
}

#[test]
fn one_at_a_time_is_a_star() {
    let text = least(
        "lengths = [4096]\n[sampling]\nrepetition_penalty = 1.1\nrepetition_context_size = 0\n\
         [toggles]\nvary = \"one-at-a-time\"\nprefill_chunk_size = [512, 1024, 2048]\nrepetition_window_cap = [0, 64]\n",
    );
    assert_eq!(labels(&planned(&text)), ["chunk=512 cap=0", "chunk=1024", "chunk=2048", "cap=64"]);
}

#[test]
fn the_order_is_seeded_and_every_row_has_every_cell() {
    let text = |seed: u32| least(&format!("lengths = [1,2,3,4,5,6,7,8]\n[run]\norder_seed = {seed}\n"));
    let (a, again, b) = (planned(&text(1)), planned(&text(1)), planned(&text(2)));
    assert_eq!(a.order, again.order);
    assert_ne!(a.order, b.order);
    assert_eq!(a.order.len(), 10);
    for row in &a.order {
        let mut ids = row.clone();
        ids.sort_unstable();
        assert_eq!(ids, (0..8).collect::<Vec<u32>>());
    }
    assert!(a.order.iter().any(|row| *row != a.order[0]), "every iteration has an order of its own");
    // The random stream defines what a seed means: a change here changes recorded plans.
    assert_eq!(a.order[0], [5, 7, 6, 4, 3, 1, 2, 0]);
}

#[test]
fn too_many_cells_or_requests_are_refused() {
    let many: Vec<String> = (1..=100_000).map(|n| n.to_string()).collect();
    assert!(bad(&least(&format!("lengths = [{}]\n", many.join(","))), &[]).contains("`lengths` has 100000 values"));
    let combined = least(&format!("lengths = [{}]\n[toggles]\nthreads = [1, 2, 3, 4, 5, 6]\n", many[..200].join(",")));
    let error = plan(&good(&combined, &[]), &offers()).unwrap_err();
    assert!(error.to_string().contains("1000 combinations"), "{error}");
    let text = least(&format!("lengths = [{}]\n[run]\niterations = 10000\n", many[..200].join(",")));
    assert!(plan(&good(&text, &[]), &offers()).unwrap_err().to_string().contains("run.iterations"));
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let why = |name: &str| load(&path(name), &[], &offers()).unwrap_err().to_string();
    assert!(why("gone.toml").contains("no such file"));
    assert!(why("").contains("folder"));
    fs_err::write(path("empty.toml"), "").unwrap();
    assert!(why("empty.toml").contains("is empty"));
    fs_err::write(path("latin.toml"), b"name = \"t\"\ndescription = \"caf\xe9\"").unwrap();
    assert!(why("latin.toml").contains("not UTF-8 text: line 2"), "{}", why("latin.toml"));
    fs_err::write(path("huge.toml"), vec![b'x'; 10 << 20]).unwrap();
    assert!(why("huge.toml").contains("larger than 1.00 MiB"));
    fs_err::write(path("scene.toml"), "").unwrap();
    assert!(why("scen.toml").contains("scene.toml?"), "{}", why("scen.toml"));
    let text = least("");
    fs_err::write(path("bom.toml"), format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap();
    assert_eq!(load(&path("bom.toml"), &[], &offers()).unwrap(), good(&text, &[]));
}

#[test]
fn prompt_files_are_read_beside_the_scenario() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("s.toml");
    fs_err::write(dir.path().join("p.txt"), "a prompt").unwrap();
    fs_err::write(&scenario, least("").replace("text = \"hello\"", "text_file = \"p.txt\"")).unwrap();
    let Workload::Prompt(workload) = load(&scenario, &[], &offers()).unwrap().workload else { panic!("a prompt") };
    assert_eq!((workload.text.as_str(), workload.text_file.as_deref()), ("a prompt", Some("p.txt")));
    fs_err::write(dir.path().join("p.txt"), b"\xff\xfe").unwrap();
    assert!(load(&scenario, &[], &offers()).unwrap_err().to_string().contains("not UTF-8"));
    fs_err::remove_file(dir.path().join("p.txt")).unwrap();
    assert!(load(&scenario, &[], &offers()).unwrap_err().to_string().contains("no such file"));
}

/// A conversation with these keys in its `[workload]`.
fn conversation(keys: &str) -> String {
    least("").replace("text = \"hello\"", &format!("kind = \"conversation\"\n{keys}"))
}

#[test]
fn a_conversation_comes_out_as_it_was_meant() {
    let scenario = good(&conversation("turn = [{ user = \"a\" }, { user = \"b\", reply = \"c\" }]"), &[]);
    let Workload::Conversation(work) = &scenario.workload else { panic!("a conversation") };
    assert_eq!((work.replies, work.max_tokens, work.ignore_eos), (Replies::Generated, 128, false));
    assert_eq!((work.turns.len(), work.turns[1].reply.as_deref(), &work.system), (2, Some("c"), &None));
    assert_eq!((scenario.workload.turns(), scenario.workload.warmup_turns()), (2, vec![0, 1]));
    let plan = plan(&scenario, &offers()).unwrap();
    assert_eq!((labels(&plan), plan.cells[0].length), (vec!["transformer"], None));
    let outline = super::outline(&scenario, &plan);
    assert_eq!((outline.requests, outline.warmup_requests, outline.hosts), (20, 2, 1));
    assert_eq!((outline.prefill_tokens, outline.generated_tokens), (None, 20 * 128));
}

#[test]
fn both_ways_of_reuse_are_cells_of_their_own() {
    let text = conversation("turn = [{ user = \"a\" }]") + "[toggles]\nkv_reuse = [\"prefix\", \"none\"]\n";
    assert_eq!(labels(&planned(&text)), ["reuse=prefix", "reuse=none"]);
}

#[test]
fn files_of_a_conversation_are_read_beside_the_scenario() {
    let dir = tempfile::tempdir().unwrap();
    let scenario = dir.path().join("s.toml");
    fs_err::write(dir.path().join("who.txt"), "You are brief.").unwrap();
    fs_err::write(dir.path().join("talk.toml"), "[[turn]]\nuser = \"a\"\nreply = \"b\"\n").unwrap();
    let keys = "system_file = \"who.txt\"\nturns_file = \"talk.toml\"\nreplies = \"fixed\"";
    fs_err::write(&scenario, conversation(keys)).unwrap();
    let Workload::Conversation(work) = load(&scenario, &[], &offers()).unwrap().workload else { panic!("one") };
    assert_eq!((work.system.as_deref(), work.system_file.as_deref()), (Some("You are brief."), Some("who.txt")));
    assert_eq!((work.turns[0].reply.as_deref(), work.turns_file.as_deref()), (Some("b"), Some("talk.toml")));
    let displaced = load(&scenario, &["workload.turn=[{user='x'},{user='y'}]".to_owned()], &offers());
    assert!(displaced.unwrap_err().to_string().contains("this turn needs a `reply`"), "a `--set` replaces the file");
    let both = bad(&conversation("turn = [{ user = \"a\" }]\nsystem = \"s\"\nsystem_file = \"f\""), &[]);
    assert!(both.contains("`system` and `system_file` cannot be used together"), "{both}");
}

#[test]
fn every_turn_counts_as_a_request() {
    let turns = vec!["{ user = \"a\" }"; 600].join(", ");
    let text = conversation(&format!("turn = [{turns}]")) + "[run]\niterations = 2000\n";
    let error = plan(&good(&text, &[]), &offers()).unwrap_err().to_string();
    assert!(error.contains("1 cells with 2000 iterations each of 600 turns exceed 1000000 requests"), "{error}");
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
