//! The prompt of each cell, made once before anything is measured.

use std::collections::BTreeMap;
use std::path::Path;

use crate::spec::{Cell, Message, Prompt, PromptWorkload};
use crate::text::{TextError, Tokenizer};

/// Prompts by their exact length; `None` is the text as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompts(BTreeMap<Option<u32>, Prompt>);

impl Prompts {
    /// Makes the prompt of every cell. Exact lengths are counted by the model's own tokenizer and sent as ids; a text
    /// without a length is sent as it is, so that the engine tokenizes it and its time is measured.
    ///
    /// # Errors
    /// When a length is wanted and the folder has no usable tokenizer, or the text has no tokens.
    pub fn make(workload: &PromptWorkload, cells: &[Cell], model: &Path) -> Result<Self, TextError> {
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
                        None => tokenizer.insert(Tokenizer::from_folder(model)?),
                    };
                    Prompt::Tokens(tokenizer.exact(&workload.text, length)?)
                }
                None if workload.chat => {
                    Prompt::Messages(vec![Message { role: "user".to_owned(), content: workload.text.clone() }])
                }
                None => Prompt::Text(workload.text.clone()),
            };
            prompts.insert(cell.length, prompt);
        }
        Ok(Self(prompts))
    }

    /// The prompt of a cell of the plan they were made for.
    #[must_use]
    pub fn of(&self, cell: &Cell) -> &Prompt {
        self.0.get(&cell.length).expect("a prompt was made for every cell of the plan")
    }
}
