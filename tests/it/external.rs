//! The effect of other programs on iterations, through the whole program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use inferometer::record::{Cause, LoadCheck, RequestRow, Status};
use inferometer::telemetry::lacking;
use inferometer::telemetry::waits::OFF_VARIABLE;

use crate::lab::{Lab, line, measured, section, statuses, without_figures};

/// Keeps cores busy until dropped.
struct Busy {
    stop: Arc<AtomicBool>,
}

impl Busy {
    /// Half of the cores, at least one.
    fn start() -> Self {
        Self::with(cores().div_ceil(2))
    }

    fn with(threads: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        for _ in 0..threads {
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

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
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

/// Generations of a few milliseconds: no gauge is sampled within them.
fn short(lab: &Lab, run: &str) -> std::path::PathBuf {
    let text = "[model]\nsynthetic = { arch = \"llama\", preset = \"tiny\" }\n[[engine]]\nname = \"transformer\"\n\
                [workload]\nkind = \"prompt\"\ntext = \"one two three four five\"\nmax_tokens = 16\nignore_eos = true\n";
    lab.write("short.toml", format!("name = \"short\"\n{text}[run]\nwarmup = 1\n{run}"))
}

/// The kernel counts how long each thread waited, however short the iteration is.
#[test]
fn short_iterations_are_judged_and_the_first_round_says_that_the_machine_is_busy() {
    if lacking::leaves_out("the kernel's counters of waiting threads") {
        return;
    }
    let lab = Lab::new();
    let scenario = short(&lab, "iterations = 6\nexternal_causes = \"invalidate\"\n[telemetry]\ninterval_ms = 10000\n");
    let done = {
        let _busy = Busy::with(2 * cores());
        let mut program = lab.program(&["run", scenario.to_str().unwrap(), "--no-report"]);
        lab.done(program.env_remove(OFF_VARIABLE).output().unwrap()).expect(4)
    };
    let record = lab.record();
    let rows = measured(&record);
    let waited = |row: &&&RequestRow| row.run_queue_ms.unwrap() > 0.1 * (row.end_ns - row.start_ns) as f64 / 1e6;
    assert!(2 * rows.iter().filter(waited).count() >= rows.len(), "{rows:?}");
    assert!(rows.iter().all(|row| row.load_check != Some(LoadCheck::Gauges)), "nothing is sampled");
    for row in rows.iter().filter(|row| row.cause == Some(Cause::ForeignLoad)) {
        assert_eq!(row.load_check, Some(LoadCheck::Counters));
        assert!(row.reason.starts_with("the engine waited for a CPU"), "{}", row.reason);
    }
    let told = done.stderr.find("warning: the run is being disturbed: the engine waited").expect(&done.stderr);
    let last = done.stderr.find("iteration 6 done").unwrap();
    assert!(told < last, "{}", done.stderr);
    insta::assert_snapshot!(without_figures(&line(&done.stderr, "warning: the run is being")), @r#"warning: the run is being disturbed: the engine waited for a CPU during more than # % of the time in # of # iterations (up to # %): end other programs or wait for them; `inferometer doctor` lists the busiest; such iterations are rejected; stop with Ctrl-C and run again later, or keep them with `--set run.external_causes=warn`"#);
    assert!(line(&done.stdout, "not valid: ").contains("invalid"), "{}", done.stdout);
}

/// A machine that shows neither gauges nor counters.
#[test]
fn figures_of_iterations_that_nothing_can_judge_say_so() {
    let lab = Lab::new();
    let nothing = lab.path("nothing");
    fs_err::create_dir_all(&nothing).unwrap();
    let scenario = short(&lab, "iterations = 2\n[telemetry]\ninterval_ms = 10000\n");
    let mut program = lab.program(&["run", scenario.to_str().unwrap()]);
    let done = lab.done(program.env("INFEROMETER_SYSTEM_ROOT", nothing).output().unwrap());
    let record = lab.record();
    let judged: Vec<_> = record.requests.iter().map(|row| (row.warmup, row.load_check)).collect();
    assert!(judged.iter().all(|(warmup, check)| *check == (!warmup).then_some(LoadCheck::Unjudged)), "{judged:?}");
    insta::assert_snapshot!(record.manifest.warnings.join("\n"), @r#"2 of 2 iterations are unjudged: they are too short for 3 samples of the gauges, and the kernel's counters do not tell whether other programs slowed them down; raise `workload.max_tokens`"#);
    assert!(done.stdout.contains("    load by other programs: unjudged\n"), "{}", done.stdout);
    let dir = lab.run_folder().unwrap();
    let markdown = lab.run(&["report", dir.to_str().unwrap(), "--format", "md"]).stdout;
    assert!(markdown.contains("| unjudged |"), "{markdown}");
    let page = fs_err::read_to_string(lab.path("reports").join(dir.file_name().unwrap()).join("index.html")).unwrap();
    assert!(section(&page, "figures").contains("<td>unjudged</td>"), "{page}");
}
