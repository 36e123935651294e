//! The counting allocator counts allocations of all threads while it is enabled. A separate binary
//! with one test, since the allocator and its counts belong to the whole program.

use std::hint::black_box;
use std::sync::Arc;

use inferometer_host::TokenSink;
use inferometer_host::alloc::{Count, Counting};
use inferometer_host::recorder::Recorder;
use inferometer_host::{Detail, Instrumentation};
use inferometer_protocol::Phase;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn take(times: usize, size: usize) {
    for _ in 0..times {
        drop(black_box(vec![1_u8; size]));
    }
}

#[test]
fn what_is_asked_for_is_counted_by_phase_and_over_threads() {
    let count = Count::begin().expect("the allocator is in place");
    let before = count.now();
    take(100, 1000);
    let counted = count.now() - before;
    assert!(counted.allocations >= 100 && counted.bytes >= 100_000, "{counted:?}");
    drop(count);

    let count = Count::begin().unwrap();
    // Nothing was counted in between, except for the check itself.
    let off = count.now() - before - counted;
    assert!(off.allocations <= 2, "{off:?}");
    let mut recorder =
        Recorder::new(8, Instrumentation { detail: Detail::Operations, ..Instrumentation::default() }, Arc::default())
            .with_allocations(count);
    let prefill = recorder.begin(Phase::Prefill);
    std::thread::spawn(|| take(50, 2000)).join().unwrap();
    recorder.end(prefill);
    take(1000, 10);
    let decode = recorder.begin(Phase::Decode);
    take(10, 100_000);
    let detokenize = recorder.begin(Phase::Detokenize);
    take(1000, 10);
    recorder.end(detokenize);
    recorder.end(decode);
    let phases = recorder.phase_allocations();
    assert_eq!(phases.iter().map(|a| a.phase).collect::<Vec<_>>(), [Phase::Prefill, Phase::Decode]);
    assert!((50..500).contains(&phases[0].allocations) && phases[0].bytes >= 100_000, "{phases:?}");
    assert!((10..100).contains(&phases[1].allocations) && phases[1].bytes >= 1_000_000, "{phases:?}");
}
