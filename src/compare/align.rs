//! Matches the cells of two runs that do the same work: same engine, toggles and prompt length.
//!
//! If the engine or a toggle has one value in all of A and another one in all of B, it is ignored
//! for the match and reported as the difference between the runs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::cells::Measured;
use crate::spec::Level;
use inferometer_protocol::effective::same;
use inferometer_protocol::{Settings, Value};

/// Name of the engine among the toggles' names.
pub const ENGINE: &str = "engine";

/// A cell's request to an engine.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Label of the engine.
    pub engine: &'a str,
    pub toggles: &'a Settings,
    /// Prompt length in tokens.
    pub length: Option<u32>,
    /// Load; `None`: one request after the other.
    pub level: Option<Level>,
}

impl<'a> Asked<'a> {
    /// The requests of these cells.
    #[must_use]
    pub fn of<T>(cells: &'a [T]) -> Vec<Self>
    where
        Self: From<&'a T>,
    {
        cells.iter().map(Self::from).collect()
    }
}

impl<'a> From<&'a Measured<'_>> for Asked<'a> {
    fn from(measured: &'a Measured<'_>) -> Self {
        let cell = measured.cell;
        Self { engine: measured.engine, toggles: &cell.toggles, length: cell.length, level: cell.level }
    }
}

/// Matched cells, by position.
#[derive(Debug, Clone, PartialEq)]
pub struct Alignment {
    /// (A's, B's) positions, in A's order.
    pub pairs: Vec<(usize, usize)>,
    pub only_a: Vec<usize>,
    pub only_b: Vec<usize>,
    pub set_aside: Vec<SetAside>,
}

/// A toggle, or the engine, with one value in all of A and another one in all of B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetAside {
    /// The toggle's name, or `engine`.
    pub what: String,
    /// Null if that run's cells do not set the toggle.
    pub a: Option<Value>,
    pub b: Option<Value>,
}

/// Aligns the cells of two runs.
#[must_use]
pub fn align(a: &[Asked<'_>], b: &[Asked<'_>]) -> Alignment {
    let names: BTreeSet<&str> =
        a.iter().chain(b).flat_map(|cell| cell.toggles.keys().map(String::as_str)).chain([ENGINE]).collect();
    let set_aside: Vec<SetAside> = names.iter().filter_map(|name| sets_apart(name, a, b)).collect();
    let compared: Vec<&str> =
        names.into_iter().filter(|name| set_aside.iter().all(|left_out| left_out.what != *name)).collect();
    let alike = |a: &Asked, b: &Asked| {
        a.length == b.length
            && a.level == b.level
            && compared.iter().all(|name| equal(&value(a, name), &value(b, name)))
    };
    let mut free: Vec<usize> = (0..b.len()).collect();
    let mut alignment = Alignment { pairs: Vec::new(), only_a: Vec::new(), only_b: Vec::new(), set_aside };
    for (at, cell) in a.iter().enumerate() {
        match free.iter().position(|other| alike(cell, &b[*other])) {
            Some(found) => alignment.pairs.push((at, free.remove(found))),
            None => alignment.only_a.push(at),
        }
    }
    alignment.only_b = free;
    alignment
}

fn value(cell: &Asked, name: &str) -> Option<Value> {
    match name {
        ENGINE => Some(Value::Text(cell.engine.to_owned())),
        toggle => cell.toggles.get(toggle).cloned(),
    }
}

fn equal(a: &Option<Value>, b: &Option<Value>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => same(a, b),
        (None, None) => true,
        _ => false,
    }
}

fn sets_apart(name: &str, a: &[Asked], b: &[Asked]) -> Option<SetAside> {
    let common = |cells: &[Asked]| {
        let first = value(cells.first()?, name);
        cells.iter().all(|cell| equal(&value(cell, name), &first)).then_some(first)
    };
    let (a, b) = (common(a)?, common(b)?);
    (!equal(&a, &b)).then(|| SetAside { what: name.to_owned(), a, b })
}

#[cfg(test)]
mod tests {
    use super::*;
    /// Toggles and prompt length.
    type Cell = (Settings, u32);

    fn cells(asked: &[(&[(&str, i64)], u32)]) -> Vec<Cell> {
        let settings = |toggles: &[(&str, i64)]| -> Settings {
            toggles.iter().map(|(name, value)| ((*name).to_owned(), Value::Int(*value))).collect()
        };
        asked.iter().map(|(toggles, length)| (settings(toggles), *length)).collect()
    }

    fn aligned(a: (&str, &[Cell]), b: (&str, &[Cell])) -> Alignment {
        fn asked<'a>((engine, cells): (&'a str, &'a [Cell])) -> Vec<Asked<'a>> {
            cells
                .iter()
                .map(|(toggles, length)| Asked { engine, toggles, length: Some(*length), level: None })
                .collect()
        }
        align(&asked(a), &asked(b))
    }

    #[test]
    fn equal_cells_find_each_other_in_any_order() {
        let a = cells(&[(&[("cap", 0)], 512), (&[("cap", 768)], 512), (&[("cap", 0)], 2048)]);
        let b = cells(&[(&[("cap", 0)], 2048), (&[("cap", 0)], 512), (&[("cap", 9)], 512)]);
        let found = aligned(("x", &a), ("x", &b));
        assert_eq!(found.pairs, [(0, 1), (2, 0)]);
        assert_eq!((found.only_a, found.only_b, found.set_aside), (vec![1], vec![2], vec![]));
    }

    #[test]
    fn what_sets_the_runs_apart_is_left_out_of_the_match_and_said() {
        let a = cells(&[(&[("cap", 0), ("threads", 1)], 512), (&[("cap", 768), ("threads", 1)], 512)]);
        let b = cells(&[(&[("cap", 0)], 512), (&[("cap", 768)], 512)]);
        let found = aligned(("candle", &a), ("mlx", &b));
        assert_eq!(found.pairs, [(0, 0), (1, 1)]);
        assert_eq!(
            found.set_aside,
            [
                SetAside { what: ENGINE.to_owned(), a: Some("candle".into()), b: Some("mlx".into()) },
                SetAside { what: "threads".to_owned(), a: Some(Value::Int(1)), b: None },
            ]
        );
    }

    #[test]
    fn other_lengths_are_other_work() {
        let (a, b) = (cells(&[(&[], 512)]), cells(&[(&[], 513)]));
        let found = aligned(("x", &a), ("x", &b));
        assert_eq!((found.pairs, found.only_a, found.only_b), (vec![], vec![0], vec![0]));
    }

    #[test]
    fn whole_numbers_equal_their_floats_and_a_run_without_cells_aligns_with_nothing() {
        let a = cells(&[(&[("penalty", 1)], 7)]);
        let mut b = a.clone();
        b[0].0.insert("penalty".to_owned(), Value::Float(1.0));
        assert_eq!(aligned(("x", &a), ("x", &b)).pairs, [(0, 0)]);
        assert_eq!(aligned(("x", &a), ("x", &[])).only_a, [0]);
    }
}
