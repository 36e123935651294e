//! The counting allocator counts allocations of all threads while it is enabled, and limits what a
//! thread may hold. A separate binary with one test, since the allocator and its counts belong to
//! the whole program.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use inferometer_host::TokenSink;
use inferometer_host::alloc::{Count, Counting};
use inferometer_host::guard::{Limits, Stopped, within};
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
fn what_is_asked_for_is_counted_and_limited() {
    counted_by_phase_and_over_threads();
    a_guarded_thread_holds_no_more_than_its_limit();
}

fn a_guarded_thread_holds_no_more_than_its_limit() {
    let limits = Limits { memory: 1 << 20, time: Duration::from_secs(60) };
    let block = |bytes: usize| move || black_box(vec![1_u8; bytes]).len();
    assert_eq!(within(limits, block(1 << 19)), Ok(1 << 19));
    // Far more than there is, so that it must be refused before it is taken.
    assert_eq!(within(limits, block(1 << 60)), Err(Stopped::Memory(1 << 20)));
    let growing = || {
        let mut text = "a".to_owned();
        loop {
            text = black_box(format!("{text}{text}"));
        }
    };
    assert_eq!(within(limits, growing), Err::<(), _>(Stopped::Memory(1 << 20)));
    // What was given back counts no more, and other threads are not limited.
    let repeated = || (0..1000).map(|_| black_box(vec![1_u8; 1 << 18]).len()).sum::<usize>();
    assert_eq!(within(limits, repeated), Ok(1000 << 18));
    assert_eq!(block(4 << 20)(), 4 << 20);
    let text = within(limits, || "x".repeat(1000)).unwrap();
    assert_eq!(text.len(), 1000);
}

fn counted_by_phase_and_over_threads() {
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
