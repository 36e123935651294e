use super::*;
use inferometer_protocol::{Profile, ProfilePart, ProfileStack, SampleClock};

/// A profile of decoding: folded stacks with their samples, in `cpu_ms` of CPU time.
fn profile(stacks: &[(&str, u64)], cpu_ms: Option<u64>) -> Profile {
    let mut functions: Vec<String> = Vec::new();
    let mut number = |name: &str| {
        let at = functions.iter().position(|known| known == name).unwrap_or_else(|| {
            functions.push(name.to_owned());
            functions.len() - 1
        });
        u32::try_from(at).unwrap()
    };
    let stacks = stacks
        .iter()
        .map(|(frames, count)| ProfileStack {
            thread: "main".to_owned(),
            frames: frames.split('<').rev().map(|name| number(name.trim())).collect(),
            count: *count,
        })
        .collect();
    let part = ProfilePart {
        phase: Some(Phase::Decode),
        duration_ns: 2_000_000_000,
        cpu_ns: cpu_ms.map(|ms| ms * 1_000_000),
        stacks,
    };
    Profile { profiler: "pprof".to_owned(), clock: SampleClock::Cpu, frequency_hz: 500, functions, parts: vec![part] }
}

fn compared(a: &[Profile], b: &[Profile], tokens: u64) -> Difference {
    let [a, b] = [a, b].map(|side| side.iter().map(|profile| Sampled { profile, tokens }).collect::<Vec<_>>());
    difference(&a, &b, Some(Phase::Decode)).unwrap()
}

/// Attention reads the cache in A and copies it first in B; with names of two builds.
fn kv_copy() -> [Vec<Profile>; 2] {
    let a = |more: u64| {
        profile(
            &[
                ("dot::h0000000000000001 < attend::h00000000000000aa < layer < forward < main", 300 + more),
                ("matmul < mlp < layer < forward < main", 600 - more),
                ("memmove < copy2d < append < layer < forward < main", 10),
                ("layer < forward < main", 3),
            ],
            Some(1000),
        )
    };
    let b = |more: u64| {
        profile(
            &[
                ("dot::h0000000000000002 < attend::h00000000000000bb < layer < forward < main", 310 - more),
                ("matmul < mlp < layer < forward < main", 610 + more),
                ("memmove < copy2d < append < layer < forward < main", 11),
                ("memmove < copy2d < contiguous < attend::h00000000000000bb < layer < forward < main", 220),
                ("munmap < drop < attend::h00000000000000bb < layer < forward < main", 20),
            ],
            Some(1270),
        )
    };
    [vec![a(5), a(0), a(9)], vec![b(2), b(8), b(0)]]
}

#[test]
fn a_copy_in_attention_is_the_first_row_with_who_makes_it() {
    let [a, b] = kv_copy();
    let found = compared(&a, &b, 100);
    let first = &found.functions[0];
    assert_eq!((first.name.as_str(), first.own.is_clear()), ("memmove", true), "{first:#?}");
    // 231 samples of 1171 in 1270 ms less 10 of 913 in 1000 ms, in each of 100 tokens.
    let want = 231.0 / 1171.0 * 12.70 - 10.0 / 913.0 * 10.0;
    assert!((first.own.change_ms_per_token - want).abs() < 0.02, "{first:#?}");
    assert!(first.own.interval.lo > 2.0 && first.own.interval.hi < 2.9, "{first:#?}");
    assert_eq!(first.callers, ["copy2d", "contiguous", "attend", "layer", "forward", "main"]);
    let new = first.new_call.as_ref().unwrap();
    assert_eq!((new.caller.as_str(), new.callee.as_str(), new.by_b), ("attend", "contiguous", true));
    // By total time: the function that makes the call, not all its callers.
    let names: Vec<&str> = found.callers.iter().map(|row| row.name.as_str()).collect();
    assert!(names.contains(&"attend") && !names.contains(&"main") && !names.contains(&"forward"), "{names:?}");
    assert_eq!((found.tested, found.counting_only, found.a.iterations), (5, false, 3));
    assert!(
        (found.a.rate_hz.unwrap() - 913.0).abs() < 1.0 && (found.b.ms_per_token - 12.7).abs() < 1e-9,
        "{:?}",
        found.a
    );
}

/// Swapped sides give the same result with the opposite sign.
#[test]
fn what_vanished_is_told_too() {
    let [a, b] = kv_copy();
    let found = compared(&b, &a, 100);
    let first = &found.functions[0];
    assert_eq!(first.name, "memmove");
    assert!(first.own.change_ms_per_token < -2.0 && first.own.interval.hi < 0.0);
    assert_eq!(first.new_call.as_ref().map(|new| (new.callee.as_str(), new.by_b)), Some(("contiguous", false)));
}

#[test]
fn more_samples_of_the_same_are_no_change() {
    let stacks = |times: u64| [("dot < main", 40 * times), ("matmul < main", 60 * times)];
    let (a, b) = (profile(&stacks(1), Some(200)), profile(&stacks(5), Some(200)));
    let found = compared(std::slice::from_ref(&a), std::slice::from_ref(&b), 10);
    assert!(found.counting_only);
    assert!(found.functions.iter().all(|row| !row.own.is_clear() && row.own.change_ms_per_token.abs() < 1e-9));
    // More tokens in proportionally more time are no change.
    let twice = profile(&stacks(2), Some(400));
    let sampled = |profile, tokens| [Sampled { profile, tokens }];
    let found = difference(&sampled(&a, 10), &sampled(&twice, 20), Some(Phase::Decode)).unwrap();
    assert!(found.functions.iter().all(|row| row.own.change_ms_per_token.abs() < 1e-9), "{:?}", found.functions);
}

#[test]
fn one_sample_here_and_none_there_is_not_clear() {
    let a = profile(&[("dot < main", 500)], Some(1000));
    let b = profile(&[("dot < main", 499), ("rare < main", 1)], Some(1000));
    let found = compared(&[a], &[b], 10);
    let rare = found.functions.iter().find(|row| row.name == "rare").unwrap();
    assert_eq!(rare.new_call, None, "one sample says of no call that the other side lacks it");
    assert!(rare.own.interval.lo < 0.0 && rare.own.interval.hi > 0.0 && rare.own.p_value.is_none(), "{rare:?}");
}

#[test]
fn a_sample_stands_for_what_its_clock_says() {
    let mut profile = profile(&[("dot < main", 100), ("wait < main", 300)], None);
    let ms = |profile: &Profile| {
        let sampled = [Sampled { profile, tokens: 1 }];
        difference(&sampled, &sampled, Some(Phase::Decode)).unwrap().a.ms_per_token
    };
    // CPU time was not read: the requested rate, 500 per second, is used.
    assert!((ms(&profile) - 800.0).abs() < 1e-9);
    profile.parts[0].cpu_ns = Some(1_000_000_000);
    assert!((ms(&profile) - 1000.0).abs() < 1e-9);
    // By wall time each thread has its own two seconds.
    profile.clock = SampleClock::Wall;
    assert!((ms(&profile) - 2000.0).abs() < 1e-9);
    profile.parts[0].stacks[1].thread = "other".to_owned();
    assert!((ms(&profile) - 2000.0 * 400.0 / 300.0).abs() < 1e-9);
}

#[test]
fn a_function_that_calls_itself_is_counted_once() {
    let a = profile(&[("walk < walk < walk < main", 10), ("walk < main", 10)], Some(20));
    let found = compared(std::slice::from_ref(&a), &[profile(&[("walk < walk < main", 40)], Some(40))], 1);
    let walk = &found.functions[0];
    assert!((walk.total.a_ms_per_token - 20.0).abs() < 1e-9 && (walk.total.b_ms_per_token - 40.0).abs() < 1e-9);
}

/// All functions of a library without symbols share its name, including the one that calls `main`.
#[test]
fn callers_are_those_of_the_frame_that_took_the_time() {
    let a = profile(&[("dot < attend < main < [libc]", 500)], Some(500));
    let b =
        profile(&[("dot < attend < main < [libc]", 500), ("[libc] < copy < attend < main < [libc]", 100)], Some(600));
    let found = compared(&[a], &[b], 1);
    assert_eq!(found.functions[0].name, "[libc]");
    assert_eq!(found.functions[0].callers, ["copy", "attend", "main", "[libc]"]);
    assert_eq!(found.functions[0].new_call.as_ref().map(|new| new.callee.as_str()), Some("copy"));
}

#[test]
fn nothing_is_made_of_nothing() {
    let some = profile(&[("dot < main", 10)], Some(10));
    for (a, b, phase) in [
        (vec![], vec![Sampled { profile: &some, tokens: 1 }], Some(Phase::Decode)),
        (vec![Sampled { profile: &some, tokens: 0 }], vec![Sampled { profile: &some, tokens: 1 }], Some(Phase::Decode)),
        (
            vec![Sampled { profile: &some, tokens: 1 }],
            vec![Sampled { profile: &some, tokens: 1 }],
            Some(Phase::Prefill),
        ),
    ] {
        assert_eq!(difference(&a, &b, phase), None);
        assert_eq!(difference_svg(&a, &b, phase, ""), None);
    }
}

/// Profiles come from external programs: invalid indices get a name that says so.
#[test]
fn stacks_that_name_nothing_are_counted_all_the_same() {
    let mut bad = profile(&[("dot < main", 10), ("x", 10)], Some(20));
    bad.parts[0].stacks[0].frames = vec![7, 9];
    bad.parts[0].stacks[1].frames.clear();
    bad.frequency_hz = 0;
    let found = compared(std::slice::from_ref(&bad), &[profile(&[("dot < main", 10)], Some(20))], 1);
    let unknown = found.functions.iter().find(|row| row.name == "[unknown]").unwrap();
    assert!((unknown.own.a_ms_per_token - 20.0).abs() < 1e-9, "{unknown:?}");
}

#[test]
fn the_flamegraph_is_per_token_and_stands_alone() {
    let [a, b] = kv_copy();
    let [a, b] = [&a, &b].map(|side| side.iter().map(|profile| Sampled { profile, tokens: 100 }).collect::<Vec<_>>());
    let svg = difference_svg(&a, &b, Some(Phase::Decode), "A → B: cap=0, decode").unwrap();
    assert_eq!(svg, difference_svg(&a, &b, Some(Phase::Decode), "A → B: cap=0, decode").unwrap(), "same bytes");
    for part in
        ["cap=0, decode", "A: 10.0 ms per token, 2739 samples at 913 Hz", "B: 12.7 ms per token", "contiguous ("]
    {
        assert!(svg.contains(part), "{part}");
    }
    // Grew in B alone, so red.
    let copied = svg.split("<g>").find(|g| g.contains("<title>memmove (2,3")).unwrap();
    assert!(copied.contains("fill=\"rgb(255,"), "{copied}");
    for outside in ["href=\"http", "src=\"", "@import", "url(http"] {
        assert!(!svg.contains(outside), "{outside}");
    }
}

/// If a sample stands for a nominal time, an iteration without samples took none; if samples divide
/// a measured time, its distribution is unknown.
#[test]
fn an_iteration_without_samples_counts_as_no_time_unless_its_time_was_read() {
    let ms = |cpu_ms: Option<u64>| {
        let seen = profile(&[("dot < main", 100)], cpu_ms);
        let unseen = profile(&[], cpu_ms);
        let found = compared(&[seen.clone(), unseen], &[seen], 1);
        let dot = &found.functions.first().map_or(0.0, |row| row.own.change_ms_per_token);
        (found.a.iterations, found.a.ms_per_token, *dot)
    };
    assert_eq!(ms(None), (2, 100.0, 100.0), "100 samples at 500 a second, over two iterations");
    assert_eq!(ms(Some(200)), (1, 200.0, 0.0));
    let unseen = [profile(&[], None), profile(&[], None)];
    let [a, b] = [&unseen[..1], &unseen[1..]]
        .map(|side| side.iter().map(|profile| Sampled { profile, tokens: 1 }).collect::<Vec<_>>());
    assert_eq!(difference(&a, &b, Some(Phase::Decode)), None);
}

#[test]
fn a_flamegraph_of_more_time_than_can_be_counted_is_drawn() {
    let mut long = profile(&[("dot < main", 1), ("# matmul 7 < main", 1)], Some(1));
    long.parts[0].cpu_ns = Some(u64::MAX);
    let short = profile(&[("dot < main", 1)], Some(1));
    let [short, long] = [&short, &long].map(|profile| [Sampled { profile, tokens: 1 }]);
    for (a, b) in [(&short, &long), (&long, &short)] {
        assert!(difference_svg(a, b, Some(Phase::Decode), "").is_some());
    }
}
