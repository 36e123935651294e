//! Statistics that the method page names. Pure functions of numbers.

pub mod rank;
pub mod robust;
pub mod sequential;
