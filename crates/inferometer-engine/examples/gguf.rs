//! Developer's tool: what this program reads from a GGUF file, as JSON.
//!
//! usage: `gguf contents FILE` prints metadata and tensors; `scripts/check-gguf` compares them.
//! `gguf special FILE` prints the tokens with a role of their own. `gguf encode FILE` reads JSON
//! strings, one a line, and prints for each a line with its ids with and without added tokens, the
//! text of the latter, and that text token by token; `scripts/check-gguf-tokenizers` compares them.

use std::io::{BufRead, Write};
use std::path::Path;

use inferometer_engine::gguf::{Gguf, Metadata};
use inferometer_engine::text::Tokenizer;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut out = std::io::stdout().lock();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["contents", file] => serde_json::to_writer(&mut out, &contents(&Gguf::open(Path::new(file))?)?)?,
        ["special", file] => serde_json::to_writer(&mut out, &special(&Gguf::open(Path::new(file))?)?)?,
        ["encode", file] => encode(&Tokenizer::from_gguf(Gguf::open(Path::new(file))?.metadata())?, &mut out)?,
        _ => anyhow::bail!("usage: gguf contents|special|encode FILE"),
    }
    Ok(())
}

fn contents(model: &Gguf) -> anyhow::Result<Value> {
    let start = std::time::Instant::now();
    let again = Gguf::open(model.path())?;
    let opened_ms = start.elapsed().as_secs_f64() * 1e3;
    let keys = again.metadata().keys();
    let metadata: serde_json::Map<_, _> = keys.map(|key| (key.to_owned(), value(model.metadata(), key))).collect();
    let mut tensors = serde_json::Map::new();
    for info in model.tensors() {
        let hash = Sha256::digest(model.tensor(&info.name)?.bytes);
        let about = json!({"shape": info.shape, "kind": info.kind.to_string(), "sha256": format!("{hash:x}")});
        model.forget(&info.name, 0..info.length);
        tensors.insert(info.name.clone(), about);
    }
    Ok(json!({"metadata": metadata, "tensors": tensors, "opened_ms": opened_ms}))
}

fn value(metadata: &Metadata, key: &str) -> Value {
    let length = metadata.length(key).unwrap_or(0);
    if let Ok(Some(text)) = metadata.text(key) {
        json!(text)
    } else if let Ok(Some(number)) = metadata.integer(key) {
        json!(number)
    } else if let Ok(Some(number)) = metadata.float(key) {
        json!(number)
    } else if let Ok(Some(flag)) = metadata.flag(key) {
        json!(flag)
    } else if let Ok(Some(texts)) = metadata.texts(key) {
        texts.iter().collect()
    } else if let Ok(Some(numbers)) = metadata.integers(key) {
        numbers.map(|number| json!(number)).collect()
    } else if let Ok(Some(numbers)) = metadata.floats(key) {
        numbers.map(|number| json!(number)).collect()
    } else {
        metadata.flags_by_layer(key, length).ok().flatten().into_iter().flatten().collect()
    }
}

fn special(model: &Gguf) -> anyhow::Result<Value> {
    let tokenizer = Tokenizer::from_gguf(model.metadata())?;
    let special = tokenizer.special_tokens().expect("the tokenizer is that of a GGUF file");
    Ok(json!({
        "bos": special.begin, "eos": special.end, "eot": special.end_of_turn, "eom": special.end_of_message,
        "unk": special.unknown, "pad": special.padding, "add_bos": special.adds_begin, "add_eos": special.adds_end,
        "stop": special.stop,
    }))
}

fn encode(tokenizer: &Tokenizer, out: &mut impl Write) -> anyhow::Result<()> {
    for line in std::io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        let plain = tokenizer.encode(&text, false)?;
        let mut stream = tokenizer.stream();
        let mut streamed = String::new();
        for id in &plain {
            streamed.extend(stream.push(*id)?);
        }
        let decoded = tokenizer.decode(&plain)?;
        writeln!(out, "{}", json!([tokenizer.encode(&text, true)?, plain, decoded, streamed]))?;
    }
    Ok(())
}
