//! A scenario file with `--set` overrides (each after a byte 0x1f), from TOML to the plan. After a
//! byte 0x1e stands only what follows the lines of a sound scenario.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use inferometer::engines;
use inferometer::scenario::{Offers, from_text, outline, plan};
use inferometer::spec::Scenario;
use inferometer_protocol::Architecture;

static OFFERS: LazyLock<Offers> = LazyLock::new(|| Offers {
    presets: vec![(Architecture::Llama, "tiny"), (Architecture::Qwen3, "tiny")],
    ..engines::offers()
});

const SOUND: &str = r#"name = "n"
[model]
synthetic = { arch = "llama", preset = "tiny" }
[[engine]]
name = "exec"
options = { command = ["x"] }
[workload]
kind = "prompt"
text = "x"
lengths = [4, 8]
max_tokens = 3
"#;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut parts = text.split('\u{1f}');
    let text = parts.next().unwrap_or_default();
    let more = text.strip_prefix('\u{1e}').map(|more| format!("{SOUND}{more}"));
    let text = more.as_deref().unwrap_or(text);
    let overrides: Vec<String> = parts.take(3).map(str::to_owned).collect();
    match from_text("t.toml", text, Path::new("/nowhere"), &overrides, &OFFERS) {
        Ok(scenario) => {
            if let Ok(plan) = plan(&scenario, &OFFERS) {
                let _ = outline(&scenario, &plan);
            }
            let json = serde_json::to_string(&scenario).expect("a scenario can be written");
            let again: Scenario = serde_json::from_str(&json).expect("what was written can be read");
            assert_eq!(again, scenario);
        }
        Err(error) => {
            assert!(!error.problems().is_empty() && !error.to_string().is_empty() && !error.styled().is_empty());
        }
    }
});
