//! Finds records that contradict themselves: the figures of `requests.csv` are computed again from
//! the rows of the other files. An iteration that does not agree with them is not believed.
//!
//! A record that was edited by hand still opens, because [`super::read`] reads what is written;
//! whoever uses a record's figures opens it with [`open`].

use std::collections::BTreeMap;
use std::path::Path;

use inferometer_protocol::{Phase, Speculation};

use super::cause::{Cause, Fault, Status};
use super::figures::{TokenFigures, ms};
use super::tokens::{TokenIndex, token_hash};
use super::{Record, RecordError, RequestRow, SpanRow, TokenRow, csv, quality};

/// Differences that rounding can explain: relative, and in the column's unit.
const ROUNDING: f64 = 1e-6;
const LEAST: f64 = 1e-9;

/// Reads the record in `dir` to use its figures: iterations that contradict themselves are invalid
/// ([`Cause::Contradiction`]). What cannot be computed again is left as it is.
///
/// # Errors
/// As [`super::read`].
pub fn open(dir: &Path) -> Result<Record, RecordError> {
    let mut record = super::read(dir)?;
    check(&mut record);
    Ok(record)
}

impl Record {
    /// What contradicts itself in an opened record: for each such iteration, file, row, column and
    /// both values.
    pub fn contradictions(&self) -> impl Iterator<Item = &str> {
        let found = self.requests.iter().filter(|row| row.cause == Some(Cause::Contradiction));
        let mut last = None;
        found.filter(move |row| last.replace(iteration(row)) != Some(iteration(row))).map(|row| row.reason.as_str())
    }
}

/// The iteration of a row. Each warm-up has its own.
fn iteration(row: &RequestRow) -> (u32, u32, Option<u64>) {
    (row.cell, row.iteration, row.warmup.then_some(row.request))
}

/// Marks every valid iteration that contradicts itself, with all its turns.
pub(super) fn check(record: &mut Record) {
    let manifest = &record.manifest;
    quality::check(&mut record.quality, manifest.plan.cells.len(), manifest.redacted.is_some());
    let (tokens, spans) = (TokenIndex::new(&record.tokens), spans(&record.spans));
    let mut found = BTreeMap::new();
    for row in record.requests.iter().filter(|row| row.status == Status::Ok) {
        let spans = spans.get(&row.request).map_or(&[][..], Vec::as_slice);
        if let Some(what) = contradiction(row, tokens.of(row.request), spans) {
            let reason = format!("the record contradicts itself: {}, request {}: {what}", csv::REQUESTS, row.request);
            found.entry(iteration(row)).or_insert(reason);
        }
    }
    for row in record.requests.iter_mut().filter(|row| row.status == Status::Ok) {
        if let Some(reason) = found.get(&iteration(row)) {
            row.mark(&Fault::new(Cause::Contradiction, reason.clone()));
        }
    }
}

fn spans(rows: &[SpanRow]) -> BTreeMap<u64, Vec<&SpanRow>> {
    let mut of: BTreeMap<u64, Vec<&SpanRow>> = BTreeMap::new();
    for row in rows {
        of.entry(row.request).or_default().push(row);
    }
    of
}

/// The first column of a row that does not follow from the request's tokens and spans, or from the
/// row's other columns.
fn contradiction(row: &RequestRow, tokens: &[TokenRow], spans: &[&SpanRow]) -> Option<String> {
    in_words(row, tokens).or_else(|| in_counts(row, tokens)).or_else(|| {
        let times: Vec<u64> = tokens.iter().map(|token| token.t_ns).collect();
        let given = TokenFigures::of(&times);
        let first = row.e2e_ms.zip(given.decode_ms).map(|(e2e, decode)| e2e - decode);
        let prefilled = row.prefill_tokens.filter(|n| *n > 0).map(f64::from);
        let rate = prefilled.zip(row.prefill_ms.filter(|ms| *ms > 0.0)).map(|(n, ms)| n / (ms / 1e3));
        let figures = [
            ("decode_ms", row.decode_ms, given.decode_ms, csv::TOKENS),
            ("decode_tps", row.decode_tps, given.decode_tps, csv::TOKENS),
            ("tpot_ms", row.tpot_ms, given.tpot_ms, csv::TOKENS),
            ("itl_p50_ms", row.itl_p50_ms, given.itl_p50_ms, csv::TOKENS),
            ("itl_p95_ms", row.itl_p95_ms, given.itl_p95_ms, csv::TOKENS),
            ("itl_p99_ms", row.itl_p99_ms, given.itl_p99_ms, csv::TOKENS),
            ("itl_max_ms", row.itl_max_ms, given.itl_max_ms, csv::TOKENS),
            ("ttft_ms", row.ttft_ms, first, "e2e_ms less the time from first to last token"),
            ("tokenize_ms", row.tokenize_ms, time_in(spans, Phase::Tokenize), csv::SPANS),
            ("prefill_ms", row.prefill_ms, time_in(spans, Phase::Prefill), csv::SPANS),
            ("prefill_tps", row.prefill_tps, rate, "prefill_tokens over prefill_ms"),
        ];
        figures.into_iter().find_map(|(column, recorded, computed, from)| {
            let (recorded, computed) = (recorded?, computed?);
            let rounding = LEAST + ROUNDING * recorded.abs().max(computed.abs());
            let agrees = recorded.is_finite() && (recorded - computed).abs() <= rounding;
            (!agrees).then(|| format!("{column} is {recorded}, but {from} gives {computed}"))
        })
    })
}

/// Contradictions in the number of tokens and in their ids.
fn in_words(row: &RequestRow, tokens: &[TokenRow]) -> Option<String> {
    if tokens.is_empty() {
        let claims = row.token_hash.is_some() || row.generated_tokens.is_some_and(|told| told > 0);
        return claims.then(|| format!("it has tokens, but {} has none of them", csv::TOKENS));
    }
    if let Some(told) = row.generated_tokens.filter(|told| *told as usize != tokens.len()) {
        return Some(format!("generated_tokens is {told}, but {} has {}", csv::TOKENS, tokens.len()));
    }
    // A redacted record has no ids.
    let ids: Option<Vec<u32>> = tokens.iter().map(|token| token.id).collect();
    let (told, hash) = (row.token_hash.as_ref()?, token_hash(&ids?));
    (*told != hash).then(|| format!("token_hash is {told}, but {} gives {hash}", csv::TOKENS))
}

/// Contradictions in the counts of speculative decoding, of which a row has all or none.
fn in_counts(row: &RequestRow, tokens: &[TokenRow]) -> Option<String> {
    let counts = [row.decode_passes, row.verify_passes, row.drafted_tokens, row.accepted_tokens];
    match counts {
        [None, None, None, None] => None,
        [Some(passes), Some(verify_passes), Some(drafted_tokens), Some(accepted_tokens)] => {
            let generated = row.generated_tokens.map_or(tokens.len(), |told| told as usize);
            Speculation { passes, verify_passes, drafted_tokens, accepted_tokens }.impossible(generated)
        }
        _ => Some(
            "it has some of decode_passes, verify_passes, drafted_tokens and accepted_tokens, but not all of them"
                .to_owned(),
        ),
    }
}

/// Total time in the spans of a phase; `None` if there is none.
fn time_in(spans: &[&SpanRow], phase: Phase) -> Option<f64> {
    let of = spans.iter().filter(|span| span.phase == phase);
    of.map(|span| span.end_ns.saturating_sub(span.start_ns)).reduce(u64::saturating_add).map(ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_speculation_must_be_possible_and_complete() {
        let tokens: Vec<TokenRow> =
            (0..11).map(|index| TokenRow { request: 0, index, id: None, t_ns: u64::from(index) }).collect();
        let told = |[passes, verify, drafted, accepted]: [Option<u32>; 4]| {
            let row = RequestRow {
                generated_tokens: Some(11),
                decode_passes: passes,
                verify_passes: verify,
                drafted_tokens: drafted,
                accepted_tokens: accepted,
                ..RequestRow::default()
            };
            contradiction(&row, &tokens, &[])
        };
        assert_eq!(told([None; 4]), None, "without speculative decoding, or older");
        assert_eq!(told([5, 2, 5, 5].map(Some)), None);
        assert!(told([5, 2, 100, 300].map(Some)).unwrap().contains("300 accepted of 100 drafted"));
        assert!(told([9, 2, 5, 5].map(Some)).unwrap().contains("9 passes"));
        assert!(told([None, None, Some(100), Some(300)]).unwrap().contains("not all of them"));
    }
}
