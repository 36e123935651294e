//! Latency against throughput of the engines that did the same work: a chart for each work.

use super::charts::Group;
use super::engines::work_words;
use super::summary::Summary;
use super::svg::pareto::{self, Point};
use super::text;
use crate::compare::engines::{Ranking, SideBySide, Work};
use crate::record::metric;
use crate::record::metric::{DECODE_TPS, TTFT_MS};
use inferometer_protocol::units;
use inferometer_stats::robust;

/// The page shows at most this many of these charts: the shortest and the longest prompts.
const MOST: usize = 4;

/// The charts of a run whose engines did the same work; empty for one engine.
#[must_use]
pub fn charts(summary: &Summary) -> Group {
    summary.side_by_side.as_ref().map_or_else(Group::default, group)
}

fn group(engines: &SideBySide) -> Group {
    let mut group = Group::default();
    let drawable: Vec<(&Work, Vec<Point>)> =
        engines.works.iter().map(|work| (work, points(work))).filter(|(_, points)| points.len() > 1).collect();
    if drawable.is_empty() {
        group.notes.push(
            "Latency against throughput: not drawn because no two engines have verified token times for the same work."
                .to_owned(),
        );
        return group;
    }
    let left_out = drawable.len().saturating_sub(MOST);
    for (at, (work, points)) in drawable.iter().enumerate() {
        // Of many lengths, the shortest ones and the longest.
        if at < MOST - 1 || at + 1 == drawable.len() {
            let title = format!("Latency against throughput{}", work_words(work));
            group.charts.push(pareto::draw(&format!("tradeoff-{}", work.sides[0].cell), &title, points));
        }
    }
    group.notes.push(
        "Better is up and to the left. The line joins the engines that no other one beats in both, by their medians; \
         the bars are the intervals of the medians. The area of a mark grows with the peak memory, if it was measured."
            .to_owned(),
    );
    if left_out > 0 {
        group.notes.push(format!("Not drawn: {} between these.", text::plural(left_out, "further work")));
    }
    group
}

/// The sides that have both figures.
fn points(work: &Work) -> Vec<Point> {
    let figures = |ranking: &Ranking, cell: u32| ranking.places.iter().find(|place| place.cell == cell)?.figures;
    let of = |wanted: &dyn Fn(&str) -> bool, cell: u32| -> Option<robust::Summary> {
        figures(work.rankings.iter().find(|ranking| wanted(&ranking.metric))?, cell)
    };
    work.sides
        .iter()
        .enumerate()
        .filter_map(|(index, side)| {
            let memory = of(&|key| metric::PEAK_MEMORY.contains(&key), side.cell);
            Some(Point {
                index,
                label: text::label(&side.name),
                x: of(&|key| key == TTFT_MS, side.cell)?,
                y: of(&|key| key == DECODE_TPS, side.cell)?,
                memory: memory.map(|memory| (memory.median, units::bytes(memory.median.round() as u64))),
            })
        })
        .collect()
}
