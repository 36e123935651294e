//! The engines of a run side by side: what differs first, then outputs, ranking and the tradeoff
//! between latency and throughput.

use maud::{Markup, html};

use super::charts::group;
use super::section as titled;
use crate::report::charts::Charts;
use crate::report::engines::{all_outputs, differences, note, ranking};
use crate::report::summary::Summary;
use crate::report::text;

/// Nothing for a run whose engines have no work in common.
pub fn section(summary: &Summary, charts: &Charts) -> Markup {
    let Some(engines) = &summary.side_by_side else { return html! {} };
    let (deciding, rest) = (differences(engines, true), differences(engines, false));
    titled(
        "engines",
        "Engines side by side",
        html! {
            @if deciding.is_empty() {
                p { "The engines report no difference in settings, timing or model." }
            } @else {
                (deciding.caption("Differences that may explain others in speed or memory.").html())
            }
            @if !rest.is_empty() {
                details {
                    summary { "Every other difference" }
                    (rest.html())
                }
            }
            (all_outputs(engines).caption("Outputs.").html())
            (ranking(engines).caption("Ranking, the best first.").html())
            p.note { (text::capital(&note(engines, &summary.run.interval_scope))) "." }
            (group("pair", &charts.tradeoff))
        },
    )
}
