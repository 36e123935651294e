//! The cells and the order that follow from a scenario.

use super::*;

#[test]
fn cells_that_do_the_same_work_are_merged_and_remembered() {
    let plan = planned(&least(
        "lengths = [512, 2048]\nmax_tokens = 64\n[sampling]\nrepetition_penalty = 1.1\nrepetition_context_size = 0\n\
         [toggles]\nrepetition_window_cap = [0, 768]\nprefill_chunk_size = [512, 2048]\n",
    ));
    assert_eq!(
        labels(&plan),
        [
            "len=512",
            "cap=0 chunk=512 len=2048",
            "cap=0 chunk=2048 len=2048",
            "cap=768 chunk=512 len=2048",
            "cap=768 chunk=2048 len=2048"
        ]
    );
    assert_eq!(plan.cells[0].merged.len(), 3);
    assert_eq!(plan.cells[0].predicted["repetition_window"], Value::Int(575));
    assert_eq!(plan.cells[3].predicted["repetition_window"], Value::Int(768));
    assert_eq!(plan.iterations(), 50);
    for (i, cell) in plan.cells.iter().enumerate() {
        assert_eq!(cell.id as usize, i);
    }
}

#[test]
fn settings_whose_effect_nobody_predicts_stay_apart() {
    let unknown_length = planned(&least("[toggles]\nprefill_chunk_size = [512, 2048]\n"));
    assert_eq!(labels(&unknown_length), ["chunk=512", "chunk=2048"]);
    assert!(unknown_length.cells[0].predicted.is_empty());
    let load = planned(&least("lengths = [64]\n[toggles]\ndtype = [\"f32\", \"q8_0\"]\nthreads = 2\n"));
    assert_eq!(labels(&load), ["dtype=f32", "dtype=q8_0"]);
    assert_eq!(load.cells[1].load, Settings::from([("dtype".into(), "q8_0".into()), ("threads".into(), 2_u32.into())]));
    assert_eq!(labels(&planned(&least("lengths = [64]\n"))), ["len=64"]);
    let exec = "[[engine]]\nname = \"exec\"\noptions = { command = [\"x\"] }\n";
    let unknown_engine =
        planned(&least(&format!("lengths = [64]\n[toggles]\nprefill_chunk_size = [512, 2048]\n{exec}")));
    assert_eq!(labels(&unknown_engine), ["chunk=512", "chunk=2048"]);
    assert!(unknown_engine.cells.iter().all(|cell| cell.predicted.is_empty() && cell.merged.is_empty()));
    assert_eq!(labels(&planned(&least(""))), ["transformer"]);
}

#[test]
fn toggles_of_sampling_are_applied_to_the_cell() {
    let plan =
        planned(&least("lengths = [64]\n[toggles]\nrepetition_penalty = [1, 1.5]\nrepetition_context_size = 8\n"));
    assert_eq!(labels(&plan), ["penalty=1", "penalty=1.5"]);
    assert_eq!(plan.cells[1].sampling.repetition_penalty, 1.5);
    assert_eq!(plan.cells[1].sampling.repetition_context_size, 8);
}

#[test]
fn one_at_a_time_is_a_star() {
    let text = least(
        "lengths = [4096]\n[sampling]\nrepetition_penalty = 1.1\nrepetition_context_size = 0\n\
         [toggles]\nvary = \"one-at-a-time\"\nprefill_chunk_size = [512, 1024, 2048]\nrepetition_window_cap = [0, 64]\n",
    );
    assert_eq!(labels(&planned(&text)), ["chunk=512 cap=0", "chunk=1024", "chunk=2048", "cap=64"]);
}

#[test]
fn the_order_is_seeded_and_every_row_has_every_cell() {
    let text = |seed: u32| least(&format!("lengths = [1,2,3,4,5,6,7,8]\n[run]\norder_seed = {seed}\n"));
    let (a, again, b) = (planned(&text(1)), planned(&text(1)), planned(&text(2)));
    assert_eq!(a.order, again.order);
    assert_ne!(a.order, b.order);
    assert_eq!(a.order.len(), 10);
    for row in &a.order {
        let mut ids = row.clone();
        ids.sort_unstable();
        assert_eq!(ids, (0..8).collect::<Vec<u32>>());
    }
    assert!(a.order.iter().any(|row| *row != a.order[0]), "every iteration has an order of its own");
    // The random stream defines what a seed means: a change here changes recorded plans.
    assert_eq!(a.order[0], [5, 7, 6, 4, 3, 1, 2, 0]);
}

#[test]
fn too_many_cells_or_requests_are_refused() {
    let many: Vec<String> = (1..=100_000).map(|n| n.to_string()).collect();
    assert!(bad(&least(&format!("lengths = [{}]\n", many.join(","))), &[]).contains("`lengths` has 100000 values"));
    let combined = least(&format!("lengths = [{}]\n[toggles]\nthreads = [1, 2, 3, 4, 5, 6]\n", many[..200].join(",")));
    let error = plan(&good(&combined, &[]), &offers()).unwrap_err();
    assert!(error.to_string().contains("1000 combinations"), "{error}");
    let text = least(&format!("lengths = [{}]\n[run]\niterations = 10000\n", many[..200].join(",")));
    assert!(plan(&good(&text, &[]), &offers()).unwrap_err().to_string().contains("run.iterations"));
}
