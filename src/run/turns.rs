//! The requests of one iteration in order: a single one, or a conversation's turns.

use crate::spec::{ConversationWorkload, Replies, Workload};
use inferometer_protocol::{Chat, Message, Prompt};

/// Generates the requests of one iteration. In a conversation each prompt holds the whole history.
pub struct Turns<'a> {
    work: &'a Workload,
    /// The prompt of the first request.
    prompt: &'a Prompt,
    /// Remaining turns.
    ahead: std::vec::IntoIter<usize>,
    history: Vec<Message>,
    /// Number of turns whose replies are in the history.
    said: usize,
    /// The last generated text.
    reply: String,
}

impl<'a> Turns<'a> {
    /// The turns of an iteration or of a warm-up; `prompt` is that of the first request.
    #[must_use]
    pub fn new(work: &'a Workload, prompt: &'a Prompt, warmup: bool) -> Self {
        let ahead = if warmup { work.warmup_turns() } else { (0..work.turns()).collect() };
        let history = match work {
            Workload::Conversation(work) => opening(work),
            Workload::Prompt(_) => Vec::new(),
        };
        Self { work, prompt, ahead: ahead.into_iter(), history, said: 0, reply: String::new() }
    }

    /// The next turn's number and prompt.
    pub fn next(&mut self) -> Option<(usize, Prompt)> {
        let turn = self.ahead.next()?;
        let Workload::Conversation(work) = self.work else { return Some((turn, self.prompt.clone())) };
        for earlier in &work.turns[self.said..turn] {
            let reply = match work.replies {
                Replies::Fixed => earlier.reply.clone().unwrap_or_default(),
                // A warm-up skips turns; its generated text replaces their replies too.
                Replies::Generated => self.reply.clone(),
            };
            self.history.extend([message("user", &earlier.user), message("assistant", &reply)]);
        }
        self.said = turn;
        let mut messages = self.history.clone();
        messages.push(message("user", &work.turns[turn].user));
        Some((turn, chat(work, messages)))
    }

    /// Records the generated text of a turn.
    ///
    /// # Errors
    /// When a later turn needs the text and there is none.
    pub fn answered(&mut self, text: Option<&str>) -> Result<(), String> {
        let Workload::Conversation(work) = self.work else { return Ok(()) };
        if work.replies == Replies::Fixed || self.ahead.as_slice().is_empty() {
            return Ok(());
        }
        self.reply = text.map(str::to_owned).ok_or(
            "the engine returns no text of its output, which the history of the next turn needs: use \
             `replies = \"fixed\"`",
        )?;
        Ok(())
    }
}

/// The prompt of a conversation's first turn.
#[must_use]
pub fn first_prompt(work: &ConversationWorkload) -> Prompt {
    let mut messages = opening(work);
    messages.extend(work.turns.first().map(|turn| message("user", &turn.user)));
    chat(work, messages)
}

fn chat(work: &ConversationWorkload, messages: Vec<Message>) -> Prompt {
    let (tools, template_arguments) = (work.tools.clone(), work.template_arguments.clone());
    Prompt::Messages(Chat { messages, tools, template_arguments })
}

fn opening(work: &ConversationWorkload) -> Vec<Message> {
    work.system.iter().map(|text| message("system", text)).collect()
}

fn message(role: &str, content: &str) -> Message {
    Message::new(role, content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Turn;

    fn conversation(replies: Replies) -> Workload {
        let turn = |n: u32| Turn { user: format!("u{n}"), reply: (n < 3).then(|| format!("r{n}")) };
        Workload::Conversation(ConversationWorkload {
            system: Some("s".to_owned()),
            system_file: None,
            turns: (0..4).map(turn).collect(),
            turns_file: None,
            tools: None,
            template_arguments: Default::default(),
            replies,
            max_tokens: 4,
            ignore_eos: true,
        })
    }

    /// Each turn's number and abbreviated messages; turn `n` generates `gn`.
    fn said(work: &Workload, warmup: bool) -> Vec<(usize, String)> {
        let Workload::Conversation(inner) = work else { panic!("a conversation") };
        let prompt = first_prompt(inner);
        let mut turns = Turns::new(work, &prompt, warmup);
        let mut all = Vec::new();
        while let Some((turn, next)) = turns.next() {
            let Prompt::Messages(chat) = &next else { panic!("messages") };
            assert!(turn > 0 || next == prompt);
            let short: Vec<String> = chat.messages.iter().map(|m| format!("{}{}", &m.role()[..1], m.text())).collect();
            all.push((turn, short.join(" ")));
            turns.answered(Some(&format!("g{turn}"))).unwrap();
        }
        all
    }

    #[test]
    fn each_turn_has_all_that_was_said_before() {
        let fixed = said(&conversation(Replies::Fixed), false);
        assert_eq!(fixed.len(), 4);
        assert_eq!(fixed[0], (0, "ss uu0".to_owned()));
        assert_eq!(fixed[2], (2, "ss uu0 ar0 uu1 ar1 uu2".to_owned()));
        let generated = said(&conversation(Replies::Generated), false);
        assert_eq!(generated[2], (2, "ss uu0 ag0 uu1 ag1 uu2".to_owned()));
    }

    #[test]
    fn a_warm_up_runs_the_first_turn_and_the_whole_history() {
        let fixed = said(&conversation(Replies::Fixed), true);
        assert_eq!(fixed, [(0, "ss uu0".to_owned()), (3, "ss uu0 ar0 uu1 ar1 uu2 ar2 uu3".to_owned())]);
        assert_eq!(said(&conversation(Replies::Generated), true)[1].1, "ss uu0 ag0 uu1 ag0 uu2 ag0 uu3");
    }

    #[test]
    fn a_reply_without_a_text_ends_the_conversation_only_where_it_is_needed() {
        for (replies, fails) in [(Replies::Generated, true), (Replies::Fixed, false)] {
            let work = conversation(replies);
            let prompt = Prompt::Messages(Chat::default());
            let mut turns = Turns::new(&work, &prompt, false);
            turns.next();
            assert_eq!(turns.answered(None).is_err(), fails);
            while turns.next().is_some() {}
            assert_eq!(turns.answered(None), Ok(()), "nothing comes after the last");
        }
    }
}
