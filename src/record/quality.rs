//! The quality pass of a run: `quality.jsonl` in its record. A line holds how likely the tokens of
//! a fixed text were under the settings of some cells.
//!
//! The lines hold what the engine reported; perplexity and KL divergence are computed from them.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::RecordError;
use super::store::hidden;
use super::token_hash;
use crate::fs::write_atomic;
use crate::secret::Secrets;
use inferometer_protocol::TokenLogprob;

/// The file in the record.
pub const FILE: &str = "quality.jsonl";

/// Probability of all tokens of a vocabulary, but for rounding.
const WHOLE: f64 = 0.999;

/// A line: one pass over the text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// Cells with these settings: they differ at most in prompt length and sampling, which the
    /// probabilities of given tokens do not depend on.
    pub cells: Vec<u32>,
    /// Host that answered; absent if none did.
    pub host: Option<u32>,
    /// Tokens before the scored ones.
    pub context: u32,
    /// Length of the scored text in bytes, if the tokenizer reproduces the text.
    pub bytes: Option<u64>,
    /// Hash of all ids, those before the scored ones included.
    pub text_hash: String,
    /// The scored ids; empty in a redacted record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<u32>,
    /// Natural logarithm of each scored token's probability; empty if `missing`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<f32>,
    /// At each place the most likely tokens with the logarithms of their probabilities; only in A/B
    /// sessions, and not in a redacted record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<Vec<(u32, f32)>>,
    /// What a second request for the first tokens gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<Repeated>,
    /// Why there are no probabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// Tokens that were scored twice.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Repeated {
    pub tokens: u32,
    /// The largest difference between both answers, in nats.
    pub difference: f32,
}

impl Scored {
    /// Takes what the engine answered for each token.
    ///
    /// # Errors
    /// What in the answer cannot be.
    pub fn answered(&mut self, answer: Vec<TokenLogprob>) -> Result<(), String> {
        if answer.len() != self.ids.len() {
            return Err(format!("{} log-probabilities for {} tokens", answer.len(), self.ids.len()));
        }
        self.possible(&answer)?;
        let wanted = answer.iter().any(|one| !one.top.is_empty());
        (self.logprobs, self.top) =
            answer.into_iter().map(|TokenLogprob { logprob, top }| (logprob, top)).collect::<(Vec<_>, Vec<_>)>();
        if !wanted {
            self.top.clear();
        }
        Ok(())
    }

    /// Takes what the engine answered for the first tokens when it was asked again.
    ///
    /// # Errors
    /// What in the answer cannot be.
    pub fn answered_again(&mut self, answer: &[TokenLogprob]) -> Result<(), String> {
        self.possible(answer)?;
        let differences = self.logprobs.iter().zip(answer).map(|(first, again)| (first - again.logprob).abs());
        self.repeated = Some(Repeated { tokens: answer.len() as u32, difference: differences.fold(0.0, f32::max) });
        Ok(())
    }

    /// Whether an answer for the first tokens can be one.
    fn possible(&self, answer: &[TokenLogprob]) -> Result<(), String> {
        for (at, (one, id)) in answer.iter().zip(&self.ids).enumerate() {
            one.check(*id).map_err(|why| format!("token {at}: {why}"))?;
        }
        Ok(())
    }

    /// Keeps the `most` most likely tokens of each place, as many as were asked for.
    ///
    /// # Errors
    /// When a place has fewer, although there are more tokens.
    pub fn keep_top(&mut self, most: usize) -> Result<(), String> {
        if most == 0 {
            self.top.clear();
            return Ok(());
        }
        if self.top.is_empty() {
            return Err(format!("the engine named no most likely tokens where {most} were asked for"));
        }
        for (at, list) in self.top.iter_mut().enumerate() {
            let mass: f64 = list.iter().map(|(_, logprob)| f64::from(*logprob).exp()).sum();
            if list.len() < most && mass < WHOLE {
                return Err(format!(
                    "the engine named {} most likely tokens at token {at} where {most} were asked for, and these are not all",
                    list.len()
                ));
            }
            list.truncate(most);
        }
        Ok(())
    }

    /// Whether the line can be what an engine answered; `cells`: number of cells in the plan.
    fn check(&self, cells: usize, redacted: bool) -> Result<(), String> {
        if let Some(id) = self.cells.iter().find(|id| **id as usize >= cells) {
            return Err(format!("cells has {id}, which is not a cell of the plan"));
        }
        if self.missing.is_some() {
            return Ok(());
        }
        if self.logprobs.is_empty() {
            return Err("it has neither `logprobs` nor `missing`".to_owned());
        }
        if let Some(Repeated { tokens, difference }) = self.repeated {
            if tokens as usize > self.logprobs.len() {
                return Err(format!("{tokens} tokens were scored twice, but only {} once", self.logprobs.len()));
            }
            if !(0.0..f32::INFINITY).contains(&difference) {
                return Err(format!("the difference of the tokens scored twice is {difference}"));
            }
        }
        if redacted && self.ids.is_empty() {
            if !self.top.is_empty() {
                return Err("it has most likely tokens, but no ids".to_owned());
            }
            return self.logprobs.iter().try_for_each(|one| TokenLogprob { logprob: *one, top: Vec::new() }.check(0));
        }
        let of = |at: usize| self.top.get(at).cloned().unwrap_or_default();
        if !self.top.is_empty() && self.top.len() != self.logprobs.len() {
            return Err(format!("top has {} places, logprobs {}", self.top.len(), self.logprobs.len()));
        }
        let answer = self.logprobs.iter().enumerate().map(|(at, one)| TokenLogprob { logprob: *one, top: of(at) });
        self.clone().answered(answer.collect())
    }
}

/// Hash of a text's ids.
#[must_use]
pub fn text_hash(context: &[u32], ids: &[u32]) -> String {
    token_hash(&[context, ids].concat())
}

/// Appends a line, in place of an earlier one of the same cells. The caller holds the record's
/// lock.
///
/// # Errors
/// When the file cannot be read or written; it then stays as it was.
pub fn append(dir: &Path, scored: &Scored, secrets: &Secrets) -> Result<(), RecordError> {
    let path = dir.join(FILE);
    let mut lines = read(dir)?;
    lines.retain(|line| line.cells != scored.cells);
    lines.push(hidden(secrets, scored, &path)?);
    write(dir, &lines)
}

/// Replaces the file.
///
/// # Errors
/// When it cannot be written; the old one then stays.
pub(super) fn write(dir: &Path, lines: &[Scored]) -> Result<(), RecordError> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line).expect("a line is plain data");
        bytes.push(b'\n');
    }
    Ok(write_atomic(&dir.join(FILE), &bytes)?)
}

/// The lines of the record in `dir`; none without a quality pass.
pub(super) fn read(dir: &Path) -> Result<Vec<Scored>, RecordError> {
    let path = dir.join(FILE);
    let bytes = match fs_err::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let lines = (1_u64..).zip(bytes.split(|byte| *byte == b'\n')).filter(|(_, line)| !line.is_empty());
    let parsed = lines.map(|(number, line)| {
        serde_json::from_slice(line).or_else(|error| {
            let why = error.to_string();
            unreadable(line, &contradicts(number, &why)).ok_or_else(|| {
                let message = format!("{why}; remove the line to read the rest of the record");
                RecordError::Row { path: path.clone(), line: number, message }
            })
        })
    });
    parsed.collect()
}

/// A line that cannot be read, without figures; `None` if it does not even name its cells.
fn unreadable(line: &[u8], why: &str) -> Option<Scored> {
    #[derive(Deserialize)]
    struct Named {
        cells: Vec<u32>,
    }
    let Named { cells } = serde_json::from_slice(line).ok()?;
    Some(Scored {
        cells,
        host: None,
        context: 0,
        bytes: None,
        text_hash: String::new(),
        ids: Vec::new(),
        logprobs: Vec::new(),
        top: Vec::new(),
        repeated: None,
        missing: Some(why.to_owned()),
    })
}

fn contradicts(number: u64, why: &str) -> String {
    format!("the record contradicts itself: {FILE}, line {number}: {why}")
}

/// Replaces each line that contradicts itself by the reason.
pub(super) fn check(lines: &mut [Scored], cells: usize, redacted: bool) {
    for (number, line) in (1..).zip(lines) {
        if let Err(why) = line.check(cells, redacted) {
            line.cells.retain(|id| (*id as usize) < cells);
            (line.logprobs, line.top, line.repeated) = (Vec::new(), Vec::new(), None);
            line.missing = Some(contradicts(number, &why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored() -> Scored {
        Scored {
            cells: vec![0],
            host: Some(0),
            context: 2,
            bytes: Some(9),
            text_hash: text_hash(&[1, 2], &[3, 4]),
            ids: vec![3, 4],
            logprobs: vec![-1.0, -2.0],
            top: vec![vec![(3, -1.0), (4, -1.5)], vec![(9, -0.5), (4, -2.0)]],
            repeated: None,
            missing: None,
        }
    }

    #[test]
    fn lines_read_back() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        let mute = Scored { missing: Some("mute".to_owned()), logprobs: Vec::new(), top: Vec::new(), ..scored() };
        // The second one takes the place of the first.
        for line in [&Scored { cells: vec![1], ..mute.clone() }, &scored(), &Scored { cells: vec![1], ..mute.clone() }]
        {
            append(dir.path(), line, &Secrets::default()).unwrap();
        }
        let mut lines = read(dir.path()).unwrap();
        check(&mut lines, 2, false);
        assert_eq!(lines, [scored(), Scored { cells: vec![1], ..mute }]);
    }

    #[test]
    fn a_line_that_cannot_be_read_leaves_the_others() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), &Scored { cells: vec![1], ..scored() }, &Secrets::default()).unwrap();
        let sound = fs_err::read_to_string(dir.path().join(FILE)).unwrap();
        let with = |line: &str| {
            fs_err::write(dir.path().join(FILE), format!("{line}\n{sound}")).unwrap();
            read(dir.path())
        };
        let infinite = sound.replace("[1]", "[0]").replace("}\n", ",\"repeated\":{\"tokens\":1,\"difference\":null}}");
        for (line, told) in [("{\"cells\": [0]}", "missing field"), (&infinite, "invalid type: null")] {
            let lines = with(line).unwrap();
            let why = lines[0].missing.as_deref().unwrap_or_default();
            assert!(why.contains("quality.jsonl, line 1: ") && why.contains(told), "{why}");
            assert_eq!((&lines[0].cells, &lines[1].cells, &lines[1].missing), (&vec![0], &vec![1], &None));
        }
        let error = with("{").unwrap_err().to_string();
        assert!(error.contains("quality.jsonl, line 1: ") && error.contains("remove the line"), "{error}");
    }

    #[test]
    fn as_many_likely_tokens_are_kept_as_were_asked_for() {
        let kept = |most: usize| {
            let mut one = scored();
            one.keep_top(most).map(|()| one.top.iter().map(Vec::len).collect::<Vec<_>>())
        };
        assert_eq!(kept(0), Ok(vec![]));
        assert_eq!(kept(1), Ok(vec![1, 1]));
        assert_eq!(kept(2), Ok(vec![2, 2]));
        assert!(kept(3).unwrap_err().contains("named 2 most likely tokens at token 0 where 3 were asked for"));
        // A vocabulary of two tokens has no third one.
        let mut all = Scored { top: vec![vec![(3, -0.5_f32), (4, -0.932_752_1)]; 2], ..scored() };
        assert_eq!(all.keep_top(3), Ok(()));
    }

    #[test]
    fn the_second_answer_is_checked_as_the_first() {
        let again = |logprobs: [f32; 2]| {
            let mut one = scored();
            let answer = logprobs.map(|logprob| TokenLogprob { logprob, top: Vec::new() });
            one.answered_again(&answer).map(|()| one.repeated.unwrap())
        };
        assert_eq!(again([-1.0, -2.0]), Ok(Repeated { tokens: 2, difference: 0.0 }));
        assert_eq!(again([-1.25, -2.0]), Ok(Repeated { tokens: 2, difference: 0.25 }));
        for impossible in [f32::NEG_INFINITY, f32::NAN, 5.0] {
            let why = again([-1.0, impossible]).unwrap_err();
            assert!(why.contains(&format!("token 1: {impossible} is no logarithm of a probability")), "{why}");
        }
    }

    #[test]
    fn a_line_that_contradicts_itself_has_no_figures() {
        type Change = fn(&mut Scored);
        const fn again(one: &mut Scored, tokens: u32, difference: f32) {
            one.repeated = Some(Repeated { tokens, difference });
        }
        let changes: [(Change, &str); 10] = [
            (|one| one.logprobs[0] = 0.5, "token 0: 0.5 is no logarithm"),
            (|one| one.logprobs[1] = -1.0, "token 1: `logprob` of token 4 is -1, but `top` has -2"),
            (|one| _ = one.logprobs.pop(), "top has 2 places, logprobs 1"),
            (|one| one.logprobs.clear(), "neither `logprobs` nor `missing`"),
            (|one| one.top[0][0].0 = 4, "twice"),
            (|one| one.cells.push(7), "cells has 7, which is not a cell of the plan"),
            (|one| again(one, 3, 0.0), "3 tokens were scored twice, but only 2 once"),
            (|one| again(one, 2, -0.5), "the difference of the tokens scored twice is -0.5"),
            (|one| again(one, 2, f32::INFINITY), "twice is inf"),
            (|one| again(one, 2, f32::NAN), "twice is NaN"),
        ];
        for (change, told) in changes {
            let mut lines = [scored()];
            change(&mut lines[0]);
            check(&mut lines, 1, false);
            let why = lines[0].missing.as_deref().unwrap_or_default();
            assert!(why.starts_with("the record contradicts itself: quality.jsonl, line 1: "), "{why}");
            assert!(why.contains(told), "{told}: {why}");
            assert!(lines[0].logprobs.is_empty() && lines[0].cells == [0]);
        }
        let redacted = Scored { ids: Vec::new(), top: Vec::new(), ..scored() };
        let mut lines = [redacted.clone()];
        check(&mut lines, 1, true);
        assert_eq!(lines, std::slice::from_ref(&redacted));
        check(&mut lines, 1, false);
        assert!(lines[0].missing.is_some(), "ids are missing in a record that was not redacted");
    }
}
