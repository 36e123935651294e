//! The effect of other programs on iterations, through the whole program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use inferometer::record::{Cause, Status};

use crate::lab::{Lab, measured, statuses};

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
    let done = done.says("other programs used more than").says("in 2 of 2 iterations").says("end other programs");
    assert!(done.stdout.contains("(external cause)"), "{}", done.stdout);
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
    let done = lab.measure(&scenario(&lab, "warn"), &[]).expect(0).says("other programs used more than");
    done.says("they stay valid");
    let record = lab.record();
    assert_eq!(statuses(&record), [Status::Ok; 2]);
    assert!(record.manifest.warnings.iter().any(|told| told.contains("other programs")));
}

#[test]
fn iterations_too_short_to_be_judged_are_counted() {
    let lab = Lab::new();
    lab.measure(&lab.exec(&[], "[run]\niterations = 2\n[telemetry]\ninterval_ms = 10000\n"), &[]).expect(0);
    let warnings = lab.record().manifest.warnings;
    assert!(warnings.iter().any(|told| told.contains("2 of 2 iterations were too short to be judged")), "{warnings:?}");
}
