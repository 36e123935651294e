//! Compares the sides' outputs token by token before the measurement.

use crate::record::ab::Divergence;
use crate::run::worker;
use crate::run::worker::Output;
use crate::spec::{Cell, OutputsRule};

/// The tokens at which B's requests of a cell differ from A's; under `margin` B was forced along
/// A's tokens.
#[must_use]
pub fn divergences(cell: &Cell, a: &[Output], b: &[Output], rule: OutputsRule) -> Vec<Divergence> {
    a.iter().zip(b).flat_map(|(a, b)| of_turn(cell.id, a, b, rule)).collect()
}

/// Number of tokens that both sides generated.
#[must_use]
pub fn compared(a: &[Output], b: &[Output]) -> u64 {
    std::iter::zip(a, b).map(|(a, b)| a.ids.len().min(b.ids.len()) as u64).sum()
}

/// A warning if the sides' settings differ but in some cells the effective settings are equal.
#[must_use]
pub fn equal_settings(cells: [&[Cell]; 2], a: &[Vec<Output>], b: &[Vec<Output>]) -> Option<String> {
    let effective = |outputs: &[Output]| -> Vec<_> { outputs.iter().map(|one| one.row.effective.clone()).collect() };
    let asked = |cell: &Cell| (cell.toggles.clone(), cell.sampling.clone());
    let equal: Vec<&str> = std::iter::zip(cells[0], cells[1])
        .zip(std::iter::zip(a, b))
        .filter(|((cell_a, cell_b), (a, b))| {
            let known = a.iter().all(|one| !one.row.effective.is_empty());
            asked(cell_a) != asked(cell_b) && known && effective(a) == effective(b)
        })
        .map(|((cell, _), _)| worker::name(cell))
        .collect();
    let some =
        if equal.len() == cells[0].len() { "every cell".to_owned() } else { format!("`{}`", equal.join("`, `")) };
    (!equal.is_empty()).then(|| {
        format!("the sides request different settings, but in {some} the effective ones are equal: both sides do the same work")
    })
}

fn of_turn(cell: u32, a: &Output, b: &Output, rule: OutputsRule) -> Vec<Divergence> {
    let turn = a.row.turn;
    let place = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    if let OutputsRule::Margin { logits } = rule {
        let chosen = a.ids.iter().zip(&b.choices).enumerate().filter(|(_, (id, choice))| **id != choice.token);
        return chosen
            .map(|(index, (id, choice))| Divergence {
                cell,
                turn,
                index: place(index),
                a: Some(*id),
                b: Some(choice.token),
                gap: Some(choice.gap),
                allowed: f64::from(choice.gap) < logits,
            })
            .collect();
    }
    if a.ids == b.ids {
        return Vec::new();
    }
    let index = a.ids.iter().zip(&b.ids).take_while(|(a, b)| a == b).count();
    let (id_a, id_b) = (a.ids.get(index).copied(), b.ids.get(index).copied());
    let allowed = rule == OutputsRule::Any;
    vec![Divergence { cell, turn, index: place(index), a: id_a, b: id_b, gap: None, allowed }]
}
