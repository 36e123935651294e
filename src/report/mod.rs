//! Reports: pure functions of the record. Same record, same bytes.

pub mod export;
pub mod markdown;
pub mod summary;
pub mod table;
pub mod text;
