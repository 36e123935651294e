//! The engines of a run side by side, in words and tables: first what differs, then the outputs,
//! then the ranking by each metric.

use super::figures;
use super::table::{Cell, Table};
use super::text::{self, label, lower, plural};
use crate::compare::engines::{EngineDifference, Place, Ranking, Side, SideBySide, Topic, Work};
use crate::compare::outputs::Outputs;
use crate::compare::runs::{CONFIDENCE, Change, FALSE_DISCOVERIES, MetricComparison};
use crate::record::metric::{Metric, Unit};
use crate::record::{Timing, metric};
use inferometer_protocol::units::significant;

/// Engines named in one sentence.
const MOST_NAMED: usize = 6;
/// A difference that is smaller is not said as a ratio, which would be 1.00.
const SMALL: f64 = 0.005;

/// Everything in lines, for the terminal and Markdown: what differs, outputs, then one line for
/// each metric and length.
#[must_use]
pub fn lines(engines: &SideBySide) -> Vec<String> {
    let mut lines: Vec<String> = [Topic::Setting, Topic::Timing, Topic::Model]
        .into_iter()
        .filter_map(|topic| differing(engines, topic))
        .collect();
    lines.extend(output_lines(engines));
    let count = engines.works.iter().map(|work| work.rankings.len()).max().unwrap_or(0);
    // By metric, so that the lengths of one metric are beneath each other.
    for at in 0..count {
        let ranked = engines.works.iter().filter_map(|work| Some((work, work.rankings.get(at)?)));
        lines.extend(ranked.filter_map(|(work, ranking)| ranked_line(work, ranking)));
    }
    lines
}

/// What the ratios are and when a difference is called one; with `scope`, what the intervals cover.
#[must_use]
pub fn note(engines: &SideBySide, scope: &str) -> String {
    let turns = match engines.interleaved {
        true => "the engines' iterations alternate in random order",
        false => {
            "the engines' iterations do not alternate (see `run.isolation`), so drift of the machine may look like a \
             difference"
        }
    };
    format!(
        "ratios: shift of the values of all iterations, with its {:.0} % interval ({scope}); {turns}; {:.0} % or less \
         of the differences are false positives on average ({}, Mann-Whitney, Benjamini-Hochberg)",
        CONFIDENCE * 100.0,
        FALSE_DISCOVERIES * 100.0,
        plural(engines.tests, "test"),
    )
}

/// `threads: 1 (one), 2 (two); dtype: f32 (one), not reported (two)` of the differences that may
/// explain others.
fn differing(engines: &SideBySide, topic: Topic) -> Option<String> {
    let headlines = engines.differences.iter().filter(|of| of.topic == topic && of.is_headline());
    let words: Vec<String> = headlines.map(|of| format!("{}: {}", label(&of.what), by_value(engines, of))).collect();
    let lead = match topic {
        Topic::Setting => "settings that differ",
        Topic::Timing => "timing that differs",
        _ => "models that differ",
    };
    (!words.is_empty()).then(|| format!("{lead}: {}", words.join("; ")))
}

/// Each value with the engines that have it.
fn by_value(engines: &SideBySide, of: &EngineDifference) -> String {
    let mut values: Vec<(&Option<String>, Vec<String>)> = Vec::new();
    for (value, engine) in of.values.iter().zip(&engines.engines) {
        match values.iter_mut().find(|(known, _)| *known == value) {
            Some((_, names)) => names.push(label(engine)),
            None => values.push((value, vec![label(engine)])),
        }
    }
    let words = values.into_iter().map(|(value, names)| {
        let value = value.as_deref().map_or_else(|| "not reported".to_owned(), label);
        format!("{value} ({})", text::list(&names, MOST_NAMED))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// What tells a work from the others: `, 512 tokens, cap=0`.
#[must_use]
pub fn work_words(work: &Work) -> String {
    let length = work.length.map(|length| format!(", {}", plural(length as usize, "token")));
    let toggles = work.toggles.iter().map(|(name, value)| format!(", {name}={value}"));
    label(&length.into_iter().chain(toggles).collect::<String>())
}

/// A metric and the work, such as `decode, 512 tokens`.
fn title(metric: &Metric, work: &Work) -> String {
    format!("{}{}", lower(metric.title), work_words(work))
}

/// The lines on outputs: one if every work has the same result, otherwise one for each.
fn output_lines(engines: &SideBySide) -> Vec<String> {
    let words: Vec<String> = engines.works.iter().map(outputs).collect();
    let first = engines.works.first().map_or_else(String::new, |work| label(&work.sides[0].name));
    match words.as_slice() {
        [one, _, ..] if words.iter().all(|other| other == one) => {
            vec![format!("outputs of all prompts, against {first}: {one}")]
        }
        _ => {
            let each = engines.works.iter().zip(words);
            each.map(|(work, words)| format!("outputs{}, against {first}: {words}", work_words(work))).collect()
        }
    }
}

/// How the tokens of each side compare with those of the first: `two: same 24 tokens`.
fn outputs(work: &Work) -> String {
    let mut by_result: Vec<(String, Vec<String>)> = Vec::new();
    for (side, outputs) in work.sides.iter().filter_map(|side| Some((side, side.outputs.as_ref()?))) {
        let prompt = if side.prompts_differ == Some(true) { ", of other prompt tokens" } else { "" };
        let result = outputs_words(side, outputs) + prompt;
        match by_result.iter_mut().find(|(known, _)| *known == result) {
            Some((_, names)) => names.push(label(&side.name)),
            None => by_result.push((result, vec![label(&side.name)])),
        }
    }
    let words = by_result.into_iter().map(|(result, names)| format!("{}: {result}", text::list(&names, MOST_NAMED)));
    words.collect::<Vec<_>>().join("; ")
}

/// A side's tokens against those of the first side.
fn outputs_words(side: &Side, outputs: &Outputs) -> String {
    let count = side.generated_tokens.map_or_else(String::new, |count| format!("{count} "));
    let of_them = side.generated_tokens.map_or_else(String::new, |count| format!(" of {count}"));
    match outputs {
        Outputs::Same => format!("same {count}tokens"),
        Outputs::Differ { index: Some(0), turn: None } => "different from the first token on".to_owned(),
        Outputs::Differ { index: Some(index), turn: None } => {
            format!("equal for {index}{of_them} tokens, then different")
        }
        Outputs::Differ { index: Some(index), turn: Some(turn) } => {
            format!("equal until token {index} of turn {turn}, then different")
        }
        Outputs::Differ { index: None, turn: None } => "different tokens".to_owned(),
        Outputs::Differ { index: None, turn: Some(turn) } => format!("different tokens from turn {turn} on"),
        Outputs::Several { a, b, common } => {
            format!("{} against {a}, {common} in common", plural(*b, "different output"))
        }
        Outputs::Unknown => "not known".to_owned(),
    }
}

/// One line of a metric: every side against the reference, the best first; `None` if no side has
/// the metric or lacks it for a reason.
fn ranked_line(work: &Work, ranking: &Ranking) -> Option<String> {
    let metric = metric::find(&ranking.metric)?;
    let name = |place: &Place| work.side(place.cell).map_or_else(String::new, |side| label(&side.name));
    let Some(reference) = ranking.reference() else {
        let said = |place| Some(format!("{} {}", name(place), why(metric, work, place)?));
        let unverified: Vec<String> = ranking.places.iter().filter_map(said).collect();
        return (!unverified.is_empty()).then(|| format!("{}: {}", title(metric, work), unverified.join("; ")));
    };
    let first = name(reference);
    let mut is_named = false;
    let others = ranking.places.iter().filter_map(|place| Some((place, place.against.as_ref()?)));
    let words: Vec<String> = others
        .map(|(place, against)| {
            if let Some(why) = why(metric, work, place) {
                return format!("{} {why}", name(place));
            }
            let than = (!is_named).then_some(first.as_str());
            is_named = true;
            format!("{} {}", name(place), ratio_words(metric, against, than))
        })
        .collect();
    (!words.is_empty()).then(|| format!("{}: {}", title(metric, work), words.join("; ")))
}

/// Why a side has no ratio; `None` if it has one, is the reference, or nobody was measured.
fn why(metric: &Metric, work: &Work, place: &Place) -> Option<&'static str> {
    let timing = work.side(place.cell)?.timing.filter(|_| metric.is_token_time);
    let change = place.against.as_ref().map(|against| against.change);
    match (change, timing) {
        (None, _) if place.figures.is_some() => None,
        (None | Some(Change::NotRanked), Some(Timing::Inexact)) => {
            Some("not ranked: several tokens share a time stamp")
        }
        (None | Some(Change::NotRanked), Some(Timing::Claimed)) => Some("not ranked: its token times are not verified"),
        (Some(Change::NotRanked), _) => Some("not ranked: its time stamps are of another kind"),
        (Some(Change::NotMeasured), _) => Some("not measured"),
        _ => None,
    }
}

/// How a ratio of the metric is said.
fn times(metric: &Metric) -> &'static str {
    match metric.unit {
        Unit::TokensPerSecond => "times as fast",
        Unit::Milliseconds | Unit::Seconds => "times as long",
        _ => "times as much",
    }
}

/// `1.31 times as fast as one [1.28, 1.34]`; `than` is the reference, unless it was said before.
#[must_use]
pub fn ratio_words(metric: &Metric, against: &MetricComparison, than: Option<&str>) -> String {
    let said = |word: &str| than.map_or_else(String::new, |first| format!(" {word} {first}"));
    let Some(ratio) = against.ratio else { return format!("cannot be compared{}: a value of 0", said("with")) };
    let interval = against.interval.map(|i| format!(" [{}, {}]", significant(i.lo), significant(i.hi)));
    let ratio = significant(ratio);
    match (is_clear(against), interval) {
        (_, Some(_)) if is_small(against) => format!("within {:.1} %{}", SMALL * 100.0, said("of")),
        (true, Some(interval)) => format!("{ratio} {}{}{interval}", times(metric), said("as")),
        (false, Some(interval)) => format!("does not clearly differ{}, {ratio}{interval}", said("from")),
        (_, None) => format!("{ratio} {}{} (too few iterations to tell)", times(metric), said("as")),
    }
}

/// Whether the test shows a difference and the interval excludes equality.
#[must_use]
pub fn is_clear(against: &MetricComparison) -> bool {
    let shown = matches!(against.change, Change::Better | Change::Worse);
    shown && against.interval.is_some_and(|i| i.lo > 1.0 || i.hi < 1.0)
}

/// Whether the whole interval is this close to equality.
fn is_small(against: &MetricComparison) -> bool {
    against.interval.is_some_and(|i| i.lo >= 1.0 - SMALL && i.hi <= 1.0 + SMALL)
}

/// What differs between the engines: what may explain a difference in speed or memory, or the rest.
#[must_use]
pub fn differences(engines: &SideBySide, headlines: bool) -> Table<&EngineDifference> {
    let rows = engines.differences.iter().filter(|of| of.is_headline() == headlines);
    let table = Table::of("What differs between the engines", rows)
        .group("about", |of| of.topic, |of| of.topic.name())
        .head("what", |of| &of.what);
    engines.engines.iter().enumerate().fold(table, |table, (at, engine)| {
        table.text(label(engine), move |of| Cell::from(of.values[at].as_deref().unwrap_or("not reported"))).named()
    })
}

/// How the outputs of each work compare.
#[must_use]
pub fn all_outputs(engines: &SideBySide) -> Table<(&Work, &Side)> {
    let rows = engines.works.iter().flat_map(|work| work.sides.iter().map(move |side| (work, side)));
    Table::of("Outputs of the engines", rows)
        .group("work", |row| row.0.sides[0].cell, |row| work_words(row.0).trim_start_matches(", ").to_owned())
        .head("engine", |row| &row.1.name)
        .number("n", |row| text::valid(row.1.counts))
        .number("tokens", |row| row.1.generated_tokens)
        .text("token times", |row| row.1.timing.map(Timing::name))
        .text("outputs", |row| {
            let words = |outputs| outputs_words(row.1, outputs);
            row.1.outputs.as_ref().map_or_else(|| "reference".to_owned(), words)
        })
}

/// A side's place by a metric.
type Ranked<'a> = (&'a Work, &'static Metric, &'a Ranking, usize);

/// The ranking by each metric of each work.
#[must_use]
pub fn ranking(engines: &SideBySide) -> Table<Ranked<'_>> {
    let rows = engines.works.iter().flat_map(|work| work.rankings.iter().map(move |ranking| (work, ranking)));
    let rows = rows.filter_map(|(work, ranking)| Some((work, metric::find(&ranking.metric)?, ranking)));
    let measured = rows.filter(|(_, _, ranking)| ranking.reference().is_some());
    let places = measured
        .flat_map(|(work, metric, ranking)| (0..ranking.places.len()).map(move |place| (work, metric, ranking, place)));
    let place = |row: &Ranked<'_>| row.2.places[row.3].clone();
    Table::of("Ranking of the engines", places)
        .group(
            "metric",
            |row| (row.0.sides[0].cell, row.1.key),
            |row| Cell::from(title(row.1, row.0)).hint(row.1.meaning),
        )
        .head("engine", move |row| row.0.side(place(row).cell).map(|side| side.name.clone()))
        .number("median", move |row| {
            let figures = place(row).figures;
            figures::median(row.1, figures.as_ref()).unit(figures::unit(row.1))
        })
        .number("ratio", move |row| match place(row).against {
            None => place(row).figures.map(|_| "1".to_owned()),
            Some(against) => against.ratio.map(significant),
        })
        .number("interval", move |row| {
            place(row)
                .against
                .and_then(|of| of.interval)
                .map(|i| format!("[{}, {}]", significant(i.lo), significant(i.hi)))
        })
        .text("result", move |row| result(row.1, row.0, &place(row)))
}

/// Names the engines.
#[must_use]
pub fn heading(engines: &SideBySide) -> String {
    format!(
        "engines side by side: {}",
        text::list(&engines.engines.iter().map(|e| label(e)).collect::<Vec<_>>(), MOST_NAMED)
    )
}

/// The result of a place in words.
fn result(metric: &Metric, work: &Work, place: &Place) -> String {
    let Some(against) = &place.against else { return "reference".to_owned() };
    if let Some(why) = why(metric, work, place) {
        return why.to_owned();
    }
    match (against.change, is_clear(against)) {
        _ if is_small(against) => format!("within {:.1} %", SMALL * 100.0),
        (Change::NotTested, _) => "too few iterations to tell".to_owned(),
        (change, true) => change.name().to_owned(),
        _ => "does not clearly differ".to_owned(),
    }
}
