//! The stacks of a profiled pass in the report.

use inferometer::report::charts::Charts;
use inferometer::report::summary::Summary;
use inferometer::report::{flamegraphs, html, markdown};
use inferometer_protocol::{Phase, Profile, ProfilePart, ProfileStack, SampleClock};

use super::profiled;
use crate::lab::{elements, section};

/// In decode, 300 of 400 ms in a function whose name tries to break pages.
fn profile() -> Profile {
    let part = |phase, cpu_ms: u64, leaf: u32, count| ProfilePart {
        phase: Some(phase),
        duration_ns: cpu_ms * 1_000_000,
        cpu_ns: Some(cpu_ms * 1_000_000),
        stacks: vec![
            ProfileStack { thread: "main".into(), frames: vec![0, leaf], count },
            ProfileStack { thread: "main".into(), frames: vec![0], count: 25 },
        ],
    };
    Profile {
        profiler: "pprof".into(),
        clock: SampleClock::Cpu,
        frequency_hz: 1000,
        functions: ["main", "prefill", "copy<|script></a>;\u{202e}"].map(str::to_owned).to_vec(),
        parts: vec![part(Phase::Prefill, 100, 1, 75), part(Phase::Decode, 400, 2, 75)],
    }
}

#[test]
fn summary_page_and_markdown_say_which_functions_take_the_time() {
    let mut record = profiled::record();
    assert!(Summary::of(&record).functions.is_empty(), "nothing where nothing was sampled");
    let (with, without): (Vec<_>, Vec<_>) = record.profile.iterations.iter_mut().partition(|one| one.cell == 0);
    with.into_iter().for_each(|one| one.profile = Some(profile()));
    without.into_iter().for_each(|one| one.missing = Some("perf is not installed".into()));
    let summary = Summary::of(&record);
    let [sampled, missing] = summary.functions.as_slice() else { panic!("{:?}", summary.functions) };
    assert_eq!((sampled.iterations, missing.iterations), (3, 0));
    assert_eq!(missing.missing.as_deref(), Some("perf is not installed"));
    let decode = &sampled.phases[1];
    assert_eq!((decode.phase, decode.achieved_hz, decode.functions.len()), (Some(Phase::Decode), Some(250.0), 2));
    let first = &decode.functions[0];
    assert!(first.function.starts_with("copy<"), "{first:?}");
    assert_eq!((first.self_percent, first.total_percent), (75.0, 75.0));
    // 64 tokens, of which the first comes with the prefill.
    assert!((first.self_ms_per_token.unwrap() - 300.0 / 63.0).abs() < 1e-9, "{first:?}");
    let back: Summary = serde_json::from_str(&summary.to_json()).unwrap();
    assert_eq!(back, summary);

    let page = html::page(&record, &summary, &Charts::of(&record, &summary));
    let data = "src=\"data:image/svg+xml;base64,";
    assert!(page.contains(data) && page.contains("href=\"charts/flamegraph-cell-0-decode.svg\""));
    assert!(!page.contains("<script") && !page.contains("<iframe"), "the page has no script");
    assert!(!page.contains('\u{202e}'));
    let section = section(&page, "functions");
    insta::assert_snapshot!(elements(section, "tr").join("\n"), @r#"
    Function Self Total Self ms/token Total ms/token
    prefill 75.0 % 75.0 % 0.0366 0.0366
    main 25.0 % 100.0 % 0.0122 0.0488
    Function Self Total Self ms/token Total ms/token
    copy&lt;|script&gt;&lt;/a&gt;; 75.0 % 75.0 % 4.76 4.76
    main 25.0 % 100.0 % 1.59 6.35
    "#);
    insta::assert_snapshot!(elements(section, "p").last().unwrap(), @r#"No profile: perf is not installed."#);
    let told = markdown::render(&summary);
    let folded = told.split("<details><summary>").find(|part| part.starts_with("Where time goes")).expect(&told);
    insta::assert_snapshot!(folded.split("</details>").next().unwrap(), @r#"
    Where time goes: functions by self time</summary>

    | cell | phase | function | self | total | self ms/token |
    |---|---|---|--:|--:|--:|
    | cap=0 | prefill | prefill | 75.0 % | 75.0 % | 0.0366 |
    | cap=0 | prefill | main | 25.0 % | 100.0 % | 0.0122 |
    | cap=0 | decode | copy&lt;\|script&gt;&lt;/a&gt;; | 75.0 % | 75.0 % | 4.76 |
    | cap=0 | decode | main | 25.0 % | 100.0 % | 1.59 |

    cap=0, prefill: 300 samples by pprof, 1000 for each second of CPU time, all threads
    cap=0, decode: 300 samples by pprof, 250 for each second of CPU time, all threads
    "#);

    let drawn = flamegraphs::of(&record, &summary);
    assert_eq!(drawn.len(), 2);
    assert!(drawn[1].interactive().contains("<script"), "{}", drawn[1].interactive());
    assert!(!drawn[1].still().contains("<script"), "{}", drawn[1].still());
}

/// One sample would be 100 % of something.
#[test]
fn too_few_samples_have_no_shares() {
    let mut record = profiled::record();
    let mut few = profile();
    few.parts[1].stacks = vec![ProfileStack { thread: "main".into(), frames: vec![0, 2], count: 1 }];
    record.profile.iterations.iter_mut().find(|one| one.cell == 0).unwrap().profile = Some(few);
    let summary = Summary::of(&record);
    let phases = &summary.functions[0].phases;
    assert_eq!([phases[0].too_few(), phases[1].too_few()], [None, Some(1)]);
    assert!(phases[1].functions.is_empty() && phases[1].sampled.starts_with("1 sample by pprof"), "{phases:?}");
    let page = html::page(&record, &summary, &Charts::of(&record, &summary));
    for told in [section(&page, "functions").to_owned(), markdown::render(&summary)] {
        assert!(told.contains("decode: too few samples (1)") && told.contains("make the run longer"), "{told}");
        assert!(!told.contains("100.0 % | 100.0 %"), "{told}");
    }
    assert_eq!(flamegraphs::of(&record, &summary).len(), 1, "prefill alone");
}
