//! The engine host and the engine protocol, from outside: real child processes, well-behaved and faulty.

use std::path::{Path, PathBuf};
use std::time::Duration;

use inferometer::run::client::{Host, Launch, check_stamps};
use inferometer::spec::protocol::{Generate, Open};
use inferometer::spec::{EngineSpec, FinishReason, Prompt, Request, Sampling};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn launch(script: &Path, arguments: &[&str], log: &Path) -> Launch {
    let mut command = vec!["python3".to_owned(), script.to_str().unwrap().to_owned()];
    command.extend(arguments.iter().map(|a| (*a).to_owned()));
    Launch { command, env: Vec::new(), log: log.to_owned(), timeout: Duration::from_secs(60) }
}

fn open() -> Open {
    let engine = EngineSpec { name: "exec".into(), label: "exec".into(), options: Default::default() };
    Open { engine, model: None, toggles: Default::default() }
}

fn tokens(prompt: &[u32], max_tokens: u32) -> Generate {
    let request = Request {
        prompt: Prompt::Tokens(prompt.to_vec()),
        sampling: Sampling::default(),
        toggles: Default::default(),
        max_tokens,
        ignore_eos: true,
        conversation: None,
        forced_tokens: None,
    };
    Generate { request, progress: false, operation_spans: false }
}

#[test]
fn the_example_adapter_generates_by_its_rule() {
    let dir = tempfile::tempdir().unwrap();
    let launch = launch(&repository("examples/minimal_adapter.py"), &[], &dir.path().join("host.log"));
    let mut host = Host::start(&launch).unwrap();
    assert_eq!(host.program(), "minimal_adapter.py 1.0.0");
    let ready = host.open(open()).unwrap();
    assert!(ready.receipt.model.synthetic);
    let exchange = host.generate(tokens(&[5, 9], 3), &mut |_| {}).unwrap();
    // next = (31 * last + 7 * position + 1) mod 1000
    assert_eq!(exchange.generated.tokens, [294, 136, 245]);
    assert_eq!(exchange.generated.completion.finish_reason, FinishReason::Length);
    check_stamps(&exchange, host.clock(), 3).unwrap();
    host.reset().unwrap();
    host.close().unwrap();
}
