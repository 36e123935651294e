//! The quality pass: the perplexity of a fixed text in each cell.

use serde::{Deserialize, Serialize};

use crate::compare::quality;
use crate::compare::quality::Perplexity;
use crate::record::Record;
use crate::record::quality::Scored;
use crate::spec::QualitySettings;

/// The text that was scored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QualityText {
    /// As the scenario names it; absent if the text stands in the scenario itself.
    pub text_file: Option<String>,
    /// Tokens before the scored ones.
    pub context: u32,
    /// Scored tokens.
    pub tokens: u32,
}

/// What the pass found in a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellQuality {
    pub perplexity: Option<Perplexity>,
    /// Why there is none.
    pub missing: Option<String>,
}

impl CellQuality {
    #[must_use]
    pub fn of(scored: &Scored) -> Self {
        Self { perplexity: quality::perplexity(scored), missing: scored.missing.clone() }
    }
}

impl QualityText {
    #[must_use]
    pub fn of(pass: &QualitySettings) -> Self {
        Self { text_file: pass.text_file.clone(), context: pass.context, tokens: pass.tokens }
    }
}

/// What the pass found in a cell; `None` if it did not come to it.
#[must_use]
pub fn of_cell(record: &Record, cell: u32) -> Option<CellQuality> {
    record.quality.iter().find(|scored| scored.cells.contains(&cell)).map(CellQuality::of)
}
