//! Checks with a counting allocator that the recorder's token path never allocates. A separate
//! binary, since the allocator belongs to the whole program.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use inferometer_host::recorder::{Recorder, Shared};
use inferometer_host::{Detail, Instrumentation, TokenSink};
use inferometer_protocol::{Choice, Phase};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system allocator unchanged; counting touches only a
// constant-initialized thread-local.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller upholds `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller upholds `realloc`'s contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_during(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_during(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn recording_tokens_and_spans_allocates_nothing() {
    const TOKENS: u32 = 10_000;
    for operation_spans in [false, true] {
        let shared = Arc::new(Shared::default());
        let detail = if operation_spans { Detail::Operations } else { Detail::Timed };
        let instrumentation = Instrumentation { detail, choices: operation_spans, ..Instrumentation::default() };
        let mut recorder = Recorder::new(TOKENS, instrumentation, Arc::clone(&shared));
        let allocations = allocations_during(|| {
            let decode = recorder.begin(Phase::Decode);
            for id in 0..TOKENS {
                if recorder.cancelled() {
                    break;
                }
                for phase in [Phase::Forward, Phase::Penalty, Phase::Sample, Phase::CacheClear] {
                    let span = recorder.begin(phase);
                    recorder.end(span);
                }
                recorder.token(id);
                if recorder.wants_choices() {
                    recorder.choice(Choice { token: id, gap: 0.5 });
                }
            }
            recorder.end(decode);
        });
        assert_eq!(allocations, 0, "operation_spans = {operation_spans}");
        assert_eq!(recorder.tokens.len(), TOKENS as usize);
        assert_eq!(shared.generated(), TOKENS);
        assert_eq!(recorder.choices.map(|choices| choices.len()), operation_spans.then_some(TOKENS as usize));
    }
}
