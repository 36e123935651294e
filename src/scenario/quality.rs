//! `[quality]`: the text on which the engine's probabilities are compared.

use std::path::Path;

use super::cursor::Table;
use super::workload::given_text;
use crate::spec::QualitySettings;

/// `None` if the scenario has no such table.
pub fn settings(table: &Table<'_>, base: &Path) -> Option<QualitySettings> {
    table.span?;
    let (text, text_file) = given_text(table, "the quality text", base);
    Some(QualitySettings { text, text_file, context: table.count32("context"), tokens: table.count32("tokens") })
}
