//! `model list`: what is found on the machine, under which name, and that names are taken wherever
//! a model is.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use inferometer_engine::synthetic::{self, Recipe};
use inferometer_protocol::{Architecture, Quantization};

use crate::lab::{Done, Lab};

/// Caches of all programs, in the folder of a lab.
struct Machine(Lab);

/// A GGUF file with an architecture, a context and one tensor of 32 values in F32.
fn gguf(architecture: &str) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(1u64.to_le_bytes());
    file.extend(3u64.to_le_bytes());
    file.extend([text("general.architecture"), 8u32.to_le_bytes().to_vec(), text(architecture)].concat());
    for (key, value) in [(format!("{architecture}.context_length"), 4096u32), ("general.file_type".to_owned(), 0)] {
        file.extend([text(&key), 4u32.to_le_bytes().to_vec(), value.to_le_bytes().to_vec()].concat());
    }
    file.extend([text("output.weight"), 1u32.to_le_bytes().to_vec(), 32u64.to_le_bytes().to_vec()].concat());
    file.extend([0; 12]);
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend([0; 128]);
    file
}

impl Machine {
    fn new() -> Self {
        Self(Lab::new())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        self.0.write(name, content)
    }

    /// A tiny folder of weights with a configuration.
    fn folder(&self, name: &str, quantization: Option<Quantization>) -> PathBuf {
        let path = self.0.path(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        let recipe = Recipe::find(Architecture::Qwen3, "tiny", 1).unwrap().stored(None, quantization);
        synthetic::create(&recipe, &path).unwrap();
        path
    }

    fn manifest(&self, name: &str, digest: &str) -> PathBuf {
        let layer = serde_json::json!({"mediaType": "application/vnd.ollama.image.model", "digest": digest});
        self.write(&format!("ollama/manifests/{name}"), serde_json::json!({"layers": [layer]}).to_string())
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = self.0.program(arguments);
        for (variable, folder) in [
            ("HOME", "home"),
            ("HF_HUB_CACHE", "hub"),
            ("OLLAMA_MODELS", "ollama"),
            ("LLAMA_CACHE", "llama.cpp"),
            ("INFEROMETER_MODELS", "models"),
            ("INFEROMETER_CACHE", "cache"),
        ] {
            command.env(variable, self.0.path(folder));
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Done {
        self.0.done(self.program(arguments).output().unwrap())
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.run(&["model", "list", "--format", "json"]).expect(0).stdout).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let list = self.json();
        list["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap().to_owned()).collect()
    }

    /// One model in every place.
    fn full() -> Self {
        let machine = Self::new();
        let at = |name: &str| machine.0.path(name);
        let snapshot = "hub/models--Qwen--Qwen3-0.6B/snapshots/1a2b3c4d5e";
        machine.folder(snapshot, None);
        machine.write("hub/models--Qwen--Qwen3-0.6B/refs/main", "1a2b3c4d5e");
        machine.folder("hub/models--Qwen--Qwen3-0.6B/snapshots/99887766aa", None);
        // As the hub's library stores files: links to blobs.
        let blob = machine.write("hub/models--org--Llama-GGUF/blobs/0a", gguf("llama"));
        fs_err::create_dir_all(at("hub/models--org--Llama-GGUF/snapshots/77")).unwrap();
        symlink(&blob, at("hub/models--org--Llama-GGUF/snapshots/77/Llama-Q8_0.gguf")).unwrap();
        symlink(at("gone"), at("hub/models--org--Llama-GGUF/snapshots/77/Llama-Q4_0.gguf")).unwrap();
        machine.folder("home/.lmstudio/models/mlx-community/Qwen3-tiny-4bit", Quantization::new(4, 64));
        machine.write("home/.lmstudio/models/lab/Split/m-00001-of-00002.gguf", gguf("mamba"));
        machine.write("home/.lmstudio/models/lab/Split/m-00002-of-00002.gguf", gguf("mamba"));
        let hex = "ab".repeat(32);
        machine.write(&format!("ollama/blobs/sha256-{hex}"), gguf("llama"));
        machine.manifest("registry.ollama.ai/library/llama3.2/latest", &format!("sha256:{hex}"));
        machine.write("llama.cpp/org_model_m.gguf", gguf("llama"));
        machine.write("llama.cpp/notes.gguf", "no model");
        machine.write("models/smollm2/SmolLM2.gguf", gguf("llama"));
        machine
    }
}

#[test]
fn every_place_is_searched_and_shown_within_80_columns() {
    let machine = Machine::full();
    let done = machine.run(&["model", "list"]).expect(0);
    let shown = machine.0.shown(&done.stdout);
    let before_presets = shown.split("Presets of synthetic models").next().unwrap();
    insta::assert_snapshot!(before_presets, @r#"
    inferometer, [LAB]/models:
    name     arch   format    bits   size  context  runs
    ─────────────────────────────────────────────────────
    smollm2  llama  GGUF F32  32.0  320 B     4096  no
        SmolLM2.gguf: tensor token_embd.weight is missing among the 1 tensors of
          this model

    Hugging Face, [LAB]/hub:
    name                    arch   format           bits      size  context  runs
    ──────────────────────────────────────────────────────────────────────────────
    Qwen/Qwen3-0.6B         qwen3  safetensors F32  32.0  4.76 MiB    40960  yes
    Qwen/Qwen3-0.6B@        qwen3  safetensors F32  32.0  4.76 MiB    40960  yes
    99887766
    org/Llama-GGUF/Llama-   llama  GGUF F32         32.0     320 B     4096  no
    Q8_0.gguf
        Llama-Q8_0.gguf: tensor token_embd.weight is missing among the 1 tensors of
          this model

    LM Studio, [LAB]/home/.lmstudio/models:
    name                    arch   format     bits     size  context  runs
    ───────────────────────────────────────────────────────────────────────
    lab/Split/m-00001-of-   mamba  GGUF F32   32.0    320 B     4096  no
    00002.gguf
        m-00001-of-00002.gguf: general.architecture "mamba" is not supported; this
          engine has llama, qwen2, qwen3, qwen3moe, smollm3, phi3, gemma3, gpt-oss
    mlx-community/Qwen3-    qwen3  MLX 4-bit   4.0  777 KiB    40960  yes
    tiny-4bit

    Ollama, [LAB]/ollama:
    name             arch   format    bits   size  context  runs
    ─────────────────────────────────────────────────────────────
    llama3.2:latest  llama  GGUF F32  32.0  320 B     4096  no
        sha256-abababababababababababababababababababababababababababababababab:
          tensor token_embd.weight is missing among the 1 tensors of this model

    llama.cpp, [LAB]/llama.cpp:
    name              arch   format    bits   size  context  runs
    ──────────────────────────────────────────────────────────────
    org_model_m.gguf  llama  GGUF F32  32.0  320 B     4096  no
        org_model_m.gguf: tensor token_embd.weight is missing among the 1 tensors of
          this model

    Places that are not there:
      [LAB]/cache/models
      [LAB]/home/.cache/lm-studio/models
    "#);
    let folders = |line: &&str| !line.contains("[LAB]");
    assert!(shown.lines().filter(folders).all(|line| line.chars().count() <= 80));
    assert_eq!(done.stderr, "");
    insta::assert_snapshot!(shown.split("Presets of synthetic models").nth(1).unwrap(), @r#"
     (`inferometer bench synthetic:ARCHITECTURE/PRESET`):
    architecture  preset   parameters   on disk   as q8_0
    ────────────────────────────────────────────────────────────────────────────────
    llama         tiny          1.3 M  5.00 MiB  1.33 MiB  tests
    llama         small        67.1 M   128 MiB  68.1 MiB  quick start
    llama         135m        134.5 M   257 MiB   136 MiB  shape of SmolLM2 135M
    llama         1b         1235.8 M  2.30 GiB  1.22 GiB  shape of Llama 3.2 1B
    llama         3b         3212.7 M  5.98 GiB  3.18 GiB  shape of Llama 3.2 3B
    mistral       tiny          1.3 M  5.00 MiB  1.33 MiB  tests
    mistral       7b         7241.7 M  13.5 GiB  7.17 GiB  shape of Mistral 7B v0.1
    qwen2         tiny          1.1 M  4.01 MiB  1.07 MiB  tests
    qwen2         0.5b        494.0 M   942 MiB   501 MiB  shape of Qwen2.5 0.5B
    qwen2         1.5b       1543.7 M  2.88 GiB  1.53 GiB  shape of Qwen2.5 1.5B
    qwen3         tiny          1.2 M  4.76 MiB  1.27 MiB  tests
    qwen3         small        67.1 M   128 MiB  68.1 MiB  quick start
    qwen3         0.6b        596.0 M  1.11 GiB   604 MiB  shape of Qwen3 0.6B
    qwen3         1.7b       1720.6 M  3.20 GiB  1.70 GiB  shape of Qwen3 1.7B
    qwen3         4b         4022.5 M  7.49 GiB  3.98 GiB  shape of Qwen3 4B
    qwen3_moe     tiny          2.5 M  9.52 MiB  2.53 MiB  tests
    qwen3_moe     30b-a3b   30532.1 M  56.9 GiB  30.2 GiB  shape of Qwen3 30B A3B
    smollm3       tiny          1.0 M  4.00 MiB  1.07 MiB  tests
    smollm3       3b         3075.1 M  5.73 GiB  3.04 GiB  shape of SmolLM3 3B
    phi3          tiny          1.0 M  4.00 MiB  1.07 MiB  tests
    phi3          mini       3836.0 M  7.15 GiB  3.80 GiB  shape of Phi-4-mini
    gemma3        tiny          3.3 M  12.5 MiB  3.35 MiB  tests
    gemma3        270m        268.1 M   511 MiB   272 MiB  shape of Gemma 3 270M
    gemma3        1b          999.9 M  1.86 GiB  1014 MiB  shape of Gemma 3 1B
    gpt_oss       tiny          2.3 M  8.82 MiB  2.35 MiB  tests
    gpt_oss       20b       20914.8 M  39.0 GiB  20.7 GiB  shape of gpt-oss 20B
    "#);
}

#[test]
fn an_empty_machine_says_where_it_looked() {
    let machine = Machine::new();
    let shown = machine.run(&["model", "list"]).expect(0).shown(&machine.0);
    insta::assert_snapshot!(shown.split("Presets of").next().unwrap(), @r#"
    exit 0
    --- stdout
    No models on this machine. `inferometer model get --list` shows some to fetch.
    Places that are not there:
      [LAB]/models
      [LAB]/cache/models
      [LAB]/hub
      [LAB]/home/.lmstudio/models
      [LAB]/home/.cache/lm-studio/models
      [LAB]/ollama
      [LAB]/llama.cpp
    "#);
}

#[test]
fn json_has_path_place_and_facts() {
    let machine = Machine::full();
    let list = machine.json();
    let model = |name: &str| {
        list["models"]
            .as_array()
            .unwrap()
            .iter()
            .find(|model| model["name"] == name)
            .unwrap_or_else(|| panic!("{name}: {list}"))
            .clone()
    };
    let ollama = model("llama3.2:latest");
    assert_eq!((&ollama["place"], &ollama["architecture"]), (&"ollama".into(), &"llama".into()));
    assert!(ollama["path"].as_str().unwrap().contains("/blobs/sha256-abab"));
    assert_eq!((&ollama["bits"], &ollama["context_length"]), (&32.0.into(), &4096.into()));
    // Its file has one tensor and no model.
    assert!(ollama["refused"].as_str().unwrap().contains("tensor token_embd.weight is missing"), "{ollama}");
    let split = model("lab/Split/m-00001-of-00002.gguf");
    assert!(split["refused"].as_str().unwrap().contains("\"mamba\" is not supported"), "{split}");
    assert_eq!(model("mlx-community/Qwen3-tiny-4bit")["format"], "MLX 4-bit");
    assert_eq!(model("Qwen/Qwen3-0.6B@99887766")["format"], "safetensors F32");
    assert!(list["places"].as_array().unwrap().len() >= 6);
}

/// Each is a remark or nothing; none hides the other models.
#[test]
fn broken_and_hostile_caches_are_survived() {
    let machine = Machine::full();
    let before = machine.names();
    machine.manifest("registry.ollama.ai/library/evil/latest", "sha256:../../../../../../etc/passwd");
    machine.manifest("registry.ollama.ai/library/gone/latest", &format!("sha256:{}", "00".repeat(32)));
    machine.write("ollama/manifests/registry.ollama.ai/library/text/latest", "no JSON");
    machine.write("hub/models--org--Broken/snapshots/1/config.json", "{");
    machine.write("hub/models--org--Empty/refs/main", "no such revision");
    machine.write("llama.cpp/cut.gguf", b"GGUF\x03\0\0\0\xff\xff\xff\xff");
    symlink(machine.0.path("hub"), machine.0.path("hub/models--org--Loop")).unwrap();
    let locked = machine.0.path("home/.lmstudio/models/locked");
    fs_err::create_dir(&locked).unwrap();
    fs_err::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
    let after = machine.names();
    let list = machine.json();
    let remarks = list["remarks"].to_string();
    for words in [
        "evil/latest names a blob that is no SHA-256 digest",
        "gone/latest names a blob that is not there",
        "text/latest is no manifest",
    ] {
        assert!(remarks.contains(words), "{words}: {remarks}");
    }
    // Nobody is kept out where the tests run as root.
    assert_eq!(fs_err::read_dir(&locked).is_err(), remarks.contains("locked"), "{remarks}");
    fs_err::set_permissions(&locked, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut expected = [before, vec!["cut.gguf".to_owned()]].concat();
    expected.sort_unstable();
    let mut found = after;
    found.sort_unstable();
    assert_eq!(found, expected);
    assert!(!list.to_string().contains("etc/passwd"));
}

#[test]
fn a_name_is_taken_wherever_a_model_is() {
    let machine = Machine::full();
    let show = |name: &str| -> serde_json::Value {
        serde_json::from_str(&machine.run(&["model", "show", name, "--format", "json"]).expect(0).stdout).unwrap()
    };
    let mlx = machine.0.path("home/.lmstudio/models/mlx-community/Qwen3-tiny-4bit");
    for name in ["mlx-community/Qwen3-tiny-4bit", "qwen3-tiny-4bit", "mlx-community"] {
        assert_eq!(show(name)["path"], mlx.to_str().unwrap(), "{name}");
    }
    machine.run(&["model", "verify", "Qwen3-tiny-4bit"]).expect(0);
    let scenario = machine.write(
        "named.toml",
        "name = \"named\"\n[model]\nname = \"qwen3-tiny-4bit\"\n[workload]\ntext = \"one two three\"\nlengths = [16]\nmax_tokens = 4\n",
    );
    let scenario = scenario.to_str().unwrap();
    let plan = machine.run(&["check", scenario]).expect(0).stdout;
    assert!(plan.contains("Qwen3-tiny-4bit"), "{plan}");
    let other = machine.run(&["check", scenario, "--model", "qwen/qwen3-0.6b"]).expect(0).stdout;
    assert!(other.contains("snapshots/1a2b3c4d5e"), "{other}");
    machine.run(&["check", scenario, "--model", "synthetic:llama/tiny"]).expect(0);
    // A run records the path that the name stood for.
    machine.run(&["run", scenario, "--no-report", "--set", "run.iterations=1", "--set", "run.warmup=0"]).expect(0);
    let record = fs_err::read_to_string(machine.0.run_folder().unwrap().join("run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(record["scenario"]["model"]["path"], mlx.to_str().unwrap());
    let bench =
        ["bench", "mlx-community", "-p", "8", "-n", "2", "-r", "1", "--no-report", "--set", "run.external_causes=warn"];
    machine.run(&bench).expect(0);
}

#[test]
fn a_name_of_none_or_several_is_an_error_that_helps() {
    let machine = Machine::full();
    let scenario = machine.write(
        "named.toml",
        "name = \"named\"\n[model]\nname = \"gemma3-270m\"\n[workload]\ntext = \"one two three\"\nlengths = [16]\nmax_tokens = 4\n",
    );
    let told = [
        machine.run(&["model", "show", "Qwen"]),
        machine.run(&["model", "show", "nothing-like-it"]),
        machine.run(&["bench", "q8"]),
        machine.run(&["run", scenario.to_str().unwrap()]),
    ]
    .map(|done| done.expect(2).shown(&machine.0));
    insta::assert_snapshot!(told.join("\n"), @r#"
    exit 2
    --- stderr
    error: `Qwen` may be any of 2 models:
      Qwen/Qwen3-0.6B (Hugging Face): [LAB]/hub/models--Qwen--Qwen3-0.6B/snapshots/1a2b3c4d5e
      Qwen/Qwen3-0.6B@99887766 (Hugging Face): [LAB]/hub/models--Qwen--Qwen3-0.6B/snapshots/99887766aa
      give more of the name, or the path

    exit 2
    --- stderr
    error: no model at nothing-like-it, and none has this name; `inferometer model list` shows the names; or give the folder of a model (config.json, safetensors, tokenizer.json), a GGUF file, or a synthetic model such as synthetic:qwen3/small

    exit 2
    --- stderr
    error: no model at q8, and none has this name; `inferometer model list` shows the names; did you mean `org/Llama-GGUF/Llama-Q8_0.gguf`?; or give the folder of a model (config.json, safetensors, tokenizer.json), a GGUF file, or a synthetic model such as synthetic:qwen3/small

    exit 2
    --- stderr
    error: no model is named `gemma3-270m`
     --> [LAB]/named.toml:3:8
      |
    3 | name = "gemma3-270m"
      |        ^^^^^^^^^^^^^
      |
      = help: `inferometer model get gemma3-270m` fetches it
    "#);
}

#[test]
fn a_manifest_of_ollama_leads_to_its_blob() {
    let machine = Machine::full();
    let manifest = machine.0.path("ollama/manifests/registry.ollama.ai/library/llama3.2/latest");
    let resolved = inferometer::models::opened(manifest);
    assert_eq!(resolved, machine.0.path(&format!("ollama/blobs/sha256-{}", "ab".repeat(32))));
    let other: &Path = &machine.0.path("models/smollm2");
    assert_eq!(inferometer::models::opened(other.to_owned()), other);
}
