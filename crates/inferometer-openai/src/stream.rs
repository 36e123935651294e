//! Reads the streamed answer to one request: from events to tokens.

use std::io::Read;

use inferometer_host::protocol::FinishReason;
use inferometer_host::protocol::clock::now_ns;
use inferometer_host::{Result, TokenSink};

use crate::http::Events;
use crate::reply::{Piece, Usage};
use crate::request::Api;

/// A stream may have this many events without tokens for each token, and this many more.
const EMPTY_EVENTS: u64 = 8;

/// What one stream brought.
#[derive(Debug, Default)]
pub struct Streamed {
    pub usage: Usage,
    pub finish: Option<FinishReason>,
    /// Pieces with tokens.
    pub pieces: u32,
    pub visible: String,
    pub first_byte_ns: u64,
    pub first_visible_ns: Option<u64>,
    pub cancelled: bool,
}

impl Streamed {
    /// How many tokens were generated, if they are not one for each piece. The token that ends a
    /// text is counted by some servers and sent by none.
    pub fn several(&self) -> Option<u32> {
        let counted = self.usage.completion_tokens?;
        let ended = self.finish.is_some_and(FinishReason::is_stop);
        let single = counted == self.pieces || ended && counted == self.pieces + 1;
        (!single).then_some(counted)
    }
}

/// Hands each token to the sink as it arrives. The head of the answer was read just now.
///
/// # Errors
/// When the stream breaks, is not of the API, or sends more than was requested.
pub fn read(events: &mut Events<impl Read>, api: Api, max_tokens: u32, sink: &mut dyn TokenSink) -> Result<Streamed> {
    let mut streamed = Streamed { first_byte_ns: now_ns(), ..Streamed::default() };
    let mut empty = 0;
    while let Some(data) = events.next()? {
        let piece = Piece::of(api, &data)?;
        if piece.has_tokens() {
            match piece.ids.as_slice() {
                [] => sink.token(piece.id_of_text()),
                ids => sink.tokens(ids),
            }
            streamed.pieces += piece.ids.len().max(1) as u32;
            if streamed.first_visible_ns.is_none() && !piece.visible.is_empty() {
                streamed.first_visible_ns = Some(now_ns());
            }
            streamed.visible.push_str(&piece.visible);
            if streamed.pieces > max_tokens {
                let told = format!("sends more than the {max_tokens} tokens that were requested");
                return Err(events.failed(&told));
            }
        } else {
            empty += 1;
            if empty > EMPTY_EVENTS * (u64::from(max_tokens) + EMPTY_EVENTS) {
                return Err(events.failed("sends many events without tokens and does not end"));
            }
        }
        streamed.usage.merge(piece.usage);
        streamed.finish = piece.finish.or(streamed.finish);
        if piece.last {
            return Ok(streamed);
        }
        if sink.cancelled() {
            // The connection is closed, which ends the work of a server that looks.
            streamed.cancelled = true;
            return Ok(streamed);
        }
    }
    match streamed.finish {
        // Some servers end without `[DONE]`.
        Some(_) => Ok(streamed),
        None => Err(events.failed("ends its stream without saying why the text ends")),
    }
}

#[cfg(test)]
mod tests {
    use inferometer_host::protocol::Phase;
    use inferometer_host::{Detail, SpanKey};

    use super::*;

    #[derive(Default)]
    struct Ids(Vec<u32>);

    impl TokenSink for Ids {
        fn token(&mut self, id: u32) {
            self.0.push(id);
        }

        fn detail(&self) -> Detail {
            Detail::Timed
        }

        fn begin(&mut self, _: Phase) -> SpanKey {
            SpanKey::default()
        }

        fn end(&mut self, _: SpanKey) {}

        fn cancelled(&self) -> bool {
            self.0.last() == Some(&9)
        }
    }

    /// Gives its bytes one by one.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(&mut buffer[..1])
        }
    }

    fn of(body: &str, api: Api) -> (Result<Streamed>, Vec<u32>) {
        let (mut whole, mut by_byte) = (Ids::default(), Ids::default());
        let streamed = read(&mut Events::new("m", body.as_bytes()), api, 3, &mut whole);
        let slow = read(&mut Events::new("m", Slow(body.as_bytes())), api, 3, &mut by_byte);
        assert_eq!(whole.0, by_byte.0);
        assert_eq!(streamed.as_ref().map(|s| &s.visible).ok(), slow.as_ref().map(|s| &s.visible).ok());
        (streamed, whole.0)
    }

    #[test]
    fn a_stream_gives_ids_text_and_counts_however_its_bytes_arrive() {
        let body = concat!(
            ": ping\n\ndata: {\"choices\":[{\"text\":\"\u{e9}\",\"token_ids\":[5,6]}]}\r\n\r\n",
            "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}],\"usage\":{\"completion_tokens\":3}}\n\n",
            "data: [DONE]\n\ndata: not read\n\n",
        );
        let (streamed, ids) = of(body, Api::Completions);
        let streamed = streamed.unwrap();
        assert_eq!((streamed.visible.as_str(), ids.as_slice(), streamed.pieces), ("\u{e9}", &[5, 6][..], 2));
        assert_eq!((streamed.finish, streamed.several()), (Some(FinishReason::Stop), None));
    }

    #[test]
    fn a_stream_that_sends_too_much_or_breaks_off_is_an_error() {
        let fails = |body: &str| of(body, Api::Native).0.unwrap_err().message;
        assert!(fails("data: {\"content\":\"a\",\"tokens\":[1,2,3,4]}\n\n").contains("more than the 3 tokens"));
        assert!(fails(&"data: {}\n\n".repeat(200)).contains("events without tokens"));
        assert!(fails("data: {\"content\":\"a\",\"tokens\":[1]}\n\n").contains("without saying why"));
        assert!(fails("data: {\"error\":{\"message\":\"no memory\"}}\n\n").contains("no memory"));
    }

    #[test]
    fn a_cancelled_stream_is_not_read_on() {
        let (streamed, ids) = of("data: {\"content\":\"a\",\"tokens\":[9]}\n\ndata: [[\n\n", Api::Native);
        assert!(streamed.unwrap().cancelled && ids == [9]);
    }
}
