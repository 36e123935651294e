//! Statistics that the method page names. Pure functions of numbers.

pub mod robust;
