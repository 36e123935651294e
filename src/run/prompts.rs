//! The prompt of each cell, made once before the measurement.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::RunError;
use super::quality::FixedText;
use super::turns::first_prompt;
use crate::engines;
use crate::engines::{TextError, Tokenizer};
use crate::spec::{Cell, ConversationWorkload, PromptWorkload, Scenario, Workload};
use inferometer_host::simulated;
use inferometer_protocol::{Capabilities, Chat, EngineSpec, Message, ModelSpec, Prompt};

/// Key of the quality text among the hashes of prompts.
pub const QUALITY: &str = "quality";

/// What a run sends.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompts {
    /// By their exact length; `None` is the text as given, or a conversation.
    made: BTreeMap<Option<u32>, Made>,
    /// The text of the quality pass, if there is one.
    pub quality: Option<FixedText>,
    /// What the model's chat template leaves out of the chat, a sentence each.
    pub warnings: Vec<String>,
}

/// A prompt and the SHA-256 in hex of a cell's whole input.
#[derive(Debug, Clone, PartialEq)]
struct Made {
    prompt: Prompt,
    /// The text of a prompt of token ids, for engines that take no ids.
    text: Option<Prompt>,
    /// Tokens of a text by the model's tokenizer, one special token more or less; of a text that
    /// the engine fits, exactly so many.
    counted: Option<RangeInclusive<u32>>,
    /// How many tokens the engine has to give the text.
    fit: Option<u32>,
    sha256: String,
}

impl Prompts {
    /// Makes the prompt of every cell; for a conversation, that of its first turn. Prompts of an
    /// exact length are counted with the model's tokenizer and sent as ids. A text without a length
    /// is sent as text, so that the engine tokenizes it and that time is measured.
    ///
    /// # Errors
    /// When a length or a quality text is given and the folder has no usable tokenizer, or a text
    /// has no tokens or too few.
    pub fn make(scenario: &Scenario, cells: &[Cell], model: &Path) -> Result<Self, RunError> {
        let quality = scenario.quality.as_ref().map(|quality| FixedText::of(quality, model)).transpose()?;
        let made = match &scenario.workload {
            Workload::Prompt(workload) if scenario.model == ModelSpec::Served => of_served(workload, cells),
            Workload::Prompt(workload) => {
                let may_need_text = |spec: &EngineSpec| !engines::is_own(&spec.name) && spec.name != simulated::NAME;
                of_text(workload, cells, model, scenario.engines.iter().any(may_need_text))?
            }
            Workload::Conversation(workload) => {
                let sha256 = sha256_of_conversation(workload);
                let made = Made { prompt: first_prompt(workload), text: None, counted: None, fit: None, sha256 };
                BTreeMap::from([(None, made)])
            }
        };
        let warnings = left_out(scenario, made.values().map(|made| &made.prompt), model);
        Ok(Self { made, quality, warnings })
    }

    /// SHA-256 in hex of each cell's prompt, by cell id, and under `quality` the hash of that
    /// text's ids: a resumed run must send the same prompts.
    #[must_use]
    pub fn hashes(&self, cells: &[Cell]) -> BTreeMap<String, String> {
        let of = |cell: &Cell| Some((cell.id.to_string(), self.made.get(&cell.length)?.sha256.clone()));
        let quality = self.quality.as_ref().map(|text| (QUALITY.to_owned(), text.hash()));
        cells.iter().filter_map(of).chain(quality).collect()
    }

    /// How many tokens an engine may count in the prompt of a cell, if that is known.
    #[must_use]
    pub fn counted(&self, cell: &Cell) -> Option<RangeInclusive<u32>> {
        self.made.get(&cell.length)?.counted.clone()
    }

    /// How many tokens the engine has to give the text of a cell, because the harness has not the
    /// model's tokenizer.
    #[must_use]
    pub fn fit(&self, cell: &Cell) -> Option<u32> {
        self.made.get(&cell.length)?.fit
    }

    /// The prompt of a cell of the plan; for a conversation, that of its first turn. An engine that
    /// takes no token ids gets their text.
    #[must_use]
    pub fn of(&self, cell: &Cell, can: &Capabilities) -> &Prompt {
        let made = self.made.get(&cell.length).expect("a prompt was made for every cell of the plan");
        made.text.as_ref().filter(|_| !can.tokens && can.text).unwrap_or(&made.prompt)
    }
}

/// Engines of this program render a chat with the model's template, which may leave a part out. The
/// prompt then lacks what the scenario seems to send.
fn left_out<'a>(scenario: &Scenario, mut prompts: impl Iterator<Item = &'a Prompt>, model: &Path) -> Vec<String> {
    if !scenario.engines.iter().any(|spec| engines::is_own(&spec.name)) {
        return Vec::new();
    }
    let chat = prompts.find_map(|prompt| match prompt {
        Prompt::Messages(chat) => Some(chat),
        Prompt::Text(_) | Prompt::Tokens(_) => None,
    });
    let ignored = chat.map(|chat| engines::ignored_by_template(model, chat)).unwrap_or_default();
    let told = |name| format!("the chat template of this model ignores `{name}`: the prompt is the same without it");
    ignored.into_iter().map(told).collect()
}

/// The text or the chat of a workload.
fn as_given(workload: &PromptWorkload) -> Prompt {
    match &workload.messages {
        Some(chat) => Prompt::Messages(chat.clone()),
        None if workload.chat => Prompt::Messages(Chat::of(vec![Message::new("user", &workload.text)])),
        None => Prompt::Text(workload.text.clone()),
    }
}

/// Prompts for a server whose model is not on this machine: it cuts them to their lengths itself.
fn of_served(workload: &PromptWorkload, cells: &[Cell]) -> BTreeMap<Option<u32>, Made> {
    let made = |length: Option<u32>| {
        let prompt = length.map_or_else(|| as_given(workload), |_| Prompt::Text(workload.text.clone()));
        let sha256 = match length {
            // As the engine is asked for it.
            Some(length) => hex(format!("{length} tokens of {}", workload.text).as_bytes()),
            None => sha256(&prompt),
        };
        Made { prompt, text: None, counted: length.map(|length| length..=length), fit: length, sha256 }
    };
    cells.iter().map(|cell| (cell.length, made(cell.length))).collect()
}

fn of_text(
    workload: &PromptWorkload,
    cells: &[Cell],
    model: &Path,
    as_text: bool,
) -> Result<BTreeMap<Option<u32>, Made>, TextError> {
    let mut prompts = BTreeMap::new();
    let mut tokenizer = None;
    for cell in cells {
        if prompts.contains_key(&cell.length) {
            continue;
        }
        let prompt = match cell.length {
            Some(length) => {
                let tokenizer = match &tokenizer {
                    Some(known) => known,
                    None => tokenizer.insert(Tokenizer::from_model(model)?),
                };
                Prompt::Tokens(tokenizer.exact(&workload.text, length)?)
            }
            None => as_given(workload),
        };
        let text = match (&prompt, &tokenizer) {
            (Prompt::Tokens(ids), Some(tokenizer)) if as_text => Some(Prompt::Text(text_of(tokenizer, ids)?)),
            _ => None,
        };
        let counted = counted(text.as_ref().unwrap_or(&prompt), model);
        prompts.insert(cell.length, Made { sha256: sha256(&prompt), counted, fit: None, prompt, text });
    }
    Ok(prompts)
}

/// A text that has these tokens, or nearly: an engine that tokenizes it adds a special token in
/// front by itself, and a cut may fall into a character.
fn text_of(tokenizer: &Tokenizer, ids: &[u32]) -> Result<String, TextError> {
    for part in [ids, &ids[1.min(ids.len())..]] {
        let text = tokenizer.decode(part)?;
        if tokenizer.encode(&text, true)?.len() == ids.len() {
            return Ok(text);
        }
    }
    tokenizer.decode(ids)
}

/// The range from one token less than the tokenizer makes of a text to one more than it makes with
/// special tokens: engines differ in the one that begins a text. `None` without a usable tokenizer.
pub(super) fn counted(prompt: &Prompt, model: &Path) -> Option<RangeInclusive<u32>> {
    let Prompt::Text(text) = prompt else { return None };
    let tokenizer = Tokenizer::from_model(model).ok()?;
    let count = |special| u32::try_from(tokenizer.encode(text, special).ok()?.len()).ok();
    let (bare, special) = (count(false)?, count(true)?);
    Some(bare.min(special).saturating_sub(1)..=bare.max(special).saturating_add(1))
}

/// Over ids as little-endian 32-bit numbers, text in UTF-8, or messages as JSON.
fn sha256(prompt: &Prompt) -> String {
    let bytes = match prompt {
        Prompt::Tokens(ids) => ids.iter().flat_map(|id| id.to_le_bytes()).collect(),
        Prompt::Text(text) => text.clone().into_bytes(),
        Prompt::Messages(chat) if chat.is_plain() => serde_json::to_vec(&chat.messages).expect("messages are JSON"),
        Prompt::Messages(chat) => serde_json::to_vec(chat).expect("a chat is JSON"),
    };
    hex(&bytes)
}

/// Over the system message and the turns as JSON, and over tools and template arguments if there
/// are any.
fn sha256_of_conversation(work: &ConversationWorkload) -> String {
    let said = (&work.system, &work.turns);
    let plain = work.tools.is_none() && work.template_arguments.is_empty();
    let bytes = match plain {
        true => serde_json::to_vec(&said),
        false => serde_json::to_vec(&(said, &work.tools, &work.template_arguments)),
    };
    hex(&bytes.expect("a conversation is JSON"))
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `hashlib.sha256(struct.pack('<3I', 1, 2, 70000)).hexdigest()` and
    /// `hashlib.sha256(b'abc').hexdigest()`
    #[test]
    fn a_prompt_is_known_by_its_hash() {
        let ids = sha256(&Prompt::Tokens(vec![1, 2, 70000]));
        assert!(ids.starts_with("313a9de55e88265f"), "{ids}");
        let text = sha256(&Prompt::Text("abc".to_owned()));
        assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn everything_that_changes_a_prompt_changes_its_hash() {
        let of = |json: serde_json::Value| sha256(&serde_json::from_value::<Prompt>(json).unwrap());
        let plain = serde_json::json!([{"role": "user", "content": "hi"}]);
        // As in records from before there were tools.
        assert_eq!(of(serde_json::json!({"messages": plain})), hex(plain.to_string().as_bytes()));
        let hashes: std::collections::BTreeSet<String> = [
            serde_json::json!({"messages": plain}),
            serde_json::json!({"messages": plain, "tools": []}),
            serde_json::json!({"messages": plain, "template_arguments": {"enable_thinking": true}}),
            serde_json::json!({"messages": plain, "template_arguments": {"enable_thinking": false}}),
            serde_json::json!({"messages": [{"role": "user", "content": "hi", "name": "x"}]}),
        ]
        .map(of)
        .into();
        assert_eq!(hashes.len(), 5);
    }
}
