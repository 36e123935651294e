//! Where time goes: stacks of a sampling profiler and spans of single operations, and what is made of them.
//!
//! Sampling happens in the engine host, in a pass of its own after the timed iterations. Everything else here is a pure
//! function of [`crate::spec::Profile`]s and spans, so that a record can be looked at again later.
