//! Axes: from values to pixels, with ticks at round numbers.

use super::Chart;
use super::pen::{self, AXIS, Anchor, GRID, INK, MUTED, Pen, width_of};

pub const LABEL_SIZE: f64 = 12.0;
const TITLE_SIZE: f64 = 14.0;

/// Draws a chart of `size` CSS pixels under its title and a paler line, both shortened to fit.
pub fn chart(
    size: (f64, f64),
    [name, title, note]: [&str; 3],
    description: String,
    draw: impl FnOnce(&mut Pen),
) -> Chart {
    let room = size.0 - 28.0;
    let svg = pen::document(size, name, title, &description, |pen| {
        pen.text(&pen::fit(title, TITLE_SIZE, room), (14.0, 19.0), Anchor::Start, TITLE_SIZE, INK, true);
        if !note.is_empty() {
            pen.text(&pen::fit(note, LABEL_SIZE, room), (14.0, 38.0), Anchor::Start, LABEL_SIZE, MUTED, false);
        }
        draw(pen);
    });
    Chart { name: name.to_owned(), title: title.to_owned(), description, svg }
}

/// An entry of a legend: a mark of that width and its meaning. Returns the x of the next entry.
pub fn key(pen: &mut Pen, (x, y): (f64, f64), width: f64, words: &str, mark: impl FnOnce(&mut Pen)) -> f64 {
    mark(pen);
    pen.text(words, (x + width + 6.0, y), Anchor::Start, LABEL_SIZE, INK, false);
    x + width + 6.0 + width_of(words, LABEL_SIZE) + 16.0
}

/// Between a label and its axis, and between the label and the chart's edge.
const TICK_GAP: f64 = 7.0;
const MARGIN: f64 = 4.0;

/// One axis: a range of values and its ticks.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    lo: f64,
    hi: f64,
    log2: bool,
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From `lo` to `hi` or beyond, about `count` ticks at multiples of 1, 2 or 5 times a power of
    /// ten.
    pub fn linear(lo: f64, hi: f64, count: usize) -> Self {
        let hi = if hi > lo { hi } else { lo + 1.0 };
        let step = nice_step((hi - lo) / count.max(1) as f64);
        let (first, last) = ((lo / step).floor() as i64, (hi / step).ceil() as i64);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let ticks = (first..=last).map(|i| (i as f64 * step, format!("{:.decimals$}", i as f64 * step))).collect();
        Self { lo: first as f64 * step, hi: last as f64 * step, log2: false, ticks }
    }

    /// As [`Axis::linear`], but it ends exactly at `lo` and `hi`.
    pub fn exact(lo: f64, hi: f64, count: usize) -> Self {
        let mut axis = Self::linear(lo, hi, count);
        (axis.lo, axis.hi) = (lo, if hi > lo { hi } else { lo + 1.0 });
        axis.ticks.retain(|(value, _)| (lo..=hi).contains(value));
        axis
    }

    /// A logarithmic axis over positive values, with room at its ends and ticks at 1, 2 and 5 times
    /// powers of ten.
    pub fn logarithmic(lo: f64, hi: f64) -> Self {
        let (lo, hi) = (lo / 1.5, hi * 1.5);
        let powers = (lo.log10().floor() as i32)..=(hi.log10().ceil() as i32);
        let few = hi / lo > 1000.0;
        let steps: &[f64] = if few { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let values = powers.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        let ticks = values.filter(|v| (lo..=hi).contains(v)).map(|v| (v, format!("{v}"))).collect();
        Self { lo, hi, log2: true, ticks }
    }

    /// Room for the widest label left of a vertical axis; at least `least`.
    pub fn room(&self, least: f64) -> f64 {
        let widest = self.ticks.iter().map(|(_, label)| width_of(label, LABEL_SIZE)).fold(0.0, f64::max);
        least.max(widest + TICK_GAP + MARGIN)
    }

    /// The same axis, cut at `least`, for values that cannot be lower.
    pub fn not_below(mut self, least: f64) -> Self {
        self.lo = self.lo.max(least);
        self.ticks.retain(|(value, _)| *value >= self.lo);
        self
    }

    /// Ticks at the values themselves, with `margin` of their span free on both sides; logarithmic
    /// if the greatest is more than four times the least.
    pub fn through(values: &[u32], margin: f64) -> Self {
        let (least, most) = (values.iter().min().copied().unwrap_or(1), values.iter().max().copied().unwrap_or(1));
        let (least, most) = (f64::from(least.max(1)), f64::from(most.max(1)));
        let log2 = most > 4.0 * least;
        let ticks = values.iter().map(|v| (f64::from(*v), v.to_string())).collect();
        let mut axis = Self { lo: least, hi: most, log2, ticks };
        let margin = if most > least { margin } else { 1.0 };
        if log2 {
            let room = (most / least).log2() * margin;
            (axis.lo, axis.hi) = (least / room.exp2(), most * room.exp2());
        } else {
            let room = (most - least).max(1.0) * margin;
            (axis.lo, axis.hi) = (least - room, most + room);
        }
        axis
    }

    pub fn is_logarithmic(&self) -> bool {
        self.log2
    }

    /// 0 at the axis's beginning, 1 at its end.
    fn share(&self, value: f64) -> f64 {
        if self.log2 {
            (value.max(f64::MIN_POSITIVE) / self.lo).log2() / (self.hi / self.lo).log2()
        } else {
            (value - self.lo) / (self.hi - self.lo)
        }
    }

    pub fn end(&self) -> f64 {
        self.hi
    }

    pub fn relabel(mut self, label: impl Fn(f64) -> String) -> Self {
        for (value, words) in &mut self.ticks {
            *words = label(*value);
        }
        self
    }
}

fn nice_step(raw: f64) -> f64 {
    let power = 10f64.powf(raw.max(f64::MIN_POSITIVE).log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= raw * 0.999).unwrap_or(10.0);
    factor * power
}

/// The plotting rectangle of a chart with its two axes.
#[derive(Debug, Clone)]
pub struct Frame {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    pub x: Axis,
    pub y: Axis,
}

impl Frame {
    pub fn x_at(&self, value: f64) -> f64 {
        self.left + (self.right - self.left) * self.x.share(value)
    }

    pub fn y_at(&self, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * self.y.share(value)
    }

    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.x_at(x), self.y_at(y))
    }

    /// Horizontal grid lines and the labels left of them.
    pub fn draw_y(&self, pen: &mut Pen) {
        for (value, label) in &self.y.ticks {
            let y = self.y_at(*value);
            pen.line((self.left, y), (self.right, y), GRID, 1.0);
            pen.text(label, (self.left - TICK_GAP, y), Anchor::End, LABEL_SIZE, MUTED, false);
        }
    }

    /// The line at the bottom, its ticks, the labels that do not overlap, and the axis's name.
    pub fn draw_x(&self, pen: &mut Pen, name: &str) {
        pen.line((self.left, self.bottom), (self.right, self.bottom), AXIS, 1.0);
        let mut free_from = f64::NEG_INFINITY;
        for (value, label) in &self.x.ticks {
            let x = self.x_at(*value);
            pen.line((x, self.bottom), (x, self.bottom + 4.0), AXIS, 1.0);
            let half = width_of(label, LABEL_SIZE) / 2.0;
            if x - half > free_from {
                pen.text(label, (x, self.bottom + 8.0), Anchor::Below, LABEL_SIZE, MUTED, false);
                free_from = x + half + 6.0;
            }
        }
        let middle = f64::midpoint(self.left, self.right);
        pen.text(name, (middle, self.bottom + 27.0), Anchor::Below, LABEL_SIZE, INK, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers_around_the_data() {
        assert_eq!(labels(&Axis::linear(0.0, 104.0, 5)), ["0", "50", "100", "150"]);
        assert_eq!(labels(&Axis::linear(0.0, 0.9, 4)), ["0.0", "0.5", "1.0"]);
        assert_eq!(labels(&Axis::exact(3.0, 21.0, 4)), ["5", "10", "15", "20"]);
        assert_eq!(labels(&Axis::linear(5.0, 5.0, 2)).len(), 3, "an empty stretch still is an axis");
    }

    #[test]
    fn wide_labels_get_their_room() {
        let axis = Axis::linear(22.679_662, 22.679_668, 3);
        let widest = axis.ticks.iter().map(|(_, label)| width_of(label, LABEL_SIZE)).fold(0.0, f64::max);
        assert!(axis.room(20.0) >= widest + TICK_GAP, "{axis:?}");
        assert!((Axis::linear(0.0, 1.0, 3).room(64.0) - 64.0).abs() < 1e-9);
    }

    #[test]
    fn lengths_are_ticks_and_wide_spans_are_logarithmic() {
        let axis = Axis::through(&[512, 2048, 8192], 0.07);
        assert!(axis.is_logarithmic());
        assert_eq!(labels(&axis), ["512", "2048", "8192"]);
        assert!((axis.share(2048.0) - 0.5).abs() < 1e-9);
        assert!(axis.share(512.0) > 0.03 && axis.share(8192.0) < 0.97);
        assert!(!Axis::through(&[512, 1024], 0.07).is_logarithmic());
        assert!((Axis::through(&[7], 0.07).share(7.0) - 0.5).abs() < 1e-9);
    }
}
