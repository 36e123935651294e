//! Models split into several files by `llama-gguf-split`.
//!
//! Each part says its number (`split.no`, from 0) and how many there are (`split.count`), and is
//! called `NAME-00001-of-00003.gguf`. The first has the metadata; each has its own tensors.

use std::path::{Path, PathBuf};

use inferometer_host::Result;

use super::header::Header;
use super::{Metadata, Part, wrong};

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// The place of one file among the parts of its model.
#[derive(Debug)]
pub(super) struct Split {
    number: u64,
    count: u64,
    folder: PathBuf,
    /// The names' common beginning.
    stem: String,
}

/// The place of the file at `path`; `None`: the model is one file.
///
/// # Errors
/// When number, count and name of the file contradict each other.
pub(super) fn of(path: &Path, metadata: &Metadata) -> Result<Option<Split>> {
    let count = metadata.count(COUNT)?.unwrap_or(1);
    if count <= 1 {
        return Ok(None);
    }
    let number = metadata.count(NUMBER)?.ok_or_else(|| metadata.missing(NUMBER))?;
    if number >= count {
        return Err(metadata.wrong(NUMBER, format!("is {number}, but {COUNT} is {count}; parts count from 0")));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let ending = ending(number, count);
    let Some(stem) = name.strip_suffix(&ending) else {
        return Err(wrong(
            path,
            format!("is part {} of {count}, but its name does not end in {ending}; give it its first name", number + 1),
        ));
    };
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Some(Split { number, count, folder, stem: stem.to_owned() }))
}

fn ending(number: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", number + 1)
}

impl Split {
    /// Opens the other parts; `part` and `header` are this one. Returns all in order.
    pub fn open_others(&self, part: Part, header: Header) -> Result<Vec<(Part, Header)>> {
        let mut this = Some((part, header));
        let mut parts = Vec::new();
        for number in 0..self.count {
            let (part, header) = match this.take_if(|_| number == self.number) {
                Some(this) => this,
                None => self.open(number)?,
            };
            parts.push((part, header));
        }
        let found: usize = parts.iter().map(|(_, header)| header.tensors.len()).sum();
        let first = &parts[0].1.metadata;
        match first.count(TENSORS)? {
            Some(said) if said != found as u64 => {
                Err(first.wrong(TENSORS, format!("is {said}, but the {} files have {found} tensors", self.count)))
            }
            _ => Ok(parts),
        }
    }

    fn open(&self, number: u64) -> Result<(Part, Header)> {
        let path = self.folder.join(format!("{}{}", self.stem, ending(number, self.count)));
        if !path.is_file() {
            let problem = format!("part {} of {} is missing; all parts must be in one folder", number + 1, self.count);
            return Err(wrong(&path, problem));
        }
        let (part, header) = Part::open(&path)?;
        let said = (header.metadata.count(NUMBER)?, header.metadata.count(COUNT)?);
        if said != (Some(number), Some(self.count)) {
            let shown = |value: Option<u64>| value.map_or_else(|| "absent".to_owned(), |value| value.to_string());
            let problem = format!(
                "{NUMBER} is {} and {COUNT} is {}, but by its name it is part {} of {}",
                shown(said.0),
                shown(said.1),
                number + 1,
                self.count
            );
            return Err(wrong(&path, problem));
        }
        Ok((part, header))
    }
}
