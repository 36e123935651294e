//! The profiled pass of a real host: spans of single operations, allocations by phase, and the same
//! tokens as in timed passes.

mod functions;
mod profiled;
mod report;
mod trace_format;

use std::path::Path;
use std::time::Duration;

use inferometer::run::host::{Host, Launch};
use inferometer_engine::synthetic::{Recipe, create};
use inferometer_protocol::messages::{Generate, Generated, Open};
use inferometer_protocol::{
    Architecture, Detail, EngineSpec, Instrumentation, Phase, Prompt, Request, Sampling, Settings, SpanTiming, Value,
};

struct Hosted {
    host: Host,
    _folder: tempfile::TempDir,
}

impl Hosted {
    fn open(model: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let command = vec![env!("CARGO_BIN_EXE_inferometer").to_owned(), "host".to_owned()];
        let log = folder.path().join("host.log");
        let env = vec![("RAYON_NUM_THREADS", "1".to_owned()), ("CANDLE_NUM_THREADS", "1".to_owned())];
        let launch = Launch { command, env, log, timeout: Duration::from_secs(120) };
        let mut host = Host::start(&launch).unwrap();
        let engine = EngineSpec { name: "transformer".into(), label: "t".into(), options: Settings::new() };
        let toggles = Settings::from([("threads".to_owned(), Value::Int(1))]);
        let model = Some(model.to_str().unwrap().to_owned());
        host.open(Open { engine, model, toggles, memory_interval_ms: None }).unwrap();
        Self { host, _folder: folder }
    }

    fn generate(&mut self, cap: i64, detail: Detail) -> Generated {
        self.host.reset().unwrap();
        let request = Request {
            prompt: Prompt::Tokens((0..PROMPT).map(|id| 10 + id * 7 % 400).collect()),
            sampling: Sampling { repetition_penalty: 1.1, repetition_context_size: 0, ..Sampling::default() },
            toggles: Settings::from([
                ("repetition_window_cap".to_owned(), Value::Int(cap)),
                ("prefill_chunk_size".to_owned(), Value::Int(16)),
            ]),
            max_tokens: TOKENS,
            ignore_eos: true,
            conversation: None,
            forced_tokens: None,
        };
        let instrumentation = Instrumentation { detail, ..Instrumentation::default() };
        let generate = Generate { request, instrumentation, concurrent: false };
        self.host.generate(generate, &mut |_| {}).unwrap().generated
    }
}

const PROMPT: u32 = 40;
const TOKENS: u32 = 24;

fn model() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    create(&Recipe::find(Architecture::Qwen3, "tiny", 1).unwrap(), &dir.path().join("model")).unwrap();
    dir
}

#[test]
fn the_profiled_pass_does_the_same_and_says_where_time_and_memory_go() {
    let dir = model();
    let mut hosted = Hosted::open(&dir.path().join("model"));
    let timed = hosted.generate(0, Detail::Timed);
    assert_eq!((timed.span_timing, timed.allocations.len()), (None, 0));
    assert!(timed.spans.iter().all(|span| span.phase.in_timed_pass()));

    for detail in [Detail::Operations, Detail::ForcedSync] {
        let profiled = hosted.generate(0, detail);
        assert_eq!(profiled.tokens, timed.tokens);
        // candle runs each operation when it is called, whatever is requested.
        assert_eq!(profiled.span_timing, Some(SpanTiming::Done));
        let count = |phase| profiled.spans.iter().filter(|span| span.phase == phase).count();
        assert_eq!(count(Phase::PrefillChunk), 3);
        assert_eq!(count(Phase::Forward), TOKENS as usize + 2);
        for phase in [Phase::Penalty, Phase::Sample, Phase::Detokenize] {
            assert_eq!(count(phase), TOKENS as usize, "{phase:?}");
        }
        let phases: Vec<Phase> = profiled.allocations.iter().map(|a| a.phase).collect();
        assert_eq!(phases, [Phase::Prefill, Phase::Decode]);
        assert!(profiled.allocations.iter().all(|a| a.allocations > 0 && a.bytes > a.allocations));
    }
    // Again, because counting was off in between.
    assert!(hosted.generate(0, Detail::Timed).allocations.is_empty());
}

/// Counted, not timed: a second pass over the same tokens has the same allocations, because nothing
/// else is counted.
#[test]
fn allocations_are_those_of_the_phase_alone() {
    let dir = model();
    let mut hosted = Hosted::open(&dir.path().join("model"));
    hosted.generate(0, Detail::Operations);
    let (first, second) = (hosted.generate(0, Detail::Operations), hosted.generate(0, Detail::Operations));
    for (a, b) in first.allocations.iter().zip(&second.allocations) {
        let apart = a.allocations.abs_diff(b.allocations) as f64 / a.allocations as f64;
        assert!(apart < 0.1, "{a:?} {b:?}");
    }
}
