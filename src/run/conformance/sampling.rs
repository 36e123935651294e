//! Probes of the declared sampling fields and of the prefill chunk: each must change what it says.

use rand_chacha::rand_core::Rng;

use super::rules::Before;
use super::{Bench, FEW, Fault, Opened, Verdict, ensure};
use inferometer_host::rng::seeded;
use inferometer_protocol::sampling::{
    MIN_P, REPETITION_CONTEXT_SIZE, REPETITION_PENALTY, SEED, TEMPERATURE, TOP_K, TOP_P,
};
use inferometer_protocol::toggle::PREFILL_CHUNK_SIZE;
use inferometer_protocol::{Sampling, Value};

/// Tokens of a probe: enough that two draws differ somewhere.
const PROBE: u32 = 3 * FEW;
/// Draws are hot and follow noise, where no model is sure of its next token.
const HOT: f64 = 2.0;
/// Seeds tried until a draw differs. An engine that obeys and repeats the greedy tokens with all of
/// them would be sure of every token after noise, at twice the temperature.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=8;
const PENALTY: f64 = 3.0;
/// What to do about a field without effect.
const MEND: &str = "obey it, or take it off the receipt's `sampling`";

/// A generation at temperature [`HOT`].
struct Draw {
    seed: u64,
    tokens: Vec<u32>,
}

fn drawn(seed: u64) -> Sampling {
    Sampling { seed, temperature: HOT, ..Sampling::default() }
}

/// The shared host, if its receipt declares the field.
fn declaring<'a>(bench: &'a mut Bench<'_>, field: &str) -> Result<&'a mut Opened, Fault> {
    bench.with(field, |ready| ready.receipt.samples_with(field))
}

/// As [`declaring`], for a field that acts on draws.
fn drawing<'a>(bench: &'a mut Bench<'_>, field: &str) -> Result<&'a mut Opened, Fault> {
    let opened = declaring(bench, field)?;
    ensure(opened.ready.receipt.samples_with(TEMPERATURE), || {
        format!("it declares `{field}` without `temperature`: at temperature 0, `{field}` has no effect")
    })?;
    Ok(opened)
}

impl Opened {
    /// Tokens that follow noise.
    fn sampled(&mut self, sampling: Sampling) -> Result<Vec<u32>, Fault> {
        let mut rng = seeded(1, "conformance");
        let ids: Vec<u32> = (0..2 * FEW).map(|_| (rng.next_u64() >> 33) as u32).collect();
        let text = ids.iter().map(|id| char::from(b'a' + (id % 26) as u8)).collect();
        let mut asked = self.prompted(ids, text, PROBE)?;
        asked.request.sampling = sampling;
        Ok(self.judged(asked, Before::Reset)?.generated.tokens)
    }

    /// Tokens that follow a prompt of one token, again and again.
    fn repeating(&mut self, repetition_penalty: f64, repetition_context_size: u64) -> Result<Vec<u32>, Fault> {
        let ids = vec![3; 2 * FEW as usize];
        let mut asked = self.prompted(ids, "again ".repeat(2 * FEW as usize), PROBE)?;
        asked.request.sampling = Sampling { repetition_penalty, repetition_context_size, ..Sampling::default() };
        Ok(self.judged(asked, Before::Reset)?.generated.tokens)
    }

    /// The greedy tokens, and a draw that differs from them, if one is found.
    fn greedy_and_drawn(&mut self) -> Result<(Vec<u32>, Option<Draw>), Fault> {
        let greedy = self.sampled(Sampling::default())?;
        for seed in SEEDS {
            let tokens = self.sampled(drawn(seed))?;
            if tokens != greedy {
                return Ok((greedy, Some(Draw { seed, tokens })));
            }
        }
        Ok((greedy, None))
    }
}

pub(super) fn temperature(bench: &mut Bench) -> Verdict {
    let (greedy, drawn) = declaring(bench, TEMPERATURE)?.greedy_and_drawn()?;
    ensure(drawn.is_some(), || {
        format!(
            "`temperature` changes nothing: at temperature {HOT} with seeds {} to {} it generated the same tokens as at \
             temperature 0, {greedy:?}; {MEND}",
            SEEDS.start(),
            SEEDS.end()
        )
    })
}

/// Why a probe of draws says nothing.
fn nothing_drawn() -> Fault {
    Fault::Skip(format!(
        "seeds {} to {} at temperature {HOT} all gave the greedy tokens, so nothing can be told; see the check of \
         `temperature`",
        SEEDS.start(),
        SEEDS.end()
    ))
}

pub(super) fn seed(bench: &mut Bench) -> Verdict {
    let opened = drawing(bench, SEED)?;
    let one = opened.sampled(drawn(1))?;
    let again = opened.sampled(drawn(1))?;
    ensure(one == again, || format!("seed 1 at temperature {HOT} gave {one:?}, then {again:?}"))?;
    for seed in SEEDS.skip(1) {
        if opened.sampled(drawn(seed))? != one {
            return Ok(());
        }
    }
    // Then either nothing is drawn, or every seed draws the same.
    if opened.sampled(Sampling::default())? == one {
        return Err(nothing_drawn());
    }
    Err(Fault::Fail(format!(
        "`seed` changes nothing: at temperature {HOT}, seeds {} to {} all gave {one:?}; {MEND}",
        SEEDS.start(),
        SEEDS.end()
    )))
}

pub(super) fn top_k(bench: &mut Bench) -> Verdict {
    leaves_the_best(bench, TOP_K, "1", |sampling| sampling.top_k = 1)
}

pub(super) fn top_p(bench: &mut Bench) -> Verdict {
    leaves_the_best(bench, TOP_P, "1e-6", |sampling| sampling.top_p = 1e-6)
}

pub(super) fn min_p(bench: &mut Bench) -> Verdict {
    leaves_the_best(bench, MIN_P, "1", |sampling| sampling.min_p = 1.0)
}

/// A filter that keeps the most likely token alone gives the greedy tokens at every temperature.
fn leaves_the_best(bench: &mut Bench, field: &str, value: &str, set: fn(&mut Sampling)) -> Verdict {
    let opened = drawing(bench, field)?;
    let (greedy, plain) = opened.greedy_and_drawn()?;
    let Some(Draw { seed, tokens: plain }) = plain else { return Err(nothing_drawn()) };
    let mut sampling = drawn(seed);
    set(&mut sampling);
    let filtered = opened.sampled(sampling)?;
    ensure(filtered != plain, || {
        format!(
            "`{field}` changes nothing: at temperature {HOT} it generated {plain:?} with and without `{field} = {value}`; {MEND}"
        )
    })?;
    ensure(filtered == greedy, || {
        format!(
            "`{field} = {value}` at temperature {HOT} leaves the most likely token alone, but it generated {filtered:?}, and greedily {greedy:?}"
        )
    })
}

pub(super) fn penalty(bench: &mut Bench) -> Verdict {
    let opened = declaring(bench, REPETITION_PENALTY)?;
    let (off, on) = (opened.repeating(1.0, 20)?, opened.repeating(PENALTY, 20)?);
    ensure(off != on, || {
        format!(
            "`repetition_penalty` changes nothing: after one token {} times it generated {off:?} with a penalty of 1 and \
             of {PENALTY}; {MEND}",
            2 * FEW
        )
    })
}

pub(super) fn context_size(bench: &mut Bench) -> Verdict {
    let opened = declaring(bench, REPETITION_CONTEXT_SIZE)?;
    ensure(opened.ready.receipt.samples_with(REPETITION_PENALTY), || {
        "it declares `repetition_context_size` without `repetition_penalty`: without a penalty, it has no effect"
            .to_owned()
    })?;
    let (last, whole) = (opened.repeating(PENALTY, 1)?, opened.repeating(PENALTY, 0)?);
    ensure(last != whole, || {
        format!(
            "`repetition_context_size` changes nothing: with a penalty of {PENALTY} on the last token and on the whole \
             history it generated {last:?}; {MEND}"
        )
    })
}

/// A prompt longer than the chunk is computed in chunks of the size asked for, as a run demands.
pub(super) fn prefill_chunk(bench: &mut Bench) -> Verdict {
    let opened = bench
        .with("prefill_chunk_size", |ready| ready.receipt.toggles.iter().any(|toggle| toggle == PREFILL_CHUNK_SIZE))?;
    let ids = (1..=4 * FEW).collect();
    let mut asked = opened.prompted(ids, "The quick brown fox jumps over the lazy dog. ".repeat(4), FEW)?;
    asked.request.toggles.insert(PREFILL_CHUNK_SIZE.to_owned(), Value::from(u64::from(FEW)));
    let prefill = opened.judged(asked, Before::Reset)?.generated.completion.prefill_tokens;
    ensure(prefill > FEW, || format!("it computed {prefill} prompt tokens of a prompt of about {}", 4 * FEW))
}
