//! `[[gate]]`, `[ab]` and `[build]`, and the plan of two sides.

use super::{bad, good, labels, least, offers, planned};
use crate::scenario::{plan, plan_unmerged};
use crate::spec::{AbSettings, BuildSettings, CellSelector, GateMetric, OutputsRule};

/// Two lengths and two caps, so that conditions have several cells to select from.
fn gated(gates: &str) -> String {
    least(&format!(
        "lengths = [64, 4096]\n[sampling]\nrepetition_penalty = 1.1\nrepetition_context_size = 0\n\
         [toggles]\nrepetition_window_cap = [0, 768]\n{gates}"
    ))
}

#[test]
fn gates_come_out_as_they_were_meant() {
    let text = gated(
        "[[gate]]\nmetric = \"decode_tps\"\ndelta = \"2.5 %\"\n[[gate]]\nmetric = \"peak_memory\"\n\
         cells = { length = 4096, engine = \"transformer\", repetition_window_cap = 0 }\n",
    );
    let gates = good(&text, &["gate.0.delta=3%"]).gates;
    assert_eq!((gates[0].metric, gates[0].delta), (GateMetric::DecodeTps, Some(0.03)));
    assert_eq!(good(&text, &[]).gates[0].delta, Some(0.025));
    assert!(gates[0].cells.is_all());
    assert_eq!((gates[1].metric, gates[1].delta), (GateMetric::PeakMemory, None));
    assert_eq!(gates[1].cells.to_string(), "length=4096 engine=transformer repetition_window_cap=0");
    let plan = planned(&text);
    let taken = |i: usize| -> Vec<&str> {
        let cells = plan.cells.iter().filter(|cell| gates[i].cells.matches(cell, "transformer"));
        cells.map(|cell| cell.label.as_str()).collect()
    };
    assert_eq!(labels(&plan), ["len=64", "cap=0 len=4096", "cap=768 len=4096"]);
    assert_eq!((taken(0).len(), taken(1)), (3, vec!["cap=0 len=4096"]));
    let merged =
        CellSelector { toggles: [("repetition_window_cap".into(), 768_u32.into())].into(), ..Default::default() };
    assert!(merged.matches(&plan.cells[0], ""), "a cell stands for what was merged into it");
    assert!(!gates[1].cells.matches(&plan.cells[1], "another"));
    assert_eq!(good(&least(""), &["gate=[{ metric = 'ttft' }]"]).gates.len(), 1);
}

#[test]
fn what_may_be_0_takes_an_absolute_delta() {
    let text = gated("[[gate]]\nmetric = \"memory_cycles\"\n[[gate]]\nmetric = \"memory_swing\"\n");
    for (gate, delta, expected) in [
        (0, "2", 2.0),
        (0, "0.5", 0.5),
        (0, "'2'", 2.0),
        (1, "'64 MiB'", 67_108_864.0),
        (1, "'1.5GiB'", 1_610_612_736.0),
        (1, "1048576", 1_048_576.0),
    ] {
        let gates = good(&text, &[&format!("gate.{gate}.delta={delta}")]).gates;
        assert_eq!(gates[gate].delta, Some(expected), "{delta}");
    }
    assert_eq!(good(&text, &[]).gates[0].delta, None);
    let error =
        |metric: &str, delta: &str| bad(&gated(&format!("[[gate]]\nmetric = {metric:?}\ndelta = {delta}\n")), &[]);
    for (metric, delta, said) in [
        ("memory_cycles", "\"3%\"", "`delta` cannot be a percentage: `memory_cycles` may be 0"),
        ("memory_cycles", "\"3%\"", "such as `delta = 2`"),
        ("memory_cycles", "0", "`delta` must be a number above 0 for `memory_cycles`, not 0"),
        ("memory_cycles", "-1", "must be a number above 0"),
        ("memory_cycles", "inf", "must be a number above 0"),
        ("memory_cycles", "nan", "must be a number above 0"),
        ("memory_cycles", "\"2 MiB\"", "must be a number above 0"),
        ("memory_cycles", "\"1e3\"", "must be a number above 0"),
        ("memory_cycles", "true", "must be a number above 0"),
        ("memory_reclaimed", "\"5 %\"", "such as `delta = \"64 MiB\"`"),
        ("memory_reclaimed", "\"5 MB\"", "must be a number above 0"),
        ("peak_memory", "\"64 MiB\"", "above 0 % and below 100 %"),
        ("decode_tps", "2", "write `delta = \"2%\"`"),
    ] {
        let told = error(metric, delta);
        assert!(told.contains(said), "{metric} {delta}\n{told}");
    }
    // The place is shown.
    let told = error("memory_cycles", "\"3%\"");
    assert!(told.contains("delta = \"3%\"\n") && told.contains("^^^^"), "{told}");
}

#[test]
fn a_gate_that_cannot_be_decided_is_refused() {
    let gate = |rest: &str| gated(&format!("[[gate]]\nmetric = \"decode_tps\"\n{rest}"));
    for (rest, said) in [
        ("delta = 3", "write `delta = \"3%\"`"),
        ("delta = 0.03", "must be a text with a percent sign, not 0.03"),
        ("delta = \"3\"", "above 0 % and below 100 %, such as `3%`, not `3`"),
        ("delta = \"0%\"", "above 0 %"),
        ("delta = \"100%\"", "below 100 %"),
        ("delta = \"-1%\"", "above 0 %"),
        ("delta = \"1e1%\"", "above 0 %"),
        ("delta = \"nan%\"", "above 0 %"),
        ("delta = \"%\"", "above 0 %"),
        ("cells = \"some\"", "`cells` must be `all` or a table"),
        ("cells = { length = 65 }", "the workload's `lengths` are 64, 4096"),
        ("cells = { length = 0 }", "`length` must be a whole number from 1"),
        ("cells = { lenght = 64 }", "did you mean `length`?"),
        ("cells = { engine = \"transfomer\" }", "did you mean `transformer`?"),
        ("cells = { repetition_window_cap = 1 }", "the scenario has `repetition_window_cap` as 0 or 768"),
        ("cells = { repetition_window_cap = [0] }", "must be a whole number"),
        ("cells = { threads = 2 }", "`threads` is not there"),
        ("[[gate]]\nmetric = \"decode_tps\"", "two gates compare `decode_tps` in all cells"),
        ("[[gate]]\nmetric = \"decode_tp\"", "did you mean `decode_tps`?"),
        ("[[gate]]\ndelta = \"3%\"", "[[gate]] needs the key `metric`"),
        ("[[gate]]\nmetric = \"ttft\"\n[[gate]]\nmetric = \"e2e\"\n[[gate]]\nmetric = \"cpu\"", "there are 4 gates"),
    ] {
        let error = bad(&gate(rest), &[]);
        assert!(error.contains(said), "{rest}\n{error}");
    }
    let no_lengths = bad(&least("[[gate]]\nmetric = \"ttft\"\ncells = { length = 5 }\n"), &[]);
    assert!(no_lengths.contains("the workload has no `lengths`"), "{no_lengths}");
    // Each condition matches a cell; together they match none, which only the plan can detect.
    let star = gate("cells = { repetition_window_cap = 768, prefill_chunk_size = 32 }")
        .replace("[toggles]", "[toggles]\nvary = \"one-at-a-time\"\nprefill_chunk_size = [2048, 32]");
    let error = plan(&good(&star, &[]), &offers()).unwrap_err().to_string();
    assert!(error.contains("`[[gate]]` number 1 (decode_tps, prefill_chunk_size=32 repetition_window"), "{error}");
    assert!(error.contains("the cells are `") && error.contains("`chunk=32 len=4096`"), "{error}");
}

#[test]
fn how_a_session_goes_is_read() {
    let ab = |keys: &str, set: &[&str]| good(&least(&format!("[ab]\n{keys}\n")), set).ab;
    let all = ab("outputs = \"any\"\npilot = 0\nresident = true\nseed = 9\nself_test = true", &[]);
    let wanted = AbSettings { outputs: OutputsRule::Any, pilot: 0, resident: true, seed: 9, self_test: true };
    assert_eq!(all, wanted);
    assert_eq!(ab("", &["ab.outputs=margin"]).outputs, OutputsRule::Margin { logits: 0.05 });
    assert_eq!(ab("outputs = \"margin\"\nmargin = 1", &[]).outputs, OutputsRule::Margin { logits: 1.0 });
    let displaced = ab("outputs = \"margin\"\nmargin = 1", &["ab.outputs=identical"]);
    assert_eq!(displaced.outputs, OutputsRule::Identical);
    for (keys, said) in [
        ("margin = 0.1", "`margin` has no effect without `outputs = \"margin\"`"),
        ("outputs = \"margin\"\nmargin = 0", "must be above 0"),
        ("outputs = \"same\"", "it must be `identical`, `margin` or `any`"),
        ("pilot = 31", "from 0 to 30"),
        ("pilot = 4", "0 (no pilot) or at least 5"),
        ("resident = 1", "must be true or false"),
    ] {
        let error = bad(&least(&format!("[ab]\n{keys}\n")), &[]);
        assert!(error.contains(said), "{keys}\n{error}");
    }
}

#[test]
fn how_commits_are_built_is_read() {
    let build = |keys: &str| good(&least(&format!("[build]\n{keys}\n")), &[]).build.unwrap();
    let own = build("command = [\"make\", \"-j\"]\nprogram = [\"bin/engine\", \"serve\"]\ntimeout_s = 5");
    assert_eq!((own.command.len(), own.program.len(), own.toolchain.len(), own.timeout_s), (2, 2, 0, 5.0));
    let cargo = build("command = [\"cargo\", \"build\"]");
    assert_eq!(
        (cargo.toolchain, cargo.program),
        (BuildSettings::default().toolchain, BuildSettings::default().program)
    );
    for (keys, said) in [
        ("command = [\"make\"]", "`command` needs a `program`"),
        ("command = []", "`command` needs a `program`"),
        ("program = []", "`program` must not be an empty list"),
        ("command = \"make\"\nprogram = [\"a\"]", "must be a list of texts"),
        ("program = [\"a\", 1]", "`program` must contain texts in quotes, not 1"),
        ("toolchain = [\"\"]", "must not contain the word"),
        ("timeout_s = 0", "above 0"),
    ] {
        let error = bad(&least(&format!("[build]\n{keys}\n")), &[]);
        assert!(error.contains(said), "{keys}\n{error}");
    }
    assert!(build("toolchain = []").toolchain.is_empty());
    assert!(build("command = []\nprogram = [\"host.py\"]").command.is_empty());
}

/// An A/B of settings matches the cells of both sides one by one.
#[test]
fn unmerged_plans_of_two_values_stand_for_each_other() {
    let with = |cap: u32| good(&gated(""), &[&format!("toggles.repetition_window_cap={cap}")]);
    let of = |cap: u32| plan_unmerged(&with(cap), &offers()).unwrap();
    let (a, b) = (of(0), of(768));
    assert_eq!(labels(&a), ["len=64", "len=4096"]);
    for (a, b) in a.cells.iter().zip(&b.cells) {
        assert_eq!((a.id, &a.label, a.length, a.engine), (b.id, &b.label, b.length, b.engine));
        assert!(a.merged.is_empty() && b.merged.is_empty());
    }
    assert_eq!(a.order, b.order);
    let both = plan_unmerged(&good(&gated(""), &[]), &offers()).unwrap();
    assert_eq!(labels(&both), ["cap=0 len=64", "cap=768 len=64", "cap=0 len=4096", "cap=768 len=4096"]);
}
