use std::hint::black_box;

use super::*;

#[inline(never)]
fn spin_a(rounds: u64) -> u64 {
    (0..rounds).fold(1, |x, i| black_box(x ^ i).wrapping_mul(0x9e37_79b9))
}

#[inline(never)]
fn spin_b(rounds: u64) -> u64 {
    (0..rounds).fold(2, |x, i| black_box(x ^ i).wrapping_mul(0x9e37_79b9))
}

/// Calls one function twice as much as the other, until the thread's CPU clock reaches the limit.
#[inline(never)]
fn work(cpu_ns: u64) {
    let clock = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let begun = clock();
    loop {
        black_box(spin_a(20_000));
        black_box(spin_b(10_000));
        let now = clock();
        if (now.tv_sec - begun.tv_sec) * 1_000_000_000 + now.tv_nsec - begun.tv_nsec >= cpu_ns as i64 {
            return;
        }
    }
}

fn on_thread(name: &str, work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work).unwrap();
    });
}

/// Other tests work at the same time: only stacks of these threads are analysed.
fn of_thread(profile: &Profile, thread: &str) -> Profile {
    let mut profile = profile.clone();
    for part in &mut profile.parts {
        part.stacks.retain(|stack| stack.thread == thread);
    }
    profile
}

/// The profile of one thread at work in one phase and of another, twice as long, in the next.
fn two_threads(cpu_ns: u64) -> Profile {
    let mut running = start(1000).unwrap();
    assert!(matches!(start(100), Err(SamplingError::Running)));
    running.phase(Some(Phase::Prefill));
    on_thread("sampled-one", || work(cpu_ns));
    running.phase(Some(Phase::Decode));
    on_thread("sampled-two", || work(2 * cpu_ns));
    running.phase(None);
    let profile = running.stop().unwrap();
    let phases: Vec<_> = profile.parts.iter().map(|part| part.phase).collect();
    assert_eq!(phases, [None, Some(Phase::Prefill), Some(Phase::Decode)]);
    assert!(profile.parts[1].cpu_ns.unwrap() >= cpu_ns, "{:?}", profile.parts[1].cpu_ns);
    assert!(profile.parts[2].cpu_ns.unwrap() >= 2 * cpu_ns);
    profile
}

fn samples(profile: &Profile, part: usize) -> u64 {
    profile.parts[part].stacks.iter().map(|stack| stack.count).sum()
}

#[test]
fn work_is_found_where_it_is_done_by_phase_thread_and_name() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    // On a busy machine signals go to threads of other tests, so it may take more work.
    let mut tries = [400_000_000, 800_000_000, 1_600_000_000].into_iter().map(two_threads);
    let enough = |profile: &Profile| {
        samples(&of_thread(profile, "sampled-one"), 1) >= 20 && samples(&of_thread(profile, "sampled-two"), 2) >= 40
    };
    let profile = tries.find(enough).expect("few samples of much work");

    let (one, two) = (of_thread(&profile, "sampled-one"), of_thread(&profile, "sampled-two"));
    assert_eq!((samples(&one, 2), samples(&two, 1)), (0, 0), "phases are apart");

    let named = |frame: &u32| two.functions[*frame as usize].as_str();
    let total = |name: &str| {
        let through = |stack: &&ProfileStack| stack.frames.iter().any(|frame| named(frame).ends_with(name));
        let found: u64 = two.parts[2].stacks.iter().filter(through).map(|stack| stack.count).sum();
        assert!(found > 0, "{name} is in no stack: {:?}", two.functions);
        found as f64
    };
    let (a, b) = (total("::spin_a"), total("::spin_b"));
    // Of n samples a binomial share of 2/3: five standard deviations. Samples are not independent
    // where the scheduler's ticks keep step with the work, so some more is allowed.
    let n = a + b;
    assert!((a / n - 2.0 / 3.0).abs() < 5.0 * (2.0 / 9.0 / n).sqrt() + 0.05, "{a} {b}");
    assert!(total("::work") >= n);

    for stack in two.parts.iter().flat_map(|part| &part.stacks) {
        let names: Vec<&str> = stack.frames.iter().map(named).collect();
        assert_ne!(names[0], UNKNOWN, "{names:?}");
        for name in names {
            assert!(!name.contains(HANDLER) && !name.contains("trace_unsynchronized"), "{name}");
            assert!(!name.contains("17h") && !name.contains("_ZN"), "not demangled: {name}");
        }
    }
}

#[test]
fn frequencies_that_no_timer_has_are_refused() {
    for wrong in [0, 10_001, u32::MAX] {
        let error = start(wrong).err().unwrap().to_string();
        assert!(error.contains(&wrong.to_string()) && error.contains("1 to 10000"), "{error}");
    }
}

#[test]
fn too_many_stacks_lose_the_inner_frames_of_the_rarest_and_no_sample() {
    let stacks: Vec<ProfileStack> = (0..1000)
        .map(|i| ProfileStack { thread: "t".into(), frames: (0..40).map(|d| d * i).collect(), count: u64::from(i) + 1 })
        .collect();
    let sum = |stacks: &[ProfileStack]| stacks.iter().map(|stack| stack.count).sum::<u64>();
    let most = stacks.iter().max_by_key(|stack| stack.count).unwrap().clone();
    let cut = bounded(stacks.clone(), 100, 7777);
    assert!(cut.len() <= 100, "{}", cut.len());
    assert_eq!(sum(&cut), sum(&stacks));
    assert!(cut.contains(&most));
    assert!(cut.iter().any(|stack| stack.frames.last() == Some(&7777)));
    assert_eq!(bounded(stacks.clone(), 1000, 7777), stacks, "few enough are left as they are");
}

#[test]
fn time_and_samples_that_could_not_be_read_go_to_the_next_phase_together() {
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let mut running = start(100).unwrap();
    let begun = running.since.wall_ns;
    running.go_on(Some(Phase::Prefill), Err(SamplingError::Failed("of a test".to_owned())));
    assert_eq!((running.since.wall_ns, running.phase), (begun, Some(Phase::Prefill)));
    std::thread::sleep(std::time::Duration::from_millis(1));
    running.go_on(Some(Phase::Decode), Ok(()));
    assert!(running.since.wall_ns > begun);
}
