//! Every iteration of one cell in run order, as its distance from the cell's median. Shows drift
//! and outliers.

use super::Chart;
use super::frame::{Axis, Frame, chart};
use super::pen::{self, AXIS};
use inferometer_stats::robust;

const SIZE: (f64, f64) = (360.0, 210.0);

/// One cell's iterations.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    pub name: String,
    pub title: String,
    /// The median with its unit, under the title.
    pub subtitle: String,
    /// Iteration number and value; valid ones only.
    pub dots: Vec<(u32, f64)>,
    /// Invalid iterations and their values.
    pub rejected: Vec<(u32, f64)>,
    /// Iterations without a value: failed, or invalid.
    pub lost: Vec<u32>,
    pub planned: u32,
    pub summary: robust::Summary,
}

impl Panel {
    /// Lowest and highest distance from the median, in percent.
    #[must_use]
    pub fn reach(&self) -> (f64, f64) {
        let median = self.summary.median;
        (percent(self.summary.min, median), percent(self.summary.max, median))
    }
}

fn percent(value: f64, median: f64) -> f64 {
    if median == 0.0 { 0.0 } else { (value / median - 1.0) * 100.0 }
}

/// Draws one panel. All panels share `reach`, in percent, so that their spread can be compared.
#[must_use]
pub fn draw(panel: &Panel, reach: (f64, f64)) -> Chart {
    // No rate lies more than 100 % below another.
    let y = Axis::linear(reach.0.min(-0.5), reach.1.max(0.5), 4).not_below(-100.0).relabel(|v| match v {
        v if v.abs() < 1e-9 => "median".to_owned(),
        v => {
            let decimals = usize::from(v.fract().abs() > 1e-9);
            format!("{}{:.decimals$} %", if v < 0.0 { "−" } else { "+" }, v.abs())
        }
    });
    let last = panel.planned.max(panel.dots.iter().map(|d| d.0).max().unwrap_or(1)).max(1);
    let mut x = Axis::exact(0.5, f64::from(last) + 0.5, 10.min(last as usize));
    x.ticks.retain(|(value, _)| value.fract().abs() < 1e-9 && *value >= 1.0);
    let x = x.relabel(|v| format!("{v:.0}"));
    let frame = Frame { left: y.room(62.0), top: 58.0, right: SIZE.0 - 14.0, bottom: SIZE.1 - 48.0, x, y };
    let median = panel.summary.median;
    let description = format!(
        "{}: {}; {} valid iterations, from {:+.1} % to {:+.1} % of the median; {} rejected, {} lost.",
        panel.title,
        panel.subtitle,
        panel.dots.len(),
        percent(panel.summary.min, median),
        percent(panel.summary.max, median),
        panel.rejected.len(),
        panel.lost.len()
    );
    chart(SIZE, [&panel.name, &panel.title, &panel.subtitle], description, |pen| {
        if let Some(interval) = panel.summary.interval {
            let (high, low) = (frame.y_at(percent(interval.hi, median)), frame.y_at(percent(interval.lo, median)));
            pen.rectangle((frame.left, high), (frame.right, low), pen::PALETTE[0], 0.12);
        }
        frame.draw_y(pen);
        pen.line((frame.left, frame.y_at(0.0)), (frame.right, frame.y_at(0.0)), AXIS, 1.2);
        frame.draw_x(pen, "iteration");
        for iteration in &panel.lost {
            pen.cross((frame.x_at(f64::from(*iteration)), frame.bottom - 7.0), 4.0, pen::PALETTE[1]);
        }
        for (iteration, value) in &panel.rejected {
            let (x, y) = frame.at(f64::from(*iteration), percent(*value, median));
            pen.cross((x, y.clamp(frame.top, frame.bottom)), 3.4, AXIS);
        }
        for (iteration, value) in &panel.dots {
            pen.dot(frame.at(f64::from(*iteration), percent(*value, median)), 3.4, pen::PALETTE[0], 0.9);
        }
    })
}
