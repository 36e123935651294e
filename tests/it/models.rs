//! Models: same recipe, same bytes; what `model` shows and verifies; the cache under several
//! processes; prompts.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assert_cmd::Command;
use inferometer_engine::text::{ChatTemplate, Tokenizer};
use inferometer_engine::transformer::Transformer;
use inferometer_host::Instrumentation;
use inferometer_host::recorder::Recorder;
use inferometer_host::{Engine as _, Load};
use inferometer_protocol::{Chat, EngineSpec, Message, Prompt, Request, Sampling, Settings};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::lab::{Lab, make_nan};

fn inferometer(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferometer"));
    command.args(arguments);
    command
}

/// Runs the command; exit code, stdout, stderr.
fn ran(mut command: Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs `model` with these arguments; exit code and output, with `[MODEL]` for the folder.
fn shown(arguments: &[&str], folder: &Path) -> String {
    let (code, stdout, stderr) = ran(inferometer(&[&["model"], arguments].concat()));
    format!("exit {code}\n{stdout}{stderr}").replace(path(folder), "[MODEL]")
}

fn path(folder: &Path) -> &str {
    folder.to_str().unwrap()
}

fn make(arch: &str, seed: u64, folder: &Path) {
    let seed = seed.to_string();
    let arguments = ["model", "new", "--arch", arch, "--preset", "tiny", "--seed", &seed, path(folder)];
    inferometer(&arguments).assert().success();
}

/// A tiny model of each architecture, made once for all tests. Do not change it.
fn tiny(arch: &str) -> PathBuf {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        for arch in ["llama", "qwen3"] {
            make(arch, 1, &folder.path().join(arch));
        }
        folder
    });
    made.path().join(arch)
}

/// A copy of the tiny model that a test may damage.
fn copied(arch: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs_err::read_dir(tiny(arch)).unwrap() {
        let entry = entry.unwrap();
        fs_err::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs_err::read(entry.path()).unwrap()))
        .collect();
    all.sort_unstable();
    all
}

#[test]
fn the_same_seed_makes_the_same_bytes_whatever_the_threads_and_another_seed_others() {
    for arch in ["llama", "qwen3"] {
        let folder = tempfile::tempdir().unwrap();
        let again = folder.path().join("again");
        inferometer(&["model", "new", "--arch", arch, "--preset", "tiny", path(&again)])
            .env("RAYON_NUM_THREADS", "1")
            .assert()
            .success();
        let first = files(&tiny(arch));
        assert_eq!(first.len(), 5, "config, generation config, tokenizer, its config, weights");
        assert!(first == files(&again), "{arch}: bytes differ");
        let other = folder.path().join("other");
        make(arch, 2, &other);
        let weights = |folder: &Path| fs_err::read(folder.join("model.safetensors")).unwrap();
        assert!(weights(&tiny(arch)) != weights(&other), "{arch}: another seed made the same weights");
    }
}

#[test]
fn weights_are_the_same_on_every_machine() {
    use sha2::{Digest, Sha256};
    // If these change on purpose, GENERATOR_VERSION counts up.
    for (arch, known) in [
        ("llama", "85092c481d9338c8716c1823340eec961cdf5a9519a2595e5076759f8c83800d"),
        ("qwen3", "67f4daf20e737853b872f51887a259a0c9bf390b03fc4ed2528f635f1a5d34db"),
    ] {
        let bytes = fs_err::read(tiny(arch).join("model.safetensors")).unwrap();
        let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, known, "{arch}");
    }
}

#[test]
fn a_model_is_stored_in_the_format_asked_for_and_is_the_same_on_every_machine() {
    use sha2::{Digest, Sha256};
    let folder = tempfile::tempdir().unwrap();
    let asked: [(&[&str], &[&str], u64, &str); 3] = [
        (&["--dtype", "f16"], &["f16"], 39, "cee71fe9767937a1"),
        (&["--dtype", "bf16", "--bits", "4"], &["MLX affine, 4 bits, groups of 64"], 99, "f2dd3bac3e43366a"),
        (&["--bits", "8", "--group-size", "128"], &["MLX affine, 8 bits, groups of 128"], 99, "9a7cf958f1f24a2e"),
    ];
    let mut verified = Vec::new();
    for (at, (options, formats, tensors, known)) in asked.into_iter().enumerate() {
        let folder = folder.path().join(at.to_string());
        let arguments = [&["model", "new", "--arch", "llama", "--preset", "tiny"], options, &[path(&folder)]].concat();
        inferometer(&arguments).assert().success();
        // If these change on purpose, GENERATOR_VERSION counts up.
        let bytes = fs_err::read(folder.join("model.safetensors")).unwrap();
        let hash: String = Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, known, "{options:?}");
        let (code, stdout, stderr) = ran(inferometer(&["model", "show", "--format", "json", path(&folder)]));
        assert_eq!(code, 0, "{stderr}");
        let facts: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!((&facts["weight_formats"], &facts["tensors"]), (&formats.into(), &tensors.into()));
        assert_eq!(facts["parameters"], 1_311_872);
        let (code, stdout, stderr) = ran(inferometer(&["model", "verify", path(&folder)]));
        assert_eq!(code, 0, "{stderr}");
        verified.push(stdout);
    }
    insta::assert_snapshot!(verified.join("\n").replace(path(folder.path()), "[FOLDER]"), @r#"
    39 tensors, all there, of the shapes that config.json says; every byte as made from llama tiny, seed 1, f16

    99 tensors, all there, of the shapes that config.json says; every byte as made from llama tiny, seed 1, bf16, MLX affine, 4 bits, groups of 64

    99 tensors, all there, of the shapes that config.json says; every byte as made from llama tiny, seed 1, MLX affine, 8 bits, groups of 128
    "#);
    // One number of the last quantized matrix.
    let weights = folder.path().join("1/model.safetensors");
    let mut bytes = fs_err::read(&weights).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    bytes[8 + header] ^= 1;
    fs_err::write(&weights, bytes).unwrap();
    let damaged = folder.path().join("1");
    insta::assert_snapshot!(shown(&["verify", path(&damaged)], &damaged), @r#"
    exit 2
    error: [MODEL]: lm_head.weight differs from what the recipe makes (llama tiny, seed 1, bf16, MLX affine, 4 bits, groups of 64); make the model again
    "#);
}

#[test]
fn formats_that_there_are_not_are_answered_with_those_there_are() {
    let asked: [&[&str]; 4] =
        [&["--bits", "7"], &["--bits", "4", "--group-size", "48"], &["--group-size", "64"], &["--dtype", "q8_0"]];
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("new");
    let told = asked.map(|options| shown(&[&["new", "--preset", "tiny"], options, &[path(&folder)]].concat(), &folder));
    assert!(!folder.exists());
    insta::assert_snapshot!(told.join("\n"), @r#"
    exit 2
    error: --bits must be one of [2, 3, 4, 5, 6, 8] and --group-size one of [32, 64, 128]

    exit 2
    error: --bits must be one of [2, 3, 4, 5, 6, 8] and --group-size one of [32, 64, 128]

    exit 2
    error: the following required arguments were not provided:
      --bits <N>

    Usage: inferometer model new --bits <N> --preset <PRESET> --group-size <N> <FOLDER>

    For more information, try '--help'.

    exit 2
    error: invalid value 'q8_0' for '--dtype <DTYPE>': no such format; there are f32, f16, bf16

    For more information, try '--help'.
    "#);
}

#[test]
fn a_folder_that_holds_something_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("thesis.txt"), "years of work").unwrap();
    insta::assert_snapshot!(shown(&["new", "--preset", "tiny", path(folder.path())], folder.path()), @r#"
    exit 2
    making qwen3 tiny, seed 1: 4.76 MiB of weights
    error: [MODEL] is not empty: name a new folder for the model, or empty it
    "#);
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn unknown_names_are_answered_with_those_there_are() {
    let new = |arguments: &[&str]| shown(&[&["new"], arguments].concat(), Path::new("[MODEL]"));
    insta::assert_snapshot!(new(&["--arch", "llama", "--preset", "0.6b", "x"]), @r#"
    exit 2
    error: there is no preset `0.6b` for llama models; presets: tiny, small, 135m, 1b, 3b
    "#);
    insta::assert_snapshot!(new(&["--arch", "gpt", "x"]), @r#"
    exit 2
    error: invalid value 'gpt' for '--arch <ARCH>': no such architecture; there are llama, mistral, qwen2, qwen3, qwen3_moe, smollm3, phi3, gemma3, gpt_oss

    For more information, try '--help'.
    "#);
}

#[test]
fn show_tells_shape_and_recipe() {
    let (code, stdout, _) = ran(inferometer(&["model", "show", "--format", "json", path(&tiny("llama"))]));
    assert_eq!(code, 0);
    let facts: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(facts["architecture"], "llama");
    assert_eq!((&facts["layers"], &facts["vocabulary"], &facts["tied"]), (&4.into(), &2048.into(), &false.into()));
    assert_eq!((&facts["tensors"], &facts["tokenizer_tokens"]), (&39.into(), &2048.into()));
    assert_eq!((&facts["synthetic"]["seed"], &facts["chat_template"]), (&1.into(), &true.into()));
    let folder = tiny("qwen3");
    insta::assert_snapshot!(shown(&["show", path(&folder)], &folder), @r#"
    exit 0
    path              [MODEL]
    architecture      qwen3
    parameters        1246848
    weight_formats    ["f32"]
    tensors           46
    weight_files      1
    disk_bytes        4992272 (4.76 MiB)
    fingerprint       f4a4b2f16a0b92b89f5e43936c98ad43172db5a01ba26d4ce11fd45a562ca
                      69a
    hidden            128
    layers            4
    heads             4
    kv_heads          2
    head_dim          64
    intermediate      384
    vocabulary        2048
    context_length    40960
    tied              true
    end_tokens        [2047,2045]
    tokenizer_tokens  2048
    chat_template     true
    synthetic         {"arch":"qwen3","preset":"tiny","seed":1,"generator_version":
                      1}
    "#);
}

#[test]
fn verify_accepts_what_was_made_and_finds_one_flipped_bit() {
    let made = ["llama", "qwen3"].map(tiny).map(|folder| shown(&["verify", path(&folder)], &folder));
    insta::assert_snapshot!(made.join("\n"), @r#"
    exit 0
    39 tensors, all there, of the shapes that config.json says; every byte as made from llama tiny, seed 1

    exit 0
    46 tensors, all there, of the shapes that config.json says; every byte as made from qwen3 tiny, seed 1
    "#);
    let folder = copied("qwen3");
    let weights = folder.path().join("model.safetensors");
    let mut bytes = fs_err::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs_err::write(&weights, bytes).unwrap();
    // The last tensor in the file.
    insta::assert_snapshot!(shown(&["verify", path(folder.path())], folder.path()), @r#"
    exit 2
    error: [MODEL]: model.norm.weight differs from what the recipe makes (qwen3 tiny, seed 1); make the model again
    "#);

    let folder = copied("qwen3");
    let tokenizer = folder.path().join("tokenizer.json");
    let text = fs_err::read_to_string(&tokenizer).unwrap().replacen("\"Isolated\"", "\"Removed\"", 1);
    fs_err::write(&tokenizer, text).unwrap();
    insta::assert_snapshot!(shown(&["verify", path(folder.path())], folder.path()), @r#"
    exit 2
    error: [MODEL]: tokenizer.json differs from what the recipe makes (qwen3 tiny, seed 1); make the model again
    "#);
}

#[test]
fn verify_names_what_is_missing_or_misshapen() {
    let faults = [
        ("model.safetensors", "model.layers.1.mlp.up_proj.weight", "model.layers.7.mlp.up_proj.weight"),
        ("config.json", "\"intermediate_size\": 384", "\"intermediate_size\": 380"),
        ("config.json", "\"preset\": \"tiny\"", "\"preset\": \"huge\""),
        ("tokenizer.json", "\"BPE\"", "\"BPX\""),
    ];
    let told = faults.map(|(file, from, to)| {
        let folder = copied("llama");
        let file = folder.path().join(file);
        let bytes = fs_err::read(&file).unwrap();
        let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect(from);
        let changed = [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat();
        fs_err::write(&file, changed).unwrap();
        shown(&["verify", path(folder.path())], folder.path())
    });
    insta::assert_snapshot!(told.join("\n"), @r#"
    exit 2
    error: tensor model.layers.1.mlp.up_proj.weight is missing in [MODEL]/model.safetensors

    exit 2
    error: [MODEL]/model.safetensors: tensor model.layers.0.mlp.down_proj.weight has shape [128, 384], but the configuration says [128, 380]

    exit 2
    error: [MODEL]/config.json: there is no preset `huge` for llama models; presets: tiny, small, 135m, 1b, 3b

    exit 2
    error: [MODEL]/tokenizer.json: not a tokenizer file of the Hugging Face tokenizers library: data did not match any variant of untagged enum ModelUntagged at line 1 column 50946
    "#);
    insta::assert_snapshot!(shown(&["verify", "/no/such/model"], Path::new("[MODEL]")), @r#"
    exit 2
    error: there is nothing at /no/such/model; a model is a Hugging Face folder with config.json, *.safetensors and tokenizer.json, or a GGUF file
    "#);
}

#[test]
fn verify_names_tensors_whose_values_are_not_finite() {
    let folder = copied("qwen3");
    make_nan(folder.path(), "model.layers.1.self_attn.q_norm.weight");
    make_nan(folder.path(), "model.layers.3.mlp.up_proj.weight");
    insta::assert_snapshot!(shown(&["verify", path(folder.path())], folder.path()), @r#"
    exit 2
    error: [MODEL]: tensors with values that are not finite (NaN or infinity): model.layers.1.self_attn.q_norm.weight (1 of 64), model.layers.3.mlp.up_proj.weight (1 of 49152); the model cannot generate: download or convert it again
    "#);
}

#[test]
fn verify_takes_models_that_are_not_synthetic() {
    let folder = copied("llama");
    let config = folder.path().join("config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs_err::read(&config).unwrap()).unwrap();
    json.as_object_mut().unwrap().remove("inferometer_synthetic");
    fs_err::write(&config, json.to_string()).unwrap();
    insta::assert_snapshot!(shown(&["verify", path(folder.path())], folder.path()), @r#"
    exit 0
    39 tensors, all there, of the shapes that config.json says
    "#);
}

#[test]
fn sizes_and_files_beyond_reason_are_refused_at_once() {
    let folder = copied("llama");
    let mut told = Vec::new();
    let mut show = || told.push(shown(&["show", path(folder.path())], folder.path()));
    let config = folder.path().join("config.json");
    let good = fs_err::read(&config).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&good).unwrap();
    json["num_hidden_layers"] = (1u32 << 28).into();
    fs_err::write(&config, json.to_string()).unwrap();
    show();
    fs_err::write(&config, &good).unwrap();
    for (name, longest) in [
        ("generation_config.json", 1u64 << 20),
        ("chat_template.jinja", 1 << 20),
        ("tokenizer_config.json", 4 << 20),
        ("tokenizer.json", 256 << 20),
    ] {
        let file = folder.path().join(name);
        let before = fs_err::read(&file).ok();
        // A sparse file, which takes no space.
        fs_err::File::create(&file).unwrap().set_len(longest + 1).unwrap();
        show();
        match before {
            Some(before) => fs_err::write(&file, before).unwrap(),
            None => fs_err::remove_file(&file).unwrap(),
        }
    }
    insta::assert_snapshot!(told.join("\n"), @r#"
    exit 2
    error: [MODEL]/config.json: num_hidden_layers is 268435456; it must be from 1 to 1024, beyond which no model goes

    exit 2
    error: [MODEL]/generation_config.json: longer than 1048576 bytes, the limit for such a file

    exit 2
    error: [MODEL]/chat_template.jinja: longer than 1048576 bytes, the limit for such a file

    exit 2
    error: [MODEL]/tokenizer_config.json: longer than 4194304 bytes, the limit for such a file

    exit 2
    error: [MODEL]/tokenizer.json: longer than 268435456 bytes, the limit for such a file
    "#);
}

#[test]
fn garbage_where_a_tokenizer_should_be_is_an_error_not_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    fs_err::write(&text, "hello").unwrap();
    let deep = "[".repeat(100_000);
    let unknown_merge = r#"{"model":{"type":"BPE","vocab":{"a":0},"merges":[["a","b"]]}}"#;
    let told = ["", "null", "\u{0}\u{1}", &deep, unknown_merge, r#"{"model": 3}"#].map(|garbage| {
        fs_err::write(folder.path().join("tokenizer.json"), garbage).unwrap();
        shown(&["encode", path(folder.path()), "--text-file", path(&text)], folder.path())
    });
    insta::assert_snapshot!(told.join("\n"), @r#"
    exit 2
    error: [MODEL]/tokenizer.json: not a tokenizer file of the Hugging Face tokenizers library: EOF while parsing a value at line 1 column 0

    exit 2
    error: [MODEL]/tokenizer.json: not a tokenizer file of the Hugging Face tokenizers library: invalid type: null, expected struct Tokenizer at line 1 column 4

    exit 2
    error: [MODEL]/tokenizer.json: not a tokenizer file of the Hugging Face tokenizers library: expected value at line 1 column 1

    exit 2
    error: [MODEL]/tokenizer.json: not a tokenizer file of the Hugging Face tokenizers library: invalid type: sequence, expected struct Tokenizer at line 1 column 1

    exit 2
    error: [MODEL]/tokenizer.json: not a tokenizer file of the Hugging Face tokenizers library: Token `b` out of vocabulary at line 1 column 61

    exit 2
    error: [MODEL]/tokenizer.json: not a tokenizer file of the Hugging Face tokenizers library: data did not match any variant of untagged enum ModelUntagged at line 1 column 12
    "#);
}

#[test]
fn encode_gives_ids_of_exactly_the_length_asked_for() {
    let essay = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/prompts/essay.txt");
    let model = tiny("llama");
    let ids = |length: &str| -> Vec<u32> {
        let arguments = ["model", "encode", path(&model), "--text-file", essay, "--length", length];
        let (code, stdout, stderr) = ran(inferometer(&arguments));
        assert_eq!(code, 0, "{stderr}");
        serde_json::from_str(&stdout).unwrap()
    };
    let long = ids("20000");
    assert_eq!(long.len(), 20_000, "longer than the text, so repeated");
    assert_eq!(ids("512"), long[..512]);
    assert_eq!(ids("1"), [2044], "the begin-of-text token counts");
}

#[test]
fn render_shows_what_the_chat_template_makes() {
    let folder = tempfile::tempdir().unwrap();
    let messages = folder.path().join("messages.json");
    fs_err::write(&messages, r#"[{"role": "user", "content": "Which <arm>?"}]"#).unwrap();
    let model = tiny("llama");
    let arguments = ["model", "render", path(&model), "--messages-file", path(&messages)];
    let (code, stdout, stderr) = ran(inferometer(&arguments));
    assert_eq!(code, 0, "{stderr}");
    let text: String = serde_json::from_str(&stdout).unwrap();
    assert_eq!(text, "<|begin_of_text|><|im_start|>user\nWhich <arm>?<|im_end|>\n<|im_start|>assistant\n");
    fs_err::write(&messages, r#"[{"role": "user", "content": [{"type": "image"}]}]"#).unwrap();
    insta::assert_snapshot!(shown(&arguments[1..], folder.path()), @r#"
    exit 2
    error: [MODEL]/messages.json: message 1: part 1 of `content` has the type `image`; only `text` is supported
    "#);
}

#[test]
fn render_gives_tools_and_arguments_to_the_template_and_keeps_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        fs_err::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    file(
        "chat_template.jinja",
        "{{ messages[-1].tool_calls }}{{ tools|tojson }}{{ thinking }}{{ effort }}{{ messages[0].content }}{{ messages[-1].thinking }}",
    );
    let tools = file("tools.json", r#"[{"type": "function", "z": 1, "a": 2}]"#);
    let chat = file(
        "chat.json",
        r#"{"messages": [{"role": "user", "content": "\u007f\u0001é"},
            {"role": "assistant", "reasoning_content": "r", "tool_calls": [{"id": "x", "n": 1.0}], "content": null}],
            "template_arguments": {"thinking": true}}"#,
    );
    let arguments = [
        "model",
        "render",
        path(folder.path()),
        "--messages-file",
        path(&chat),
        "--tools-file",
        path(&tools),
        "--template-argument",
        "thinking=false",
        "--template-argument",
        "effort=high",
    ];
    let (code, stdout, stderr) = ran(inferometer(&arguments));
    assert_eq!(code, 0, "{stderr}");
    let text: String = serde_json::from_str(&stdout).unwrap();
    let tools = r#"[{"type": "function", "z": 1, "a": 2}]"#;
    assert_eq!(text, format!("[{{'id': 'x', 'n': 1.0}}]{tools}Falsehigh\u{7f}\u{1}ér"));
}

/// The prompt would otherwise lack what the scenario seems to send, and nothing would say so.
#[test]
fn a_template_that_ignores_tools_is_told_by_check_and_run_and_the_page_shows_the_messages() {
    let lab = Lab::new();
    lab.run(&["model", "new", "m", "--preset", "tiny"]).expect(0);
    let chat = r#"{"messages": [{"role": "user", "content": "When is high water?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "tides", "arguments": {}}}]}],
        "tools": [{"type": "function", "function": {"name": "weather"}}], "template_arguments": {"thinks": false}}"#;
    lab.write("chat.json", chat);
    let scenario = lab.write(
        "s.toml",
        "name = \"t\"\n[model]\npath = \"m\"\n[[engine]]\n[workload]\nkind = \"chat\"\nchat_file = \"chat.json\"\n\
         max_tokens = 2\n[run]\niterations = 1\nwarmup = 1\n",
    );
    let scenario = scenario.to_str().unwrap();
    let plan = lab.run(&["check", scenario]).expect(0).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    lab.run(&["run", scenario]).expect(0);
    let warnings = lab.record().manifest.warnings;
    for name in ["tools", "tool_calls", "thinks"] {
        let told = format!("the chat template of this model ignores `{name}`: the prompt is the same without it");
        assert!(plan.contains(&format!("Warning: {told}")), "{plan}");
        assert!(warnings.contains(&told), "{warnings:?}");
    }
    let name = lab.run_folder().unwrap().file_name().unwrap().to_owned();
    let page = fs_err::read_to_string(lab.path("reports").join(name).join("index.html")).unwrap();
    for sent in ["When is high water?", "&quot;tides&quot;", "&quot;weather&quot;", "thinks = false"] {
        assert!(page.contains(sent), "{sent}");
    }
}

/// Peak memory in MiB of a command, and what it wrote to stderr. The kernel's figure for ended
/// children.
fn peak_mib(arguments: &[&str]) -> (u64, String) {
    let script = "import resource, subprocess, sys\n\
                  done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)\n\
                  peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n\
                  print(peak // (1 << 20 if sys.platform == 'darwin' else 1 << 10))\n\
                  sys.stderr.buffer.write(done.stderr)";
    let mut command = Command::new("python3");
    command.args(["-c", script, env!("CARGO_BIN_EXE_inferometer")]).args(arguments);
    let (code, stdout, stderr) = ran(command);
    assert_eq!(code, 0, "{stderr}");
    (stdout.trim().parse().unwrap(), stderr)
}

#[test]
fn a_hostile_chat_template_costs_little_memory_and_is_named_with_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let messages = folder.path().join("messages.json");
    fs_err::write(&messages, r#"[{"role": "user", "content": "hi"}]"#).unwrap();
    let template = folder.path().join("chat_template.jinja");
    let arguments = ["model", "render", path(folder.path()), "--messages-file", path(&messages)];
    fs_err::write(&template, "{{ messages[0].content }}").unwrap();
    let (plain, stderr) = peak_mib(&arguments);
    assert_eq!(stderr, "");
    let hungry = [
        "{% set ns = namespace(s='a') %}{% for i in range(32) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% set s = 'a' * 1000000 %}{{ s.replace('a', s) }}",
        "{{ ([1] * 9999999999)|list }}",
    ];
    for hostile in hungry {
        fs_err::write(&template, hostile).unwrap();
        let (peak, stderr) = peak_mib(&arguments);
        assert!(peak < plain + 80, "{peak} MiB, and {plain} without: {hostile}");
        assert!(stderr.contains("chat_template.jinja is stopped: it needs more than 64 MiB of memory"), "{stderr}");
    }
    fs_err::write(&template, "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}").unwrap();
    let (_, stderr) = peak_mib(&arguments);
    assert!(stderr.contains("chat_template.jinja is stopped: it takes more than 5000000 steps"), "{stderr}");
}

#[test]
fn chat_markers_become_single_tokens() {
    for (arch, front) in [("llama", vec![2044]), ("qwen3", vec![])] {
        let folder = tiny(arch);
        let message = Message::new("user", "hi");
        let text = ChatTemplate::from_model(&folder).unwrap().render(&Chat::of(vec![message]), true).unwrap();
        let tokenizer = Tokenizer::from_model(&folder).unwrap();
        let ids = tokenizer.encode(&text, false).unwrap();
        let markers: Vec<u32> = ids.into_iter().filter(|id| *id >= 2044).collect();
        assert_eq!(markers, [front, vec![2046, 2047, 2046]].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_comes_back_from_its_tokens(text in any::<String>(), spaces in "[ \t\r\n\u{a0}a-z]{0,40}") {
        thread_local!(static TOKENIZER: Tokenizer = Tokenizer::from_model(&tiny("qwen3")).unwrap());
        TOKENIZER.with(|tokenizer| {
            let text = format!("{text}{spaces}");
            let ids = tokenizer.encode(&text, true).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        });
    }

    #[test]
    fn any_text_fills_any_length(text in "[a-c \n]{0,3}\\PC{1,20}[\n ]{0,3}", length in 1u32..200) {
        thread_local!(static TOKENIZER: Tokenizer = Tokenizer::from_model(&tiny("qwen3")).unwrap());
        TOKENIZER.with(|tokenizer| assert_eq!(tokenizer.exact(&text, length).unwrap().len(), length as usize));
    }
}

/// Greedy tokens of a tiny model on the real engine, in f32.
fn greedy(session: &mut dyn inferometer_host::Session, prompt: &[u32]) -> Vec<u32> {
    session.reset().unwrap();
    let request = Request {
        prompt: Prompt::Tokens(prompt.to_vec()),
        sampling: Sampling::default(),
        toggles: Settings::new(),
        max_tokens: 64,
        ignore_eos: false,
        conversation: None,
        forced_tokens: None,
    };
    let mut recorder = Recorder::new(64, Instrumentation::default(), std::sync::Arc::default());
    session.generate(&request, &mut recorder).unwrap();
    recorder.tokens
}

#[test]
fn generations_do_not_loop_and_hear_the_first_token_of_the_prompt() {
    let essay = fs_err::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/prompts/essay.txt")).unwrap();
    let quantized = tempfile::tempdir().unwrap();
    let four_bits = quantized.path().join("model");
    let arguments = ["model", "new", "--preset", "tiny", "--bits", "4", path(&four_bits)];
    inferometer(&arguments).assert().success();
    for (arch, folder) in [("llama", tiny("llama")), ("qwen3", tiny("qwen3")), ("qwen3 in 4 bits", four_bits)] {
        let ids = Tokenizer::from_model(&folder).unwrap().exact(&essay, 2000).unwrap();
        let load = Load {
            engine: EngineSpec {
                name: "transformer".to_owned(),
                label: "transformer".to_owned(),
                options: Settings::new(),
            },
            model: Some(folder),
            toggles: Settings::from([("dtype".to_owned(), "f32".into())]),
        };
        let mut session = Transformer.open(&load).unwrap();
        for prompt in [&ids[1..17], &ids[1..513], &ids[800..864]] {
            let tokens = greedy(session.as_mut(), prompt);
            assert_eq!(tokens.len(), 64, "{arch}: no end token by accident");
            let distinct = tokens.iter().collect::<HashSet<_>>().len();
            assert!(distinct >= 32, "{arch}, {} tokens: {distinct} distinct ids: {tokens:?}", prompt.len());
            let changed = [&[(prompt[0] + 17) % 2000], &prompt[1..]].concat();
            assert_ne!(tokens, greedy(session.as_mut(), &changed), "{arch}: the first token is not heard");
        }
    }
}
