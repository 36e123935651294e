//! Text in and out of tokens: tokenizer and chat template.
