//! Reports: pure functions of the record.
