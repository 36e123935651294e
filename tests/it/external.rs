//! The effect of other programs on iterations, through the whole program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use inferometer::record::{Cause, Status};

use crate::lab::{Lab, line, measured, statuses, without_figures};

/// Keeps half of the cores, at least one, busy until dropped.
struct Busy {
    stop: Arc<AtomicBool>,
}

impl Busy {
    fn start() -> Self {
        let stop = Arc::<AtomicBool>::default();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..cores.div_ceil(2) {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self { stop }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Each request takes one second in which the engine sleeps: other programs do not slow it down,
/// but the harness cannot know that.
fn scenario(lab: &Lab, effect: &str) -> std::path::PathBuf {
    lab.exec(&["--token-ms", "100"], &format!("[run]\niterations = 2\nwarmup = 0\nexternal_causes = \"{effect}\"\n"))
}

#[test]
fn foreign_load_invalidates_iterations_and_says_what_to_do() {
    let _busy = Busy::start();
    let lab = Lab::new();
    let done = lab.measure(&scenario(&lab, "invalidate"), &[]).expect(4);
    insta::assert_snapshot!(without_figures(&line(&done.stderr, "warning: other programs")), @r#"warning: other programs used more than # cores in # of # iterations (up to # cores): they are invalid; end other programs or wait for them; `inferometer doctor` lists the busiest"#);
    insta::assert_snapshot!(without_figures(&line(&done.stdout, "exec: iterations 1 and 2")), @r#"exec: iterations # and # invalid: other programs used more than # cores (external cause)"#);
    let record = lab.record();
    assert_eq!(measured(&record).len(), 2);
    for row in measured(&record) {
        assert_eq!((row.status, row.cause), (Status::Invalid, Some(Cause::ForeignLoad)));
        assert!(row.reason.starts_with("other programs used more than"), "{}", row.reason);
        assert!(row.generated_tokens.is_some(), "what was measured stays in the record");
    }
}

#[test]
fn foreign_load_can_be_a_warning() {
    let _busy = Busy::start();
    let lab = Lab::new();
    let done = lab.measure(&scenario(&lab, "warn"), &[]).expect(0);
    let told = line(&done.stderr, "warning: other programs");
    insta::assert_snapshot!(without_figures(&told), @r#"warning: other programs used more than # cores in # of # iterations (up to # cores): they stay valid, but may be too slow; end other programs or wait for them; `inferometer doctor` lists the busiest"#);
    let record = lab.record();
    assert_eq!(statuses(&record), [Status::Ok; 2]);
    assert!(record.manifest.warnings.contains(&told["warning: ".len()..].to_owned()));
}

#[test]
fn iterations_too_short_to_be_judged_are_counted() {
    let lab = Lab::new();
    lab.measure(&lab.exec(&[], "[run]\niterations = 2\n[telemetry]\ninterval_ms = 10000\n"), &[]).expect(0);
    insta::assert_snapshot!(lab.record().manifest.warnings.join("\n"), @r#"2 of 2 iterations were too short to be judged for foreign load, stolen time and swapping (fewer than 3 samples each): generate more tokens"#);
}
