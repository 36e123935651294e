//! What the sides generate, compared token by token before anything is measured.

use crate::record::ab::Divergence;
use crate::run::worker::Output;
use crate::spec::{Cell, OutputsRule};

/// Where B's requests of a cell part from A's; under `margin` B was forced along A's tokens.
#[must_use]
pub fn divergences(cell: &Cell, a: &[Output], b: &[Output], rule: OutputsRule) -> Vec<Divergence> {
    a.iter().zip(b).flat_map(|(a, b)| of_turn(cell.id, a, b, rule)).collect()
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
