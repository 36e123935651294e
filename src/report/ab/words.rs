//! The figures of a session in words, the same in every format.

use super::summary::{AbSummary, GateSummary};
use crate::compare::ab::{Effect, LawChange};
use crate::compare::ab::{PairJudgement, PairOutcome};
use crate::record::ab::{Divergence, PairKind};
use crate::record::metric;
use crate::report::text;
use crate::report::text::plural;
use crate::spec::{OutputsRule, Scale, Side};
use inferometer_protocol::units::significant;
use inferometer_stats::robust::Interval;
use inferometer_stats::sequential::Verdict;

/// `regressed`, `output changed`: the verdict for people.
pub fn verdict(verdict: Verdict) -> String {
    verdict.name().replace('-', " ")
}

/// CSS class and sign of a verdict: good, bad or neither.
pub fn sign(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Unchanged | Verdict::Improved => ("valid", "✓"),
        Verdict::Inconclusive | Verdict::NotDecided => ("warned", "?"),
        _ => ("broken", "✕"),
    }
}

/// `+1.1` and `+5.0` of an interval of ln(cost), `+1` and `+3` of counts.
pub fn ends(scale: Scale, interval: Interval) -> (String, String) {
    let bare = |shift: f64| scale.change(shift).trim_end_matches(" %").to_owned();
    (bare(interval.lo), bare(interval.hi))
}

/// `[+1.1, +5.0]`.
pub fn range(scale: Scale, interval: Interval) -> String {
    let (lo, hi) = ends(scale, interval);
    format!("[{lo}, {hi}]")
}

/// `+3.2 % [+1.1, +5.0]` of a shift.
pub fn effect(scale: Scale, shift: f64, interval: Option<Interval>) -> String {
    let range = interval.map(|interval| format!(" {}", range(scale, interval))).unwrap_or_default();
    scale.change(shift) + &range
}

/// What the gates measure.
pub fn compared(summary: &AbSummary) -> &'static str {
    let counts = summary.gates.iter().any(|gate| gate.judgement.scale == Scale::Count);
    if counts { "time, bytes or counts" } else { "time or bytes" }
}

/// A gate's smallest change that matters.
pub fn delta(gate: &GateSummary) -> String {
    gate.judgement.scale.delta(gate.judgement.info.least)
}

/// A gate's cells: `all cells`, or the conditions.
pub fn cells(gate: &GateSummary) -> String {
    text::label(&gate.judgement.info.gate.cells.to_string())
}

/// `decode, len=512`.
pub fn gate(gate: &GateSummary) -> String {
    format!("{}, {}", gate.judgement.metric().title(), cells(gate))
}

/// What a gate would have caught nine times in ten: `4.2 %`.
pub fn caught(gate: &GateSummary) -> Option<String> {
    gate.caught_nine_in_ten.map(|least| gate.judgement.scale.delta(least))
}

/// What the columns of gates mean.
pub fn legend(summary: &AbSummary) -> String {
    format!(
        "B vs A: change of {}, with its interval; + is worse. caught: the smallest slow-down that this session would have \
         caught nine times in ten.",
        compared(summary)
    )
}

/// `A: main (1a2b3c4d), "Subject"`.
pub fn side(summary: &AbSummary, side: Side) -> String {
    let info = summary.side(side);
    let mut words = text::label(&info.label);
    if let Some(commit) = &info.commit
        && !commit.subject.is_empty()
    {
        words.push_str(&format!(", “{}”", text::label(&commit.subject)));
    }
    words
}

/// How many pairs count, were dropped, or failed, by side.
pub fn counts(summary: &AbSummary) -> String {
    let counts = &summary.counts;
    let mut words = plural(counts.ok as usize, "pair");
    let dropped = [(counts.dropped_a, "for A"), (counts.dropped_b, "for B"), (counts.dropped_both, "for both")];
    let dropped: Vec<String> = dropped.iter().filter(|(n, _)| *n > 0).map(|(n, who)| format!("{n} {who}")).collect();
    if !dropped.is_empty() {
        words.push_str(&format!("; dropped and replaced {}", text::list(&dropped, 3)));
    }
    let failed = [(counts.failed_a, "A"), (counts.failed_b, "B")];
    for (n, who) in failed.iter().filter(|(n, _)| *n > 0) {
        words.push_str(&format!("; {who} failed in {n}"));
    }
    match (counts.pilot_ok, counts.pilot_dropped) {
        (0, 0) => {}
        (0, _) => words.push_str("; a pilot without a valid pair"),
        (pairs, _) => words.push_str(&format!("; a pilot of {}", plural(pairs as usize, "A/A pair"))),
    }
    words
}

/// The rule for the outputs, and how they compare.
pub fn outputs(summary: &AbSummary) -> String {
    let outputs = &summary.outputs;
    let rule = match outputs.rule {
        OutputsRule::Identical => "must be identical".to_owned(),
        OutputsRule::Margin { logits } => format!("may differ where B's two best logits are within {logits}"),
        OutputsRule::Any => "may differ".to_owned(),
    };
    let compared = match outputs.tokens {
        None => "they were not compared".to_owned(),
        Some(0) => "none were compared".to_owned(),
        Some(tokens) if outputs.divergences.is_empty() => {
            format!("{} compared, all the same", plural(tokens as usize, "token"))
        }
        Some(tokens) => {
            let refused = outputs.divergences.iter().filter(|d| !d.allowed).count();
            let allowed = match refused {
                0 => ", allowed".to_owned(),
                _ => format!(" ({refused} not allowed)"),
            };
            format!(
                "{} compared, {}{allowed}",
                plural(tokens as usize, "token"),
                plural(outputs.divergences.len(), "divergence")
            )
        }
    };
    let until = outputs.failed.as_ref().map_or(String::new(), |failed| format!("; side {} failed", failed.side.name()));
    format!("tokens {rule}; {compared}{until}")
}

/// The id of a side at a divergence. A redacted record has neither side's.
pub fn token(of: &Divergence, id: Option<u32>) -> Option<String> {
    of.a.or(of.b)?;
    Some(id.map_or_else(|| "end".to_owned(), |id| id.to_string()))
}

/// The order in which a pair ran: `AB`, `BA`, or `AA` of the pilot.
pub fn order(pair: &PairJudgement) -> String {
    format!("{}{}", pair.row.first.name(), pair.row.second.name())
}

/// Outcome of an excluded pair: its name, the sides that caused it, the reason.
pub type Outcome<'a> = (&'static str, String, &'a str);

/// `None` for a pair that counts.
pub fn outcome(pair: &PairJudgement) -> Option<Outcome<'_>> {
    let (word, sides, reason) = match &pair.outcome {
        PairOutcome::Ok => return None,
        PairOutcome::Dropped { sides, reason } => ("dropped", sides, reason),
        PairOutcome::Contradicted { sides, reason } => ("contradicted", sides, reason),
        PairOutcome::Failed { sides, reason } => ("failed", sides, reason),
    };
    let sides = if pair.row.kind == PairKind::Pilot {
        "pilot".to_owned()
    } else {
        text::list(&sides.iter().map(|side| side.name()).collect::<Vec<_>>(), 2)
    };
    Some((word, sides, reason))
}

/// The cost that moved, if one did, and its effect at the longest length.
pub fn moved(law: &LawChange) -> Option<String> {
    let change = law.change.as_ref()?;
    let named = change.terms.iter().find(|term| Some(term.term) == change.named)?;
    Some(format!(
        "{}: the cost {} moved ({} in {}): {} {}, {:+.1} % at {:.0} tokens",
        law.law.name(),
        named.term.name(),
        named.term.symbol(),
        law.law.formula(),
        signed(named.change),
        named.term.unit(),
        named.contribution * 100.0,
        change.longest
    ))
}

/// `+0.0123`, `-4.56e-5`: of a coefficient.
pub fn signed(value: f64) -> String {
    let size = value.abs();
    let digits = if size > 0.0 && size < 0.01 { format!("{size:.2e}") } else { significant(size) };
    format!("{}{digits}", if value < 0.0 { "-" } else { "+" })
}

/// Metrics without a gate that stand out, each with the cell in which it moved most: `TTFT +12.1 %
/// (cap=0)`, and how many more cells.
pub fn standing_out(summary: &AbSummary) -> Vec<String> {
    let gated = super::charts::metrics(summary);
    let mut found: Vec<(&Effect, usize)> = Vec::new();
    for effect in summary.standing_out().into_iter().filter(|effect| !gated.contains(&effect.metric)) {
        match found.iter_mut().find(|(first, _)| first.metric == effect.metric) {
            Some((_, more)) => *more += 1,
            None => found.push((effect, 0)),
        }
    }
    let words = |(effect, more): &(&Effect, usize)| {
        let title = metric::find(effect.metric).map_or(effect.metric, |metric| metric.title);
        let cell = text::label(summary.cell(effect.cell));
        let more = if *more > 0 { format!(" and {} more", plural(*more, "cell")) } else { String::new() };
        let place = if summary.cells.len() > 1 { format!(" ({cell}{more})") } else { String::new() };
        format!("{title} {}{place}", effect.scale.change(effect.shift))
    };
    found.iter().map(words).collect()
}

/// `0.031`, `< 0.001`.
pub fn p_value(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { format!("{p:.3}") }
}

/// The name of the cells that a law was fitted to.
pub fn series<'a>(summary: &'a AbSummary, law: &LawChange) -> &'a str {
    let first = law.cells.first().and_then(|id| summary.cells.get(*id as usize));
    first.map_or("", |cell| cell.series.as_str())
}
