//! Gives a text an exact number of tokens with a tokenizer that can only be asked to count.

use inferometer_host::Result;
use inferometer_host::protocol::EngineError;

/// Most counts for one text: each may cost a server a request.
const MOST_COUNTS: u32 = 64;
/// Characters of the text that are left out in front, one after the other, if no cut of it fits.
const STARTS: usize = 4;
/// A tokenizer may make one token of many characters, such as spaces, but of no more than these on
/// average.
const MOST_CHARS: usize = 64;

/// A text of `tokens` tokens, cut from `text` or its repetition.
///
/// # Errors
/// When `count` fails, or no cut has exactly so many tokens.
pub fn fit(text: &str, tokens: u32, count: &mut dyn FnMut(&str) -> Result<u32>) -> Result<String> {
    let chars: Vec<char> = text.chars().collect();
    if chars.is_empty() {
        return Err(EngineError::bad_request("an empty text cannot be given a number of tokens"));
    }
    let mut left = MOST_COUNTS;
    for start in 0..STARTS.min(chars.len()) {
        let cut = |length: usize| -> String { chars.iter().cycle().skip(start).take(length).collect() };
        if let Some(found) = search(tokens, &cut, count, &mut left)? {
            return Ok(found);
        }
    }
    let told = format!("no part of the text has exactly {tokens} tokens in this server's count; choose another length");
    Err(EngineError::unsupported(told))
}

/// Narrows the length down between one with fewer tokens and one with more.
fn search(
    tokens: u32,
    cut: &dyn Fn(usize) -> String,
    count: &mut dyn FnMut(&str) -> Result<u32>,
    left: &mut u32,
) -> Result<Option<String>> {
    let most = MOST_CHARS * (tokens as usize + 1);
    // Lengths that are known to have too few and too many tokens, and how many.
    let (mut few, mut many) = ((0, 0), None::<(usize, u32)>);
    let mut guess = 4 * tokens as usize;
    while *left > 0 {
        *left -= 1;
        let text = cut(guess);
        let found = count(&text)?;
        match found.cmp(&tokens) {
            std::cmp::Ordering::Equal => return Ok(Some(text)),
            std::cmp::Ordering::Less if guess >= most => return Ok(None),
            std::cmp::Ordering::Less => few = (guess, found),
            std::cmp::Ordering::Greater => many = Some((guess, found)),
        }
        guess = match many {
            None => (guess * tokens as usize / found.max(1) as usize).clamp(guess + 1, 2 * guess + 1).min(most),
            Some((end, _)) if end - few.0 <= 1 => return Ok(None),
            // Between the two, in proportion.
            Some((end, at_end)) => {
                let share = f64::from(tokens - few.1) / f64::from(at_end - few.1);
                few.0 + ((((end - few.0) as f64) * share).round() as usize).clamp(1, end - few.0 - 1)
            }
        };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token for each word or part of five characters, and one at the beginning.
    fn words(text: &str) -> u32 {
        1 + text.split(' ').map(|word| word.chars().count().div_ceil(5).max(1) as u32).sum::<u32>()
    }

    #[test]
    fn a_text_gets_exactly_the_tokens() {
        let text = "The quick brown fox jumps over the lazy dog \u{e9}\u{1f600} again and again. ";
        for tokens in [2, 3, 5, 16, 17, 100, 511, 512, 8192] {
            let mut asked = 0;
            let mut count = |text: &str| {
                asked += 1;
                Ok(words(text))
            };
            let found = fit(text, tokens, &mut count).unwrap();
            assert_eq!(words(&found), tokens);
            assert!(asked <= 24, "{asked} counts for {tokens} tokens");
        }
    }

    #[test]
    fn a_length_that_no_text_has_is_an_error() {
        let even = |text: &str| Ok(2 * text.chars().count().div_ceil(4) as u32);
        assert_eq!(fit("a fox", 6, &mut { even }).unwrap().chars().count().div_ceil(4), 3);
        let told = fit("a fox", 7, &mut { even }).unwrap_err().message;
        assert!(told.contains("exactly 7 tokens"), "{told}");
        let none = |_: &str| Ok(1);
        assert!(fit("a fox", 7, &mut { none }).is_err(), "a server that always counts one");
        assert!(fit("", 7, &mut { even }).is_err());
    }
}
