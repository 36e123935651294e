//! A forest plot: estimates with their intervals, one row each, and the band of changes smaller
//! than delta.

use super::Chart;
use super::frame::{Axis, Frame, LABEL_SIZE, chart};
use super::pen::{self, AXIS, Anchor, INK, MUTED, Pen};

const WIDTH: f64 = 640.0;
const TOP: f64 = 64.0;
/// Height of a row with a detail under its name, and without.
const ROW: f64 = 46.0;
const LOW_ROW: f64 = 28.0;
/// Room for the names left of the plot.
const NAMES: f64 = 186.0;

/// One row; figures in percent, above 0 is worse.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub name: String,
    /// A second line in a paler colour.
    pub detail: String,
    pub estimate: Option<f64>,
    pub interval: Option<(f64, f64)>,
    /// Smaller changes do not matter; absent if the row has no gate.
    pub delta: Option<f64>,
    pub tone: Tone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Bad,
    Open,
}

impl Tone {
    fn colour(self) -> plotters::prelude::RGBColor {
        match self {
            Tone::Good => pen::PALETTE[2],
            Tone::Bad => pen::PALETTE[1],
            Tone::Open => pen::PALETTE[6],
        }
    }
}

/// `+3 %`, for axes of changes.
pub fn percent(value: f64) -> String {
    change(value, "%")
}

/// A change in its unit, which may be none.
pub fn change(value: f64, unit: &str) -> String {
    if value.abs() < 1e-9 {
        return "0".to_owned();
    }
    let decimals = usize::from(value.fract().abs() > 1e-6);
    format!("{}{:.decimals$} {unit}", if value < 0.0 { "−" } else { "+" }, value.abs()).trim_end().to_owned()
}

/// Draws all rows on one axis.
#[must_use]
pub fn draw(name: &str, title: &str, axis_name: &str, rows: &[Row]) -> Chart {
    let ends = rows.iter().flat_map(|row| {
        let (lo, hi) = row.interval.unwrap_or((0.0, 0.0));
        [lo, hi, row.estimate.unwrap_or(0.0), row.delta.unwrap_or(0.0), -row.delta.unwrap_or(0.0)]
    });
    let (lo, hi) = ends.fold((-0.5_f64, 0.5_f64), |(lo, hi), end| (lo.min(end), hi.max(end)));
    let room = (hi - lo) * 0.04;
    let height = if rows.iter().all(|row| row.detail.is_empty()) { LOW_ROW } else { ROW };
    let bottom = TOP + height * rows.len() as f64;
    let frame = Frame {
        left: NAMES,
        top: TOP,
        right: WIDTH - 32.0,
        bottom,
        x: Axis::linear(lo - room, hi + room, 6).relabel(percent),
        y: Axis::exact(0.0, 1.0, 1),
    };
    let described: Vec<String> = rows.iter().map(describe).collect();
    let description = format!("{title}. {}", described.join(" "));
    let banded = rows.iter().any(|row| row.delta.is_some());
    let note =
        if banded { "mark: estimate; bar: interval; shaded: less than delta" } else { "mark: estimate; bar: interval" };
    chart((WIDTH, bottom + 52.0), [name, title, note], description, |pen| {
        let zero = frame.x_at(0.0);
        for (at, row) in rows.iter().enumerate() {
            draw_row(pen, &frame, row, TOP + height * (at as f64 + 0.5));
        }
        pen.line((zero, TOP - 6.0), (zero, bottom), AXIS, 1.2);
        frame.draw_x(pen, axis_name);
    })
}

fn draw_row(pen: &mut Pen, frame: &Frame, row: &Row, y: f64) {
    if let Some(delta) = row.delta {
        let (from, to) = (frame.x_at(-delta), frame.x_at(delta));
        pen.rectangle((from, y - ROW * 0.42), (to, y + ROW * 0.42), pen::PALETTE[4], 0.2);
    }
    let room = NAMES - 28.0;
    let (name, detail) = (pen::fit(&row.name, LABEL_SIZE, room), pen::fit(&row.detail, LABEL_SIZE, room));
    let up = if detail.is_empty() { 0.0 } else { 8.0 };
    pen.text(&name, (14.0, y - up), Anchor::Start, LABEL_SIZE, INK, true);
    pen.text(&detail, (14.0, y + up), Anchor::Start, LABEL_SIZE, MUTED, false);
    let colour = row.tone.colour();
    if let Some((lo, hi)) = row.interval {
        let (lo, hi) = (frame.x_at(lo), frame.x_at(hi));
        pen.line((lo, y), (hi, y), colour, 2.4);
        for end in [lo, hi] {
            pen.line((end, y - 6.0), (end, y + 6.0), colour, 2.0);
        }
    }
    if let Some(estimate) = row.estimate {
        let x = frame.x_at(estimate);
        pen.area(&[(x - 6.0, y), (x, y - 6.0), (x + 6.0, y), (x, y + 6.0)], colour, 1.0);
    }
}

fn describe(row: &Row) -> String {
    let figures = match (row.estimate, row.interval) {
        (Some(estimate), Some((lo, hi))) => format!("{estimate:+.1} % from {lo:+.1} % to {hi:+.1} %"),
        (Some(estimate), None) => format!("{estimate:+.1} %"),
        (None, _) => "no figure".to_owned(),
    };
    let delta = row.delta.map_or_else(String::new, |delta| format!(", delta {delta:.1} %"));
    let detail = if row.detail.is_empty() { String::new() } else { format!(" ({})", row.detail) };
    format!("{}{detail}: {figures}{delta}.", row.name)
}
