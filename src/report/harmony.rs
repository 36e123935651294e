//! Output of models that write in the Harmony format (GPT-OSS): messages on channels.
//!
//! The format: <https://github.com/openai/harmony/blob/main/docs/format.md>. A generation continues
//! `<|start|>assistant`, so its first message may begin with its channel.

/// What a part of the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Message,
    /// A header without a message: the output was cut inside of it.
    Unfinished,
    /// All that follows [`MOST_PARTS`] messages.
    More,
}

/// One message of the output, or what is left at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part<'a> {
    pub kind: Kind,
    /// `analysis`, `commentary` or `final`; empty where the model names none.
    pub channel: &'a str,
    /// Who the message is to, such as `functions.get_weather`: a tool that the model calls.
    pub recipient: Option<&'a str>,
    /// The type that the content is constrained to, such as `json`.
    pub constrained: Option<&'a str>,
    pub content: &'a str,
}

const MESSAGE: &str = "<|message|>";
const CHANNEL: &str = "<|channel|>";
const START: &str = "<|start|>";
const CONSTRAIN: &str = "<|constrain|>";
const ENDS: [&str; 3] = ["<|end|>", "<|call|>", "<|return|>"];

/// Messages that are taken apart. Each one searches the rest of the text.
pub const MOST_PARTS: usize = 20;

/// The first messages of an output, the last of which may be unfinished, and what follows them;
/// `None` for a text of another format.
#[must_use]
pub fn parts(text: &str) -> Option<Vec<Part<'_>>> {
    if !text.starts_with(CHANNEL) && !text.starts_with(START) && !text.starts_with(" to=") {
        return None;
    }
    let mut all = Vec::new();
    let mut rest = text;
    while let Some((header, after)) = rest.split_once(MESSAGE) {
        if all.len() == MOST_PARTS {
            break;
        }
        let end = ENDS.iter().filter_map(|end| Some((after.find(end)?, end.len()))).min();
        let (at, width) = end.unwrap_or((after.len(), 0));
        all.push(part(header, &after[..at]));
        rest = &after[at + width..];
    }
    if all.is_empty() {
        return None;
    }
    if !rest.trim().is_empty() {
        let begins = |marker: &&str| rest.trim_start().starts_with(*marker);
        let kind = match [START, CHANNEL].iter().any(begins) {
            _ if rest.contains(MESSAGE) => Kind::More,
            true => Kind::Unfinished,
            // Text without a header.
            false => Kind::Message,
        };
        all.push(Part { kind, channel: "", recipient: None, constrained: None, content: rest });
    }
    Some(all)
}

/// A message with the header `{role} to={recipient}<|channel|>{channel} <|constrain|>{type}`, in
/// which the recipient may also follow the channel.
fn part<'a>(header: &'a str, content: &'a str) -> Part<'a> {
    let (header, constrained) = match header.split_once(CONSTRAIN) {
        Some((header, constrained)) => (header, Some(constrained.trim())),
        None => (header, None),
    };
    let (role, channel) = header.split_once(CHANNEL).unwrap_or((header, ""));
    let words = || role.split_whitespace().chain(channel.split_whitespace());
    Part {
        kind: Kind::Message,
        channel: channel.split_whitespace().find(|word| !word.starts_with("to=")).unwrap_or_default(),
        recipient: words().find_map(|word| word.strip_prefix("to=")),
        constrained,
        content,
    }
}

impl Part<'_> {
    /// What stands above the content: `analysis`, `commentary to functions.get_weather (json)`.
    #[must_use]
    pub fn title(&self) -> String {
        match self.kind {
            Kind::Message => {}
            Kind::Unfinished => return "unfinished".to_owned(),
            Kind::More => return "more messages".to_owned(),
        }
        let channel = if self.channel.is_empty() { "no channel" } else { self.channel };
        let recipient = self.recipient.map_or_else(String::new, |to| format!(" to {to}"));
        let constrained = self.constrained.map_or_else(String::new, |of| format!(" ({of})"));
        format!("{channel}{recipient}{constrained}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titled(text: &str) -> Vec<(String, &str)> {
        parts(text).unwrap().iter().map(|part| (part.title(), part.content)).collect()
    }

    /// The examples of the page that describes the format.
    #[test]
    fn the_published_examples_come_apart() {
        let answer = "<|channel|>analysis<|message|>User asks: \"What is 2 + 2?\" Simple arithmetic. Provide answer.<|end|>\n\
                      <|start|>assistant<|channel|>final<|message|>2 + 2 = 4.<|return|>";
        assert_eq!(
            titled(answer),
            [
                ("analysis".to_owned(), "User asks: \"What is 2 + 2?\" Simple arithmetic. Provide answer."),
                ("final".to_owned(), "2 + 2 = 4."),
            ]
        );
        let call = "<|channel|>analysis<|message|>Need to use function get_weather.<|end|><|start|>assistant<|channel|>commentary \
                    to=functions.get_weather <|constrain|>json<|message|>{\"location\":\"San Francisco\"}<|call|>";
        assert_eq!(
            titled(call)[1],
            ("commentary to functions.get_weather (json)".to_owned(), "{\"location\":\"San Francisco\"}")
        );
        let preamble = "<|channel|>commentary<|message|>**Action plan**:\n1. Generate an HTML file<|end|><|start|>assistant<|channel|>\
                        commentary to=functions.generate_file<|constrain|>json<|message|>{\"template\": \"basic_html\"}<|call|>";
        assert_eq!(
            titled(preamble),
            [
                ("commentary".to_owned(), "**Action plan**:\n1. Generate an HTML file"),
                ("commentary to functions.generate_file (json)".to_owned(), "{\"template\": \"basic_html\"}"),
            ]
        );
    }

    #[test]
    fn the_recipient_may_stand_in_the_role_and_the_end_may_be_missing() {
        let text = " to=functions.f<|channel|>commentary json<|message|>{";
        let found = parts(text).unwrap();
        assert_eq!((found[0].recipient, found[0].channel, found[0].content), (Some("functions.f"), "commentary", "{"));
        let more = parts("<|channel|>final<|message|>A<|end|> and more").unwrap();
        assert_eq!((more.len(), more[1].title().as_str(), more[1].content), (2, "no channel", " and more"));
        assert_eq!(parts("<|channel|>analysis"), None, "no message has begun");
        assert_eq!(parts("The channel <|channel|> is a token."), None, "another model");
    }

    #[test]
    fn an_output_may_be_cut_inside_a_header() {
        for header in ["<|start|>", "<|start|>assistant<|channel|>final", "\n<|channel|>"] {
            let text = format!("<|channel|>analysis<|message|>A<|end|>{header}");
            let wanted = [("analysis".to_owned(), "A"), ("unfinished".to_owned(), header)];
            assert_eq!(titled(&text), wanted);
        }
    }

    #[test]
    fn only_the_first_messages_are_taken_apart() {
        let text = |messages: usize| "<|start|>assistant<|channel|>final<|message|>A<|end|>".repeat(messages);
        assert_eq!(titled(&text(MOST_PARTS)), vec![("final".to_owned(), "A"); MOST_PARTS]);
        let long = text(20_000);
        let found = titled(&long);
        assert_eq!(found.len(), MOST_PARTS + 1);
        assert_eq!(found[MOST_PARTS], ("more messages".to_owned(), text(20_000 - MOST_PARTS).as_str()));
    }
}
